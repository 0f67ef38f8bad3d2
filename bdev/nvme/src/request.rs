//! Admin commands that an operator asks for.

use crate::limits::PAGE_BYTES;
use nvme_spec::log::{ErrorEntry, FirmwareSlots, GetLogPage, SmartLog, lid};
use nvme_spec::maintenance::{Format, Sanitize, SanitizeLog};
use nvme_spec::opcode::admin;
use nvme_spec::{Sqe, Status};

/// An admin command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Get Log Page: `bytes` bytes, at most a page, from `offset` on, both multiples of 4.
    Log {
        /// Log page identifier; see [`lid`].
        lid: u8,
        /// Namespace, or [`Sqe::NSID_ALL`].
        nsid: u32,
        /// First byte.
        offset: u64,
        /// Length in bytes.
        bytes: u32,
    },
    /// Format NVM. Refused while a channel is open.
    Format(Format),
    /// Sanitize. Refused while a channel is open. Its end shows in [`Request::sanitize_log`].
    Sanitize(Sanitize),
}

impl Request {
    fn log(lid: u8, bytes: usize) -> Request {
        Request::Log { lid, nsid: Sqe::NSID_ALL, offset: 0, bytes: bytes as u32 }
    }

    /// The SMART / Health log: a [`SmartLog`].
    pub fn smart_log() -> Request {
        Request::log(lid::SMART, size_of::<SmartLog>())
    }

    /// The newest `entries` of the error log, at most 64: each an [`ErrorEntry`].
    pub fn error_log(entries: usize) -> Request {
        Request::log(lid::ERROR, entries.clamp(1, 64) * size_of::<ErrorEntry>())
    }

    /// The firmware slots: a [`FirmwareSlots`].
    pub fn firmware_log() -> Request {
        Request::log(lid::FIRMWARE_SLOT, size_of::<FirmwareSlots>())
    }

    /// How far the last sanitize operation is: a [`SanitizeLog`].
    pub fn sanitize_log() -> Request {
        Request::log(lid::SANITIZE, size_of::<SanitizeLog>())
    }

    /// Whether it destroys data.
    pub(crate) fn destroys(&self) -> bool {
        !matches!(self, Request::Log { .. })
    }

    /// Bytes of data that the controller returns.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Request::Log { bytes, .. } => *bytes as usize,
            _ => 0,
        }
    }

    /// What is wrong with it, if anything is.
    pub(crate) fn fault(&self) -> Option<&'static str> {
        match *self {
            Request::Log { offset, bytes, .. }
                if bytes == 0
                    || bytes as usize > PAGE_BYTES
                    || bytes % 4 != 0
                    || offset % 4 != 0 =>
            {
                Some("a log is read in multiples of 4 bytes, at most a page at once")
            }
            Request::Format(format) if format.lbaf > 63 => Some("formats have numbers below 64"),
            _ => None,
        }
    }

    /// The command, with its data at bus address `page`.
    pub(crate) fn sqe(&self, cid: u16, page: u64) -> Sqe {
        match *self {
            Request::Log { lid, nsid, offset, bytes } => {
                log_sqe(cid, page, lid, nsid, offset, bytes)
            }
            Request::Format(format) => format.sqe(cid),
            Request::Sanitize(sanitize) => sanitize.sqe(cid),
        }
    }
}

/// Get Log Page, which clears the event that the log tells of.
pub(crate) fn log_sqe(cid: u16, page: u64, lid: u8, nsid: u32, offset: u64, bytes: u32) -> Sqe {
    let mut sqe = Sqe::new(admin::GET_LOG_PAGE, cid, nsid);
    GetLogPage { lid, numd: bytes / 4 - 1, lpo: offset, ..GetLogPage::default() }.put(&mut sqe);
    sqe.set_prps(page, 0);
    sqe
}

/// The name of a request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(pub(crate) u64);

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The controller refused it.
    Refused(Status),
    /// It was not sent, or the controller was reset meanwhile, for the reason given.
    NotDone(String),
}

impl std::fmt::Display for RequestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RequestError::Refused(status) => write!(f, "the controller refused it: {status}"),
            RequestError::NotDone(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for RequestError {}

/// The data of a log, or nothing.
pub type Answer = Result<Vec<u8>, RequestError>;
