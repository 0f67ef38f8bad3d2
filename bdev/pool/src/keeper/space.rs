//! Slots for volumes, and where the space of a pool is.

use super::Keeper;
use crate::entry::{Row, Slot};
use crate::error::{Kind, PoolError};
use crate::record::NodeState;
use crate::slots::Slots;
use crate::state::{Mail, ViewId};
use crate::store::{RowKey, StoreError};
use crate::superblock::EXTENT_BYTES;
use crate::volume::NodeMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A volume gets at most this share of what is free at once.
const SHARE: u64 = 16;

/// Where the space of a pool is, in bytes. Exact: counted from the maps.
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

/// What one volume or snapshot takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// In slots that only it names: what was written since its last snapshot, or, of a snapshot,
    /// between the one before it and itself.
    pub own: u64,
    /// In slots that it reads through what lies behind it.
    pub behind: u64,
}

/// Where the space of a pool is, and who takes it.
pub(crate) struct Whereabouts {
    pub space: Space,
    /// By node: what its volume or snapshot takes.
    pub usage: BTreeMap<u64, Usage>,
    /// By device: bytes of it that are used, as in [`Space::used`].
    pub devices: BTreeMap<u16, u64>,
}

/// What volumes have.
#[derive(Default)]
struct Counted {
    /// By volume: slots that its live node names.
    own: BTreeMap<u64, u64>,
    /// By device: slots that wait with a volume to be used.
    stock: BTreeMap<u16, u64>,
}

impl Keeper {
    /// Claims what the map names.
    pub(super) fn claim(&mut self, rows: &BTreeMap<RowKey, Row>) -> Result<(), PoolError> {
        for (number, device) in &self.records.devices {
            let number = u16::try_from(*number).map_err(|_| damaged("a device has no number"))?;
            self.slots.add_device(number, device.slots);
        }
        for ((node, _), row) in rows {
            if !self.records.nodes.contains_key(node) {
                return Err(damaged(&format!("there are rows of node {node}, which is not there")));
            }
            for slot in row.entries().filter_map(|entry| entry.slot()) {
                if !self.slots.claim(slot) {
                    return Err(damaged(&format!("{slot:?} is not there, or is named twice")));
                }
            }
        }
        Ok(())
    }

    pub(super) fn read_maps(&mut self, rows: BTreeMap<RowKey, Row>) {
        let mut nodes: BTreeMap<u64, Vec<(u32, Row)>> = BTreeMap::new();
        for ((node, chunk), row) in rows {
            nodes.entry(node).or_default().push((chunk, row));
        }
        for node in self.records.nodes.keys() {
            let rows = nodes.remove(node).unwrap_or_default();
            self.maps.insert(*node, Arc::new(NodeMap::new(rows)));
        }
    }

    /// Slots that are kept for thick volumes beyond those that they have, and for what is drained.
    pub(super) fn reserved(&self) -> u64 {
        let thick = self.records.volumes.iter().filter(|(_, record)| record.thick);
        let lacking: u64 = thick.map(|(volume, _)| self.lacking(*volume)).sum();
        lacking + self.left_to_drain()
    }

    /// Slots that a volume would need more if all of it were written.
    pub(super) fn lacking(&self, volume: u64) -> u64 {
        let extents = self.node(self.records.volumes[&volume].node).bytes.div_ceil(EXTENT_BYTES);
        extents.saturating_sub(self.views[&volume].held)
    }

    /// Slots that thin volumes can take.
    pub(super) fn available(&self) -> u64 {
        self.slots.free().saturating_sub(self.reserved())
    }

    /// Hands out slots: `wanted` at most, and none where there are fewer than `needed`. Of two volumes
    /// that need two for one write, each would else have the last one taken from the other for ever.
    pub(super) fn grant(&mut self, view: ViewId, wanted: u64, needed: u64) {
        let Some(record) = self.records.volumes.get(&view) else { return };
        let kept_for_it = if record.thick { self.lacking(view) } else { 0 };
        let mut available = self.available();
        if available + kept_for_it < needed.max(1) {
            self.collect_stocks(Some(view));
            available = self.available();
        }
        let share = (available / SHARE).clamp(available.min(needed.max(1)), wanted);
        let count = share.max(kept_for_it.min(wanted)).min(self.slots.free());
        let slots = if count < needed { Vec::new() } else { self.take_slots(count) };
        if !slots.is_empty() {
            self.stocked.insert(view);
            if std::mem::take(&mut self.full) {
                tracing::info!("the pool has space again");
            }
        }
        let kept = self.views.get_mut(&view).expect("as its record");
        kept.held += slots.len() as u64;
        kept.view.post(Mail::Granted(slots));
    }

    /// Takes up to `count` slots. None of them is being discarded: that is waited for where there are no
    /// others.
    fn take_slots(&mut self, count: u64) -> Vec<Slot> {
        let take = |slots: &mut Slots| (0..count).map_while(|_| slots.take()).collect::<Vec<_>>();
        let taken = take(&mut self.slots);
        match taken.is_empty() && self.slots.free() > 0 && self.await_discard() {
            true => take(&mut self.slots),
            false => taken,
        }
    }

    /// Takes a slot.
    pub(super) fn take_slot(&mut self) -> Option<Slot> {
        self.take_slots(1).pop()
    }

