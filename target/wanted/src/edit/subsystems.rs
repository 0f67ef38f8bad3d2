//! Subsystems, their hosts and their namespaces.

use super::draft::Edit;
use super::{devices, exports, found};
use crate::item::{Declared, Namespace, Subsystem};
use crate::limits::{DISCOVERY_NQN, NAMESPACES};
use crate::source::Source;
use uuid::Uuid;
use webui_model::{HostNqn, NamespaceAdd, NamespaceSource, Refusal, Status, SubsystemCreate};

fn find(edit: &Edit<'_>, nqn: &str) -> Result<Declared<Subsystem>, Refusal> {
    let found = edit.wanted.subsystem(nqn).cloned();
    found.ok_or_else(|| Refusal::not_found(format!("There is no subsystem {nqn}.")))
}

/// A subsystem in the words of the API, as far as what is asked for can differ from it.
fn shown(create: &SubsystemCreate, there: &Subsystem) -> webui_model::Subsystem {
    webui_model::Subsystem {
        nqn: create.nqn.clone(),
        own: there.own,
        hosts: there.host_nqns(),
        allow_any_host: there.allow_any_host,
        namespaces: Vec::new(),
        controllers: 0,
        status: Status::Ok,
        reason: String::new(),
    }
}

pub(super) fn create(edit: &mut Edit<'_>, create: &SubsystemCreate) -> Result<(), Refusal> {
    let nqn = create.nqn.as_str();
    if nqn == DISCOVERY_NQN {
        return Err(Refusal::exists("That is the name of the discovery subsystem."));
    }
    if let Some(there) = edit.wanted.subsystem(nqn) {
        let differences = create.differences(&shown(create, there));
        if differences.is_empty() {
            return Ok(());
        }
        return Err(Refusal::exists(format!(
            "Subsystem {nqn} is there already, and {}.",
            differences.join(", and ")
        )));
    }
    let (hosts, allow_any_host) = (exports::listed(&create.hosts), create.allow_any_host);
    let nqn = nqn.to_owned();
    edit.set_subsystem(
        None,
        Some(Subsystem { nqn, serial: None, own: false, hosts, allow_any_host }),
    );
    Ok(())
}

/// Refuses to change who may connect to what the configuration declares.
fn is_ours(known: &Declared<Subsystem>) -> Result<(), Refusal> {
    if known.is_configured() {
        return Err(Refusal::refused(format!(
            "The configuration file says who may connect to {}: change it there.",
            known.nqn
        )));
    }
    Ok(())
}

pub(super) fn set_hosts(edit: &mut Edit<'_>, set: &SubsystemCreate) -> Result<(), Refusal> {
    let known = find(edit, set.nqn.as_str())?;
    is_ours(&known)?;
    let (hosts, allow_any_host) = (exports::listed(&set.hosts), set.allow_any_host);
    let now = Subsystem { hosts, allow_any_host, ..known.item.clone() };
    edit.set_subsystem(Some(known), Some(now));
    Ok(())
}

pub(super) fn set_configured_hosts(
    edit: &mut Edit<'_>,
    nqn: &str,
    hosts: &[String],
    allow_any_host: bool,
) {
    let known = edit.wanted.subsystem(nqn).cloned();
    if let Some(known) = known.filter(Declared::is_configured) {
        let hosts = hosts.iter().cloned().collect();
        let now = Subsystem { hosts, allow_any_host, ..known.item.clone() };
        edit.set_subsystem(Some(known), Some(now));
    }
}

pub(super) fn delete(edit: &mut Edit<'_>, nqn: &str) -> Result<(), Refusal> {
    let known = find(edit, nqn)?;
    if let Some(namespace) = edit.wanted.namespaces_of(nqn).next() {
        return Err(Refusal::in_use(format!(
            "Subsystem {nqn} shows {}: remove its namespaces first.",
            namespace.source
        )));
    }
    if known.is_configured() {
        return Err(Refusal::refused(format!(
            "The configuration file declares subsystem {nqn}: take it out there."
        )));
    }
    edit.set_subsystem(Some(known), None);
    Ok(())
}

