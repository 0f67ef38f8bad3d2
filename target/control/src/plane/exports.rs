//! How volumes and snapshots are exported, and what to type on a host.

use super::ControlPlane;
use super::view::{View, nqn};
use super::volumes::check_subsystem;
use crate::node::{Door, Node};
use crate::state::Source;
use nvmf::registry::Serves;
use uuid::Uuid;
use webui_model::{
    Address, ConnectAddress, ConnectInfo, EventKind, ExportSet, Nqn, ObjectKind, Refusal, Snapshot,
    SnapshotRef, Volume, VolumeRef,
};

/// Exports something as `set` says, from however it is exported now.
fn export(
    node: &mut Node,
    source: &Source,
    uuid: Uuid,
    own: &Nqn,
    set: &ExportSet,
) -> Result<(), Refusal> {
    check_subsystem(node, set.subsystem.as_ref())?;
    let Some(there) = node.state().namespace_of(source).cloned() else {
        return node.export(source.clone(), uuid, own.as_str(), set);
    };
    let known = node.state().subsystem(&there.subsystem).cloned();
    let is_own = known.as_ref().is_some_and(|known| known.own);
    match &set.subsystem {
        Some(nqn) if nqn.as_str() == there.subsystem => return Ok(()),
        None if is_own => {
            let hosts = set.hosts.iter().map(ToString::to_string).collect();
            return node.set_hosts(&there.subsystem, hosts, set.allow_any_host);
        }
        _ => {}
    }
    node.forget_namespace(&there)?;
    node.export(source.clone(), uuid, own.as_str(), set).inspect_err(|_| {
        // As it was before: what was refused has changed nothing.
        let restored = match known.filter(|known| known.own) {
            Some(known) => node.want_subsystem(&known.nqn, true, known.hosts, known.allow_any_host),
            None => Ok(()),
        };
        let (nqn, nsid) = (there.subsystem.as_str(), Some(there.nsid));
        let restored = restored
            .and_then(|()| node.want_namespace(nqn, nsid, there.uuid, there.source.clone()));
        if let Err(refusal) = restored {
            tracing::error!(nqn, "an export could not be brought back: {refusal}");
        }
    })
}

impl View<'_> {
    fn connect_info_of(&self, source: &Source) -> Result<ConnectInfo, Refusal> {
        let export = self.export_of(source)?;
        let (Some(export), Some(known)) = (export, self.node.state().namespace_of(source)) else {
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
        let doors = self.node.doors.iter();
        let serving = doors.filter(|door| door.listener.serves == Serves::Everything);
        let each = |door: &Door| {
            let transport = door.listener.fabric;
            let told = door.reachable().into_iter();
            told.map(move |address| ConnectAddress { transport, address: Address(address) })
        };
        let mut all: Vec<ConnectAddress> = serving.flat_map(each).collect();
        all.dedup();
        all
    }
}

/// The source that is a volume.
pub(super) fn of_volume(node: &mut Node, volume: &VolumeRef) -> Result<Source, Refusal> {
    node.volume_source(volume.pool.as_str(), volume.volume.as_str())
}

/// The source that is a snapshot.
pub(super) fn of_snapshot(node: &mut Node, snapshot: &SnapshotRef) -> Result<Source, Refusal> {
    let SnapshotRef { pool, volume, snapshot } = snapshot;
    node.snapshot_source(pool.as_str(), volume.as_str(), snapshot.as_str())
}

/// What hosts know something by: a volume by its own UUID, anything else by a new one, which is
/// kept with its export.
pub(super) fn uuid_for(source: &Source) -> Uuid {
    match source {
        Source::Volume { uuid, .. } => *uuid,
        Source::Snapshot { .. } | Source::Device { .. } => Uuid::new_v4(),
    }
}

impl ControlPlane {
    pub(super) fn set_export(
        &self,
        volume: &VolumeRef,
        set: &ExportSet,
    ) -> Result<Volume, Refusal> {
        let shown = self.with(|node| {
            let source = of_volume(node, volume)?;
            let own = Nqn::of_volume(&volume.pool, &volume.volume);
            export(node, &source, uuid_for(&source), &own, set)?;
            View::of(node)?.volume(volume)
        })?;
        let message = format!("Volume {volume} is exported.");
        self.done(EventKind::Changed, (ObjectKind::Volume, volume), message);
        Ok(shown)
    }

    pub(super) fn end_export(&self, volume: &VolumeRef) -> Result<(), Refusal> {
        self.with(|node| {
            let source = of_volume(node, volume)?;
            unexport(node, &source)
        })?;
        let message = format!("Volume {volume} is not exported any more.");
        self.done(EventKind::Changed, (ObjectKind::Volume, volume), message);
        Ok(())
    }

    pub(super) fn set_snapshot_export(
        &self,
        snapshot: &SnapshotRef,
        set: &ExportSet,
    ) -> Result<Snapshot, Refusal> {
        let shown = self.with(|node| {
            let source = of_snapshot(node, snapshot)?;
            let own = Nqn::of_snapshot(&snapshot.pool, &snapshot.volume, &snapshot.snapshot);
            export(node, &source, uuid_for(&source), &own, set)?;
            View::of(node)?.snapshot(snapshot)
        })?;
        let message = format!("Snapshot {snapshot} is exported, read only.");
        self.done(EventKind::Changed, (ObjectKind::Snapshot, snapshot), message);
        Ok(shown)
    }

    pub(super) fn end_snapshot_export(&self, snapshot: &SnapshotRef) -> Result<(), Refusal> {
        self.with(|node| {
            let source = of_snapshot(node, snapshot)?;
            unexport(node, &source)
        })?;
        let message = format!("Snapshot {snapshot} is not exported any more.");
        self.done(EventKind::Changed, (ObjectKind::Snapshot, snapshot), message);
        Ok(())
    }

    pub(super) fn connect_lines(&self, volume: &VolumeRef) -> Result<ConnectInfo, Refusal> {
        self.with(|node| {
            let source = of_volume(node, volume)?;
            View::of(node)?.connect_info_of(&source)
        })
    }

    pub(super) fn snapshot_lines(&self, snapshot: &SnapshotRef) -> Result<ConnectInfo, Refusal> {
        self.with(|node| {
            let source = of_snapshot(node, snapshot)?;
            View::of(node)?.connect_info_of(&source)
        })
    }
}

fn unexport(node: &mut Node, source: &Source) -> Result<(), Refusal> {
    if node.state().namespace_of(source).is_none() {
        return Err(Refusal::not_found(format!("The {source} is not exported.")));
    }
    node.unexport(source)
}
