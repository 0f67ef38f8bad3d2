//! Counters.

use super::pools::space;
use super::view::{View, name};
use super::watch::{Connected, counts};
use crate::node::ReactorEntry;
use crate::state::Source;
use nvmf::counters::IoCounts;
use nvmf::latency::{BOUNDS, bounds_ns};
use nvmf::namespace::Namespace;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use webui_api::Refusal;
use webui_api::model::{
    DeviceStatistics, HostNqn, HostStatistics, IoStatistics, LatencyHistogram, PoolStatistics,
    ReactorStatistics, Statistics, VolumeStatistics,
};

/// What was done, in the words of the API.
fn io(counts: &IoCounts) -> IoStatistics {
    IoStatistics {
        reads: counts.reads,
        writes: counts.writes,
        others: counts.compares
            + counts.verifies
            + counts.write_zeroes
            + counts.deallocates
            + counts.flushes,
        read_bytes: counts.read_bytes,
        write_bytes: counts.write_bytes,
        errors: counts.errors,
        ..IoStatistics::default()
    }
}

/// How long reads and writes took.
fn latencies(namespace: &Namespace) -> (LatencyHistogram, LatencyHistogram) {
    let (mut reads, mut writes) = ([0; BOUNDS + 1], [0; BOUNDS + 1]);
    let (mut read_ns, mut write_ns) = (0, 0);
    for (reactor, _) in namespace.counts().enumerate() {
        let here = namespace.latencies(reactor);
        read_ns += here.reads.read_into(&mut reads);
        write_ns += here.writes.read_into(&mut writes);
    }
    let counts = namespace.total();
    let show = |mut counts: [u64; BOUNDS + 1], all: u64, sum_ns| {
        // Those that ended in the turn that took them in.
        counts[0] += all.saturating_sub(counts.iter().sum());
        LatencyHistogram { bounds_ns: bounds_ns().to_vec(), counts: counts.to_vec(), sum_ns }
    };
    (show(reads, counts.reads, read_ns), show(writes, counts.writes, write_ns))
}

/// Sizes of the buffers that [`bdev::DmaPool::taken`] counts, in bytes.
const BUFFERS: [u64; 4] = [4 << 10, 16 << 10, 128 << 10, 1 << 20];

