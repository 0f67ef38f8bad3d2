//! The running appliance: reactors, block devices, pools, subsystems and listeners, and their
//! changes.

mod addresses;
mod attach;
mod drains;
mod folders;
mod importing;
mod listen;
mod look;
mod namespaces;
mod notify;
mod provision;
mod rdma;
mod reactors;
mod reconfigure;
mod reopen;
mod sees;
mod sources;
mod supervise;

pub(crate) use addresses::{check_listened, interfaces_of_machine};
pub(crate) use attach::Devices;
pub(crate) use drains::Draining;
pub(crate) use listen::{Listeners, OpenListener, listener_claim};
pub(crate) use namespaces::Exports;
pub(crate) use provision::Pools;
pub use reactors::ReactorEntry;
pub(crate) use reactors::{SOON, ask_all};
pub(crate) use sees::of_limits;
pub(crate) use sources::source_claims;
pub(crate) use supervise::{Missing, News, Supervisor};

use crate::bdevs::Bdevs;
use crate::config::{ApiAddress, Config, memory};
use crate::executor::Executor;
use crate::lock::DirectoryLock;
use crate::pool::OpenPool;
use crate::published::Published;
use crate::{channels, descriptors, drain};
use bdev::Memory;
use bdev::dma::{Backing, PoolPlan};
use drains::Drains;
use nvme_spec::Fabric;
use nvmf::places::Places;
use nvmf::registry::{Listener, Registry, RegistryConfig, Serves};
use nvmf::subsystem::Hosts;
use nvmf_tcp::Inbox;
use reactor::thread;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use supervise::Units;
use wanted::{Edited, FileStore, Ledger, Request, Wanted};
use webui_model::{Refusal, Size};

/// How long hosts' connections may take to end on the way down.
const CLOSE: Duration = Duration::from_secs(10);

/// How long a flush may take on the way down.
const FLUSH: Duration = Duration::from_secs(60);

/// How long effects under way may take to end on the way down.
const EFFECTS: Duration = Duration::from_secs(30);

/// Pools by name.
pub(crate) type PoolTable = BTreeMap<String, Arc<OpenPool>>;

/// The running appliance. Its tables are published: readers see them as they are, and wait for
/// nothing. What blocks is done by its executor.
pub struct Node {
    /// For effects, which outlive the call that begins them.
    me: Weak<Node>,
    config: Published<Config>,
    pub(crate) reactors: Vec<ReactorEntry>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    inboxes: Vec<Arc<Inbox>>,
    /// The RDMA devices, or why there are none.
    pub(crate) rdma: Result<rdma::Rdma, String>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) bdevs: Bdevs,
    pub(crate) pools: Published<PoolTable>,
    pub(crate) connections: Arc<Places>,
    pub(crate) memory_of_each: Size,
    pub(crate) backing: Backing,
    pub(crate) started: Instant,
    pub(crate) listeners: Published<Vec<Arc<OpenListener>>>,
    /// What is wanted: of the configuration, and what was asked for.
    pub(crate) ledger: Ledger,
    /// For as long as it runs, and everything of it.
    _lock: DirectoryLock,
    pub(crate) executor: Executor,
    pub(crate) drains: Drains,
    units: Units,
}

/// The time of day at which something was, for people.
pub(crate) fn time_of(at: Instant) -> String {
    let ago = Instant::now().saturating_duration_since(at);
    let ahead = at.saturating_duration_since(Instant::now());
    let then = SystemTime::now() + ahead - ago;
    let second = then.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() % (24 * 3600));
    format!("{:02}:{:02}:{:02} UTC", second / 3600, second / 60 % 60, second % 60)
}

