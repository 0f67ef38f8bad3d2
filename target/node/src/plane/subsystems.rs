//! Subsystems, their namespaces, hosts, controllers and listeners.

use super::exports::{of_snapshot, of_volume};
use super::view::{View, host_names, name, nqn};
use super::{ControlPlane, refusals};
use crate::node::{Node, source_claims};
use crate::unit::schedule::{Claim, Key};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;
use wanted::{Request, Source};
use webui_model::{
    Controller, ControllerQueue, EventKind, Host, HostNqn, Made, Namespace, NamespaceAdd,
    NamespaceSource, Nqn, ObjectKind, Refusal, SnapshotRef, Status, Subsystem, SubsystemCreate,
    VolumeRef,
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
        NamespaceSource::Device(device) => Ok(Source::Device { name: device.to_string() }),
    }
}

impl View<'_> {
    pub(super) fn subsystems(&self) -> Result<Vec<Subsystem>, Refusal> {
        self.wanted.subsystems().map(|subsystem| self.show_subsystem(subsystem)).collect()
    }

    pub(super) fn subsystem(&self, of: &str) -> Result<Subsystem, Refusal> {
        match self.wanted.subsystem(of) {
            Some(subsystem) => self.show_subsystem(subsystem),
            None => Err(Refusal::not_found(format!("There is no subsystem {of}."))),
        }
    }

    fn show_subsystem(&self, wanted: &wanted::Subsystem) -> Result<Subsystem, Refusal> {
        let of = wanted.nqn.as_str();
        let (hosts, allow_any_host) = (wanted.host_nqns(), wanted.allow_any_host);
        let namespaces = self.wanted.namespaces_of(of).map(|one| self.show_namespace(one));
        let namespaces: Vec<Namespace> = namespaces.collect::<Result<_, _>>()?;
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
            own: wanted.own,
            hosts,
            allow_any_host,
            namespaces,
            controllers,
            status,
            reason,
        })
    }

    fn show_namespace(&self, known: &wanted::Namespace) -> Result<Namespace, Refusal> {
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
        for subsystem in self.wanted.subsystems() {
            for host in subsystem.host_nqns() {
                let entry = hosts.entry(host.clone()).or_insert_with(|| fresh(&host));
                entry.subsystems.extend(nqn(&subsystem.nqn).ok());
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
            let asked = Request::CreateSubsystem(request.clone());
            if node.exports().change(&asked)?.is_as_before() {
                return View::of(node).subsystem(of).map(Made::Existing);
            }
            let message = format!("Subsystem {of} is made.");
            plane.done(EventKind::Created, (ObjectKind::Subsystem, of), message);
            View::of(node).subsystem(of).map(Made::New)
        })
    }

    pub(super) fn delete(self, of: &Nqn) -> Result<(), Refusal> {
        let (claims, of) = (claims(of), of.clone());
        self.0.change(format!("deleting subsystem {of}"), claims, move |plane| {
            let node = &*plane.node;
            node.exports().change(&Request::DeleteSubsystem(of.to_string()))?;
            let message = format!("Subsystem {of} is deleted.");
            plane.done(EventKind::Deleted, (ObjectKind::Subsystem, &of), message);
            Ok(())
        })
    }

    /// Says who may connect, whoever might until now.
    pub(super) fn set_hosts(self, set: SubsystemCreate) -> Result<(), Refusal> {
        let what = format!("setting hosts of {}", set.nqn);
        self.0.change(what, claims(&set.nqn), move |plane| {
            plane.node.exports().change(&Request::SetHosts(set)).map(drop)
        })
    }

    pub(super) fn add_host(self, of: &Nqn, host: &HostNqn) -> Result<Subsystem, Refusal> {
        let (claims, of, host) = (claims(of), of.clone(), host.clone());
        self.0.change(format!("adding {host} to {of}"), claims, move |plane| {
            let node = &*plane.node;
            let request = Request::AddHost { nqn: of.to_string(), host: host.clone() };
            node.exports().change(&request)?;
            let message = format!("{host} may connect to {of}.");
            plane.done(EventKind::Changed, (ObjectKind::Subsystem, &of), message);
            View::of(node).subsystem(of.as_str())
        })
    }

    pub(super) fn remove_host(self, of: &Nqn, host: &HostNqn) -> Result<Subsystem, Refusal> {
        let (claims, of, host) = (claims(of), of.clone(), host.clone());
        self.0.change(format!("removing {host} from {of}"), claims, move |plane| {
            let node = &*plane.node;
            let request = Request::RemoveHost { nqn: of.to_string(), host: host.clone() };
            node.exports().change(&request)?;
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
            let (nqn, add, uuid) = (of.to_string(), request.clone(), Uuid::new_v4());
            let edited = node.exports().change(&Request::AddNamespace { nqn, add, uuid })?;
            let source = source_meant(node, &request.source)?;
            let view = View::of(node);
            let gone = || Refusal::unavailable(format!("The {source} is not shown any more."));
            let shown = view.wanted.namespace_of(&source).ok_or_else(gone)?;
            let (nsid, namespace) = (shown.nsid, view.show_namespace(shown)?);
            if edited.is_as_before() {
                return Ok(Made::Existing(namespace));
            }
            let object = (ObjectKind::Namespace, format!("{of}/{nsid}"));
            let message = format!("Namespace {nsid} of {of} shows {}.", namespace.source);
            plane.done(EventKind::Created, object, message);
            Ok(Made::New(namespace))
        })
    }

    pub(super) fn remove_namespace(self, of: &Nqn, nsid: u32) -> Result<(), Refusal> {
        let (mut claims, of) = (claims(of), of.clone());
        let wanted = self.0.node.wanted();
        let known = wanted.namespace(of.as_str(), nsid);
        claims.extend(known.iter().flat_map(|known| source_claims(&known.source)));
        self.0.change(format!("removing namespace {nsid} of {of}"), claims, move |plane| {
            let node = &*plane.node;
            node.exports().change(&Request::RemoveNamespace { nqn: of.to_string(), nsid })?;
            let message = format!("Namespace {nsid} of {of} is removed.");
            let object = (ObjectKind::Namespace, format!("{of}/{nsid}"));
            plane.done(EventKind::Deleted, object, message);
            Ok(())
        })
    }
}
