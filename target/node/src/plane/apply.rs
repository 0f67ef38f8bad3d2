//! Declarations: made so, and printed back.

use super::ControlPlane;
use super::subsystems::Subsystems;
use super::view::View;
use crate::node::Node;
use bdev_pool::Found;
use std::collections::BTreeSet;
use wanted::{Act, DeviceSpec, Planned};
use webui_model::{
    Applied, Change, Control, Declaration, DeclaredPool, DeclaredSubsystem, DeclaredVolume,
    DeviceAttach, DeviceRef, DiscardMode, DiscardSet, Listener, ListenerCreate, NamespaceAdd,
    NamespaceSource, Nqn, Object, ObjectKind, Pool, Refusal, Size, Subsystem, Volume, VolumeRef,
};

/// A refusal that says what was done before it.
fn after(done: &[Change], mut refusal: Refusal) -> Refusal {
    if !done.is_empty() {
        let done: Vec<&str> = done.iter().map(|change| change.message.as_str()).collect();
        refusal.message.push_str(&format!(" This was done before: {}", done.join(" ")));
    }
    refusal
}

/// How a device of a declared pool would be attached, if it is not: as the declaration says, or by its
/// path.
fn declared_as(declaration: &Declaration, device: &DeviceRef) -> Option<DeviceAttach> {
    if device.is_path() {
        return Some(DeviceAttach { path: Some(device.clone()), ..DeviceAttach::default() });
    }
    let is_it = |attach: &&DeviceAttach| {
        attach.name.as_ref().is_some_and(|name| name.as_str() == device.as_str())
    };
    declaration.devices.iter().find(is_it).cloned()
}

/// Whether a pool of the name is on the device. One that is not attached is looked at, and left as it
/// was; one that is to be made has nothing on it.
fn is_on(
    node: &Node,
    declaration: &Declaration,
    pool: &str,
    device: &DeviceRef,
) -> Result<bool, Refusal> {
    let scan = |name: &str| {
        let seen = node.pools().scan(&[name.to_owned()]);
        seen.iter().any(|seen| matches!(&seen.found, Found::Pool(_, name, _) if name == pool))
    };
    let attached = match device.is_path() {
        true => node.devices().device_at(device),
        false => node.wanted().device(device.as_str()).map(|device| device.name.clone()),
    };
    if let Some(name) = attached {
        return Ok(scan(&name));
    }
    let Some(attach) = declared_as(declaration, device) else { return Ok(false) };
    let path = attach.path.as_ref().map(|path| std::path::PathBuf::from(path.as_str()));
    let is_new = path.is_none_or(|path| attach.bytes.is_some() && !path.exists());
    if is_new { Ok(false) } else { node.devices().peek(attach, scan) }
}

impl ControlPlane {
    pub(super) fn apply_declaration(
        &self,
        declaration: &Declaration,
        dry_run: bool,
    ) -> Result<Applied, Refusal> {
        let mut changes: Vec<Change> = Vec::new();
        loop {
            let planned = self.plan(declaration).map_err(|refusal| after(&changes, refusal))?;
            if dry_run {
                changes.extend(planned.into_iter().map(|step| step.change));
                break;
            }
            let import = planned.iter().position(|step| matches!(step.act, Act::ImportPool(_)));
            // What is in a pool is known only then.
            let some = import.map_or(planned.len(), |at| at + 1);
            for Planned { change, act } in planned.into_iter().take(some) {
                self.perform(act).map_err(|refusal| after(&changes, refusal))?;
                changes.push(change);
            }
            if import.is_none() {
                break;
            }
        }
        Ok(Applied { dry_run, changes, undeclared: self.undeclared(declaration)? })
    }

    /// What has to be done, all that can be checked before being checked.
    fn plan(&self, declaration: &Declaration) -> Result<Vec<Planned>, Refusal> {
        let wanted = declaration.clone();
        let on_devices = self.change("looking for declared pools", Vec::new(), move |plane| {
            let node = &*plane.node;
            let mut found = BTreeSet::new();
            for pool in &wanted.pools {
                let name = pool.name.as_str();
                if node.wanted().pool(name).is_some() {
                    continue;
                }
                for device in &pool.devices {
                    if is_on(node, &wanted, name, device)? {
                        found.insert(name.to_owned());
                        break;
                    }
                }
            }
            Ok(found)
        })?;
        self.with(|node| wanted::plan(&node.wanted(), declaration, node, &on_devices))
    }

