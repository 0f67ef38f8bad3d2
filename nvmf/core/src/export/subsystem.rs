//! A subsystem: namespaces, the controllers of its hosts, and who may connect.

use crate::export::controller::{Association, Controller, EndReason, EndedController, Notice};
use crate::export::counters::{IoCounters, IoCounts};
use crate::export::directory::Directory;
use crate::export::namespace::{Listing, Namespace, NamespaceConfig};
use crate::export::places::Peer;
use crate::limits;
use nvme_spec::log::AnaState;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};

/// Who may connect to a subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Every host.
    Any,
    /// The hosts of these NQNs.
    Listed(BTreeSet<String>),
}

impl Hosts {
    /// Whether the host `nqn` may connect.
    pub fn allow(&self, nqn: &str) -> bool {
        match self {
            Hosts::Any => true,
            Hosts::Listed(nqns) => nqns.contains(nqn),
        }
    }
}

/// What a subsystem is made of.
#[derive(Clone, Debug)]
pub struct SubsystemConfig {
    /// NVMe Qualified Name.
    pub nqn: String,
    /// Serial number: at most 20 ASCII characters.
    pub serial: String,
    /// Model number: at most 40 ASCII characters.
    pub model: String,
    /// Firmware revision: at most 8 ASCII characters.
    pub firmware: String,
    /// Who may connect.
    pub hosts: Hosts,
    /// Identifiers of this node's controllers; disjoint between the nodes of one subsystem.
    pub cntlids: RangeInclusive<u16>,
}

/// What a subsystem is for.
#[derive(Debug)]
pub enum SubsystemKind {
    /// I/O to namespaces.
    Nvm,
    /// Discovery of the subsystems in the directory.
    Discovery(Arc<Directory>),
}

/// Why a controller cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectRefusal {
    /// The host is not on the list.
    HostNotAllowed,
    /// The subsystem has been removed, or the target is going down.
    Removed,
    /// As many controllers as there may be.
    TooManyControllers,
}

#[derive(Debug)]
struct Controllers {
    by_cntlid: BTreeMap<u16, Arc<Controller>>,
    /// The identifier to try first: one past the last given out, so that none is used again soon.
    next: u16,
    /// Those that have ended of late, the oldest first.
    ended: VecDeque<EndedController>,
    /// No new ones, and why.
    closed: Option<EndReason>,
}

/// The one ANA group of a subsystem on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnaGroupState {
    /// How this node reaches the namespaces.
    pub state: AnaState,
    /// Changes of the group: of its state or of its namespaces.
    pub change_count: u64,
}

/// A subsystem.
#[derive(Debug)]
pub struct Subsystem {
    config: SubsystemConfig,
    kind: SubsystemKind,
    reactors: usize,
    started_ns: u64,
    generation: Arc<AtomicU64>,
    hosts: RwLock<Hosts>,
    namespaces: RwLock<BTreeMap<u32, Arc<Namespace>>>,
    controllers: Mutex<Controllers>,
    ana: Mutex<AnaGroupState>,
    temperature_kelvin: AtomicU16,
    removed_counters: Mutex<RemovedCounters>,
    busy_ticks: AtomicU64,
    last_busy_tick: AtomicU64,
}

/// What was done on namespaces that have been removed since.
#[derive(Debug, Default)]
struct RemovedCounters {
    /// On those that no queue pair knows any more.
    total: IoCounts,
    /// On those on which commands may still end.
    ending: Vec<Arc<[IoCounters]>>,
}

impl RemovedCounters {
    fn add(&mut self, counters: Arc<[IoCounters]>) {
        self.settle();
        self.ending.push(counters);
    }

    /// Adds up what cannot change any more.
    fn settle(&mut self) {
        let total = &mut self.total;
        self.ending.retain(|counters| {
            let in_use = Arc::strong_count(counters) > 1;
            if !in_use {
                *total += IoCounts::sum(counters.iter().map(IoCounters::read));
            }
            in_use
        });
    }

