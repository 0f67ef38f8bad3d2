//! Subsystems, their namespaces, hosts, controllers and listeners.

use super::exports::{of_snapshot, of_volume, uuid_for};
use super::view::{View, host_names, name, nqn};
use super::volumes::check_subsystem;
use super::{ControlPlane, refusals};
use crate::node::{Node, source_claims};
use crate::state::{KnownNamespace, Source};
use crate::unit::schedule::{Claim, Key};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use webui_model::{
    Controller, ControllerQueue, EventKind, Host, HostNqn, Made, Namespace, NamespaceAdd,
    NamespaceSource, Nqn, ObjectKind, Refusal, RefusalKind, SnapshotRef, Status, Subsystem,
    SubsystemCreate, VolumeRef,
};

/// What is wanted, in the words of the API.
fn source_shown(source: &Source) -> Result<NamespaceSource, Refusal> {
    Ok(match source {
        Source::Volume { pool, name: volume, .. } => {
            NamespaceSource::Volume(VolumeRef { pool: name(pool)?, volume: name(volume)? })
        }
        Source::Snapshot { pool, name: volume, snapshot, .. } => {
            NamespaceSource::Snapshot(SnapshotRef {
                pool: name(pool)?,
                volume: name(volume)?,
                snapshot: name(snapshot)?,
            })
        }
        Source::Device { name: device } => NamespaceSource::Device(name(device)?),
    })
}

/// The source that is meant.
fn source_meant(node: &Node, source: &NamespaceSource) -> Result<Source, Refusal> {
    match source {
        NamespaceSource::Volume(volume) => of_volume(node, volume),
        NamespaceSource::Snapshot(snapshot) => of_snapshot(node, snapshot),
        NamespaceSource::Device(device) => {
            let name = device.to_string();
            if !node.devices().is_device(&name) {
                return Err(Refusal::not_found(format!("There is no device {name}.")));
            }
            Ok(Source::Device { name })
        }
    }
}

