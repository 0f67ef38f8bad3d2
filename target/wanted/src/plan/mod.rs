//! What a declaration asks for beside what is there: checked as a whole before anything is done.

mod declared;
mod steps;
mod words;

pub use steps::{Act, Planned};

use crate::item::Subsystem;
use crate::request::Request;
use crate::seen::Seen;
use crate::tables::Wanted;
use std::collections::{BTreeMap, BTreeSet};
use steps::{Plan, Said, Then};
use webui_model::{
    ChangeAction, Declaration, DeclaredPool, DeclaredSubsystem, DeviceAdd, DeviceAttach, DeviceRef,
    ListenerCreate, NamespaceAdd, Nqn, ObjectKind, PoolCreate, PoolImport, Refusal,
    SubsystemCreate, VolumeRef,
};

/// What has to be done so that all is as declared, in its order; nothing: it is. Everything that can
/// be checked before is checked: a refusal means that nothing was begun. `on_devices` names the pools
/// that are not here and that the declared devices hold; what is in those is not known, so that their
/// volumes are planned as if there were none. Who carries the plan out plans again after an import.
///
/// # Errors
/// The first thing that is in the way.
pub fn plan(
    wanted: &Wanted,
    declaration: &Declaration,
    seen: &dyn Seen,
    on_devices: &BTreeSet<String>,
) -> Result<Vec<Planned>, Refusal> {
    let then = Then { seen, pools: BTreeSet::new(), volumes: BTreeMap::new() };
    let mut plan = Plan { wanted: wanted.clone(), then, steps: Vec::new(), uuids: 0 };
    declaration.devices.iter().try_for_each(|device| plan.device(device))?;
    declaration.subsystems.iter().try_for_each(|subsystem| plan.subsystem(subsystem))?;
    declaration.pools.iter().try_for_each(|pool| plan.pool(pool, on_devices))?;
    for subsystem in &declaration.subsystems {
        subsystem.namespaces.iter().try_for_each(|one| plan.namespace(&subsystem.nqn, one))?;
    }
    declaration.listeners.iter().try_for_each(|listener| plan.listener(listener))?;
    Ok(plan.steps)
}

