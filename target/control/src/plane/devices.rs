//! Devices.

use super::ControlPlane;
use super::view::{View, name};
use crate::config::BdevKind;
use crate::node::Node;
use crate::state::{DevicePlace, KnownDevice};
use bdev_nvme::Health;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use webui_model::{
    Device, DeviceAttach, DeviceKind, EventKind, Made, Name, ObjectKind, PoolMember, Refusal, Size,
    Status,
};

fn kind_of(kind: &BdevKind) -> DeviceKind {
    match kind {
        BdevKind::Ram { .. } | BdevKind::Null { .. } => DeviceKind::Memory,
        BdevKind::File { path, .. } => kind_at(path),
        BdevKind::Nvme { .. } => DeviceKind::Nvme,
        BdevKind::Remote { .. } => DeviceKind::Remote,
        BdevKind::Delay { .. } | BdevKind::Error { .. } => DeviceKind::Layer,
    }
}

fn kind_at(path: &Path) -> DeviceKind {
    let is_block = std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device());
    if is_block { DeviceKind::Block } else { DeviceKind::File }
}

fn path_of(kind: &BdevKind) -> Option<String> {
    match kind {
        BdevKind::File { path, .. } => Some(path.display().to_string()),
        BdevKind::Nvme { drive, .. } => Some(drive.to_string()),
        BdevKind::Remote { address, subsystem, nsid, .. } => {
            Some(format!("{address} {subsystem} {nsid}"))
        }
        _ => None,
    }
}

impl View<'_> {
    pub(super) fn devices(&self) -> Result<Vec<Device>, Refusal> {
        let open = self.node.bdevs.iter().map(|(name, _, _)| name.to_owned());
        let known = self.node.state().devices.iter().map(|known| known.name.clone());
        let names: std::collections::BTreeSet<String> = open.chain(known).collect();
        names.iter().map(|name| self.device(name)).collect()
    }

    pub(super) fn device(&self, device: &str) -> Result<Device, Refusal> {
        let Ok(bdev) = self.node.bdevs.get(device) else {
            let known = self.node.state().devices.iter().find(|known| known.name == device);
            return match known {
                Some(known) => self.missing(known),
                None => Err(Refusal::not_found(format!("There is no device {device}."))),
            };
        };
        let config = self.node.bdevs.config(device).expect("it is there");
        let geometry = bdev.geometry();
        let pool = self.member(device)?;
        let (status, reason) = self.device_status(device, pool.as_ref());
        let drive = self.node.bdevs.drive(device);
        let (model, serial) = drive.map(|drive| drive.names()).unzip();
        Ok(Device {
            name: name(device)?,
            kind: kind_of(&config.kind),
            path: path_of(&config.kind),
            drive: drive.map(|drive| drive.describe()),
            model,
            serial,
            bytes: geometry.bytes(),
            block_bytes: geometry.block_bytes,
            volatile_cache: geometry.volatile_cache,
            pool,
            status,
            reason,
        })
    }

    fn missing(&self, known: &KnownDevice) -> Result<Device, Refusal> {
        let why = self.node.troubles.devices.get(&known.name);
        let (kind, path) = match &known.place {
            DevicePlace::Path(path) => (kind_at(path), Some(path.display().to_string())),
            DevicePlace::Memory(_) => (DeviceKind::Memory, None),
            DevicePlace::Drive(drive) => (DeviceKind::Nvme, Some(drive.place.to_string())),
        };
        let serial = match &known.place {
            DevicePlace::Drive(drive) => Some(drive.serial.clone()),
            _ => None,
        };
        Ok(Device {
            name: name(&known.name)?,
            kind,
            path,
            drive: None,
            model: None,
            serial,
            bytes: 0,
            block_bytes: 4096,
            volatile_cache: false,
            pool: None,
            status: Status::Failed,
            reason: why.map_or_else(|| "it is missing".to_owned(), |why| format!("missing: {why}")),
        })
    }

    /// Where a device is in a pool.
    fn member(&self, device: &str) -> Result<Option<PoolMember>, Refusal> {
        for (pool, status) in &self.statuses {
            if let Some(member) = status.devices.iter().find(|member| member.name == device) {
                return Ok(Some(PoolMember { pool: name(pool)?, number: member.number.into() }));
            }
        }
        Ok(None)
    }

    fn device_status(&self, device: &str, pool: Option<&PoolMember>) -> (Status, String) {
        if let Some(drive) = self.node.bdevs.drive(device) {
            if let Some(why) = drive.failure() {
                return (Status::Failed, format!("the drive failed: {why}"));
            }
            if drive.health() != Health::Ready {
                return (Status::Degraded, "its controller is being reset".to_owned());
            }
        }
        if let Some(fault) = self.node.bdevs.fault(device) {
            return (Status::Failed, fault.to_string());
        }
        if let Some(member) = pool {
            let draining = self.statuses.get(member.pool.as_str()).is_some_and(|status| {
                let here = status.devices.iter().find(|d| u32::from(d.number) == member.number);
                here.is_some_and(|d| d.state == bdev_pool::DeviceState::Draining)
            });
            return match draining {
                true => (Status::Busy, format!("its data moves to the rest of {}", member.pool)),
                false => (Status::Ok, format!("part of pool {}", member.pool)),
            };
        }
        match self.node.bdevs.user(device) {
            Some(user) => (Status::Ok, format!("in use by {user}")),
            None => (Status::Ok, "attached, and not in use".to_owned()),
        }
    }
}