    fn perform(&self, act: Act) -> Result<(), Refusal> {
        match act {
            Act::AttachDevice(attach) => self.attach_device(attach).map(drop),
            Act::CreateSubsystem(create) => self.create_subsystem(create).map(drop),
            Act::SetHosts(set) => Subsystems(self).set_hosts(set),
            Act::ImportPool(import) => self.import_pool(import).map(drop),
            Act::CreatePool(create) => self.create_pool(create).map(drop),
            Act::SetDiscard(pool, mode) => self.set_discard(&pool, DiscardSet { mode }).map(drop),
            Act::AddDevice(pool, add) => self.add_device(&pool, add).map(drop),
            Act::CreateVolume(pool, create, exported) => {
                let volume = VolumeRef { pool, volume: create.name.clone() };
                self.create_volume(&volume.pool, create)?;
                if exported { Ok(()) } else { self.unexport_volume(&volume) }
            }
            Act::ResizeVolume(volume, resize) => self.resize_volume(&volume, resize).map(drop),
            Act::SetLimits(volume, limits) => self.set_limits(&volume, limits).map(drop),
            Act::ExportVolume(volume, set) => self.export_volume(&volume, set).map(drop),
            Act::UnexportVolume(volume) => self.unexport_volume(&volume),
            Act::AddNamespace(nqn, add) => self.add_namespace(&nqn, add).map(drop),
            Act::CreateListener(create) => self.create_listener(create).map(drop),
        }
    }

    fn undeclared(&self, declaration: &Declaration) -> Result<Vec<Object>, Refusal> {
        let mut left = Vec::new();
        for pool in self.pools()? {
            let Some(declared) = declaration.pools.iter().find(|p| p.name == pool.name) else {
                left.push(Object::new(ObjectKind::Pool, pool.name.to_string()));
                continue;
            };
            for volume in self.volumes(Some(&pool.name))? {
                if !declared.volumes.iter().any(|v| v.name == volume.name) {
                    let name = format!("{}/{}", pool.name, volume.name);
                    left.push(Object::new(ObjectKind::Volume, name));
                }
            }
        }
        for subsystem in self.subsystems()?.into_iter().filter(|subsystem| !subsystem.own) {
            if !declaration.subsystems.iter().any(|s| s.nqn == subsystem.nqn) {
                left.push(Object::new(ObjectKind::Subsystem, subsystem.nqn.to_string()));
            }
        }
        for Listener { address, transport, .. } in self.listeners()? {
            let is_it = |l: &ListenerCreate| (l.address, l.transport) == (address, transport);
            if !declaration.listeners.iter().any(is_it) {
                left.push(Object::new(ObjectKind::Listener, address.to_string()));
            }
        }
        Ok(left)
    }

    /// What is there beside the configuration, as a declaration.
    pub(super) fn declared(&self) -> Result<Declaration, Refusal> {
        self.with(|node| {
            let view = View::of(node);
            let (mut pools, volumes) = (view.pools()?, view.volumes(None)?);
            let lacks = lacks(&view, &pools, &volumes)?;
            pools.retain(|pool| view.pools.contains_key(pool.name.as_str()));
            let pools = pools.iter().map(|pool| declared_pool(&view, pool, &volumes));
            let own = |subsystem: &Subsystem| {
                let wanted = view.wanted.subsystem(subsystem.nqn.as_str());
                subsystem.own || wanted.is_some_and(|wanted| wanted.is_configured())
            };
            let subsystems = view.subsystems()?.into_iter().filter(|s| !own(s));
            let listeners = view.wanted.listeners().filter(|listener| !listener.is_configured());
            Ok(Declaration {
                lacks,
                devices: declared_devices(&view),
                pools: pools.collect(),
                subsystems: subsystems.map(declared_subsystem).collect(),
                listeners: listeners
                    .map(|known| ListenerCreate {
                        transport: known.transport,
                        address: webui_model::Address(known.address),
                        discovery_only: known.discovery_only,
                    })
                    .collect(),
            })
        })
    }
}

