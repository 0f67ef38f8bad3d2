//! What a reactor says of itself.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one reactor: written by it alone, read by anyone.
#[derive(Default)]
#[repr(align(128))]
pub struct ReactorStats {
    turns: AtomicU64,
    busy_turns: AtomicU64,
    busy_ns: AtomicU64,
    sleeps: AtomicU64,
    messages: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatsReading {
    /// Steps taken.
    pub turns: u64,
    /// Steps in which something was done.
    pub busy_turns: u64,
    /// Time spent in those, in ns.
    pub busy_ns: u64,
    /// Times it slept in the kernel.
    pub sleeps: u64,
    /// Tasks taken from other threads.
    pub messages: u64,
}

/// Adds to a counter that only this thread writes: no locked instruction.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

impl ReactorStats {
    pub(crate) fn turn(&self, busy: bool, ns: u64) {
        add(&self.turns, 1);
        if busy {
            add(&self.busy_turns, 1);
            add(&self.busy_ns, ns);
        }
    }

    pub(crate) fn slept(&self) {
        add(&self.sleeps, 1);
    }

    pub(crate) fn messages(&self, n: u64) {
        add(&self.messages, n);
    }

    /// The counters now.
    pub fn read(&self) -> StatsReading {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StatsReading {
            turns: get(&self.turns),
            busy_turns: get(&self.busy_turns),
            busy_ns: get(&self.busy_ns),
            sleeps: get(&self.sleeps),
            messages: get(&self.messages),
        }
    }
}
