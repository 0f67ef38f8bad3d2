//! Devices: attached, detached, looked at again.

use super::Node;
use crate::bdevs::{Bdevs, place_of};
use crate::config::Config;
use crate::unit::schedule::{Claim, Key};
use drives::DrivePlace;
use std::path::{Path, PathBuf};
use wanted::{Device, DeviceSpec, Request, Wanted};
use webui_model::{DeviceAttach, DeviceRef, Refusal};

/// One path for each file.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// The request with the place of a drive in full.
fn in_full(mut attach: DeviceAttach) -> Result<DeviceAttach, Refusal> {
    if let Some(path) = attach.path.as_mut().filter(|path| path.is_pci()) {
        let place: DrivePlace = path.as_str().parse().map_err(Refusal::invalid)?;
        *path = place.to_string().parse().map_err(|why| Refusal::invalid(format!("{why}")))?;
    }
    Ok(attach)
}

/// What opening a device needs.
pub(super) fn claims(device: &Device) -> Vec<Claim> {
    let drive = place_of(device).map(|place| Claim::sole(Key::Drive(place.address.to_string())));
    [Claim::sole(Key::Device(device.name.clone()))].into_iter().chain(drive).collect()
}

/// Whether a device of the configuration may come later: what it is, is not in this machine, or may be
/// taken out of it.
fn may_come_later(spec: &DeviceSpec) -> bool {
    match spec {
        DeviceSpec::Remote(_) | DeviceSpec::Drive(_) => true,
        DeviceSpec::File { path, make_bytes: None, .. } => {
            path.starts_with("/dev") && !path.exists()
        }
        _ => false,
    }
}

/// Opens the devices of the configuration, but those that may come later, and layers over them.
///
/// # Errors
/// A sentence.
pub(super) fn open_configured(bdevs: &Bdevs, config: &Config) -> Result<(), String> {
    let mut later: Vec<String> = Vec::new();
    for device in config.bdevs.iter().map(|bdev| bdev.device()) {
        let waits = device.spec.base().is_some_and(|base| later.iter().any(|name| name == base));
        if waits || may_come_later(&device.spec) {
            later.push(device.name);
        } else {
            bdevs.add(&device)?;
        }
    }
    Ok(())
}

/// Devices: attached, detached, looked at again.
#[derive(Clone, Copy)]
pub(crate) struct Devices<'a> {
    pub(super) node: &'a Node,
}

