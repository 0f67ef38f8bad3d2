//! Volumes.

use super::ControlPlane;
use super::view::{View, name};
use crate::node::{Node, of_limits};
use crate::pool::OpenPool;
use crate::unit::schedule::{Claim, Key};
use bdev_pool::{Condition, EXTENT_BYTES, NewVolume, VolumeStatus};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;
use wanted::{Edited, Request, Source};
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

/// What all volumes of a pool have in common.
struct OfPool<'a> {
    open: &'a OpenPool,
    condition: Condition,
    stalls: Option<String>,
}

impl OfPool<'_> {
    fn new<'a>(view: &View<'_>, open: &'a OpenPool) -> OfPool<'a> {
        OfPool { open, condition: open.directory().condition(), stalls: view.stalls_of(open) }
    }
}

impl View<'_> {
    pub(super) fn volumes(&self, pool: Option<&Name>) -> Result<Vec<Volume>, Refusal> {
        if let Some(pool) = pool {
            self.pool(pool.as_str())?;
        }
        let wanted = |name: &str| pool.is_none_or(|pool| pool.as_str() == name);
        let mut volumes = Vec::new();
        for (pool, open) in self.pools.iter().filter(|(name, _)| wanted(name)) {
            let mut here = open.directory().volumes();
            here.sort_by(|a, b| a.name.cmp(&b.name));
            let of_pool = OfPool::new(self, open);
            for volume in here {
                volumes.push(self.show(pool, &of_pool, &volume)?);
            }
        }
        Ok(volumes)
    }

    /// The pool of a volume or snapshot.
    pub(super) fn pool_of(&self, pool: &Name) -> Result<&Arc<OpenPool>, Refusal> {
        if let Some(open) = self.pools.get(pool.as_str()) {
            return Ok(open);
        }
        let pool = self.pool(pool.as_str())?;
        Err(Refusal::unavailable(format!("Pool {} is not there: {}", pool.name, pool.reason)))
    }

    pub(super) fn status_of(&self, volume: &VolumeRef) -> Result<VolumeStatus, Refusal> {
        let found = self.pool_of(&volume.pool)?.directory().volume_named(volume.volume.as_str());
        found.ok_or_else(|| {
            Refusal::not_found(format!("Pool {} has no volume {}.", volume.pool, volume.volume))
        })
    }

    pub(super) fn volume(&self, volume: &VolumeRef) -> Result<Volume, Refusal> {
        let status = self.status_of(volume)?;
        let of_pool = OfPool::new(self, self.pool_of(&volume.pool)?);
        self.show(volume.pool.as_str(), &of_pool, &status)
    }

    fn show(
        &self,
        pool: &str,
        of_pool: &OfPool<'_>,
        volume: &VolumeStatus,
    ) -> Result<Volume, Refusal> {
        let source =
            Source::Volume { pool: pool.into(), uuid: volume.uuid, name: volume.name.clone() };
        let export = self.export_of(&source)?;
        let (how, reason) = self.volume_status(of_pool, &source, export.as_ref());
        let whole = volume.bytes.div_ceil(EXTENT_BYTES) * EXTENT_BYTES;
        let origin = volume.origin.as_ref().map(|(origin, snapshot)| {
            let (volume, snapshot) = (name(origin)?, name(snapshot)?);
            Ok::<_, Refusal>(SnapshotRef { pool: name(pool)?, volume, snapshot })
        });
        let snapshots = of_pool.open.directory().snapshots_of(&volume.name);
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
            snapshots: snapshots.len() as u32,
            export,
            created_at_ms: volume.made_s.saturating_mul(1000),
            status: how,
            reason,
        })
    }

    fn volume_status(
        &self,
        of_pool: &OfPool<'_>,
        source: &Source,
        export: Option<&webui_model::Export>,
    ) -> (Status, String) {
        if let Some(why) = &of_pool.condition.failed {
            return (Status::Failed, format!("its pool has failed: {why}"));
        }
        if let Some(why) = &of_pool.stalls {
            return (Status::Degraded, why.clone());
        }
        let known = self.wanted.namespace_of(source);
        if let Some(why) = known.and_then(|known| self.trouble_of(known)) {
            return (Status::Failed, format!("it is not served: {why}"));
        }
        if of_pool.condition.full {
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

/// Volumes, as operators change them.
#[derive(Clone, Copy)]
pub(super) struct Volumes<'a>(pub &'a ControlPlane);

/// What changing a volume needs, by itself.
pub(super) fn claims(volume: &VolumeRef) -> Vec<Claim> {
    let (pool, name) = (volume.pool.to_string(), volume.volume.to_string());
    vec![Claim::shared(Key::Pool(pool.clone())), Claim::sole(Key::Volume(pool, name))]
}

/// What changing how a volume or snapshot is exported needs beside it: the subsystem that it is in,
/// the one that it is to be in, and its own.
pub(super) fn export_claims(
    plane: &ControlPlane,
    own: &Nqn,
    source: Option<&Source>,
    named: Option<&Nqn>,
) -> Vec<Claim> {
    let wanted = plane.node.wanted();
    let now = source.and_then(|source| wanted.namespace_of(source));
    let mut all: Vec<String> = now.map(|known| known.subsystem.clone()).into_iter().collect();
    all.push(named.unwrap_or(own).to_string());
    all.sort();
    all.dedup();
    all.into_iter().map(|nqn| Claim::sole(Key::Subsystem(nqn))).collect()
}

impl Volumes<'_> {
    /// The source that is a volume, if it is there.
    fn source(self, volume: &VolumeRef) -> Option<Source> {
        self.0.node.pools().volume_source(volume.pool.as_str(), volume.volume.as_str()).ok()
    }

    /// What changing a volume and its export needs.
    fn all_claims(self, volume: &VolumeRef, named: Option<&Nqn>) -> Vec<Claim> {
        let own = Nqn::of_volume(&volume.pool, &volume.volume);
        let mut claims = claims(volume);
        claims.extend(export_claims(self.0, &own, self.source(volume).as_ref(), named));
        claims
    }

    pub(super) fn create(
        self,
        pool: &Name,
        request: VolumeCreate,
    ) -> Result<Made<Volume>, Refusal> {
        let volume = VolumeRef { pool: pool.clone(), volume: request.name.clone() };
        let claims = self.all_claims(&volume, request.subsystem.as_ref());
        self.0.change(format!("making volume {volume}"), claims, move |plane| {
            let node = &*plane.node;
            let (pool, uuid) = (volume.pool.to_string(), Uuid::new_v4());
            let create = request.clone();
            let edited = node.edit(&Request::CreateVolume { pool, create, uuid })?;
            let new = NewVolume {
                name: request.name.to_string(),
                uuid,
                bytes: request.bytes,
                block_bytes: request.block_bytes,
                thick: request.thick,
                limits: to_limits(request.limits),
                made_s: super::now_ms() / 1000,
            };
            make_exported(plane, &volume, &edited, new, |pool, new| pool.create_volume(new))
        })
    }

    pub(super) fn clone_snapshot(
        self,
        snapshot: &SnapshotRef,
        request: VolumeClone,
    ) -> Result<Made<Volume>, Refusal> {
        let volume = VolumeRef { pool: snapshot.pool.clone(), volume: request.name.clone() };
        let mut claims = self.all_claims(&volume, request.subsystem.as_ref());
        let (pool, of) = (snapshot.pool.to_string(), snapshot.volume.to_string());
        claims.push(Claim::shared(Key::Volume(pool, of)));
        let snapshot = snapshot.clone();
        self.0.change(format!("cloning {snapshot} to {volume}"), claims, move |plane| {
            let node = &*plane.node;
            let (uuid, clone) = (Uuid::new_v4(), request.clone());
            let of = snapshot.clone();
            let edited = node.edit(&Request::CloneSnapshot { snapshot: of, clone, uuid })?;
            let new = NewVolume {
                name: request.name.to_string(),
                uuid,
                bytes: 0,
                block_bytes: None,
                thick: false,
                limits: to_limits(request.limits),
                made_s: super::now_ms() / 1000,
            };
            let (of, at) = (snapshot.volume.as_str(), snapshot.snapshot.as_str());
            make_exported(plane, &volume, &edited, new, |pool, new| {
                pool.clone_snapshot(of, at, new)
            })
        })
    }

    pub(super) fn delete(self, volume: &VolumeRef, force: bool) -> Result<(), Refusal> {
        let claims = self.all_claims(volume, None);
        let volume = volume.clone();
        self.0.change(format!("deleting volume {volume}"), claims, move |plane| {
            let node = &*plane.node;
            let (pool, name) = (volume.pool.as_str(), volume.volume.as_str());
            let source = node.pools().volume_source(pool, name)?;
            let request = Request::DeleteVolume { volume: volume.clone(), force };
            let edited = node.exports().change(&request)?;
            forget(node, &source);
            let deleted = node.pools().ask(pool, |pool| pool.delete_volume(name, false));
            deleted.inspect_err(|_| node.exports().take_back(&edited))?;
            let message = format!("Volume {volume} is deleted.");
            plane.done(EventKind::Deleted, (ObjectKind::Volume, &volume), message);
            Ok(())
        })
    }

    pub(super) fn rename(self, volume: &VolumeRef, request: &Rename) -> Result<Volume, Refusal> {
        let to = VolumeRef { pool: volume.pool.clone(), volume: request.name.clone() };
        let mut claims = claims(volume);
        let (pool, name) = (to.pool.to_string(), to.volume.to_string());
        claims.push(Claim::sole(Key::Volume(pool, name)));
        let volume = volume.clone();
        self.0.change(format!("renaming volume {volume}"), claims, move |plane| {
            let node = &*plane.node;
            let uuid = View::of(node).status_of(&volume)?.uuid;
            let (pool, name) = (volume.pool.as_str(), volume.volume.as_str());
            node.pools().ask(pool, |pool| pool.rename_volume(name, to.volume.as_str()))?;
            node.pools().learn(pool, BTreeMap::from([(uuid, to.volume.to_string())]));
            let message = format!("Volume {volume} is called {to} now.");
            plane.done(EventKind::Changed, (ObjectKind::Volume, &to), message);
            View::of(node).volume(&to)
        })
    }

    pub(super) fn resize(self, volume: &VolumeRef, request: Resize) -> Result<Volume, Refusal> {
        let (claims, volume) = (claims(volume), volume.clone());
        self.0.change(format!("resizing volume {volume}"), claims, move |plane| {
            let node = &*plane.node;
            let (pool, name) = (volume.pool.as_str(), volume.volume.as_str());
            let source = node.pools().volume_source(pool, name)?;
            let Resize { bytes, may_shrink } = request;
            node.pools().ask(pool, |pool| pool.resize_volume(name, bytes, may_shrink))?;
            node.exports().tell_size(&source)?;
            let shown = View::of(node).volume(&volume)?;
            let message = format!("Volume {volume} has {} now.", Size(shown.bytes).rounded());
            plane.done(EventKind::Changed, (ObjectKind::Volume, &volume), message);
            Ok(shown)
        })
    }

    pub(super) fn set_limits(self, volume: &VolumeRef, limits: Limits) -> Result<Volume, Refusal> {
        let (claims, volume) = (claims(volume), volume.clone());
        self.0.change(format!("limiting volume {volume}"), claims, move |plane| {
            let node = &*plane.node;
            let (pool, name) = (volume.pool.as_str(), volume.volume.as_str());
            node.pools().ask(pool, |pool| pool.set_limits(name, to_limits(limits)))?;
            let message = format!("Volume {volume} has other limits.");
            plane.done(EventKind::Changed, (ObjectKind::Volume, &volume), message);
            View::of(node).volume(&volume)
        })
    }

    pub(super) fn roll_back(
        self,
        volume: &VolumeRef,
        request: RollBack,
    ) -> Result<Volume, Refusal> {
        let (claims, volume) = (claims(volume), volume.clone());
        self.0.change(format!("rolling volume {volume} back"), claims, move |plane| {
            let node = &*plane.node;
            let (pool, name) = (volume.pool.as_str(), volume.volume.as_str());
            let source = node.pools().volume_source(pool, name)?;
            let snapshot = request.snapshot.to_string();
            let asked =
                Request::RollBack { volume: volume.clone(), snapshot, force: request.force };
            node.edit(&asked)?;
            node.pools().ask(pool, |pool| pool.roll_back(name, request.snapshot.as_str()))?;
            node.exports().tell_size(&source)?;
            let message = format!("Volume {volume} is back at {}.", request.snapshot);
            plane.done(EventKind::Changed, (ObjectKind::Volume, &volume), message);
            View::of(node).volume(&volume)
        })
    }

    pub(super) fn promote(self, volume: &VolumeRef) -> Result<PromoteOutcome, Refusal> {
        // The snapshots of other volumes of the pool become its own.
        let claims = vec![Claim::sole(Key::Pool(volume.pool.to_string()))];
        let volume = volume.clone();
        self.0.change(format!("promoting volume {volume}"), claims, move |plane| {
            let outcome = promote(&plane.node, &volume)?;
            let message = format!("Volume {volume} owns the snapshots that it was made from.");
            plane.done(EventKind::Changed, (ObjectKind::Volume, &volume), message);
            Ok(outcome)
        })
    }
}

