//! The steps of a plan, and a plan that is being made.

use crate::edit::{Edited, edit};
use crate::request::Request;
use crate::seen::{Listening, Seen, SeenVolume};
use crate::tables::Wanted;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use uuid::Uuid;
use webui_model::{
    Change, ChangeAction, DeviceAdd, DeviceAttach, DeviceRef, DiscardMode, ExportSet, Limits,
    ListenerCreate, NamespaceAdd, Nqn, Object, ObjectKind, PoolCreate, PoolImport, Refusal, Resize,
    SubsystemCreate, VolumeCreate, VolumeRef,
};

/// What is done for a step, in the requests of the API.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Attach a device.
    AttachDevice(DeviceAttach),
    /// Make a subsystem.
    CreateSubsystem(SubsystemCreate),
    /// Say who may connect to a subsystem.
    SetHosts(SubsystemCreate),
    /// Bring in a pool. What is in it is known only then.
    ImportPool(PoolImport),
    /// Make a pool.
    CreatePool(PoolCreate),
    /// Say what a pool's devices are given back.
    SetDiscard(webui_model::Name, DiscardMode),
    /// Add a device to a pool.
    AddDevice(webui_model::Name, DeviceAdd),
    /// Make a volume, and export it if it is to be.
    CreateVolume(webui_model::Name, VolumeCreate, bool),
    /// Resize a volume.
    ResizeVolume(VolumeRef, Resize),
    /// Limit a volume.
    SetLimits(VolumeRef, Limits),
    /// Export a volume so.
    ExportVolume(VolumeRef, ExportSet),
    /// Export a volume no more.
    UnexportVolume(VolumeRef),
    /// Add a namespace.
    AddNamespace(Nqn, NamespaceAdd),
    /// Listen.
    CreateListener(ListenerCreate),
}

/// A step of a plan: what is said of it, and what is done.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// What is said.
    pub change: Change,
    /// What is done.
    pub act: Act,
}

/// A plan that is being made: what would be wanted so far, and be there.
pub(super) struct Plan<'a> {
    pub wanted: Wanted,
    pub then: Then<'a>,
    pub steps: Vec<Planned>,
    pub uuids: u128,
}

/// What is there, and what would be.
pub(super) struct Then<'a> {
    pub seen: &'a dyn Seen,
    pub pools: BTreeSet<String>,
    pub volumes: BTreeMap<(String, String), SeenVolume>,
}

impl Seen for Then<'_> {
    fn pool_away(&self, pool: &str) -> Option<String> {
        if self.pools.contains(pool) { None } else { self.seen.pool_away(pool) }
    }

    fn volume(&self, pool: &str, volume: &str) -> Option<SeenVolume> {
        let made = self.volumes.get(&(pool.to_owned(), volume.to_owned())).cloned();
        made.or_else(|| self.seen.volume(pool, volume))
    }

    fn has_snapshot(&self, pool: &str, volume: &str, snapshot: &str) -> bool {
        self.seen.has_snapshot(pool, volume, snapshot)
    }

    fn user(&self, device: &str) -> Option<String> {
        self.seen.user(device)
    }

    fn device_at(&self, place: &DeviceRef) -> Option<String> {
        self.seen.device_at(place)
    }

    fn device_bytes(&self, device: &str) -> Option<u64> {
        self.seen.device_bytes(device)
    }

    fn may_attach(&self, place: &DeviceRef) -> Result<(), Refusal> {
        self.seen.may_attach(place)
    }

    fn listening(&self) -> Vec<Listening> {
        self.seen.listening()
    }

    fn unusable(&self, ip: IpAddr) -> Option<String> {
        self.seen.unusable(ip)
    }

    fn rdma_off(&self) -> Option<String> {
        self.seen.rdma_off()
    }

    fn api(&self) -> Option<SocketAddr> {
        self.seen.api()
    }
}

/// A change from one value to another, in a sentence.
pub(super) struct Said {
    pub action: ChangeAction,
    pub message: String,
    pub from: Option<String>,
    pub to: Option<String>,
}

impl Said {
    pub(super) fn new(action: ChangeAction, message: String) -> Said {
        Said { action, message, from: None, to: None }
    }

    pub(super) fn made(message: String) -> Said {
        Said::new(ChangeAction::Create, message)
    }

    /// Of something that changes: `what` is the beginning of the sentence.
    pub(super) fn changed(what: String, from: impl ToString, to: impl ToString) -> Said {
        let (from, to) = (from.to_string(), to.to_string());
        let message = format!("{what} from {from} to {to}.");
        Said { action: ChangeAction::Change, message, from: Some(from), to: Some(to) }
    }
}

impl Plan<'_> {
    /// UUIDs that nobody ever sees.
    pub(super) fn uuid(&mut self) -> Uuid {
        self.uuids += 1;
        Uuid::from_u128(self.uuids)
    }

    pub(super) fn ask(&mut self, request: &Request) -> Result<Edited, Refusal> {
        let edited = edit(&self.wanted, request, &self.then)?;
        self.wanted = edited.wanted.clone();
        Ok(edited)
    }

    pub(super) fn step(&mut self, object: (ObjectKind, impl ToString), said: Said, act: Act) {
        let object = Object::new(object.0, object.1.to_string());
        let Said { action, message, from, to } = said;
        self.steps.push(Planned { change: Change { action, object, message, from, to }, act });
    }
}
