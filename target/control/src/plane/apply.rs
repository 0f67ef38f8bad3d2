//! Declarations: made so, and printed back.

use super::ControlPlane;
use super::subsystems::Subsystems;
use super::view::View;
use crate::config::BdevKind;
use crate::state::DevicePlace;
use bdev_pool::Found;
use webui_model::{
    Applied, Change, ChangeAction, Control, Declaration, DeclaredPool, DeclaredSubsystem,
    DeclaredVolume, DeviceAdd, DeviceAttach, DeviceRef, DiscardMode, DiscardSet, Listener,
    ListenerCreate, Made, NamespaceAdd, NamespaceSource, Nqn, Object, ObjectKind, Pool, PoolCreate,
    PoolImport, Refusal, RefusalKind, Resize, Size, Subsystem, SubsystemCreate, Volume, VolumeRef,
};

/// A declaration on its way.
struct Run<'a> {
    plane: &'a ControlPlane,
    dry: bool,
    changes: Vec<Change>,
}

/// What is there, or nothing.
fn found<T>(looked: Result<T, Refusal>) -> Result<Option<T>, Refusal> {
    match looked {
        Ok(there) => Ok(Some(there)),
        Err(refusal) if refusal.kind == RefusalKind::NotFound => Ok(None),
        Err(refusal) => Err(refusal),
    }
}

