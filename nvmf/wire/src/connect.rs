//! Connect, Disconnect and the authentication commands (Base Specification, "Fabrics Command
//! Set").

use crate::nqn::{FIELD_BYTES, Nqn, NqnError};
use core::mem::offset_of;
use nvme_spec::opcode::fabrics;
use nvme_spec::{Cqe, Sgl, Sqe, Status, layout};
use zerocopy::little_endian::{U16, U32};

/// CNTLID of a Connect that leaves the choice to the controller (dynamic controller model).
pub const CNTLID_DYNAMIC: u16 = 0xffff;
/// CNTLID of a discovery entry in the static controller model: any controller.
pub const CNTLID_STATIC: u16 = 0xfffe;
/// The largest identifier a controller can have.
pub const CNTLID_MAX: u16 = 0xffef;

/// Bits of CATTR.
pub mod cattr {
    /// Priority class, for weighted round robin.
    pub const PRIORITY: u8 = 3;
    /// The host disables submission queue flow control.
    pub const DISABLE_SQ_FLOW: u8 = 1 << 2;
    /// The host deletes I/O queues one by one with Disconnect.
    pub const DELETE_IO_QUEUES: u8 = 1 << 3;
}

/// The Connect command (Base Specification, "Connect Command and Response").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Connect {
    /// Record format, 0.
    pub recfmt: u16,
    /// Queue: 0 the admin queue.
    pub qid: u16,
    /// Entries of the submission queue, zero-based.
    pub sqsize: u16,
    /// See [`cattr`].
    pub cattr: u8,
    /// Keep alive timeout in milliseconds; 0 is none. Admin queue only.
    pub kato_ms: u32,
}

impl Connect {
    /// The fields of a Connect command.
    pub fn of(sqe: &Sqe) -> Connect {
        let (d10, d11) = (sqe.cdw10.get(), sqe.cdw11.get());
        Connect {
            recfmt: d10 as u16,
            qid: (d10 >> 16) as u16,
            sqsize: d11 as u16,
            cattr: (d11 >> 16) as u8,
            kato_ms: sqe.cdw12.get(),
        }
    }

    /// The command, with its data in the capsule.
    pub fn sqe(&self, cid: u16) -> Sqe {
        let mut sqe = fabrics_command(fabrics::CONNECT, cid);
        sqe.dptr = Sgl::in_capsule(0, size_of::<ConnectData>() as u32);
        sqe.cdw10 = U32::new(u32::from(self.qid) << 16 | u32::from(self.recfmt));
        sqe.cdw11 = U32::new(u32::from(self.cattr) << 16 | u32::from(self.sqsize));
        sqe.cdw12 = U32::new(self.kato_ms);
        sqe
    }

    /// Whether the host disables submission queue flow control.
    pub const fn disables_sq_flow(&self) -> bool {
        self.cattr & cattr::DISABLE_SQ_FLOW != 0
    }
}

/// A fabrics command of type `fctype`, with PSDT as fabrics want it.
pub fn fabrics_command(fctype: u8, cid: u16) -> Sqe {
    let mut sqe = Sqe::new(fabrics::FABRICS, cid, u32::from(fctype));
    sqe.flags = Sqe::FLAGS_SGL;
    sqe
}

layout! {
    /// Data of the Connect command (Base Specification, "Connect Command - Data").
    pub struct ConnectData[1024] {
        /// Host identifier.
        0 => hostid: [u8; 16],
        /// Controller to connect to; [`CNTLID_DYNAMIC`] for a new one.
        16 => cntlid: U16,
        /// Reserved.
        18 => rsvd18: [u8; 238],
        /// Subsystem.
        256 => subnqn: [u8; 256],
        /// Host.
        512 => hostnqn: [u8; 256],
        /// Reserved.
        768 => rsvd768: [u8; 256],
    }
}

const _: () = assert!(FIELD_BYTES == 256);

impl ConnectData {
    /// The data that connects `hostnqn` with `hostid` to `subnqn`.
    pub fn new(hostid: [u8; 16], cntlid: u16, subnqn: &Nqn, hostnqn: &Nqn) -> ConnectData {
        ConnectData {
            hostid,
            cntlid: U16::new(cntlid),
            subnqn: subnqn.to_field(),
            hostnqn: hostnqn.to_field(),
            ..ConnectData::default()
        }
    }

    /// The subsystem's name.
    pub fn subnqn(&self) -> Result<Nqn, NqnError> {
        Nqn::from_field(&self.subnqn)
    }

    /// The host's name.
    pub fn hostnqn(&self) -> Result<Nqn, NqnError> {
        Nqn::from_field(&self.hostnqn)
    }
}