impl Plan<'_> {
    fn device(&mut self, device: &DeviceAttach) -> Result<(), Refusal> {
        if self.ask(&Request::AttachDevice(device.clone()))?.is_as_before() {
            return Ok(());
        }
        let place = device.path.as_ref().map_or("memory", DeviceRef::as_str);
        let label = device.name.as_ref().map_or(place, |name| name.as_str()).to_owned();
        let said = Said::made(format!("Device {label} is attached."));
        self.step((ObjectKind::Device, label), said, Act::AttachDevice(device.clone()));
        Ok(())
    }

    fn subsystem(&mut self, declared: &DeclaredSubsystem) -> Result<(), Refusal> {
        let DeclaredSubsystem { nqn, hosts, allow_any_host, .. } = declared;
        let (hosts, allow_any_host) = (hosts.clone(), *allow_any_host);
        let request = SubsystemCreate { nqn: nqn.clone(), hosts, allow_any_host };
        let object = (ObjectKind::Subsystem, nqn);
        let Some(there) = self.wanted.subsystem(nqn.as_str()).map(|known| known.item.clone())
        else {
            self.ask(&Request::CreateSubsystem(request.clone()))?;
            let said = Said::made(format!("Subsystem {nqn} is made."));
            self.step(object, said, Act::CreateSubsystem(request));
            return Ok(());
        };
        if there.own {
            return Err(Refusal::exists(format!(
                "Subsystem {nqn} is that of one volume or snapshot: leave it out."
            )));
        }
        let hosts: BTreeSet<String> = request.hosts.iter().map(ToString::to_string).collect();
        let now = Subsystem { hosts, allow_any_host: request.allow_any_host, ..there.clone() };
        if now == there {
            return Ok(());
        }
        self.ask(&Request::SetHosts(request.clone()))?;
        let what = format!("Who may connect to {nqn} changes");
        let said = Said::changed(what, words::access(&there), words::access(&now));
        self.step(object, said, Act::SetHosts(request));
        Ok(())
    }

    fn pool(
        &mut self,
        declared: &DeclaredPool,
        on_devices: &BTreeSet<String>,
    ) -> Result<(), Refusal> {
        let name = &declared.name;
        let is_here = self.wanted.pool(name.as_str()).is_some();
        if !is_here && on_devices.contains(name.as_str()) {
            return self.import(declared);
        }
        let devices = self.devices_of(declared)?;
        match is_here {
            true => self.members(declared, &devices)?,
            false => self.new_pool(declared, devices)?,
        }
        for volume in &declared.volumes {
            let at = VolumeRef { pool: name.clone(), volume: volume.name.clone() };
            declared::volume(self, &at, volume)?;
        }
        Ok(())
    }

    fn import(&mut self, declared: &DeclaredPool) -> Result<(), Refusal> {
        let (name, devices) = (declared.name.clone(), declared.devices.clone());
        let said = Said::new(ChangeAction::Import, format!("Pool {name} is imported."));
        let import = PoolImport { name: Some(name.clone()), devices, force: false };
        self.step((ObjectKind::Pool, &name), said, Act::ImportPool(import));
        for volume in &declared.volumes {
            let at = VolumeRef { pool: name.clone(), volume: volume.name.clone() };
            declared::made(self, &at, volume);
        }
        Ok(())
    }

    /// The names of the declared devices, which would be attached by then.
    fn devices_of(&mut self, declared: &DeclaredPool) -> Result<Vec<String>, Refusal> {
        let mut names = Vec::new();
        for device in &declared.devices {
            let there = match device.is_path() {
                true => self.then.device_at(device),
                false => Some(device.to_string()),
            };
            let name = match there {
                Some(name) => name,
                None => {
                    let attach =
                        DeviceAttach { path: Some(device.clone()), ..DeviceAttach::default() };
                    self.ask(&Request::AttachDevice(attach))?.device().unwrap_or_default()
                }
            };
            if self.wanted.device(&name).is_none() {
                return Err(Refusal::not_found(format!(
                    "There is no device {name}: attach it first, or give its path."
                )));
            }
            if names.contains(&name) {
                return Err(Refusal::invalid(format!("Device {name} is named twice.")));
            }
            names.push(name);
        }
        Ok(names)
    }

    fn new_pool(&mut self, declared: &DeclaredPool, devices: Vec<String>) -> Result<(), Refusal> {
        let DeclaredPool { name, discard, .. } = declared;
        let create = PoolCreate {
            name: name.clone(),
            devices: declared.devices.clone(),
            force: false,
            discard: *discard,
        };
        let uuid = self.uuid();
        self.ask(&Request::CreatePool { create: create.clone(), devices, uuid })?;
        self.then.pools.insert(name.to_string());
        let number = declared.devices.len();
        let said = Said::made(format!("Pool {name} is made of {number} devices."));
        self.step((ObjectKind::Pool, name), said, Act::CreatePool(create));
        Ok(())
    }

    /// Devices and discard of a pool that is here.
    fn members(&mut self, declared: &DeclaredPool, devices: &[String]) -> Result<(), Refusal> {
        let name = &declared.name;
        let there = self.wanted.pool(name.as_str()).map(|pool| pool.item.clone());
        let there = there.ok_or_else(|| Refusal::not_found(format!("There is no pool {name}.")))?;
        for (device, named) in
            declared.devices.iter().zip(devices).filter(|(_, name)| !there.devices.contains(name))
        {
            let (pool, add) = (name.to_string(), named.clone());
            self.ask(&Request::AddDevice { pool, device: add })?;
            let message = format!("Device {device} becomes part of pool {name}.");
            let said = Said::new(ChangeAction::Change, message);
            let add = DeviceAdd { device: device.clone(), force: false };
            self.step((ObjectKind::Pool, name), said, Act::AddDevice(name.clone(), add));
        }
        if let Some(mode) = declared.discard.filter(|mode| *mode != there.discard) {
            self.ask(&Request::SetDiscard { pool: name.to_string(), mode })?;
            let said =
                Said::changed(format!("Discard of pool {name} changes"), there.discard, mode);
            self.step((ObjectKind::Pool, name), said, Act::SetDiscard(name.clone(), mode));
        }
        Ok(())
    }

    fn namespace(&mut self, nqn: &Nqn, add: &NamespaceAdd) -> Result<(), Refusal> {
        let uuid = self.uuid();
        let request = Request::AddNamespace { nqn: nqn.to_string(), add: add.clone(), uuid };
        if self.ask(&request)?.is_as_before() {
            return Ok(());
        }
        let said = Said::made(format!("Subsystem {nqn} shows {}.", add.source));
        let act = Act::AddNamespace(nqn.clone(), add.clone());
        self.step((ObjectKind::Namespace, &add.source), said, act);
        Ok(())
    }

    fn listener(&mut self, create: &ListenerCreate) -> Result<(), Refusal> {
        if self.ask(&Request::CreateListener(*create))?.is_as_before() {
            return Ok(());
        }
        let said = Said::made(format!("Hosts can connect to {}.", create.address));
        self.step((ObjectKind::Listener, create.address), said, Act::CreateListener(*create));
        Ok(())
    }
}
