//! What there is to say of a pool.

use super::space::Whereabouts;
use super::{DiscardMode, DiscardStatus, Keeper, Member, Progress, Space, Usage};
use crate::error::PoolError;
use crate::limits::Limits;
use crate::record::{DeviceState, NodeState};
use crate::state::View;
use crate::superblock::EXTENT_BYTES;
use std::sync::Arc;
use uuid::Uuid;

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
    /// What it takes.
    pub usage: Usage,
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
    /// What it takes.
    pub usage: Usage,
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

impl Keeper {
    pub(crate) fn volume_view(&self, name: &str) -> Result<Arc<View>, PoolError> {
        let volume = self.volume(name)?;
        Ok(self.views[&volume].view.clone())
    }

    pub(crate) fn status(&mut self) -> Result<PoolStatus, PoolError> {
        let Whereabouts { space, usage, devices: used } = self.space()?;
        let metadata = self.metadata_device();
        let device = |(number, member): (&u16, &Member)| DeviceStatus {
            name: member.name.clone(),
            uuid: member.superblock.uuid,
            number: *number,
            bytes: member.superblock.slots * EXTENT_BYTES,
            used: used[number],
            state: self.records.devices[&u32::from(*number)].state,
            has_metadata: metadata == Some(*number),
            discard: self.discard_status(*number, member),
        };
        let volumes = self.records.volumes.iter().map(|(number, record)| VolumeStatus {
            name: record.name.clone(),
            uuid: record.uuid,
            bytes: self.records.nodes[&record.node].bytes,
            block_bytes: record.block_bytes,
            thick: record.thick,
            limits: record.limits,
            made_s: record.made_s,
            usage: usage[&record.node],
            origin: self.origin(*number),
        });
        let snapshots = self.records.nodes.iter().filter_map(|(node, record)| {
            let NodeState::Snapshot { volume, name, taken_s } = &record.state else { return None };
            Some(SnapshotStatus {
                volume: self.records.volumes.get(volume)?.name.clone(),
                name: name.clone(),
                bytes: record.bytes,
                taken_s: *taken_s,
                usage: usage[node],
            })
        });
        Ok(PoolStatus {
            space,
            devices: self.members.iter().map(device).collect(),
            volumes: volumes.collect(),
            snapshots: snapshots.collect(),
            commits: self.commits,
            jobs: self.draining().into_iter().chain(self.reclaiming()).collect(),
            stopped: self.stopped.clone(),
            discard: self.discarding.mode,
            full: self.full,
            failed: self.failed.clone(),
        })
    }

    /// The snapshot of another volume that a volume was made from.
    fn origin(&self, volume: u64) -> Option<(String, String)> {
        let behind = self.lineage(self.records.volumes[&volume].node);
        behind.iter().find_map(|node| match &self.records.nodes[node].state {
            NodeState::Snapshot { volume: owner, name, .. } if *owner != volume => {
                Some((self.records.volumes.get(owner)?.name.clone(), name.clone()))
            }
            _ => None,
        })
    }
}
