//! What `forebay top` shows: two samples of the counters as rates.

use crate::print::{Table, value};
use webui_model::{
    IoStatistics, LatencyHistogram, PoolStatistics, ReactorStatistics, Statistics, VolumeStatistics,
};

/// A sample and the one before it, of the same run of the appliance.
pub struct Frame<'a> {
    before: Option<&'a Statistics>,
    now: &'a Statistics,
}

impl<'a> Frame<'a> {
    /// Two samples. Counters of an appliance that restarted in between begin anew: there is nothing
    /// to compare them with.
    pub fn new(before: Option<&'a Statistics>, now: &'a Statistics) -> Frame<'a> {
        let same_run = |before: &&Statistics| before.uptime_ms < now.uptime_ms;
        Frame { before: before.filter(same_run), now }
    }

    /// Milliseconds that the rates are over: the time between the samples, or since the start.
    fn span_ms(&self) -> u64 {
        let since = self.before.map_or(0, |before| before.uptime_ms);
        self.now.uptime_ms.saturating_sub(since).max(1)
    }

    /// The lines.
    pub fn lines(&self) -> Vec<String> {
        let over = match self.before {
            Some(_) => format!("over {:.1} s", self.span_ms() as f64 / 1e3),
            None => "since it started".into(),
        };
        let mut lines = vec![format!(
            "{}  up {}  {} connections  rates {over}",
            value::moment(self.now.at_ms),
            value::span(self.now.uptime_ms / 1000),
            self.now.connections
        )];
        for table in [self.pools(), self.volumes(), self.hosts(), self.reactors()] {
            let table = table.lines();
            if table.len() > 1 {
                lines.push(String::new());
                lines.extend(table);
            }
        }
        lines
    }

    fn pools(&self) -> Table {
        let mut table =
            Table::new(&["pool", "size", "used", "", "free", "reclaimable", "full errors"]);
        for PoolStatistics { pool, space, full_errors, .. } in &self.now.pools {
            table.row([
                pool.to_string(),
                value::bytes(space.total_bytes),
                value::bytes(space.used_bytes),
                value::percent(space.used_bytes, space.total_bytes),
                value::bytes(space.free_bytes),
                value::bytes(space.reclaimable_bytes),
                full_errors.to_string(),
            ]);
        }
        table
    }

    fn volumes(&self) -> Table {
        let mut rows: Vec<_> = self.now.volumes.iter().map(|now| self.volume(now)).collect();
        // The busiest first; those that do nothing by name, as they came.
        rows.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut table = io_table("volume");
        rows.into_iter().for_each(|(_, row)| table.row(row));
        table
    }

    fn volume(&self, now: &VolumeStatistics) -> (f64, Vec<String>) {
        let same = |v: &&VolumeStatistics| v.pool == now.pool && v.volume == now.volume;
        let before = self.before.and_then(|all| all.volumes.iter().find(same));
        let name = match &now.pool {
            Some(pool) => format!("{pool}/{}", now.volume),
            None => now.volume.to_string(),
        };
        self.io(name, before.map(|before| &before.io), &now.io)
    }

    fn hosts(&self) -> Table {
        let mut table = io_table("host");
        for now in &self.now.hosts {
            let before = self.before.and_then(|all| all.hosts.iter().find(|h| h.host == now.host));
            let io = self.io(value::host(&now.host).to_owned(), before.map(|b| &b.io), &now.io);
            table.row(io.1);
        }
        table
    }

    /// The commands a second, and the row.
    fn io(
        &self,
        name: String,
        before: Option<&IoStatistics>,
        now: &IoStatistics,
    ) -> (f64, Vec<String>) {
        let none = IoStatistics::default();
        // What was made since the sample before has counted from nothing.
        let before = before.unwrap_or(&none);
        let rate = |of: fn(&IoStatistics) -> u64| {
            of(now).saturating_sub(of(before)) as f64 * 1e3 / self.span_ms() as f64
        };
        let (reads, writes) = (rate(|io| io.reads), rate(|io| io.writes));
        let read = since(&before.read_latency, &now.read_latency);
        let write = since(&before.write_latency, &now.write_latency);
        let errors = now.errors.saturating_sub(before.errors);
        let row = vec![
            name,
            format!("{reads:.0}"),
            format!("{writes:.0}"),
            format!("{}/s", value::bytes(rate(|io| io.read_bytes) as u64)),
            format!("{}/s", value::bytes(rate(|io| io.write_bytes) as u64)),
            latency(&read, 0.5),
            latency(&read, 0.99),
            latency(&write, 0.5),
            latency(&write, 0.99),
            now.queue_depth.to_string(),
            errors.to_string(),
        ];
        (reads + writes, row)
    }

    fn reactors(&self) -> Table {
        let mut table = Table::new(&["reactor", "core", "busy", "depth", "buffers"]);
        for now in &self.now.reactors {
            let same = |r: &&ReactorStatistics| r.reactor == now.reactor;
            let before = self.before.and_then(|all| all.reactors.iter().find(same));
            let (busy, total) = before.map_or((0, 0), |b| (b.busy_ns, b.total_ns));
            table.row([
                now.reactor.to_string(),
                now.core.map_or("any".into(), |core| core.to_string()),
                value::percent(
                    now.busy_ns.saturating_sub(busy),
                    now.total_ns.saturating_sub(total),
                ),
                now.queue_depth.to_string(),
                value::bytes(now.buffer_bytes),
            ]);
        }
        table
    }
}

