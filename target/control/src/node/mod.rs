//! The running appliance: reactors, block devices, pools, subsystems and listeners, and their
//! changes.

mod addresses;
mod attach;
mod backoff;
mod doors;
mod folders;
mod importing;
mod notify;
mod provision;
mod rdma;
mod reactors;
mod reconfigure;
mod reopen;
mod restore;
mod serve;
mod sources;

pub(crate) use addresses::check_listened;
pub(crate) use doors::{Door, DoorPlace};
pub use reactors::ReactorEntry;
pub(crate) use restore::Troubles;
pub(crate) use serve::hosts;

use crate::bdevs::Bdevs;
use crate::config::{ApiAddress, Config, memory};
use crate::pool::OpenPool;
use crate::state::{DirectoryLock, State, StateFile};
use crate::{channels, descriptors, drain};
use bdev::Memory;
use bdev::dma::{Backing, PoolPlan};
use nvmf::places::Places;
use nvmf::registry::{Registry, RegistryConfig};
use nvmf::subsystem::Hosts;
use nvmf_tcp::Inbox;
use reactor::thread;
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use webui_model::{Refusal, Size};

/// How long hosts' connections may take to end on the way down.
const CLOSE: Duration = Duration::from_secs(10);

/// How long a flush may take on the way down.
const FLUSH: Duration = Duration::from_secs(60);

/// The running appliance.
pub struct Node {
    pub(crate) config: Config,
    pub(crate) reactors: Vec<ReactorEntry>,
    threads: Vec<JoinHandle<()>>,
    inboxes: Vec<Arc<Inbox>>,
    /// The RDMA devices, or why there are none.
    pub(crate) rdma: Result<rdma::Rdma, String>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) bdevs: Bdevs,
    pub(crate) pools: BTreeMap<String, OpenPool>,
    pub(crate) connections: Arc<Places>,
    pub(crate) memory_of_each: Size,
    pub(crate) backing: Backing,
    pub(crate) started: Instant,
    pub(crate) doors: Vec<Door>,
    state: StateFile,
    /// For as long as it runs, and everything of it.
    _lock: DirectoryLock,
    pub(crate) troubles: Troubles,
    /// Pools that failed and are to be opened again.
    waiting: BTreeSet<String>,
    /// When each is tried next.
    backoff: backoff::Backoff,
}

impl Node {
    /// Opens and starts everything that `config` describes, and what was there when it last ran.
    /// Of the latter, what cannot be had now is left out, and known to be missing.
    ///
    /// # Errors
    /// A sentence: what could not be had, and what to do.
    pub fn start(config: Config) -> Result<Node, String> {
        config.check().map_err(|error| error.0)?;
        // Before anything is looked at or written.
        let lock = DirectoryLock::take(&config.data_dir).map_err(|error| error.0)?;
        let state = StateFile::open(&config.data_dir).map_err(|error| error.0)?;
        if let ApiAddress::At(address) = config.api.address {
            check_listened(address.ip())?;
        }
        let sockets = doors::bind_all(&config, state.get())?;
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
        let rdma = rdma::open(&memory);
        let registry = Arc::new(new_registry(cores.len())?);
        let descriptors = descriptors::for_connections(descriptors::raise());
        let connections = Places::new(config.tcp.places(cores.len(), descriptors));
        let mut node = Node {
            config,
            reactors: Vec::new(),
            threads: Vec::new(),
            inboxes: Vec::new(),
            rdma,
            registry,
            bdevs: Bdevs::new(cores.len()),
            pools: BTreeMap::new(),
            connections,
            memory_of_each: each,
            backing,
            started: Instant::now(),
            doors: Vec::new(),
            state,
            _lock: lock,
            troubles: Troubles::default(),
            waiting: BTreeSet::new(),
            backoff: backoff::Backoff::default(),
        };
        let opened = node.open(sockets, &cores, &memory, &plan);
        opened.inspect_err(|_| {
            node.close_pools();
            node.end_threads();
        })?;
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
        for (number, core) in cores.iter().enumerate() {
            self.start_reactor(number, *core, memory, plan)?;
        }
        for subsystem in self.config.subsystems.clone() {
            self.add_subsystem(&subsystem)?;
        }
        self.restore();
        // Last: hosts that come back find everything.
        let over_tcp = self.config.listeners.clone();
        let over_tcp = over_tcp.iter().filter(|listener| listener.transport.is_tcp());
        for (listener, socket) in over_tcp.zip(sockets) {
            self.open_door(socket, listener.discovery_only, true)?;
        }
        self.restore_listeners();
        Ok(())
    }

    /// The configuration it was started with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How many reactors there are, and the DMA memory of each.
    pub fn memory(&self) -> (usize, Size) {
        (self.reactors.len(), self.memory_of_each)
    }

    /// What is wanted beside the configuration.
    pub fn state(&self) -> &State {
        self.state.get()
    }

    /// Changes what is wanted, durably.
    pub(crate) fn change_state(&mut self, change: impl FnOnce(&mut State)) -> Result<(), Refusal> {
        self.state.change(change).map_err(|error| Refusal::device(error.0))
    }

    /// Stops: no new connection, the commands under way end and are answered, connections close,
    /// caches are flushed, pools are closed, reactors end.
    ///
    /// # Errors
    /// A sentence, when something written may not have reached its device.
    pub fn stop(mut self) -> Result<(), String> {
        self.doors.clear();
        self.registry.shut_down();
        let until = Instant::now() + CLOSE;
        while self.connections.open() > 0 && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
        }
        if self.connections.open() > 0 {
            tracing::warn!(open = self.connections.open(), "connections do not end; going on");
        }
        let mut unflushed = self.flush();
        unflushed.extend(self.close_pools());
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
                names.push(self.name_of(namespace.bdev()));
                channels.push(channel);
            }
        }
        let failed = drain::flush(&first.handle, channels, FLUSH);
        failed.into_iter().map(|place| names[place].clone()).collect()
    }
}

fn new_registry(reactors: usize) -> Result<Registry, String> {
    let nqn = nvmf::registry::DISCOVERY_NQN;
    let discovery = serve::subsystem_config(nqn, serve::serial_of(nqn), Hosts::Any);
    let config = RegistryConfig { reactors, discovery, now_ns: thread::clock_ns() };
    Registry::new(config).map_err(|error| error.to_string())
}
