//! The configuration: a TOML file or flags, ending in one [`Config`].

mod api;
mod check;
mod declared;
mod history;
pub(crate) mod memory;

pub use api::{API_PORT, Api, ApiAddress, Audit, Forward, OldestTls};
pub use check::{ConfigError, check_nqn};
pub use history::{History, HistorySize};
pub use wanted::ErrorRule;

use drives::DrivePlace;
use nvme_spec::Fabric;
use nvmf::places::PlaceLimits;
use nvmf_tcp::limits::QPAIRS;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use wanted::ListenAt;
use webui_model::{Size, data_dir};

/// Everything `forebay serve` is told.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the state, the tokens, the audit log and the socket of the API live.
    #[serde(default = "data_dir::default")]
    pub data_dir: PathBuf,
    /// What files of earlier versions have. It says nothing any more.
    #[serde(default, skip_serializing)]
    pub control: Option<PathBuf>,
    /// Cores and memory.
    #[serde(default)]
    pub reactors: Reactors,
    /// The API.
    #[serde(default)]
    pub api: Api,
    /// The audit log.
    #[serde(default)]
    pub audit: Audit,
    /// How everything performed.
    #[serde(default)]
    pub history: History,
    /// The TCP fabric.
    #[serde(default)]
    pub tcp: Tcp,
    /// Block devices, by name.
    #[serde(default, rename = "bdev")]
    pub bdevs: Vec<BdevConfig>,
    /// Subsystems, by NQN.
    #[serde(default, rename = "subsystem")]
    pub subsystems: Vec<SubsystemConfig>,
    /// Where hosts connect.
    #[serde(default, rename = "listener")]
    pub listeners: Vec<ListenerConfig>,
}

/// Cores and memory.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Reactors {
    /// The cores to pin a reactor to, one each. Empty: one reactor on each core the process may
    /// use, not pinned.
    pub cores: Vec<usize>,
    /// What they do when there is nothing to do.
    pub poll: PollMode,
    /// How long an adaptive reactor spins before it sleeps, in microseconds.
    pub spin_us: u64,
    /// DMA memory of each reactor; a size that fits the machine unless given, at most 128 MiB.
    pub memory: Option<Size>,
}

impl Default for Reactors {
    fn default() -> Self {
        Reactors { cores: Vec::new(), poll: PollMode::Adaptive, spin_us: 50, memory: None }
    }
}

/// What an idle reactor does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum PollMode {
    /// Spins always.
    Busy,
    /// Spins for a while, then sleeps.
    Adaptive,
}

/// The TCP fabric.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Tcp {
    /// Congestion control of the sockets (TCP_CONGESTION); empty for the kernel's default.
    pub congestion: String,
    /// Connections accepted at once, over RDMA, too; more are closed as they come. By default as many
    /// as the reactors have places for over TCP.
    pub connections: Option<u32>,
    /// Of these, connections of one address (of IPv6, of one /64 network); half of all by default.
    pub connections_per_address: Option<u32>,
    /// Seconds in which a host, over RDMA, too, has to take an answer or to send data that it was asked
    /// for, while others wait for what it holds; its connection ends then. 5 by default.
    pub stall_seconds: Option<u32>,
}

impl Tcp {
    /// Connections that `reactors` accept at once.
    pub(crate) fn connections(&self, reactors: usize) -> u32 {
        let places = u32::try_from(reactors).unwrap_or(u32::MAX).saturating_mul(QPAIRS);
        self.connections.unwrap_or(places)
    }

    /// How long a connection may hold what others wait for and not move, in ns.
    pub(crate) fn stall_ns(&self) -> u64 {
        self.stall_seconds.map_or(nvmf::limits::STALL_NS, |s| u64::from(s) * 1_000_000_000)
    }

    /// How many connections there may be, where the process has descriptors for so many.
    pub(crate) fn places(&self, reactors: usize, descriptors: u32) -> PlaceLimits {
        let limits = PlaceLimits::of(self.connections(reactors).min(descriptors));
        let each = self.connections_per_address.unwrap_or(limits.each).min(limits.all);
        PlaceLimits { each, ..limits }
    }
}

