//! Changes of what the metadata store holds.

use crate::entry::Row;
use crate::record::{DeviceRecord, NodeRecord, VolumeRecord, WriterRecord};

/// A node, and which row of its map.
pub type RowKey = (u64, u32);

/// A volume, or 0 for the pool, and the name of one of its records.
pub type RecordKey = (u64, String);

/// A volume, and the identifier of a host that has written to it.
pub type WriterKey = (u64, u128);

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
    /// Of what layers above keep with a volume or the pool. Of format 2.
    Record(RecordKey, Option<Vec<u8>>),
    /// Of a host that has written. Of format 2.
    Writer(WriterKey, Option<WriterRecord>),
}
