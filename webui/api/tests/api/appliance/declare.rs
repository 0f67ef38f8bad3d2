//! Declarations: applied and exported.

use super::State;
use webui_model::*;

/// Notes a change that was made.
fn note(changes: &mut Vec<Change>, action: ChangeAction, kind: ObjectKind, name: impl ToString) {
    let object = Object::new(kind, name.to_string());
    let message = format!("{object}: {action:?}.");
    changes.push(Change { action, object, message });
}

fn made<T>(changes: &mut Vec<Change>, made: &Made<T>, kind: ObjectKind, name: impl ToString) {
    if let Made::New(_) = made {
        note(changes, ChangeAction::Create, kind, name);
    }
}

impl State {
    pub fn apply(&mut self, declaration: &Declaration, dry_run: bool) -> Result<Applied, Refusal> {
        let mut changes = Vec::new();
        for device in &declaration.devices {
            let outcome = self.attach(device.clone())?;
            let Made::New(new) = &outcome else { continue };
            made(&mut changes, &outcome, ObjectKind::Device, &new.name);
        }
        for subsystem in &declaration.subsystems {
            self.apply_subsystem(subsystem, &mut changes)?;
        }
        for pool in &declaration.pools {
            self.apply_pool(pool, &mut changes)?;
        }
        for subsystem in &declaration.subsystems {
            for namespace in &subsystem.namespaces {
                let outcome = self.add_namespace(&subsystem.nqn, namespace.clone())?;
                made(&mut changes, &outcome, ObjectKind::Namespace, &namespace.source);
            }
        }
        for listener in &declaration.listeners {
            let outcome = self.create_listener(*listener)?;
            made(&mut changes, &outcome, ObjectKind::Listener, listener.address);
        }
        let undeclared = self.undeclared(declaration);
        Ok(Applied { dry_run, changes, undeclared })
    }

    fn undeclared(&self, declaration: &Declaration) -> Vec<Object> {
        let mut left = Vec::new();
        for (name, pool) in self.pools.iter().filter(|(_, p)| p.imported) {
            match declaration.pools.iter().find(|p| p.name == *name) {
                None => left.push(Object::new(ObjectKind::Pool, name.as_str())),
                Some(declared) => {
                    let new = |v: &&Name| !declared.volumes.iter().any(|d| d.name == **v);
                    let object = |v: &Name| Object::new(ObjectKind::Volume, format!("{name}/{v}"));
                    left.extend(pool.volumes.keys().filter(new).map(object));
                }
            }
        }
        left
    }

    fn apply_pool(
        &mut self,
        pool: &DeclaredPool,
        changes: &mut Vec<Change>,
    ) -> Result<(), Refusal> {
        if self.pool_state(&pool.name).is_err() {
            let import = PoolImport { name: Some(pool.name.clone()), ..PoolImport::default() };
            if self.pools.contains_key(&pool.name) {
                self.import_pool(&import)?;
                note(changes, ChangeAction::Import, ObjectKind::Pool, &pool.name);
            } else {
                let (name, devices) = (pool.name.clone(), pool.devices.clone());
                let discard = pool.discard;
                self.create_pool(PoolCreate { name, devices, force: false, discard })?;
                note(changes, ChangeAction::Create, ObjectKind::Pool, &pool.name);
            }
        }
        if let Some(mode) = pool.discard
            && self.pool_state(&pool.name)?.discard != mode
        {
            self.set_discard(&pool.name, DiscardSet { mode })?;
            note(changes, ChangeAction::Change, ObjectKind::Pool, &pool.name);
        }
        for device in &pool.devices {
            let request = DeviceAdd { device: device.clone(), force: false };
            if let Made::New(_) = self.add_device(&pool.name, &request)? {
                note(changes, ChangeAction::Change, ObjectKind::Pool, &pool.name);
            }
        }
        for volume in &pool.volumes {
            self.apply_volume(&pool.name, volume, changes)?;
        }
        Ok(())
    }

    fn apply_volume(
        &mut self,
        pool: &Name,
        declared: &DeclaredVolume,
        changes: &mut Vec<Change>,
    ) -> Result<(), Refusal> {
        let volume = VolumeRef { pool: pool.clone(), volume: declared.name.clone() };
        let request = declared.to_create();
        let source = NamespaceSource::Volume(volume.clone());
        let Ok(there) = self.volume(&volume) else {
            self.create_volume(pool, &request)?;
            if !declared.exported {
                self.unexport(&source);
            }
            note(changes, ChangeAction::Create, ObjectKind::Volume, &volume);
            return Ok(());
        };
        let block_bytes = declared.block_bytes.unwrap_or(there.block_bytes);
        if (there.block_bytes, there.thick) != (block_bytes, declared.thick) {
            let sentence = format!("{volume} is there with other blocks, or not as thick.");
            return Err(Refusal::exists(sentence));
        }
        let mut changed = false;
        if there.bytes != declared.bytes.0 {
            let resize = Resize { bytes: declared.bytes.0, may_shrink: declared.may_shrink };
            self.resize_volume(&volume, resize)?;
            changed = true;
        }
        if there.limits != declared.limits {
            self.set_limits(&volume, declared.limits)?;
            changed = true;
        }
        if !declared.exported {
            changed |= self.unexport(&source);
        } else if !request.export().differences(there.export.as_ref()).is_empty() {
            self.export(&source, &request.export())?;
            changed = true;
        }
        if changed {
            note(changes, ChangeAction::Change, ObjectKind::Volume, &volume);
        }
        Ok(())
    }

