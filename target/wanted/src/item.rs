//! The items that are wanted.

use crate::Source;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use uuid::Uuid;
use webui_model::{DiscardMode, Fabric, HostNqn};

/// Where an item was declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeclaredBy {
    /// In the configuration file or by flags: it is only changed there, and never stored.
    Configuration,
    /// Over the API.
    #[default]
    Api,
}

/// An item, and where it was declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared<T> {
    /// Where.
    pub by: DeclaredBy,
    /// The item.
    pub item: T,
}

impl<T> Declared<T> {
    /// An item of the API.
    pub fn api(item: T) -> Declared<T> {
        Declared { by: DeclaredBy::Api, item }
    }

    /// An item of the configuration.
    pub fn configured(item: T) -> Declared<T> {
        Declared { by: DeclaredBy::Configuration, item }
    }

    /// Whether the configuration declares it.
    pub fn is_configured(&self) -> bool {
        self.by == DeclaredBy::Configuration
    }
}

impl<T> std::ops::Deref for Declared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.item
    }
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// What it is made of.
    pub spec: DeviceSpec,
}

/// What a device is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DeviceSpec {
    /// Memory of the process, empty after each start.
    Memory {
        /// Capacity.
        bytes: u64,
        /// Bytes in a block.
        block_bytes: u32,
    },
    /// Takes everything and gives nothing back.
    Null {
        /// Capacity.
        bytes: u64,
        /// Bytes in a block.
        block_bytes: u32,
    },
    /// A file or a block device of the kernel.
    File {
        /// Where it is.
        path: PathBuf,
        /// Capacity of a file that is made if it is not there. Nothing: it is not made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        make_bytes: Option<u64>,
        /// Bytes in a block; as it suits the device unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        block_bytes: Option<u32>,
    },
    /// An NVMe drive that the appliance drives itself.
    Drive(Drive),
    /// A namespace of another target.
    Remote(RemoteNamespace),
    /// Another device, later.
    Delay {
        /// The device below.
        base: String,
        /// Microseconds added to each read.
        read_us: u64,
        /// Microseconds added to everything else.
        write_us: u64,
    },
    /// Another device with errors injected.
    Error {
        /// The device below.
        base: String,
        /// What fails, and how.
        rules: Vec<ErrorRule>,
    },
}

/// An NVMe drive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drive {
    /// Where it is, as `pci:0000:03:00.0` is written in full.
    pub place: String,
    /// Its serial number, once it is known: another drive in its place is not taken for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// It is taken without an IOMMU.
    pub unsafe_no_iommu: bool,
    /// It is taken whatever is on it, and whoever uses it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

/// A namespace of another target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoteNamespace {
    /// Its address.
    pub address: SocketAddr,
    /// The fabric by which it is reached.
    pub transport: Fabric,
    /// Its subsystem.
    pub subsystem: String,
    /// Its number there.
    pub nsid: u32,
    /// The NQN to connect with; derived from the machine's unless given.
    pub host: Option<String>,
    /// Header digests; TCP only.
    pub header_digest: bool,
    /// Data digests; TCP only.
    pub data_digest: bool,
}

/// One kind of injected error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorRule {
    /// Operations that fail: read, write, write-zeroes, deallocate, flush.
    pub ops: Vec<String>,
    /// First block that fails.
    #[serde(default)]
    pub lba: u64,
    /// Number of blocks that fail; all unless given.
    #[serde(default = "every_block")]
    pub blocks: u64,
    /// Status code type and status code, as in `[2, 0x81]`.
    pub status: [u8; 2],
    /// How often; always unless given.
    #[serde(default)]
    pub count: Option<u64>,
}

fn every_block() -> u64 {
    u64::MAX
}

impl DeviceSpec {
    /// The device below, of a layer.
    pub fn base(&self) -> Option<&str> {
        match self {
            DeviceSpec::Delay { base, .. } | DeviceSpec::Error { base, .. } => Some(base),
            _ => None,
        }
    }

    /// Where it is, in a line: a path, a drive's address, a remote namespace. Nothing for others.
    pub fn place(&self) -> Option<String> {
        match self {
            DeviceSpec::File { path, .. } => Some(path.display().to_string()),
            DeviceSpec::Drive(drive) => Some(drive.place.clone()),
            DeviceSpec::Remote(remote) => {
                Some(format!("{} {} {}", remote.address, remote.subsystem, remote.nsid))
            }
            _ => None,
        }
    }
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Its UUID: this is what its devices are found by.
    pub uuid: Uuid,
    /// The devices it was last seen on.
    pub devices: Vec<String>,
    /// What tells each of them from a copy, by its UUID in the pool.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub identities: BTreeMap<Uuid, String>,
    /// Whether its devices are given back what nobody needs.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub discard: DiscardMode,
}

pub(crate) fn is_usual(mode: &DiscardMode) -> bool {
    *mode == DiscardMode::default()
}

/// A pool that was here, and how its volumes and snapshots were exported: it comes back with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GonePool {
    /// Its UUID.
    pub uuid: Uuid,
    /// Subsystems that were theirs alone.
    pub subsystems: Vec<Subsystem>,
    /// Their namespaces.
    pub namespaces: Vec<Namespace>,
    /// As of [`Pool`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub identities: BTreeMap<Uuid, String>,
    /// As of [`Pool`].
    #[serde(default, skip_serializing_if = "is_usual")]
    pub discard: DiscardMode,
}

/// A subsystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subsystem {
    /// Its name.
    pub nqn: String,
    /// Its serial number; derived from the name unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// It was made for one volume or snapshot and goes away with it.
    pub own: bool,
    /// Hosts that may connect.
    pub hosts: BTreeSet<String>,
    /// Any host may connect.
    pub allow_any_host: bool,
}

impl Subsystem {
    /// The hosts that are listed, as the API names them; what the configuration names otherwise is
    /// left out.
    pub fn host_nqns(&self) -> Vec<HostNqn> {
        self.hosts.iter().filter_map(|host| host.parse().ok()).collect()
    }
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Namespace {
    /// Its subsystem.
    pub subsystem: String,
    /// Its number there.
    pub nsid: u32,
    /// What hosts know it by.
    pub uuid: Uuid,
    /// What it shows.
    pub source: Source,
}

/// An address that is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The address.
    pub address: SocketAddr,
    /// The discovery service alone.
    pub discovery_only: bool,
    /// The fabric.
    #[serde(default, skip_serializing_if = "Fabric::is_tcp")]
    pub transport: Fabric,
}

impl Listener {
    /// Where it is.
    pub fn at(&self) -> ListenAt {
        ListenAt { transport: self.transport, address: self.address }
    }
}

/// Where a listener is: a fabric and an address there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenAt {
    /// The fabric.
    pub transport: Fabric,
    /// The address.
    pub address: SocketAddr,
}

impl std::fmt::Display for ListenAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.transport {
            Fabric::Tcp => write!(f, "{}", self.address),
            Fabric::Rdma => write!(f, "rdma {}", self.address),
        }
    }
}
