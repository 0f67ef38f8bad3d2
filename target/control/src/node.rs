//! The running appliance: reactors, block devices, subsystems and listeners, and their changes.

use crate::bdevs::Bdevs;
use crate::config::{Config, ListenerConfig, NamespaceConfig, PollMode, SubsystemConfig};
use crate::{drain, exports};
use bdev::dma::{Backing, PoolPlan};
use bdev::{DmaPool, Memory, Stack};
use nvmf::Target;
use nvmf::namespace::Namespace;
use nvmf::registry::{Fabric, Listener, Registry, RegistryConfig, Serves};
use nvmf::subsystem::Hosts;
use nvmf_tcp::{Acceptor, ConnectionLimit, EpollPoller, Inbox, SocketOptions, Stats, TcpTransport};
use reactor::{Handle, Poll, Reactor, thread};
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long hosts' connections may take to end on the way down.
const CLOSE: Duration = Duration::from_secs(10);

/// How long a flush may take on the way down.
const FLUSH: Duration = Duration::from_secs(60);

/// What is known of one reactor.
pub struct ReactorEntry {
    /// How it is reached.
    pub handle: Handle,
    /// The core it is pinned to.
    pub core: Option<usize>,
    /// Its TCP transport's counters.
    pub tcp: Arc<Stats>,
}

/// The running appliance.
pub struct Node {
    pub(crate) config: Config,
    pub(crate) reactors: Vec<ReactorEntry>,
    threads: Vec<JoinHandle<()>>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) bdevs: Bdevs,
    pub(crate) connections: Arc<ConnectionLimit>,
    pub(crate) backing: Backing,
    pub(crate) started: Instant,
    acceptor: Option<Acceptor>,
    listeners: Vec<Listener>,
}

impl Node {
    /// Opens and starts everything that `config` describes.
    ///
    /// # Errors
    /// A sentence: what could not be had, and what to do.
    pub fn start(config: Config) -> Result<Node, String> {
        config.check().map_err(|error| error.0)?;
        let sockets = bind(&config.listeners)?;
        let cores = cores(&config)?;
        let plan = PoolPlan::for_bytes(config.reactors.memory.0 as usize);
        let memory = Memory::map(cores.len(), plan.bytes()).map_err(|error| {
            format!(
                "{} of memory for each of {} reactors cannot be had: {error}. Lower \
                 reactors.memory.",
                config.reactors.memory,
                cores.len()
            )
        })?;
        let memory = Arc::new(memory);
        let backing = memory.regions()[0].backing();
        tracing::info!(reactors = cores.len(), pages = %backing, "memory");
        let registry = Arc::new(new_registry(cores.len())?);
        let connections = ConnectionLimit::new(config.tcp.connections);
        let mut node = Node {
            config,
            reactors: Vec::new(),
            threads: Vec::new(),
            registry,
            bdevs: Bdevs::default(),
            connections,
            backing,
            started: Instant::now(),
            acceptor: None,
            listeners: Vec::new(),
        };
        let opened = node.open(sockets, &cores, &memory, &plan);
        opened.inspect_err(|_| node.end_threads())?;
        Ok(node)
    }

    fn open(
        &mut self,
        sockets: Vec<TcpListener>,
        cores: &[Option<usize>],
        memory: &Arc<Memory>,
        plan: &PoolPlan,
    ) -> Result<(), String> {
        for bdev in self.config.bdevs.clone() {
            self.bdevs.add(&bdev)?;
        }
        let mut inboxes = Vec::new();
        for (number, core) in cores.iter().enumerate() {
            inboxes.push(self.start_reactor(number, *core, memory, plan)?);
        }
        for subsystem in self.config.subsystems.clone() {
            self.add_subsystem(&subsystem)?;
        }
        self.listen(sockets, inboxes)
    }

