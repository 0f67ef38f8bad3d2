//! Volumes and snapshots, as far as who uses them has to hear of what is done to them.

use super::{Exports, Pools};
use crate::state::Source;
use bdev::Bdev;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;
use webui_model::Refusal;

impl Exports<'_> {
    /// Exports a source no more. Nothing, if it is not exported.
    pub(crate) fn unexport(self, source: &Source) -> Result<(), Refusal> {
        let known = self.node.state().namespace_of(source).cloned();
        let Some(known) = known else { return Ok(()) };
        self.forget_namespace(&known)
    }

    /// Refuses while hosts are connected to a source, unless forced.
    pub(crate) fn is_idle(self, source: &Source, force: bool, what: &str) -> Result<(), Refusal> {
        let hosts = self.connected_to(source);
        if force || hosts.is_empty() {
            return Ok(());
        }
        Err(Refusal::in_use(format!(
            "{} connected to {source}: disconnect {} there, or force {what}.",
            match &hosts[..] {
                [host] => format!("{host} is"),
                hosts => format!("{} hosts are", hosts.len()),
            },
            if hosts.len() == 1 { "it" } else { "them" },
        )))
    }

    /// Tells hosts that a volume is of another size now.
    pub(crate) fn tell_size(self, source: &Source) -> Result<(), Refusal> {
        let Some(pool) = source.pool().and_then(|pool| self.node.pool(pool)) else {
            return Ok(());
        };
        let Some(bdev) = pool.opened(source) else { return Ok(()) };
        let bdev: Arc<dyn Bdev> = bdev;
        self.tell_of(&bdev).map_err(Refusal::unavailable)
    }

    /// A snapshot is another volume's now: its export goes on.
    pub(crate) fn snapshot_moved(self, from: &Source, to: &Source) -> Result<(), Refusal> {
        if let Some(pool) = from.pool().and_then(|pool| self.node.pool(pool)) {
            pool.moved(from, to);
        }
        self.node.change_state(|state| {
            for known in state.namespaces.iter_mut().filter(|known| known.source.is(from)) {
                known.source = to.clone();
            }
        })
    }
}

impl Pools<'_> {
    /// Takes over the names that the volumes of a pool have now: what is written down for people
    /// follows, here and in the state.
    pub(crate) fn learn_names(self, pool: &str) {
        let Some(open) = self.node.pool(pool) else { return };
        let names: BTreeMap<Uuid, String> =
            open.directory().volumes().into_iter().map(|v| (v.uuid, v.name)).collect();
        open.named(&names);
        let learned = self.node.change_state(|state| {
            let of_it = state.namespaces.iter_mut().filter(|n| n.source.pool() == Some(pool));
            of_it.for_each(|known| known.source.named(&names));
        });
        if let Err(refusal) = learned {
            // Names there are for people: what is exported is found by its UUID.
            tracing::warn!(pool, "new names are not written down: {refusal}");
        }
    }

    /// Finds the exported snapshots of a pool that another volume has than was written down: it took
    /// them over, and the appliance ended before that was noted. Whoever takes over snapshots is
    /// then what their old volume was made from.
    pub(crate) fn find_moved(self, pool: &str) {
        let Some(open) = self.node.pool(pool) else { return };
        let directory = open.directory();
        let mut moved = Vec::new();
        for known in &self.node.state().namespaces {
            let Source::Snapshot { pool: of, uuid, snapshot, .. } = &known.source else { continue };
            let has = |volume: &str| directory.snapshot_named(volume, snapshot).is_some();
            let was = directory.volume_by_uuid(*uuid).filter(|_| of == pool);
            let Some(was) = was else { continue };
            let owner = was.origin.as_ref().map(|(owner, _)| owner.as_str());
            let owner = owner.filter(|owner| !has(&was.name) && has(owner));
            if let Some(now) = owner.and_then(|owner| directory.volume_named(owner)) {
                let (pool, snapshot) = (of.clone(), snapshot.clone());
                let to =
                    Source::Snapshot { pool, uuid: now.uuid, name: now.name.clone(), snapshot };
                moved.push((known.source.clone(), to));
            }
        }
        for (from, to) in moved {
            if let Err(refusal) = self.node.exports().snapshot_moved(&from, &to) {
                tracing::error!("{from} is {to} now, which cannot be noted: {refusal}");
            }
        }
    }
}
