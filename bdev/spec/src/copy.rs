//! Copy (NVM Command Set Specification, "Copy command").

use crate::{Sqe, layout};
use zerocopy::little_endian::{U16, U32, U64};

layout! {
    /// A Source Range Entry of Copy Descriptor Format 0h or 2h.
    pub struct SourceRange[32] {
        /// The namespace that it is in; format 2h only.
        0 => snsid: U32,
        /// Reserved.
        4 => rsvd4: U32,
        /// Starting LBA.
        8 => slba: U64,
        /// Number of blocks in bits 15:0, zero-based; Command Extension Type in bits 19:16.
        16 => rpars: U32,
        /// Command Extension Value.
        20 => cev: U16,
        /// Options; bit 15 in format 2h: Fast Copy Only.
        22 => sopt: U16,
        /// Expected Logical Block Tags.
        24 => elbt: U32,
        /// Expected Logical Block Application Tag.
        28 => elbat: U16,
        /// Expected Logical Block Application Tag Mask.
        30 => elbatm: U16,
    }
}

impl SourceRange {
    /// `blocks` blocks (1 to 65536) from `slba` on, in namespace `snsid` where the format has one.
    pub fn new(snsid: u32, slba: u64, blocks: u32) -> SourceRange {
        assert!((1..=0x1_0000).contains(&blocks), "{blocks} blocks do not fit NLB");
        SourceRange {
            snsid: U32::new(snsid),
            slba: U64::new(slba),
            rpars: U32::new(blocks - 1),
            ..SourceRange::default()
        }
    }

    /// Number of blocks, 1 to 65536.
    pub fn blocks(&self) -> u32 {
        (self.rpars.get() & 0xffff) + 1
    }

    /// Whether the host wants the range copied only if that is fast.
    pub fn fast_only(&self) -> bool {
        self.sopt.get() & 1 << 15 != 0
    }
}

/// Copy Descriptor Formats, as bits of Identify Controller and of Host Behavior Support.
pub mod format {
    /// 0h: ranges in the command's namespace. It is always enabled.
    pub const ONE_NAMESPACE: u16 = 1 << 0;
    /// 2h: ranges that name their namespaces. A host has to enable it.
    pub const NAMESPACES: u16 = 1 << 2;
}

/// The most ranges one command can name.
pub const MAX_RANGES: u32 = 256;

/// The Copy command. Its destination and its FUA are where a Write has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Source ranges in the data, 1 to 256.
    pub ranges: u32,
    /// Copy Descriptor Format of the ranges.
    pub format: u8,
}

impl Copy {
    /// The fields of a Copy command.
    pub fn of(sqe: &Sqe) -> Copy {
        let dword = sqe.cdw12.get();
        Copy { ranges: (dword & 0xff) + 1, format: (dword >> 8) as u8 & 0xf }
    }

    /// Enters the fields into a command.
    pub fn put(&self, sqe: &mut Sqe) {
        let fields = u32::from(self.format) << 8 | (self.ranges - 1);
        sqe.cdw12 = U32::new(sqe.cdw12.get() & !0xfff | fields);
    }

    /// Bytes of the ranges, in formats 0h and 2h.
    pub fn bytes(&self) -> u32 {
        self.ranges * size_of::<SourceRange>() as u32
    }
}
