//! What the rules of what is wanted look up in what runs.

use super::{Node, check_listened};
use crate::config::ApiAddress;
use nvmf::registry::Serves;
use std::net::{IpAddr, SocketAddr};
use wanted::{Listening, Seen, SeenVolume};
use webui_model::{DeviceRef, Limits, Refusal};

/// A pool's limits in the words of the API.
pub(crate) fn of_limits(limits: bdev_pool::Limits) -> Limits {
    Limits {
        iops: Some(limits.iops).filter(|n| *n != 0),
        bytes_per_second: Some(limits.bytes_per_second).filter(|n| *n != 0),
        burst_seconds: u32::try_from(limits.burst_ms / 1000).unwrap_or(u32::MAX),
    }
}

impl Seen for Node {
    fn pool_away(&self, pool: &str) -> Option<String> {
        if self.pool(pool).is_some() {
            return None;
        }
        let missing = self.supervisor().missing();
        Some(missing.pools.get(pool).map_or("it is being opened.", |why| why).to_owned())
    }

    fn volume(&self, pool: &str, volume: &str) -> Option<SeenVolume> {
        let found = self.pool(pool)?.directory().volume_named(volume)?;
        Some(SeenVolume {
            uuid: found.uuid,
            bytes: found.bytes,
            block_bytes: found.block_bytes,
            thick: found.thick,
            limits: of_limits(found.limits),
            origin: found.origin,
        })
    }

    fn has_snapshot(&self, pool: &str, volume: &str, snapshot: &str) -> bool {
        let open = self.pool(pool);
        open.is_some_and(|open| open.directory().snapshot_named(volume, snapshot).is_some())
    }

    fn snapshots(&self, pool: &str, volume: &str) -> Vec<String> {
        let open = self.pool(pool);
        let found = open.map(|open| open.directory().snapshots_of(volume)).unwrap_or_default();
        found.into_iter().map(|snapshot| snapshot.name).collect()
    }

    fn volumes(&self, pool: &str, most: usize) -> (usize, Vec<String>) {
        let Some(open) = self.pool(pool) else { return (0, Vec::new()) };
        let all = open.directory().volumes();
        let names = all.iter().take(most).map(|volume| volume.name.clone());
        (all.len(), names.collect())
    }

    fn hosts(&self, nqn: &str) -> Vec<String> {
        let subsystem = self.registry.subsystem(nqn);
        let controllers = subsystem.map(|subsystem| subsystem.live_controllers());
        let controllers = controllers.unwrap_or_default();
        let mut hosts: Vec<String> =
            controllers.iter().map(|c| c.association().host_nqn.clone()).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    fn user(&self, device: &str) -> Option<String> {
        self.bdevs.user(device)
    }

    fn device_at(&self, place: &DeviceRef) -> Option<String> {
        self.devices().device_at(place)
    }

    fn device_bytes(&self, device: &str) -> Option<u64> {
        Some(self.bdevs.get(device).ok()?.geometry().bytes())
    }

    fn may_attach(&self, place: &DeviceRef) -> Result<(), Refusal> {
        self.devices().check_folder(std::path::Path::new(place.as_str()))
    }

    fn listening(&self) -> Vec<Listening> {
        let open = self.listeners.get();
        let shown = open.iter().map(|open| Listening {
            transport: open.listener.fabric,
            address: open.listener.addr,
            only_ipv6: open.listener.only_ipv6,
            discovery_only: open.listener.serves == Serves::Discovery,
            is_configured: open.configured,
        });
        shown.collect()
    }

    fn unusable(&self, ip: IpAddr) -> Option<String> {
        check_listened(ip).err()
    }

    fn rdma_off(&self) -> Option<String> {
        self.rdma.as_ref().err().cloned()
    }

    fn api(&self) -> Option<SocketAddr> {
        match self.config().api.address {
            ApiAddress::At(address) => Some(address),
            _ => None,
        }
    }
}
