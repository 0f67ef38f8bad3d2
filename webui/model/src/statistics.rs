//! Counters, which only go up while the appliance runs, and gauges.

use crate::{HostNqn, Name, Space};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How long commands took. Bucket `n` counts those of up to `bounds_ns[n]` nanoseconds and more than
/// the bound before; the last one, which has no bound, all others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LatencyHistogram {
    /// Upper bounds in nanoseconds, rising.
    pub bounds_ns: Vec<u64>,
    /// Commands, one more number than there are bounds.
    pub counts: Vec<u64>,
    /// Sum of all times in nanoseconds.
    pub sum_ns: u64,
}

impl LatencyHistogram {
    /// Number of commands.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// The bound below which a share (0 to 1) of the commands stayed, in nanoseconds: no more than
    /// one bucket above the exact number. Nothing without commands. What is above all bounds is
    /// given as the highest one.
    pub fn quantile_ns(&self, share: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((share.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut seen = 0_u64;
        let mut buckets = self.counts.iter().zip(self.bounds_ns.iter());
        let found = buckets.find(|(n, _)| {
            seen = seen.saturating_add(**n);
            seen >= rank
        });
        found.map(|(_, bound)| bound).or(self.bounds_ns.last()).copied()
    }
}

/// Input and output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IoStatistics {
    /// Reads completed.
    pub reads: u64,
    /// Writes completed.
    pub writes: u64,
    /// Other commands completed: Flush, Deallocate, Write Zeroes.
    pub others: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Commands that ended with an error.
    pub errors: u64,
    /// Commands under way now.
    pub queue_depth: u64,
    /// Commands held back by a limit so far.
    pub throttled: u64,
    /// How long reads took.
    pub read_latency: LatencyHistogram,
    /// How long writes took.
    pub write_latency: LatencyHistogram,
}

/// Of a volume, or of anything else that is exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeStatistics {
    /// The pool; nothing for a device that is exported without one.
    pub pool: Option<Name>,
    /// The volume or device.
    pub volume: Name,
    /// Input and output.
    pub io: IoStatistics,
}

/// Of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostStatistics {
    /// The host.
    pub host: HostNqn,
    /// Controllers it has.
    pub controllers: u64,
    /// Input and output.
    pub io: IoStatistics,
}

/// Of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceStatistics {
    /// The device.
    pub device: Name,
    /// Input and output.
    pub io: IoStatistics,
}

/// Of a reactor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReactorStatistics {
    /// Its number.
    pub reactor: u32,
    /// The core it is pinned to.
    pub core: Option<u32>,
    /// Time in turns that found work, in nanoseconds.
    pub busy_ns: u64,
    /// Time since it started, in nanoseconds.
    pub total_ns: u64,
    /// Turns.
    pub turns: u64,
    /// Times it went to sleep.
    pub sleeps: u64,
    /// Commands under way now.
    pub queue_depth: u64,
    /// Bytes of its DMA memory on loan now.
    pub buffer_bytes: u64,
}

/// Of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolStatistics {
    /// The pool.
    pub pool: Name,
    /// Where its bytes are.
    pub space: Space,
    /// Commits of its metadata.
    pub commits: u64,
    /// Writes that failed because it was full.
    pub full_errors: u64,
    /// Bytes given back to its devices since it was imported.
    pub discarded_bytes: u64,
    /// Bytes that are about to be.
    pub discard_waiting_bytes: u64,
}

/// All of it, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// When.
    pub at_ms: u64,
    /// Milliseconds since the appliance started.
    pub uptime_ms: u64,
    /// Connections of hosts that are open.
    pub connections: u64,
    /// Connections turned away so far.
    pub connections_refused: u64,
    /// Volumes and whatever else is exported.
    pub volumes: Vec<VolumeStatistics>,
    /// Hosts that are connected.
    pub hosts: Vec<HostStatistics>,
    /// Devices.
    pub devices: Vec<DeviceStatistics>,
    /// Pools.
    pub pools: Vec<PoolStatistics>,
    /// Reactors.
    pub reactors: Vec<ReactorStatistics>,
}
