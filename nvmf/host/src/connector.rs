//! What keeps a remote bdev connected: a thread that holds the admin queue, keeps it alive, hears
//! its events, and hands connected I/O queues to the channels.
//!
//! Association and queues live and die together: when one queue fails, the controller is shut
//! down, as far as it still answers, and connected anew. What was under way in the old queues has
//! ended at the target by then, so that no old write lands on top of a newer one. A target that
//! does not answer at all gives no such promise.

use crate::channel::{Lane, Lanes};
use crate::plan::Shape;
use crate::qpair::Broken;
use crate::queue::nanos;
use crate::queue_pair::Ender;
use crate::{AnyQueuePair, ControllerInfo, Error, NamespaceInfo, Options, Session};
use bdev::sleep::{Signal, Sleeper, clock_ns};
use bdev::{Geometry, Memory, OpenError};
use nvme_spec::aen::{Event, config};
use nvme_spec::feature::fid;
use nvme_spec::log::{GetLogPage, lid};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// How long an association that failed gets to shut down.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// How often a queue is tried again that the target refuses: it may not have noticed yet that the
/// one before it is gone.
const QUEUE_ATTEMPTS: u32 = 20;

/// How long between two of these attempts.
const QUEUE_INTERVAL: Duration = Duration::from_millis(25);

/// Whether there is a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Yes.
    Connected,
    /// No; it is tried again and again.
    Reconnecting {
        /// Why the last attempt failed, or the connection was lost.
        why: String,
    },
    /// No, and nobody wants one any more.
    Closed,
}

/// Hands a lane from the thread to a channel.
struct Mailbox {
    full: AtomicBool,
    lane: Mutex<Option<Lane<AnyQueuePair>>>,
}

impl Mailbox {
    fn put(&self, lane: Option<Lane<AnyQueuePair>>) {
        let mut place = self.lane.lock().expect("nothing panics with it locked");
        self.full.store(lane.is_some(), Ordering::Release);
        *place = lane;
    }

    fn take(&self) -> Option<Lane<AnyQueuePair>> {
        if !self.full.load(Ordering::Acquire) {
            return None;
        }
        let mut place = self.lane.lock().expect("nothing panics with it locked");
        self.full.store(false, Ordering::Release);
        place.take()
    }
}

/// One channel, as the thread sees it.
struct Port {
    mailbox: Arc<Mailbox>,
    wants: bool,
    /// Of the last lane that it got.
    generation: u32,
    /// With which its connection is ended.
    kill: Option<Ender>,
    /// Where the data of its operations is.
    memory: Arc<Memory>,
    /// Tells this user of the place from an earlier one.
    user: u64,
}

struct State {
    ports: Vec<Option<Port>>,
    users: u64,
    generation: u32,
    failed: Option<String>,
    stop: bool,
    link: LinkState,
    geometry: Geometry,
}

/// What channels, bdev and thread share.
pub(crate) struct Shared {
    state: Mutex<State>,
    wake: Signal,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics with it locked")
    }

    pub(crate) fn geometry(&self) -> Geometry {
        self.state().geometry.clone()
    }

    pub(crate) fn link(&self) -> LinkState {
        self.state().link.clone()
    }

    pub(crate) fn stop(&self) {
        self.state().stop = true;
        self.wake.raise();
    }

    /// A place for a channel's queue.
    pub(crate) fn port(self: &Arc<Shared>, memory: &Arc<Memory>) -> Result<PortHandle, OpenError> {
        let mut state = self.state();
        let queues = state.ports.len();
        let Some(index) = state.ports.iter().position(Option::is_none) else {
            return Err(OpenError(format!("all {queues} I/O queues of the target are in use")));
        };
        let mailbox = Arc::new(Mailbox { full: AtomicBool::new(false), lane: Mutex::new(None) });
        state.users += 1;
        let user = state.users;
        state.ports[index] = Some(Port {
            mailbox: mailbox.clone(),
            wants: true,
            generation: 0,
            kill: None,
            memory: memory.clone(),
            user,
        });
        drop(state);
        self.wake.raise();
        Ok(PortHandle { shared: self.clone(), mailbox, index })
    }
}

