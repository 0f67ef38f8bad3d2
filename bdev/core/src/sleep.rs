//! What a thread sleeps on: descriptors, and a signal that other threads raise; and the clock that
//! tells it how long.
#![allow(unsafe_code)]

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// A descriptor that is readable from when a thread raises it until it is cleared.
#[derive(Debug)]
pub struct Signal(OwnedFd);

impl Signal {
    /// One that is not raised.
    ///
    /// # Errors
    /// The kernel's, when it has no descriptor left.
    pub fn new() -> io::Result<Signal> {
        Ok(Signal(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes it readable.
    pub fn raise(&self) {
        // Fails only when the counter is full: readable already.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Makes it unreadable. Whether it was readable.
    pub fn clear(&self) -> bool {
        rustix::io::read(&self.0, &mut [0; 8]).is_ok()
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The descriptors of one sleep. They are named anew for each; the memory stays.
#[derive(Default)]
pub struct Sleeper(Vec<PollFd<'static>>);

impl Sleeper {
    /// Ends when `fd` has something to read, too.
    ///
    /// # Panics
    /// If it is -1, which is no descriptor.
    pub fn until_readable(&mut self, fd: RawFd) -> &mut Sleeper {
        self.until(fd, PollFlags::IN)
    }

    /// Ends when `fd` has something to read or room to write, too.
    ///
    /// # Panics
    /// As above.
    pub fn until_ready(&mut self, fd: RawFd) -> &mut Sleeper {
        self.until(fd, PollFlags::IN | PollFlags::OUT)
    }

    fn until(&mut self, fd: RawFd, flags: PollFlags) -> &mut Sleeper {
        assert!(fd >= 0, "a descriptor");
        // SAFETY: not -1. It is only waited on: nothing is read, written or closed by it, and of a
        // number that is open no more the kernel says just that.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        self.0.push(PollFd::from_borrowed_fd(fd, flags));
        self
    }

    /// Sleeps until a descriptor is ready or broken, or `limit` has passed; none is without end.
    /// May end early. Forgets the descriptors; true when one is ready or broken.
    ///
    /// # Errors
    /// The kernel's, when it is out of memory: it has not slept.
    pub fn sleep(&mut self, limit: Option<Duration>) -> io::Result<bool> {
        let limit = limit.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        let slept = poll(&mut self.0, limit.as_ref());
        self.0.clear();
        match slept {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The monotonic clock, in ns: the one that threads run by. State machines are told.
pub fn clock_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_ends_by_a_signal_of_another_thread() {
        let (one, other) = (Signal::new().unwrap(), Signal::new().unwrap());
        let mut sleeper = Sleeper::default();
        std::thread::scope(|scope| {
            scope.spawn(|| other.raise());
            sleeper.until_readable(one.fd()).until_readable(other.fd());
            while !sleeper.sleep(None).unwrap() {
                sleeper.until_readable(one.fd()).until_readable(other.fd());
            }
        });
        // It stays raised until it is cleared, however often it was raised.
        other.raise();
        assert!(sleeper.until_readable(other.fd()).sleep(Some(Duration::ZERO)).unwrap());
        assert!(other.clear() && !other.clear());
        assert!(!sleeper.until_readable(other.fd()).sleep(Some(Duration::ZERO)).unwrap());
    }

    #[test]
    fn a_sleep_ends_by_its_limit_and_forgets_its_descriptors() {
        let signal = Signal::new().unwrap();
        let mut sleeper = Sleeper::default();
        assert!(!sleeper.until_readable(signal.fd()).sleep(Some(Duration::ZERO)).unwrap());
        assert!(sleeper.0.is_empty());
        // Room to write is there at once.
        assert!(sleeper.until_ready(signal.fd()).sleep(Some(Duration::ZERO)).unwrap());
    }

    #[test]
    fn the_clock_goes_forward() {
        let before = clock_ns();
        assert!(before > 0 && clock_ns() >= before);
    }
}
