//! The keeper publishes what it has done: after each step, and before it tells anybody.

use super::{Keeper, Member};
use crate::directory::{Condition, DeviceSlots, DeviceStatus, PoolSlots};
use crate::superblock::{EXTENT_BYTES, FORMAT_2, Superblock};

impl Keeper {
    /// Publishes what may have changed with any step: numbers, jobs, and how the pool is. What is
    /// said of devices beyond that changes with [`Keeper::describe_devices`] alone.
    pub(crate) fn publish(&self) {
        let slots = PoolSlots {
            total: self.slots.total(),
            free: self.slots.free(),
            reserved: self.reserved(),
        };
        let jobs: Vec<_> = self.draining().into_iter().chain(self.reclaiming()).collect();
        self.directory.change(|tables| {
            tables.slots = slots;
            for (device, now) in tables.devices.iter().zip(&mut tables.device_slots) {
                *now = self.device_slots(device.number);
            }
            tables.jobs = jobs;
            let Condition { failed, stopped, full, discard, commits } = &mut tables.condition;
            failed.clone_from(&self.failed);
            stopped.clone_from(&self.stopped);
            (*full, *discard, *commits) = (self.full, self.discarding.mode, self.commits);
        });
    }

    /// Publishes who has the pool.
    pub(super) fn publish_tenure(&self) {
        let Superblock { format, tenure, .. } = self.superblock();
        let (format, tenure) = (*format, tenure.clone());
        self.ledger.set(format >= FORMAT_2, tenure.losses);
        self.directory.change(|tables| (tables.format, tables.tenure) = (format, tenure));
    }

    fn device_slots(&self, number: u16) -> DeviceSlots {
        DeviceSlots {
            taken: self.slots.taken_on(number),
            granted: self.granted.get(&number).copied().unwrap_or(0),
            stale: self.slots.stale_on(number),
            discarded: self.discarding.done_on(number),
        }
    }

    /// Publishes what the devices are: of a pool whose devices, or whether they are given something
    /// back, have changed.
    pub(super) fn describe_devices(&self) {
        let metadata = self.metadata_device();
        let device = |(number, member): (&u16, &Member)| {
            let record = self.records.devices.get(&u32::from(*number))?;
            Some(DeviceStatus {
                name: member.name.clone(),
                uuid: member.superblock.uuid,
                number: *number,
                bytes: member.superblock.slots * EXTENT_BYTES,
                used: 0,
                state: record.state,
                has_metadata: metadata == Some(*number),
                discard: self.discarding.status(*number, member),
            })
        };
        let devices: Vec<DeviceStatus> = self.members.iter().filter_map(device).collect();
        let slots = devices.iter().map(|device| self.device_slots(device.number)).collect();
        self.directory.change(|tables| {
            (tables.devices, tables.device_slots) = (devices, slots);
        });
    }
}
