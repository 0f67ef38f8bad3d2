//! How volumes and snapshots are exported, and what to type on a host.

use super::ControlPlane;
use super::view::{View, nqn};
use super::volumes::export_claims;
use crate::node::{Node, OpenListener};
use crate::unit::schedule::Claim;
use nvmf::registry::Serves;
use std::sync::Arc;
use uuid::Uuid;
use wanted::{Request, Shown, Source};
use webui_model::{
    Address, ConnectAddress, ConnectInfo, EventKind, ExportSet, Nqn, ObjectKind, Refusal, Snapshot,
    SnapshotRef, Volume, VolumeRef,
};

/// Exports something as `set` says, however it is exported now.
fn export(node: &Node, what: Shown, set: ExportSet) -> Result<(), Refusal> {
    node.exports().change(&Request::Export { what, set, uuid: Uuid::new_v4() }).map(drop)
}

fn unexport(node: &Node, what: Shown) -> Result<(), Refusal> {
    node.exports().change(&Request::Unexport(what)).map(drop)
}

impl View<'_> {
    fn connect_info_of(&self, source: &Source) -> Result<ConnectInfo, Refusal> {
        let export = self.export_of(source)?;
        let (Some(export), Some(known)) = (export, self.wanted.namespace_of(source)) else {
            return Err(Refusal::not_found(format!(
                "The {source} is not exported: export it first."
            )));
        };
        let uuid = known.uuid.to_string();
        let addresses = self.addresses();
        let nobody = export.hosts.is_empty() && !export.allow_any_host;
        let warning = if nobody {
            Some(format!("No host may connect to {}: add one.", export.subsystem))
        } else if addresses.is_empty() {
            Some("Nothing listens: create a listener.".to_owned())
        } else {
            self.trouble_of(known).map(|why| format!("It is not served now: {why}"))
        };
        Ok(ConnectInfo {
            lines: ConnectInfo::lines(&export.subsystem, &uuid, &addresses),
            nsid: export.nsid,
            uuid,
            hosts: export.hosts,
            allow_any_host: export.allow_any_host,
            subsystem: nqn(export.subsystem.as_str())?,
            addresses,
            warning,
        })
    }

    /// Where hosts reach the subsystems.
    fn addresses(&self) -> Vec<ConnectAddress> {
        let open = self.listeners.iter();
        let serving = open.filter(|open| open.listener.serves == Serves::Everything);
        let each = |open: &Arc<OpenListener>| {
            let transport = open.listener.fabric;
            let told = open.reachable().into_iter();
            told.map(move |address| ConnectAddress { transport, address: Address(address) })
        };
        let mut all: Vec<ConnectAddress> = serving.flat_map(each).collect();
        all.dedup();
        all
    }
}

/// The source that is a volume.
pub(super) fn of_volume(node: &Node, volume: &VolumeRef) -> Result<Source, Refusal> {
    node.pools().volume_source(volume.pool.as_str(), volume.volume.as_str())
}

/// The source that is a snapshot.
pub(super) fn of_snapshot(node: &Node, snapshot: &SnapshotRef) -> Result<Source, Refusal> {
    let SnapshotRef { pool, volume, snapshot } = snapshot;
    node.pools().snapshot_source(pool.as_str(), volume.as_str(), snapshot.as_str())
}

/// How volumes and snapshots are exported, as operators change it.
#[derive(Clone, Copy)]
pub(super) struct Exports<'a>(pub &'a ControlPlane);

impl Exports<'_> {
    /// What changing the export of a volume or snapshot needs.
    fn claims(
        self,
        mut of: Vec<Claim>,
        source: Result<Source, Refusal>,
        own: &Nqn,
        named: Option<&Nqn>,
    ) -> Vec<Claim> {
        of.extend(export_claims(self.0, own, source.ok().as_ref(), named));
        of
    }

    pub(super) fn export_volume(
        self,
        volume: &VolumeRef,
        set: ExportSet,
    ) -> Result<Volume, Refusal> {
        let own = Nqn::of_volume(&volume.pool, &volume.volume);
        let source = of_volume(&self.0.node, volume);
        let of = super::volumes::claims(volume);
        let claims = self.claims(of, source, &own, set.subsystem.as_ref());
        let volume = volume.clone();
        self.0.change(format!("exporting volume {volume}"), claims, move |plane| {
            let node = &*plane.node;
            export(node, Shown::Volume(volume.clone()), set)?;
            let message = format!("Volume {volume} is exported.");
            plane.done(EventKind::Changed, (ObjectKind::Volume, &volume), message);
            View::of(node).volume(&volume)
        })
    }

    pub(super) fn unexport_volume(self, volume: &VolumeRef) -> Result<(), Refusal> {
        let own = Nqn::of_volume(&volume.pool, &volume.volume);
        let source = of_volume(&self.0.node, volume);
        let claims = self.claims(super::volumes::claims(volume), source, &own, None);
        let volume = volume.clone();
        self.0.change(format!("unexporting volume {volume}"), claims, move |plane| {
            unexport(&plane.node, Shown::Volume(volume.clone()))?;
            let message = format!("Volume {volume} is not exported any more.");
            plane.done(EventKind::Changed, (ObjectKind::Volume, &volume), message);
            Ok(())
        })
    }

    pub(super) fn export_snapshot(
        self,
        snapshot: &SnapshotRef,
        set: ExportSet,
    ) -> Result<Snapshot, Refusal> {
        let own = Nqn::of_snapshot(&snapshot.pool, &snapshot.volume, &snapshot.snapshot);
        let source = of_snapshot(&self.0.node, snapshot);
        let of = super::snapshots::claims(snapshot);
        let claims = self.claims(of, source, &own, set.subsystem.as_ref());
        let snapshot = snapshot.clone();
        self.0.change(format!("exporting snapshot {snapshot}"), claims, move |plane| {
            let node = &*plane.node;
            export(node, Shown::Snapshot(snapshot.clone()), set)?;
            let message = format!("Snapshot {snapshot} is exported, read only.");
            plane.done(EventKind::Changed, (ObjectKind::Snapshot, &snapshot), message);
            View::of(node).snapshot(&snapshot)
        })
    }

    pub(super) fn unexport_snapshot(self, snapshot: &SnapshotRef) -> Result<(), Refusal> {
        let own = Nqn::of_snapshot(&snapshot.pool, &snapshot.volume, &snapshot.snapshot);
        let source = of_snapshot(&self.0.node, snapshot);
        let claims = self.claims(super::snapshots::claims(snapshot), source, &own, None);
        let snapshot = snapshot.clone();
        self.0.change(format!("unexporting snapshot {snapshot}"), claims, move |plane| {
            unexport(&plane.node, Shown::Snapshot(snapshot.clone()))?;
            let message = format!("Snapshot {snapshot} is not exported any more.");
            plane.done(EventKind::Changed, (ObjectKind::Snapshot, &snapshot), message);
            Ok(())
        })
    }

    pub(super) fn connect_info(self, volume: &VolumeRef) -> Result<ConnectInfo, Refusal> {
        self.0.with(|node| View::of(node).connect_info_of(&of_volume(node, volume)?))
    }

    pub(super) fn snapshot_connect_info(
        self,
        snapshot: &SnapshotRef,
    ) -> Result<ConnectInfo, Refusal> {
        self.0.with(|node| View::of(node).connect_info_of(&of_snapshot(node, snapshot)?))
    }
}
