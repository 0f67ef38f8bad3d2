//! Volumes.

use super::ControlPlane;
use super::view::{View, name};
use crate::node::Node;
use crate::state::Source;
use bdev_pool::{EXTENT_BYTES, NewVolume, VolumeStatus};
use uuid::Uuid;
use webui_model::{
    EventKind, Limits, Made, Name, Nqn, ObjectKind, PromoteOutcome, Refusal, Rename, Resize,
    RollBack, Size, SnapshotRef, Status, Volume, VolumeClone, VolumeCreate, VolumeRef, VolumeSpace,
};

fn to_limits(limits: Limits) -> bdev_pool::Limits {
    bdev_pool::Limits {
        iops: limits.iops.unwrap_or(0),
        bytes_per_second: limits.bytes_per_second.unwrap_or(0),
        burst_ms: u64::from(limits.burst_seconds) * 1000,
    }
}

fn of_limits(limits: bdev_pool::Limits) -> Limits {
    Limits {
        iops: Some(limits.iops).filter(|n| *n != 0),
        bytes_per_second: Some(limits.bytes_per_second).filter(|n| *n != 0),
        burst_seconds: u32::try_from(limits.burst_ms / 1000).unwrap_or(u32::MAX),
    }
}

pub(super) fn source_of(volume: &VolumeRef, uuid: Uuid) -> Source {
    Source::Volume { pool: volume.pool.to_string(), uuid, name: volume.volume.to_string() }
}

impl View<'_> {
    pub(super) fn volumes(&self, pool: Option<&Name>) -> Result<Vec<Volume>, Refusal> {
        if let Some(pool) = pool {
            self.pool(pool.as_str())?;
        }
        let wanted = |name: &str| pool.is_none_or(|pool| pool.as_str() == name);
        let mut volumes = Vec::new();
        for (pool, status) in self.statuses.iter().filter(|(name, _)| wanted(name)) {
            let mut here: Vec<&VolumeStatus> = status.volumes.iter().collect();
            here.sort_by(|a, b| a.name.cmp(&b.name));
            for volume in here {
                volumes.push(self.show(pool, volume)?);
            }
        }
        Ok(volumes)
    }

    pub(super) fn status_of(&self, volume: &VolumeRef) -> Result<&VolumeStatus, Refusal> {
        let pool = volume.pool.as_str();
        let status = match self.statuses.get(pool) {
            Some(status) => status,
            None => {
                let pool = self.pool(pool)?;
                let why = format!("Pool {} is not there: {}", pool.name, pool.reason);
                return Err(Refusal::unavailable(why));
            }
        };
        let found = status.volumes.iter().find(|other| other.name == volume.volume.as_str());
        found.ok_or_else(|| {
            Refusal::not_found(format!("Pool {pool} has no volume {}.", volume.volume))
        })
    }

    pub(super) fn volume(&self, volume: &VolumeRef) -> Result<Volume, Refusal> {
        self.show(volume.pool.as_str(), self.status_of(volume)?)
    }

    fn show(&self, pool: &str, volume: &VolumeStatus) -> Result<Volume, Refusal> {
        let status = &self.statuses[pool];
        let source =
            Source::Volume { pool: pool.into(), uuid: volume.uuid, name: volume.name.clone() };
        let export = self.export_of(&source)?;
        let (how, reason) = self.volume_status(pool, &source, export.as_ref());
        let whole = volume.bytes.div_ceil(EXTENT_BYTES) * EXTENT_BYTES;
        let origin = volume.origin.as_ref().map(|(origin, snapshot)| {
            let (volume, snapshot) = (name(origin)?, name(snapshot)?);
            Ok::<_, Refusal>(SnapshotRef { pool: name(pool)?, volume, snapshot })
        });
        let snapshots = status.snapshots.iter().filter(|other| other.volume == volume.name);
        Ok(Volume {
            pool: name(pool)?,
            name: name(&volume.name)?,
            uuid: volume.uuid.to_string(),
            bytes: volume.bytes,
            block_bytes: volume.block_bytes,
            atomic_write_bytes: volume.block_bytes,
            thick: volume.thick,
            limits: of_limits(volume.limits),
            space: VolumeSpace {
                used_bytes: volume.usage.own + volume.usage.behind,
                exclusive_bytes: volume.usage.own,
                reserved_bytes: match volume.thick {
                    true => whole.saturating_sub(volume.usage.own),
                    false => 0,
                },
            },
            origin: origin.transpose()?,
            snapshots: snapshots.count() as u32,
            export,
            created_at_ms: volume.made_s.saturating_mul(1000),
            status: how,
            reason,
        })
    }

    fn volume_status(
        &self,
        pool: &str,
        source: &Source,
        export: Option<&webui_model::Export>,
    ) -> (Status, String) {
        let status = &self.statuses[pool];
        if let Some(why) = &status.failed {
            return (Status::Failed, format!("its pool has failed: {why}"));
        }
        let known = self.node.state().namespace_of(source);
        if let Some(why) = known.and_then(|known| self.trouble_of(known)) {
            return (Status::Failed, format!("it is not served: {why}"));
        }
        if status.full {
            return (Status::Degraded, "its pool is full: writes that need space fail".to_owned());
        }
        let Some(export) = export else {
            return (Status::Offline, "not exported".to_owned());
        };
        if export.hosts.is_empty() && !export.allow_any_host {
            return (Status::Ok, "exported, and no host may connect yet".to_owned());
        }
        match export.controllers {
            0 => (Status::Ok, "exported, and no host is connected".to_owned()),
            n => {
                (Status::Ok, format!("{} connected", webui_model::count(n as usize, "controller")))
            }
        }
    }
}

