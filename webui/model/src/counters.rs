//! Counters of the machinery, for who looks for where time and commands go. What operators watch is
//! in [`crate::Statistics`].

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Counters by name of reactors, transports, namespaces and queues, at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Counters {
    /// Version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: f64,
    /// What the DMA memory is made of.
    pub memory: String,
    /// Addresses listened on.
    pub listeners: Vec<String>,
    /// RDMA devices, or why there is no RDMA.
    pub rdma: String,
    /// ConnectionCounters open, allowed, and turned away so far.
    pub connections: ConnectionCounters,
    /// One entry a reactor.
    pub reactors: Vec<ReactorCounters>,
    /// One entry a subsystem, discovery last.
    pub subsystems: Vec<SubsystemCounters>,
    /// Sums by host NQN over the controllers that are connected.
    pub hosts: BTreeMap<String, BTreeMap<String, u64>>,
    /// Every bdev.
    pub bdevs: Vec<BdevCounters>,
}

/// ConnectionCounters of the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionCounters {
    /// Open now.
    pub open: u32,
    /// Allowed at once.
    pub limit: u32,
    /// Turned away since the start.
    pub refused: u64,
}

/// One reactor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReactorCounters {
    /// Its number.
    pub number: u32,
    /// The core it is pinned to.
    pub core: Option<u32>,
    /// Steps, time spent in busy ones, sleeps.
    pub counts: BTreeMap<String, u64>,
    /// DMA buffers on loan, by class from 4 KiB to 1 MiB.
    pub buffers_taken: Vec<u32>,
    /// Channels open.
    pub channels: u32,
    /// Its TCP transport.
    pub tcp: BTreeMap<String, u64>,
    /// Its RDMA transport, where there is RDMA.
    pub rdma: Option<BTreeMap<String, u64>>,
}

/// One subsystem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubsystemCounters {
    /// Its name.
    pub nqn: String,
    /// Hosts that may connect; nothing: any.
    pub hosts: Option<Vec<String>>,
    /// Its namespaces.
    pub namespaces: Vec<NamespaceCounters>,
    /// Its controllers.
    pub controllers: Vec<ControllerCounters>,
}

/// One namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespaceCounters {
    /// Its number.
    pub nsid: u32,
    /// Its UUID.
    pub uuid: String,
    /// The bdev behind it.
    pub bdev: String,
    /// Number of blocks.
    pub blocks: u64,
    /// Bytes in a block.
    pub block_bytes: u32,
    /// Sums over the reactors.
    pub counts: BTreeMap<String, u64>,
}

/// One controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ControllerCounters {
    /// Its identifier.
    pub cntlid: u16,
    /// The host.
    pub host: String,
    /// Keep alive timeout in milliseconds; 0: none.
    pub keep_alive_ms: u32,
    /// Entries in its error log so far.
    pub errors: u64,
    /// Its queues.
    pub queues: Vec<QueueCounters>,
}

/// One queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QueueCounters {
    /// Its identifier; 0 is the admin queue.
    pub qid: u16,
    /// The reactor that serves it.
    pub reactor: u32,
    /// Entries.
    pub entries: u16,
    /// What was done on it.
    pub counts: BTreeMap<String, u64>,
}

/// One bdev.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BdevCounters {
    /// Its name.
    pub name: String,
    /// Capacity in bytes.
    pub bytes: u64,
    /// Bytes in a block.
    pub block_bytes: u32,
    /// Who uses it.
    pub user: Option<String>,
}
