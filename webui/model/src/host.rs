//! Hosts and their controllers.

use crate::{HostNqn, Nqn, Status};
use nvme_spec::Fabric;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A host: one that may connect somewhere, is connected, or was refused lately.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its name.
    pub nqn: HostNqn,
    /// Subsystems that list it.
    pub subsystems: Vec<Nqn>,
    /// Controllers it has now.
    pub controllers: u32,
    /// Addresses it is connected from.
    pub addresses: Vec<String>,
    /// How it is: offline while it has no controller.
    pub status: Status,
    /// Why.
    pub reason: String,
    /// When it was refused or given up last, while that is remembered.
    #[serde(default)]
    pub last_refusal: Option<HostRefusal>,
}

/// That a host was refused, or given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostRefusal {
    /// When last, in milliseconds since 1970.
    pub at_ms: u64,
    /// Where the host was.
    pub address: String,
    /// The NQN of the subsystem that it asked for.
    pub subsystem: Option<String>,
    /// Why, as the end of a sentence that begins with the host.
    pub reason: String,
    /// How often, for this reason and from there.
    pub count: u64,
}

/// A queue of a controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ControllerQueue {
    /// Its identifier; 0 is the admin queue.
    pub qid: u16,
    /// The reactor that serves it.
    pub reactor: u32,
    /// Entries.
    pub entries: u16,
    /// Commands under way.
    pub outstanding: u32,
}

/// A controller: a host's connection to a subsystem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Controller {
    /// The subsystem.
    pub subsystem: Nqn,
    /// Its identifier there.
    pub cntlid: u16,
    /// The host, as it calls itself.
    pub host: String,
    /// Where the host is.
    pub address: Option<String>,
    /// Over which fabric.
    #[schema(schema_with = crate::listener::fabric_schema)]
    pub transport: Fabric,
    /// Keep alive timeout in milliseconds; 0: none.
    pub keep_alive_ms: u32,
    /// Errors it has logged.
    pub errors: u64,
    /// Its queues.
    pub queues: Vec<ControllerQueue>,
    /// How it is.
    pub status: Status,
    /// Why.
    pub reason: String,
}
