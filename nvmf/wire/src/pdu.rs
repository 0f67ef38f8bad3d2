//! NVMe/TCP protocol data units (TCP Transport Specification, "NVMe/TCP PDU").
//!
//! A PDU is a header, its digest, padding, data and the data's digest; all but the header may be
//! absent. [`peek`] takes the header apart and checks every length in it; the data is the
//! caller's to receive where it wants it. The `encode` functions write everything that stands
//! before the data.

mod encode;
mod error;
mod layouts;
mod peek;

pub use encode::{
    C2hEnd, Framing, encode_c2h_data, encode_capsule_cmd, encode_capsule_resp, encode_h2c_data,
    encode_icreq, encode_icresp, encode_r2t, encode_term_req,
};
pub use error::{Fes, WireError};
pub use layouts::{
    C2hData, CapsuleCmd, CapsuleResp, CommonHeader, DGST_DATA, DGST_HEADER, H2cData, IcReq, IcResp,
    PduType, R2t, TermReq, flags,
};
pub use peek::{Framed, Params, Pdu, Peek, Phase, Side, peek};

/// Bytes of the common header.
pub const COMMON_BYTES: usize = 8;
/// Bytes of ICReq and ICResp.
pub const IC_BYTES: usize = 128;
/// The most bytes of a header with its digest, except ICReq and ICResp.
pub const MAX_HEADER_BYTES: usize = 72 + 4;
/// The most bytes an encoder writes before the data. Alignments need not be powers of two: the
/// worst is a command capsule with digest, 76 bytes, aligned to 72.
pub const MAX_DATA_OFFSET: usize = 144;
/// Bytes of the fixed part of H2CTermReq and C2HTermReq.
pub const TERM_BYTES: usize = 24;
/// The most bytes of the offending header that a TermReq carries.
pub const TERM_MAX_DATA: usize = 128;
/// The largest HPDA or CPDA: data aligned to 128 bytes.
pub const MAX_PDA: u8 = 31;
/// The least MAXH2CDATA of a controller, in bytes.
pub const MIN_MAXH2CDATA: u32 = 4096;
/// The most bytes of in-capsule data of an admin or fabrics command, whatever IOCCSZ says.
pub const ADMIN_CAPSULE_DATA: u32 = 8192;
