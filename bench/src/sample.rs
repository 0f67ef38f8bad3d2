//! What one sample reports, the same for the ceiling and for Forebay.

use std::time::Duration;

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
    /// Stop after so many I/Os instead of after a time, all of them counted.
    #[arg(long)]
    pub ios: Option<u64>,
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
/// Times are in ns of one clock of the caller's.
pub struct Meter {
    from_ns: u64,
    until_ns: u64,
    last_ns: u64,
    ios: Option<u64>,
    counting_since_ns: Option<u64>,
    histogram: Histogram,
}

impl Meter {
    /// Starts `span` at `now_ns`.
    #[must_use]
    pub fn start(span: &Span, now_ns: u64) -> Self {
        let ns = |seconds: f64| Duration::from_secs_f64(seconds).as_nanos() as u64;
        let from_ns = now_ns + if span.ios.is_some() { 0 } else { ns(span.warmup) };
        Self {
            from_ns,
            until_ns: from_ns + ns(span.seconds),
            last_ns: now_ns,
            ios: span.ios,
            counting_since_ns: None,
            histogram: Histogram::default(),
        }
    }

    /// Takes note of the time. Counting begins with the first reading after the warm-up.
    pub fn tick(&mut self, now_ns: u64) {
        self.last_ns = now_ns;
        if self.counting_since_ns.is_none() && now_ns >= self.from_ns {
            self.counting_since_ns = Some(now_ns);
            self.histogram.clear();
        }
    }

    /// True once the sample is complete.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self.ios {
            Some(ios) => self.histogram.count() >= ios,
            None => self.last_ns >= self.until_ns,
        }
    }

    /// Counts one completion that took `ns` nanoseconds.
    pub fn record(&mut self, ns: u64) {
        self.histogram.record(ns);
    }

    /// The figures up to the last reading of the clock.
    #[must_use]
    pub fn finish(&self, payload: usize, congestion: String) -> Sample {
        let since_ns = self.counting_since_ns.unwrap_or(self.last_ns);
        let seconds = self.last_ns.saturating_sub(since_ns).max(1) as f64 / 1e9;
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

#[cfg(test)]
mod tests {
    use super::{Meter, Span};

    #[test]
    fn the_warm_up_is_not_counted() {
        let ms = 1_000_000;
        let mut meter = Meter::start(&Span { warmup: 0.010, seconds: 0.100, ios: None }, 5 * ms);
        let mut now_ns = 5 * ms;
        while !meter.is_over() {
            now_ns += ms;
            meter.tick(now_ns);
            meter.record(if now_ns <= 15 * ms { 9_000 * ms } else { ms });
        }
        let sample = meter.finish(4096, "reno".into());
        // The reading at 15 ms begins the count: its own completion and one each ms to 115 ms.
        assert_eq!(sample.ios, 101);
        assert!((sample.seconds - 0.100).abs() < 1e-9);
        assert!((sample.iops - 1010.0).abs() < 1e-6);
        assert!((sample.mib_s - 1010.0 / 256.0).abs() < 1e-6);
    }

    #[test]
    fn a_count_of_ios_ends_the_sample_whatever_the_time() {
        let mut meter = Meter::start(&Span { warmup: 9.0, seconds: 0.0, ios: Some(3) }, 100);
        for now_ns in [200, 300, 400] {
            assert!(!meter.is_over());
            meter.tick(now_ns);
            meter.record(100);
        }
        assert!(meter.is_over());
        assert_eq!(meter.finish(4096, "reno".into()).ios, 3);
    }
}
