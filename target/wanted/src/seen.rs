//! What the rules have to know of what runs.

use std::net::{IpAddr, SocketAddr};
use uuid::Uuid;
use webui_model::{DeviceRef, Fabric, Limits, Refusal};

/// A volume that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenVolume {
    /// What it is known by.
    pub uuid: Uuid,
    /// Capacity.
    pub bytes: u64,
    /// Bytes in a block.
    pub block_bytes: u32,
    /// All its space is promised to it.
    pub thick: bool,
    /// The most it does.
    pub limits: Limits,
    /// The volume and the snapshot that it was cloned from.
    pub origin: Option<(String, String)>,
}

/// A listener that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listening {
    /// The fabric.
    pub transport: Fabric,
    /// The address.
    pub address: SocketAddr,
    /// It is for IPv6 alone.
    pub only_ipv6: bool,
    /// It serves the discovery subsystem alone.
    pub discovery_only: bool,
    /// The configuration declares it, maybe on another port: one that is chosen when it is opened.
    pub is_configured: bool,
}

/// What the rules look up in what runs, one thing at a time: each look-up costs what it asks for.
/// Where nothing runs there is nothing to be seen, which is what every method says by itself.
#[allow(unused_variables)] // What nothing is looked up in has no use for a name.
pub trait Seen {
    /// Why a pool that is wanted is not imported, as a sentence; nothing if it is.
    fn pool_away(&self, pool: &str) -> Option<String> {
        None
    }

    /// A volume of a pool that is imported.
    fn volume(&self, pool: &str, volume: &str) -> Option<SeenVolume> {
        None
    }

    /// Whether a volume has a snapshot.
    fn has_snapshot(&self, pool: &str, volume: &str, snapshot: &str) -> bool {
        false
    }

    /// The names of a volume's snapshots, in the order in which they were taken.
    fn snapshots(&self, pool: &str, volume: &str) -> Vec<String> {
        Vec::new()
    }

    /// How many volumes a pool has, and the names of the first, at most so many.
    fn volumes(&self, pool: &str, most: usize) -> (usize, Vec<String>) {
        (0, Vec::new())
    }

    /// Hosts that are connected to a subsystem, by name.
    fn hosts(&self, nqn: &str) -> Vec<String> {
        Vec::new()
    }

    /// Who uses a device, as the end of a sentence.
    fn user(&self, device: &str) -> Option<String> {
        None
    }

    /// The device that is at a path or on a drive, if it is attached.
    fn device_at(&self, place: &DeviceRef) -> Option<String> {
        None
    }

    /// Capacity of a device that is there.
    fn device_bytes(&self, device: &str) -> Option<u64> {
        None
    }

    /// Whether what is at a path may be attached.
    ///
    /// # Errors
    /// Why not.
    fn may_attach(&self, place: &DeviceRef) -> Result<(), Refusal> {
        Ok(())
    }

    /// The listeners that are open.
    fn listening(&self) -> Vec<Listening> {
        Vec::new()
    }

    /// Why no host could connect to an address, as a sentence.
    fn unusable(&self, ip: IpAddr) -> Option<String> {
        None
    }

    /// Why there is no RDMA, as the end of a sentence.
    fn rdma_off(&self) -> Option<String> {
        None
    }

    /// Where the API is.
    fn api(&self) -> Option<SocketAddr> {
        None
    }
}

/// Nothing runs.
impl Seen for () {}
