//! Devices.

use super::ControlPlane;
use super::view::{View, name};
use crate::bdevs::Slot;
use crate::unit::schedule::{Claim, Key};
use bdev_nvme::Health;
use drives::DrivePlace;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use wanted::DeviceSpec;
use webui_model::{
    Device, DeviceAttach, DeviceKind, EventKind, Made, Name, ObjectKind, PoolMember, Refusal, Size,
    Status,
};

fn kind_of(spec: &DeviceSpec) -> DeviceKind {
    match spec {
        DeviceSpec::Memory { .. } | DeviceSpec::Null { .. } => DeviceKind::Memory,
        DeviceSpec::File { path, .. } => kind_at(path),
        DeviceSpec::Drive(_) => DeviceKind::Nvme,
        DeviceSpec::Remote(_) => DeviceKind::Remote,
        DeviceSpec::Delay { .. } | DeviceSpec::Error { .. } => DeviceKind::Layer,
    }
}

fn kind_at(path: &Path) -> DeviceKind {
    let is_block = std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_block_device());
    if is_block { DeviceKind::Block } else { DeviceKind::File }
}

impl View<'_> {
    pub(super) fn devices(&self) -> Result<Vec<Device>, Refusal> {
        self.wanted.devices().map(|device| self.device(&device.name)).collect()
    }

    pub(super) fn device(&self, device: &str) -> Result<Device, Refusal> {
        let Some(Slot { entry, .. }) = self.bdevs.get(device) else {
            return self.missing_device(device);
        };
        let (spec, geometry) = (&entry.device.spec, entry.bdev.geometry());
        let pool = self.member(device)?;
        let (status, reason) = self.device_status(device, pool.as_ref());
        let drive = entry.drive();
        let (model, serial) = drive.map(|drive| drive.names()).unzip();
        Ok(Device {
            name: name(device)?,
            kind: kind_of(spec),
            path: spec.place(),
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

    fn missing_device(&self, device: &str) -> Result<Device, Refusal> {
        let wanted = self.wanted.device(device);
        let wanted =
            wanted.ok_or_else(|| Refusal::not_found(format!("There is no device {device}.")))?;
        let serial = match &wanted.spec {
            DeviceSpec::Drive(drive) => drive.serial.clone(),
            _ => None,
        };
        let why = self.missing.devices.get(device);
        Ok(Device {
            name: name(device)?,
            kind: kind_of(&wanted.spec),
            path: wanted.spec.place(),
            drive: None,
            model: None,
            serial,
            bytes: 0,
            block_bytes: 4096,
            volatile_cache: false,
            pool: None,
            status: if why.is_some() { Status::Failed } else { Status::Offline },
            reason: why
                .map_or_else(|| "it is being opened".to_owned(), |why| format!("missing: {why}")),
        })
    }

    /// Where a device is in a pool.
    fn member(&self, device: &str) -> Result<Option<PoolMember>, Refusal> {
        for (pool, open) in self.pools.iter() {
            let devices = open.directory().devices();
            if let Some(member) = devices.iter().find(|member| member.name == device) {
                return Ok(Some(PoolMember { pool: name(pool)?, number: member.number.into() }));
            }
        }
        Ok(None)
    }

    fn device_status(&self, device: &str, pool: Option<&PoolMember>) -> (Status, String) {
        let Some(Slot { entry, user }) = self.bdevs.get(device) else {
            return (Status::Failed, "it is missing".to_owned());
        };
        if let Some(drive) = entry.drive() {
            if let Some(why) = drive.failure() {
                return (Status::Failed, format!("the drive failed: {why}"));
            }
            if drive.health() != Health::Ready {
                return (Status::Degraded, "its controller is being reset".to_owned());
            }
        }
        if let Some(fault) = entry.fault() {
            return (Status::Failed, fault.to_string());
        }
        if let Some(why) = self.stall_of(device) {
            return (Status::Degraded, why);
        }
        if let Some(member) = pool {
            let draining = self.pools.get(member.pool.as_str()).is_some_and(|open| {
                let devices = open.directory().devices();
                let here = devices.iter().find(|d| u32::from(d.number) == member.number);
                here.is_some_and(|d| d.state == bdev_pool::DeviceState::Draining)
            });
            return match draining {
                true => (Status::Busy, format!("its data moves to the rest of {}", member.pool)),
                false => (Status::Ok, format!("part of pool {}", member.pool)),
            };
        }
        match user {
            Some(user) => (Status::Ok, format!("in use by {user}")),
            None => (Status::Ok, "attached, and not in use".to_owned()),
        }
    }
}

/// Devices, as operators change them.
#[derive(Clone, Copy)]
pub(super) struct Devices<'a>(pub &'a ControlPlane);

impl Devices<'_> {
    /// What changing a device needs.
    fn claims(self, device: &str) -> Vec<Claim> {
        let mut claims = vec![Claim::sole(Key::Device(device.to_owned()))];
        let places = self.0.node.bdevs.places();
        let place = places.iter().find(|(name, _)| name == device);
        let drive = place.map(|(_, place)| Key::Drive(place.address.to_string()));
        claims.extend(drive.map(Claim::sole));
        claims
    }

    pub(super) fn attach(self, request: DeviceAttach) -> Result<Made<Device>, Refusal> {
        let path = request.path.as_ref().map(|path| path.as_str());
        let label = request.name.as_ref().map(Name::as_str).or(path).unwrap_or("memory").to_owned();
        let mut claims = vec![Claim::sole(Key::Device(label.clone()))];
        let place = path.and_then(|path| path.parse::<DrivePlace>().ok());
        claims.extend(place.map(|place| Claim::sole(Key::Drive(place.address.to_string()))));
        let made = self.0.change(format!("attaching device {label}"), claims, move |plane| {
            let node = &*plane.node;
            let (name, is_new) = node.devices().attach(request)?;
            let device = View::of(node).device(&name)?;
            if !is_new {
                return Ok(Made::Existing(device));
            }
            let message = format!("Device {} is attached.", device.name);
            plane.done(EventKind::Created, (ObjectKind::Device, &device.name), message);
            Ok(Made::New(device))
        })?;
        let Made::New(device) = made else { return Ok(made) };
        // A pool may have waited for it.
        self.0.node.supervisor().stir();
        self.0.node.supervisor().settle_pools();
        self.0.with(|node| View::of(node).device(device.name.as_str())).map(Made::New)
    }

    pub(super) fn detach(self, device: &Name) -> Result<(), Refusal> {
        let (claims, device) = (self.claims(device.as_str()), device.clone());
        self.0.change(format!("detaching device {device}"), claims, move |plane| {
            plane.node.devices().detach(device.as_str())?;
            plane.node.supervisor().stir();
            let message = format!("Device {device} is detached.");
            plane.done(EventKind::Deleted, (ObjectKind::Device, &device), message);
            Ok(())
        })
    }

    pub(super) fn rescan(self, device: &Name) -> Result<Device, Refusal> {
        let (claims, device) = (self.claims(device.as_str()), device.clone());
        let shown = self.0.change(format!("rescanning device {device}"), claims, move |plane| {
            plane.node.devices().look_again(device.as_str())?;
            let device = View::of(&plane.node).device(device.as_str())?;
            let message = format!("Device {} has {}.", device.name, Size(device.bytes).rounded());
            plane.done(EventKind::Changed, (ObjectKind::Device, &device.name), message);
            Ok(device)
        })?;
        // A pool may have waited for it.
        self.0.node.supervisor().settle_pools();
        self.0.with(|node| View::of(node).device(shown.name.as_str()))
    }
}
