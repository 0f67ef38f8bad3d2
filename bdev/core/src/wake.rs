//! How a sleeping reactor is woken, and never missed.
//!
//! The sleeper says that it sleeps, then looks once more for work; the waker puts work in, then
//! looks whether the sleeper sleeps. A fence between each pair makes it impossible that both look
//! too early (store buffering). Checked with loom.

#[cfg(feature = "loom")]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(feature = "loom"))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// Whether one reactor sleeps.
pub struct WakeFlag {
    asleep: AtomicBool,
}

impl Default for WakeFlag {
    fn default() -> Self {
        WakeFlag::new()
    }
}

impl WakeFlag {
    /// Awake.
    pub fn new() -> WakeFlag {
        WakeFlag { asleep: AtomicBool::new(false) }
    }

    /// Announces sleep. The sleeper looks for work once more after this, and sleeps only if there
    /// is none.
    pub fn announce_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Takes the announcement back.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }

    /// Called after work was put where the sleeper looks. True when the caller has to wake it: to
    /// exactly one caller for each announcement.
    pub fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::Relaxed)
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    /// A waker and a sleeper. Fails if there is an order in which the sleeper sleeps, the waker does
    /// not wake it, and the message is there.
    fn no_message_waits_beside_a_sleeper(planted_bug: bool) {
        loom::model(move || {
            let flag = Arc::new(WakeFlag::new());
            let (mut tx, mut rx) = crate::spsc::ring(2);
            let waker = {
                let flag = flag.clone();
                loom::thread::spawn(move || {
                    // The bug: looking at the flag before the work is in place.
                    let early = planted_bug && flag.must_wake();
                    tx.push(7u32).unwrap();
                    early || (!planted_bug && flag.must_wake())
                })
            };
            flag.announce_sleep();
            let slept = rx.is_empty();
            let rang = waker.join().unwrap();
            flag.awake();
            let message = rx.pop();
            // Nothing of the model may be dropped while it panics.
            drop((rx, flag));
            assert_eq!(message, Some(7));
            assert!(!slept || rang, "asleep beside a message");
        });
    }

    #[test]
    fn loom_wake_is_never_missed() {
        no_message_waits_beside_a_sleeper(false);
    }

    #[test]
    #[should_panic(expected = "asleep beside a message")]
    fn loom_catches_a_flag_that_is_read_too_early() {
        no_message_waits_beside_a_sleeper(true);
    }
}