fn differences(request: &DeviceAttach, there: &Device) -> Vec<String> {
    let mut found = Vec::new();
    let same_path = match (&request.path, &there.path) {
        (Some(wanted), Some(path)) => {
            let canonical = |path: &str| Path::new(path).canonicalize().ok();
            wanted.as_str() == path || canonical(wanted.as_str()) == canonical(path)
        }
        (wanted, path) => wanted.is_none() && path.is_none(),
    };
    if !same_path {
        let path = there.path.as_deref().unwrap_or("memory");
        found.push(format!("it is {path}"));
    }
    if request.path.is_none()
        && let Some(bytes) = request.bytes
        && there.bytes != bytes - bytes % 4096
    {
        found.push(format!("it has {}", Size(there.bytes).rounded()));
    }
    found
}

/// The name of the device that a request speaks of, if it is there.
fn there(node: &Node, request: &DeviceAttach) -> Option<String> {
    if let Some(name) = &request.name {
        let is_it = |known: &KnownDevice| known.name == name.as_str();
        let known = node.state().devices.iter().any(is_it);
        if known || node.bdevs.get(name.as_str()).is_ok() {
            return Some(name.to_string());
        }
    }
    let path = request.path.as_ref()?;
    node.device_at(Path::new(path.as_str()))
}

impl ControlPlane {
    pub(super) fn attach(&self, request: &DeviceAttach) -> Result<Made<Device>, Refusal> {
        let device = self.with(|node| {
            if let Some(device) = there(node, request) {
                let found = View::of(node)?.device(&device)?;
                let mut differences = differences(request, &found);
                if let Some(name) = &request.name
                    && *name != found.name
                {
                    differences.push(format!("it is called {}", found.name));
                }
                if differences.is_empty() {
                    return Ok(Made::Existing(found));
                }
                let differences = differences.join(", and ");
                return Err(Refusal::exists(format!(
                    "Device {device} is there already, and {differences}."
                )));
            }
            let name = node.attach(request)?;
            // A pool may have waited for it.
            node.restore();
            View::of(node)?.device(&name).map(Made::New)
        })?;
        if let Made::New(device) = &device {
            let message = format!("Device {} is attached.", device.name);
            self.done(EventKind::Created, (ObjectKind::Device, &device.name), message);
        }
        Ok(device)
    }

    pub(super) fn detach(&self, device: &Name) -> Result<(), Refusal> {
        self.with(|node| node.detach(device.as_str()))?;
        let message = format!("Device {device} is detached.");
        self.done(EventKind::Deleted, (ObjectKind::Device, device), message);
        Ok(())
    }

    pub(super) fn rescan(&self, device: &Name) -> Result<Device, Refusal> {
        let device = self.with(|node| {
            node.look_again(device.as_str())?;
            View::of(node)?.device(device.as_str())
        })?;
        let message = format!("Device {} has {}.", device.name, Size(device.bytes).rounded());
        self.done(EventKind::Changed, (ObjectKind::Device, &device.name), message);
        Ok(device)
    }
}