impl ControlPlane {
    pub(super) fn make_volume(
        &self,
        pool: &Name,
        request: &VolumeCreate,
    ) -> Result<Made<Volume>, Refusal> {
        let volume = VolumeRef { pool: pool.clone(), volume: request.name.clone() };
        let made = self.with(|node| {
            let view = View::of(node)?;
            view.pool(pool.as_str())?;
            if let Ok(there) = view.volume(&volume) {
                let differences = request.differences(&there);
                return existing(there, &differences);
            }
            let new = NewVolume {
                name: request.name.to_string(),
                uuid: Uuid::new_v4(),
                bytes: request.bytes,
                block_bytes: request.block_bytes,
                thick: request.thick,
                limits: to_limits(request.limits),
                made_s: super::now_ms() / 1000,
            };
            check_subsystem(node, request.subsystem.as_ref())?;
            make_exported(node, &volume, new, &request.export(), |pool, new| {
                pool.create_volume(new)
            })?;
            View::of(node)?.volume(&volume).map(Made::New)
        })?;
        self.told_of_new(&made, &volume);
        Ok(made)
    }

    fn told_of_new(&self, made: &Made<Volume>, volume: &VolumeRef) {
        if let Made::New(made) = made {
            let message = format!("Volume {volume} of {} is made.", Size(made.bytes).rounded());
            self.done(EventKind::Created, (ObjectKind::Volume, volume), message);
        }
    }

    pub(super) fn clone_into(
        &self,
        snapshot: &SnapshotRef,
        request: &VolumeClone,
    ) -> Result<Made<Volume>, Refusal> {
        let volume = VolumeRef { pool: snapshot.pool.clone(), volume: request.name.clone() };
        let made = self.with(|node| {
            let view = View::of(node)?;
            view.snapshot(snapshot)?;
            if let Ok(there) = view.volume(&volume) {
                let differences = request.differences(snapshot, &there);
                return existing(there, &differences);
            }
            let new = NewVolume {
                name: request.name.to_string(),
                uuid: Uuid::new_v4(),
                bytes: 0,
                block_bytes: None,
                thick: false,
                limits: to_limits(request.limits),
                made_s: super::now_ms() / 1000,
            };
            check_subsystem(node, request.subsystem.as_ref())?;
            let (of, at) = (snapshot.volume.as_str(), snapshot.snapshot.as_str());
            make_exported(node, &volume, new, &request.export(), |pool, new| {
                pool.clone_snapshot(of, at, new)
            })?;
            View::of(node)?.volume(&volume).map(Made::New)
        })?;
        self.told_of_new(&made, &volume);
        Ok(made)
    }

