//! Devices: attached, detached, looked at again.

use super::Node;
use crate::bdevs::{Bdevs, Terms, base_of};
use crate::config::{BdevConfig, BdevKind, Config};
use crate::state::{DevicePlace, KnownDevice, KnownDrive};
use crate::unit::schedule::{Claim, Key};
use drives::DrivePlace;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use webui_model::{DeviceAttach, DeviceRef, Refusal, Size};

impl DevicePlace {
    /// What is opened there. A file that is gone is not made again: what was in it would be taken
    /// for lost.
    pub(crate) fn kind(&self) -> BdevKind {
        match self {
            DevicePlace::Path(path) => {
                BdevKind::File { path: path.clone(), size: None, block: block_of(path) }
            }
            DevicePlace::Memory(bytes) => BdevKind::Ram { size: Size(*bytes), block: 4096 },
            DevicePlace::Drive(KnownDrive { place, unsafe_no_iommu, .. }) => {
                BdevKind::Nvme { drive: *place, force: false, unsafe_no_iommu: *unsafe_no_iommu }
            }
        }
    }

    /// On what terms it is opened, once it is known.
    pub(crate) fn terms(&self) -> Terms {
        match self {
            DevicePlace::Drive(drive) => Terms::Known(drive.serial.clone()),
            _ => Terms::Configured,
        }
    }
}

