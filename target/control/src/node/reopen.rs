//! Pools whose metadata could not be written while a drive was out: opened again when it is back.

use super::Node;
use crate::pool::OpenPool;
use bdev_nvme::Health;
use webui_model::RefusalKind;

impl Node {
    /// Opens pools again that wait for nothing but that. Returns their names.
    ///
    /// A drive that was out had no power, and what its cache held is lost: journals would speak of
    /// blocks that were never written, so they do not count. Hosts see its namespaces go away and
    /// come back: that what they had not flushed may be lost they are told by errors.
    pub(crate) fn reopen_pools(&mut self) -> Vec<String> {
        let mut reopened = Vec::new();
        for name in self.pools.keys().cloned().collect::<Vec<_>>() {
            if self.can_reopen(&name) {
                tracing::warn!(pool = name, "its drives work again: it is opened again");
                if self.close_failed(&name) {
                    self.waiting.insert(name);
                }
            }
        }
        for name in self.waiting.clone() {
            self.restore_pools();
            if self.pools.contains_key(&name) {
                self.restore_namespaces();
                self.waiting.remove(&name);
                reopened.push(name);
            } else if !self.state().pools.iter().any(|known| known.name == name) {
                // An operator let go of it.
                self.waiting.remove(&name);
            }
        }
        reopened
    }

    /// How often drives of a pool have come back, all together.
    pub(super) fn returns_of(&self, pool: &OpenPool) -> u64 {
        let drives = pool.devices().filter_map(|device| self.bdevs.drive(device));
        drives.map(|drive| drive.returns()).sum()
    }

    /// Whether a pool failed, a drive of it came back since it was opened, and all of them work.
    fn can_reopen(&self, name: &str) -> bool {
        let pool = &self.pools[name];
        let mut drives = pool.devices().filter_map(|device| self.bdevs.drive(device));
        self.returns_of(pool) > pool.returns
            && drives.all(|drive| drive.health() == Health::Ready)
            && pool.status().is_ok_and(|status| status.failed.is_some())
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
        if let Err(error) = self.pools[name].pool.discard_journals() {
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
