//! What the metadata store says of devices, volumes and nodes. Stored as JSON: there are few of
//! them, and a person can read them.

use crate::limits::Limits;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A device of the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceRecord {
    /// Its own.
    pub uuid: Uuid,
    /// Slots on it.
    pub slots: u64,
    /// What it said of its power when the pool was opened ([`bdev::Bdev::power_session`]).
    #[serde(default)]
    pub power: u64,
    /// Whether slots are taken on it.
    pub state: DeviceState,
}

/// What a device is to its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// It takes part.
    Member,
    /// What is on it moves elsewhere.
    Draining,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeRecord {
    /// As people call it.
    pub name: String,
    /// Its own, for ever.
    pub uuid: Uuid,
    /// Its live node.
    pub node: u64,
    /// Bytes in a block that it shows: 512 or 4096.
    pub block_bytes: u32,
    /// Slots for all of it are set aside.
    pub thick: bool,
    /// How fast it may be.
    #[serde(default)]
    pub limits: Limits,
    /// When it was made, in seconds since 1970.
    #[serde(default)]
    pub made_s: u64,
}

/// One version of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRecord {
    /// Who knows what it does not say.
    pub parent: Option<u64>,
    /// Size in bytes.
    pub bytes: u64,
    /// What it is.
    pub state: NodeState,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum NodeState {
    /// A volume's present.
    Live,
    /// A volume's past.
    Snapshot {
        /// The volume.
        volume: u64,
        /// As people call it.
        name: String,
        /// When it was taken, in seconds since 1970.
        taken_s: u64,
    },
    /// Nobody's: it is taken apart.
    Leaving,
}
