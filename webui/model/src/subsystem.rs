//! Subsystems and their namespaces.

use crate::{HostNqn, Name, Nqn, SnapshotRef, Status, VolumeRef};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a namespace shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum NamespaceSource {
    /// A volume.
    Volume(VolumeRef),
    /// A snapshot, read only.
    Snapshot(SnapshotRef),
    /// A whole device, without a pool.
    Device(Name),
}

impl std::fmt::Display for NamespaceSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Volume(volume) => write!(f, "volume {volume}"),
            Self::Snapshot(snapshot) => write!(f, "snapshot {snapshot}"),
            Self::Device(device) => write!(f, "device {device}"),
        }
    }
}

/// A namespace of a subsystem.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// Its number.
    pub nsid: u32,
    /// Its UUID.
    pub uuid: String,
    /// What it shows.
    pub source: NamespaceSource,
    /// Capacity in bytes.
    pub bytes: u64,
    /// Bytes in a block.
    pub block_bytes: u32,
    /// Whether hosts may only read.
    pub read_only: bool,
    /// How it is.
    pub status: Status,
    /// Why.
    pub reason: String,
}

/// A subsystem: what a host connects to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Subsystem {
    /// Its name.
    pub nqn: Nqn,
    /// Whether it was made for one volume or snapshot, and goes away with it.
    pub own: bool,
    /// Hosts that may connect.
    pub hosts: Vec<HostNqn>,
    /// Whether any host may connect.
    pub allow_any_host: bool,
    /// Its namespaces.
    pub namespaces: Vec<Namespace>,
    /// Controllers of hosts that are connected.
    pub controllers: u32,
    /// How it is.
    pub status: Status,
    /// Why.
    pub reason: String,
}

/// Make a subsystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubsystemCreate {
    /// Its name.
    pub nqn: Nqn,
    /// Hosts that may connect.
    #[serde(default)]
    #[schema(max_items = 4096)]
    pub hosts: Vec<HostNqn>,
    /// Let any host connect. Not together with `hosts`; needs the role admin.
    #[serde(default)]
    pub allow_any_host: bool,
}

impl SubsystemCreate {
    /// Checks that the fields go together.
    ///
    /// # Errors
    /// What does not, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        let Self { hosts, allow_any_host, .. } = self.clone();
        crate::ExportSet { subsystem: None, hosts, allow_any_host }.check()
    }

    /// What a subsystem that is there has otherwise, in words; nothing: it is what is asked for.
    pub fn differences(&self, there: &Subsystem) -> Vec<String> {
        crate::volume::access_differences(
            (&self.hosts, self.allow_any_host),
            (&there.hosts, there.allow_any_host),
        )
    }
}

/// Let a host connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostAdd {
    /// The host.
    pub host: HostNqn,
}

impl HostAdd {
    /// Checks the name.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        self.host.check()
    }
}

/// Add a namespace to a subsystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamespaceAdd {
    /// What it shows.
    pub source: NamespaceSource,
    /// Its number; the first free one unless given.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1024)]
    pub nsid: Option<u32>,
}

impl NamespaceAdd {
    /// Checks the number.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        match self.nsid {
            Some(nsid) if !(1..=1024).contains(&nsid) => {
                Err(format!("nsid is {nsid}: give 1 to 1024, or nothing for the first free one."))
            }
            _ => Ok(()),
        }
    }
}
