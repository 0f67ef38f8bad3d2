//! A device is drained: everything on it moves elsewhere, the metadata last, and it is nobody's.

use super::{Keeper, Progress};
use crate::entry::{Entry, Slot};
use crate::error::{Kind, PoolError};
use crate::merge::Copy;
use crate::record::{DeviceRecord, DeviceState};
use crate::state::{Scope, ViewId};
use crate::store::{Store, Update};
use crate::superblock::{EXTENT_BYTES, give_up};
use crate::volume::NodeMap;
use bdev_redb::{BLOCK_BYTES, Label, store_bytes};
use std::sync::Arc;

/// Extents that are moved in one transaction.
const EXTENTS_AT_ONCE: usize = 32;

/// Extents of a volume that are looked at without finding one on the device.
const LOOK_AT: usize = 1 << 16;

/// Bytes of the metadata that are copied at once.
const COPY_BYTES: u64 = 1 << 20;

/// A device that is drained.
pub(super) struct Drain {
    device: u16,
    /// Slots that were on it when it began.
    total: u64,
    /// Where the search for its slots has come to.
    node: u64,
    extent: u64,
}

impl Keeper {
    /// Begins to drain a device.
    pub(crate) fn drain_device(&mut self, name: &str) -> Result<(), PoolError> {
        let number = self.member(name)?;
        let record = self.records.devices[&u32::from(number)].clone();
        if record.state == DeviceState::Draining {
            return Ok(());
        }
        self.collect_stocks(None);
        let used = self.slots.taken_on(number);
        let free_there = self.members[&number].superblock.slots - used;
        let left = self.available().saturating_sub(free_there);
        if self.members.len() == 1 || used > left {
            let mib = EXTENT_BYTES >> 20;
            return Err(PoolError::new(
                Kind::Full,
                format!(
                    "Device \"{name}\" holds {} MiB, and the other devices have {} MiB that are \
                     neither used nor reserved: add a device first, or delete something.",
                    used * mib,
                    if self.members.len() == 1 { 0 } else { left * mib }
                ),
            ));
        }
        self.slots.close_device(number);
        let record = DeviceRecord { state: DeviceState::Draining, ..record };
        self.commit(vec![Update::Device(number.into(), Some(record))])?;
        self.next_drain();
        Ok(())
    }

    /// Has a device that is being drained stay. What has moved stays where it is now.
    pub(crate) fn keep_device(&mut self, name: &str) -> Result<(), PoolError> {
        let number = self.member(name)?;
        let record = self.records.devices[&u32::from(number)].clone();
        if record.state == DeviceState::Member {
            return Ok(());
        }
        let record = DeviceRecord { state: DeviceState::Member, ..record };
        self.commit(vec![Update::Device(number.into(), Some(record))])?;
        self.slots.open_device(number);
        if self.drain.as_ref().is_some_and(|drain| drain.device == number) {
            self.next_drain();
        }
        Ok(())
    }

    /// Goes on with a device that is to be drained.
    pub(super) fn next_drain(&mut self) {
        let mut devices = self.records.devices.iter();
        let next = devices.find(|(_, record)| record.state == DeviceState::Draining);
        self.drain = next.map(|(number, _)| *number as u16).map(|device| {
            self.slots.close_device(device);
            Drain { device, total: self.slots.taken_on(device), node: 0, extent: 0 }
        });
    }

    pub(super) fn can_drain(&self) -> bool {
        self.drain.is_some()
    }

    /// Slots that have to be found elsewhere.
    pub(super) fn left_to_drain(&self) -> u64 {
        self.drain.as_ref().map_or(0, |drain| self.slots.taken_on(drain.device))
    }

    /// How far draining has come.
    pub(crate) fn draining(&self) -> Option<Progress> {
        let drain = self.drain.as_ref()?;
        let device = self.members[&drain.device].name.clone();
        let what = format!("draining device {device}");
        let left = self.slots.taken_on(drain.device);
        let done = drain.total.saturating_sub(left);
        Some(Progress { what, device: Some(device), done, total: drain.total })
    }

    pub(super) fn step_drain(&mut self) -> Result<(), PoolError> {
        let Some(Drain { device, node, extent, .. }) = self.drain else { return Ok(()) };
        let Some(now) = self.records.nodes.range(node..).next().map(|(now, _)| *now) else {
            return self.end_drain(device);
        };
        let from = if now == node { extent } else { 0 };
        let volume = self.directory.tables().owner(now);
        let next = match volume {
            Some(volume) => self.drain_live(device, volume, from)?,
            None => self.drain_past(device, now, from)?,
        };
        let drain = self.drain.as_mut().expect("as before");
        (drain.node, drain.extent) = match next {
            Some(extent) => (now, extent),
            None => (now + 1, 0),
        };
        Ok(())
    }

    /// Moves some extents of a volume. Returns where to go on; none if that was all.
    fn drain_live(
        &mut self,
        device: u16,
        volume: ViewId,
        from: u64,
    ) -> Result<Option<u64>, PoolError> {
        let (found, next) = self.with(volume, move |state| {
            let mut next = None;
            let mut found = Vec::new();
            for (seen, (extent, entry)) in state.map.own_from(from).enumerate() {
                if seen == LOOK_AT || found.len() == EXTENTS_AT_ONCE {
                    next = Some(extent);
                    break;
                }
                if entry.slot().is_some_and(|slot| slot.device == device) {
                    found.push(extent);
                }
            }
            (found, next)
        })?;
        for extent in found {
            let moved = self.hold(&[volume], Scope::Extent(extent));
            let moved = moved.and_then(|()| self.move_extent(device, volume, extent));
            self.release(&[volume]);
            moved?;
        }
        self.commit(Vec::new())?;
        Ok(next)
    }

