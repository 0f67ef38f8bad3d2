//! Pools of devices.

use crate::{DeviceRef, Name, Status};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where the bytes of a pool are. `total` = `free` + `reserved` + `used`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Space {
    /// What the devices have for data.
    pub total_bytes: u64,
    /// What anybody may still write to.
    pub free_bytes: u64,
    /// What holds data.
    pub used_bytes: u64,
    /// What holds nothing yet and is promised to thick volumes.
    pub reserved_bytes: u64,
    /// The part of `used` that more than one volume or snapshot sees.
    pub shared_bytes: u64,
    /// The part of `used` that nobody sees any more and that comes back in the background.
    pub reclaimable_bytes: u64,
}

/// What a device of a pool does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// Holds data and takes more.
    Member,
    /// Its data is being moved away.
    Draining,
    /// Its data has been moved away: it can be removed.
    Drained,
    /// Belongs to the pool and is not there.
    Missing,
}

/// Whether a pool gives its devices back what nobody needs any more: a file gets smaller, a drive has
/// more spare blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiscardMode {
    /// Devices that do it well.
    #[default]
    Auto,
    /// All devices that can.
    On,
    /// None.
    Off,
}

impl std::fmt::Display for DiscardMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            DiscardMode::Auto => "auto",
            DiscardMode::On => "on",
            DiscardMode::Off => "off",
        })
    }
}

/// What of a device of a pool is given back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceDiscard {
    /// It is given back what nobody needs.
    pub on: bool,
    /// Why, or why not.
    pub reason: String,
    /// Bytes given back since the pool was imported.
    pub discarded_bytes: u64,
    /// Bytes that are free and may still take space below: they are given back where it is on.
    pub waiting_bytes: u64,
}

/// Say whether a pool gives its devices back what nobody needs any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscardSet {
    /// Which devices.
    pub mode: DiscardMode,
}

/// A device of a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolDevice {
    /// Its number in the pool, never used twice.
    pub number: u32,
    /// The device; nothing while it is missing.
    pub device: Option<Name>,
    /// Its path, if it has one.
    pub path: Option<String>,
    /// Its UUID in the pool.
    pub uuid: String,
    /// What it does.
    pub state: MemberState,
    /// Whether the pool's metadata lies on it.
    pub metadata: bool,
    /// Bytes it has for data.
    pub total_bytes: u64,
    /// Bytes that hold data.
    pub used_bytes: u64,
    /// What of it is given back.
    pub discard: DeviceDiscard,
    /// How it is.
    pub status: Status,
    /// Why.
    pub reason: String,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Its name.
    pub name: Name,
    /// Its UUID.
    pub uuid: String,
    /// Its devices, by number.
    pub devices: Vec<PoolDevice>,
    /// Where its bytes are.
    pub space: Space,
    /// Number of volumes.
    pub volumes: u32,
    /// Number of snapshots.
    pub snapshots: u32,
    /// Bytes in an extent.
    pub extent_bytes: u64,
    /// The format of what is on its devices; 0 while it is not imported.
    pub format: u32,
    /// How often writes that were answered and not flushed may have been lost. Counted from format 2 on.
    pub losses: u64,
    /// Whether its devices are given back what nobody needs.
    pub discard: DiscardMode,
    /// How it is.
    pub status: Status,
    /// Why.
    pub reason: String,
}

/// Make a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolCreate {
    /// Its name.
    pub name: Name,
    /// Its devices, at least one.
    #[schema(min_items = 1, max_items = 1024)]
    pub devices: Vec<DeviceRef>,
    /// Take devices that hold somebody's data. That data is lost.
    #[serde(default)]
    pub force: bool,
    /// Whether its devices are given back what nobody needs; unless given, those that do it well.
    #[serde(default)]
    pub discard: Option<DiscardMode>,
}

impl PoolCreate {
    /// Checks that there are devices, each named once.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        check_devices(&self.devices)
    }
}

/// Checks that there are devices for a pool, each named once.
pub(crate) fn check_devices(devices: &[DeviceRef]) -> Result<(), String> {
    if devices.is_empty() {
        return Err("A pool needs at least one device: name it in devices.".into());
    }
    crate::name::once(devices, "devices")
}

/// Bring in a pool that is on devices already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolImport {
    /// Its name, if the devices hold more than one pool or to say which is meant.
    #[serde(default)]
    pub name: Option<Name>,
    /// Where to look; nothing: at every device that is attached and free.
    #[serde(default)]
    #[schema(max_items = 1024)]
    pub devices: Vec<DeviceRef>,
    /// Also where a process that was killed had answered writes for other devices that say that they
    /// are the same: without those writes.
    #[serde(default)]
    pub force: bool,
}

/// A pool that was found on devices and could be imported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportablePool {
    /// Its name.
    pub name: Name,
    /// Its UUID.
    pub uuid: String,
    /// The devices found.
    pub devices: Vec<Name>,
    /// Whether it can be imported.
    pub status: Status,
    /// Why.
    pub reason: String,
}

/// Add a device to a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceAdd {
    /// The device.
    pub device: DeviceRef,
    /// Take it though it holds somebody's data. That data is lost.
    #[serde(default)]
    pub force: bool,
}