    fn counts(&self) -> IoCounts {
        let ending = self.ending.iter().flat_map(|counters| counters.iter().map(IoCounters::read));
        IoCounts::sum(ending.chain([self.total]))
    }
}

impl Subsystem {
    pub(crate) fn new(
        config: SubsystemConfig,
        kind: SubsystemKind,
        reactors: usize,
        now_ns: u64,
    ) -> Subsystem {
        let controllers = Controllers {
            by_cntlid: BTreeMap::new(),
            next: *config.cntlids.start(),
            ended: VecDeque::new(),
            closed: None,
        };
        Subsystem {
            hosts: RwLock::new(config.hosts.clone()),
            config,
            kind,
            reactors,
            started_ns: now_ns,
            generation: Arc::new(AtomicU64::new(1)),
            namespaces: RwLock::new(BTreeMap::new()),
            controllers: Mutex::new(controllers),
            ana: Mutex::new(AnaGroupState { state: AnaState::Optimized, change_count: 1 }),
            temperature_kelvin: AtomicU16::new(0),
            removed_counters: Mutex::default(),
            busy_ticks: AtomicU64::new(0),
            last_busy_tick: AtomicU64::new(u64::MAX),
        }
    }

    /// NVMe Qualified Name.
    pub fn nqn(&self) -> &str {
        &self.config.nqn
    }

    /// What it was made of; the hosts may have changed since.
    pub fn config(&self) -> &SubsystemConfig {
        &self.config
    }

    /// What it is for.
    pub fn kind(&self) -> &SubsystemKind {
        &self.kind
    }

    /// A number that changes whenever something that queue pairs remember has changed: a
    /// namespace came, went, was resized, or got another channel.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// When the subsystem came up, in ns of the reactors' clock.
    pub fn started_ns(&self) -> u64 {
        self.started_ns
    }

    /// Whether the host `nqn` may connect.
    pub fn allows(&self, nqn: &str) -> bool {
        self.hosts.read().expect("no panic under this lock").allow(nqn)
    }

    /// Who may connect.
    pub fn hosts(&self) -> Hosts {
        self.hosts.read().expect("no panic under this lock").clone()
    }

    /// The namespace `nsid`.
    pub fn namespace(&self, nsid: u32) -> Option<Arc<Namespace>> {
        self.namespaces.read().expect("no panic under this lock").get(&nsid).cloned()
    }

    /// The smallest identifier of a namespace above `after`.
    pub fn next_namespace(&self, after: u32) -> Option<u32> {
        let namespaces = self.namespaces.read().expect("no panic under this lock");
        namespaces.range(after.checked_add(1)?..).next().map(|(nsid, _)| *nsid)
    }

    /// The namespaces in the order of their identifiers.
    pub fn namespaces(&self) -> Vec<Arc<Namespace>> {
        self.namespaces.read().expect("no panic under this lock").values().cloned().collect()
    }

    /// The namespaces that hosts see, in the order of their identifiers.
    pub fn active_namespaces(&self) -> Vec<Arc<Namespace>> {
        let mut namespaces = self.namespaces();
        namespaces.retain(|namespace| namespace.is_active());
        namespaces
    }

    /// Whether a new controller tells of a volatile write cache: when a namespace has one, and
    /// while there is no namespace to know by.
    pub(crate) fn has_write_cache(&self) -> bool {
        let namespaces = self.namespaces();
        namespaces.is_empty() || namespaces.iter().any(|ns| ns.geometry().volatile_cache)
    }

    /// What was done on the namespaces, those that have been removed included.
    pub fn counts(&self) -> IoCounts {
        // The lock of the removed first, as in removing: nothing is counted twice or not at all.
        let removed = self.removed_counters.lock().expect("no panic under this lock");
        let present = self.namespaces();
        IoCounts::sum(present.iter().map(|namespace| namespace.total()).chain([removed.counts()]))
    }

    /// The controller `cntlid`, while it lives.
    pub fn controller(&self, cntlid: u16) -> Option<Arc<Controller>> {
        self.controllers().by_cntlid.get(&cntlid).cloned()
    }

