//! Memory of commands: system calls that move it, and its bytes. The unsafe floor of the transport.
#![allow(unsafe_code)]

use crate::limits::SEND_PIECES;
use bdev::DmaSlice;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

/// A length, or the error of the call before.
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

/// CRC32C of the memory of a command, continued from `digest`.
pub fn digest(digest: &mut nvmf_wire::digest::DataDigest, slice: DmaSlice) {
    // SAFETY: the memory of a command belongs to the transport from `pull` to `Pulled` and from
    // `respond` to `Sent`, and this thread is the one that uses it.
    digest.update(unsafe { slice.as_bytes() });
}
