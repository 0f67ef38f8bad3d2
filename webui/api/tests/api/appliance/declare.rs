//! Declarations: applied and exported.

use super::State;
use wanted::{Act, Planned, Request, Shown};
use webui_model::*;

impl State {
    pub fn apply(&mut self, declaration: &Declaration, dry_run: bool) -> Result<Applied, Refusal> {
        let mut changes = Vec::new();
        loop {
            let planned = self.plan(declaration)?;
            if dry_run {
                changes.extend(planned.into_iter().map(|step| step.change));
                break;
            }
            let import = planned.iter().position(|step| matches!(step.act, Act::ImportPool(_)));
            // What is in a pool is known only then.
            let some = import.map_or(planned.len(), |at| at + 1);
            for step in planned.into_iter().take(some) {
                self.perform(step.act)?;
                changes.push(step.change);
            }
            if import.is_none() {
                break;
            }
        }
        let undeclared = self.undeclared(declaration);
        Ok(Applied { dry_run, changes, undeclared })
    }

    fn plan(&self, declaration: &Declaration) -> Result<Vec<Planned>, Refusal> {
        let on_devices = self.importable().into_iter().map(|pool| pool.name.to_string());
        wanted::plan(&self.wanted, declaration, self, &on_devices.collect())
    }

    fn perform(&mut self, act: Act) -> Result<(), Refusal> {
        match act {
            Act::AttachDevice(attach) => self.attach(attach).map(drop),
            Act::CreateSubsystem(create) => self.create_subsystem(create).map(drop),
            Act::SetHosts(set) => self.ask(&Request::SetHosts(set)).map(drop),
            Act::ImportPool(import) => self.import_pool(&import).map(drop),
            Act::CreatePool(create) => self.create_pool(create).map(drop),
            Act::SetDiscard(pool, mode) => self.set_discard(&pool, DiscardSet { mode }).map(drop),
            Act::AddDevice(pool, add) => self.add_device(&pool, &add).map(drop),
            Act::CreateVolume(pool, create, exported) => {
                self.create_volume(&pool, &create)?;
                if exported {
                    return Ok(());
                }
                let volume = VolumeRef { pool, volume: create.name };
                self.ask(&Request::Unexport(Shown::Volume(volume))).map(drop)
            }
            Act::ResizeVolume(volume, resize) => self.resize_volume(&volume, resize).map(drop),
            Act::SetLimits(volume, limits) => self.set_limits(&volume, limits).map(drop),
            Act::ExportVolume(volume, set) => self.export(Shown::Volume(volume), set),
            Act::UnexportVolume(volume) => {
                self.ask(&Request::Unexport(Shown::Volume(volume))).map(drop)
            }
            Act::AddNamespace(nqn, add) => self.add_namespace(&nqn, add).map(drop),
            Act::CreateListener(create) => self.create_listener(create).map(drop),
        }
    }

    fn undeclared(&self, declaration: &Declaration) -> Vec<Object> {
        let mut left = Vec::new();
        for name in self.imported() {
            let pool = &self.pools[name];
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

    pub fn create_listener(&mut self, request: ListenerCreate) -> Result<Made<Listener>, Refusal> {
        let place = (request.transport, request.address);
        let listener = listener(place, request.discovery_only);
        if self.ask(&Request::CreateListener(request))?.is_as_before() {
            return Ok(Made::Existing(listener));
        }
        self.tell(EventKind::Created, ObjectKind::Listener, request.address, "listens");
        Ok(Made::New(listener))
    }

    pub fn declaration(&self) -> Declaration {
        let named = |d: &Device| DeviceAttach {
            name: Some(d.name.clone()),
            path: d.path.as_ref().and_then(|p| p.parse().ok()),
            bytes: Some(d.bytes),
            ..DeviceAttach::default()
        };
        let devices = self.device_names().filter_map(|name| self.device(&name).ok());
        let subsystems = self.subsystems().expect("they are there").into_iter();
        let declared = |subsystem: Subsystem| DeclaredSubsystem {
            nqn: subsystem.nqn,
            hosts: subsystem.hosts,
            allow_any_host: subsystem.allow_any_host,
            namespaces: subsystem
                .namespaces
                .into_iter()
                .filter(|namespace| matches!(namespace.source, NamespaceSource::Device(_)))
                .map(|namespace| NamespaceAdd {
                    source: namespace.source,
                    nsid: Some(namespace.nsid),
                })
                .collect(),
        };
        let listeners = self.wanted.listeners().map(|listener| ListenerCreate {
            transport: listener.transport,
            address: Address(listener.address),
            discovery_only: listener.discovery_only,
        });
        Declaration {
            lacks: Vec::new(),
            devices: devices.map(|d| named(&d)).collect(),
            pools: self.imported().map(|name| self.declared_pool(name)).collect(),
            subsystems: subsystems.filter(|s| !s.own).map(declared).collect(),
            listeners: listeners.collect(),
        }
    }

    fn declared_pool(&self, name: &Name) -> DeclaredPool {
        let pool = &self.pools[name];
        let volumes = self.volumes(Some(name)).expect("it is imported");
        let devices = pool.members.values().filter_map(|m| m.device.as_str().parse().ok());
        DeclaredPool {
            name: name.clone(),
            devices: devices.collect(),
            discard: Some(self.wanted.discard_of(pool.uuid))
                .filter(|mode| *mode != DiscardMode::Auto),
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
