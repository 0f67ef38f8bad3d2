//! What an operator has asked for, in a file: devices, pools, subsystems, namespaces, listeners.
//! What lies in a pool is in the pool.

mod file;
mod lock;

pub use file::{StateError, StateFile};
pub use lock::DirectoryLock;

use drives::DrivePlace;
use nvme_spec::Fabric;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use uuid::Uuid;
use webui_model::DiscardMode;

/// The format that this version writes.
pub const VERSION: u32 = 1;

/// Everything that is wanted, beside what the configuration declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// [`VERSION`].
    pub version: u32,
    /// Devices that are attached.
    #[serde(default)]
    pub devices: Vec<KnownDevice>,
    /// Pools that are imported.
    #[serde(default)]
    pub pools: Vec<KnownPool>,
    /// Subsystems.
    #[serde(default)]
    pub subsystems: Vec<KnownSubsystem>,
    /// Namespaces, of these subsystems or of configured ones.
    #[serde(default)]
    pub namespaces: Vec<KnownNamespace>,
    /// Where hosts connect.
    #[serde(default)]
    pub listeners: Vec<KnownListener>,
    /// What was exported of pools that are not imported now: it comes back with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<GonePool>,
}

impl Default for State {
    fn default() -> State {
        State {
            version: VERSION,
            devices: Vec::new(),
            pools: Vec::new(),
            subsystems: Vec::new(),
            namespaces: Vec::new(),
            listeners: Vec::new(),
            gone: Vec::new(),
        }
    }
}

/// A device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownDevice {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub place: DevicePlace,
}

/// Where a device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum DevicePlace {
    /// A file or a block device.
    Path(PathBuf),
    /// Memory of so many bytes, empty after each start.
    Memory(u64),
    /// An NVMe drive that we drive ourselves.
    Drive(KnownDrive),
}

/// An NVMe drive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownDrive {
    /// Where it is.
    pub place: DrivePlace,
    /// Its serial number: another drive in its place is not taken for it.
    pub serial: String,
    /// It was taken without an IOMMU.
    pub unsafe_no_iommu: bool,
}

/// A pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownPool {
    /// Its name.
    pub name: String,
    /// Its UUID: this is what its devices are found by.
    pub uuid: Uuid,
    /// The devices it was last seen on.
    pub devices: Vec<String>,
    /// What tells each of them from a copy, by its UUID ([`bdev::Bdev::identity`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub identities: BTreeMap<Uuid, String>,
    /// Whether its devices are given back what nobody needs.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub discard: DiscardMode,
}

fn is_usual(mode: &DiscardMode) -> bool {
    *mode == DiscardMode::default()
}

/// A pool that was here, and how its volumes and snapshots were exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GonePool {
    /// Its UUID.
    pub uuid: Uuid,
    /// Subsystems that were theirs alone.
    pub subsystems: Vec<KnownSubsystem>,
    /// Their namespaces.
    pub namespaces: Vec<KnownNamespace>,
    /// As of [`KnownPool`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub identities: BTreeMap<Uuid, String>,
    /// As of [`KnownPool`].
    #[serde(default, skip_serializing_if = "is_usual")]
    pub discard: DiscardMode,
}

/// A subsystem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownSubsystem {
    /// Its name.
    pub nqn: String,
    /// It was made for one volume or snapshot and goes away with it.
    pub own: bool,
    /// Hosts that may connect.
    pub hosts: Vec<String>,
    /// Any host may connect.
    pub allow_any_host: bool,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownNamespace {
    /// Its subsystem.
    pub subsystem: String,
    /// Its number there.
    pub nsid: u32,
    /// What hosts know it by.
    pub uuid: Uuid,
    /// What it shows.
    pub source: Source,
}

/// What a namespace shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// A volume, known by its UUID: names change.
    Volume {
        /// The pool.
        pool: String,
        /// The volume's UUID.
        uuid: Uuid,
        /// Its name when it was last seen, for people.
        name: String,
    },
    /// A snapshot.
    Snapshot {
        /// The pool.
        pool: String,
        /// The volume's UUID.
        uuid: Uuid,
        /// The volume's name when it was last seen, for people.
        name: String,
        /// The snapshot's name.
        snapshot: String,
    },
    /// A whole device.
    Device {
        /// Its name.
        name: String,
    },
}

impl Source {
    /// The pool it is in.
    pub fn pool(&self) -> Option<&str> {
        match self {
            Source::Volume { pool, .. } | Source::Snapshot { pool, .. } => Some(pool),
            Source::Device { .. } => None,
        }
    }

