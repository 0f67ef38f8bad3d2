//! Devices.

use super::draft::Edit;
use crate::item::{Declared, Device, DeviceSpec, Drive};
use webui_model::{DeviceAttach, DeviceRef, Refusal, Size};

/// Bytes in a block of memory.
const BLOCK_BYTES: u32 = 4096;

/// A name for what is at `place`: its last part, as far as a name can have its characters.
fn name_for(place: &str) -> String {
    let last = place.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let fits = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = last.chars().map(fits).take(60).collect();
    let name = name.trim_start_matches(['.', '_', '-']);
    if name.is_empty() { "device".to_owned() } else { name.to_owned() }
}

/// The base of the name of a device that gets none: of a drive all of its address.
fn wanted_name(attach: &DeviceAttach) -> String {
    match &attach.path {
        Some(path) if path.is_pci() => name_for(&path.as_str().replace([':', '/'], "-")),
        Some(path) => name_for(path.as_str()),
        None => "memory".to_owned(),
    }
}

/// `base`, or the first name that is free with a number behind it.
fn free_name(edit: &Edit<'_>, base: &str) -> String {
    let numbered = (2_u32..).map(|number| format!("{base}-{number}"));
    let mut names = std::iter::once(base.to_owned()).chain(numbered);
    names.find(|name| edit.wanted.device(name).is_none()).expect("fewer devices than numbers")
}

fn spec_of(attach: &DeviceAttach) -> Result<DeviceSpec, Refusal> {
    match (&attach.path, attach.bytes) {
        (Some(path), _) if path.is_pci() => Ok(DeviceSpec::Drive(Drive {
            place: path.as_str().to_owned(),
            serial: None,
            unsafe_no_iommu: attach.unsafe_no_iommu,
            force: attach.force,
        })),
        (Some(path), make_bytes) => {
            Ok(DeviceSpec::File { path: path.as_str().into(), make_bytes, block_bytes: None })
        }
        (None, Some(bytes)) => Ok(DeviceSpec::Memory {
            bytes: bytes - bytes % u64::from(BLOCK_BYTES),
            block_bytes: BLOCK_BYTES,
        }),
        (None, None) => Err(Refusal::invalid("Memory needs a size: give it in bytes.")),
    }
}

/// The device that a request speaks of, if it is there: by name, or else by place.
fn there<'a>(edit: &'a Edit<'_>, attach: &DeviceAttach) -> Option<&'a Declared<Device>> {
    let named = attach.name.as_ref().and_then(|name| edit.wanted.device(name.as_str()));
    named.or_else(|| edit.wanted.device(&edit.seen.device_at(attach.path.as_ref()?)?))
}

/// What a device that is there has otherwise, in words.
fn differences(edit: &Edit<'_>, attach: &DeviceAttach, there: &Device) -> Vec<String> {
    let mut found = Vec::new();
    let place = there.spec.place();
    let is_at = |path: &DeviceRef| {
        place.as_deref() == Some(path.as_str())
            || edit.seen.device_at(path).is_some_and(|name| name == there.name)
    };
    if !attach.path.as_ref().map_or(place.is_none(), is_at) {
        found.push(format!("it is {}", place.as_deref().unwrap_or("memory")));
    }
    let has = match &there.spec {
        DeviceSpec::Memory { bytes, .. } => *bytes,
        _ => edit.seen.device_bytes(&there.name).unwrap_or(0),
    };
    if attach.path.is_none()
        && let Some(bytes) = attach.bytes
        && has != bytes - bytes % u64::from(BLOCK_BYTES)
    {
        found.push(format!("it has {}", Size(has).rounded()));
    }
    if let Some(name) = &attach.name
        && name.as_str() != there.name
    {
        found.push(format!("it is called {}", there.name));
    }
    found
}

pub(super) fn attach(edit: &mut Edit<'_>, attach: &DeviceAttach) -> Result<(), Refusal> {
    if let Some(there) = there(edit, attach) {
        let differences = differences(edit, attach, there);
        if differences.is_empty() {
            return Ok(());
        }
        return Err(Refusal::exists(format!(
            "Device {} is there already, and {}.",
            there.name,
            differences.join(", and ")
        )));
    }
    let spec = spec_of(attach)?;
    if let Some(path) = attach.path.as_ref().filter(|path| !path.is_pci()) {
        edit.seen.may_attach(path)?;
    }
    let name = match &attach.name {
        Some(name) => name.to_string(),
        None => free_name(edit, &wanted_name(attach)),
    };
    edit.set_device(None, Some(Device { name, spec }));
    Ok(())
}

pub(super) fn keep(edit: &mut Edit<'_>, device: &Device) -> Result<(), Refusal> {
    if edit.wanted.device(&device.name).is_some() {
        return Err(Refusal::exists(format!("There is a device {} already.", device.name)));
    }
    edit.set_device(None, Some(device.clone()));
    Ok(())
}

/// Who uses a device, wanted or running.
pub(super) fn user(edit: &Edit<'_>, device: &str) -> Option<String> {
    if let Some(user) = edit.seen.user(device).or_else(|| edit.wanted.user_of(device)) {
        return Some(user);
    }
    let here = |pool: &str| edit.seen.pool_away(pool).is_none();
    let mut pools = edit.wanted.pools().filter(|pool| here(&pool.name));
    let pool = pools.find(|pool| pool.devices.iter().any(|other| other == device))?;
    Some(format!("pool \"{}\"", pool.name))
}

pub(super) fn detach(edit: &mut Edit<'_>, name: &str) -> Result<(), Refusal> {
    let Some(device) = edit.wanted.device(name) else {
        return Err(Refusal::not_found(format!("There is no device {name}.")));
    };
    if device.is_configured() {
        return Err(Refusal::refused(format!(
            "The configuration file declares device {name}: take it out there."
        )));
    }
    if let Some(user) = user(edit, name) {
        return Err(Refusal::in_use(format!("Device {name} is in use by {user}.")));
    }
    let mut pools = edit.wanted.pools();
    if let Some(pool) = pools.find(|pool| pool.devices.iter().any(|other| other == name)) {
        return Err(Refusal::in_use(format!(
            "Device {name} is part of pool {}, which waits for it: export the pool first.",
            pool.name
        )));
    }
    let device = device.item.clone();
    drop(pools);
    edit.set_device(Some(device), None);
    Ok(())
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
            assert_eq!(name_for(path), name);
        }
        assert_eq!(name_for("/"), "device");
        assert!(Name::try_from(name_for(&format!("/{}", "x".repeat(200)))).is_ok());
    }
}
