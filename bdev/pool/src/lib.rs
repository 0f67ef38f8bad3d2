//! Pools of devices: the format of what lies on them (`FORMAT.md`), and the store of their
//! metadata.

mod backend;
mod entry;
mod medium;
mod merge;
mod record;
mod slots;
mod store;
mod superblock;
mod volume;

pub use entry::{BLOCKS_PER_EXTENT, Blocks, EXTENTS_PER_ROW, Entry, NotARow, Rest, Row, Slot};
pub use medium::{BLOCK_BYTES, FileMedium, Medium};
pub use merge::{Copy, Merge, merge};
pub use record::{DeviceRecord, DeviceState, NodeRecord, NodeState, VolumeRecord};
pub use slots::Slots;
pub use store::{Contents, RowKey, Store, StoreError, Update};
pub use superblock::{EXTENT_BYTES, Superblock, SuperblockError};
pub use volume::{Dirty, NodeMap, Source, Target, Volume};