    /// Takes over the name that its volume has now, by UUID.
    pub fn named(&mut self, names: &BTreeMap<Uuid, String>) {
        if let Source::Volume { uuid, name, .. } | Source::Snapshot { uuid, name, .. } = self
            && let Some(now) = names.get(uuid)
        {
            name.clone_from(now);
        }
    }

    /// Whether both are the same thing, whatever names they had when they were written down.
    pub fn is(&self, other: &Source) -> bool {
        match (self, other) {
            (Source::Volume { pool, uuid, .. }, Source::Volume { pool: of, uuid: with, .. }) => {
                (pool, uuid) == (of, with)
            }
            (
                Source::Snapshot { pool, uuid, snapshot, .. },
                Source::Snapshot { pool: of, uuid: with, snapshot: named, .. },
            ) => (pool, uuid, snapshot) == (of, with, named),
            (Source::Device { name }, Source::Device { name: other }) => name == other,
            _ => false,
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Volume { pool, name, .. } => write!(f, "volume {pool}/{name}"),
            Source::Snapshot { pool, name, snapshot, .. } => {
                write!(f, "snapshot {pool}/{name}@{snapshot}")
            }
            Source::Device { name } => write!(f, "device {name}"),
        }
    }
}

/// An address that is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownListener {
    /// The address.
    pub address: SocketAddr,
    /// The discovery service alone.
    pub discovery_only: bool,
    /// The fabric.
    #[serde(default, skip_serializing_if = "Fabric::is_tcp")]
    pub transport: Fabric,
}

impl State {
    /// The namespace that shows `source`.
    pub fn namespace_of(&self, source: &Source) -> Option<&KnownNamespace> {
        self.namespaces.iter().find(|namespace| namespace.source.is(source))
    }

    /// Takes out a pool and how what lies in it is exported, which is kept for when the pool is back.
    pub fn let_pool_go(&mut self, name: &str) {
        let of_it = |known: &KnownNamespace| known.source.pool() == Some(name);
        let (namespaces, others) =
            std::mem::take(&mut self.namespaces).into_iter().partition(of_it);
        self.namespaces = others;
        let namespaces: Vec<KnownNamespace> = namespaces;
        let shows = |nqn: &str| namespaces.iter().any(|known| known.subsystem == nqn);
        let (subsystems, others) = std::mem::take(&mut self.subsystems)
            .into_iter()
            .partition(|known| known.own && shows(&known.nqn));
        self.subsystems = others;
        if let Some(at) = self.pools.iter().position(|known| known.name == name) {
            let KnownPool { uuid, identities, discard, .. } = self.pools.remove(at);
            self.gone.retain(|gone| gone.uuid != uuid);
            if !namespaces.is_empty() || !is_usual(&discard) {
                self.gone.push(GonePool { uuid, subsystems, namespaces, identities, discard });
            }
        }
    }

    /// A pool is imported: what was exported of it is wanted again, but for what has taken its place
    /// since.
    pub fn pool_is_back(&mut self, uuid: Uuid, has_subsystem: impl Fn(&str) -> bool) {
        let Some(at) = self.gone.iter().position(|gone| gone.uuid == uuid) else { return };
        let gone = self.gone.remove(at);
        for known in gone.subsystems {
            if self.subsystem(&known.nqn).is_none() && !has_subsystem(&known.nqn) {
                self.subsystems.push(known);
            }
        }
        for known in gone.namespaces {
            let place = (&known.subsystem, known.nsid);
            let is_taken = |other: &KnownNamespace| (&other.subsystem, other.nsid) == place;
            let there =
                self.subsystem(&known.subsystem).is_some() || has_subsystem(&known.subsystem);
            if there
                && !self.namespaces.iter().any(is_taken)
                && self.namespace_of(&known.source).is_none()
            {
                self.namespaces.push(known);
            }
        }
    }

    /// Whether the devices of a pool that is or was here are given back what nobody needs.
    pub fn discard_of(&self, uuid: Uuid) -> DiscardMode {
        let known = self.pools.iter().map(|known| (known.uuid, known.discard));
        let gone = self.gone.iter().map(|gone| (gone.uuid, gone.discard));
        known.chain(gone).find(|(of, _)| *of == uuid).map_or_else(Default::default, |found| found.1)
    }

    /// The subsystem `nqn`.
    pub fn subsystem(&self, nqn: &str) -> Option<&KnownSubsystem> {
        self.subsystems.iter().find(|subsystem| subsystem.nqn == nqn)
    }
}
