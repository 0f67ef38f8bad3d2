//! Pools whose metadata could not be written: opened again when their devices work.

use super::Node;
use crate::pool::OpenPool;
use bdev_nvme::Health;
use bdev_uring::Fault;
use drives::Drive;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use webui_model::RefusalKind;

/// What a file system has to have left for the files of a failed pool, in bytes: with less it would
/// fail again at once.
const ROOM_BYTES: u64 = 4 << 20;

impl Node {
    /// Opens pools again that failed, as soon as their devices work: what was answered is in their
    /// journals. Returns their names. With `look` those that failed are looked for, which writes to
    /// their devices; else only what was closed before is opened.
    ///
    /// A drive that was out had no power, and what its cache held is lost; so may be what a flush
    /// failed for. Journals would speak of blocks that were never written, so they do not count.
    /// Hosts see its namespaces go away and come back: that what they had not flushed may be lost
    /// they are told by errors.
    ///
    /// A device may take what is written to see whether it works, and nothing of what follows: so each
    /// try has a longer wait behind it.
    pub(crate) fn reopen_pools(&mut self, look: bool) -> Vec<String> {
        let now = Instant::now();
        for name in self.pools.keys().cloned().collect::<Vec<_>>() {
            if self.returns_of(&self.pools[&name]) > self.pools[&name].returns {
                // Another drive, as it were.
                self.backoff.forget(&name);
            } else if !look || !self.backoff.is_due(&name, now) {
                continue;
            }
            if !self.has_failed(&name) {
                self.backoff.works(&name, now);
            } else if self.can_reopen(&name) {
                tracing::warn!(pool = name, "its devices work again: it is opened again");
                self.begin_again(&name);
            }
        }
        let due = self.waiting.iter().filter(|name| self.backoff.is_due(name, now));
        let due: Vec<String> = due.cloned().collect();
        due.into_iter().filter(|name| self.open_again(name, now)).collect()
    }

    /// Opens a pool that was closed since it failed. Whether it is open.
    fn open_again(&mut self, name: &str, now: Instant) -> bool {
        let known = self.state().pools.iter().find(|known| known.name == name).cloned();
        let Some(known) = known else {
            // An operator let go of it.
            self.waiting.remove(name);
            self.backoff.forget(name);
            return false;
        };
        if !self.pools.contains_key(name) {
            self.backoff.tried(name, now);
            self.restore_pool(&known);
        }
        let is_open = self.pools.contains_key(name);
        if is_open {
            self.restore_namespaces();
            self.waiting.remove(name);
        }
        is_open
    }

    /// When a pool that failed is tried again, as a sentence; none if that is any moment.
    pub(crate) fn next_try(&self, name: &str) -> Option<String> {
        let left = self.backoff.left(name, Instant::now()).filter(|left| !left.is_zero())?;
        let since_1970 = (SystemTime::now() + left).duration_since(UNIX_EPOCH).ok()?;
        let second = since_1970.as_secs() % (24 * 3600);
        Some(format!(
            "The next attempt is at {:02}:{:02}:{:02} UTC, or when somebody imports it.",
            second / 3600,
            second / 60 % 60,
            second % 60
        ))
    }

    /// How often drives of a pool have come back, all together.
    pub(super) fn returns_of(&self, pool: &OpenPool) -> u64 {
        let drives = pool.devices().filter_map(|device| self.bdevs.drive(device));
        drives.map(|drive| drive.returns()).sum()
    }

    /// Whether a pool failed, and all of its devices work.
    pub(crate) fn can_reopen(&self, name: &str) -> bool {
        let pool = &self.pools[name];
        self.has_failed(name) && pool.devices().all(|device| self.works(pool, device))
    }

    /// Whether nothing of a pool becomes durable any more.
    pub(crate) fn has_failed(&self, name: &str) -> bool {
        let failed = |pool: &OpenPool| pool.status().is_ok_and(|status| status.failed.is_some());
        self.pools.get(name).is_some_and(failed)
    }

    /// Whether a device of a failed pool works.
    fn works(&self, pool: &OpenPool, device: &str) -> bool {
        // What was open on a drive that was out is not what it is used by from now on.
        let came_back = self.returns_of(pool) > pool.returns;
        let is_ready = |drive: &Arc<Drive>| drive.health() == Health::Ready;
        let has_room = |left: u64| left >= ROOM_BYTES;
        let is_whole = |fault: Fault| matches!(fault, Fault::Lost | Fault::Deleted);
        self.bdevs.drive(device).is_none_or(is_ready)
            && self.bdevs.left_bytes(device).is_none_or(has_room)
            && self.bdevs.fault(device).is_none_or(is_whole)
            && (came_back || pool.takes_writes(device))
    }

    /// Closes a failed pool, and has it opened again when it can be.
    pub(crate) fn begin_again(&mut self, name: &str) {
        match self.close_failed(name) {
            true => drop(self.waiting.insert(name.to_owned())),
            false => self.backoff.tried(name, Instant::now()),
        }
    }

    /// An operator wants a pool: it is tried at once.
    pub(crate) fn want_now(&mut self, name: &str) {
        self.backoff.forget(name);
    }

    /// Takes a failed pool's namespaces from the hosts, and lets go of it: that it cannot write is
    /// the reason. Whether nothing of it is open any more.
    fn close_failed(&mut self, name: &str) -> bool {
        let of = |known: &&crate::state::KnownNamespace| known.source.pool() == Some(name);
        let known: Vec<_> = self.state().namespaces.iter().filter(of).cloned().collect();
        for known in known.iter().filter(|known| self.is_served(known)).collect::<Vec<_>>() {
            if let Err(why) = self.remove_namespace(&known.subsystem, known.nsid) {
                tracing::error!(why, "a namespace does not go away");
            }
        }
        let pool = &self.pools[name];
        let devices: Vec<String> = pool.devices().map(str::to_owned).collect();
        let lost = devices.iter().filter(|device| self.bdevs.forget_lost(device)).count() > 0;
        if (lost || pool.has_lost() || self.returns_of(pool) > pool.returns)
            && let Err(error) = pool.pool.discard_journals()
        {
            tracing::error!(pool = name, %error, "its journals cannot be removed");
            return false;
        }
        let pool = self.pools.remove(name).expect("it was just looked at");
        let devices = match pool.close() {
            Ok(devices) => devices,
            Err(left) if left.1.kind == RefusalKind::InUse => {
                self.pools.insert(name.to_owned(), left.0);
                return false;
            }
            Err(left) => left.0.let_go(),
        };
        devices.iter().for_each(|device| self.bdevs.release(device));
        true
    }
}