    fn start_reactor(
        &mut self,
        number: usize,
        core: Option<usize>,
        memory: &Arc<Memory>,
        plan: &PoolPlan,
    ) -> Result<Arc<Inbox>, String> {
        let kernel = |error: std::io::Error| format!("reactor {number} cannot start: {error}");
        let handle = Handle::new(number).map_err(kernel)?;
        let inbox = Inbox::new().map_err(kernel)?;
        let poller = EpollPoller::new(inbox.clone()).map_err(kernel)?;
        let transport = TcpTransport::new(poller, nvmf_tcp::Config::default());
        let tcp = transport.stats().clone();
        let target = Target::new(transport, self.registry.clone(), number);
        let pool = DmaPool::new(memory.clone(), number as u16, plan);
        let (own, memory) = (handle.clone(), memory.clone());
        let spawned = reactor::spawn(handle.clone(), core, self.poll(), move || {
            let mut reactor = Reactor::new(own, Stack::new(number, memory), pool);
            reactor.add_edge(Box::new(target));
            reactor
        });
        let thread = spawned.map_err(|error| match core {
            Some(core) => format!(
                "reactor {number} cannot run on core {core}: {error}. The cores of this process \
                 are {:?}.",
                thread::allowed_cores()
            ),
            None => kernel(error),
        })?;
        self.threads.push(thread);
        self.reactors.push(ReactorEntry { handle, core, tcp });
        Ok(inbox)
    }

    fn poll(&self) -> Poll {
        let reactors = &self.config.reactors;
        match reactors.poll {
            PollMode::Busy => Poll::Busy,
            PollMode::Adaptive => Poll::Adaptive { spin_ns: reactors.spin_us.saturating_mul(1000) },
        }
    }

    fn listen(
        &mut self,
        sockets: Vec<TcpListener>,
        inboxes: Vec<Arc<Inbox>>,
    ) -> Result<(), String> {
        let congestion = Some(self.config.tcp.congestion.clone()).filter(|name| !name.is_empty());
        let options = SocketOptions { congestion: congestion.clone(), ..Default::default() };
        let limit = self.connections.clone();
        let acceptor = Acceptor::start(sockets, inboxes, limit, &options).map_err(|error| {
            let name = congestion.as_deref().unwrap_or("the system's");
            format!(
                "Connections cannot be accepted: {error}. If congestion control {name} is not \
                 there, choose one of /proc/sys/net/ipv4/tcp_available_congestion_control."
            )
        })?;
        for (place, address) in acceptor.addresses().iter().enumerate() {
            let serves = match self.config.listeners[place].discovery_only {
                true => Serves::Discovery,
                false => Serves::Everything,
            };
            let port_id = place as u16 + 1;
            let listener = Listener { fabric: Fabric::Tcp, addr: *address, port_id, serves };
            self.registry.add_listener(listener);
            self.listeners.push(listener);
        }
        self.acceptor = Some(acceptor);
        Ok(())
    }