    pub(super) fn remove_volume(&self, volume: &VolumeRef, force: bool) -> Result<(), Refusal> {
        self.with(|node| {
            let (pool, name) = (volume.pool.as_str(), volume.volume.as_str());
            let source = node.volume_source(pool, name)?;
            let status = node.open_pool(pool)?.status()?;
            let snapshots: Vec<&str> = status
                .snapshots
                .iter()
                .filter(|snapshot| snapshot.volume == name)
                .map(|snapshot| snapshot.name.as_str())
                .collect();
            if !snapshots.is_empty() {
                return Err(Refusal::in_use(format!(
                    "Volume {volume} has {} ({}): delete {} first.",
                    webui_model::count(snapshots.len(), "snapshot"),
                    snapshots.join(", "),
                    if snapshots.len() == 1 { "it" } else { "them" },
                )));
            }
            node.is_idle(&source, force, "the deletion")?;
            node.unexport(&source)?;
            forget(node, &source);
            node.with_pool(pool, |pool| pool.delete_volume(name, false))
        })?;
        let message = format!("Volume {volume} is deleted.");
        self.done(EventKind::Deleted, (ObjectKind::Volume, volume), message);
        Ok(())
    }

    pub(super) fn rename(&self, volume: &VolumeRef, request: &Rename) -> Result<Volume, Refusal> {
        let to = VolumeRef { pool: volume.pool.clone(), volume: request.name.clone() };
        let shown = self.with(|node| {
            View::of(node)?.status_of(volume)?;
            let (pool, name) = (volume.pool.as_str(), volume.volume.as_str());
            node.with_pool(pool, |pool| pool.rename_volume(name, to.volume.as_str()))?;
            node.learn_names(pool);
            View::of(node)?.volume(&to)
        })?;
        let message = format!("Volume {volume} is called {to} now.");
        self.done(EventKind::Changed, (ObjectKind::Volume, &to), message);
        Ok(shown)
    }

    pub(super) fn resize(&self, volume: &VolumeRef, request: Resize) -> Result<Volume, Refusal> {
        let shown = self.with(|node| {
            let (pool, name) = (volume.pool.as_str(), volume.volume.as_str());
            let source = node.volume_source(pool, name)?;
            let Resize { bytes, may_shrink } = request;
            node.with_pool(pool, |pool| pool.resize_volume(name, bytes, may_shrink))?;
            node.tell_size(&source)?;
            View::of(node)?.volume(volume)
        })?;
        let message = format!("Volume {volume} has {} now.", Size(shown.bytes).rounded());
        self.done(EventKind::Changed, (ObjectKind::Volume, volume), message);
        Ok(shown)
    }

    pub(super) fn limit(&self, volume: &VolumeRef, limits: Limits) -> Result<Volume, Refusal> {
        let shown = self.with(|node| {
            let (pool, name) = (volume.pool.as_str(), volume.volume.as_str());
            node.with_pool(pool, |pool| pool.set_limits(name, to_limits(limits)))?;
            View::of(node)?.volume(volume)
        })?;
        let message = format!("Volume {volume} has other limits.");
        self.done(EventKind::Changed, (ObjectKind::Volume, volume), message);
        Ok(shown)
    }

    pub(super) fn back(&self, volume: &VolumeRef, request: &RollBack) -> Result<Volume, Refusal> {
        let shown = self.with(|node| {
            let (pool, name) = (volume.pool.as_str(), volume.volume.as_str());
            let source = node.volume_source(pool, name)?;
            node.snapshot_source(pool, name, request.snapshot.as_str())?;
            node.is_idle(&source, request.force, "the roll back")?;
            node.with_pool(pool, |pool| pool.roll_back(name, request.snapshot.as_str()))?;
            node.tell_size(&source)?;
            View::of(node)?.volume(volume)
        })?;
        let message = format!("Volume {volume} is back at {}.", request.snapshot);
        self.done(EventKind::Changed, (ObjectKind::Volume, volume), message);
        Ok(shown)
    }

