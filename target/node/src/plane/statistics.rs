//! Counters.

use super::pools::space;
use super::view::{View, name};
use super::watch::Connected;
use crate::bdevs::Slot;
use crate::node::{ReactorEntry, SOON, ask_all};
use crate::pool::OpenPool;
use bdev::latency::{BOUNDS, Latencies, Latency, bounds_ns};
use bdev_mem::{Meter, Meters};
use nvmf::controller::{Controller, EndedController};
use nvmf::counters::{Counter, IoCounts};
use nvmf::namespace::Namespace;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wanted::Source;
use webui_model::{
    DeviceStatistics, HostNqn, HostStatistics, IoStatistics, LatencyHistogram, Nqn, PoolStatistics,
    ReactorStatistics, Refusal, Statistics, VolumeStatistics,
};

/// What was done, in the words of the API.
fn io(counts: &IoCounts) -> IoStatistics {
    IoStatistics {
        reads: counts.reads,
        writes: counts.writes,
        others: counts.compares
            + counts.verifies
            + counts.write_zeroes
            + counts.copies
            + counts.deallocates
            + counts.flushes,
        read_bytes: counts.read_bytes,
        write_bytes: counts.write_bytes,
        errors: counts.errors,
        ..IoStatistics::default()
    }
}

/// How long operations took, over all who counted.
struct Times {
    counts: [u64; BOUNDS + 1],
    sum_ns: u64,
}

impl Times {
    fn of<'a>(all: impl Iterator<Item = &'a Latency>) -> Times {
        let mut times = Times { counts: [0; BOUNDS + 1], sum_ns: 0 };
        all.for_each(|one| times.sum_ns += one.read_into(&mut times.counts));
        times
    }

    /// Of `all` operations: those that no bucket has ended in the turn that took them in.
    fn show(mut self, all: u64) -> LatencyHistogram {
        self.counts[0] += all.saturating_sub(self.counts.iter().sum());
        LatencyHistogram {
            bounds_ns: bounds_ns().to_vec(),
            counts: self.counts.to_vec(),
            sum_ns: self.sum_ns,
        }
    }
}

/// What was done, and how long it took.
fn timed<'a>(counts: &IoCounts, latencies: impl Iterator<Item = &'a Latencies>) -> IoStatistics {
    let (reads, writes): (Vec<_>, Vec<_>) = latencies.map(|one| (&one.reads, &one.writes)).unzip();
    IoStatistics {
        read_latency: Times::of(reads.into_iter()).show(counts.reads),
        write_latency: Times::of(writes.into_iter()).show(counts.writes),
        ..io(counts)
    }
}

/// What was done on a namespace.
fn of_namespace(namespace: &Namespace) -> IoStatistics {
    let reactors = 0..namespace.counts().count();
    timed(&namespace.total(), reactors.map(|reactor| namespace.latencies(reactor)))
}

/// What was done on a device by the pool that has it.
fn of_meter(meter: &Meter) -> IoStatistics {
    let sum = |of: fn(&Meters) -> &Counter| meter.reactors().iter().map(|m| of(m).get()).sum();
    let counts = IoCounts {
        reads: sum(|m| &m.reads),
        writes: sum(|m| &m.writes),
        flushes: sum(|m| &m.others),
        read_bytes: sum(|m| &m.read_bytes),
        write_bytes: sum(|m| &m.write_bytes),
        errors: sum(|m| &m.errors),
        ..IoCounts::default()
    };
    let statistics = timed(&counts, meter.reactors().iter().map(|m| &m.latencies));
    IoStatistics { queue_depth: sum(|m| &m.under_way), ..statistics }
}

/// Adds what was done elsewhere.
pub(super) fn add(sum: &mut IoStatistics, more: IoStatistics) {
    sum.reads += more.reads;
    sum.writes += more.writes;
    sum.others += more.others;
    sum.read_bytes += more.read_bytes;
    sum.write_bytes += more.write_bytes;
    sum.errors += more.errors;
    sum.queue_depth += more.queue_depth;
    sum.throttled += more.throttled;
    for (sum, more) in
        [(&mut sum.read_latency, more.read_latency), (&mut sum.write_latency, more.write_latency)]
    {
        sum.sum_ns += more.sum_ns;
        sum.counts.iter_mut().zip(more.counts).for_each(|(sum, more)| *sum += more);
    }
}

