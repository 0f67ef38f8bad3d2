//! How a sleeping reactor is woken, and never missed.
//!
//! The sleeper says that it sleeps, then looks once more for work; the waker puts work in, then
//! looks whether the sleeper sleeps. A fence between each pair makes it impossible that both look
//! too early (store buffering). Checked with loom.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(loom))]
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

#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use loom::sync::{Arc, Condvar, Mutex};

    /// The kernel's part: an eventfd, which remembers a signal that comes before the wait.
    struct Signal(Mutex<bool>, Condvar);

    fn sleeper_finds_the_message(planted_bug: bool) {
        loom::model(move || {
            let flag = Arc::new(WakeFlag::new());
            let signal = Arc::new(Signal(Mutex::new(false), Condvar::new()));
            let (mut tx, mut rx) = crate::spsc::ring(2);
            let waker = {
                let (flag, signal) = (flag.clone(), signal.clone());
                loom::thread::spawn(move || {
                    // The bug: looking at the flag before the work is in place.
                    let early = planted_bug && flag.must_wake();
                    tx.push(7u32).unwrap();
                    if early || (!planted_bug && flag.must_wake()) {
                        *signal.0.lock().unwrap() = true;
                        signal.1.notify_one();
                    }
                })
            };
            flag.announce_sleep();
            if rx.is_empty() {
                let mut rung = signal.0.lock().unwrap();
                while !*rung {
                    rung = signal.1.wait(rung).unwrap();
                }
            }
            flag.awake();
            assert_eq!(rx.pop(), Some(7));
            waker.join().unwrap();
        });
    }

    #[test]
    fn wake_is_never_missed() {
        sleeper_finds_the_message(false);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn wake_checker_catches_a_flag_read_too_early() {
        sleeper_finds_the_message(true);
    }
}