fn promote(node: &Node, volume: &VolumeRef) -> Result<PromoteOutcome, Refusal> {
    let before = View::of(node);
    node.edit(&Request::Promote(volume.clone()))?;
    let gone = || Refusal::unavailable(format!("Volume {volume} is on its way out."));
    let origin = before.volume(volume)?.origin.ok_or_else(gone)?;
    let former = VolumeRef { pool: volume.pool.clone(), volume: origin.volume.clone() };
    let (uuid, former_uuid) = (before.status_of(volume)?.uuid, before.status_of(&former)?.uuid);
    let own: Vec<Name> = before.snapshot_names(volume)?;
    let (pool, name) = (volume.pool.as_str(), volume.volume.as_str());
    node.pools().ask(pool, |pool| pool.promote(name))?;
    let mut moved = View::of(node).snapshot_names(volume)?;
    moved.retain(|name| !own.contains(name));
    let (to, names) = ((uuid, name.to_owned()), moved.iter().map(ToString::to_string).collect());
    node.exports().snapshots_moved(pool, former_uuid, to, names)?;
    let after = View::of(node);
    let shown = after.volume(volume)?;
    let is_clone = after.volume(&former)?.origin.is_some_and(|o| o.volume == volume.volume);
    Ok(PromoteOutcome { volume: shown, former_origin: is_clone.then_some(former), moved })
}

