//! Changes of what the metadata store holds.

use crate::entry::Row;
use crate::record::{DeviceRecord, NodeRecord, VolumeRecord};

/// A node, and which row of its map.
pub type RowKey = (u64, u32);

/// One change; `None` takes the record away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// The pool is open for the so-manieth time.
    Session(u64),
    /// Of a device.
    Device(u32, Option<DeviceRecord>),
    /// Of a volume.
    Volume(u64, Option<VolumeRecord>),
    /// Of a node.
    Node(u64, Option<NodeRecord>),
    /// Of a row of the map. An empty one is taken away.
    Row(RowKey, Box<Row>),
}
