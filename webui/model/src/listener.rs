//! Listeners: where hosts connect.

use crate::{Address, Status};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A fabric.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// NVMe/TCP.
    Tcp,
    /// NVMe/RDMA.
    Rdma,
}

impl Transport {
    /// As `nvme connect -t` wants it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Rdma => "rdma",
        }
    }
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An address that hosts connect to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The fabric.
    pub transport: Transport,
    /// The address.
    pub address: Address,
    /// Whether it serves the discovery subsystem only.
    pub discovery_only: bool,
    /// How it is.
    pub status: Status,
    /// Why.
    pub reason: String,
}

/// Listen on an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerCreate {
    /// The fabric; TCP unless given.
    #[serde(default = "tcp")]
    pub transport: Transport,
    /// The address.
    pub address: Address,
    /// Whether to serve the discovery subsystem only.
    #[serde(default)]
    pub discovery_only: bool,
}

fn tcp() -> Transport {
    Transport::Tcp
}