/// What a controller has done on all its queues.
pub(super) fn of_controller(controller: &Controller) -> IoStatistics {
    let depths = controller.queue_uses().into_iter().filter(|queue| queue.qid != 0);
    let queue_depth = depths.map(|queue| controller.queue_depth(queue.qid)).sum();
    let statistics = timed(&controller.total(), controller.latencies());
    IoStatistics { queue_depth, ..statistics }
}

/// What a controller did that has ended.
pub(super) fn of_ended(ended: &EndedController) -> IoStatistics {
    timed(&ended.total(), ended.latencies())
}

/// Nothing was done.
pub(super) fn nothing() -> IoStatistics {
    timed(&IoCounts::default(), std::iter::empty())
}

/// Of each reactor: operations under way by the bdev of a namespace, and buffers that are taken.
pub(super) type Inside = Vec<(BTreeMap<String, u64>, [u32; BUFFERS.len()])>;

/// Sizes of the buffers that [`bdev::DmaPool::taken`] counts, in bytes.
const BUFFERS: [u64; 4] = [4 << 10, 16 << 10, 128 << 10, 1 << 20];

impl View<'_> {
    pub(super) fn statistics(
        &self,
        inside: &Inside,
        hosts: Vec<HostStatistics>,
        at_ms: u64,
    ) -> Result<Statistics, Refusal> {
        let depths: Vec<BTreeMap<String, u64>> =
            inside.iter().map(|(depths, _)| depths.clone()).collect();
        Ok(Statistics {
            at_ms,
            uptime_ms: self.node.started.elapsed().as_millis() as u64,
            connections: self.node.connections.open().into(),
            connections_refused: self.node.connections.refused(),
            volumes: self.volume_statistics(&depths)?,
            hosts,
            devices: self.device_statistics(&depths)?,
            pools: self.pool_statistics()?,
            reactors: self
                .node
                .reactors
                .iter()
                .zip(inside)
                .map(|(entry, (_, taken))| self.reactor_statistics(entry, *taken, &depths))
                .collect(),
        })
    }

    fn served(&self) -> Vec<Arc<Namespace>> {
        crate::channels::all(&self.node.registry)
    }

    /// Asks the reactors for what only they know, and gives them a moment; one that is too busy to tell
    /// has none.
    pub(super) fn inside(&self) -> Inside {
        let served = self.served();
        let named = served.iter().map(|n| (self.node.exports().name_of(n.bdev()), n.clone()));
        let named: Arc<Vec<(String, Arc<Namespace>)>> = Arc::new(named.collect());
        let asked = ask_all(self.node, SOON, move |reactor| {
            let number = reactor.handle().number();
            let channels =
                named.iter().filter_map(|(name, n)| Some((name.clone(), n.channel(number)?)));
            let depth = |addr| u64::from(reactor.stack.outstanding(addr));
            let depths: BTreeMap<_, _> = channels.map(|(name, addr)| (name, depth(addr))).collect();
            (depths, reactor.pool.taken())
        });
        asked.into_iter().map(Option::unwrap_or_default).collect()
    }

    fn volume_statistics(
        &self,
        depths: &[BTreeMap<String, u64>],
    ) -> Result<Vec<VolumeStatistics>, Refusal> {
        let mut totals: BTreeMap<String, (Source, IoStatistics)> = BTreeMap::new();
        for namespace in self.served() {
            let of_a_pool = self.pools.values().find_map(|pool| {
                let source = pool.source_of(namespace.bdev())?;
                let bdev = pool.opened(&source)?;
                Some((source, bdev))
            });
            let label = self.node.exports().name_of(namespace.bdev());
            let mut statistics = of_namespace(&namespace);
            // Where it lives it has what other reactors have sent there, too.
            let at = match namespace.bdev().home() {
                bdev::Home::One(home) => home..home + 1,
                bdev::Home::Every => 0..depths.len(),
            };
            let depths = depths.get(at).unwrap_or_default().iter();
            statistics.queue_depth = depths.filter_map(|depths| depths.get(&label)).sum();
            let source = match of_a_pool {
                Some((source, bdev)) => {
                    statistics.throttled = bdev.traffic().held_back.load(Ordering::Relaxed);
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

    pub(super) fn host_statistics(&self, connected: &Connected) -> Vec<HostStatistics> {
        let mut live: BTreeMap<HostNqn, Vec<Arc<Controller>>> = BTreeMap::new();
        for subsystem in self.node.registry.subsystems() {
            for controller in subsystem.live_controllers() {
                if let Ok(host) = controller.association().host_nqn.parse() {
                    live.entry(host).or_default().push(controller);
                }
            }
        }
        let show = |(host, live): (HostNqn, Vec<Arc<Controller>>)| {
            let mut io = connected.gone(host.as_str());
            live.iter().for_each(|controller| add(&mut io, of_controller(controller)));
            HostStatistics { host, controllers: live.len() as u64, io }
        };
        live.into_iter().map(show).collect()
    }

    /// What hosts did on the controllers that they have in a subsystem.
    pub(super) fn subsystem_statistics(&self, nqn: &Nqn) -> Result<Vec<HostStatistics>, Refusal> {
        // One that is known and not open has no controllers.
        self.subsystem(nqn.as_str())?;
        let mut hosts = BTreeMap::<HostNqn, HostStatistics>::new();
        let subsystem = self.node.registry.subsystem(nqn.as_str());
        for controller in subsystem.iter().flat_map(|subsystem| subsystem.live_controllers()) {
            let Ok(host) = controller.association().host_nqn.parse::<HostNqn>() else { continue };
            let nothing = HostStatistics { host: host.clone(), controllers: 0, io: nothing() };
            let sum = hosts.entry(host).or_insert(nothing);
            sum.controllers += 1;
            add(&mut sum.io, of_controller(&controller));
        }
        Ok(hosts.into_values().collect())
    }

    /// Devices, whether a pool has them or they are exported as they are.
    fn device_statistics(
        &self,
        depths: &[BTreeMap<String, u64>],
    ) -> Result<Vec<DeviceStatistics>, Refusal> {
        let served = self.served();
        let show = |(device, Slot { entry, .. }): (&String, &Slot)| {
            let bdev = &entry.bdev;
            let mut statistics = of_meter(&entry.meter);
            if let Some(namespace) = served.iter().find(|n| Arc::ptr_eq(n.bdev(), bdev)) {
                add(&mut statistics, of_namespace(namespace));
                let depths = depths.iter().filter_map(|depths| depths.get(device));
                statistics.queue_depth += depths.sum::<u64>();
            }
            Ok(DeviceStatistics { device: name(device)?, io: statistics })
        };
        self.bdevs.iter().map(show).collect()
    }

    fn pool_statistics(&self) -> Result<Vec<PoolStatistics>, Refusal> {
        let show = |(pool, open): (&String, &Arc<OpenPool>)| {
            let (status, full_errors) = (open.status(), open.found_full());
            let discards = || status.devices.iter().map(|device| &device.discard);
            Ok(PoolStatistics {
                pool: name(pool)?,
                space: space(&status.space),
                commits: status.commits,
                full_errors,
                discarded_bytes: discards().map(|discard| discard.done).sum(),
                discard_waiting_bytes: discards().filter(|d| d.on).map(|d| d.waiting).sum(),
            })
        };
        self.pools.iter().map(show).collect()
    }

    fn reactor_statistics(
        &self,
        entry: &ReactorEntry,
        taken: [u32; BUFFERS.len()],
        depths: &[BTreeMap<String, u64>],
    ) -> ReactorStatistics {
        let stats = entry.handle.stats().read();
        let number = entry.handle.number();
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
