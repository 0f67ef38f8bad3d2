//! System calls: the unsafe floor of the transport.

use crate::limits::{EPOLL_EVENTS, SEND_PIECES};
use bdev::DmaSlice;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The error of the call before, as a result.
fn check(ret: libc::c_int) -> io::Result<libc::c_int> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret) }
}

fn check_len(ret: isize) -> io::Result<usize> {
    if ret < 0 { Err(io::Error::last_os_error()) } else { Ok(ret as usize) }
}

/// Calls `f` with the pieces as the kernel wants them; at most [`SEND_PIECES`] of them.
fn with_iovecs<R>(pieces: &[DmaSlice], f: impl FnOnce(*mut libc::iovec, usize) -> R) -> R {
    let mut iovecs = [const { MaybeUninit::<libc::iovec>::uninit() }; SEND_PIECES];
    let count = pieces.len().min(SEND_PIECES);
    for (iovec, piece) in iovecs.iter_mut().zip(pieces) {
        iovec.write(libc::iovec { iov_base: piece.as_ptr().cast(), iov_len: piece.len() });
    }
    f(iovecs.as_mut_ptr().cast(), count)
}

/// Receives into `pieces`, in their order.
pub fn recv(fd: RawFd, pieces: &[DmaSlice]) -> io::Result<usize> {
    if let [piece] = pieces {
        // SAFETY: a slice is mapped memory of its length, which its holder may write.
        return check_len(unsafe { libc::recv(fd, piece.as_ptr().cast(), piece.len(), 0) });
    }
    with_iovecs(pieces, |iovecs, count| {
        // SAFETY: `count` entries are written, each naming mapped memory of a slice.
        check_len(unsafe { libc::readv(fd, iovecs, count as libc::c_int) })
    })
}

/// Bytes that have come and are not received yet.
pub fn waiting(fd: RawFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the call writes one int, which is ours.
    check(unsafe { libc::ioctl(fd, libc::FIONREAD, &mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Sends `pieces`, in their order, in one call.
pub fn send(fd: RawFd, pieces: &[DmaSlice]) -> io::Result<usize> {
    if let [piece] = pieces {
        let flags = libc::MSG_NOSIGNAL;
        // SAFETY: a slice is mapped memory of its length.
        return check_len(unsafe { libc::send(fd, piece.as_ptr().cast(), piece.len(), flags) });
    }
    with_iovecs(pieces, |iovecs, count| {
        // SAFETY: all fields of a msghdr may be zero; `count` entries are written, each naming
        // mapped memory of a slice.
        unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = iovecs;
            message.msg_iovlen = count as _;
            check_len(libc::sendmsg(fd, &message, libc::MSG_NOSIGNAL))
        }
    })
}

/// The bytes of `slice`.
///
/// # Safety
/// Nobody writes them while the reference lives.
pub unsafe fn bytes<'a>(slice: DmaSlice) -> &'a [u8] {
    // SAFETY: the caller's promise.
    unsafe { slice.as_bytes() }
}

/// The bytes of `slice`, to write.
///
/// # Safety
/// Nobody else reads or writes them while the reference lives.
pub unsafe fn bytes_mut<'a>(slice: DmaSlice) -> &'a mut [u8] {
    // SAFETY: the caller's promise.
    unsafe { slice.as_bytes_mut() }
}

/// CRC32C of the memory of a command, continued from `digest`.
pub fn digest(digest: &mut nvmf_wire::digest::DataDigest, slice: DmaSlice) {
    // SAFETY: the memory of a command belongs to the transport from `pull` to `Pulled` and from
    // `respond` to `Sent`, and this thread is the one that uses it.
    digest.update(unsafe { slice.as_bytes() });
}

/// Sets an option of a socket.
pub fn set_option(fd: RawFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let len = value.len() as libc::socklen_t;
    // SAFETY: `value` is `len` readable bytes; the kernel copies them.
    check(unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), len) }).map(drop)
}

/// The name of the congestion control of a socket.
pub fn congestion(fd: RawFd) -> io::Result<String> {
    let mut name = [0u8; 16];
    let mut len = name.len() as libc::socklen_t;
    // SAFETY: `name` is `len` writable bytes, and `len` is ours.
    check(unsafe {
        let out = name.as_mut_ptr().cast();
        libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_CONGESTION, out, &mut len)
    })?;
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

/// A descriptor that counts signals and is readable while there are any.
#[derive(Debug)]
pub struct Signal(OwnedFd);

impl Signal {
    /// Without a signal.
    pub fn new() -> io::Result<Signal> {
        // SAFETY: makes a new descriptor.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: just made, and nobody else's.
        Ok(Signal(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Makes it readable.
    pub fn raise(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes. Fails only when the counter is full: readable already.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Makes it unreadable.
    pub fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight writable bytes. Fails only when there is no signal.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits, without end, until one of `fds` is readable or broken.
pub fn wait_readable(fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let poll =
        |fd: &BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut polls: Vec<libc::pollfd> = fds.iter().map(poll).collect();
    // SAFETY: `polls` is that many entries.
    match check(unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, -1) }) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// An epoll instance.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// With nothing in it.
    pub fn new() -> io::Result<Epoll> {
        // SAFETY: makes a new descriptor.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: just made, and nobody else's.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn control(&self, op: i32, fd: BorrowedFd<'_>, events: u32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: both descriptors are open, and `event` is ours.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), op, fd.as_raw_fd(), &mut event) })
            .map(drop)
    }

    /// Watches `fd` for `events`; they are reported with `token`.
    pub fn add(&self, fd: BorrowedFd<'_>, events: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, events, token)
    }

    /// Watches `fd`, which is watched, for other events.
    pub fn change(&self, fd: BorrowedFd<'_>, events: u32, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, events, token)
    }

    /// Ends watching `fd`.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0)
    }

    /// Hands what is ready now to `f`, as events and token; at most [`EPOLL_EVENTS`] of them.
    pub fn ready(&self, mut f: impl FnMut(u32, u64)) -> io::Result<()> {
        let mut events = [const { MaybeUninit::<libc::epoll_event>::uninit() }; EPOLL_EVENTS];
        let (at, room) = (events.as_mut_ptr(), EPOLL_EVENTS as libc::c_int);
        // SAFETY: room for that many entries.
        let count = check(unsafe { libc::epoll_wait(self.0.as_raw_fd(), at.cast(), room, 0) })?;
        for event in &events[..count as usize] {
            // SAFETY: the kernel has written the first `count` entries.
            let event = unsafe { event.assume_init() };
            f(event.events, event.u64);
        }
        Ok(())
    }

    /// The descriptor, readable while anything in it is ready.
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
