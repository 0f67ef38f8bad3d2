//! What is published of a pool, with what finds it. Whoever changes one thing here touches that one
//! alone.

use super::family::Family;
use super::status::{Condition, DeviceStatus, SnapshotStatus, Space, Usage, VolumeStatus};
use super::stock::Stock;
use crate::keeper::Progress;
use crate::record::{NodeRecord, NodeState, VolumeRecord};
use crate::state::View;
use crate::store::Update;
use crate::superblock::EXTENT_BYTES;
use crate::tenure::Tenure;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use uuid::Uuid;

/// A volume with its snapshots.
pub(super) struct Volume {
    record: VolumeRecord,
    /// None for the moment between its record and its opening.
    view: Option<Arc<View>>,
    /// By node, so the oldest first.
    snapshots: BTreeMap<u64, String>,
    /// By name.
    nodes: BTreeMap<String, u64>,
}

/// Slots of a device.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DeviceSlots {
    /// Taken, those in stock with volumes among them.
    pub taken: u64,
    /// Handed out to volumes, less those that came back unused.
    pub granted: u64,
    /// Free, and may hold data.
    pub stale: u64,
    /// In bytes: given back since the pool was opened.
    pub discarded: u64,
}

/// Slots of a pool.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PoolSlots {
    /// All, free, and kept for somebody.
    pub total: u64,
    pub free: u64,
    pub reserved: u64,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Tables {
    volumes: BTreeMap<u64, Volume>,
    names: BTreeMap<String, u64>,
    uuids: BTreeMap<Uuid, u64>,
    nodes: BTreeMap<u64, NodeRecord>,
    /// By live node: its volume.
    owners: BTreeMap<u64, u64>,
    pub family: Family,
    pub devices: Vec<DeviceStatus>,
    /// In the order of `devices`.
    pub device_slots: Vec<DeviceSlots>,
    pub slots: PoolSlots,
    pub jobs: Vec<Progress>,
    pub condition: Condition,
    /// Of the pool, and who has it.
    pub format: u32,
    pub tenure: Tenure,
}

/// Slots behind nodes, as far as they were looked at.
pub(super) type Known = HashMap<u64, u64>;

impl Tables {
    /// A commit has said this.
    pub(crate) fn apply(&mut self, update: &Update) {
        match update {
            Update::Volume(number, Some(record)) => self.put_volume(*number, record),
            Update::Volume(number, None) => self.remove_volume(*number),
            Update::Node(number, Some(record)) => self.put_node(*number, record),
            Update::Node(number, None) => {
                self.forget_snapshot(*number);
                self.nodes.remove(number);
                self.family.remove(*number);
            }
            Update::Session(_) | Update::Device(..) | Update::Row(..) => {}
            Update::Record(..) | Update::Writer(..) => {}
        }
    }

    fn put_volume(&mut self, number: u64, record: &VolumeRecord) {
        if let Some(volume) = self.volumes.get_mut(&number) {
            let before = std::mem::replace(&mut volume.record, record.clone());
            if before.name != record.name {
                self.names.remove(&before.name);
                self.names.insert(record.name.clone(), number);
            }
            if before.node != record.node {
                self.owners.remove(&before.node);
                self.owners.insert(record.node, number);
            }
            return;
        }
        self.names.insert(record.name.clone(), number);
        self.uuids.insert(record.uuid, number);
        self.owners.insert(record.node, number);
        let (record, snapshots) = (record.clone(), BTreeMap::new());
        let volume = Volume { record, view: None, snapshots, nodes: BTreeMap::new() };
        self.volumes.insert(number, volume);
    }

    fn remove_volume(&mut self, number: u64) {
        let Some(volume) = self.volumes.remove(&number) else { return };
        self.names.remove(&volume.record.name);
        self.uuids.remove(&volume.record.uuid);
        self.owners.remove(&volume.record.node);
    }

    fn put_node(&mut self, number: u64, record: &NodeRecord) {
        self.forget_snapshot(number);
        if let NodeState::Snapshot { volume, name, .. } = &record.state
            && let Some(volume) = self.volumes.get_mut(volume)
        {
            volume.snapshots.insert(number, name.clone());
            volume.nodes.insert(name.clone(), number);
        }
        self.family.put(number, record.parent, record.state == NodeState::Leaving);
        self.nodes.insert(number, record.clone());
    }

    /// A node may be no snapshot any more, or another volume's.
    fn forget_snapshot(&mut self, number: u64) {
        let record = self.nodes.get(&number);
        if let Some(NodeState::Snapshot { volume, name, .. }) = record.map(|record| &record.state)
            && let Some(volume) = self.volumes.get_mut(volume)
        {
            volume.snapshots.remove(&number);
            volume.nodes.remove(name);
        }
    }

    /// A volume can be opened.
    pub(crate) fn set_view(&mut self, number: u64, view: Arc<View>) {
        if let Some(volume) = self.volumes.get_mut(&number) {
            volume.view = Some(view);
        }
    }

    pub(crate) fn named(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied()
    }

    pub(super) fn with_uuid(&self, uuid: Uuid) -> Option<u64> {
        self.uuids.get(&uuid).copied()
    }

    pub(super) fn view(&self, number: u64) -> Option<Arc<View>> {
        self.volumes.get(&number)?.view.clone()
    }

