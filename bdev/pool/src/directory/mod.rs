//! What a pool says of itself, for any thread to read: neither its keeper nor a reactor is asked, so
//! that nobody who reads waits for a device. To read one thing costs that thing; to read all of them
//! is one pass.
//!
//! The keeper publishes each change, of one volume when one volume changes; what volumes take they
//! count themselves. The lock is held for as long as that takes, by nobody who waits for anything.

mod family;
mod status;
mod stock;
mod tables;

pub use status::{Condition, DeviceStatus, PoolStatus, SnapshotStatus, Space, Usage, VolumeStatus};
pub(crate) use stock::Stock;
pub(crate) use tables::{DeviceSlots, PoolSlots, Tables};

use crate::keeper::Progress;
use crate::state::View;
use crate::tenure::Tenure;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use uuid::Uuid;

/// See the module.
#[derive(Default)]
pub struct Directory {
    tables: RwLock<Tables>,
    stock: Arc<Stock>,
}

impl Directory {
    /// The tables, to look at. A keeper that panics ends the process, so there is no poison.
    pub(crate) fn tables(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is published. Only the keeper does.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut Tables) -> R) -> R {
        change(&mut self.tables.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where volumes count the slots that they use.
    pub(crate) fn stock(&self) -> &Arc<Stock> {
        &self.stock
    }

    pub(crate) fn view_named(&self, volume: &str) -> Option<Arc<View>> {
        let tables = self.tables();
        tables.view(tables.named(volume)?)
    }

    /// All volumes but those that are hidden, in the order of their making.
    pub fn volumes(&self) -> Vec<VolumeStatus> {
        self.tables().volumes(&mut HashMap::new()).collect()
    }

    /// How many volumes and snapshots there are, without those that are hidden.
    pub fn counts(&self) -> (usize, usize) {
        self.tables().counts()
    }

    /// The volumes that are hidden, by name.
    pub fn hidden(&self) -> Vec<String> {
        self.tables().hidden()
    }

    /// A volume by its UUID, hidden or not.
    pub fn volume_by_uuid(&self, uuid: Uuid) -> Option<VolumeStatus> {
        let tables = self.tables();
        tables.volume_status(tables.with_uuid(uuid)?, &mut HashMap::new())
    }

    /// A volume by its name, hidden or not.
    pub fn volume_named(&self, name: &str) -> Option<VolumeStatus> {
        let tables = self.tables();
        tables.volume_status(tables.named(name)?, &mut HashMap::new())
    }

    /// All snapshots, oldest first.
    pub fn snapshots(&self) -> Vec<SnapshotStatus> {
        self.tables().snapshots(&mut HashMap::new()).collect()
    }

    /// The snapshots of a volume, oldest first; none where there is no such volume.
    pub fn snapshots_of(&self, volume: &str) -> Vec<SnapshotStatus> {
        let tables = self.tables();
        let Some(number) = tables.named(volume) else { return Vec::new() };
        let mut known = HashMap::new();
        let nodes = tables.snapshots_of(number).map(|(node, _)| node);
        nodes.filter_map(|node| tables.snapshot_status(node, &mut known)).collect()
    }

    /// A snapshot of a volume by its name.
    pub fn snapshot_named(&self, volume: &str, name: &str) -> Option<SnapshotStatus> {
        let tables = self.tables();
        let node = tables.snapshot_named(tables.named(volume)?, name)?;
        tables.snapshot_status(node, &mut HashMap::new())
    }

    /// Where the space is.
    pub fn space(&self) -> Space {
        self.tables().space(&self.stock)
    }

    /// The devices.
    pub fn devices(&self) -> Vec<DeviceStatus> {
        self.tables().devices(&self.stock)
    }

    /// What goes on by itself.
    pub fn jobs(&self) -> Vec<Progress> {
        self.tables().jobs.clone()
    }

    /// How the pool is.
    pub fn condition(&self) -> Condition {
        self.tables().condition.clone()
    }

    /// Its format.
    pub fn format(&self) -> u32 {
        self.tables().format
    }

    /// Who has it, and what may have been lost: nobody and nothing in a pool of format 1.
    pub fn tenure(&self) -> Tenure {
        self.tables().tenure.clone()
    }

    /// Everything, as of one moment.
    pub fn status(&self) -> PoolStatus {
        let tables = self.tables();
        let mut known = HashMap::new();
        let Condition { failed, stopped, full, discard, commits } = tables.condition.clone();
        PoolStatus {
            space: tables.space(&self.stock),
            devices: tables.devices(&self.stock),
            volumes: tables.volumes(&mut known).collect(),
            snapshots: tables.snapshots(&mut known).collect(),
            commits,
            jobs: tables.jobs.clone(),
            stopped,
            discard,
            full,
            failed,
        }
    }
}