impl Node {
    /// Opens and starts everything that `config` describes, and what was there when it last ran.
    /// What cannot be had now is left out, known to be missing, and tried again.
    ///
    /// # Errors
    /// A sentence: what is wrong, and what to do.
    pub fn start(config: Config) -> Result<Arc<Node>, String> {
        config.check().map_err(|error| error.0)?;
        // Before anything is looked at or written.
        let lock = DirectoryLock::take(&config.data_dir)?;
        let store = Box::new(FileStore::new(&config.data_dir));
        let ledger = Ledger::open(store, |kept| config.declared(kept));
        let ledger = ledger.map_err(|error| error.to_string())?;
        if let ApiAddress::At(address) = config.api.address {
            check_listened(address.ip())?;
        }
        let sockets = listen::bind_all(&config, &ledger.now())?;
        let cores = reactors::cores(&config)?;
        let told = config.reactors.memory;
        let each = memory::of_each(told, cores.len(), memory::available())?;
        let plan = PoolPlan::for_bytes(each.0 as usize);
        let memory = Memory::map(cores.len(), plan.bytes()).map_err(|error| {
            format!(
                "{} of memory for each of {} reactors cannot be had: {error}. Lower \
                 reactors.memory.",
                each,
                cores.len()
            )
        })?;
        let memory = Arc::new(memory);
        let backing = memory.regions()[0].backing();
        tracing::info!(reactors = cores.len(), %each, pages = %backing, "memory");
        let mut rdma = rdma::open(&memory);
        let registry = Arc::new(new_registry(cores.len())?);
        let descriptors = descriptors::for_connections(descriptors::raise());
        let connections = Places::new(config.tcp.places(cores.len(), descriptors));
        let mut set = reactors::ReactorSet::default();
        let bdevs = Bdevs::new(cores.len());
        let opened = namespaces::open_bdevs(&bdevs, &config).and_then(|()| {
            let room = reactors::Room { memory: &memory, plan: &plan, registry: &registry };
            set.start(&config, &cores, room, &mut rdma)?;
            Drains::start(set.handles())
        });
        let drains = opened.inspect_err(|_| set.end())?;
        let reactors::ReactorSet { entries, threads, inboxes } = set;
        let node = Arc::new_cyclic(|me| Node {
            me: me.clone(),
            config: Published::new(config),
            reactors: entries,
            threads: Mutex::new(threads),
            inboxes,
            rdma,
            registry,
            bdevs,
            pools: Published::default(),
            connections,
            memory_of_each: each,
            backing,
            started: Instant::now(),
            listeners: Published::default(),
            ledger,
            _lock: lock,
            executor: Executor::default(),
            drains,
            units: Units::default(),
        });
        node.open(sockets).inspect_err(|_| {
            node.pools().close_all();
            node.end_threads();
        })?;
        Ok(node)
    }

    fn open(&self, sockets: listen::Bound) -> Result<(), String> {
        let wanted = self.wanted();
        for subsystem in wanted.subsystems().filter(|subsystem| subsystem.is_configured()) {
            self.exports().open_configured(subsystem)?;
        }
        self.supervisor().settle();
        // Last: hosts that come back find everything.
        for (listener, socket) in sockets {
            self.listeners().open_tcp(socket, listener.discovery_only, true)?;
        }
        self.supervisor().listen();
        Ok(())
    }