    /// The controllers that live, in the order of their identifiers.
    pub fn live_controllers(&self) -> Vec<Arc<Controller>> {
        self.controllers().by_cntlid.values().cloned().collect()
    }

    /// Makes a controller for a host that connects an admin queue.
    ///
    /// # Errors
    /// See [`ConnectRefusal`].
    pub fn connect(
        self: &Arc<Self>,
        association: Association,
        now_ns: u64,
    ) -> Result<Arc<Controller>, ConnectRefusal> {
        // Under the lock of the hosts, so that a host that is being removed is either refused
        // here or found by whoever removes it.
        let hosts = self.hosts.read().expect("no panic under this lock");
        if !hosts.allow(&association.host_nqn) {
            return Err(ConnectRefusal::HostNotAllowed);
        }
        let mut controllers = self.controllers();
        if controllers.closed.is_some() {
            return Err(ConnectRefusal::Removed);
        }
        if !self.has_room(&controllers, &association) {
            return Err(ConnectRefusal::TooManyControllers);
        }
        let cntlid = self.next_cntlid(&controllers).ok_or(ConnectRefusal::TooManyControllers)?;
        let (first, last) = (*self.config.cntlids.start(), *self.config.cntlids.end());
        controllers.next = if cntlid == last { first } else { cntlid + 1 };
        let controller = Arc::new(Controller::new(cntlid, self.clone(), association, now_ns));
        controllers.by_cntlid.insert(cntlid, controller.clone());
        Ok(controller)
    }

    /// Whether there may be one more controller. Any host may have one of the discovery subsystem:
    /// there no address has more than its share.
    fn has_room(&self, controllers: &Controllers, association: &Association) -> bool {
        let count = controllers.by_cntlid.len();
        if matches!(self.kind, SubsystemKind::Nvm) {
            return count < limits::CONTROLLERS;
        }
        let peer = Peer::of(association.peer.ip());
        let is_its = |ctrl: &&Arc<Controller>| Peer::of(ctrl.association().peer.ip()) == peer;
        let its = controllers.by_cntlid.values().filter(is_its).count();
        count < limits::DISCOVERY_CONTROLLERS && its < limits::DISCOVERY_CONTROLLERS_EACH
    }

    /// The first free identifier from `next` on, round the range.
    fn next_cntlid(&self, controllers: &Controllers) -> Option<u16> {
        let (first, last) = (*self.config.cntlids.start(), *self.config.cntlids.end());
        (controllers.next..=last)
            .chain(first..controllers.next)
            .find(|cntlid| !controllers.by_cntlid.contains_key(cntlid))
    }

    /// Takes a controller that has ended off the list.
    pub(crate) fn forget(&self, cntlid: u16) {
        let mut controllers = self.controllers();
        if let Some(ended) = controllers.by_cntlid.remove(&cntlid)
            && controllers.closed.is_none()
        {
            if controllers.ended.len() == limits::ENDED_CONTROLLERS {
                controllers.ended.pop_front();
            }
            controllers.ended.push_back(ended.record());
        }
    }

    /// The controllers that have ended since this was last asked, for what they have done: the
    /// last [`limits::ENDED_CONTROLLERS`] of them.
    pub fn take_ended(&self) -> Vec<EndedController> {
        std::mem::take(&mut self.controllers().ended).into()
    }

    /// Ends every controller and refuses new ones.
    pub(crate) fn close(&self, why: EndReason) {
        let mut controllers = self.controllers();
        controllers.closed = Some(why);
        drop(controllers);
        self.live_controllers().iter().for_each(|controller| controller.end(why));
    }

    /// Whether the target is going down.
    pub(crate) fn goes_down(&self) -> bool {
        self.controllers().closed == Some(EndReason::Shutdown)
    }

    /// Sets who may connect, and ends the controllers of hosts that may not any more.
    pub(crate) fn set_hosts(&self, hosts: Hosts) {
        *self.hosts.write().expect("no panic under this lock") = hosts;
        for controller in self.live_controllers() {
            if !self.allows(&controller.association().host_nqn) {
                controller.end(EndReason::HostRemoved);
            }
        }
    }

