//! Volumes and snapshots, as far as they are more than their pool's matter.

use super::draft::Edit;
use super::exports;
use super::found::{find, find_snapshot, name, source_of};
use crate::item::Namespace;
use crate::seen::SeenVolume;
use crate::source::Source;
use crate::tables::Wanted;
use std::collections::BTreeMap;
use uuid::Uuid;
use webui_model::{
    Nqn, Refusal, SnapshotRef, Status, Volume, VolumeClone, VolumeCreate, VolumeRef, VolumeSpace,
    count,
};

/// A volume in the words of the API, as far as what is asked for can differ from it.
fn shown(wanted: &Wanted, at: &VolumeRef, seen: &SeenVolume) -> Result<Volume, Refusal> {
    let origin = seen.origin.as_ref().map(|(volume, snapshot)| {
        let (volume, snapshot) = (name(volume)?, name(snapshot)?);
        Ok::<_, Refusal>(SnapshotRef { pool: at.pool.clone(), volume, snapshot })
    });
    Ok(Volume {
        pool: at.pool.clone(),
        name: at.volume.clone(),
        uuid: seen.uuid.to_string(),
        bytes: seen.bytes,
        block_bytes: seen.block_bytes,
        atomic_write_bytes: seen.block_bytes,
        thick: seen.thick,
        limits: seen.limits,
        space: VolumeSpace::default(),
        origin: origin.transpose()?,
        snapshots: 0,
        export: wanted.export_of(&source_of(at, seen.uuid))?,
        created_at_ms: 0,
        status: Status::Ok,
        reason: String::new(),
    })
}

/// Whether a volume is there, which is then as `differences` says; or a refusal.
fn is_there(
    edit: &Edit<'_>,
    at: &VolumeRef,
    differences: impl FnOnce(&Volume) -> Vec<String>,
) -> Result<bool, Refusal> {
    let Some(seen) = edit.seen.volume(at.pool.as_str(), at.volume.as_str()) else {
        return Ok(false);
    };
    let differences = differences(&shown(&edit.wanted, at, &seen)?);
    if differences.is_empty() {
        return Ok(true);
    }
    Err(Refusal::exists(format!(
        "Volume {at} is there already, and {}.",
        differences.join(", and ")
    )))
}

pub(super) fn create(
    edit: &mut Edit<'_>,
    pool: &str,
    create: &VolumeCreate,
    uuid: Uuid,
) -> Result<(), Refusal> {
    let at = VolumeRef { pool: name(pool)?, volume: create.name.clone() };
    edit.open_pool(pool)?;
    if is_there(edit, &at, |there| create.differences(there))? {
        return Ok(());
    }
    let own = Nqn::of_volume(&at.pool, &at.volume);
    exports::show(edit, source_of(&at, uuid), uuid, &own, &create.export())
}

pub(super) fn clone_snapshot(
    edit: &mut Edit<'_>,
    snapshot: &SnapshotRef,
    clone: &VolumeClone,
    uuid: Uuid,
) -> Result<(), Refusal> {
    find_snapshot(edit, snapshot)?;
    let at = VolumeRef { pool: snapshot.pool.clone(), volume: clone.name.clone() };
    if is_there(edit, &at, |there| clone.differences(snapshot, there))? {
        return Ok(());
    }
    let own = Nqn::of_volume(&at.pool, &at.volume);
    exports::show(edit, source_of(&at, uuid), uuid, &own, &clone.export())
}

/// Refuses while hosts are connected to a source, unless forced.
fn is_idle(edit: &Edit<'_>, source: &Source, force: bool, what: &str) -> Result<(), Refusal> {
    let hosts = exports::connected(edit, source);
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

pub(super) fn delete(edit: &mut Edit<'_>, at: &VolumeRef, force: bool) -> Result<(), Refusal> {
    let source = source_of(at, find(edit, at)?.uuid);
    let snapshots = edit.seen.snapshots(at.pool.as_str(), at.volume.as_str());
    if !snapshots.is_empty() {
        return Err(Refusal::in_use(format!(
            "Volume {at} has {} ({}): delete {} first.",
            count(snapshots.len(), "snapshot"),
            snapshots.join(", "),
            if snapshots.len() == 1 { "it" } else { "them" },
        )));
    }
    is_idle(edit, &source, force, "the deletion")?;
    edit.unshow(&source);
    Ok(())
}

pub(super) fn roll_back(
    edit: &mut Edit<'_>,
    at: &VolumeRef,
    snapshot: &str,
    force: bool,
) -> Result<(), Refusal> {
    let source = source_of(at, find(edit, at)?.uuid);
    let (pool, volume, snapshot) = (at.pool.clone(), at.volume.clone(), name(snapshot)?);
    find_snapshot(edit, &SnapshotRef { pool, volume, snapshot })?;
    is_idle(edit, &source, force, "the roll back")
}

pub(super) fn promote(edit: &mut Edit<'_>, at: &VolumeRef) -> Result<(), Refusal> {
    if find(edit, at)?.origin.is_none() {
        return Err(Refusal::refused(format!(
            "Volume {at} is no clone: there is nothing to take over."
        )));
    }
    Ok(())
}

pub(super) fn move_snapshots(
    edit: &mut Edit<'_>,
    pool: &str,
    from: Uuid,
    (uuid, name): &(Uuid, String),
    snapshots: &[String],
) {
    let of_these = |namespace: &Namespace| match &namespace.source {
        Source::Snapshot { snapshot, .. } => snapshots.contains(snapshot),
        _ => false,
    };
    let shown = edit.wanted.exports_of_volume(pool, from).filter(|shown| of_these(shown));
    for namespace in shown.map(|shown| shown.item.clone()).collect::<Vec<_>>() {
        let mut now = namespace.clone();
        if let Source::Snapshot { uuid: of, name: known, .. } = &mut now.source {
            *of = *uuid;
            known.clone_from(name);
        }
        edit.set_namespace(Some(namespace), Some(now));
    }
}

pub(super) fn learn_names(edit: &mut Edit<'_>, pool: &str, names: &BTreeMap<Uuid, String>) {
    let shown = match names.len() {
        // A volume that was renamed: the others are not looked at.
        1 => names
            .keys()
            .flat_map(|uuid| edit.wanted.exports_of_volume(pool, *uuid))
            .map(|shown| shown.item.clone())
            .collect::<Vec<_>>(),
        _ => edit.wanted.exports_of(pool).map(|shown| shown.item.clone()).collect(),
    };
    for namespace in shown {
        let mut now = namespace.clone();
        now.source.named(names);
        edit.set_namespace(Some(namespace), Some(now));
    }
}

pub(super) fn delete_snapshot(edit: &mut Edit<'_>, at: &SnapshotRef) -> Result<(), Refusal> {
    let source = find_snapshot(edit, at)?;
    if let Some(host) = exports::connected(edit, &source).first() {
        return Err(Refusal::in_use(format!(
            "{host} is connected to {source}: disconnect it there first."
        )));
    }
    edit.unshow(&source);
    Ok(())
}
