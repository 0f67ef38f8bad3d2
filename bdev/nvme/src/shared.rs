//! What reactors and the admin queue tell each other without a lock.
//!
//! A controller lives in *epochs*: each reset begins one. A channel looks at one atomic a turn; when
//! the epoch is not the one that its queue was made in, it stops, waits until the controller can no
//! longer touch the memory of its commands, ends them, sets its rings back, says that it is parked,
//! and goes on when its queue has been made again.

use nvme_spec::Status;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// How a controller ended, or why it was reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It is gone from the bus: its properties read as all ones.
    Gone,
    /// The machine asked for it back, to be taken out.
    Removed,
    /// It reported Controller Fatal Status.
    Fatal,
    /// It did not do in time what is named.
    Hung(&'static str),
    /// It cannot be used, or an admin command that bring-up needs failed, for the reason given.
    Unusable(String),
    /// An operator asked for it.
    Asked,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Gone => f.write_str("it is gone from the bus"),
            Failure::Removed => f.write_str("it was taken out of the machine"),
            Failure::Fatal => f.write_str("it reported a fatal error"),
            Failure::Hung(what) => write!(f, "it hangs: {what}"),
            Failure::Unusable(why) => f.write_str(why),
            Failure::Asked => f.write_str("it was asked for"),
        }
    }
}

/// Of one controller.
#[derive(Default)]
pub(crate) struct Shared {
    /// The current epoch, from 1.
    epoch: AtomicU32,
    /// Commands of earlier epochs can no longer touch memory.
    safe: AtomicU32,
    /// No epoch will come after: nothing will ever be done again, until an operator asks.
    dead: AtomicBool,
    /// How often it was out of the machine, where it has no power: its volatile cache is empty then.
    losses: AtomicU32,
    pub(crate) counters: Counters,
}

/// Events since the controller was opened.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) spurious: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) aborts: AtomicU64,
    pub(crate) resets: AtomicU64,
    pub(crate) errors: AtomicU64,
}

/// Events since the controller was opened, read at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Completions that named no command under way; ignored.
    pub spurious: u64,
    /// I/O commands that took too long.
    pub timeouts: u64,
    /// Abort commands sent.
    pub aborts: u64,
    /// Resets after the first bring-up.
    pub resets: u64,
    /// I/O commands that the controller completed with an error.
    pub errors: u64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Counts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            spurious: get(&self.spurious),
            timeouts: get(&self.timeouts),
            aborts: get(&self.aborts),
            resets: get(&self.resets),
            errors: get(&self.errors),
        }
    }
}

impl Shared {
    /// In its first epoch, not brought up.
    pub(crate) fn new() -> Shared {
        Shared { epoch: AtomicU32::new(1), ..Shared::default() }
    }

    #[inline]
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Begins an epoch.
    pub(crate) fn advance(&self) -> u32 {
        self.epoch.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The controller is disabled, isolated or gone: memory of all epochs before this is safe.
    pub(crate) fn set_safe(&self) {
        self.safe.store(self.epoch(), Ordering::Release);
    }

    /// Whether commands of `epoch` can no longer touch memory.
    pub(crate) fn is_safe(&self, epoch: u32) -> bool {
        self.safe.load(Ordering::Acquire) > epoch
    }

    /// It was taken out.
    pub(crate) fn add_loss(&self) {
        self.losses.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn losses(&self) -> u32 {
        self.losses.load(Ordering::Acquire)
    }

    pub(crate) fn set_dead(&self, dead: bool) {
        self.dead.store(dead, Ordering::Release);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }
}

/// Between one channel and the admin queue: where the making of its queue stands.
#[derive(Default)]
pub(crate) struct Link {
    /// The epoch in which the rings are set back and wait to be given to the controller.
    parked: AtomicU32,
    /// The epoch in which the controller has them.
    live: AtomicU32,
    /// The controller refused them.
    refused: AtomicBool,
    /// The channel is gone, the queue is to be deleted.
    closed: AtomicBool,
    /// Doorbells in memory are used in the epoch in which it is live.
    shadowed: AtomicBool,
}

impl Link {
    pub(crate) fn park(&self, epoch: u32) {
        self.refused.store(false, Ordering::Relaxed);
        self.parked.store(epoch, Ordering::Release);
    }

    pub(crate) fn is_parked(&self, epoch: u32) -> bool {
        self.parked.load(Ordering::Acquire) == epoch
    }

    pub(crate) fn go_live(&self, epoch: u32, shadowed: bool) {
        self.shadowed.store(shadowed, Ordering::Relaxed);
        self.live.store(epoch, Ordering::Release);
    }

    pub(crate) fn is_live(&self, epoch: u32) -> bool {
        self.live.load(Ordering::Acquire) == epoch
    }

    /// Looked at by the channel when it goes live.
    pub(crate) fn is_shadowed(&self) -> bool {
        self.shadowed.load(Ordering::Relaxed)
    }

    pub(crate) fn refuse(&self) {
        self.refused.store(true, Ordering::Release);
    }

    pub(crate) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// How a command ends that a reset cut short: it may have been done or not, and may be sent again.
pub(crate) const CUT_SHORT: Status = Status::COMMAND_INTERRUPTED;

/// How an operation ends that no controller will do any more.
pub(crate) const NO_CONTROLLER: Status = Status::INTERNAL_ERROR.dnr();
