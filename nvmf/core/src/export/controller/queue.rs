//! The queue pairs of a controller.

use super::Controller;
use crate::export::counters::{Counter, IoCounters, IoCounts};
use crate::limits;
use bdev::latency::Latencies;
use std::sync::{Arc, MutexGuard, OnceLock};

/// Why an I/O queue cannot be connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueRefusal {
    /// The controller is not enabled, or has ended.
    NotEnabled,
    /// The controller is not ready yet: queues from before a reset are still there.
    NotReady,
    /// There is no queue of this identifier.
    NoSuchQueue,
    /// It is connected already.
    InUse,
}

/// A connected queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueUse {
    /// Identifier; 0 is the admin queue.
    pub qid: u16,
    /// The reactor it is on.
    pub reactor: usize,
    /// Entries of the submission queue; 0 for an admin queue whose size was not told yet.
    pub entries: u16,
}

/// What the queue pair of one queue writes and anybody reads.
#[derive(Debug, Default)]
pub(crate) struct QueueMeter {
    /// As [`Controller::queue_counters`].
    pub(crate) counters: IoCounters,
    /// As [`Controller::queue_latencies`].
    pub(crate) latencies: Latencies,
    /// As [`Controller::queue_depth`].
    pub(crate) under_way: Counter,
}

/// By queue identifier, those of queues that have been connected: most of most controllers never
/// are.
#[derive(Debug)]
pub(super) struct QueueMeters(Box<[OnceLock<Arc<QueueMeter>>]>);

impl QueueMeters {
    pub(super) fn new(queues: usize) -> QueueMeters {
        let meters = QueueMeters((0..queues).map(|_| OnceLock::new()).collect());
        meters.connected(0);
        meters
    }

    fn connected(&self, qid: u16) {
        self.0[usize::from(qid)].get_or_init(Arc::default);
    }

    fn of(&self, qid: u16) -> &Arc<QueueMeter> {
        self.0[usize::from(qid)].get().expect("made when the queue was connected")
    }

    fn all(&self) -> impl Iterator<Item = &QueueMeter> {
        self.0.iter().filter_map(|meter| meter.get().map(Arc::as_ref))
    }

    fn total(&self) -> IoCounts {
        IoCounts::sum(self.all().map(|meter| meter.counters.read()))
    }

    fn latencies(&self) -> impl Iterator<Item = &Latencies> {
        self.all().map(|meter| &meter.latencies)
    }
}

/// What is kept of a controller when it has ended. It does not keep the controller, which knows its
/// subsystem, which keeps this.
#[derive(Clone, Debug)]
pub struct EndedController {
    /// The host that it was of.
    pub host_nqn: String,
    meters: Arc<QueueMeters>,
}

impl EndedController {
    /// As [`Controller::total`].
    pub fn total(&self) -> IoCounts {
        self.meters.total()
    }

    /// As [`Controller::latencies`].
    pub fn latencies(&self) -> impl Iterator<Item = &Latencies> {
        self.meters.latencies()
    }
}

#[derive(Debug)]
pub(crate) struct Queues {
    /// I/O queues granted to the host.
    pub(crate) granted: u16,
    /// By queue identifier.
    used: Box<[Option<QueueUse>]>,
    /// What CSTS becomes when no I/O queue is connected any more.
    pub(super) csts_when_gone: Option<u32>,
}

impl Queues {
    /// Whether queue `qid` is connected.
    pub(super) fn is_used(&self, qid: u16) -> bool {
        self.used.get(usize::from(qid)).is_some_and(Option::is_some)
    }

    pub(super) fn new(queues: usize, admin_reactor: usize) -> Queues {
        let mut used: Box<[_]> = vec![None; queues].into();
        used[0] = Some(QueueUse { qid: 0, reactor: admin_reactor, entries: 0 });
        Queues { granted: limits::IO_QUEUES, used, csts_when_gone: None }
    }

    /// I/O queues connected now.
    pub(crate) fn io_queues(&self) -> usize {
        self.used.iter().skip(1).flatten().count()
    }
}

impl Controller {
    /// Connects I/O queue `qid` on `reactor`. Returns the epoch that the queue pair belongs to:
    /// once [`Controller::epoch`] differs, it closes.
    ///
    /// # Errors
    /// See [`QueueRefusal`].
    pub fn claim_queue(&self, qid: u16, entries: u16, reactor: usize) -> Result<u32, QueueRefusal> {
        let mut queues = self.queues();
        if !self.is_ready() || !self.is_live() {
            let soon = self.is_live() && self.cc().enabled() && queues.csts_when_gone.is_some();
            return Err(if soon { QueueRefusal::NotReady } else { QueueRefusal::NotEnabled });
        }
        if qid == 0 || qid > queues.granted {
            return Err(QueueRefusal::NoSuchQueue);
        }
        let place = queues.used.get_mut(usize::from(qid)).ok_or(QueueRefusal::NoSuchQueue)?;
        if place.is_some() {
            return Err(QueueRefusal::InUse);
        }
        *place = Some(QueueUse { qid, reactor, entries });
        self.meters.connected(qid);
        Ok(self.epoch())
    }

    /// An I/O queue pair is gone, all its commands with it.
    ///
    /// # Panics
    /// If it was not claimed.
    pub fn release_queue(&self, qid: u16) {
        let mut queues = self.queues();
        let released = queues.used[usize::from(qid)].take();
        self.queue_gone(&mut queues);
        self.refuse_aborts(qid);
        assert!(released.is_some(), "queue {qid} is released once for each claim");
    }

    /// The connected queues.
    pub fn queue_uses(&self) -> Vec<QueueUse> {
        self.queues().used.iter().flatten().copied().collect()
    }

    /// What queue `qid` has done; only its queue pair writes.
    ///
    /// # Panics
    /// If it has never been connected, here and below.
    pub fn queue_counters(&self, qid: u16) -> &IoCounters {
        &self.meters.of(qid).counters
    }

    /// How long reads and writes of queue `qid` took; only its queue pair writes. Those that were
    /// answered in the turn that took them in, on devices that are memory, are in the counters
    /// alone.
    pub fn queue_latencies(&self, qid: u16) -> &Latencies {
        &self.meters.of(qid).latencies
    }

    /// Commands of queue `qid` that are under way: from their arrival until the transport has sent
    /// their answer. Asynchronous Event Requests that are held count, too.
    pub fn queue_depth(&self, qid: u16) -> u64 {
        self.meters.of(qid).under_way.get()
    }

    /// What all queues have done, those that are not connected any more included.
    pub fn total(&self) -> IoCounts {
        self.meters.total()
    }

    /// How long reads and writes of all queues took, as [`Controller::queue_latencies`].
    pub fn latencies(&self) -> impl Iterator<Item = &Latencies> {
        self.meters.latencies()
    }

    /// What is kept of it when it has ended.
    pub fn record(&self) -> EndedController {
        let (host_nqn, meters) = (self.association.host_nqn.clone(), self.meters.clone());
        EndedController { host_nqn, meters }
    }

    /// What queue `qid` counts, for its queue pair.
    pub(crate) fn queue_meter(&self, qid: u16) -> Arc<QueueMeter> {
        self.meters.of(qid).clone()
    }

    pub(crate) fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().expect("no panic under this lock")
    }
}