impl View<'_> {
    fn nqns(&self) -> BTreeSet<String> {
        let open = self.node.registry.subsystems();
        let open = open.iter().map(|subsystem| subsystem.nqn().to_owned());
        open.chain(self.state.subsystems.iter().map(|known| known.nqn.clone())).collect()
    }

    pub(super) fn subsystems(&self) -> Result<Vec<Subsystem>, Refusal> {
        self.nqns().iter().map(|nqn| self.subsystem(nqn)).collect()
    }

    pub(super) fn subsystem(&self, of: &str) -> Result<Subsystem, Refusal> {
        if !self.nqns().contains(of) {
            return Err(Refusal::not_found(format!("There is no subsystem {of}.")));
        }
        let (hosts, allow_any_host) = self.access(of);
        let namespaces = self.namespaces(of)?;
        let missing = namespaces.iter().filter(|n| n.status == Status::Failed).count();
        let controllers = self.controllers_of(of);
        let (status, reason) = match self.missing.subsystems.get(of) {
            Some(why) => (Status::Failed, why.clone()),
            None if missing > 0 => {
                let missing = webui_model::count(missing, "namespace");
                (Status::Degraded, format!("{missing} cannot be served now"))
            }
            None if !allow_any_host && hosts.is_empty() => {
                (Status::Ok, "no host may connect yet".to_owned())
            }
            None => (
                Status::Ok,
                format!("{} connected", webui_model::count(controllers as usize, "controller")),
            ),
        };
        Ok(Subsystem {
            nqn: nqn(of)?,
            own: self.state.subsystem(of).is_some_and(|known| known.own),
            hosts,
            allow_any_host,
            namespaces,
            controllers,
            status,
            reason,
        })
    }

    fn namespaces(&self, of: &str) -> Result<Vec<Namespace>, Refusal> {
        let mut found = BTreeMap::new();
        for known in self.state.namespaces.iter().filter(|known| known.subsystem == of) {
            found.insert(known.nsid, self.known_namespace(known)?);
        }
        for known in self.node.declared.iter().filter(|known| known.subsystem == of) {
            found.insert(known.nsid, self.known_namespace(known)?);
        }
        let subsystem = self.node.registry.subsystem(of);
        for namespace in subsystem.iter().flat_map(|subsystem| subsystem.namespaces()) {
            // One that the configuration declares: it shows a device.
            if let Entry::Vacant(place) = found.entry(namespace.nsid()) {
                let source = Source::Device { name: self.node.exports().name_of(namespace.bdev()) };
                let uuid = uuid::Uuid::from_bytes(namespace.ids().uuid);
                let (subsystem, nsid) = (of.to_owned(), namespace.nsid());
                let known = KnownNamespace { subsystem, nsid, uuid, source };
                place.insert(self.known_namespace(&known)?);
            }
        }
        Ok(found.into_values().collect())
    }

    fn known_namespace(&self, known: &KnownNamespace) -> Result<Namespace, Refusal> {
        let subsystem = self.node.registry.subsystem(&known.subsystem);
        let served = subsystem.and_then(|subsystem| subsystem.namespace(known.nsid));
        let geometry = served.map(|namespace| namespace.geometry());
        let stall = match &known.source {
            Source::Device { name } => self.stall_of(name),
            Source::Volume { pool, .. } | Source::Snapshot { pool, .. } => {
                self.pools.get(pool).and_then(|open| self.stalls_of(open))
            }
        };
        let (status, reason) = match (&geometry, stall) {
            (Some(_), Some(why)) => (Status::Degraded, why),
            (Some(_), None) => (Status::Ok, "served".to_owned()),
            (None, _) => {
                let why = self.trouble_of(known).unwrap_or("it is not there yet");
                (Status::Failed, why.to_owned())
            }
        };
        Ok(Namespace {
            nsid: known.nsid,
            uuid: known.uuid.to_string(),
            source: source_shown(&known.source)?,
            bytes: geometry.as_ref().map_or(0, bdev::Geometry::bytes),
            block_bytes: geometry.as_ref().map_or(4096, |geometry| geometry.block_bytes),
            read_only: geometry.is_some_and(|geometry| geometry.read_only),
            status,
            reason,
        })
    }

    pub(super) fn controllers(&self) -> Vec<Controller> {
        let subsystems = self.node.registry.subsystems();
        let all = subsystems.iter().flat_map(|subsystem| subsystem.live_controllers());
        all.filter_map(|controller| self.show_controller(&controller)).collect()
    }

    fn show_controller(
        &self,
        controller: &Arc<nvmf::controller::Controller>,
    ) -> Option<Controller> {
        let association = controller.association();
        let queues = controller.queue_uses().into_iter().map(|queue| ControllerQueue {
            qid: queue.qid,
            reactor: queue.reactor as u32,
            entries: queue.entries,
            outstanding: controller.queue_depth(queue.qid) as u32,
        });
        let queues: Vec<ControllerQueue> = queues.collect();
        let io = queues.iter().filter(|queue| queue.qid != 0).count();
        Some(Controller {
            subsystem: controller.subsystem().nqn().parse().ok()?,
            cntlid: controller.cntlid(),
            host: association.host_nqn.clone(),
            address: Some(association.peer.to_string()),
            transport: association.fabric,
            keep_alive_ms: controller.kato_ms(),
            errors: controller.error_count(),
            queues,
            status: Status::Ok,
            reason: format!("connected with {}", webui_model::count(io, "I/O queue")),
        })
    }

    pub(super) fn hosts(&self) -> Vec<Host> {
        let mut hosts: BTreeMap<HostNqn, Host> = BTreeMap::new();
        let fresh = |nqn: &HostNqn| Host {
            nqn: nqn.clone(),
            subsystems: Vec::new(),
            controllers: 0,
            addresses: Vec::new(),
            status: Status::Offline,
            reason: "not connected".to_owned(),
            last_refusal: None,
        };
        for of in self.nqns() {
            for host in self.access(&of).0 {
                let entry = hosts.entry(host.clone()).or_insert_with(|| fresh(&host));
                entry.subsystems.extend(nqn(&of).ok());
            }
        }
        for controller in self.controllers() {
            let Some(host) = host_names([controller.host.clone()]).pop() else { continue };
            let entry = hosts.entry(host.clone()).or_insert_with(|| fresh(&host));
            entry.controllers += 1;
            entry.status = Status::Ok;
            entry.reason = format!(
                "{} connected",
                webui_model::count(entry.controllers as usize, "controller")
            );
            if let Some(address) = controller.address
                && !entry.addresses.contains(&address)
            {
                entry.addresses.push(address);
            }
        }
        for refused in self.node.registry.refused().list() {
            let Some(host) = host_names(refused.host.clone()).pop() else { continue };
            let entry = hosts.entry(host.clone()).or_insert_with(|| fresh(&host));
            let refusal = refusals::shown(refused);
            if entry.last_refusal.as_ref().is_none_or(|other| other.at_ms < refusal.at_ms) {
                if entry.controllers == 0 {
                    entry.reason = format!("not connected; it {}", refusal.reason);
                }
                entry.last_refusal = Some(refusal);
            }
        }
        hosts.into_values().collect()
    }
}

