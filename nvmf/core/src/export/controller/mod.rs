//! A controller: the association of one host with a subsystem.

mod aborts;
mod error_log;
mod event;
mod features;
mod property;
mod queue;

pub(crate) use aborts::AbortAsked;
pub use error_log::{CommandError, Location};
pub use event::{Notice, supported_events};
pub(crate) use features::Features;
pub use property::{PropertyEffect, VERSION, capabilities};
pub(crate) use queue::QueueMeter;
pub use queue::{EndedController, QueueRefusal, QueueUse};

use crate::export::subsystem::{Subsystem, SubsystemKind};
use aborts::Aborts;
use error_log::ErrorLog;
use event::Events;
use nvme_spec::Fabric;
use nvme_spec::Status;
use nvme_spec::aen::Event;
use nvme_spec::copy::format;
use queue::{QueueMeters, Queues};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// What a host told, and where it came from, when it connected an admin queue.
#[derive(Clone, Debug)]
pub struct Association {
    /// NQN of the host.
    pub host_nqn: String,
    /// Host identifier.
    pub host_id: [u8; 16],
    /// Keep Alive Timeout in ms; 0 turns the timer off.
    pub kato_ms: u32,
    /// Largest data in a capsule of this transport, in bytes.
    pub in_capsule_bytes: u32,
    /// The fabric.
    pub fabric: Fabric,
    /// Our end of the connection.
    pub local: SocketAddr,
    /// The host's end.
    pub peer: SocketAddr,
    /// The reactor of the admin queue.
    pub reactor: usize,
}

/// Why a controller came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EndReason {
    /// Its admin queue pair is gone.
    AdminQueueClosed = 1,
    /// Nothing was heard from the host for longer than KATO.
    KeepAliveExpired,
    /// Its subsystem was removed.
    SubsystemRemoved,
    /// Its host may no longer use the subsystem.
    HostRemoved,
    /// The target goes down.
    Shutdown,
}

impl EndReason {
    /// For a person.
    pub const fn text(self) -> &'static str {
        match self {
            EndReason::AdminQueueClosed => "the admin queue of the controller is gone",
            EndReason::KeepAliveExpired => "the keep alive timer of the controller expired",
            EndReason::SubsystemRemoved => "the subsystem was removed",
            EndReason::HostRemoved => "the host was removed from the subsystem",
            EndReason::Shutdown => "the target is going down",
        }
    }

    const ALL: [EndReason; 5] = [
        EndReason::AdminQueueClosed,
        EndReason::KeepAliveExpired,
        EndReason::SubsystemRemoved,
        EndReason::HostRemoved,
        EndReason::Shutdown,
    ];
}

/// Whether a controller lives, in one number for every queue pair to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// It lives; each reset or shutdown makes another epoch.
    Epoch(u32),
    /// It has ended.
    Ended(EndReason),
}

impl Life {
    const ENDED: u32 = 1 << 31;
    const EPOCHS: u32 = Life::ENDED - 1;

    fn bits(self) -> u32 {
        match self {
            Life::Epoch(epoch) => epoch,
            Life::Ended(why) => Life::ENDED | why as u32,
        }
    }

    fn from_bits(bits: u32) -> Life {
        if bits & Life::ENDED == 0 {
            return Life::Epoch(bits);
        }
        let why = EndReason::ALL.into_iter().find(|why| bits & Life::EPOCHS == *why as u32);
        Life::Ended(why.expect("only end reasons are stored"))
    }
}

/// A controller, shared by the reactors of its queue pairs.
pub struct Controller {
    cntlid: u16,
    subsystem: Arc<Subsystem>,
    association: Association,
    life: AtomicU32,
    cc: AtomicU32,
    csts: AtomicU32,
    kato_ms: AtomicU32,
    last_seen_ns: AtomicU64,
    has_write_cache: bool,
    write_cache: AtomicBool,
    features: Mutex<Features>,
    has_event: AtomicBool,
    events: Mutex<Events>,
    errors: Mutex<ErrorLog>,
    queues: Mutex<Queues>,
    has_aborts: AtomicBool,
    aborts: Mutex<Aborts>,
    meters: Arc<QueueMeters>,
}

