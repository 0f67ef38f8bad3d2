//! System calls beside the libraries.

use rustix::event::epoll::{self, EventData, EventFlags};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

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

/// Descriptors watched as one.
#[derive(Debug)]
pub(super) struct Watch(OwnedFd);

impl Watch {
    pub(super) fn new() -> io::Result<Watch> {
        Ok(Watch(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Watches `fd` until it is closed.
    pub(super) fn add(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::add(&self.0, fd, EventData::new_u64(0), EventFlags::IN)?)
    }

    pub(super) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