/// Makes a volume, unless `edited` says that it is there as was asked for, and exports it. How it is
/// exported is wanted before: whenever the appliance ends in between, there is a volume with its export
/// afterwards, or neither.
fn make_exported(
    plane: &ControlPlane,
    volume: &VolumeRef,
    edited: &Edited,
    new: NewVolume,
    make: impl FnOnce(&bdev_pool::Pool, NewVolume) -> Result<(), bdev_pool::PoolError>,
) -> Result<Made<Volume>, Refusal> {
    let node = &*plane.node;
    if edited.is_as_before() {
        return View::of(node).volume(volume).map(Made::Existing);
    }
    let (pool, uuid) = (volume.pool.as_str(), new.uuid);
    let made = node.pools().ask(pool, |pool| make(pool, new));
    made.inspect_err(|_| node.undo(edited))?;
    if let Err(refusal) = node.exports().carry_out(edited) {
        let (pool, name) = (pool.to_owned(), volume.volume.to_string());
        forget(node, &Source::Volume { pool: pool.clone(), uuid, name: name.clone() });
        node.pools().ask(&pool, |pool| pool.delete_volume(&name, false))?;
        return Err(refusal);
    }
    let made = View::of(node).volume(volume)?;
    let message = format!("Volume {volume} of {} is made.", Size(made.bytes).rounded());
    plane.done(EventKind::Created, (ObjectKind::Volume, volume), message);
    Ok(Made::New(made))
}

/// A volume or snapshot is about to be gone.
pub(super) fn forget(node: &Node, source: &Source) {
    if let Some(pool) = source.pool().and_then(|pool| node.pool(pool)) {
        pool.forget(source);
    }
}