    /// One extent, while writes to it wait.
    fn move_extent(&mut self, device: u16, volume: ViewId, extent: u64) -> Result<(), PoolError> {
        let entry = self.with(volume, move |state| state.map.own(extent))?;
        if entry.slot().is_none_or(|slot| slot.device != device) {
            return Ok(());
        }
        let slot = self.move_slot(entry)?;
        self.holdings.gain(volume, 1);
        self.with(volume, move |state| {
            state.map.relocate(extent, slot);
            state.commit();
        })
    }

    /// Copies what an entry has to a slot elsewhere.
    fn move_slot(&mut self, entry: Entry) -> Result<Slot, PoolError> {
        let from = entry.slot().expect("it has one");
        let to = self.take_slot().ok_or_else(|| {
            let why = "There is no space left to drain the device into: add one.";
            PoolError::new(Kind::Full, why)
        })?;
        let blocks = entry.blocks();
        let copied = self.copy(Some(Copy { from, to, blocks }));
        copied.inspect_err(|_| self.slots.give(to))?;
        Ok(to)
    }

    fn drain_past(&mut self, device: u16, node: u64, from: u64) -> Result<Option<u64>, PoolError> {
        let mut map = NodeMap::clone(&self.maps[&node]);
        let on = |entry: &Entry| entry.slot().is_some_and(|slot| slot.device == device);
        let mut found = self.maps[&node].entries_from(from).filter(|(_, entry)| on(entry));
        let some: Vec<(u64, Entry)> = found.by_ref().take(EXTENTS_AT_ONCE).collect();
        let next = found.next().map(|(extent, _)| extent);
        drop(found);
        let (mut updates, mut given_up) = (Vec::new(), Vec::new());
        for (extent, entry) in some {
            let slot = self.move_slot(entry)?;
            given_up.extend(entry.slot());
            map.set(extent, entry.moved_to(slot));
            let (chunk, row) = map.row_of(extent);
            updates.push(Update::Row((node, chunk), Box::new(row)));
        }
        self.commit(updates)?;
        let (map, tree) = (Arc::new(map), self.tree(node));
        self.replace_everywhere(node, &map);
        self.set_map(node, map);
        self.free_after_operations(given_up, tree);
        Ok(next)
    }

    /// Nothing names a slot of it any more.
    fn end_drain(&mut self, device: u16) -> Result<(), PoolError> {
        if self.slots.taken_on(device) > 0 {
            // Operations that began before are under way there, or a volume took a slot before it
            // was told: once more from the beginning.
            let drain = self.drain.as_mut().expect("as before");
            (drain.node, drain.extent) = (0, 0);
            self.collect_stocks(None);
            if self.pump.is_none() {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            return Ok(());
        }
        self.end_discards_on(device);
        if self.metadata_device() == Some(device) {
            self.move_metadata(device)?;
        }
        self.commit(vec![Update::Device(device.into(), None)])?;
        let member = self.members.remove(&device).expect("it was drained");
        self.slots.remove_device(device);
        self.devices.remove(device);
        self.reactors.remove_child(&self.devices_bdev, &member.bdev);
        self.next_drain();
        self.describe_devices();
        give_up(&*member.medium).map_err(|error| {
            let why = format!(
                "Device {} is no part of the pool any more, but its superblock could not be \
                 wiped: {error}.",
                member.name
            );
            PoolError::new(Kind::Device, why)
        })
    }

    /// Copies the metadata to another device; from its superblock on, that one counts.
    fn move_metadata(&mut self, from: u16) -> Result<(), PoolError> {
        let others = self.members.iter().filter(|(number, _)| **number != from);
        let roomy = others.max_by_key(|(_, member)| member.superblock.metadata_bytes);
        let to = roomy.map(|(number, _)| *number).expect("checked when it began");
        let store = self.store.take().expect("open while it is kept");
        let source = store.close().map_err(|error| error.to_string());
        let moved = source.and_then(|source| self.copy_metadata(&source, from, to));
        if let Err(why) = &moved {
            self.failed = Some(format!("The pool's metadata could not be moved: {why}."));
        }
        moved.map_err(|why| PoolError::new(Kind::Device, why))
    }

    fn copy_metadata(
        &mut self,
        source: &crate::superblock::Superblock,
        from: u16,
        to: u16,
    ) -> Result<(), String> {
        let io = |error: std::io::Error| error.to_string();
        let (old, new) = (&self.members[&from], &self.members[&to]);
        let length = source.metadata_length.next_multiple_of(BLOCK_BYTES as u64);
        if length > store_bytes(new.superblock.metadata_bytes) {
            return Err(format!("device {} has too small a place for it", new.name));
        }
        let mut at = 0;
        while at < length {
            let now = (length - at).min(COPY_BYTES);
            let mut bytes = vec![0; now as usize];
            old.medium.read(EXTENT_BYTES + at, &mut bytes).map_err(io)?;
            new.medium.write(&[(EXTENT_BYTES + at, &bytes)]).map_err(io)?;
            at += now;
        }
        new.medium.flush().map_err(io)?;
        let new = self.members.get_mut(&to).expect("just there");
        new.superblock.metadata_generation = source.metadata_generation + 1;
        new.superblock.metadata_length = source.metadata_length;
        new.superblock.tenure = source.tenure.clone();
        new.superblock.write_next(&*new.medium).map_err(io)?;
        let (medium, superblock) = (new.medium.clone(), new.superblock.clone());
        self.store = Some(Store::open(medium, superblock).map_err(|error| error.to_string())?);
        self.describe_devices();
        Ok(())
    }
}