/// One block device.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(try_from = "serde_json::Map<String, serde_json::Value>")]
pub struct BdevConfig {
    /// Its name, for namespaces and layers to refer to.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: BdevKind,
}

/// serde cannot refuse unknown fields of a flattened enum, so the name is taken out by hand.
impl TryFrom<serde_json::Map<String, serde_json::Value>> for BdevConfig {
    type Error = String;

    fn try_from(mut map: serde_json::Map<String, serde_json::Value>) -> Result<Self, String> {
        let Some(serde_json::Value::String(name)) = map.remove("name") else {
            return Err("a bdev has a name, as in name = \"disk0\"".into());
        };
        let kind = serde_json::from_value(map.into());
        let kind = kind.map_err(|error| format!("bdev \"{name}\": {error}"))?;
        Ok(BdevConfig { name, kind })
    }
}

/// What a block device is made of.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum BdevKind {
    /// Memory of this process; gone when it ends.
    Ram {
        /// Capacity.
        size: Size,
        /// Bytes in a block.
        #[serde(default = "default_block")]
        block: u32,
    },
    /// Takes everything and gives nothing back.
    Null {
        /// Capacity.
        size: Size,
        /// Bytes in a block.
        #[serde(default = "default_block")]
        block: u32,
    },
    /// A file or a block device of the kernel, through io_uring.
    File {
        /// Its path.
        path: PathBuf,
        /// Capacity of a file that does not exist yet: it is made, sparse.
        #[serde(default)]
        size: Option<Size>,
        /// Bytes in a block.
        #[serde(default = "default_block")]
        block: u32,
    },
    /// A namespace of an NVMe drive of this machine, through our own driver.
    Nvme {
        /// Where the drive is, as `pci:0000:03:00.0`.
        drive: DrivePlace,
        /// Take it whatever is on it, and whoever uses it.
        #[serde(default)]
        force: bool,
        /// Take it without an IOMMU: it can then overwrite any memory. For labs.
        #[serde(default)]
        unsafe_no_iommu: bool,
    },
    /// A namespace of another target.
    Remote {
        /// Its address.
        #[serde(deserialize_with = "address")]
        address: SocketAddr,
        /// The fabric by which it is reached.
        #[serde(default, skip_serializing_if = "Fabric::is_tcp")]
        transport: Fabric,
        /// Its subsystem.
        subsystem: String,
        /// Its number there.
        #[serde(default = "default_nsid")]
        nsid: u32,
        /// The NQN to connect with; derived from the machine's unless given.
        #[serde(default)]
        host: Option<String>,
        /// Header digests; TCP only.
        #[serde(default)]
        header_digest: bool,
        /// Data digests; TCP only.
        #[serde(default)]
        data_digest: bool,
    },
    /// Another bdev, later.
    Delay {
        /// The bdev below.
        base: String,
        /// Microseconds added to each read.
        #[serde(default)]
        read_us: u64,
        /// Microseconds added to everything else.
        #[serde(default)]
        write_us: u64,
    },
    /// Another bdev with errors injected.
    Error {
        /// The bdev below.
        base: String,
        /// What fails, and how.
        #[serde(default, rename = "rule")]
        rules: Vec<ErrorRule>,
    },
}

/// One subsystem.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct SubsystemConfig {
    /// Its name.
    pub nqn: String,
    /// Serial number, at most 20 characters; derived from the NQN unless given.
    #[serde(default)]
    pub serial: Option<String>,
    /// Hosts that may connect, by NQN.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Any host may connect.
    #[serde(default)]
    pub allow_any_host: bool,
    /// Its namespaces.
    #[serde(default, rename = "namespace")]
    pub namespaces: Vec<NamespaceConfig>,
}

