//! What a pool says of itself.

use crate::keeper::{DiscardMode, DiscardStatus, Progress};
use crate::limits::Limits;
use crate::record::{DeviceState, VolumeKind};
use uuid::Uuid;

/// Where the space of a pool is, in bytes: as of the last step of its keeper and the last one of each
/// volume. What a volume has just taken is used at once; what it gave up is used until no operation
/// can be under way on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Of all devices.
    pub total: u64,
    /// Neither used nor reserved: what thin volumes can still take.
    pub free: u64,
    /// Named by some entry, or given up and not free yet.
    pub used: u64,
    /// Kept for thick volumes, beyond what they use, and for what has to leave a device.
    pub reserved: u64,
    /// Of `used`: in nodes that more than one volume or snapshot reads.
    pub shared: u64,
    /// Of `used`: in deleted volumes and snapshots.
    pub reclaimable: u64,
}

/// What one volume or snapshot takes, in bytes: as of the volume's last step. While a snapshot is
/// being taken, what the volume had may for a moment be in neither figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In slots that only it names: what was written since its last snapshot, or, of a snapshot,
    /// between the one before it and itself.
    pub own: u64,
    /// In slots that it reads through what lies behind it.
    pub behind: u64,
}

/// A device of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceStatus {
    /// As the operator calls it.
    pub name: String,
    /// Its own.
    pub uuid: Uuid,
    /// Its number in the pool.
    pub number: u16,
    /// What volumes can use of it, in bytes.
    pub bytes: u64,
    /// Of those, in bytes: used, as in [`Space::used`], whose sum over the devices this is.
    pub used: u64,
    /// Whether it takes part, or is being drained.
    pub state: DeviceState,
    /// It has the pool's metadata.
    pub has_metadata: bool,
    /// What of it is given back.
    pub discard: DiscardStatus,
}

/// A volume of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeStatus {
    /// As people call it.
    pub name: String,
    /// Its own, for ever.
    pub uuid: Uuid,
    /// Size in bytes.
    pub bytes: u64,
    /// Bytes in a block.
    pub block_bytes: u32,
    /// Slots for all of it are set aside.
    pub thick: bool,
    /// How fast it may be.
    pub limits: Limits,
    /// When it was made, in seconds since 1970.
    pub made_s: u64,
    /// What it is beside that.
    pub kind: VolumeKind,
    /// What it takes.
    pub usage: Usage,
    /// How many snapshots it has.
    pub snapshots: u32,
    /// The volume and the snapshot that it was made from.
    pub origin: Option<(String, String)>,
}

/// A snapshot of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// The volume.
    pub volume: String,
    /// As people call it.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// When it was taken, in seconds since 1970.
    pub taken_s: u64,
    /// Its own, for ever; none of one that was taken in a pool of format 1.
    pub uuid: Option<Uuid>,
    /// What it takes.
    pub usage: Usage,
}

/// How a pool is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Nothing becomes durable any more, and why.
    pub failed: Option<String>,
    /// Why what goes on by itself has stopped.
    pub stopped: Option<String>,
    /// A write that needed space failed, and there was none since.
    pub full: bool,
    /// Whether devices are given back what nobody needs.
    pub discard: DiscardMode,
    /// Transactions of its metadata since it was opened.
    pub commits: u64,
}

/// What there is to say of a pool.
#[derive(Clone, Debug)]
pub struct PoolStatus {
    /// Where its space is.
    pub space: Space,
    /// Its devices.
    pub devices: Vec<DeviceStatus>,
    /// Its volumes, in the order of their making.
    pub volumes: Vec<VolumeStatus>,
    /// Their snapshots, oldest first.
    pub snapshots: Vec<SnapshotStatus>,
    /// Transactions of its metadata since it was opened.
    pub commits: u64,
    /// What goes on by itself.
    pub jobs: Vec<Progress>,
    /// Why what goes on by itself has stopped.
    pub stopped: Option<String>,
    /// Whether devices are given back what nobody needs.
    pub discard: DiscardMode,
    /// A write that needed space failed, and there was none since.
    pub full: bool,
    /// Nothing becomes durable any more, and why.
    pub failed: Option<String>,
}
