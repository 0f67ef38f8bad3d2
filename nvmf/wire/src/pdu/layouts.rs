//! PDU headers as they stand on the wire.

use nvme_spec::{Cqe, Sqe, layout};
use zerocopy::little_endian::{U16, U32};

/// PDU types (TCP Transport Specification, "PDU Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PduType {
    /// Initialize Connection Request.
    IcReq = 0x00,
    /// Initialize Connection Response.
    IcResp = 0x01,
    /// Host to Controller Terminate Connection Request.
    H2cTermReq = 0x02,
    /// Controller to Host Terminate Connection Request.
    C2hTermReq = 0x03,
    /// Command Capsule.
    CapsuleCmd = 0x04,
    /// Response Capsule.
    CapsuleResp = 0x05,
    /// Host to Controller Data Transfer.
    H2cData = 0x06,
    /// Controller to Host Data Transfer.
    C2hData = 0x07,
    /// Ready to Transfer.
    R2t = 0x09,
}

impl PduType {
    /// The type with this code, if there is one.
    pub const fn from_code(code: u8) -> Option<PduType> {
        Some(match code {
            0x00 => PduType::IcReq,
            0x01 => PduType::IcResp,
            0x02 => PduType::H2cTermReq,
            0x03 => PduType::C2hTermReq,
            0x04 => PduType::CapsuleCmd,
            0x05 => PduType::CapsuleResp,
            0x06 => PduType::H2cData,
            0x07 => PduType::C2hData,
            0x09 => PduType::R2t,
            _ => return None,
        })
    }

    /// Bytes of the header, digest excluded: the only valid HLEN.
    pub const fn header_bytes(self) -> usize {
        match self {
            PduType::IcReq | PduType::IcResp => size_of::<IcReq>(),
            PduType::CapsuleCmd => size_of::<CapsuleCmd>(),
            PduType::H2cTermReq
            | PduType::C2hTermReq
            | PduType::CapsuleResp
            | PduType::H2cData
            | PduType::C2hData
            | PduType::R2t => 24,
        }
    }

    /// Whether a header digest follows the header once it is agreed on.
    pub const fn has_header_digest(self) -> bool {
        !matches!(
            self,
            PduType::IcReq | PduType::IcResp | PduType::H2cTermReq | PduType::C2hTermReq
        )
    }
}

/// Bits of FLAGS in the common header.
pub mod flags {
    /// A header digest is there.
    pub const HDGST: u8 = 1 << 0;
    /// A data digest is there.
    pub const DDGST: u8 = 1 << 1;
    /// The last data PDU of a transfer (H2CData, C2HData).
    pub const LAST: u8 = 1 << 2;
    /// C2HData: the command succeeded and no response capsule follows.
    pub const SUCCESS: u8 = 1 << 3;
}

