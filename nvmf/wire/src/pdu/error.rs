//! What is wrong with a PDU, in the terms of a TermReq.

use core::fmt;

/// Fatal error status (TCP Transport Specification, "Fatal Error Status").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Fes {
    /// A header field is invalid; FEI is its offset.
    HeaderField = 0x01,
    /// The PDU must not come now; FEI is its type.
    Sequence = 0x02,
    /// The header digest is wrong; FEI is the received digest.
    HeaderDigest = 0x03,
    /// Data outside of what was asked for.
    DataOutOfRange = 0x04,
    /// From a controller: more data than the limit. From a host: more R2Ts than the limit.
    LimitExceeded = 0x05,
    /// A parameter is not supported; FEI is its offset.
    UnsupportedParameter = 0x06,
}

impl Fes {
    /// The status with this code, if there is one.
    pub const fn from_code(code: u16) -> Option<Fes> {
        Some(match code {
            0x01 => Fes::HeaderField,
            0x02 => Fes::Sequence,
            0x03 => Fes::HeaderDigest,
            0x04 => Fes::DataOutOfRange,
            0x05 => Fes::LimitExceeded,
            0x06 => Fes::UnsupportedParameter,
            _ => return None,
        })
    }

    /// A few words.
    pub const fn text(self) -> &'static str {
        match self {
            Fes::HeaderField => "invalid PDU header field",
            Fes::Sequence => "PDU sequence error",
            Fes::HeaderDigest => "header digest error",
            Fes::DataOutOfRange => "data transfer out of range",
            Fes::LimitExceeded => "limit exceeded",
            Fes::UnsupportedParameter => "unsupported parameter",
        }
    }
}

/// A fatal fault of a PDU: what the TermReq that answers it says. The connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireError {
    /// Fatal error status.
    pub fes: Fes,
    /// Fatal error information: what it means depends on the status.
    pub fei: u32,
}

impl WireError {
    /// An invalid field at `offset` bytes of the header.
    pub const fn field(offset: u32) -> WireError {
        WireError { fes: Fes::HeaderField, fei: offset }
    }

    /// A PDU of type `kind` that must not come now.
    pub const fn sequence(kind: u8) -> WireError {
        WireError { fes: Fes::Sequence, fei: kind as u32 }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (FEI {:#x})", self.fes.text(), self.fei)
    }
}

impl std::error::Error for WireError {}