    /// The addresses listened on, with the ports that the kernel chose, discovery-only ones marked.
    pub fn listeners(&self) -> impl Iterator<Item = (SocketAddr, bool)> + '_ {
        self.listeners.iter().map(|l| (l.addr, l.serves == Serves::Discovery))
    }

    /// The configuration it was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    fn handles(&self) -> Vec<Handle> {
        self.reactors.iter().map(|entry| entry.handle.clone()).collect()
    }

    /// Adds a subsystem with its namespaces.
    ///
    /// # Errors
    /// A sentence; nothing of it is left then.
    pub fn add_subsystem(&mut self, config: &SubsystemConfig) -> Result<(), String> {
        let hosts = match config.allow_any_host {
            true => Hosts::Any,
            false => Hosts::Listed(config.hosts.iter().cloned().collect::<BTreeSet<_>>()),
        };
        let serial = config.serial.clone().unwrap_or_else(|| serial_of(&config.nqn));
        let made = subsystem_config(&config.nqn, serial, hosts);
        let now_ns = thread::clock_ns();
        self.registry.add_subsystem(made, now_ns).map_err(|error| error.to_string())?;
        for namespace in &config.namespaces {
            if let Err(why) = self.add_namespace(&config.nqn, namespace) {
                self.remove_subsystem(&config.nqn)?;
                return Err(why);
            }
        }
        Ok(())
    }

    /// Removes a subsystem: its hosts are disconnected, its namespaces closed.
    ///
    /// # Errors
    /// A sentence.
    pub fn remove_subsystem(&mut self, nqn: &str) -> Result<(), String> {
        let subsystem = self.registry.subsystem(nqn);
        let namespaces = subsystem.map(|s| s.namespaces()).unwrap_or_default();
        self.registry.remove_subsystem(nqn).map_err(|error| error.to_string())?;
        namespaces.iter().try_for_each(|namespace| self.close(namespace))
    }

    /// Adds a namespace and tells the hosts. Returns its number.
    ///
    /// # Errors
    /// A sentence; nothing of it is left then.
    pub fn add_namespace(&mut self, nqn: &str, config: &NamespaceConfig) -> Result<u32, String> {
        let nsid = match config.nsid {
            Some(nsid) => nsid,
            None => self.free_nsid(nqn)?,
        };
        let uuid = match config.uuid.as_deref().map(uuid::Uuid::parse_str) {
            Some(Ok(uuid)) => Some(uuid.into_bytes()),
            Some(Err(error)) => return Err(format!("The UUID is not valid: {error}.")),
            None => None,
        };
        let bdev = self.bdevs.claim(&config.bdev, &format!("namespace {nsid} of {nqn}"))?;
        let made = nvmf::namespace::NamespaceConfig { nsid, uuid, nguid: None, eui64: None, bdev };
        let handles = self.handles();
        let added = self.registry.add_namespace(nqn, made).map_err(|error| error.to_string());
        let namespace = added.inspect_err(|_| self.bdevs.release(&config.bdev))?;
        if let Err(why) = exports::open(&namespace, &handles) {
            self.remove_namespace(nqn, nsid)?;
            return Err(format!("bdev \"{}\" cannot be opened: {why}", config.bdev));
        }
        tracing::info!(nqn, nsid, bdev = config.bdev, "namespace added");
        Ok(nsid)
    }

    fn free_nsid(&self, nqn: &str) -> Result<u32, String> {
        let subsystem = self.registry.subsystem(nqn);
        let subsystem = subsystem.ok_or_else(|| format!("There is no subsystem {nqn}."))?;
        let taken: BTreeSet<u32> = subsystem.namespaces().iter().map(|n| n.nsid()).collect();
        (1..=nvmf::limits::NAMESPACES)
            .find(|nsid| !taken.contains(nsid))
            .ok_or_else(|| format!("{nqn} has as many namespaces as there can be."))
    }

    /// Removes a namespace, tells the hosts, and closes its bdev's channels once its last command
    /// has ended.
    ///
    /// # Errors
    /// A sentence.
    pub fn remove_namespace(&mut self, nqn: &str, nsid: u32) -> Result<(), String> {
        let removed = self.registry.remove_namespace(nqn, nsid).map_err(|e| e.to_string())?;
        tracing::info!(nqn, nsid, "namespace removed");
        self.close(&removed)
    }

    fn close(&mut self, namespace: &Arc<Namespace>) -> Result<(), String> {
        if !exports::close(namespace, &self.handles()) {
            return Err(format!(
                "Namespace {} is removed, but commands on it do not end; its bdev stays in use.",
                namespace.nsid()
            ));
        }
        if let Some(name) = self.bdevs.name_of(namespace.bdev()).map(str::to_owned) {
            self.bdevs.release(&name);
        }
        Ok(())
    }

    /// Looks at the size of a bdev again and tells the hosts of its namespace. Returns its blocks.
    ///
    /// # Errors
    /// A sentence.
    pub fn rescan(&mut self, bdev: &str) -> Result<u64, String> {
        let blocks = self.bdevs.rescan(bdev)?;
        let device = self.bdevs.get(bdev)?;
        for subsystem in self.registry.subsystems() {
            for namespace in subsystem.namespaces() {
                if Arc::ptr_eq(namespace.bdev(), &device) {
                    let told = self.registry.refresh_namespace(subsystem.nqn(), namespace.nsid());
                    told.map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(blocks)
    }

    /// Stops: no new connection, the commands under way end and are answered, connections close,
    /// caches are flushed, reactors end.
    ///
    /// # Errors
    /// A sentence, when something written may not have reached its device.
    pub fn stop(mut self) -> Result<(), String> {
        self.acceptor = None;
        self.registry.shut_down();
        let until = Instant::now() + CLOSE;
        while self.connections.open() > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        if self.connections.open() > 0 {
            tracing::warn!(open = self.connections.open(), "connections do not end; going on");
        }
        let unflushed = self.flush();
        self.end_threads();
        match unflushed.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "These could not be flushed, and what was written to them since their last flush \
                 may be lost with power: {}.",
                unflushed.join(", ")
            )),
        }
    }

    /// Flushes every bdev with a volatile cache. Returns the names of those that failed.
    fn flush(&self) -> Vec<String> {
        let Some(first) = self.reactors.first() else { return Vec::new() };
        let number = first.handle.number();
        let mut names = Vec::new();
        let mut channels = Vec::new();
        for namespace in exports::all(&self.registry) {
            if let Some(channel) = namespace.channel(number)
                && namespace.bdev().geometry().volatile_cache
            {
                names.push(self.bdevs.name_of(namespace.bdev()).unwrap_or("?").to_owned());
                channels.push(channel);
            }
        }
        let failed = drain::flush(&first.handle, channels, FLUSH);
        failed.into_iter().map(|place| names[place].clone()).collect()
    }

    fn end_threads(&mut self) {
        self.reactors.iter().for_each(|entry| entry.handle.stop());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a reactor ended with a panic");
            }
        }
    }
}

