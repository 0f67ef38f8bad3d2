//! Pools whose metadata could not be written: opened again when their devices work.

use super::Pools;
use crate::pool::OpenPool;
use crate::unit::pool::Outcome;
use bdev_nvme::Health;
use bdev_uring::Fault;
use drives::Drive;
use std::sync::Arc;
use webui_model::{Refusal, RefusalKind};

/// What a file system has to have left for the files of a failed pool, in bytes: with less it would
/// fail again at once.
const ROOM_BYTES: u64 = 4 << 20;

fn outcome(imported: Result<(), Refusal>) -> Outcome {
    match imported {
        Ok(()) => Outcome::Open,
        // Its devices are there, and one does not do what it should.
        Err(refusal) if refusal.kind == RefusalKind::Device => Outcome::Device(refusal.message),
        Err(refusal) => Outcome::Missing(refusal.message),
    }
}

impl Pools<'_> {
    /// Brings back a pool that is wanted.
    pub(crate) fn restore(self, known: &wanted::Pool) -> Outcome {
        if self.node.pool(&known.name).is_some() {
            return Outcome::Open;
        }
        // Somebody may have exported it while this waited for its turn.
        if self.node.wanted().pool_by_uuid(known.uuid).is_none() {
            return Outcome::Missing("nobody wants it any more.".to_owned());
        }
        let imported = self.import_known(known);
        if imported.is_ok() {
            self.learn_names(&known.name);
            self.find_moved(&known.name);
        }
        outcome(imported)
    }

    /// Opens a pool again that failed, if its devices work: what was answered is in its journals.
    ///
    /// A drive that was out had no power, and what its cache held is lost; so may be what a flush
    /// failed for. Journals would speak of blocks that were never written, so they do not count.
    /// Hosts see its namespaces go away and come back: that what they had not flushed may be lost
    /// they are told by errors.
    pub(crate) fn reopen(self, known: &wanted::Pool) -> Outcome {
        let Some(open) = self.node.pool(&known.name) else { return self.restore(known) };
        if !self.has_failed(&open) {
            return Outcome::Open;
        }
        if !self.can_reopen(&open) {
            return Outcome::NotYet;
        }
        tracing::warn!(pool = known.name, "its devices work again: it is opened again");
        match self.close_failed(&open) {
            true => self.restore(known),
            false => Outcome::Stuck,
        }
    }

    /// How often drives of a pool have come back, all together.
    pub(super) fn returns_of(self, pool: &OpenPool) -> u64 {
        let devices = pool.devices();
        let drives = devices.iter().filter_map(|device| self.node.bdevs.drive(device));
        drives.map(|drive| drive.returns()).sum()
    }

    /// Whether a pool failed, and all of its devices work.
    pub(crate) fn can_reopen(self, pool: &OpenPool) -> bool {
        self.has_failed(pool) && pool.devices().iter().all(|device| self.works(pool, device))
    }

    /// Whether nothing of a pool becomes durable any more.
    pub(crate) fn has_failed(self, pool: &OpenPool) -> bool {
        pool.directory().condition().failed.is_some()
    }

    /// Whether a device of a failed pool works.
    fn works(self, pool: &OpenPool, device: &str) -> bool {
        // What was open on a drive that was out is not what it is used by from now on.
        let came_back = self.returns_of(pool) > pool.returns();
        let is_ready = |drive: Arc<Drive>| drive.health() == Health::Ready;
        let has_room = |left: u64| left >= ROOM_BYTES;
        let is_whole = |fault: Fault| matches!(fault, Fault::Lost | Fault::Deleted);
        let bdevs = &self.node.bdevs;
        bdevs.drive(device).is_none_or(is_ready)
            && bdevs.left_bytes(device).is_none_or(has_room)
            && bdevs.fault(device).is_none_or(is_whole)
            && (came_back || pool.takes_writes(device))
    }

    /// Takes a failed pool's namespaces from the hosts, and lets go of it: that it cannot write is
    /// the reason. Whether nothing of it is open any more.
    fn close_failed(self, pool: &Arc<OpenPool>) -> bool {
        let (name, exports) = (pool.name(), self.node.exports());
        let wanted = self.node.wanted();
        for known in wanted.exports_of(name).filter(|known| exports.is_served(known)) {
            if let Err(why) = exports.remove_namespace(&known.subsystem, known.nsid) {
                tracing::error!(why, "a namespace does not go away");
            }
        }
        let devices = pool.devices();
        let lost = devices.iter().filter(|device| self.node.bdevs.forget_lost(device)).count() > 0;
        if (lost || pool.has_lost() || self.returns_of(pool) > pool.returns())
            && let Err(error) = pool.discard_journals()
        {
            tracing::error!(pool = name, %error, "its journals cannot be removed");
            return false;
        }
        self.take(name);
        let devices = match pool.close() {
            Ok(devices) => devices,
            Err(refusal) if refusal.kind == RefusalKind::InUse => {
                self.put_back(pool.clone());
                return false;
            }
            Err(_) => pool.let_go(),
        };
        devices.iter().for_each(|device| self.node.bdevs.release(device));
        true
    }
}
