//! Completion queue entries (Base Specification, "Completion Queue Entry").

use crate::Status;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A 16-byte completion queue entry.
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
pub struct Cqe {
    /// Command specific result, low half.
    pub dw0: U32,
    /// Command specific result, high half.
    pub dw1: U32,
    /// Submission queue head pointer.
    pub sqhd: U16,
    /// Submission queue identifier; reserved on fabrics.
    pub sqid: U16,
    /// Command identifier.
    pub cid: U16,
    /// Status in bits 15:1; bit 0 is the phase tag, zero on fabrics.
    pub status: U16,
}

const _: () = assert!(size_of::<Cqe>() == 16);

impl Cqe {
    /// The status field.
    pub fn status(&self) -> Status {
        Status::from_bits(self.status.get() >> 1)
    }

    /// A completion of command `cid` with `status` and no result.
    pub fn new(cid: u16, status: Status) -> Cqe {
        Cqe { cid: U16::new(cid), status: U16::new(status.bits() << 1), ..Cqe::default() }
    }
}