    pub(crate) fn owner(&self, node: u64) -> Option<u64> {
        self.owners.get(&node).copied()
    }

    /// The snapshots of a volume by their nodes, oldest first.
    pub(crate) fn snapshots_of(&self, volume: u64) -> impl Iterator<Item = (u64, &str)> {
        let snapshots = self.volumes.get(&volume).map(|volume| volume.snapshots.iter());
        snapshots.into_iter().flatten().map(|(node, name)| (*node, name.as_str()))
    }

    pub(crate) fn snapshot_named(&self, volume: u64, name: &str) -> Option<u64> {
        self.volumes.get(&volume)?.nodes.get(name).copied()
    }

    pub(super) fn counts(&self) -> (usize, usize) {
        let shown = self.volumes.values().filter(|volume| !volume.record.kind.hidden);
        shown.fold((0, 0), |(volumes, snapshots), volume| {
            (volumes + 1, snapshots + volume.snapshots.len())
        })
    }

    pub(super) fn hidden(&self) -> Vec<String> {
        let records = self.volumes.values().map(|volume| &volume.record);
        records.filter(|record| record.kind.hidden).map(|record| record.name.clone()).collect()
    }

    fn usage(&self, node: u64, known: &mut Known) -> Usage {
        let view = self.owners.get(&node).and_then(|owner| self.volumes[owner].view.as_ref());
        let with_it = view.map_or(0, |view| view.own_slots());
        let (own, behind) = (self.family.slots(node) + with_it, self.family.behind(node, known));
        Usage { own: own * EXTENT_BYTES, behind: behind * EXTENT_BYTES }
    }

    pub(super) fn volume_status(&self, number: u64, known: &mut Known) -> Option<VolumeStatus> {
        let volume = self.volumes.get(&number)?;
        let record = &volume.record;
        Some(VolumeStatus {
            name: record.name.clone(),
            uuid: record.uuid,
            bytes: self.nodes.get(&record.node).map_or(0, |node| node.bytes),
            block_bytes: record.block_bytes,
            thick: record.thick,
            limits: record.limits,
            made_s: record.made_s,
            kind: record.kind,
            usage: self.usage(record.node, known),
            snapshots: volume.snapshots.len() as u32,
            origin: self.origin(number, record.node),
        })
    }

    pub(super) fn volumes<'a>(
        &'a self,
        known: &'a mut Known,
    ) -> impl Iterator<Item = VolumeStatus> + 'a {
        let shown = self.volumes.iter().filter(|(_, volume)| !volume.record.kind.hidden);
        shown.filter_map(|(number, _)| self.volume_status(*number, known))
    }

    pub(super) fn snapshot_status(&self, node: u64, known: &mut Known) -> Option<SnapshotStatus> {
        let record = self.nodes.get(&node)?;
        let NodeState::Snapshot { volume, name, taken_s, uuid } = &record.state else {
            return None;
        };
        Some(SnapshotStatus {
            volume: self.volumes.get(volume)?.record.name.clone(),
            name: name.clone(),
            bytes: record.bytes,
            taken_s: *taken_s,
            uuid: *uuid,
            usage: self.usage(node, known),
        })
    }

    pub(super) fn snapshots<'a>(
        &'a self,
        known: &'a mut Known,
    ) -> impl Iterator<Item = SnapshotStatus> + 'a {
        self.nodes.keys().filter_map(|node| self.snapshot_status(*node, known))
    }

    /// The snapshot of another volume that a volume was made from.
    fn origin(&self, volume: u64, live: u64) -> Option<(String, String)> {
        self.family.lineage(live).find_map(|node| match &self.nodes.get(&node)?.state {
            NodeState::Snapshot { volume: owner, name, .. } if *owner != volume => {
                Some((self.volumes.get(owner)?.record.name.clone(), name.clone()))
            }
            _ => None,
        })
    }

    /// Where the space is, of which volumes have so much in stock.
    pub(super) fn space(&self, stock: &Stock) -> Space {
        let in_stock =
            |device: &DeviceStatus, slots: &DeviceSlots| stock.of(device.number, slots.granted);
        let pairs = self.devices.iter().zip(&self.device_slots);
        let in_stock: u64 = pairs.map(|(device, slots)| in_stock(device, slots)).sum();
        let PoolSlots { total, free, reserved } = self.slots;
        let idle = free + in_stock;
        Space {
            total: total * EXTENT_BYTES,
            free: idle.saturating_sub(reserved) * EXTENT_BYTES,
            used: total.saturating_sub(idle) * EXTENT_BYTES,
            reserved: reserved.min(idle) * EXTENT_BYTES,
            shared: self.family.shared() * EXTENT_BYTES,
            reclaimable: self.family.leaving() * EXTENT_BYTES,
        }
    }

    pub(super) fn devices(&self, stock: &Stock) -> Vec<DeviceStatus> {
        let pairs = self.devices.iter().zip(&self.device_slots);
        let now = |(device, slots): (&DeviceStatus, &DeviceSlots)| {
            let mut device = device.clone();
            let used = slots.taken.saturating_sub(stock.of(device.number, slots.granted));
            device.used = used * EXTENT_BYTES;
            device.discard.waiting = slots.stale * EXTENT_BYTES;
            device.discard.done = slots.discarded;
            device
        };
        pairs.map(now).collect()
    }
}