/// A channel's side of its place.
pub(crate) struct PortHandle {
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    index: usize,
}

impl Lanes<AnyQueuePair> for PortHandle {
    fn take(&mut self) -> Option<Lane<AnyQueuePair>> {
        self.mailbox.take()
    }

    fn lost(&mut self, generation: u32, why: &Broken) {
        let mut state = self.shared.state();
        if generation == state.generation {
            state.failed.get_or_insert_with(|| why.to_string());
        }
        let port = state.ports[self.index].as_mut().expect("a place lives as long as its channel");
        // A newer lane may be on its way already.
        port.wants |= generation >= port.generation;
        drop(state);
        self.shared.wake.raise();
    }
}

impl Drop for PortHandle {
    fn drop(&mut self) {
        self.shared.state().ports[self.index] = None;
        self.shared.wake.raise();
    }
}

/// An association.
struct Association {
    session: Session,
    controller: ControllerInfo,
    namespace: NamespaceInfo,
}

impl Association {
    fn connect(options: &Options, nsid: u32) -> Result<(Association, u16), Error> {
        let mut session = Session::connect(options)?;
        let controller = session.controller()?;
        let queues = session.set_queues(options.queues)?;
        let namespace = session.namespace(nsid)?;
        let events = controller.oaes & (config::NAMESPACE | config::ANA);
        if events != 0 {
            session.set_feature(fid::ASYNC_EVENTS, events)?;
        }
        session.request_events(&controller);
        if !options.keep_alive.is_zero() {
            session.queue().set_timeout(options.admin_timeout.min(options.keep_alive));
        }
        Ok((Association { session, controller, namespace }, queues))
    }

    fn geometry(&self, address: std::net::SocketAddr) -> Result<Geometry, Error> {
        let NamespaceInfo { nsid, blocks, block_bytes, metadata_bytes, .. } = self.namespace;
        let unsuitable = |what| Err(Error::Unsuitable { address, what });
        if blocks == 0 {
            return unsuitable(format!("has no namespace {nsid}"));
        }
        if metadata_bytes != 0 || !matches!(block_bytes, 512 | 4096) {
            let block = format!("{block_bytes} bytes with {metadata_bytes} bytes of metadata");
            return unsuitable(format!(
                "has blocks of {block} in namespace {nsid}; only 512 and 4096 bytes without \
                 metadata can be used"
            ));
        }
        let NamespaceInfo { atomic_blocks, optimal_blocks, read_only, .. } = self.namespace;
        Ok(Geometry {
            optimal_blocks: optimal_blocks.unwrap_or(1),
            atomic_blocks: atomic_blocks.unwrap_or(self.controller.atomic_blocks),
            volatile_cache: self.controller.volatile_cache,
            deallocates: self.namespace.deallocated_reads_zeroes,
            read_only,
            ..Geometry::plain(block_bytes, blocks)
        })
    }
}

/// The thread.
struct Keeper {
    shared: Arc<Shared>,
    options: Options,
    nsid: u32,
    association: Option<Association>,
    /// The namespace as it was first met.
    first: NamespaceInfo,
    block_bytes: u32,
    failures: u32,
    next_attempt_ns: u64,
    next_keep_alive_ns: u64,
}

/// What connecting for the first time brings.
pub(crate) struct Started {
    pub(crate) shared: Arc<Shared>,
    pub(crate) thread: thread::JoinHandle<()>,
    pub(crate) controller: ControllerInfo,
    pub(crate) namespace: NamespaceInfo,
}

/// Connects, and starts the thread that keeps it so.
pub(crate) fn start(options: Options, nsid: u32) -> Result<Started, Error> {
    let (association, queues) = Association::connect(&options, nsid)?;
    let geometry = association.geometry(options.address)?;
    let local = |what: &str| {
        let what = what.to_string();
        move |why| Error::Local { what, why }
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            ports: (0..queues).map(|_| None).collect(),
            users: 0,
            generation: 1,
            failed: None,
            stop: false,
            link: LinkState::Connected,
            geometry: geometry.clone(),
        }),
        wake: Signal::new().map_err(local("make an event descriptor"))?,
    });
    let (controller, namespace) = (association.controller.clone(), association.namespace.clone());
    let mut keeper = Keeper {
        shared: shared.clone(),
        options,
        nsid,
        association: Some(association),
        first: namespace.clone(),
        block_bytes: geometry.block_bytes,
        failures: 0,
        next_attempt_ns: 0,
        next_keep_alive_ns: 0,
    };
    keeper.plan_keep_alive();
    let thread = thread::Builder::new()
        .name("nvmf-host".into())
        .spawn(move || keeper.run())
        .map_err(local("start a thread"))?;
    Ok(Started { shared, thread, controller, namespace })
}