    /// Puts a namespace in; `None` when the identifier is taken.
    pub(crate) fn add_namespace(
        self: &Arc<Self>,
        config: NamespaceConfig,
    ) -> Option<Arc<Namespace>> {
        let nsid = config.nsid;
        let generation = self.generation.clone();
        let listing: Weak<Subsystem> = Arc::downgrade(self);
        let namespace = Namespace::new(config, self.nqn(), listing, self.reactors, generation);
        let namespace = Arc::new(namespace);
        let mut namespaces = self.namespaces.write().expect("no panic under this lock");
        if namespaces.contains_key(&nsid) {
            return None;
        }
        namespaces.insert(nsid, namespace.clone());
        Some(namespace)
    }

    /// Takes a namespace out.
    pub(crate) fn remove_namespace(&self, nsid: u32) -> Option<Arc<Namespace>> {
        let mut removed = self.removed_counters.lock().expect("no panic under this lock");
        let mut namespaces = self.namespaces.write().expect("no panic under this lock");
        let namespace = namespaces.remove(&nsid)?;
        removed.add(namespace.shared_counters());
        drop((namespaces, removed));
        if namespace.remove() {
            self.namespace_listed(nsid);
        }
        Some(namespace)
    }

    /// Tells the hosts that a namespace changed.
    pub(crate) fn namespace_changed(&self, nsid: u32) {
        self.live_controllers().iter().for_each(|controller| controller.namespace_changed(nsid));
    }

    /// The ANA group.
    pub fn ana(&self) -> AnaGroupState {
        *self.ana.lock().expect("no panic under this lock")
    }

    /// Says how this node reaches the namespaces from now on, and tells the hosts.
    pub fn set_ana_state(&self, state: AnaState) {
        let mut ana = self.ana.lock().expect("no panic under this lock");
        if ana.state == state {
            return;
        }
        *ana = AnaGroupState { state, change_count: ana.change_count + 1 };
        drop(ana);
        self.generation.fetch_add(1, Ordering::Release);
        self.raise(Notice::Ana);
    }

    /// Raises an event on every controller.
    pub(crate) fn raise(&self, notice: Notice) {
        self.live_controllers().iter().for_each(|controller| controller.raise(notice));
    }

    /// Temperature for the SMART log, in kelvin; 0 is not measured.
    pub fn temperature_kelvin(&self) -> u16 {
        self.temperature_kelvin.load(Ordering::Relaxed)
    }

    /// Sets the temperature for the SMART log, in kelvin; hosts that asked for it are warned.
    pub fn set_temperature_kelvin(&self, kelvin: u16) {
        self.temperature_kelvin.store(kelvin, Ordering::Relaxed);
        for controller in self.live_controllers() {
            if controller.temperature_warns() {
                controller.raise(Notice::Health);
            }
        }
    }

    /// Counts `now_ns` as a time at which I/O was under way, for the SMART log. Called on a timer
    /// pass of any reactor, at least once each [`Subsystem::BUSY_TICK_NS`] while there is I/O.
    pub fn note_busy(&self, now_ns: u64) {
        let tick = now_ns / Self::BUSY_TICK_NS;
        if self.last_busy_tick.swap(tick, Ordering::Relaxed) != tick {
            self.busy_ticks.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The resolution of the busy time.
    pub const BUSY_TICK_NS: u64 = 10_000_000;

    /// Time with I/O under way, in ns.
    pub fn busy_ns(&self) -> u64 {
        self.busy_ticks.load(Ordering::Relaxed).saturating_mul(Self::BUSY_TICK_NS)
    }

    fn controllers(&self) -> std::sync::MutexGuard<'_, Controllers> {
        self.controllers.lock().expect("no panic under this lock")
    }
}

impl Listing for Subsystem {
    /// The group of ANA has changed, too.
    fn namespace_listed(&self, nsid: u32) {
        self.ana.lock().expect("no panic under this lock").change_count += 1;
        self.generation.fetch_add(1, Ordering::Release);
        self.namespace_changed(nsid);
    }
}
