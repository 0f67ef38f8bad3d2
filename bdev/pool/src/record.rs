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
    /// Of format 2.
    #[serde(default, skip_serializing_if = "VolumeKind::is_plain")]
    pub kind: VolumeKind,
}

/// What a volume is beside what it holds. Anything but plain is of format 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeKind {
    /// It is in no list of volumes: it serves another one, or a store.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
    /// It is thick, and all of its blocks are there from the beginning: an overwrite with FUA is one
    /// operation of a device.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub filled: bool,
    /// The reactor that it lives on, where there are so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<u32>,
}

impl VolumeKind {
    /// Whether a pool of format 1 has such volumes.
    pub fn is_plain(&self) -> bool {
        *self == VolumeKind::default()
    }
}

/// A host that has written to a volume, of format 2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriterRecord {
    /// As it calls itself: its NQN.
    pub name: String,
    /// It knows of so many losses of the pool.
    pub knows: u64,
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
        /// Its own, for ever. Of format 2.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uuid: Option<Uuid>,
    },
    /// Nobody's: it is taken apart.
    Leaving,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Releases that know format 1 only refuse a field that they do not know.
    #[test]
    fn a_record_of_format_1_is_as_it_was() {
        let record = VolumeRecord {
            name: "a".to_owned(),
            uuid: Uuid::from_u128(1),
            node: 2,
            block_bytes: 4096,
            thick: false,
            limits: Limits { iops: 5, ..Limits::default() },
            made_s: 9,
            kind: VolumeKind::default(),
        };
        let text = "{\"name\":\"a\",\"uuid\":\"00000000-0000-0000-0000-000000000001\",\"node\":2,\
                    \"block_bytes\":4096,\"thick\":false,\"limits\":{\"iops\":5,\
                    \"bytes_per_second\":0,\"burst_ms\":0},\"made_s\":9}";
        assert_eq!(serde_json::to_string(&record).unwrap(), text);
        let state = NodeState::Snapshot { volume: 1, name: "s".to_owned(), taken_s: 7, uuid: None };
        let node = NodeRecord { parent: None, bytes: 4096, state };
        let text = "{\"parent\":null,\"bytes\":4096,\"state\":{\"snapshot\":{\"volume\":1,\
                    \"name\":\"s\",\"taken_s\":7}}}";
        assert_eq!(serde_json::to_string(&node).unwrap(), text);
        let kind = VolumeKind { hidden: true, filled: false, home: Some(3) };
        let text = serde_json::to_string(&VolumeRecord { kind, ..record.clone() }).unwrap();
        assert!(text.ends_with("\"kind\":{\"hidden\":true,\"home\":3}}"), "{text}");
        assert_eq!(serde_json::from_str::<VolumeRecord>(&text).unwrap().kind, kind);
    }
}