/// A parameter of Connect, as the result of Connect Invalid Parameters names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadParameter {
    /// Queue identifier.
    Qid,
    /// Queue size.
    Sqsize,
    /// Attributes.
    Cattr,
    /// Keep alive timeout.
    Kato,
    /// Host identifier.
    HostId,
    /// Controller identifier.
    Cntlid,
    /// Subsystem name.
    SubNqn,
    /// Host name.
    HostNqn,
    /// What a peer named that is none of these.
    Other {
        /// Offset in bytes.
        offset: u16,
        /// In the data, not in the command.
        in_data: bool,
    },
}

impl BadParameter {
    const NAMED: [BadParameter; 8] = [
        BadParameter::Qid,
        BadParameter::Sqsize,
        BadParameter::Cattr,
        BadParameter::Kato,
        BadParameter::HostId,
        BadParameter::Cntlid,
        BadParameter::SubNqn,
        BadParameter::HostNqn,
    ];

    /// Dword 0 of the response: the parameter's offset (IPO) in bits 15:0; bit 16 (IATTR) set
    /// when it is in the data.
    pub const fn dword(self) -> u32 {
        const DATA: u32 = 1 << 16;
        match self {
            BadParameter::Qid => 42,
            BadParameter::Sqsize => 44,
            BadParameter::Cattr => 46,
            BadParameter::Kato => 48,
            BadParameter::HostId => DATA | offset_of!(ConnectData, hostid) as u32,
            BadParameter::Cntlid => DATA | offset_of!(ConnectData, cntlid) as u32,
            BadParameter::SubNqn => DATA | offset_of!(ConnectData, subnqn) as u32,
            BadParameter::HostNqn => DATA | offset_of!(ConnectData, hostnqn) as u32,
            BadParameter::Other { offset, in_data } => {
                offset as u32 | if in_data { DATA } else { 0 }
            }
        }
    }

    /// From dword 0 of the response.
    pub fn from_dword(dword: u32) -> BadParameter {
        let dword = dword & 0x1_ffff;
        Self::NAMED
            .into_iter()
            .find(|named| named.dword() == dword)
            .unwrap_or(BadParameter::Other { offset: dword as u16, in_data: dword >> 16 != 0 })
    }

    /// The completion that refuses the Connect with `cid`.
    pub fn refuse(self, cid: u16) -> Cqe {
        let mut cqe = Cqe::new(cid, Status::CONNECT_INVALID_PARAMETERS.dnr());
        cqe.dw0 = U32::new(self.dword());
        cqe
    }
}

/// Result of a Connect that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Identifier of the controller.
    pub cntlid: u16,
    /// The host must authenticate first.
    pub authenticate: bool,
    /// The host must set up a secure channel by authentication first (concatenation).
    pub secure_channel: bool,
}

impl Connected {
    const ATR: u32 = 1 << 17;
    const ASCR: u32 = 1 << 18;

    /// Dword 0 of the response: CNTLID and AUTHREQ.
    pub const fn dword(self) -> u32 {
        self.cntlid as u32
            | if self.authenticate { Self::ATR } else { 0 }
            | if self.secure_channel { Self::ASCR } else { 0 }
    }

    /// From dword 0 of the response.
    pub const fn from_dword(dword: u32) -> Connected {
        Connected {
            cntlid: dword as u16,
            authenticate: dword & Self::ATR != 0,
            secure_channel: dword & Self::ASCR != 0,
        }
    }
}

/// The Disconnect command (Base Specification, "Disconnect Command and Response").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Disconnect {
    /// Record format, 0.
    pub recfmt: u16,
}

impl Disconnect {
    /// The fields of a Disconnect command.
    pub fn of(sqe: &Sqe) -> Disconnect {
        Disconnect { recfmt: sqe.cdw10.get() as u16 }
    }

    /// The command.
    pub fn sqe(&self, cid: u16) -> Sqe {
        let mut sqe = fabrics_command(fabrics::DISCONNECT, cid);
        sqe.cdw10 = U32::new(u32::from(self.recfmt));
        sqe
    }
}

/// Authentication Send or Authentication Receive (Base Specification, "Authentication Send
/// Command and Response").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Authentication {
    /// Security protocol specific field; 0101h for NVMe authentication.
    pub spsp: u16,
    /// Security protocol; E9h for NVMe authentication.
    pub secp: u8,
    /// Transfer length (send) or allocation length (receive) in bytes.
    pub bytes: u32,
}

impl Authentication {
    /// The fields of an Authentication Send or Receive.
    pub fn of(sqe: &Sqe) -> Authentication {
        let d10 = sqe.cdw10.get();
        Authentication { spsp: (d10 >> 8) as u16, secp: (d10 >> 24) as u8, bytes: sqe.cdw11.get() }
    }
}