    pub(crate) fn devices(&self) -> Devices<'_> {
        Devices { node: self }
    }

    pub(crate) fn pools(&self) -> Pools<'_> {
        Pools { node: self }
    }

    pub(crate) fn exports(&self) -> Exports<'_> {
        Exports { node: self }
    }

    pub(crate) fn listeners(&self) -> Listeners<'_> {
        Listeners { node: self }
    }

    pub(crate) fn supervisor(&self) -> Supervisor<'_> {
        Supervisor { node: self }
    }

    /// A pool that is imported.
    pub(crate) fn pool(&self, name: &str) -> Option<Arc<OpenPool>> {
        self.pools.get().get(name).cloned()
    }

    /// The configuration it was started with.
    pub fn config(&self) -> Arc<Config> {
        self.config.get()
    }

    /// How many reactors there are, and the DMA memory of each.
    pub fn memory(&self) -> (usize, Size) {
        (self.reactors.len(), self.memory_of_each)
    }

    /// What is wanted.
    pub fn wanted(&self) -> Wanted {
        self.ledger.now()
    }

    /// What would be wanted after something was asked for: nothing is changed.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn would(&self, request: &Request) -> Result<Edited, Refusal> {
        wanted::edit(&self.wanted(), request, self)
    }

    /// Asks for something. What is wanted then is durable, and has not been carried out.
    ///
    /// # Errors
    /// Why it is refused; nothing has changed then.
    pub(crate) fn edit(&self, request: &Request) -> Result<Edited, Refusal> {
        self.ledger.edit(request, self)
    }

    /// Takes back what could not be carried out. If that cannot be kept, what is wanted stays so, and
    /// is tried again.
    pub(crate) fn undo(&self, edited: &Edited) {
        if let Err(refusal) = self.ledger.undo(&edited.changes) {
            tracing::error!("what could not be done is wanted still: {refusal}");
        }
    }

    /// The addresses by which hosts reach the listeners for NVMe/TCP, each with the address that is
    /// listened on; discovery-only ones are marked.
    pub fn reachable(&self) -> Vec<(SocketAddr, SocketAddr, bool)> {
        let open = self.listeners.get();
        let over_tcp = open.iter().filter(|open| open.listener.fabric == Fabric::Tcp);
        let each = |open: &Arc<OpenListener>| {
            let Listener { addr, serves, .. } = open.listener;
            let alone = serves == Serves::Discovery;
            open.reachable().into_iter().map(move |at| (at, addr, alone))
        };
        over_tcp.flat_map(each).collect()
    }

    /// The addresses listened on for NVMe/TCP, with the ports that the kernel chose,
    /// discovery-only ones marked.
    pub fn listening(&self) -> Vec<(SocketAddr, bool)> {
        let open = self.listeners.get();
        let over_tcp = open.iter().filter(|open| open.listener.fabric == Fabric::Tcp);
        let each = |open: &Arc<OpenListener>| {
            let Listener { addr, serves, .. } = open.listener;
            (addr, serves == Serves::Discovery)
        };
        over_tcp.map(each).collect()
    }

    /// Stops: no new connection, the commands under way end and are answered, connections close,
    /// caches are flushed, pools are closed, reactors end.
    ///
    /// # Errors
    /// A sentence, when something written may not have reached its device.
    pub fn stop(&self) -> Result<(), String> {
        if !self.executor.close(EFFECTS) {
            let running = self.executor.running();
            let what: Vec<&str> = running.iter().map(|running| running.what.as_str()).collect();
            tracing::warn!(what = what.join(", "), "this does not end; going on");
        }
        self.listeners.set(Vec::new());
        self.registry.shut_down();
        let until = Instant::now() + CLOSE;
        while self.connections.open() > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        if self.connections.open() > 0 {
            tracing::warn!(open = self.connections.open(), "connections do not end; going on");
        }
        let mut unflushed = self.flush();
        self.drains.end();
        unflushed.extend(self.pools().close_all());
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
        for namespace in channels::all(&self.registry) {
            if let Some(channel) = namespace.channel(number)
                && namespace.bdev().geometry().volatile_cache
            {
                names.push(self.exports().name_of(namespace.bdev()));
                channels.push(channel);
            }
        }
        let failed = drain::flush(&first.handle, channels, FLUSH);
        failed.into_iter().map(|place| names[place].clone()).collect()
    }
}

fn new_registry(reactors: usize) -> Result<Registry, String> {
    let nqn = nvmf::registry::DISCOVERY_NQN;
    let discovery = namespaces::subsystem_config(nqn, None, Hosts::Any);
    let config = RegistryConfig { reactors, discovery, now_ns: thread::clock_ns() };
    Registry::new(config).map_err(|error| error.to_string())
}