    fn apply_subsystem(
        &mut self,
        declared: &DeclaredSubsystem,
        changes: &mut Vec<Change>,
    ) -> Result<(), Refusal> {
        let (nqn, hosts) = (declared.nqn.clone(), declared.hosts.clone());
        let request = SubsystemCreate { nqn, hosts, allow_any_host: declared.allow_any_host };
        let Ok(there) = self.subsystem(&declared.nqn) else {
            self.create_subsystem(request)?;
            note(changes, ChangeAction::Create, ObjectKind::Subsystem, &declared.nqn);
            return Ok(());
        };
        if there.own {
            return Err(Refusal::exists(format!("{} is a volume's own.", declared.nqn)));
        }
        if !request.differences(&there).is_empty() {
            let state = self.subsystems.get_mut(&declared.nqn).expect("it was found");
            state.hosts = request.hosts;
            state.hosts.sort();
            state.hosts.dedup();
            state.any = request.allow_any_host;
            note(changes, ChangeAction::Change, ObjectKind::Subsystem, &declared.nqn);
        }
        Ok(())
    }

    pub fn create_listener(&mut self, request: ListenerCreate) -> Result<Made<Listener>, Refusal> {
        let place = (request.transport, request.address);
        let listener = listener(place, request.discovery_only);
        match self.listeners.get(&place) {
            Some(there) if *there == request.discovery_only => Ok(Made::Existing(listener)),
            Some(_) => Err(Refusal::exists(format!(
                "{} listens already, and serves other subsystems: delete that listener first.",
                request.address
            ))),
            None => {
                self.listeners.insert(place, request.discovery_only);
                self.tell(EventKind::Created, ObjectKind::Listener, request.address, "listens");
                Ok(Made::New(listener))
            }
        }
    }

    pub fn declaration(&self) -> Declaration {
        let named = |d: &Device| DeviceAttach {
            name: Some(d.name.clone()),
            path: d.path.as_ref().and_then(|p| p.parse().ok()),
            bytes: Some(d.bytes),
            ..DeviceAttach::default()
        };
        let devices = self.devices.keys().filter_map(|n| self.device(n).ok());
        let pools = self.pools.iter().filter(|(_, p)| p.imported);
        let subsystems = self.subsystems.iter().filter(|(_, s)| !s.own);
        Declaration {
            lacks: Vec::new(),
            devices: devices.map(|d| named(&d)).collect(),
            pools: pools.map(|(name, _)| self.declared_pool(name)).collect(),
            subsystems: subsystems
                .map(|(nqn, s)| DeclaredSubsystem {
                    nqn: nqn.clone(),
                    hosts: s.hosts.clone(),
                    allow_any_host: s.any,
                    namespaces: s
                        .namespaces
                        .iter()
                        .filter(|(_, (_, source))| matches!(source, NamespaceSource::Device(_)))
                        .map(|(n, (_, source))| NamespaceAdd {
                            source: source.clone(),
                            nsid: Some(*n),
                        })
                        .collect(),
                })
                .collect(),
            listeners: self
                .listeners
                .iter()
                .map(|((transport, address), discovery_only)| ListenerCreate {
                    transport: *transport,
                    address: *address,
                    discovery_only: *discovery_only,
                })
                .collect(),
        }
    }

    fn declared_pool(&self, name: &Name) -> DeclaredPool {
        let pool = &self.pools[name];
        let volumes = self.volumes(Some(name)).expect("it is imported");
        let devices = pool.members.values().filter_map(|m| m.device.as_str().parse().ok());
        DeclaredPool {
            name: name.clone(),
            devices: devices.collect(),
            discard: (pool.discard != DiscardMode::Auto).then_some(pool.discard),
            volumes: volumes.into_iter().map(declared_volume).collect(),
        }
    }
}

fn declared_volume(volume: Volume) -> DeclaredVolume {
    let own = volume.export.as_ref().is_some_and(|export| export.own);
    DeclaredVolume {
        name: volume.name,
        bytes: Size(volume.bytes),
        may_shrink: false,
        block_bytes: Some(volume.block_bytes),
        thick: volume.thick,
        exported: volume.export.is_some(),
        limits: volume.limits,
        subsystem: volume.export.as_ref().filter(|_| !own).map(|e| e.subsystem.clone()),
        hosts: volume.export.as_ref().filter(|_| own).map(|e| e.hosts.clone()).unwrap_or_default(),
        allow_any_host: volume.export.is_some_and(|e| own && e.allow_any_host),
    }
}

pub fn listener((transport, address): (Fabric, Address), discovery_only: bool) -> Listener {
    let reason = "It listens.".into();
    Listener { transport, address, discovery_only, status: Status::Ok, reason }
}