layout! {
    /// PDU Common Header (TCP Transport Specification, "PDU Common Header").
    pub struct CommonHeader[8] {
        /// PDU type; see [`PduType`].
        0 => kind: u8,
        /// See [`flags`].
        1 => flags: u8,
        /// Header length in bytes, digest excluded (HLEN).
        2 => hlen: u8,
        /// Offset of the data from the start of the PDU in bytes (PDO).
        3 => pdo: u8,
        /// Length of the whole PDU in bytes (PLEN).
        4 => plen: U32,
    }

    /// Initialize Connection Request (ICReq).
    pub struct IcReq[128] {
        /// Common header.
        0 => ch: CommonHeader,
        /// PDU format version, 0.
        8 => pfv: U16,
        /// Host PDU data alignment: data to the host starts at a multiple of 4 times one more
        /// than this.
        10 => hpda: u8,
        /// Digests asked for: bit 0 header, bit 1 data.
        11 => dgst: u8,
        /// R2Ts the host takes for one command at a time, zero-based.
        12 => maxr2t: U32,
        /// Reserved.
        16 => rsvd16: [u8; 112],
    }

    /// Initialize Connection Response (ICResp).
    pub struct IcResp[128] {
        /// Common header.
        0 => ch: CommonHeader,
        /// PDU format version, 0.
        8 => pfv: U16,
        /// Controller PDU data alignment, as HPDA.
        10 => cpda: u8,
        /// Digests in use: bit 0 header, bit 1 data.
        11 => dgst: u8,
        /// The most bytes of data in one H2CData PDU.
        12 => maxh2cdata: U32,
        /// Reserved.
        16 => rsvd16: [u8; 112],
    }

    /// Command Capsule (CapsuleCmd); in-capsule data may follow.
    pub struct CapsuleCmd[72] {
        /// Common header.
        0 => ch: CommonHeader,
        /// The command.
        8 => sqe: Sqe,
    }

    /// Response Capsule (CapsuleResp).
    pub struct CapsuleResp[24] {
        /// Common header.
        0 => ch: CommonHeader,
        /// The completion.
        8 => cqe: Cqe,
    }

    /// Host to Controller Data Transfer (H2CData); data follows.
    pub struct H2cData[24] {
        /// Common header.
        0 => ch: CommonHeader,
        /// Command capsule's command identifier.
        8 => cccid: U16,
        /// Transfer tag of the R2T this answers.
        10 => ttag: U16,
        /// Offset of the data in the command's data, in bytes.
        12 => datao: U32,
        /// Length of the data in bytes.
        16 => datal: U32,
        /// Reserved.
        20 => rsvd20: [u8; 4],
    }

    /// Controller to Host Data Transfer (C2HData); data follows.
    pub struct C2hData[24] {
        /// Common header.
        0 => ch: CommonHeader,
        /// Command capsule's command identifier.
        8 => cccid: U16,
        /// Reserved.
        10 => rsvd10: [u8; 2],
        /// Offset of the data in the command's data, in bytes.
        12 => datao: U32,
        /// Length of the data in bytes.
        16 => datal: U32,
        /// Reserved.
        20 => rsvd20: [u8; 4],
    }

    /// Ready to Transfer (R2T).
    pub struct R2t[24] {
        /// Common header.
        0 => ch: CommonHeader,
        /// Command capsule's command identifier.
        8 => cccid: U16,
        /// Transfer tag, to be repeated in the H2CData PDUs.
        10 => ttag: U16,
        /// Offset asked for in the command's data, in bytes.
        12 => r2to: U32,
        /// Length asked for in bytes.
        16 => r2tl: U32,
        /// Reserved.
        20 => rsvd20: [u8; 4],
    }

    /// Host to Controller and Controller to Host Terminate Connection Request (H2CTermReq,
    /// C2HTermReq); up to 128 bytes of the offending header follow as data.
    pub struct TermReq[24] {
        /// Common header.
        0 => ch: CommonHeader,
        /// Fatal error status; see [`super::Fes`].
        8 => fes: U16,
        /// Fatal error information, not aligned on the wire.
        10 => fei: U32,
        /// Reserved.
        14 => rsvd14: [u8; 10],
    }
}

/// Bit of DGST in ICReq and ICResp: header digest.
pub const DGST_HEADER: u8 = 1 << 0;
/// Bit of DGST in ICReq and ICResp: data digest.
pub const DGST_DATA: u8 = 1 << 1;

impl IcReq {
    /// Whether header digests are asked for.
    pub const fn hdgst(&self) -> bool {
        self.dgst & DGST_HEADER != 0
    }

    /// Whether data digests are asked for.
    pub const fn ddgst(&self) -> bool {
        self.dgst & DGST_DATA != 0
    }
}

impl IcResp {
    /// Whether header digests are in use.
    pub const fn hdgst(&self) -> bool {
        self.dgst & DGST_HEADER != 0
    }

    /// Whether data digests are in use.
    pub const fn ddgst(&self) -> bool {
        self.dgst & DGST_DATA != 0
    }
}

impl H2cData {
    /// Whether this ends the data an R2T asked for.
    pub const fn last(&self) -> bool {
        self.ch.flags & flags::LAST != 0
    }
}

impl C2hData {
    /// Whether this ends the data of the command.
    pub const fn last(&self) -> bool {
        self.ch.flags & flags::LAST != 0
    }

    /// Whether the command succeeded and no response follows.
    pub const fn success(&self) -> bool {
        self.ch.flags & flags::SUCCESS != 0
    }
}