/// One namespace.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct NamespaceConfig {
    /// Its bdev.
    pub bdev: String,
    /// Its number; the first free one unless given.
    #[serde(default)]
    pub nsid: Option<u32>,
    /// Its UUID; derived from the NQN and the number unless given, the same on every start.
    #[serde(default)]
    pub uuid: Option<String>,
}

/// Where hosts connect.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ListenerConfig {
    /// Address and port. Port 0 takes a free one.
    #[serde(deserialize_with = "address")]
    pub address: SocketAddr,
    /// The discovery service alone, as on port 8009.
    #[serde(default)]
    pub discovery_only: bool,
    /// The fabric.
    #[serde(default)]
    pub transport: Fabric,
}

impl ListenerConfig {
    /// A listener for NVMe/TCP.
    pub fn tcp(address: SocketAddr, discovery_only: bool) -> ListenerConfig {
        let address = canonical(address);
        ListenerConfig { address, discovery_only, transport: Fabric::Tcp }
    }

    /// Where it is.
    pub(crate) fn at(&self) -> ListenAt {
        ListenAt { transport: self.transport, address: self.address }
    }
}

/// An address and a port, or a sentence.
fn address<'de, D: serde::Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map(canonical).map_err(|_| {
        serde::de::Error::custom(format!(
            "\"{text}\" is no address with a port: write it as 127.0.0.1:4420 or [::1]:4420"
        ))
    })
}

/// An IPv4 address that is written as IPv6 (`::ffff:192.0.2.1`) is one of IPv4.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

fn default_block() -> u32 {
    4096
}

fn default_nsid() -> u32 {
    1
}

/// The NQN of the subsystem of flags that name none.
pub const DEFAULT_NQN: &str = "nqn.2026-01.io.forebay:default";

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// A sentence: the file is missing, is no TOML, has an unknown key, or contradicts itself.
    pub fn from_file(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            ConfigError(format!(
                "The configuration file {} cannot be read: {error}. Give the path of an existing \
                 file to --config.",
                path.display()
            ))
        })?;
        Config::from_text(&text)
            .map_err(|error| ConfigError(format!("In {}: {error}", path.display())))
    }

    /// Reads TOML.
    ///
    /// # Errors
    /// A sentence, as [`Config::from_file`].
    pub fn from_text(text: &str) -> Result<Config, ConfigError> {
        let config: Config =
            toml::from_str(text).map_err(|error| ConfigError(error.to_string()))?;
        config.check()?;
        Ok(config)
    }

    /// Without any file or flag: nothing is exported, and hosts are listened for on loopback.
    pub fn plain(data_dir: PathBuf) -> Config {
        Config {
            data_dir,
            control: None,
            reactors: Reactors::default(),
            api: Api::default(),
            audit: Audit::default(),
            history: History::default(),
            tcp: Tcp::default(),
            bdevs: Vec::new(),
            subsystems: Vec::new(),
            listeners: vec![
                ListenerConfig::tcp(([127, 0, 0, 1], 4420).into(), false),
                ListenerConfig::tcp(([127, 0, 0, 1], 8009).into(), true),
            ],
        }
    }

    /// Something to try: a sparse file of 1 GiB in `data_dir`, on loopback, open to any host because
    /// only this machine reaches it.
    pub fn demo(data_dir: PathBuf) -> Config {
        let kind = BdevKind::File {
            path: data_dir.join("disk0.img"),
            size: Some(Size(1 << 30)),
            block: default_block(),
        };
        let namespace = NamespaceConfig { bdev: "disk0".into(), nsid: Some(1), uuid: None };
        Config {
            bdevs: vec![BdevConfig { name: "disk0".into(), kind }],
            subsystems: vec![SubsystemConfig {
                nqn: DEFAULT_NQN.into(),
                serial: None,
                hosts: Vec::new(),
                allow_any_host: true,
                namespaces: vec![namespace],
            }],
            ..Config::plain(data_dir)
        }
    }
}

#[cfg(test)]
mod tests;