impl Keeper {
    fn run(&mut self) {
        loop {
            self.shared.wake.clear();
            let (stop, failed) = {
                let mut state = self.shared.state();
                (state.stop, state.failed.take())
            };
            if stop {
                break;
            }
            if let Some(why) = failed {
                self.tear_down(why);
            }
            if let Err(why) = self.tend() {
                self.tear_down(why.to_string());
            }
            if self.association.is_none() && clock_ns() >= self.next_attempt_ns {
                self.attempt();
            }
            if let Err(why) = self.serve() {
                self.tear_down(why.to_string());
                self.put_off();
            }
            self.sleep();
        }
        self.tear_down("closed".into());
        self.shared.state().link = LinkState::Closed;
    }

    /// Keep alive and events.
    fn tend(&mut self) -> Result<(), Error> {
        let Some(association) = &mut self.association else { return Ok(()) };
        let Association { session, controller, namespace } = association;
        if clock_ns() >= self.next_keep_alive_ns {
            session.keep_alive()?;
        }
        let events = session.events()?;
        for event in &events {
            match *event {
                Event::NAMESPACE_CHANGED => {
                    let mut page = [0; nvme_spec::identify::IDENTIFY_BYTES];
                    let log = GetLogPage { lid: lid::CHANGED_NAMESPACES, ..Default::default() };
                    session.log_page(log, nvme_spec::Sqe::NSID_ALL, &mut page)?;
                    let now = session.namespace(self.nsid)?;
                    // One that is gone for a while keeps its size; its operations fail.
                    if now.blocks > 0 && now.block_bytes == self.block_bytes {
                        self.shared.state().geometry.blocks = now.blocks;
                        *namespace = now;
                    }
                }
                Event { log: 0, .. } => {}
                Event { log: lid::ANA, .. } => {
                    let mut header = [0; size_of::<nvme_spec::log::AnaHeader>()];
                    let log = GetLogPage { lid: lid::ANA, ..Default::default() };
                    session.log_page(log, 0, &mut header)?;
                }
                Event { .. } => {}
            }
        }
        if !events.is_empty() {
            session.request_events(controller);
        }
        if clock_ns() >= self.next_keep_alive_ns {
            self.plan_keep_alive();
        }
        Ok(())
    }

    fn plan_keep_alive(&mut self) {
        let supported = self.association.as_ref().is_some_and(|a| a.controller.kas > 0);
        let interval = nanos(self.options.keep_alive) / 2;
        self.next_keep_alive_ns = match supported && interval > 0 {
            true => clock_ns().saturating_add(interval),
            false => u64::MAX,
        };
    }

    /// One attempt to connect.
    fn attempt(&mut self) {
        let connected =
            Association::connect(&self.options, self.nsid).and_then(|(association, queues)| {
                self.check(&association, queues)?;
                Ok(association)
            });
        match connected {
            Ok(association) => {
                let geometry = association.geometry(self.options.address);
                let mut state = self.shared.state();
                state.generation += 1;
                state.failed = None;
                state.link = LinkState::Connected;
                if let Ok(geometry) = geometry {
                    state.geometry = geometry;
                }
                drop(state);
                self.association = Some(association);
                self.plan_keep_alive();
            }
            Err(why) => {
                self.shared.state().link = LinkState::Reconnecting { why: why.to_string() };
                self.put_off();
            }
        }
    }

