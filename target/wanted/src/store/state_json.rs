//! The state file of earlier versions, format 1: see `FORMAT.md`.

use crate::change::Item;
use crate::item::{
    Device, DeviceSpec, Drive, GonePool, Listener, Namespace, Pool, Subsystem, is_usual,
};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use uuid::Uuid;
use webui_model::DiscardMode;

/// The only format there was.
const VERSION: u32 = 1;

/// Bytes in a block of memory.
const BLOCK_BYTES: u32 = 4096;

/// What every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    #[serde(rename = "version")]
    _version: u32,
    #[serde(default)]
    devices: Vec<KnownDevice>,
    #[serde(default)]
    pools: Vec<Pool>,
    #[serde(default)]
    subsystems: Vec<KnownSubsystem>,
    #[serde(default)]
    namespaces: Vec<Namespace>,
    #[serde(default)]
    listeners: Vec<Listener>,
    #[serde(default)]
    gone: Vec<KnownGone>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownDevice {
    name: String,
    place: KnownPlace,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum KnownPlace {
    Path(PathBuf),
    Memory(u64),
    Drive(KnownDrive),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownDrive {
    place: String,
    serial: String,
    unsafe_no_iommu: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownSubsystem {
    nqn: String,
    own: bool,
    hosts: Vec<String>,
    allow_any_host: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownGone {
    uuid: Uuid,
    subsystems: Vec<KnownSubsystem>,
    namespaces: Vec<Namespace>,
    #[serde(default)]
    identities: BTreeMap<Uuid, String>,
    #[serde(default)]
    discard: DiscardMode,
}

impl KnownDevice {
    fn converted(self) -> Device {
        let spec = match self.place {
            KnownPlace::Path(path) => {
                DeviceSpec::File { path, make_bytes: None, block_bytes: None }
            }
            KnownPlace::Memory(bytes) => DeviceSpec::Memory { bytes, block_bytes: BLOCK_BYTES },
            KnownPlace::Drive(KnownDrive { place, serial, unsafe_no_iommu }) => {
                let serial = Some(serial);
                DeviceSpec::Drive(Drive { place, serial, unsafe_no_iommu, force: false })
            }
        };
        Device { name: self.name, spec }
    }
}

impl KnownSubsystem {
    fn converted(self) -> Subsystem {
        let KnownSubsystem { nqn, own, hosts, allow_any_host } = self;
        let hosts: BTreeSet<String> = hosts.into_iter().collect();
        Subsystem { nqn, serial: None, own, hosts, allow_any_host }
    }
}

/// An IPv4 address that is written as IPv6 (`::ffff:192.0.2.1`) is one of IPv4.
fn canonical(listener: Listener) -> Listener {
    let ip = listener.address.ip().to_canonical();
    match ip.is_ipv4() {
        true => Listener { address: (ip, listener.address.port()).into(), ..listener },
        false => listener,
    }
}

/// Reads a state file.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the file.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Item>, String> {
    let damaged = |error: serde_json::Error| format!("is damaged: {error}");
    let Versioned { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version != VERSION {
        return Err(format!("is of version {version}, and this program knows {VERSION}"));
    }
    let State { devices, pools, subsystems, namespaces, listeners, gone, .. } =
        serde_json::from_slice(bytes).map_err(damaged)?;
    let gone = gone.into_iter().filter(|gone| {
        // What says nothing is nothing to remember.
        !(gone.namespaces.is_empty() && is_usual(&gone.discard))
    });
    let gone = gone.map(|gone| GonePool {
        uuid: gone.uuid,
        subsystems: gone.subsystems.into_iter().map(KnownSubsystem::converted).collect(),
        namespaces: gone.namespaces,
        identities: gone.identities,
        discard: gone.discard,
    });
    let subsystems = subsystems.into_iter().map(KnownSubsystem::converted);
    let devices = devices.into_iter().map(KnownDevice::converted);
    Ok(devices
        .map(Item::Device)
        .chain(pools.into_iter().map(Item::Pool))
        .chain(subsystems.map(Item::Subsystem))
        .chain(namespaces.into_iter().map(Item::Namespace))
        .chain(listeners.into_iter().map(canonical).map(Item::Listener))
        .chain(gone.map(Item::Gone))
        .collect())
}
