//! Pools of devices: the format of what lies on them (`FORMAT.md`), the store of their metadata, and
//! volumes over them.
//!
//! A volume lives on one reactor, which has its map and orders its operations ([`VolumeBdev`]). One
//! thread for each pool keeps the metadata and does what operators ask for ([`Pool`]).
#![deny(unsafe_code)]

mod behind;
mod channel;
mod devices;
mod directory;
mod entry;
mod error;
mod journal;
mod keeper;
mod limits;
mod merge;
mod opening;
mod orders;
mod pool;
mod record;
mod redo;
mod session;
mod slots;
mod sparse;
mod state;
mod store;
mod superblock;
mod tenure;
mod update;
mod volume;
mod volume_bdev;
mod writers;

pub use bdev_redb::{BLOCK_BYTES, FileMedium, Label, Medium};
pub use devices::DEVICES;
pub use directory::{
    Condition, DeviceStatus, Directory, PoolStatus, SnapshotStatus, Space, Usage, VolumeStatus,
};
pub use entry::{BLOCKS_PER_EXTENT, Blocks, EXTENTS_PER_ROW, Entry, NotARow, Rest, Row, Slot};
pub use error::{Kind, PoolError};
pub use journal::{Identities, JournalMemory, Journals, PoolJournals, SharedJournals};
pub use keeper::{DiscardMode, DiscardStatus, NewMember, NewVolume, Progress, Reactors, is_name};
pub use limits::Limits;
pub use merge::{Copy, Merge, merge};
pub use opening::{Opening, Uuids};
pub use orders::Order;
pub use pool::{Found, Host, MEMORY_BYTES, Pool, probe};
pub use record::{
    DeviceRecord, DeviceState, NodeRecord, NodeState, VolumeKind, VolumeRecord, WriterRecord,
};
pub use slots::Slots;
pub use state::Traffic;
pub use store::{Contents, RecordKey, RowKey, Store, StoreError, Update, WriterKey};
pub use superblock::{EXTENT_BYTES, FORMAT_1, FORMAT_2, Superblock, SuperblockError, give_up};
pub use tenure::{Cause, Held, Loss, Owner, Tenure};
pub use volume::{Dirty, NodeMap, Source, Target, Volume};
pub use volume_bdev::VolumeBdev;
