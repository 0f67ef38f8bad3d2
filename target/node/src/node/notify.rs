//! Volumes and snapshots, as far as who uses them has to hear of what is done to them.

use super::{Exports, Pools};
use bdev::Bdev;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;
use wanted::{Request, Source};
use webui_model::Refusal;

impl Exports<'_> {
    /// Tells hosts that a volume is of another size now.
    pub(crate) fn tell_size(self, source: &Source) -> Result<(), Refusal> {
        let Some(pool) = source.pool().and_then(|pool| self.node.pool(pool)) else {
            return Ok(());
        };
        let Some(bdev) = pool.opened(source) else { return Ok(()) };
        let bdev: Arc<dyn Bdev> = bdev;
        self.tell_of(&bdev).map_err(Refusal::unavailable)
    }

    /// Snapshots are another volume's now: their exports go on.
    pub(crate) fn snapshots_moved(
        self,
        pool: &str,
        from: Uuid,
        to: (Uuid, String),
        snapshots: Vec<String>,
    ) -> Result<(), Refusal> {
        let at = |uuid, name: &str, snapshot: &String| Source::Snapshot {
            pool: pool.to_owned(),
            uuid,
            name: name.to_owned(),
            snapshot: snapshot.clone(),
        };
        if let Some(open) = self.node.pool(pool) {
            for snapshot in &snapshots {
                open.moved(&at(from, &to.1, snapshot), &at(to.0, &to.1, snapshot));
            }
        }
        let request = Request::MoveSnapshots { pool: pool.to_owned(), from, to, snapshots };
        self.node.edit(&request).map(drop)
    }
}

impl Pools<'_> {
    /// Takes over the names that the volumes of a pool have now: what is written down for people
    /// follows, here and in what is wanted.
    pub(crate) fn learn_names(self, pool: &str) {
        let Some(open) = self.node.pool(pool) else { return };
        let volumes = open.directory().volumes();
        self.learn(pool, volumes.into_iter().map(|volume| (volume.uuid, volume.name)).collect());
    }

    /// The same, of volumes that have other names.
    pub(crate) fn learn(self, pool: &str, names: BTreeMap<Uuid, String>) {
        if let Some(open) = self.node.pool(pool) {
            open.named(&names);
        }
        let request = Request::LearnNames { pool: pool.to_owned(), names };
        if let Err(refusal) = self.node.edit(&request) {
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
        let mut moved: BTreeMap<(Uuid, Uuid, String), Vec<String>> = BTreeMap::new();
        for shown in self.node.wanted().exports_of(pool) {
            let Source::Snapshot { uuid, snapshot, .. } = &shown.source else { continue };
            let has = |volume: &str| directory.snapshot_named(volume, snapshot).is_some();
            let Some(was) = directory.volume_by_uuid(*uuid) else { continue };
            let owner = was.origin.as_ref().map(|(owner, _)| owner.as_str());
            let owner = owner.filter(|owner| !has(&was.name) && has(owner));
            if let Some(now) = owner.and_then(|owner| directory.volume_named(owner)) {
                moved.entry((*uuid, now.uuid, now.name)).or_default().push(snapshot.clone());
            }
        }
        for ((from, to, name), snapshots) in moved {
            let shown = format!("snapshots {} of {pool}/{name}", snapshots.join(", "));
            let noted = self.node.exports().snapshots_moved(pool, from, (to, name), snapshots);
            if let Err(refusal) = noted {
                tracing::error!("{shown} were another volume's, which cannot be noted: {refusal}");
            }
        }
    }
}
