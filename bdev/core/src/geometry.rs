//! What a bdev says of itself.

/// Size, alignment and promises of a bdev.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes in a block: 512 or 4096.
    pub block_bytes: u32,
    /// Number of blocks.
    pub blocks: u64,
    /// Alignment in bytes that `Io::data` needs; 1 when any will do. A power of two, at most 4096.
    pub align_bytes: u32,
    /// Preferred granularity of I/O, in blocks; at least 1.
    pub optimal_blocks: u32,
    /// Blocks written atomically even when power fails; 0 where half a block may be left.
    pub atomic_blocks: u32,
    /// Completed writes may be lost with power until a flush.
    pub volatile_cache: bool,
    /// Deallocate gives space back (it is accepted either way).
    pub deallocates: bool,
    /// Writes fail with Namespace is Write Protected.
    pub read_only: bool,
    /// Its blocks are in memory, and [`crate::Channel::direct_access`] says where.
    pub direct_access: bool,
}

impl Geometry {
    /// A device of `blocks` blocks with no special property.
    pub fn plain(block_bytes: u32, blocks: u64) -> Geometry {
        Geometry {
            block_bytes,
            blocks,
            align_bytes: 1,
            optimal_blocks: 1,
            atomic_blocks: 1,
            volatile_cache: false,
            deallocates: false,
            read_only: false,
            direct_access: false,
        }
    }

    /// Whether `lba .. lba + blocks` lies inside the device.
    pub fn contains(&self, lba: u64, blocks: u64) -> bool {
        lba.checked_add(blocks).is_some_and(|end| end <= self.blocks)
    }

    /// Capacity in bytes.
    pub fn bytes(&self) -> u64 {
        self.blocks * u64::from(self.block_bytes)
    }
}

/// Where a bdev's channels may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// On every reactor, each with its own channel.
    Every,
    /// On one reactor only; others reach it through a mailbox.
    One(usize),
}