    pub(super) fn raise(&self, volume: &VolumeRef) -> Result<PromoteOutcome, Refusal> {
        let outcome = self.with(|node| {
            let before = View::of(node)?;
            let there = before.volume(volume)?;
            let Some(origin) = there.origin else {
                return Err(Refusal::refused(format!(
                    "Volume {volume} is no clone: there is nothing to take over."
                )));
            };
            let former = VolumeRef { pool: volume.pool.clone(), volume: origin.volume.clone() };
            let (uuid, former_uuid) =
                (before.status_of(volume)?.uuid, before.status_of(&former)?.uuid);
            let own: Vec<Name> = before.snapshot_names(volume)?;
            let (pool, name) = (volume.pool.as_str(), volume.volume.as_str());
            node.with_pool(pool, |pool| pool.promote(name))?;
            let after = View::of(node)?;
            let mut moved = after.snapshot_names(volume)?;
            moved.retain(|name| !own.contains(name));
            let at = |of: &VolumeRef, uuid, snapshot: &Name| Source::Snapshot {
                pool: of.pool.to_string(),
                uuid,
                name: of.volume.to_string(),
                snapshot: snapshot.to_string(),
            };
            for snapshot in &moved {
                let (from, to) = (at(&former, former_uuid, snapshot), at(volume, uuid, snapshot));
                node.snapshot_moved(&from, &to)?;
            }
            let after = View::of(node)?;
            let shown = after.volume(volume)?;
            let is_clone = after.volume(&former)?.origin.is_some_and(|o| o.volume == volume.volume);
            Ok(PromoteOutcome { volume: shown, former_origin: is_clone.then_some(former), moved })
        })?;
        let message = format!("Volume {volume} owns the snapshots that it was made from.");
        self.done(EventKind::Changed, (ObjectKind::Volume, volume), message);
        Ok(outcome)
    }
}

/// Makes a volume and exports it. How it is exported is noted first: whenever the appliance ends in
/// between, there is a volume with its export afterwards, or neither.
fn make_exported(
    node: &mut Node,
    volume: &VolumeRef,
    new: NewVolume,
    set: &webui_model::ExportSet,
    make: impl FnOnce(&bdev_pool::Pool, NewVolume) -> Result<(), bdev_pool::PoolError>,
) -> Result<(), Refusal> {
    let own = Nqn::of_volume(&volume.pool, &volume.volume);
    let (uuid, name) = (new.uuid, new.name.clone());
    let source = source_of(volume, uuid);
    let known = node.intend(source.clone(), uuid, own.as_str(), set)?;
    if let Err(refusal) = node.with_pool(volume.pool.as_str(), |pool| make(pool, new)) {
        node.forget_namespace(&known)?;
        return Err(refusal);
    }
    let exported = node.carry_out(&known);
    if exported.is_err() {
        node.forget_namespace(&known)?;
        forget(node, &source);
        node.with_pool(volume.pool.as_str(), |pool| pool.delete_volume(&name, false))?;
    }
    exported
}

/// What is there already, if it is what was asked for.
pub(super) fn existing(there: Volume, differences: &[String]) -> Result<Made<Volume>, Refusal> {
    if differences.is_empty() {
        return Ok(Made::Existing(there));
    }
    Err(Refusal::exists(format!(
        "Volume {}/{} is there already, and {}.",
        there.pool,
        there.name,
        differences.join(", and ")
    )))
}

/// A volume or snapshot is about to be gone.
pub(super) fn forget(node: &mut Node, source: &Source) {
    if let Some(pool) = source.pool().and_then(|pool| node.pools.get_mut(pool)) {
        pool.forget(source);
    }
}

/// Whether something can be exported in a subsystem that was named.
pub(super) fn check_subsystem(node: &Node, nqn: Option<&Nqn>) -> Result<(), Refusal> {
    let Some(nqn) = nqn else { return Ok(()) };
    if node.registry.subsystem(nqn.as_str()).is_none() {
        return Err(Refusal::not_found(format!("There is no subsystem {nqn}.")));
    }
    match node.state().subsystem(nqn.as_str()) {
        Some(known) if known.own => Err(Refusal::refused(format!(
            "Subsystem {nqn} is that of one volume or snapshot: make another one for several."
        ))),
        _ => Ok(()),
    }
}
