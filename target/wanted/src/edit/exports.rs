//! How volumes and snapshots are exported: in a subsystem that is named, or in their own.

use super::draft::Edit;
use super::found;
use crate::item::{Namespace, Subsystem};
use crate::request::Shown;
use crate::source::Source;
use uuid::Uuid;
use webui_model::{ExportSet, HostNqn, Nqn, Refusal};

/// Names of hosts, each once.
pub(super) fn listed(hosts: &[HostNqn]) -> std::collections::BTreeSet<String> {
    hosts.iter().map(ToString::to_string).collect()
}

/// Hosts that are connected to the subsystem that shows `source`.
pub(super) fn connected(edit: &Edit<'_>, source: &Source) -> Vec<String> {
    let shown = edit.wanted.namespace_of(source);
    shown.map_or_else(Vec::new, |shown| edit.seen.hosts(&shown.subsystem))
}

/// Whether something can be exported in a subsystem that was named.
pub(super) fn check_subsystem(edit: &Edit<'_>, nqn: Option<&str>) -> Result<(), Refusal> {
    let Some(nqn) = nqn else { return Ok(()) };
    match edit.wanted.subsystem(nqn) {
        None => Err(Refusal::not_found(format!("There is no subsystem {nqn}."))),
        Some(known) if known.own => Err(Refusal::refused(format!(
            "Subsystem {nqn} is that of one volume or snapshot: make another one for several."
        ))),
        Some(_) => Ok(()),
    }
}

/// The first number that is free in a subsystem.
pub(super) fn free_nsid(edit: &Edit<'_>, nqn: &str) -> Result<u32, Refusal> {
    edit.wanted
        .free_nsid(nqn)
        .ok_or_else(|| Refusal::full(format!("{nqn} has as many namespaces as there can be.")))
}

/// Shows a source that is not shown as `set` says, `own` being the name of its own subsystem. It
/// need not be there yet.
pub(super) fn show(
    edit: &mut Edit<'_>,
    source: Source,
    uuid: Uuid,
    own: &Nqn,
    set: &ExportSet,
) -> Result<(), Refusal> {
    let named = set.subsystem.as_ref().map(Nqn::as_str);
    check_subsystem(edit, named)?;
    let (subsystem, nsid) = match named {
        Some(nqn) => (nqn.to_owned(), free_nsid(edit, nqn)?),
        None => (make_own(edit, &source, own, set)?, 1),
    };
    edit.set_namespace(None, Some(Namespace { subsystem, nsid, uuid, source }));
    Ok(())
}

/// Makes the own subsystem of a source. Returns its name.
fn make_own(
    edit: &mut Edit<'_>,
    source: &Source,
    own: &Nqn,
    set: &ExportSet,
) -> Result<String, Refusal> {
    if edit.wanted.subsystem(own.as_str()).is_some() {
        return Err(Refusal::exists(format!(
            "There is a subsystem {own} already, of something else: export {source} in it or in \
             another one by naming it."
        )));
    }
    let (hosts, allow_any_host) = (listed(&set.hosts), set.allow_any_host);
    let nqn = own.to_string();
    let subsystem = Subsystem { nqn: nqn.clone(), serial: None, own: true, hosts, allow_any_host };
    edit.set_subsystem(None, Some(subsystem));
    Ok(nqn)
}

/// The source that is meant, what hosts know it by if it is new, and the name of its own subsystem.
fn meant(edit: &Edit<'_>, what: &Shown, uuid: Uuid) -> Result<(Source, Uuid, Nqn), Refusal> {
    Ok(match what {
        Shown::Volume(volume) => {
            let uuid = found::find(edit, volume)?.uuid;
            let own = Nqn::of_volume(&volume.pool, &volume.volume);
            (found::source_of(volume, uuid), uuid, own)
        }
        Shown::Snapshot(at) => {
            let own = Nqn::of_snapshot(&at.pool, &at.volume, &at.snapshot);
            (found::find_snapshot(edit, at)?, uuid, own)
        }
    })
}

pub(super) fn export(
    edit: &mut Edit<'_>,
    what: &Shown,
    set: &ExportSet,
    uuid: Uuid,
) -> Result<(), Refusal> {
    let (source, uuid, own) = meant(edit, what, uuid)?;
    check_subsystem(edit, set.subsystem.as_ref().map(Nqn::as_str))?;
    let Some(there) = edit.wanted.namespace_of(&source).cloned() else {
        return show(edit, source, uuid, &own, set);
    };
    let known = edit.wanted.subsystem(&there.subsystem).cloned();
    match (&set.subsystem, known.filter(|known| known.own)) {
        (Some(nqn), _) if nqn.as_str() == there.subsystem => Ok(()),
        (None, Some(known)) => {
            let (hosts, allow_any_host) = (listed(&set.hosts), set.allow_any_host);
            let now = Subsystem { hosts, allow_any_host, ..known.item.clone() };
            edit.set_subsystem(Some(known), Some(now));
            Ok(())
        }
        _ => {
            edit.remove_namespace(there.item);
            show(edit, source, uuid, &own, set)
        }
    }
}

pub(super) fn unexport(edit: &mut Edit<'_>, what: &Shown) -> Result<(), Refusal> {
    let source = meant(edit, what, Uuid::nil())?.0;
    if edit.wanted.namespace_of(&source).is_none() {
        return Err(Refusal::not_found(format!("The {source} is not exported.")));
    }
    edit.unshow(&source);
    Ok(())
}
