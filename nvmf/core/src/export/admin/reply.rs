//! How an admin command ends inside this module.

use crate::export::controller::Location;
use nvme_spec::Status;

/// What a command that is not refused came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// It succeeded.
    Done {
        /// Command specific result.
        dw0: u32,
        /// Bytes for the host.
        data_bytes: u32,
    },
    /// It waits for an event.
    HoldEvent,
    /// The queue pairs have to act.
    Abort {
        /// Queue of the command to abort.
        sqid: u16,
        /// Identifier of the command to abort.
        cid: u16,
    },
}

impl Reply {
    /// Success and nothing else.
    pub(super) const NONE: Reply = Reply::Done { dw0: 0, data_bytes: 0 };

    /// Success with a result.
    pub(super) const fn value(dw0: u32) -> Reply {
        Reply::Done { dw0, data_bytes: 0 }
    }

    /// Success with all of `out` for the host: what `from` holds from `offset` bytes on, and
    /// zeroes past its end.
    pub(super) fn data(out: &mut [u8], from: &[u8], offset: u64) -> Reply {
        out.fill(0);
        let rest = usize::try_from(offset).ok().and_then(|at| from.get(at..)).unwrap_or_default();
        let n = rest.len().min(out.len());
        out[..n].copy_from_slice(&rest[..n]);
        Reply::Done { dw0: 0, data_bytes: out.len() as u32 }
    }
}

/// Why a command is refused. Every refusal says Do Not Retry: the same command will be refused
/// again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: Status,
    pub(super) location: Location,
}

impl Refusal {
    pub(super) const fn new(status: Status, location: Location) -> Refusal {
        Refusal { status, location }
    }

    /// Invalid Field in Command.
    pub(super) const fn field(location: Location) -> Refusal {
        Refusal::new(Status::INVALID_FIELD, location)
    }

    /// Invalid Namespace or Format.
    pub(super) const fn namespace() -> Refusal {
        Refusal::new(Status::INVALID_NAMESPACE, Location::NSID)
    }
}
