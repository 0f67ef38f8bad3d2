//! A thread for a reactor: pinned, with the real clock, and with a way to sleep.

use crate::{Handle, Reactor};
use bdev::AbortOnPanic;
use bdev::sleep::Sleeper;
use std::io;
use std::os::fd::RawFd;
use std::thread::JoinHandle;
use std::time::Duration;

pub use crate::cores::{allowed_cores, pin};
pub use bdev::sleep::clock_ns;

/// What a reactor does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Spins: the shortest latency, all of a core.
    Busy,
    /// Spins for a while after the last work, then sleeps until the kernel or another thread wakes
    /// it.
    Adaptive {
        /// How long it spins first, in ns.
        spin_ns: u64,
    },
}

impl Poll {
    /// Adaptive with a spin that covers the gaps of a host at queue depth 1.
    pub const ADAPTIVE: Poll = Poll::Adaptive { spin_ns: 50_000 };
}

/// Starts a thread that builds a reactor on its own core and runs it until [`Handle::stop`].
/// `core`: where to pin it, if anywhere.
///
/// # Errors
/// The kernel's, if the thread cannot start or the core cannot be used.
pub fn spawn(
    handle: Handle,
    core: Option<usize>,
    poll: Poll,
    build: impl FnOnce() -> Reactor + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let (pinned_tx, pinned_rx) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("reactor-{}", handle.number())).spawn(
        move || {
            let _ends_the_process = AbortOnPanic;
            let pinned = core.map_or(Ok(()), pin);
            let ok = pinned.is_ok();
            let _ = pinned_tx.send(pinned);
            if ok {
                run(&mut build(), poll);
            }
        },
    )?;
    pinned_rx.recv().map_err(|_| io::Error::other("the reactor's thread ended at once"))??;
    Ok(thread)
}

/// Runs `reactor` on the calling thread until [`Handle::stop`].
pub fn run(reactor: &mut Reactor, poll: Poll) {
    let handle = reactor.handle().clone();
    let mut bed = Bed::default();
    let mut before = clock_ns();
    let mut last_work = before;
    while !handle.is_stopping() {
        let busy = reactor.turn(before) > 0;
        let now = clock_ns();
        handle.stats().turn(busy, now - before);
        before = now;
        match poll {
            _ if busy => last_work = now,
            Poll::Adaptive { spin_ns } if now - last_work >= spin_ns => {
                let busy = bed.sleep(reactor, &handle, now);
                before = clock_ns();
                if busy {
                    last_work = before;
                }
            }
            _ => std::hint::spin_loop(),
        }
    }
    handle.end();
}

/// Where a reactor sleeps. The list of descriptors is made anew each time: a list kept in the
/// kernel would go wrong when a descriptor's number is used again.
#[derive(Default)]
struct Bed {
    fds: Vec<RawFd>,
    sleeper: Sleeper,
}

impl Bed {
    /// Sleeps, unless one more step after the announcement finds something to do: what others put
    /// into a ring before they could see the announcement is found there. Returns whether that
    /// step was busy.
    fn sleep(&mut self, reactor: &mut Reactor, handle: &Handle, now_ns: u64) -> bool {
        handle.flag().announce_sleep();
        let busy = reactor.turn(now_ns) > 0;
        let timeout = reactor.next_deadline_ns().map(|at| at.saturating_sub(now_ns));
        if !busy && timeout != Some(0) && !handle.is_stopping() {
            reactor.wake_fds(&mut self.fds);
            for fd in &self.fds {
                self.sleeper.until_readable(*fd);
            }
            handle.stats().slept();
            // An error only means an early turn.
            let _ = self.sleeper.sleep(timeout.map(Duration::from_nanos));
        }
        handle.flag().awake();
        handle.signal().clear();
        busy
    }
}
