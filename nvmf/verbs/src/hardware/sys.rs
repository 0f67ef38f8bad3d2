//! System calls beside the libraries.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// The error of the call before, as a result.
pub(super) fn check(ret: libc::c_int) -> io::Result<()> {
    if ret == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// As [`check`], for calls of the verbs library that return the error itself.
pub(super) fn check_code(ret: libc::c_int) -> io::Result<()> {
    if ret == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(ret.abs())) }
}

/// A pointer that a library returned, or the error that it left.
pub(super) fn check_ptr<T>(ptr: *mut T) -> io::Result<*mut T> {
    if ptr.is_null() { Err(io::Error::last_os_error()) } else { Ok(ptr) }
}

/// Whether the dynamic linker finds a library.
pub(super) fn has_library(name: &CStr) -> bool {
    // SAFETY: a name that ends with a zero; the library stays loaded, which is harmless: it is
    // the same that the bindings hold.
    unsafe { !libc::dlopen(name.as_ptr(), libc::RTLD_LAZY | libc::RTLD_LOCAL).is_null() }
}

/// Has reads of a descriptor fail where they would wait.
pub(super) fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: asks for and sets flags of an open descriptor.
    unsafe {
        let flags = libc::fcntl(fd, libc::F_GETFL);
        if flags < 0 || libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Waits until one of `fds` is readable.
pub(super) fn wait_readable(fds: [RawFd; 2]) {
    let mut polls = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // SAFETY: two entries of ours.
    unsafe { libc::poll(polls.as_mut_ptr(), 2, -1) };
}

/// Waits until `fd` is readable, for `limit` at most.
pub(super) fn wait_readable_for(fd: RawFd, limit: Duration) {
    let mut one = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let millis = limit.as_millis().clamp(1, i32::MAX as u128) as libc::c_int;
    // SAFETY: one entry of ours. Waking early is allowed.
    unsafe { libc::poll(&mut one, 1, millis) };
}

/// A descriptor that is readable while it is raised.
#[derive(Debug)]
pub(super) struct Flag(OwnedFd);

impl Flag {
    pub(super) fn new() -> io::Result<Flag> {
        // SAFETY: makes a new descriptor.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else's.
        Ok(Flag(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub(super) fn raise(&self) {
        // SAFETY: eight readable bytes. Fails only when it is raised already.
        unsafe { libc::write(self.fd(), 1u64.to_ne_bytes().as_ptr().cast(), 8) };
    }

    pub(super) fn lower(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight writable bytes. Fails only when it is not raised.
        unsafe { libc::read(self.fd(), count.as_mut_ptr().cast(), 8) };
    }
}

/// Descriptors watched as one.
#[derive(Debug)]
pub(super) struct Watch(OwnedFd);

impl Watch {
    pub(super) fn new() -> io::Result<Watch> {
        // SAFETY: makes a new descriptor.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, and nobody else's.
        Ok(Watch(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Watches `fd` until it is closed.
    pub(super) fn add(&self, fd: RawFd) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        // SAFETY: both are open, and the event is ours.
        check(unsafe { libc::epoll_ctl(self.fd(), libc::EPOLL_CTL_ADD, fd, &mut event) })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