/// Blocks of 4096 bytes, unless a device of the kernel has a size that is no multiple of them.
fn block_of(path: &Path) -> u32 {
    let odd = |bytes: u64| !bytes.is_multiple_of(4096);
    let sectors = |name: &str| {
        let text = std::fs::read_to_string(format!("/sys/class/block/{name}/size")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().and_then(|name| name.to_str()).filter(|_| path.starts_with("/dev"));
    match name.and_then(sectors) {
        Some(sectors) if odd(sectors * 512) => 512,
        _ => 4096,
    }
}

/// A name for what is at `path`: its last part, as far as a name can have its characters.
fn name_for(path: &Path) -> String {
    let last = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let fits = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = last.chars().map(fits).take(60).collect();
    let name = name.trim_start_matches(['.', '_', '-']);
    if name.is_empty() { "device".to_owned() } else { name.to_owned() }
}

/// The NVMe drive that a path stands for, if it is that of one.
fn drive_place(path: &Path) -> Option<DrivePlace> {
    path.to_str()?.parse().ok()
}

/// One path for each file.
fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// What opening a device needs.
pub(super) fn claims(config: &BdevConfig) -> Vec<Claim> {
    let device = Claim::sole(Key::Device(config.name.clone()));
    let drive = match &config.kind {
        BdevKind::Nvme { drive, .. } => Some(Claim::sole(Key::Drive(drive.address.to_string()))),
        _ => None,
    };
    [device].into_iter().chain(drive).collect()
}

/// Whether a device of the configuration may come later: what it is, is not in this machine, or may be
/// taken out of it.
fn may_come_later(kind: &BdevKind) -> bool {
    match kind {
        BdevKind::Remote { .. } | BdevKind::Nvme { .. } => true,
        BdevKind::File { path, size: None, .. } => path.starts_with("/dev") && !path.exists(),
        _ => false,
    }
}

/// Opens the devices of the configuration, but those that may come later, and layers over them.
///
/// # Errors
/// A sentence.
pub(super) fn open_configured(bdevs: &Bdevs, config: &Config) -> Result<(), String> {
    let mut later: Vec<&str> = Vec::new();
    for bdev in &config.bdevs {
        let waits = base_of(&bdev.kind).is_some_and(|base| later.contains(&base));
        if waits || may_come_later(&bdev.kind) {
            later.push(&bdev.name);
        } else {
            bdevs.add(bdev)?;
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
    /// Every device that is wanted, by name: attached, and of the configuration.
    pub(super) fn wanted(self) -> BTreeMap<String, BdevConfig> {
        let config = self.node.config();
        let configured = config.bdevs.iter().map(|bdev| (bdev.name.clone(), bdev.clone()));
        let state = self.node.state();
        let attached = state.devices.iter().map(|known| {
            let (name, kind) = (known.name.clone(), known.place.kind());
            (name.clone(), BdevConfig { name, kind })
        });
        attached.chain(configured).collect()
    }

    /// Opens a device that is wanted, if it is not open.
    pub(super) fn open_wanted(self, name: &str) -> Result<(), String> {
        if self.node.bdevs.get(name).is_ok() {
            return Ok(());
        }
        let wanted = self.wanted().remove(name);
        let Some(config) = wanted else { return Err("nobody wants it any more.".to_owned()) };
        let state = self.node.state();
        let known = state.devices.iter().find(|known| known.name == name);
        let terms = known.map_or(Terms::Configured, |known| known.place.terms());
        self.node.bdevs.add_on(&config, &terms)
    }

    /// The name of the device at `path`, if it is attached.
    pub(crate) fn device_at(self, path: &Path) -> Option<String> {
        if let Some(place) = drive_place(path) {
            return self.device_on(place);
        }
        let path = canonical(path);
        let state = self.node.state();
        let known = state.devices.iter().filter_map(|known| match &known.place {
            DevicePlace::Path(path) => Some((known.name.clone(), path.clone())),
            DevicePlace::Memory(_) | DevicePlace::Drive(_) => None,
        });
        let mut all = self.node.bdevs.paths().into_iter().chain(known);
        all.find(|(_, other)| canonical(other) == path).map(|(name, _)| name)
    }

    fn device_on(self, place: DrivePlace) -> Option<String> {
        let state = self.node.state();
        let known = state.devices.iter().filter_map(|known| match &known.place {
            DevicePlace::Drive(drive) => Some((known.name.clone(), drive.place)),
            _ => None,
        });
        let mut all = self.node.bdevs.places().into_iter().chain(known);
        all.find(|(_, other)| *other == place).map(|(name, _)| name)
    }

    pub(crate) fn is_device(self, name: &str) -> bool {
        self.node.bdevs.table().contains_key(name)
            || self.node.state().devices.iter().any(|known| known.name == name)
            || self.node.config().bdevs.iter().any(|bdev| bdev.name == name)
    }

    /// Attaches a device, durably. Returns its name.
    pub(crate) fn attach(self, request: &DeviceAttach) -> Result<String, Refusal> {
        if let Some(path) = request.path.as_ref().filter(|path| path.is_pci()) {
            return self.attach_drive(path.as_str().parse().map_err(Refusal::invalid)?, request);
        }
        let place = match (&request.path, request.bytes) {
            (Some(path), _) => DevicePlace::Path(path.as_str().into()),
            (None, Some(bytes)) => DevicePlace::Memory(bytes - bytes % 4096),
            (None, None) => {
                return Err(Refusal::invalid("Memory needs a size: give it in bytes."));
            }
        };
        if let DevicePlace::Path(path) = &place {
            self.check_folder(path)?;
        }
        let name = match (&request.name, &place) {
            (Some(name), _) => name.to_string(),
            (None, DevicePlace::Path(path)) => self.free_name(&name_for(path)),
            (None, DevicePlace::Memory(_)) => self.free_name("memory"),
            (None, DevicePlace::Drive(_)) => unreachable!("attached above"),
        };
        if self.is_device(&name) {
            return Err(Refusal::exists(format!("There is a device {name} already.")));
        }
        let size = match &place {
            DevicePlace::Path(path) if !path.exists() => request.bytes.map(Size),
            _ => None,
        };
        let mut kind = place.kind();
        if let BdevKind::File { size: made, .. } = &mut kind {
            *made = size;
        }
        let config = BdevConfig { name: name.clone(), kind };
        self.node.bdevs.add(&config).map_err(Refusal::invalid)?;
        self.keep_device(KnownDevice { name: name.clone(), place })?;
        Ok(name)
    }

    /// Attaches an NVMe drive, durably. Returns its name.
    fn attach_drive(self, place: DrivePlace, request: &DeviceAttach) -> Result<String, Refusal> {
        let name = match &request.name {
            Some(name) => name.to_string(),
            None => self.free_name(&name_for(Path::new(&place.to_string().replace(':', "-")))),
        };
        if self.is_device(&name) {
            return Err(Refusal::exists(format!("There is a device {name} already.")));
        }
        let DeviceAttach { force, unsafe_no_iommu, .. } = *request;
        let kind = BdevKind::Nvme { drive: place, force, unsafe_no_iommu };
        let config = BdevConfig { name: name.clone(), kind };
        self.node.bdevs.add(&config).map_err(Refusal::refused)?;
        let (_, serial) = self.node.bdevs.drive(&name).expect("just added").names();
        let place = DevicePlace::Drive(KnownDrive { place, serial, unsafe_no_iommu });
        self.keep_device(KnownDevice { name: name.clone(), place })?;
        Ok(name)
    }

    /// Writes down a device that was opened just now.
    fn keep_device(self, known: KnownDevice) -> Result<(), Refusal> {
        let name = known.name.clone();
        if let Err(refusal) = self.node.change_state(|state| state.devices.push(known)) {
            // It was opened just now, and nobody uses it.
            let _ = self.node.bdevs.remove(&name);
            return Err(refusal);
        }
        tracing::info!(device = name, "attached");
        Ok(())
    }

    /// `wanted`, or the first name that is free with a number behind it.
    fn free_name(self, wanted: &str) -> String {
        let numbered = (2..).map(|number| format!("{wanted}-{number}"));
        let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
        names.find(|name| !self.is_device(name)).expect("fewer devices than numbers")
    }

    /// The device that is meant: one that is attached, or a path, which is attached. Returns its
    /// name, and whether it is new.
    pub(crate) fn resolve(
        self,
        device: &DeviceRef,
        force: bool,
    ) -> Result<(String, bool), Refusal> {
        if !device.is_path() {
            let name = device.as_str();
            return match self.is_device(name) {
                true => Ok((name.to_owned(), false)),
                false => Err(Refusal::not_found(format!(
                    "There is no device {name}: attach it first, or give its path."
                ))),
            };
        }
        if let Some(name) = self.device_at(Path::new(device.as_str())) {
            return Ok((name, false));
        }
        let request = DeviceAttach {
            path: Some(device.clone()),
            force: force && device.is_pci(),
            ..DeviceAttach::default()
        };
        Ok((self.attach(&request)?, true))
    }

    /// Lets go of a device that nobody uses, durably.
    pub(crate) fn detach(self, name: &str) -> Result<(), Refusal> {
        if self.node.config().bdevs.iter().any(|bdev| bdev.name == name) {
            return Err(Refusal::refused(format!(
                "The configuration file declares device {name}: take it out there."
            )));
        }
        if !self.is_device(name) {
            return Err(Refusal::not_found(format!("There is no device {name}.")));
        }
        if let Some(user) = self.node.bdevs.user(name) {
            return Err(Refusal::in_use(format!("Device {name} is in use by {user}.")));
        }
        if let Some(pool) = self.pool_that_misses(name) {
            return Err(Refusal::in_use(format!(
                "Device {name} is part of pool {pool}, which waits for it: export the pool first."
            )));
        }
        if self.node.bdevs.get(name).is_ok() {
            self.node.bdevs.remove(name).map_err(Refusal::in_use)?;
        }
        self.node.change_state(|state| state.devices.retain(|known| known.name != name))
    }

    /// The pool that is not there and was last seen on the device.
    pub(crate) fn pool_that_misses(self, device: &str) -> Option<String> {
        let missing = |known: &&crate::state::KnownPool| {
            !self.node.pools.get().contains_key(&known.name)
                && known.devices.iter().any(|d| d == device)
        };
        self.node.state().pools.iter().find(missing).map(|known| known.name.clone())
    }

    /// Looks at a device again: whether it is there now, and how large it is.
    pub(crate) fn look_again(self, name: &str) -> Result<(), Refusal> {
        if !self.is_device(name) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use webui_model::Name;

    #[test]
    fn devices_are_named_after_their_paths() {
        for (path, name) in
            [("/dev/nvme0n1", "nvme0n1"), ("/srv/a b.img", "a-b.img"), ("/x/.hidden", "hidden")]
        {
            assert_eq!(name_for(Path::new(path)), name);
        }
        assert_eq!(name_for(Path::new("/")), "device");
        assert!(Name::try_from(name_for(Path::new(&format!("/{}", "x".repeat(200))))).is_ok());
    }
}