/// What a declaration cannot say, and is there.
fn lacks(view: &View<'_>, pools: &[Pool], volumes: &[Volume]) -> Result<Vec<String>, Refusal> {
    let mut lacks = Vec::new();
    for pool in pools {
        if !view.pools.contains_key(pool.name.as_str()) {
            lacks.push(format!(
                "Pool {} with all its volumes is left out, since it is not imported: {}",
                pool.name, pool.reason
            ));
        }
        for snapshot in view.snapshots(&pool.name, None)? {
            let at = format!("{}/{}@{}", pool.name, snapshot.volume, snapshot.name);
            lacks.push(match snapshot.export {
                Some(export) => {
                    format!("Snapshot {at} is left out, and its export as {}.", export.subsystem)
                }
                None => format!("Snapshot {at} is left out."),
            });
        }
    }
    for volume in volumes {
        let at = format!("{}/{}", volume.pool, volume.name);
        if let Some(origin) = &volume.origin {
            lacks.push(format!(
                "Volume {at} is a clone of {origin}, and would be made without its data."
            ));
        }
        let Some(export) = &volume.export else { continue };
        if export.own && export.subsystem != Nqn::of_volume(&volume.pool, &volume.name) {
            lacks.push(format!(
                "Volume {at} is exported as {}, and would be under a name of its own.",
                export.subsystem
            ));
        }
        if !export.own {
            lacks.push(format!(
                "Volume {at} is namespace {} of {}, and would be the first that is free.",
                export.nsid, export.subsystem
            ));
        }
    }
    Ok(lacks)
}

fn declared_devices(view: &View<'_>) -> Vec<DeviceAttach> {
    let attached = view.wanted.devices().filter(|device| !device.is_configured());
    let declared = attached.filter_map(|device| {
        let name = Some(device.name.parse().ok()?);
        Some(match &device.spec {
            DeviceSpec::Memory { bytes, .. } => {
                DeviceAttach { name, bytes: Some(*bytes), ..DeviceAttach::default() }
            }
            DeviceSpec::Drive(drive) => {
                let path = Some(drive.place.parse().ok()?);
                let unsafe_no_iommu = drive.unsafe_no_iommu;
                DeviceAttach { name, path, unsafe_no_iommu, ..DeviceAttach::default() }
            }
            spec => {
                let path = Some(spec.place()?.parse().ok()?);
                DeviceAttach { name, path, ..DeviceAttach::default() }
            }
        })
    });
    declared.collect()
}

fn declared_pool(view: &View<'_>, pool: &Pool, volumes: &[Volume]) -> DeclaredPool {
    let device = |device: &webui_model::PoolDevice| {
        let name = device.device.as_ref()?;
        let spec = view.bdevs.get(name.as_str()).map(|slot| &slot.entry.device.spec);
        match (spec, &device.path) {
            (Some(DeviceSpec::File { .. }), Some(path)) => path.parse().ok(),
            _ => name.as_str().parse().ok(),
        }
    };
    let volumes = volumes.iter().filter(|volume| volume.pool == pool.name);
    DeclaredPool {
        name: pool.name.clone(),
        devices: pool.devices.iter().filter_map(device).collect(),
        discard: (pool.discard != DiscardMode::Auto).then_some(pool.discard),
        volumes: volumes.map(declared_volume).collect(),
    }
}

fn declared_volume(volume: &Volume) -> DeclaredVolume {
    let own = volume.export.as_ref().filter(|export| export.own);
    let named = volume.export.as_ref().filter(|export| !export.own);
    DeclaredVolume {
        name: volume.name.clone(),
        bytes: Size(volume.bytes),
        may_shrink: false,
        block_bytes: Some(volume.block_bytes),
        thick: volume.thick,
        exported: volume.export.is_some(),
        limits: volume.limits,
        subsystem: named.map(|export| export.subsystem.clone()),
        hosts: own.map(|export| export.hosts.clone()).unwrap_or_default(),
        allow_any_host: own.is_some_and(|export| export.allow_any_host),
    }
}

fn declared_subsystem(subsystem: Subsystem) -> DeclaredSubsystem {
    let whole = |source: &NamespaceSource| !matches!(source, NamespaceSource::Volume(_));
    let namespaces = subsystem.namespaces.into_iter().filter(|n| whole(&n.source));
    DeclaredSubsystem {
        nqn: subsystem.nqn,
        hosts: subsystem.hosts,
        allow_any_host: subsystem.allow_any_host,
        namespaces: namespaces
            .map(|n| NamespaceAdd { source: n.source, nsid: Some(n.nsid) })
            .collect(),
    }
}
