//! What the kernel's errors mean to a host.

use bdev::Op;
use nvme_spec::Status;

/// What to do about an error of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The kernel was short of something for the moment: the same again.
    Retry,
    /// The file system or device cannot do this kind of operation at all.
    Unsupported,
    /// It ends with this status.
    Fail(Status),
}

/// The verdict on error number `errno` of `op`.
pub(crate) fn verdict(op: Op, errno: i32) -> Verdict {
    let media = match op {
        Op::Read => Status::UNRECOVERED_READ,
        _ => Status::WRITE_FAULT,
    };
    match errno {
        libc::EAGAIN | libc::EINTR | libc::ENOMEM => Verdict::Retry,
        libc::EOPNOTSUPP | libc::ENOSYS => Verdict::Unsupported,
        libc::ENOSPC | libc::EDQUOT | libc::EFBIG => Verdict::Fail(Status::CAPACITY_EXCEEDED),
        // The block layer's names: ENODATA for the medium, EILSEQ for protection information,
        // EREMOTEIO for the target, ETIMEDOUT for a command that did not end.
        libc::EIO | libc::ENODATA | libc::EILSEQ | libc::EREMOTEIO | libc::ETIMEDOUT => {
            Verdict::Fail(media)
        }
        libc::EROFS | libc::EPERM => Verdict::Fail(Status::WRITE_PROTECTED),
        _ => Verdict::Fail(Status::INTERNAL_ERROR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_become_what_a_host_can_act_on() {
        let fails = |op, errno, status| assert_eq!(verdict(op, errno), Verdict::Fail(status));
        fails(Op::Read, libc::EIO, Status::UNRECOVERED_READ);
        fails(Op::Write, libc::EIO, Status::WRITE_FAULT);
        fails(Op::Flush, libc::EIO, Status::WRITE_FAULT);
        fails(Op::Write, libc::ENOSPC, Status::CAPACITY_EXCEEDED);
        fails(Op::Deallocate, libc::EDQUOT, Status::CAPACITY_EXCEEDED);
        fails(Op::Write, libc::EROFS, Status::WRITE_PROTECTED);
        fails(Op::Write, libc::EBADF, Status::INTERNAL_ERROR);
        assert_eq!(verdict(Op::Write, libc::EAGAIN), Verdict::Retry);
        assert_eq!(verdict(Op::WriteZeroes, libc::EOPNOTSUPP), Verdict::Unsupported);
    }
}