/// Opens every listener before anything else: a port in use is what goes wrong most often.
fn bind(listeners: &[ListenerConfig]) -> Result<Vec<TcpListener>, String> {
    let open = |listener: &ListenerConfig| {
        let address = listener.address;
        TcpListener::bind(address).map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("{address} is in use by another program: stop it, or choose another port.")
            }
            std::io::ErrorKind::PermissionDenied => {
                format!("{address} may not be listened on by this user: choose a port from 1024.")
            }
            std::io::ErrorKind::AddrNotAvailable => {
                format!("{} is no address of this machine.", address.ip())
            }
            _ => format!("{address} cannot be listened on: {error}."),
        })
    };
    listeners.iter().map(open).collect()
}

/// The core of each reactor.
fn cores(config: &Config) -> Result<Vec<Option<usize>>, String> {
    let allowed = thread::allowed_cores();
    let chosen = &config.reactors.cores;
    if chosen.is_empty() {
        let count = allowed.len().min(bdev::limits::REACTORS);
        return Ok(vec![None; count]);
    }
    match chosen.iter().find(|core| !allowed.contains(core)) {
        Some(core) => {
            Err(format!("There is no core {core} for this process: choose among {allowed:?}."))
        }
        None => Ok(chosen.iter().copied().map(Some).collect()),
    }
}

fn new_registry(reactors: usize) -> Result<Registry, String> {
    let nqn = nvmf::registry::DISCOVERY_NQN;
    let discovery = subsystem_config(nqn, serial_of(nqn), Hosts::Any);
    let config = RegistryConfig { reactors, discovery, now_ns: thread::clock_ns() };
    Registry::new(config).map_err(|error| error.to_string())
}

fn subsystem_config(nqn: &str, serial: String, hosts: Hosts) -> nvmf::subsystem::SubsystemConfig {
    nvmf::subsystem::SubsystemConfig {
        nqn: nqn.into(),
        serial,
        model: "Forebay".into(),
        firmware: env!("CARGO_PKG_VERSION").into(),
        hosts,
        cntlids: 1..=nvmf::limits::CNTLID_MAX,
    }
}

/// A serial number that is the same on every start and on every node: a hash of the name.
fn serial_of(nqn: &str) -> String {
    // FNV-1a, 64 bits: stable by definition, which the hashes of the standard library are not.
    let hash = nqn.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("FB{hash:016X}")
}
