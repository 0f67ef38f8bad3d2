//! Snapshots.

use super::ControlPlane;
use super::view::{View, name};
use super::volumes::forget;
use crate::node::Node;
use crate::pool::OpenPool;
use crate::unit::schedule::{Claim, Key};
use bdev_pool::SnapshotStatus;
use std::collections::BTreeMap;
use wanted::{Request, Source};
use webui_model::{
    EventKind, GroupSnapshotCreate, Made, Name, Nqn, ObjectKind, Refusal, Snapshot, SnapshotCreate,
    SnapshotRef, Status, VolumeRef,
};

/// Volumes that were made from a snapshot, by its volume and its name.
type Clones = BTreeMap<(String, String), Vec<String>>;

fn clones(open: &OpenPool) -> Clones {
    let mut clones = Clones::new();
    for volume in open.directory().volumes() {
        if let Some(origin) = volume.origin {
            clones.entry(origin).or_default().push(volume.name);
        }
    }
    clones
}

impl View<'_> {
    pub(super) fn snapshots(
        &self,
        pool: &Name,
        volume: Option<&Name>,
    ) -> Result<Vec<Snapshot>, Refusal> {
        if let Some(volume) = volume {
            self.status_of(&VolumeRef { pool: pool.clone(), volume: volume.clone() })?;
        }
        self.pool(pool.as_str())?;
        let Some(open) = self.pools.get(pool.as_str()) else { return Ok(Vec::new()) };
        let mut found = match volume {
            Some(volume) => open.directory().snapshots_of(volume.as_str()),
            None => open.directory().snapshots(),
        };
        // Those of one volume stay in the order in which they were taken.
        found.sort_by(|a, b| a.volume.cmp(&b.volume));
        let clones = clones(open);
        found.iter().map(|s| self.show_snapshot(pool.as_str(), open, s, &clones)).collect()
    }

    pub(super) fn snapshot_names(&self, volume: &VolumeRef) -> Result<Vec<Name>, Refusal> {
        let snapshots = self.snapshots(&volume.pool, Some(&volume.volume))?;
        Ok(snapshots.into_iter().map(|snapshot| snapshot.name).collect())
    }

    pub(super) fn snapshot(&self, snapshot: &SnapshotRef) -> Result<Snapshot, Refusal> {
        let SnapshotRef { pool, volume, snapshot: at } = snapshot;
        self.status_of(&VolumeRef { pool: pool.clone(), volume: volume.clone() })?;
        let open = self.pool_of(pool)?;
        match open.directory().snapshot_named(volume.as_str(), at.as_str()) {
            Some(found) => self.show_snapshot(pool.as_str(), open, &found, &clones(open)),
            None => {
                Err(Refusal::not_found(format!("Volume {pool}/{volume} has no snapshot {at}.")))
            }
        }
    }

    fn show_snapshot(
        &self,
        pool: &str,
        open: &OpenPool,
        snapshot: &SnapshotStatus,
        clones: &Clones,
    ) -> Result<Snapshot, Refusal> {
        let of = open.directory().volume_named(&snapshot.volume);
        let of = of.ok_or_else(|| {
            Refusal::unavailable(format!("Volume {} is on its way out.", snapshot.volume))
        })?;
        let source = Source::Snapshot {
            pool: pool.into(),
            uuid: of.uuid,
            name: of.name.clone(),
            snapshot: snapshot.name.clone(),
        };
        let clones = clones.get(&(snapshot.volume.clone(), snapshot.name.clone()));
        let clones = clones.into_iter().flatten().map(|volume| name(volume));
        let export = self.export_of(&source)?;
        let known = self.wanted.namespace_of(&source);
        let (how, reason) = match known.and_then(|known| self.trouble_of(known)) {
            Some(why) => (Status::Failed, format!("it is not served: {why}")),
            None if export.is_some() => (Status::Ok, "exported, read only".to_owned()),
            None => (Status::Ok, "kept".to_owned()),
        };
        Ok(Snapshot {
            pool: name(pool)?,
            volume: name(&snapshot.volume)?,
            name: name(&snapshot.name)?,
            bytes: snapshot.bytes,
            created_at_ms: snapshot.taken_s.saturating_mul(1000),
            exclusive_bytes: snapshot.usage.own,
            clones: clones.collect::<Result<_, _>>()?,
            export,
            status: how,
            reason,
        })
    }
}

/// Snapshots, as operators change them.
#[derive(Clone, Copy)]
pub(super) struct Snapshots<'a>(pub &'a ControlPlane);

