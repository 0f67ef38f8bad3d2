//! Snapshots.

use super::ControlPlane;
use super::view::{View, name};
use super::volumes::forget;
use crate::state::Source;
use bdev_pool::SnapshotStatus;
use webui_model::{
    EventKind, GroupSnapshotCreate, Made, Name, ObjectKind, Refusal, Snapshot, SnapshotCreate,
    SnapshotRef, Status, VolumeRef,
};

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
        let Some(status) = self.statuses.get(pool.as_str()) else { return Ok(Vec::new()) };
        let wanted = |s: &&SnapshotStatus| volume.is_none_or(|volume| volume.as_str() == s.volume);
        let mut found: Vec<&SnapshotStatus> = status.snapshots.iter().filter(wanted).collect();
        // Those of one volume stay in the order in which they were taken.
        found.sort_by(|a, b| a.volume.cmp(&b.volume));
        found.into_iter().map(|snapshot| self.show_snapshot(pool.as_str(), snapshot)).collect()
    }

    pub(super) fn snapshot_names(&self, volume: &VolumeRef) -> Result<Vec<Name>, Refusal> {
        let snapshots = self.snapshots(&volume.pool, Some(&volume.volume))?;
        Ok(snapshots.into_iter().map(|snapshot| snapshot.name).collect())
    }

    pub(super) fn snapshot(&self, snapshot: &SnapshotRef) -> Result<Snapshot, Refusal> {
        let SnapshotRef { pool, volume, snapshot: at } = snapshot;
        self.status_of(&VolumeRef { pool: pool.clone(), volume: volume.clone() })?;
        let mut here = self.statuses[pool.as_str()].snapshots.iter();
        let found = here.find(|s| s.volume == volume.as_str() && s.name == at.as_str());
        match found {
            Some(found) => self.show_snapshot(pool.as_str(), found),
            None => {
                Err(Refusal::not_found(format!("Volume {pool}/{volume} has no snapshot {at}.")))
            }
        }
    }

    fn show_snapshot(&self, pool: &str, snapshot: &SnapshotStatus) -> Result<Snapshot, Refusal> {
        let status = &self.statuses[pool];
        let of = status.volumes.iter().find(|volume| volume.name == snapshot.volume);
        let of = of.ok_or_else(|| {
            Refusal::unavailable(format!("Volume {} is on its way out.", snapshot.volume))
        })?;
        let source = Source::Snapshot {
            pool: pool.into(),
            uuid: of.uuid,
            name: of.name.clone(),
            snapshot: snapshot.name.clone(),
        };
        let origin = (snapshot.volume.as_str(), snapshot.name.as_str());
        let is_clone = |volume: &&bdev_pool::VolumeStatus| {
            volume.origin.as_ref().map(|(v, s)| (v.as_str(), s.as_str())) == Some(origin)
        };
        let clones = status.volumes.iter().filter(is_clone).map(|volume| name(&volume.name));
        let export = self.export_of(&source)?;
        let known = self.node.state().namespace_of(&source);
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

impl ControlPlane {
    pub(super) fn take(
        &self,
        volume: &VolumeRef,
        request: &SnapshotCreate,
    ) -> Result<Made<Snapshot>, Refusal> {
        let snapshot = SnapshotRef {
            pool: volume.pool.clone(),
            volume: volume.volume.clone(),
            snapshot: request.name.clone(),
        };
        let made = self.with(|node| {
            let view = View::of(node)?;
            view.status_of(volume)?;
            if let Ok(there) = view.snapshot(&snapshot) {
                return Ok(Made::Existing(there));
            }
            self.take_all(node, &volume.pool, std::slice::from_ref(&volume.volume), &request.name)?;
            View::of(node)?.snapshot(&snapshot).map(Made::New)
        })?;
        if let Made::New(_) = &made {
            let message = format!("Snapshot {snapshot} is taken.");
            self.done(EventKind::Created, (ObjectKind::Snapshot, &snapshot), message);
        }
        Ok(made)
    }

    fn take_all(
        &self,
        node: &mut crate::node::Node,
        pool: &Name,
        volumes: &[Name],
        at: &Name,
    ) -> Result<(), Refusal> {
        let volumes: Vec<String> = volumes.iter().map(ToString::to_string).collect();
        let now_s = super::now_ms() / 1000;
        node.with_pool(pool.as_str(), |pool| pool.snapshot(&volumes, at.as_str(), now_s))
    }

    pub(super) fn take_group(
        &self,
        pool: &Name,
        request: &GroupSnapshotCreate,
    ) -> Result<Vec<Snapshot>, Refusal> {
        let at = |volume: &Name| SnapshotRef {
            pool: pool.clone(),
            volume: volume.clone(),
            snapshot: request.name.clone(),
        };
        let taken = self.with(|node| {
            self.take_all(node, pool, &request.volumes, &request.name)?;
            let view = View::of(node)?;
            request.volumes.iter().map(|volume| view.snapshot(&at(volume))).collect()
        })?;
        for volume in &request.volumes {
            let snapshot = at(volume);
            let message = format!("Snapshot {snapshot} is taken, with those of its group.");
            self.done(EventKind::Created, (ObjectKind::Snapshot, &snapshot), message);
        }
        Ok(taken)
    }

    pub(super) fn drop_snapshot(&self, snapshot: &SnapshotRef) -> Result<(), Refusal> {
        let SnapshotRef { pool, volume, snapshot: at } = snapshot;
        self.with(|node| {
            let (pool, volume, at) = (pool.as_str(), volume.as_str(), at.as_str());
            let source = node.snapshot_source(pool, volume, at)?;
            let hosts = node.connected_to(&source);
            if let Some(host) = hosts.first() {
                return Err(Refusal::in_use(format!(
                    "{host} is connected to {source}: disconnect it there first."
                )));
            }
            node.unexport(&source)?;
            forget(node, &source);
            node.with_pool(pool, |pool| pool.delete_snapshot(volume, at))
        })?;
        let message = format!("Snapshot {snapshot} is deleted.");
        self.done(EventKind::Deleted, (ObjectKind::Snapshot, snapshot), message);
        Ok(())
    }
}