    /// Whether what was found is what was there before.
    fn check(&self, association: &Association, queues: u16) -> Result<(), Error> {
        let address = self.options.address;
        let used = self.shared.state().ports.iter().rposition(Option::is_some);
        if used.is_some_and(|last| last >= usize::from(queues)) {
            let what = format!("grants only {queues} I/O queues now, fewer than are in use");
            return Err(Error::Unsuitable { address, what });
        }
        let geometry = association.geometry(address)?;
        if !association.namespace.is_same(&self.first) || geometry.block_bytes != self.block_bytes {
            let what = format!("has another namespace as number {} than before", self.nsid);
            return Err(Error::Unsuitable { address, what });
        }
        Ok(())
    }

    /// The next attempt comes later, the later the more there were.
    fn put_off(&mut self) {
        let Options { reconnect_delay, reconnect_delay_max, .. } = self.options;
        let delay = reconnect_delay.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let delay = nanos(delay.min(reconnect_delay_max));
        self.next_attempt_ns = clock_ns().saturating_add(delay);
    }

    /// Ends the association: its queues, then the controller.
    fn tear_down(&mut self, why: String) {
        let Some(association) = self.association.take() else { return };
        {
            let mut state = self.shared.state();
            state.link = LinkState::Reconnecting { why };
            for port in state.ports.iter_mut().flatten() {
                port.wants = true;
                port.mailbox.put(None);
                if let Some(ender) = port.kill.take() {
                    ender.end();
                }
            }
        }
        // A controller that does not answer cannot be asked to shut down; see above.
        let _ = association.session.shut_down(SHUTDOWN_LIMIT);
        self.next_attempt_ns = clock_ns();
    }

    /// Connects a queue for every channel that wants one.
    fn serve(&mut self) -> Result<(), Error> {
        let Some(association) = &mut self.association else { return Ok(()) };
        loop {
            let (index, (user, memory), generation) = {
                let state = self.shared.state();
                let wants = |port: &Option<Port>| port.as_ref().is_some_and(|port| port.wants);
                let Some(index) = state.ports.iter().position(wants) else {
                    self.failures = 0;
                    return Ok(());
                };
                let port = state.ports[index].as_ref().expect("one that wants a lane is there");
                (index, (port.user, port.memory.clone()), state.generation)
            };
            let mut lane = connect_lane(association, &self.options, index, generation)?;
            lane.qpair.lend(&memory).map_err(|why| Error::Local {
                what: "lend memory to the connection".into(),
                why: io::Error::other(why),
            })?;
            let kill = lane.qpair.ender();
            let kill = kill.map_err(|why| Error::Local { what: "share a socket".into(), why })?;
            let mut state = self.shared.state();
            // The channel may have closed meanwhile.
            if let Some(port) = state.ports[index].as_mut().filter(|port| port.user == user) {
                port.wants = false;
                port.generation = generation;
                port.kill = Some(kill);
                port.mailbox.put(Some(lane));
            }
        }
    }

    fn sleep(&self) {
        let now = clock_ns();
        let mut sleeper = Sleeper::default();
        sleeper.until_readable(self.shared.wake.fd());
        let limit = match &self.association {
            Some(association) => {
                sleeper.until_readable(association.session.fd());
                self.next_keep_alive_ns.saturating_sub(now)
            }
            None => self.next_attempt_ns.saturating_sub(now),
        };
        // An error is an early wake-up.
        let _ = sleeper.sleep(Some(Duration::from_nanos(limit)));
    }
}

/// Connects the I/O queue of place `index`.
fn connect_lane(
    association: &mut Association,
    options: &Options,
    index: usize,
    generation: u32,
) -> Result<Lane<AnyQueuePair>, Error> {
    let Association { session, controller, namespace } = association;
    let qid = u16::try_from(index + 1).expect("queues are counted with 16 bits");
    let mut attempt = 0;
    let queue = loop {
        match session.io_queue(qid, options.depth, controller) {
            Err(Error::Refused { .. }) if attempt < QUEUE_ATTEMPTS => {
                attempt += 1;
                thread::sleep(QUEUE_INTERVAL);
            }
            result => break result?,
        }
    };
    let qpair = queue.into_queue_pair()?;
    Ok(Lane { qpair, shape: Shape::of(controller, namespace), generation })
}