/// Subsystems with their hosts and namespaces, as operators change them.
#[derive(Clone, Copy)]
pub(super) struct Subsystems<'a>(pub &'a ControlPlane);

fn claims(nqn: &Nqn) -> Vec<Claim> {
    vec![Claim::sole(Key::Subsystem(nqn.to_string()))]
}

impl Subsystems<'_> {
    pub(super) fn create(self, request: SubsystemCreate) -> Result<Made<Subsystem>, Refusal> {
        let what = format!("making subsystem {}", request.nqn);
        self.0.change(what, claims(&request.nqn), move |plane| {
            let (node, of) = (&*plane.node, request.nqn.as_str());
            if of == nvmf::registry::DISCOVERY_NQN {
                return Err(Refusal::exists("That is the name of the discovery subsystem."));
            }
            if let Ok(there) = View::of(node).subsystem(of) {
                let differences = request.differences(&there);
                if differences.is_empty() {
                    return Ok(Made::Existing(there));
                }
                return Err(Refusal::exists(format!(
                    "Subsystem {of} is there already, and {}.",
                    differences.join(", and ")
                )));
            }
            let hosts = listed(&request.hosts);
            node.exports().want_subsystem(of, false, hosts, request.allow_any_host)?;
            let message = format!("Subsystem {of} is made.");
            plane.done(EventKind::Created, (ObjectKind::Subsystem, of), message);
            View::of(node).subsystem(of).map(Made::New)
        })
    }

    pub(super) fn delete(self, of: &Nqn) -> Result<(), Refusal> {
        let (claims, of) = (claims(of), of.clone());
        self.0.change(format!("deleting subsystem {of}"), claims, move |plane| {
            let node = &*plane.node;
            let there = View::of(node).subsystem(of.as_str())?;
            if let Some(namespace) = there.namespaces.first() {
                return Err(Refusal::in_use(format!(
                    "Subsystem {of} shows {}: remove its namespaces first.",
                    namespace.source
                )));
            }
            configured(node, &of)?;
            node.exports().forget_subsystem(of.as_str())?;
            let message = format!("Subsystem {of} is deleted.");
            plane.done(EventKind::Deleted, (ObjectKind::Subsystem, &of), message);
            Ok(())
        })
    }

    /// Says who may connect, whoever might until now.
    pub(super) fn set_hosts(
        self,
        of: &Nqn,
        hosts: Vec<String>,
        allow_any_host: bool,
    ) -> Result<(), Refusal> {
        let (claims, of) = (claims(of), of.clone());
        self.0.change(format!("setting hosts of {of}"), claims, move |plane| {
            plane.node.exports().set_hosts(of.as_str(), hosts, allow_any_host)
        })
    }

    pub(super) fn add_host(self, of: &Nqn, host: &HostNqn) -> Result<Subsystem, Refusal> {
        let (claims, of, host) = (claims(of), of.clone(), host.clone());
        self.0.change(format!("adding {host} to {of}"), claims, move |plane| {
            let node = &*plane.node;
            let there = View::of(node).subsystem(of.as_str())?;
            if there.allow_any_host {
                return Err(Refusal::refused(format!(
                    "Subsystem {of} is open to any host: close it first, by listing its hosts."
                )));
            }
            let message = format!("{host} may connect to {of}.");
            if there.hosts.contains(&host) {
                plane.done(EventKind::Changed, (ObjectKind::Subsystem, &of), message);
                return Ok(there);
            }
            let mut hosts = listed(&there.hosts);
            hosts.push(host.to_string());
            hosts.sort();
            node.exports().set_hosts(of.as_str(), hosts, false)?;
            plane.done(EventKind::Changed, (ObjectKind::Subsystem, &of), message);
            View::of(node).subsystem(of.as_str())
        })
    }

    pub(super) fn remove_host(self, of: &Nqn, host: &HostNqn) -> Result<Subsystem, Refusal> {
        let (claims, of, host) = (claims(of), of.clone(), host.clone());
        self.0.change(format!("removing {host} from {of}"), claims, move |plane| {
            let node = &*plane.node;
            let there = View::of(node).subsystem(of.as_str())?;
            if !there.hosts.contains(&host) {
                return Err(Refusal::not_found(format!("Subsystem {of} does not list {host}.")));
            }
            let mut hosts = listed(&there.hosts);
            hosts.retain(|other| other != host.as_str());
            node.exports().set_hosts(of.as_str(), hosts, false)?;
            let message = format!("{host} may not connect to {of} any more.");
            plane.done(EventKind::Changed, (ObjectKind::Subsystem, &of), message);
            View::of(node).subsystem(of.as_str())
        })
    }

    pub(super) fn add_namespace(
        self,
        of: &Nqn,
        request: NamespaceAdd,
    ) -> Result<Made<Namespace>, Refusal> {
        let mut claims = claims(of);
        let source = self.0.with(|node| source_meant(node, &request.source));
        claims.extend(source.iter().flat_map(source_claims));
        let of = of.clone();
        let what = format!("adding {} to {of}", request.source);
        self.0.change(what, claims, move |plane| {
            let node = &*plane.node;
            let there = View::of(node).subsystem(of.as_str())?;
            check_subsystem(node, Some(&of))?;
            let source = source_meant(node, &request.source)?;
            let known = node.state().namespace_of(&source).cloned();
            if let Some(known) = known {
                let same = known.subsystem == of.as_str()
                    && request.nsid.is_none_or(|nsid| nsid == known.nsid);
                return match there.namespaces.into_iter().find(|n| same && n.nsid == known.nsid) {
                    Some(namespace) => Ok(Made::Existing(namespace)),
                    None => Err(Refusal::in_use(format!(
                        "The {} is namespace {} of {} already.",
                        request.source, known.nsid, known.subsystem
                    ))),
                };
            }
            let (uuid, exports) = (uuid_for(&source), node.exports());
            let nsid = exports.want_namespace(of.as_str(), request.nsid, uuid, source)?;
            let there = View::of(node).subsystem(of.as_str())?;
            let found = there.namespaces.into_iter().find(|namespace| namespace.nsid == nsid);
            let namespace = found.ok_or_else(|| {
                Refusal::new(RefusalKind::Internal, format!("Namespace {nsid} is not there."))
            })?;
            let object = (ObjectKind::Namespace, format!("{of}/{nsid}"));
            let message = format!("Namespace {nsid} of {of} shows {}.", namespace.source);
            plane.done(EventKind::Created, object, message);
            Ok(Made::New(namespace))
        })
    }

    pub(super) fn remove_namespace(self, of: &Nqn, nsid: u32) -> Result<(), Refusal> {
        let (mut claims, of) = (claims(of), of.clone());
        let state = self.0.node.state();
        let is_it =
            |known: &&KnownNamespace| (known.subsystem.as_str(), known.nsid) == (of.as_str(), nsid);
        let known = state.namespaces.iter().find(is_it);
        claims.extend(known.iter().flat_map(|known| source_claims(&known.source)));
        self.0.change(format!("removing namespace {nsid} of {of}"), claims, move |plane| {
            let node = &*plane.node;
            View::of(node).subsystem(of.as_str())?;
            let is_it = |known: &&KnownNamespace| {
                (known.subsystem.as_str(), known.nsid) == (of.as_str(), nsid)
            };
            let known = node.state().namespaces.iter().find(is_it).cloned();
            match known {
                Some(known) => node.exports().forget_namespace(&known)?,
                None if node.declared.iter().any(|known| is_it(&known)) => {
                    return Err(Refusal::refused(format!(
                        "The configuration file declares namespace {nsid} of {of}: take it out \
                         there."
                    )));
                }
                None => {
                    return Err(Refusal::not_found(format!("{of} has no namespace {nsid}.")));
                }
            }
            let message = format!("Namespace {nsid} of {of} is removed.");
            let object = (ObjectKind::Namespace, format!("{of}/{nsid}"));
            plane.done(EventKind::Deleted, object, message);
            Ok(())
        })
    }
}

fn listed(hosts: &[HostNqn]) -> Vec<String> {
    let hosts: BTreeSet<String> = hosts.iter().map(ToString::to_string).collect();
    hosts.into_iter().collect()
}

/// Refuses to change what the configuration file declares.
fn configured(node: &Node, of: &Nqn) -> Result<(), Refusal> {
    if node.exports().is_configured(of.as_str()) {
        return Err(Refusal::refused(format!(
            "The configuration file declares subsystem {of}: take it out there."
        )));
    }
    Ok(())
}
