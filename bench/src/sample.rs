//! What one sample reports, the same for the ceiling and for Forebay.

use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::latency::Histogram;

/// The direction of the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// Payload from the target to the load.
    Read,
    /// Payload from the load to the target.
    Write,
}

/// What is asked of a target.
#[derive(Args, Clone, Debug)]
pub struct Workload {
    /// Direction of the payload.
    #[arg(long, value_enum, default_value = "read")]
    pub op: Op,
    /// Payload of one I/O in bytes.
    #[arg(long, default_value_t = 4096)]
    pub payload: usize,
    /// I/Os in flight on each connection.
    #[arg(long, default_value_t = 32)]
    pub depth: usize,
    /// Connections, each with `depth` I/Os in flight.
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
}

/// For how long a sample is taken.
#[derive(Args, Clone, Debug)]
pub struct Span {
    /// Seconds of load before counting starts.
    #[arg(long, default_value_t = 0.5)]
    pub warmup: f64,
    /// Seconds that are counted.
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
}

/// The figures of one sample.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// I/Os completed while counting.
    pub ios: u64,
    /// Seconds counted.
    pub seconds: f64,
    /// I/Os a second.
    pub iops: f64,
    /// Payload in MiB a second.
    pub mib_s: f64,
    /// Mean latency in microseconds.
    pub mean_us: f64,
    /// Median latency in microseconds.
    pub p50_us: f64,
    /// 99th percentile of latency in microseconds.
    pub p99_us: f64,
    /// Congestion control in force on the sockets.
    pub congestion: String,
}

/// Counts completions of a run: nothing in the warm-up, everything after it, then says stop.
pub struct Meter {
    origin: Instant,
    from_ns: u64,
    until_ns: u64,
    counting_since_ns: Option<u64>,
    histogram: Histogram,
}

impl Meter {
    /// Starts the clock of `span`.
    #[must_use]
    pub fn start(span: &Span) -> Self {
        let from = Duration::from_secs_f64(span.warmup);
        let until = from + Duration::from_secs_f64(span.seconds);
        Self {
            origin: Instant::now(),
            from_ns: from.as_nanos() as u64,
            until_ns: until.as_nanos() as u64,
            counting_since_ns: None,
            histogram: Histogram::default(),
        }
    }

    /// Nanoseconds since the start. Counting begins with the first reading after the warm-up.
    pub fn now_ns(&mut self) -> u64 {
        let now_ns = self.origin.elapsed().as_nanos() as u64;
        if self.counting_since_ns.is_none() && now_ns >= self.from_ns {
            self.counting_since_ns = Some(now_ns);
            self.histogram.clear();
        }
        now_ns
    }

    /// True once the sample is complete.
    #[must_use]
    pub fn is_over(&self, now_ns: u64) -> bool {
        now_ns >= self.until_ns
    }

    /// Counts one completion that took `ns` nanoseconds.
    pub fn record(&mut self, ns: u64) {
        self.histogram.record(ns);
    }

    /// The figures, the last reading of the clock being `now_ns`.
    #[must_use]
    pub fn finish(&self, now_ns: u64, payload: usize, congestion: String) -> Sample {
        let since_ns = self.counting_since_ns.unwrap_or(now_ns);
        let seconds = now_ns.saturating_sub(since_ns).max(1) as f64 / 1e9;
        let ios = self.histogram.count();
        let iops = ios as f64 / seconds;
        Sample {
            ios,
            seconds,
            iops,
            mib_s: iops * payload as f64 / f64::from(1 << 20),
            mean_us: self.histogram.mean_us(),
            p50_us: self.histogram.quantile_us(0.50),
            p99_us: self.histogram.quantile_us(0.99),
            congestion,
        }
    }
}
