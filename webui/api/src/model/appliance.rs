//! The appliance itself.

use super::Status;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The appliance: the worst of what is in it, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Appliance {
    /// Its host name.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// When it started.
    pub started_at_ms: u64,
    /// Reactors, one pinned thread each.
    pub reactors: u32,
    /// What its memory for data is made of.
    pub memory: String,
    /// Connections of hosts that are open.
    pub connections: u32,
    /// How it is.
    pub status: Status,
    /// Why.
    pub reason: String,
}

/// Whether the appliance serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// Whether it does.
    pub ready: bool,
    /// What it waits for, or that it serves.
    pub reason: String,
}
