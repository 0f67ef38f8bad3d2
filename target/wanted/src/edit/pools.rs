//! Pools.

use super::devices;
use super::draft::Edit;
use crate::item::{Declared, GonePool, Namespace, Pool, Subsystem, is_usual};
use uuid::Uuid;
use webui_model::{DiscardMode, PoolCreate, Refusal, count};

/// Volumes that are named where a pool has too many to go.
const NAMED: usize = 3;

pub(super) fn create(
    edit: &mut Edit<'_>,
    create: &PoolCreate,
    devices: &[String],
    uuid: Uuid,
) -> Result<(), Refusal> {
    let name = create.name.as_str();
    if let Some(there) = edit.wanted.pool(name) {
        return existing(there, create, devices);
    }
    devices.iter().try_for_each(|device| is_free(edit, device))?;
    let discard = create.discard.unwrap_or_default();
    let (name, devices) = (name.to_owned(), devices.to_vec());
    keep(edit, &Pool { name, uuid, devices, identities: Default::default(), discard })
}

/// A pool of that name is there.
fn existing(there: &Pool, create: &PoolCreate, devices: &[String]) -> Result<(), Refusal> {
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort();
        names
    };
    let has = sorted(&there.devices);
    if has != sorted(devices) {
        return Err(Refusal::exists(format!(
            "There is a pool {} already, and it is on other devices: {}.",
            create.name,
            has.join(", ")
        )));
    }
    if create.discard.is_some_and(|mode| mode != there.discard) {
        return Err(Refusal::exists(format!(
            "There is a pool {} already, and its discard is {}: `forebay pool discard` changes it.",
            create.name, there.discard
        )));
    }
    Ok(())
}

/// A device that is to be part of a pool is there, and used by nobody.
fn is_free(edit: &Edit<'_>, device: &str) -> Result<(), Refusal> {
    if edit.wanted.device(device).is_none() {
        return Err(Refusal::not_found(format!(
            "There is no device {device}: attach it first, or give its path."
        )));
    }
    match devices::user(edit, device) {
        Some(user) => Err(Refusal::in_use(format!("bdev \"{device}\" is in use by {user}."))),
        None => Ok(()),
    }
}

pub(super) fn add_device(edit: &mut Edit<'_>, pool: &str, device: &str) -> Result<(), Refusal> {
    edit.open_pool(pool)?;
    let known = known(edit, pool)?;
    if known.devices.iter().any(|other| other == device) {
        return Ok(());
    }
    is_free(edit, device)?;
    let mut now = known.clone();
    now.devices.push(device.to_owned());
    edit.set_pool(Some(known), Some(now));
    Ok(())
}

pub(super) fn keep(edit: &mut Edit<'_>, pool: &Pool) -> Result<(), Refusal> {
    let there = edit.wanted.pool(&pool.name).cloned();
    if there.as_ref().is_some_and(|there| there.uuid != pool.uuid) {
        return Err(Refusal::exists(format!(
            "There is another pool {}: export that one first.",
            pool.name
        )));
    }
    let there = there.map(|there| there.item);
    if there.as_ref() != Some(pool) {
        edit.set_pool(there, Some(pool.clone()));
    }
    if let Some(gone) = edit.wanted.gone(pool.uuid).cloned() {
        bring_back(edit, gone.item);
    }
    Ok(())
}

/// What was exported of a pool is wanted again, but for what has taken its place since.
fn bring_back(edit: &mut Edit<'_>, gone: GonePool) {
    let GonePool { subsystems, namespaces, .. } = &gone;
    let (subsystems, namespaces) = (subsystems.clone(), namespaces.clone());
    edit.set_gone(Some(gone), None);
    for subsystem in subsystems {
        if edit.wanted.subsystem(&subsystem.nqn).is_none() {
            edit.set_subsystem(None, Some(subsystem));
        }
    }
    for namespace in namespaces {
        if edit.wanted.subsystem(&namespace.subsystem).is_some()
            && edit.wanted.namespace(&namespace.subsystem, namespace.nsid).is_none()
            && edit.wanted.namespace_of(&namespace.source).is_none()
        {
            edit.set_namespace(None, Some(namespace));
        }
    }
}

fn known(edit: &Edit<'_>, pool: &str) -> Result<Pool, Refusal> {
    let known = edit.wanted.pool(pool).map(|pool| pool.item.clone());
    known.ok_or_else(|| Refusal::not_found(format!("There is no pool {pool}.")))
}

pub(super) fn export(edit: &mut Edit<'_>, pool: &str, force: bool) -> Result<(), Refusal> {
    let known = known(edit, pool)?;
    if !force {
        for shown in edit.wanted.exports_of(pool) {
            if let Some(host) = edit.seen.hosts(&shown.subsystem).first() {
                return Err(Refusal::in_use(format!(
                    "{host} is connected to {}: disconnect it there, or force the export.",
                    shown.source
                )));
            }
        }
    }
    let (namespaces, subsystems) = take_exports(edit, pool);
    let Pool { uuid, identities, discard, .. } = known.clone();
    edit.set_pool(Some(known), None);
    let before = edit.wanted.gone(uuid).map(|gone| gone.item.clone());
    let is_kept = !namespaces.is_empty() || !is_usual(&discard);
    let now = GonePool { uuid, subsystems, namespaces, identities, discard };
    edit.set_gone(before, is_kept.then_some(now));
    Ok(())
}

/// Takes away how what lies in a pool is exported, and returns it.
fn take_exports(edit: &mut Edit<'_>, pool: &str) -> (Vec<Namespace>, Vec<Subsystem>) {
    let shown = edit.wanted.exports_of(pool).map(|shown| shown.item.clone());
    let mut namespaces: Vec<Namespace> = shown.collect();
    // In the order of their subsystems, as they are listed.
    namespaces.sort_by(|a, b| (&a.subsystem, a.nsid).cmp(&(&b.subsystem, b.nsid)));
    let mut subsystems = Vec::new();
    for namespace in &namespaces {
        let own = edit.wanted.subsystem(&namespace.subsystem).filter(|known| known.own);
        subsystems.extend(own.map(|known: &Declared<Subsystem>| known.item.clone()));
        edit.remove_namespace(namespace.clone());
    }
    (namespaces, subsystems)
}

pub(super) fn delete(edit: &mut Edit<'_>, pool: &str) -> Result<(), Refusal> {
    edit.open_pool(pool)?;
    let (number, names) = edit.seen.volumes(pool, NAMED);
    if number > 0 {
        return Err(Refusal::in_use(format!(
            "Pool {pool} has {} ({}{}): delete them first.",
            count(number, "volume"),
            names.join(", "),
            if number > NAMED { ", ..." } else { "" }
        )));
    }
    let known = known(edit, pool)?;
    take_exports(edit, pool);
    edit.set_pool(Some(known), None);
    Ok(())
}

pub(super) fn set_discard(
    edit: &mut Edit<'_>,
    pool: &str,
    mode: DiscardMode,
) -> Result<(), Refusal> {
    let known = known(edit, pool)?;
    if known.discard != mode {
        let now = Pool { discard: mode, ..known.clone() };
        edit.set_pool(Some(known), Some(now));
    }
    Ok(())
}