impl Devices<'_> {
    /// Opens a device that is wanted, if it is not open.
    pub(super) fn open_wanted(self, name: &str) -> Result<(), String> {
        if self.node.bdevs.get(name).is_ok() {
            return Ok(());
        }
        match self.node.wanted().device(name) {
            Some(device) => self.node.bdevs.add(device),
            None => Err("nobody wants it any more.".to_owned()),
        }
    }

    /// The name of the device at a path or on a drive, if it is attached.
    pub(crate) fn device_at(self, place: &DeviceRef) -> Option<String> {
        let wanted = self.node.wanted();
        let found = if let Ok(drive) = place.as_str().parse::<DrivePlace>() {
            wanted.devices().find(|device| place_of(device) == Some(drive))
        } else {
            let path = canonical(Path::new(place.as_str()));
            wanted.devices().find(|device| match &device.spec {
                DeviceSpec::File { path: other, .. } => canonical(other) == path,
                _ => false,
            })
        };
        found.map(|device| device.name.clone())
    }

    /// Attaches a device, durably, unless it is there. Returns its name, and whether it is new. What it
    /// is, is known once it is open; so it is noted then.
    pub(crate) fn attach(self, attach: DeviceAttach) -> Result<(String, bool), Refusal> {
        let attach = in_full(attach)?;
        let edited = self.node.would(&Request::AttachDevice(attach.clone()))?;
        let Some(name) = edited.device() else { return Ok((self.named(&attach)?, false)) };
        let device = made(&edited.wanted, &name)?;
        self.node.bdevs.add(&device).map_err(|why| match device.spec {
            DeviceSpec::Drive(_) => Refusal::refused(why),
            _ => Refusal::invalid(why),
        })?;
        let kept = self.node.edit(&Request::KeepDevice(self.opened(device)));
        if let Err(refusal) = kept {
            // It was opened just now, and nobody uses it.
            let _ = self.node.bdevs.remove(&name);
            return Err(refusal);
        }
        tracing::info!(device = name, "attached");
        Ok((name, true))
    }

    /// Opens what could be attached, for as long as it is looked at: nothing of it is noted.
    pub(crate) fn peek<R>(
        self,
        attach: DeviceAttach,
        look: impl FnOnce(&str) -> R,
    ) -> Result<R, Refusal> {
        let edited = self.node.would(&Request::AttachDevice(in_full(attach)?))?;
        let name = edited.device().ok_or_else(|| Refusal::unavailable("It is there by now."))?;
        let device = made(&edited.wanted, &name)?;
        self.node.bdevs.add(&device).map_err(Refusal::invalid)?;
        let seen = look(&name);
        self.node.bdevs.remove(&name).map_err(Refusal::in_use)?;
        Ok(seen)
    }

    /// The device that is there and was asked for.
    fn named(self, attach: &DeviceAttach) -> Result<String, Refusal> {
        let named = attach.name.as_ref().map(ToString::to_string);
        let there = named.or_else(|| self.device_at(attach.path.as_ref()?));
        there.ok_or_else(|| Refusal::unavailable("The device is on its way out."))
    }

    /// What is noted of a device that is open. A file that is gone is not made again: what was in it
    /// would be taken for lost. A drive is ours from now on, by its serial number.
    fn opened(self, mut device: Device) -> Device {
        match &mut device.spec {
            DeviceSpec::File { make_bytes, .. } => *make_bytes = None,
            DeviceSpec::Drive(drive) => {
                drive.serial = self.node.bdevs.drive(&device.name).map(|drive| drive.names().1);
                drive.force = false;
            }
            _ => {}
        }
        device
    }

    /// The device that is meant: one that is attached, or a path, which is attached. Returns its
    /// name, and whether it is new.
    pub(crate) fn resolve(
        self,
        device: &DeviceRef,
        force: bool,
    ) -> Result<(String, bool), Refusal> {
        if device.is_path() {
            let path = Some(device.clone());
            let force = force && device.is_pci();
            return self.attach(DeviceAttach { path, force, ..DeviceAttach::default() });
        }
        match self.node.wanted().device(device.as_str()) {
            Some(_) => Ok((device.to_string(), false)),
            None => Err(Refusal::not_found(format!(
                "There is no device {device}: attach it first, or give its path."
            ))),
        }
    }

    /// Lets go of a device that nobody uses, durably.
    pub(crate) fn detach(self, name: &str) -> Result<(), Refusal> {
        let edited = self.node.edit(&Request::DetachDevice(name.to_owned()))?;
        if self.node.bdevs.get(name).is_err() {
            return Ok(());
        }
        let removed = self.node.bdevs.remove(name).map_err(Refusal::in_use);
        removed.inspect_err(|_| self.node.undo(&edited))
    }

    /// Looks at a device again: whether it is there now, and how large it is.
    pub(crate) fn look_again(self, name: &str) -> Result<(), Refusal> {
        if self.node.wanted().device(name).is_none() {
            return Err(Refusal::not_found(format!("There is no device {name}.")));
        }
        if self.node.bdevs.get(name).is_err() {
            let opened = self.open_wanted(name);
            self.node.supervisor().stir();
            return opened
                .map_err(|why| Refusal::device(format!("Device {name} is missing: {why}")));
        }
        if self.node.bdevs.has_fixed_size(name) {
            return Ok(());
        }
        self.node.exports().rescan(name).map(drop).map_err(Refusal::device)
    }
}

/// A device that is to be attached. A file that is there is taken as it is.
fn made(wanted: &Wanted, name: &str) -> Result<Device, Refusal> {
    let device = wanted.device(name).map(|device| device.item.clone());
    let mut device = device.ok_or_else(|| Refusal::unavailable("The device is on its way out."))?;
    if let DeviceSpec::File { path, make_bytes, .. } = &mut device.spec
        && path.exists()
    {
        *make_bytes = None;
    }
    Ok(device)
}
