//! The system calls that the standard library has no word for.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Sets `TCP_CONGESTION`.
pub(crate) fn set_congestion_control(fd: RawFd, name: &str) -> io::Result<()> {
    let bytes = name.as_bytes();
    // SAFETY: `bytes` is readable for the length that is passed.
    let result = unsafe {
        libc::setsockopt(
            fd,
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            bytes.as_ptr().cast(),
            bytes.len() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The monotonic clock, in ns: the one that reactors run by.
pub(crate) fn clock_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is ours to fill.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}

/// What to wait for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Something to receive.
    Readable,
    /// That, or room to send.
    ReadableOrWritable,
}

/// Sleeps until one of `fds` is ready or `limit` has passed. Waking early is allowed.
pub(crate) fn wait(fds: &[(RawFd, Wait)], limit: Duration) {
    let mut polls: Vec<libc::pollfd> = fds
        .iter()
        .map(|&(fd, wait)| {
            let events = match wait {
                Wait::Readable => libc::POLLIN,
                Wait::ReadableOrWritable => libc::POLLIN | libc::POLLOUT,
            };
            libc::pollfd { fd, events, revents: 0 }
        })
        .collect();
    let millis = limit.as_micros().div_ceil(1000).min(i32::MAX as u128) as libc::c_int;
    // SAFETY: `polls` is ours and as long as is said. An error (EINTR) is an early wake-up.
    unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, millis) };
}

/// A counter that wakes a poll.
#[derive(Debug)]
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<EventFd> {
        // SAFETY: no memory is passed.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just gave us this descriptor.
        Ok(EventFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(crate) fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes. A full counter is a signal too, so the result is moot.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    pub(crate) fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight writable bytes. Nothing to read means that nobody signalled.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