impl Run<'_> {
    /// Notes a change, and makes it unless this is dry.
    fn change<T>(
        &mut self,
        action: ChangeAction,
        object: (ObjectKind, &dyn std::fmt::Display),
        message: String,
        make: impl FnOnce(&ControlPlane) -> Result<T, Refusal>,
    ) -> Result<(), Refusal> {
        if !self.dry {
            make(self.plane)?;
        }
        let object = Object::new(object.0, object.1.to_string());
        self.changes.push(Change { action, object, message, from: None, to: None });
        Ok(())
    }

    fn device(&mut self, device: &DeviceAttach) -> Result<(), Refusal> {
        let at = device.path.as_ref().map(DeviceRef::as_str).unwrap_or("memory");
        let label = device.name.as_ref().map_or(at, |name| name.as_str());
        let there = match &device.name {
            Some(name) => found(self.plane.device(name))?.is_some(),
            None => self.plane.with(|node| {
                let path = device.path.as_ref().map(|path| std::path::Path::new(path.as_str()));
                Ok(path.is_some_and(|path| node.devices().device_at(path).is_some()))
            })?,
        };
        if there {
            // Whether it is the same one.
            return self.plane.attach_device(device.clone()).map(drop);
        }
        let message = format!("Device {label} is attached.");
        self.change(ChangeAction::Create, (ObjectKind::Device, &label), message, |plane| {
            plane.attach_device(device.clone())
        })
    }

    fn subsystem(&mut self, declared: &DeclaredSubsystem) -> Result<(), Refusal> {
        let DeclaredSubsystem { nqn, hosts, allow_any_host, .. } = declared;
        let request = SubsystemCreate {
            nqn: nqn.clone(),
            hosts: hosts.clone(),
            allow_any_host: *allow_any_host,
        };
        let object = (ObjectKind::Subsystem, nqn as &dyn std::fmt::Display);
        let Some(there) = found(self.plane.subsystem(nqn))? else {
            let message = format!("Subsystem {nqn} is made.");
            return self.change(ChangeAction::Create, object, message, |plane| {
                plane.create_subsystem(request)
            });
        };
        if there.own {
            return Err(Refusal::exists(format!(
                "Subsystem {nqn} is that of one volume or snapshot: leave it out."
            )));
        }
        let differences = request.differences(&there);
        if differences.is_empty() {
            return Ok(());
        }
        let message = format!("Who may connect to {nqn} changes.");
        let hosts = hosts.iter().map(ToString::to_string).collect();
        self.change(ChangeAction::Change, object, message, |plane| {
            Subsystems(plane).set_hosts(nqn, hosts, *allow_any_host)
        })
    }

    fn pool(&mut self, declared: &DeclaredPool) -> Result<(), Refusal> {
        let name = &declared.name;
        let there = found(self.plane.pool(name))?;
        match &there {
            Some(pool) => {
                self.pool_devices(declared, pool)?;
                self.pool_discard(declared, pool.discard)?;
            }
            None => self.new_pool(declared)?,
        }
        for volume in &declared.volumes {
            let at = VolumeRef { pool: name.clone(), volume: volume.name.clone() };
            let found = match there {
                Some(_) => found(self.plane.volume(&at))?,
                // Of one that was imported just now; of one that would be nothing is known.
                None if !self.dry => found(self.plane.volume(&at))?,
                None => None,
            };
            self.volume(&at, volume, found.as_ref())?;
        }
        Ok(())
    }

    fn new_pool(&mut self, declared: &DeclaredPool) -> Result<(), Refusal> {
        let (name, devices) = (declared.name.clone(), declared.devices.clone());
        let object = (ObjectKind::Pool, &declared.name as &dyn std::fmt::Display);
        if self.is_on(declared)? {
            let message = format!("Pool {name} is imported.");
            self.change(ChangeAction::Import, object, message, |plane| {
                plane.import_pool(PoolImport { name: Some(name), devices, force: false })
            })?;
            let now = found(self.plane.pool(&declared.name))?;
            return self.pool_discard(declared, now.map_or_else(Default::default, |p| p.discard));
        }
        let discard = declared.discard;
        let message = format!("Pool {name} is made of {} devices.", devices.len());
        self.change(ChangeAction::Create, object, message, |plane| {
            plane.create_pool(PoolCreate { name, devices, force: false, discard })
        })
    }

    /// Whether a pool of the name is on one of the devices.
    fn is_on(&self, declared: &DeclaredPool) -> Result<bool, Refusal> {
        let declared = declared.clone();
        self.plane.change(format!("looking for pool {}", declared.name), Vec::new(), move |plane| {
            let node = &*plane.node;
            for device in &declared.devices {
                let at = std::path::Path::new(device.as_str());
                let attached = match device.is_path() {
                    true => node.devices().device_at(at),
                    false => Some(device.to_string()),
                };
                // One that is not attached is, for as long as it is looked at.
                let (name, new) = match attached {
                    Some(name) => (name, false),
                    None => node.devices().resolve(device, false)?,
                };
                let seen = node.pools().scan(std::slice::from_ref(&name));
                if new {
                    node.devices().detach(&name)?;
                }
                let is_it = |found: &Found| {
                    matches!(found, Found::Pool(_, pool, _) if pool == declared.name.as_str())
                };
                if seen.iter().any(|seen| is_it(&seen.found)) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    fn pool_discard(&mut self, declared: &DeclaredPool, now: DiscardMode) -> Result<(), Refusal> {
        let Some(mode) = declared.discard.filter(|mode| *mode != now) else { return Ok(()) };
        let name = &declared.name;
        let message = format!("Discard of pool {name} is {mode}.");
        self.change(ChangeAction::Change, (ObjectKind::Pool, name), message, |plane| {
            plane.set_discard(name, DiscardSet { mode })
        })
    }

    fn pool_devices(&mut self, declared: &DeclaredPool, there: &Pool) -> Result<(), Refusal> {
        for device in &declared.devices {
            let at = std::path::Path::new(device.as_str());
            let name = match device.is_path() {
                true => self.plane.with(|node| Ok(node.devices().device_at(at)))?,
                false => Some(device.to_string()),
            };
            let mut members = there.devices.iter().filter_map(|device| device.device.as_ref());
            if name.is_some_and(|name| members.any(|member| member.as_str() == name)) {
                continue;
            }
            let pool = &declared.name;
            let message = format!("Device {device} becomes part of pool {pool}.");
            self.change(ChangeAction::Change, (ObjectKind::Pool, pool), message, |plane| {
                plane.add_device(pool, DeviceAdd { device: device.clone(), force: false })
            })?;
        }
        Ok(())
    }

    fn volume(
        &mut self,
        at: &VolumeRef,
        declared: &DeclaredVolume,
        there: Option<&Volume>,
    ) -> Result<(), Refusal> {
        let object = (ObjectKind::Volume, at as &dyn std::fmt::Display);
        let Some(there) = there else {
            let message = format!("Volume {at} of {} is made.", declared.bytes);
            return self.change(ChangeAction::Create, object, message, |plane| {
                plane.create_volume(&at.pool, declared.to_create())?;
                if declared.exported { Ok(()) } else { plane.unexport_volume(at) }
            });
        };
        let other_blocks = declared.block_bytes.is_some_and(|bytes| there.block_bytes != bytes);
        if other_blocks || there.thick != declared.thick {
            return Err(Refusal::exists(format!(
                "Volume {at} is there, {} and with blocks of {} bytes, and that never changes.",
                if there.thick { "thick" } else { "thin" },
                there.block_bytes
            )));
        }
        let Size(bytes) = declared.bytes;
        if bytes < there.bytes && !declared.may_shrink {
            return Err(Refusal::refused(format!(
                "Volume {at} has {} bytes and would lose what lies behind {bytes}: say may_shrink \
                 if that is meant.",
                there.bytes
            )));
        }
        if bytes != there.bytes {
            let message = format!("Volume {at} has {} from now on.", declared.bytes);
            let request = Resize { bytes, may_shrink: declared.may_shrink };
            self.change(ChangeAction::Change, object, message, |plane| {
                plane.resize_volume(at, request)
            })?;
        }
        if there.limits != declared.limits {
            let message = format!("Volume {at} has other limits.");
            self.change(ChangeAction::Change, object, message, |plane| {
                plane.set_limits(at, declared.limits)
            })?;
        }
        self.volume_export(at, declared, there)
    }

    fn volume_export(
        &mut self,
        at: &VolumeRef,
        declared: &DeclaredVolume,
        there: &Volume,
    ) -> Result<(), Refusal> {
        let object = (ObjectKind::Volume, at as &dyn std::fmt::Display);
        if !declared.exported {
            if there.export.is_none() {
                return Ok(());
            }
            let message = format!("Volume {at} is exported no more.");
            return self
                .change(ChangeAction::Change, object, message, |plane| plane.unexport_volume(at));
        }
        let set = declared.to_create().export();
        if set.differences(there.export.as_ref()).is_empty() {
            return Ok(());
        }
        let message = format!("Volume {at} is exported as declared.");
        self.change(ChangeAction::Change, object, message, |plane| plane.export_volume(at, set))
    }

    fn namespace(
        &mut self,
        declared: &DeclaredSubsystem,
        namespace: &NamespaceAdd,
    ) -> Result<(), Refusal> {
        let nqn = &declared.nqn;
        let there = found(self.plane.subsystem(nqn))?;
        let is_it = |there: &Subsystem| {
            let mut namespaces = there.namespaces.iter();
            namespaces.any(|n| {
                n.source == namespace.source && namespace.nsid.is_none_or(|nsid| nsid == n.nsid)
            })
        };
        if there.as_ref().is_some_and(is_it) {
            return Ok(());
        }
        let message = format!("Subsystem {nqn} shows {}.", namespace.source);
        self.change(
            ChangeAction::Create,
            (ObjectKind::Namespace, &namespace.source),
            message,
            |plane| plane.add_namespace(nqn, namespace.clone()),
        )
    }

    fn listener(&mut self, declared: &ListenerCreate) -> Result<(), Refusal> {
        let there = found(self.plane.listener(declared.transport, declared.address))?;
        if there.is_some() {
            // Whether it serves the same.
            return self.plane.create_listener(*declared).map(drop);
        }
        let address = declared.address;
        let message = format!("Hosts can connect to {address}.");
        self.change(ChangeAction::Create, (ObjectKind::Listener, &address), message, |plane| {
            plane.create_listener(*declared).map(Made::into_inner)
        })
    }
}

impl ControlPlane {
    pub(super) fn apply_declaration(
        &self,
        declaration: &Declaration,
        dry_run: bool,
    ) -> Result<Applied, Refusal> {
        let mut run = Run { plane: self, dry: dry_run, changes: Vec::new() };
        declaration.devices.iter().try_for_each(|device| run.device(device))?;
        declaration.subsystems.iter().try_for_each(|subsystem| run.subsystem(subsystem))?;
        declaration.pools.iter().try_for_each(|pool| run.pool(pool))?;
        for subsystem in &declaration.subsystems {
            subsystem.namespaces.iter().try_for_each(|n| run.namespace(subsystem, n))?;
        }
        declaration.listeners.iter().try_for_each(|listener| run.listener(listener))?;
        let changes = run.changes;
        Ok(Applied { dry_run, changes, undeclared: self.undeclared(declaration)? })
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
                subsystem.own || view.node.exports().is_configured(subsystem.nqn.as_str())
            };
            let subsystems = view.subsystems()?.into_iter().filter(|s| !own(s));
            let listeners = view.state.listeners.iter();
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
    let known = view.state.devices.iter();
    known
        .filter_map(|known| {
            let name = Some(known.name.parse().ok()?);
            Some(match &known.place {
                DevicePlace::Path(path) => {
                    let path = Some(path.display().to_string().parse().ok()?);
                    DeviceAttach { name, path, ..DeviceAttach::default() }
                }
                DevicePlace::Memory(bytes) => {
                    DeviceAttach { name, bytes: Some(*bytes), ..DeviceAttach::default() }
                }
                DevicePlace::Drive(drive) => {
                    let path = Some(drive.place.to_string().parse().ok()?);
                    let unsafe_no_iommu = drive.unsafe_no_iommu;
                    DeviceAttach { name, path, unsafe_no_iommu, ..DeviceAttach::default() }
                }
            })
        })
        .collect()
}

fn declared_pool(view: &View<'_>, pool: &Pool, volumes: &[Volume]) -> DeclaredPool {
    let device = |device: &webui_model::PoolDevice| {
        let name = device.device.as_ref()?;
        let kind = view.bdevs.get(name.as_str()).map(|slot| &slot.entry.config.kind);
        match (kind, &device.path) {
            (Some(BdevKind::File { .. }), Some(path)) => path.parse().ok(),
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