fn io_table(what: &str) -> Table {
    Table::new(&[
        what,
        "reads/s",
        "writes/s",
        "read",
        "written",
        "read p50",
        "p99",
        "write p50",
        "p99",
        "depth",
        "errors",
    ])
}

/// The commands between two samples.
fn since(before: &LatencyHistogram, now: &LatencyHistogram) -> LatencyHistogram {
    if before.bounds_ns != now.bounds_ns {
        return now.clone();
    }
    let counts = now.counts.iter().zip(&before.counts);
    LatencyHistogram {
        bounds_ns: now.bounds_ns.clone(),
        counts: counts.map(|(now, before)| now.saturating_sub(*before)).collect(),
        sum_ns: now.sum_ns.saturating_sub(before.sum_ns),
    }
}

/// The time that this share of the commands stayed below.
fn latency(histogram: &LatencyHistogram, share: f64) -> String {
    match histogram.quantile_ns(share) {
        None => "-".into(),
        Some(ns) if ns < 1_000_000 => format!("{:.0} us", ns as f64 / 1e3),
        Some(ns) if ns < 1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        Some(ns) => format!("{:.1} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(counts: [u64; 3]) -> LatencyHistogram {
        let bounds_ns = vec![10_000, 2_000_000];
        LatencyHistogram { bounds_ns, counts: counts.into(), sum_ns: 0 }
    }

    fn sample(uptime_ms: u64, reads: u64, counts: [u64; 3]) -> Statistics {
        let io = IoStatistics {
            reads,
            read_bytes: reads * 4096,
            read_latency: histogram(counts),
            queue_depth: 7,
            ..IoStatistics::default()
        };
        let pool = Some("tank".parse().unwrap());
        let volume = VolumeStatistics { pool, volume: "a".parse().unwrap(), io };
        let reactor = ReactorStatistics {
            reactor: 0,
            core: None,
            busy_ns: reads * 1000,
            total_ns: uptime_ms * 1_000_000,
            turns: 0,
            sleeps: 0,
            queue_depth: 7,
            buffer_bytes: 0,
        };
        Statistics {
            uptime_ms,
            volumes: vec![volume],
            reactors: vec![reactor],
            ..Statistics::default()
        }
    }

    fn words(lines: &[String], starts: &str) -> Vec<String> {
        let line = lines.iter().find(|line| line.starts_with(starts)).expect("the line is there");
        line.split("  ").map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn rates_are_between_the_samples() {
        let before = sample(1_000, 1_000, [1_000, 0, 0]);
        let now = sample(3_000, 5_000, [1_000, 4_000, 0]);
        let lines = Frame::new(Some(&before), &now).lines();
        let row = words(&lines, "tank/a");
        assert_eq!(row[1..5], ["2000", "0", "7.81 MiB/s", "0 B/s"]);
        // The fast commands of before are not in it.
        assert_eq!(row[5..9], ["2.0 ms", "2.0 ms", "-", "-"]);
        assert_eq!(row[9], "7");
        // 4 ms of 2 s.
        assert_eq!(words(&lines, "0 ")[2], "0%");
    }

    #[test]
    fn the_first_sample_is_since_the_start_and_so_is_one_after_a_restart() {
        let old = sample(9_000, 90_000, [0, 0, 0]);
        let now = sample(2_000, 1_000, [1_000, 0, 0]);
        for before in [None, Some(&old)] {
            let lines = Frame::new(before, &now).lines();
            assert!(lines[0].contains("since it started"), "{}", lines[0]);
            assert_eq!(words(&lines, "tank/a")[1], "500");
        }
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        let of = |ns| LatencyHistogram { bounds_ns: vec![ns], counts: vec![1, 0], sum_ns: 0 };
        assert_eq!(latency(&of(10_000), 0.5), "10 us");
        assert_eq!(latency(&of(1_500_000), 0.5), "1.5 ms");
        assert_eq!(latency(&of(2_000_000_000), 0.5), "2.0 s");
    }
}