impl Controller {
    pub(crate) fn new(
        cntlid: u16,
        subsystem: Arc<Subsystem>,
        association: Association,
        now_ns: u64,
    ) -> Controller {
        let queues = match subsystem.kind() {
            SubsystemKind::Nvm => usize::from(crate::limits::QUEUES),
            SubsystemKind::Discovery(_) => 1,
        };
        let enabled = supported_events(subsystem.kind());
        let has_write_cache = subsystem.has_write_cache();
        let kato_ms = granted_kato_ms(association.kato_ms, subsystem.kind());
        Controller {
            cntlid,
            life: AtomicU32::new(Life::Epoch(0).bits()),
            cc: AtomicU32::new(0),
            csts: AtomicU32::new(0),
            kato_ms: AtomicU32::new(kato_ms),
            last_seen_ns: AtomicU64::new(now_ns),
            has_write_cache,
            write_cache: AtomicBool::new(has_write_cache),
            features: Mutex::new(Features::default()),
            has_event: AtomicBool::new(false),
            events: Mutex::new(Events::new(enabled)),
            errors: Mutex::new(ErrorLog::default()),
            has_aborts: AtomicBool::new(false),
            aborts: Mutex::default(),
            queues: Mutex::new(Queues::new(queues, association.reactor)),
            meters: Arc::new(QueueMeters::new(queues)),
            subsystem,
            association,
        }
    }

    /// Controller identifier.
    pub fn cntlid(&self) -> u16 {
        self.cntlid
    }

    /// The subsystem.
    pub fn subsystem(&self) -> &Arc<Subsystem> {
        &self.subsystem
    }

    /// What the host told when it connected.
    pub fn association(&self) -> &Association {
        &self.association
    }

    /// A number that changes when I/O queue pairs have to close: on a reset, on a shutdown, and
    /// when the controller ends. A queue pair remembers it from [`Controller::claim_queue`].
    pub fn epoch(&self) -> u32 {
        self.life.load(Ordering::Acquire)
    }

    /// Whether the controller has not ended.
    pub fn is_live(&self) -> bool {
        self.epoch() & Life::ENDED == 0
    }

    /// Why the controller has ended, if it has: the admin queue pair closes, too.
    pub fn ended(&self) -> Option<EndReason> {
        match Life::from_bits(self.epoch()) {
            Life::Epoch(_) => None,
            Life::Ended(why) => Some(why),
        }
    }

    /// Ends the controller: every queue pair closes, and the subsystem forgets it. The first
    /// reason stays.
    pub fn end(&self, why: EndReason) {
        let ended = self.life.fetch_update(Ordering::AcqRel, Ordering::Acquire, |life| {
            (life & Life::ENDED == 0).then_some(Life::Ended(why).bits())
        });
        if ended.is_ok() {
            self.subsystem.forget(self.cntlid);
        }
    }

    /// Keep Alive Timeout in ms; 0 is off.
    pub fn kato_ms(&self) -> u32 {
        self.kato_ms.load(Ordering::Relaxed)
    }

    /// Says that the host was heard of: for each admin command, and once per timer pass for an
    /// I/O queue that had commands (traffic based keep alive).
    pub fn seen(&self, now_ns: u64) {
        self.last_seen_ns.fetch_max(now_ns, Ordering::Relaxed);
    }

    /// Whether nothing was heard from the host for longer than KATO.
    pub fn keep_alive_expired(&self, now_ns: u64) -> bool {
        let kato_ns = u64::from(self.kato_ms()) * 1_000_000;
        let silent_ns = now_ns.saturating_sub(self.last_seen_ns.load(Ordering::Relaxed));
        kato_ns != 0 && silent_ns > kato_ns
    }

    /// The Keep Alive Timeout that the host connected with.
    pub(crate) fn default_kato_ms(&self) -> u32 {
        granted_kato_ms(self.association.kato_ms, self.subsystem.kind())
    }