pub(super) fn add_host(edit: &mut Edit<'_>, nqn: &str, host: &HostNqn) -> Result<(), Refusal> {
    let known = find(edit, nqn)?;
    if known.allow_any_host {
        return Err(Refusal::refused(format!(
            "Subsystem {nqn} is open to any host: close it first, by listing its hosts."
        )));
    }
    if known.hosts.contains(host.as_str()) {
        return Ok(());
    }
    is_ours(&known)?;
    let mut now = known.item.clone();
    now.hosts.insert(host.to_string());
    edit.set_subsystem(Some(known), Some(now));
    Ok(())
}

pub(super) fn remove_host(edit: &mut Edit<'_>, nqn: &str, host: &HostNqn) -> Result<(), Refusal> {
    let known = find(edit, nqn)?;
    let mut now = known.item.clone();
    if !now.hosts.remove(host.as_str()) {
        return Err(Refusal::not_found(format!("Subsystem {nqn} does not list {host}.")));
    }
    is_ours(&known)?;
    edit.set_subsystem(Some(known), Some(now));
    Ok(())
}

/// The source that is meant.
fn meant(edit: &Edit<'_>, source: &NamespaceSource) -> Result<Source, Refusal> {
    match source {
        NamespaceSource::Volume(volume) => {
            Ok(found::source_of(volume, found::find(edit, volume)?.uuid))
        }
        NamespaceSource::Snapshot(snapshot) => found::find_snapshot(edit, snapshot),
        NamespaceSource::Device(device) => match edit.wanted.device(device.as_str()) {
            Some(_) => Ok(Source::Device { name: device.to_string() }),
            None => Err(Refusal::not_found(format!("There is no device {device}."))),
        },
    }
}

pub(super) fn add_namespace(
    edit: &mut Edit<'_>,
    nqn: &str,
    add: &NamespaceAdd,
    uuid: Uuid,
) -> Result<(), Refusal> {
    exports::check_subsystem(edit, Some(nqn))?;
    let source = meant(edit, &add.source)?;
    if let Some(known) = edit.wanted.namespace_of(&source) {
        if known.subsystem == nqn && add.nsid.is_none_or(|nsid| nsid == known.nsid) {
            return Ok(());
        }
        return Err(Refusal::in_use(format!(
            "The {} is namespace {} of {} already.",
            add.source, known.nsid, known.subsystem
        )));
    }
    let nsid = match add.nsid {
        Some(nsid) => nsid,
        None => exports::free_nsid(edit, nqn)?,
    };
    if !(1..=NAMESPACES).contains(&nsid) {
        return Err(Refusal::invalid(format!(
            "nsid is {nsid}: give 1 to {NAMESPACES}, or nothing for the first free one."
        )));
    }
    if edit.wanted.namespace(nqn, nsid).is_some() {
        return Err(Refusal::exists(format!(
            "Subsystem {nqn} has a namespace {nsid} already: take another number."
        )));
    }
    if let Source::Device { name } = &source
        && let Some(user) = devices::user(edit, name)
    {
        return Err(Refusal::in_use(format!(
            "The {source} cannot be exported: bdev \"{name}\" is in use by {user}."
        )));
    }
    let uuid = match &source {
        Source::Volume { uuid, .. } => *uuid,
        Source::Snapshot { .. } | Source::Device { .. } => uuid,
    };
    edit.set_namespace(None, Some(Namespace { subsystem: nqn.to_owned(), nsid, uuid, source }));
    Ok(())
}

pub(super) fn remove_namespace(edit: &mut Edit<'_>, nqn: &str, nsid: u32) -> Result<(), Refusal> {
    find(edit, nqn)?;
    match edit.wanted.namespace(nqn, nsid).cloned() {
        None => Err(Refusal::not_found(format!("{nqn} has no namespace {nsid}."))),
        Some(known) if known.is_configured() => Err(Refusal::refused(format!(
            "The configuration file declares namespace {nsid} of {nqn}: take it out there."
        ))),
        Some(known) => {
            edit.remove_namespace(known.item);
            Ok(())
        }
    }
}
