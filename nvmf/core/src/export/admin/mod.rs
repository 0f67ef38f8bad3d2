//! Admin commands, as a function of the controller and the command.

mod commands;
mod feature;
mod identify;
mod log;
mod reply;

use crate::export::controller::{CommandError, Controller, Location};
use crate::limits;
use commands::commands;
use nvme_spec::feature::{GetFeatures, SetFeatures};
use nvme_spec::identify::IDENTIFY_BYTES;
use nvme_spec::log::{GetLogPage, lid};
use nvme_spec::opcode::admin;
use nvme_spec::{Fabric, Fuse, Psdt, SglKind, Sqe, Status};
use reply::{Refusal, Reply};

/// The data of an admin command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// None.
    None,
    /// This many bytes to the host: the size of `out` for [`execute`].
    ToHost(u32),
    /// This many bytes from the host: the size of `data_in` for [`execute`].
    FromHost(u32),
}

/// What an admin command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminOutcome {
    /// It ended.
    Done {
        /// How; DNR and More are set as they should be, and a failure is in the error log.
        status: Status,
        /// Command specific result, low half.
        dw0: u32,
        /// Command specific result, high half.
        dw1: u32,
        /// Bytes of `out` for the host.
        data_bytes: u32,
    },
    /// An Asynchronous Event Request that is kept until an event comes: see
    /// [`Controller::take_event`].
    HoldEvent,
    /// An Abort: the queue pairs know whether the command can still be stopped. The answer is
    /// success, with bit 0 of dword 0 clear if the command was aborted and set if not.
    Abort {
        /// Queue of the command to abort.
        sqid: u16,
        /// Identifier of the command to abort.
        cid: u16,
    },
}

/// The data that an admin command (not a fabrics one) carries, from its fields and its SGL. To be
/// asked before [`execute`].
///
/// # Errors
/// The status to answer with; it is in the error log already.
pub fn transfer(ctrl: &Controller, sqe: &Sqe) -> Result<Transfer, Status> {
    check(ctrl, sqe)
        .and_then(|()| data_of(sqe))
        .and_then(|transfer| {
            check_sgl(ctrl.association().fabric, sqe, transfer)?;
            Ok(transfer)
        })
        .map_err(|refusal| refuse(ctrl, sqe, refusal))
}

/// Whether a command only reads, and takes time in proportion to what is exported: the discovery log,
/// of which each piece that a host reads is a log of its own, and the SMART log, for which what every
/// reactor has done on every namespace is added up.
pub(crate) fn takes_long(sqe: &Sqe) -> bool {
    sqe.opcode == admin::GET_LOG_PAGE
        && matches!(GetLogPage::of(sqe).lid, lid::DISCOVERY | lid::SMART)
}

/// Executes an admin command (not a fabrics one).
///
/// `data_in` is as long as [`Transfer::FromHost`] says and `out` as [`Transfer::ToHost`] says.
pub fn execute(
    ctrl: &Controller,
    sqe: &Sqe,
    data_in: &[u8],
    out: &mut [u8],
    now_ns: u64,
) -> AdminOutcome {
    ctrl.seen(now_ns);
    let reply = check(ctrl, sqe).and_then(|()| match sqe.opcode {
        admin::IDENTIFY => identify::identify(ctrl, sqe, out),
        admin::GET_LOG_PAGE => log::get_log_page(ctrl, sqe, out, now_ns),
        admin::SET_FEATURES => feature::set_features(ctrl, sqe, data_in),
        admin::GET_FEATURES => feature::get_features(ctrl, sqe, out),
        admin::KEEP_ALIVE => Ok(Reply::NONE),
        admin::ABORT => Ok(Reply::Abort { sqid: sqe.abort_sqid(), cid: sqe.abort_cid() }),
        admin::ASYNC_EVENT => hold_event(ctrl),
        _ => Err(Refusal::new(Status::INVALID_OPCODE, Location::OPCODE)),
    });
    match reply {
        Ok(Reply::Done { dw0, data_bytes }) => {
            AdminOutcome::Done { status: Status::SUCCESS, dw0, dw1: 0, data_bytes }
        }
        Ok(Reply::HoldEvent) => AdminOutcome::HoldEvent,
        Ok(Reply::Abort { sqid, cid }) => AdminOutcome::Abort { sqid, cid },
        Err(refusal) => {
            let status = refuse(ctrl, sqe, refusal);
            AdminOutcome::Done { status, dw0: 0, dw1: 0, data_bytes: 0 }
        }
    }
}