impl View<'_> {
    pub(super) fn statistics(
        &self,
        connected: &Connected,
        at_ms: u64,
    ) -> Result<Statistics, Refusal> {
        let depths = self.depths();
        Ok(Statistics {
            at_ms,
            uptime_ms: self.node.started.elapsed().as_millis() as u64,
            connections: self.node.connections.open().into(),
            connections_refused: self.node.connections.refused(),
            volumes: self.volume_statistics(&depths)?,
            hosts: self.host_statistics(connected),
            devices: self.device_statistics(&depths)?,
            pools: self.pool_statistics()?,
            reactors: self
                .node
                .reactors
                .iter()
                .map(|entry| self.reactor_statistics(entry, &depths))
                .collect(),
        })
    }

    fn served(&self) -> Vec<Arc<Namespace>> {
        crate::exports::all(&self.node.registry)
    }

    /// Operations under way, by reactor and by bdev of a namespace.
    fn depths(&self) -> Vec<BTreeMap<String, u64>> {
        let served = self.served();
        let of_reactor = |entry: &ReactorEntry| {
            let number = entry.handle.number();
            let channels = served.iter().filter_map(|namespace| {
                Some((self.node.name_of(namespace.bdev()), namespace.channel(number)?))
            });
            let channels: Vec<_> = channels.collect();
            let depths = entry.handle.call(move |reactor| {
                let depth = |addr| u64::from(reactor.stack.outstanding(addr));
                channels.into_iter().map(|(name, addr)| (name, depth(addr))).collect()
            });
            depths.unwrap_or_default()
        };
        self.node.reactors.iter().map(of_reactor).collect()
    }

    fn volume_statistics(
        &self,
        depths: &[BTreeMap<String, u64>],
    ) -> Result<Vec<VolumeStatistics>, Refusal> {
        let mut totals: BTreeMap<String, (Source, IoStatistics)> = BTreeMap::new();
        for namespace in self.served() {
            let of_a_pool = self.node.pools.values().find_map(|pool| {
                let source = pool.source_of(namespace.bdev())?;
                Some((source.clone(), pool.opened(source)?.traffic()))
            });
            let label = self.node.name_of(namespace.bdev());
            let mut statistics = io(&namespace.total());
            (statistics.read_latency, statistics.write_latency) = latencies(&namespace);
            // Where it lives it has what other reactors have sent there, too.
            let at = match namespace.bdev().home() {
                bdev::Home::One(home) => home..home + 1,
                bdev::Home::Every => 0..depths.len(),
            };
            let depths = depths.get(at).unwrap_or_default().iter();
            statistics.queue_depth = depths.filter_map(|depths| depths.get(&label)).sum();
            let source = match of_a_pool {
                Some((source, traffic)) => {
                    statistics.throttled = traffic.held_back.load(Ordering::Relaxed);
                    source
                }
                None => Source::Device { name: label.clone() },
            };
            totals.insert(label, (source, statistics));
        }
        let show = |(source, io): (Source, IoStatistics)| {
            let (pool, volume) = match &source {
                Source::Volume { pool, name, .. } => (Some(pool), name.clone()),
                Source::Snapshot { pool, name, snapshot, .. } => {
                    (Some(pool), format!("{name}.{snapshot}"))
                }
                Source::Device { name } => (None, name.clone()),
            };
            let volume: String = volume.chars().take(63).collect();
            let pool = pool.map(|pool| name(pool)).transpose()?;
            Ok(VolumeStatistics { pool, volume: name(&volume)?, io })
        };
        totals.into_values().map(show).collect()
    }

    fn host_statistics(&self, connected: &Connected) -> Vec<HostStatistics> {
        let mut hosts: BTreeMap<HostNqn, (u64, IoCounts)> = BTreeMap::new();
        for subsystem in self.node.registry.subsystems() {
            for controller in subsystem.live_controllers() {
                let Ok(host) = controller.association().host_nqn.parse::<HostNqn>() else {
                    continue;
                };
                let (controllers, total) = hosts.entry(host).or_default();
                *controllers += 1;
                *total += counts(&controller);
            }
        }
        let show = |(host, (controllers, mut total)): (HostNqn, (u64, IoCounts))| {
            total += connected.gone(host.as_str());
            HostStatistics { host, controllers, io: io(&total) }
        };
        hosts.into_iter().map(show).collect()
    }

    /// Devices that are exported as they are.
    fn device_statistics(
        &self,
        depths: &[BTreeMap<String, u64>],
    ) -> Result<Vec<DeviceStatistics>, Refusal> {
        let mut devices = Vec::new();
        for namespace in self.served() {
            let Some(device) = self.node.bdevs.name_of(namespace.bdev()) else { continue };
            let mut statistics = io(&namespace.total());
            (statistics.read_latency, statistics.write_latency) = latencies(&namespace);
            statistics.queue_depth = depths.iter().filter_map(|depths| depths.get(device)).sum();
            devices.push(DeviceStatistics { device: name(device)?, io: statistics });
        }
        Ok(devices)
    }

    fn pool_statistics(&self) -> Result<Vec<PoolStatistics>, Refusal> {
        let full = |pool: &str| {
            let pool = self.node.pools.get(pool)?;
            let found = pool.traffics().map(|traffic| traffic.found_full.load(Ordering::Relaxed));
            Some(found.sum())
        };
        let show = |(pool, status): (&String, &bdev_pool::PoolStatus)| {
            let full_errors = full(pool).unwrap_or(0);
            Ok(PoolStatistics {
                pool: name(pool)?,
                space: space(&status.space),
                commits: 0,
                full_errors,
            })
        };
        self.statuses.iter().map(show).collect()
    }

    fn reactor_statistics(
        &self,
        entry: &ReactorEntry,
        depths: &[BTreeMap<String, u64>],
    ) -> ReactorStatistics {
        let stats = entry.handle.stats().read();
        let number = entry.handle.number();
        let taken = entry.handle.call(|reactor| reactor.pool.taken()).unwrap_or_default();
        let buffers = taken.iter().zip(BUFFERS).map(|(count, bytes)| u64::from(*count) * bytes);
        ReactorStatistics {
            reactor: number as u32,
            core: entry.core.map(|core| core as u32),
            busy_ns: stats.busy_ns,
            total_ns: self.node.started.elapsed().as_nanos() as u64,
            turns: stats.turns,
            sleeps: stats.sleeps,
            queue_depth: depths.get(number).map_or(0, |depths| depths.values().sum()),
            buffer_bytes: buffers.sum(),
        }
    }
}
