//! Submission queue entries (Base Specification, "Submission Queue Entry").

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A 64-byte submission queue entry.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Sqe {
    /// Opcode.
    pub opcode: u8,
    /// FUSE in bits 1:0, PSDT in bits 7:6.
    pub flags: u8,
    /// Command identifier.
    pub cid: U16,
    /// Namespace identifier. In a fabrics command byte 4 is FCTYPE.
    pub nsid: U32,
    /// Command dword 2.
    pub cdw2: U32,
    /// Command dword 3.
    pub cdw3: U32,
    /// Metadata pointer.
    pub mptr: U64,
    /// Data pointer; on fabrics always an SGL descriptor.
    pub dptr: Sgl,
    /// Command dword 10.
    pub cdw10: U32,
    /// Command dword 11.
    pub cdw11: U32,
    /// Command dword 12.
    pub cdw12: U32,
    /// Command dword 13.
    pub cdw13: U32,
    /// Command dword 14.
    pub cdw14: U32,
    /// Command dword 15.
    pub cdw15: U32,
}

const _: () = assert!(size_of::<Sqe>() == 64);
const _: () = assert!(core::mem::offset_of!(Sqe, dptr) == 24);
const _: () = assert!(core::mem::offset_of!(Sqe, cdw10) == 40);

/// A 16-byte SGL descriptor. Keyed descriptors pack a 24-bit length and a 32-bit key into
/// bytes 8..15 (Base Specification, "Scatter Gather List").
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Sgl {
    /// Address or offset.
    pub addr: U64,
    /// Length in bytes (unkeyed descriptors).
    pub len: U32,
    /// Reserved, or the rest of the key.
    pub rsvd: [u8; 3],
    /// Type in bits 7:4, sub type in bits 3:0.
    pub kind: u8,
}

const _: () = assert!(size_of::<Sgl>() == 16);

impl Sgl {
    /// SGL Data Block with an offset sub type: in-capsule data.
    pub const IN_CAPSULE: u8 = 0x01;
    /// Transport SGL Data Block: the transport moves the data.
    pub const TRANSPORT: u8 = 0x5a;
}
