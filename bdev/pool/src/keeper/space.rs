//! Slots for volumes: handed out, taken back, and kept for somebody.

use super::Keeper;
use crate::entry::{Row, Slot};
use crate::error::{Kind, PoolError};
use crate::slots::Slots;
use crate::state::{Mail, ViewId};
use crate::store::{RowKey, StoreError};
use crate::superblock::EXTENT_BYTES;
use crate::volume::NodeMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A volume gets at most this share of what is free at once.
const SHARE: u64 = 16;

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
        let numbers: Vec<u64> = self.records.nodes.keys().copied().collect();
        for node in numbers {
            let rows = nodes.remove(&node).unwrap_or_default();
            self.set_map(node, Arc::new(NodeMap::new(rows)));
        }
    }

    /// Slots that are kept for thick volumes beyond those that they have, and for what is drained.
    pub(super) fn reserved(&self) -> u64 {
        self.holdings.lacking() + self.left_to_drain()
    }

    /// Slots that thin volumes can take.
    pub(super) fn available(&self) -> u64 {
        self.slots.free().saturating_sub(self.reserved())
    }

    /// Hands out slots: `wanted` at most, and none where there are fewer than `needed`. Of two volumes
    /// that need two for one write, each would else have the last one taken from the other for ever.
    pub(super) fn grant(&mut self, view: ViewId, wanted: u64, needed: u64) {
        if !self.records.volumes.contains_key(&view) {
            return;
        }
        let kept_for_it = self.holdings.lacking_of(view);
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
        self.holdings.gain(view, slots.len() as u64);
        for slot in &slots {
            *self.granted.entry(slot.device).or_default() += 1;
        }
        self.publish();
        self.view(view).post(Mail::Granted(slots));
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

    /// Takes slots back from a volume's stock.
    pub(super) fn take_back(&mut self, slots: Vec<Slot>) {
        for slot in slots {
            self.slots.give_unused(slot);
            *self.granted.entry(slot.device).or_default() -= 1;
        }
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
            self.holdings.lose(id, slots.len() as u64);
            self.take_back(slots);
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

    /// A node and those behind it.
    pub(super) fn lineage(&self, node: u64) -> Vec<u64> {
        self.directory.tables().family.lineage(node).collect()
    }
}

fn damaged(what: &str) -> PoolError {
    let error = StoreError::Damaged("map", what.to_owned());
    PoolError::new(Kind::Device, format!("{error}. Import the pool from a copy of its devices."))
}