    /// A write found no space: a volume that only wants more for later has none refused.
    pub(super) fn found_full(&mut self) {
        if !std::mem::replace(&mut self.full, true) {
            tracing::warn!("the pool is full: writes that need space fail");
        }
    }

    /// Takes back what volumes have in stock, all or all but one.
    pub(super) fn collect_stocks(&mut self, but: Option<ViewId>) {
        let there = |id: &ViewId| self.records.volumes.contains_key(id) && Some(*id) != but;
        let others: Vec<ViewId> = self.stocked.iter().copied().filter(there).collect();
        // A pool that is full is asked for slots by every write that fails: there is nothing to
        // collect then, and nobody is asked.
        self.stocked.retain(|id| Some(*id) == but);
        let mut asked = Vec::new();
        for id in others {
            asked.push((id, self.begin_with(id, |state| state.give_stock())));
        }
        for (id, answer) in asked {
            let slots = self.wait(&answer).unwrap_or_default();
            let kept = self.views.get_mut(&id).expect("just there");
            kept.lose(slots.len() as u64);
            slots.into_iter().for_each(|slot| self.slots.give_unused(slot));
        }
    }

    /// Sets slots aside for a volume that becomes thick, or larger, by `more`.
    ///
    /// # Errors
    /// That there are not enough.
    pub(super) fn may_reserve(&self, more: u64, what: &str) -> Result<(), PoolError> {
        let available = self.available();
        if more <= available {
            return Ok(());
        }
        let mib = EXTENT_BYTES >> 20;
        Err(PoolError::new(
            Kind::Full,
            format!(
                "{what} takes {} MiB, and {} MiB of the pool are neither used nor reserved: add a \
                 device, or delete something.",
                more * mib,
                available * mib
            ),
        ))
    }

    /// What volumes have.
    fn count(&mut self) -> Result<Counted, PoolError> {
        let volumes: Vec<u64> = self.records.volumes.keys().copied().collect();
        let counts = |state: &mut crate::state::VolumeState| {
            let devices = state.stock_slots().iter().map(|slot| slot.device);
            (state.map.own_slots(), devices.collect::<Vec<u16>>())
        };
        let asked: Vec<_> = volumes.iter().map(|id| (*id, self.begin_with(*id, counts))).collect();
        let mut counted = Counted::default();
        for (id, answer) in asked {
            let (own, stock) = self.wait(&answer).ok_or_else(PoolError::gone)?;
            counted.own.insert(id, own);
            stock.into_iter().for_each(|device| *counted.stock.entry(device).or_default() += 1);
        }
        Ok(counted)
    }

    /// Where the space is.
    pub(crate) fn space(&mut self) -> Result<Whereabouts, PoolError> {
        let counted = self.count()?;
        let stock: u64 = counted.stock.values().sum();
        let slots_of: BTreeMap<u64, u64> = self
            .records
            .nodes
            .keys()
            .map(|node| {
                let volume = self.records.volumes.iter().find(|(_, record)| record.node == *node);
                let slots = match volume {
                    Some((volume, _)) => counted.own[volume],
                    None => self.maps.get(node).map_or(0, |map| map.slots()),
                };
                (*node, slots)
            })
            .collect();
        let mut readers: BTreeMap<u64, u32> = BTreeMap::new();
        let mut usage = BTreeMap::new();
        for (node, record) in &self.records.nodes {
            if record.state == NodeState::Leaving {
                continue;
            }
            let mut behind = 0;
            for ancestor in self.lineage(*node) {
                *readers.entry(ancestor).or_default() += 1;
                behind += slots_of[&ancestor];
            }
            let own = slots_of[node];
            let bytes = |slots: u64| slots * EXTENT_BYTES;
            usage.insert(*node, Usage { own: bytes(own), behind: bytes(behind - own) });
        }
        let sum = |of: &dyn Fn(u64) -> bool| -> u64 {
            slots_of.iter().filter(|(node, _)| of(**node)).map(|(_, slots)| slots).sum()
        };
        let reserved = self.reserved();
        let idle = self.slots.free() + stock;
        let space = Space {
            total: self.slots.total() * EXTENT_BYTES,
            free: idle.saturating_sub(reserved) * EXTENT_BYTES,
            used: (self.slots.total() - idle) * EXTENT_BYTES,
            reserved: reserved.min(idle) * EXTENT_BYTES,
            shared: sum(&|node| readers.get(&node).is_some_and(|count| *count > 1)) * EXTENT_BYTES,
            reclaimable: sum(&|node| self.node(node).state == NodeState::Leaving) * EXTENT_BYTES,
        };
        let used = |number: &u16| {
            let idle = counted.stock.get(number).copied().unwrap_or(0);
            (*number, (self.slots.taken_on(*number) - idle) * EXTENT_BYTES)
        };
        let devices = self.members.keys().map(used).collect();
        Ok(Whereabouts { space, usage, devices })
    }

    /// A node and those behind it.
    pub(super) fn lineage(&self, node: u64) -> Vec<u64> {
        std::iter::successors(Some(node), |node| self.node(*node).parent).collect()
    }
}

fn damaged(what: &str) -> PoolError {
    let error = StoreError::Damaged("map", what.to_owned());
    PoolError::new(Kind::Device, format!("{error}. Import the pool from a copy of its devices."))
}