/// What changing a snapshot needs: its volume.
pub(super) fn claims(snapshot: &SnapshotRef) -> Vec<Claim> {
    let SnapshotRef { pool, volume, .. } = snapshot;
    super::volumes::claims(&VolumeRef { pool: pool.clone(), volume: volume.clone() })
}

fn take(node: &Node, pool: &Name, volumes: &[Name], at: &Name) -> Result<(), Refusal> {
    let volumes: Vec<String> = volumes.iter().map(ToString::to_string).collect();
    let now_s = super::now_ms() / 1000;
    node.pools().ask(pool.as_str(), |pool| pool.snapshot(&volumes, at.as_str(), now_s))
}

impl Snapshots<'_> {
    pub(super) fn create(
        self,
        volume: &VolumeRef,
        request: &SnapshotCreate,
    ) -> Result<Made<Snapshot>, Refusal> {
        let snapshot = SnapshotRef {
            pool: volume.pool.clone(),
            volume: volume.volume.clone(),
            snapshot: request.name.clone(),
        };
        let volume = volume.clone();
        self.0.change(format!("taking snapshot {snapshot}"), claims(&snapshot), move |plane| {
            let view = View::of(&plane.node);
            view.status_of(&volume)?;
            if let Ok(there) = view.snapshot(&snapshot) {
                return Ok(Made::Existing(there));
            }
            let (pool, of, at) = (&volume.pool, &volume.volume, &snapshot.snapshot);
            take(&plane.node, pool, std::slice::from_ref(of), at)?;
            let message = format!("Snapshot {snapshot} is taken.");
            plane.done(EventKind::Created, (ObjectKind::Snapshot, &snapshot), message);
            View::of(&plane.node).snapshot(&snapshot).map(Made::New)
        })
    }

    pub(super) fn create_group(
        self,
        pool: &Name,
        request: GroupSnapshotCreate,
    ) -> Result<Vec<Snapshot>, Refusal> {
        let of = |volume: &Name| {
            let (pool, volume) = (pool.to_string(), volume.to_string());
            Claim::sole(Key::Volume(pool, volume))
        };
        let mut claims = vec![Claim::shared(Key::Pool(pool.to_string()))];
        claims.extend(request.volumes.iter().map(of));
        claims.sort();
        // One that is named twice is refused by the pool.
        claims.dedup();
        let pool = pool.clone();
        let what = format!("taking snapshots {} in pool {pool}", request.name);
        self.0.change(what, claims, move |plane| {
            let at = |volume: &Name| SnapshotRef {
                pool: pool.clone(),
                volume: volume.clone(),
                snapshot: request.name.clone(),
            };
            take(&plane.node, &pool, &request.volumes, &request.name)?;
            for volume in &request.volumes {
                let snapshot = at(volume);
                let message = format!("Snapshot {snapshot} is taken, with those of its group.");
                plane.done(EventKind::Created, (ObjectKind::Snapshot, &snapshot), message);
            }
            let view = View::of(&plane.node);
            request.volumes.iter().map(|volume| view.snapshot(&at(volume))).collect()
        })
    }

    pub(super) fn delete(self, snapshot: &SnapshotRef) -> Result<(), Refusal> {
        let SnapshotRef { pool, volume, snapshot: at } = snapshot;
        let own = Nqn::of_snapshot(pool, volume, at);
        let node = &self.0.node;
        let source = node.pools().snapshot_source(pool.as_str(), volume.as_str(), at.as_str());
        let mut claims = claims(snapshot);
        claims.extend(super::volumes::export_claims(self.0, &own, source.ok().as_ref(), None));
        let snapshot = snapshot.clone();
        self.0.change(format!("deleting snapshot {snapshot}"), claims, move |plane| {
            let (node, SnapshotRef { pool, volume, snapshot: at }) = (&*plane.node, &snapshot);
            let (pool, volume, at) = (pool.as_str(), volume.as_str(), at.as_str());
            let source = node.pools().snapshot_source(pool, volume, at)?;
            let edited = node.exports().change(&Request::DeleteSnapshot(snapshot.clone()))?;
            forget(node, &source);
            let deleted = node.pools().ask(pool, |pool| pool.delete_snapshot(volume, at));
            deleted.inspect_err(|_| node.exports().take_back(&edited))?;
            let message = format!("Snapshot {snapshot} is deleted.");
            plane.done(EventKind::Deleted, (ObjectKind::Snapshot, &snapshot), message);
            Ok(())
        })
    }
}
