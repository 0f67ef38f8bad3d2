//! Dataset Management (NVM Command Set Specification, "Dataset Management command").

use crate::{Sqe, layout};
use zerocopy::little_endian::{U32, U64};

layout! {
    /// A range of the Dataset Management command.
    pub struct Range[16] {
        /// Context attributes: hints.
        0 => attributes: U32,
        /// Length in blocks; may be zero.
        4 => blocks: U32,
        /// Starting LBA.
        8 => slba: U64,
    }
}

/// The most ranges one command carries.
pub const MAX_RANGES: usize = 256;

/// Bits of dword 11.
pub mod attribute {
    /// The ranges are read as a whole soon.
    pub const INTEGRAL_READ: u32 = 1 << 0;
    /// The ranges are written as a whole soon.
    pub const INTEGRAL_WRITE: u32 = 1 << 1;
    /// The host does not need the ranges' content any more.
    pub const DEALLOCATE: u32 = 1 << 2;
}

/// The Dataset Management command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatasetManagement {
    /// Ranges in the data, 1 to 256.
    pub ranges: usize,
    /// Whether the ranges are to be deallocated; everything else is a hint.
    pub deallocate: bool,
}

impl DatasetManagement {
    /// The fields of a Dataset Management command.
    pub fn of(sqe: &Sqe) -> DatasetManagement {
        DatasetManagement {
            ranges: (sqe.cdw10.get() & 0xff) as usize + 1,
            deallocate: sqe.cdw11.get() & attribute::DEALLOCATE != 0,
        }
    }

    /// Puts the fields into a Dataset Management command.
    pub fn put(&self, sqe: &mut Sqe) {
        debug_assert!((1..=MAX_RANGES).contains(&self.ranges), "{} ranges", self.ranges);
        let attributes = if self.deallocate { attribute::DEALLOCATE } else { 0 };
        (sqe.cdw10, sqe.cdw11) = (U32::new(self.ranges as u32 - 1), U32::new(attributes));
    }

    /// Bytes of the ranges.
    pub fn bytes(&self) -> usize {
        self.ranges * size_of::<Range>()
    }
}
