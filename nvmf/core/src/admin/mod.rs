//! Admin commands, as a pure function of the controller and the command.

mod feature;

pub use feature::Features;

use crate::controller::Controller;
use crate::subsystem::SubsystemKind;
use nvme_spec::aen::config;
use nvme_spec::{Sqe, Status};

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

/// The optional events that a kind of controller can tell (OAES).
pub fn supported_events(kind: &SubsystemKind) -> u32 {
    match kind {
        SubsystemKind::Nvm => config::NAMESPACE | config::ANA,
        SubsystemKind::Discovery(_) => config::DISCOVERY,
    }
}

/// The data that an admin command (not a fabrics one) carries, from its fields and its SGL. To be
/// asked before [`execute`].
///
/// # Errors
/// The status to answer with; it is in the error log already.
pub fn transfer(_ctrl: &Controller, _sqe: &Sqe) -> Result<Transfer, Status> {
    Ok(Transfer::None)
}

/// Executes an admin command (not a fabrics one).
///
/// `data_in` is as long as [`Transfer::FromHost`] says and `out` as [`Transfer::ToHost`] says.
pub fn execute(
    ctrl: &Controller,
    _sqe: &Sqe,
    _data_in: &[u8],
    _out: &mut [u8],
    now_ns: u64,
) -> AdminOutcome {
    ctrl.seen(now_ns);
    AdminOutcome::Done { status: Status::INVALID_OPCODE.dnr(), dw0: 0, dw1: 0, data_bytes: 0 }
}