/// Enters a refused command into the error log; the status to answer with.
fn refuse(ctrl: &Controller, sqe: &Sqe, refusal: Refusal) -> Status {
    ctrl.log_error(CommandError {
        sqid: 0,
        cid: sqe.cid(),
        status: refusal.status.dnr(),
        location: refusal.location,
        lba: 0,
        nsid: sqe.nsid(),
    })
}

/// What holds for every admin command.
fn check(ctrl: &Controller, sqe: &Sqe) -> Result<(), Refusal> {
    if !commands(ctrl.subsystem().kind()).contains(&sqe.opcode) {
        return Err(Refusal::new(Status::INVALID_OPCODE, Location::OPCODE));
    }
    if !ctrl.is_ready() {
        return Err(Refusal::new(Status::SEQUENCE_ERROR, Location::NONE));
    }
    if sqe.fuse() != Fuse::None {
        return Err(Refusal::field(Location::FUSE));
    }
    Ok(())
}

/// The data that the fields of a command ask for.
fn data_of(sqe: &Sqe) -> Result<Transfer, Refusal> {
    Ok(match sqe.opcode {
        admin::IDENTIFY => Transfer::ToHost(IDENTIFY_BYTES as u32),
        admin::GET_LOG_PAGE => {
            let bytes = GetLogPage::of(sqe).bytes();
            let fits = u32::try_from(bytes).ok().filter(|b| *b <= limits::MAX_ADMIN_BYTES);
            Transfer::ToHost(fits.ok_or(Refusal::field(Location::dword_bit(10, 16)))?)
        }
        admin::SET_FEATURES => match feature::set_bytes(&SetFeatures::of(sqe)) {
            0 => Transfer::None,
            bytes => Transfer::FromHost(bytes),
        },
        admin::GET_FEATURES => match feature::get_bytes(&GetFeatures::of(sqe)) {
            0 => Transfer::None,
            bytes => Transfer::ToHost(bytes),
        },
        _ => Transfer::None,
    })
}

/// Whether the SGL of a command describes its data. Where there is no data it is not looked at.
fn check_sgl(fabric: Fabric, sqe: &Sqe, transfer: Transfer) -> Result<(), Refusal> {
    let (bytes, from_host) = match transfer {
        Transfer::None => return Ok(()),
        Transfer::ToHost(bytes) => (bytes, false),
        Transfer::FromHost(bytes) => (bytes, true),
    };
    if sqe.psdt() != Psdt::Sgl {
        return Err(Refusal::field(Location::PSDT));
    }
    let sgl = &sqe.dptr;
    let length = match (sgl.kind(), fabric) {
        (SglKind::InCapsule, _) if from_host => sgl.len(),
        (SglKind::Transport, Fabric::Tcp) => sgl.len(),
        (SglKind::Keyed { .. }, Fabric::Rdma) => sgl.keyed_len(),
        _ => return Err(Refusal::new(Status::INVALID_SGL_TYPE, Location::SGL_TYPE)),
    };
    if length != bytes {
        return Err(Refusal::new(Status::INVALID_SGL_LENGTH, Location::SGL_LENGTH));
    }
    Ok(())
}

/// Asynchronous Event Request.
fn hold_event(ctrl: &Controller) -> Result<Reply, Refusal> {
    if ctrl.with_events(|events| events.hold()) {
        Ok(Reply::HoldEvent)
    } else {
        Err(Refusal::new(Status::AER_LIMIT, Location::NONE))
    }
}