    /// Whether Identify Controller tells of a volatile write cache. Settled when the controller
    /// is made, since hosts ask once.
    pub fn has_write_cache(&self) -> bool {
        self.has_write_cache
    }

    /// Whether the host lets writes stay in the volatile cache (feature 06h). Where it does not,
    /// or was not told of a cache (a namespace that has one came later), each write is made
    /// durable before it completes.
    pub fn write_cache_enabled(&self) -> bool {
        self.write_cache.load(Ordering::Relaxed)
    }

    /// Enters a failed command into the error log and returns the status to answer with: the same
    /// with More set. Not for the data path of commands that succeed.
    pub fn log_error(&self, error: CommandError) -> Status {
        let status = error.status.more();
        let trtype = self.association.fabric.trtype();
        self.error_log().push(&CommandError { status, ..error }, trtype);
        status
    }

    /// Errors logged so far.
    pub fn error_count(&self) -> u64 {
        self.error_log().count()
    }

    /// Raises an event, from any reactor.
    pub fn raise(&self, notice: Notice) {
        self.with_events(|events| events.raise(notice));
    }

    /// A namespace came, went or changed: the list for the host, and the event.
    pub fn namespace_changed(&self, nsid: u32) {
        self.with_events(|events| events.namespace_changed(nsid));
    }

    /// Whether [`Controller::take_event`] has something; one load, for the admin queue pair.
    pub fn has_event(&self) -> bool {
        self.has_event.load(Ordering::Acquire)
    }

    /// The event to complete the oldest held request with. The controller counts the request as
    /// gone.
    pub fn take_event(&self) -> Option<Event> {
        self.with_events(Events::take)
    }

    /// A held Asynchronous Event Request has ended without an event.
    pub fn event_request_dropped(&self) {
        self.with_events(Events::unhold);
    }

    pub(crate) fn with_events<R>(&self, f: impl FnOnce(&mut Events) -> R) -> R {
        let mut events = self.events.lock().expect("no panic under this lock");
        let result = f(&mut events);
        self.has_event.store(events.ready(), Ordering::Release);
        result
    }

    pub(crate) fn error_log(&self) -> MutexGuard<'_, ErrorLog> {
        self.errors.lock().expect("no panic under this lock")
    }

    pub(crate) fn features(&self) -> MutexGuard<'_, Features> {
        self.features.lock().expect("no panic under this lock")
    }

    /// Whether the temperature is beyond a threshold that the host has set.
    pub(crate) fn temperature_warns(&self) -> bool {
        self.features().warn_at(self.subsystem.temperature_kelvin())
    }

    /// Whether the host has enabled Copy with source ranges in other namespaces.
    pub(crate) fn copies_between_namespaces(&self) -> bool {
        self.features().behavior.cdfe.get() & format::NAMESPACES != 0
    }

    /// Sets the Keep Alive Timeout; what a host asks for later goes as far as at Connect.
    pub(crate) fn set_kato_ms(&self, kato_ms: u32) {
        let granted = granted_kato_ms(kato_ms, self.subsystem.kind());
        self.kato_ms.store(granted, Ordering::Relaxed);
    }

    pub(crate) fn set_write_cache(&self, enabled: bool) {
        self.write_cache.store(enabled, Ordering::Relaxed);
    }

    /// Features and events as at the start.
    fn restore_defaults(&self) {
        *self.features() = Features::default();
        self.set_write_cache(self.has_write_cache);
        self.set_kato_ms(self.default_kato_ms());
        let enabled = supported_events(self.subsystem.kind());
        self.with_events(|events| events.reset(enabled));
    }
}

/// What the host asked for, and on a discovery controller something all the same.
fn granted_kato_ms(asked_ms: u32, kind: &SubsystemKind) -> u32 {
    match (kind, asked_ms) {
        (SubsystemKind::Discovery(_), 0) => crate::limits::DISCOVERY_KATO_MS,
        (_, kato_ms) => kato_ms,
    }
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller")
            .field("cntlid", &self.cntlid)
            .field("subsystem", &self.subsystem.nqn())
            .field("host", &self.association.host_nqn)
            .finish()
    }
}
