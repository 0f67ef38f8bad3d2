//! How an object is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How an object is; its `reason` says why.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// As it should be.
    Ok,
    /// It works, and something is being done to it.
    Busy,
    /// It works, and somebody should look at it.
    Degraded,
    /// It does not work.
    Failed,
    /// It is not in use: exported, not attached, not connected.
    Offline,
}

/// What kinds of object there are.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// The appliance.
    Appliance,
    /// A device.
    Device,
    /// An NVMe drive of the machine.
    Drive,
    /// A pool.
    Pool,
    /// A volume.
    Volume,
    /// A snapshot.
    Snapshot,
    /// A subsystem.
    Subsystem,
    /// A namespace of a subsystem.
    Namespace,
    /// A host.
    Host,
    /// A connected controller.
    Controller,
    /// A listener.
    Listener,
    /// A job.
    Job,
    /// A token of the API.
    Token,
}

/// An object that is spoken of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// Its name, with the names of what it is in before it: `tank`, `tank/scratch`,
    /// `tank/scratch@monday`, an NQN, an address, a job's number.
    pub name: String,
}

impl Object {
    /// An object.
    pub fn new(kind: ObjectKind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            ObjectKind::Appliance => "appliance",
            ObjectKind::Device => "device",
            ObjectKind::Drive => "drive",
            ObjectKind::Pool => "pool",
            ObjectKind::Volume => "volume",
            ObjectKind::Snapshot => "snapshot",
            ObjectKind::Subsystem => "subsystem",
            ObjectKind::Namespace => "namespace",
            ObjectKind::Host => "host",
            ObjectKind::Controller => "controller",
            ObjectKind::Listener => "listener",
            ObjectKind::Job => "job",
            ObjectKind::Token => "token",
        };
        write!(f, "{kind} {}", self.name)
    }
}
