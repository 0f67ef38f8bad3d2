//! Statistics as Prometheus reads them (text exposition format 0.0.4).

use crate::{EventKind, IoStatistics, LatencyHistogram, Severity, Statistics};
use std::fmt::Write;

/// Labels of a sample, in their order.
type Labels = Vec<(&'static str, String)>;

/// The text that is written.
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail, here and below.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, String)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"", if place == 0 { '{' } else { ',' });
            for c in text.chars() {
                match c {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    c => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn histogram(&mut self, name: &str, labels: &[(&'static str, String)], of: &LatencyHistogram) {
        let bucket = format!("{name}_bucket");
        let mut sum = 0_u64;
        let bounds = of.bounds_ns.iter().map(|ns| seconds(*ns).to_string());
        let bounds = bounds.chain(std::iter::once("+Inf".to_owned()));
        for (bound, count) in bounds.zip(of.counts.iter().chain(std::iter::repeat(&0))) {
            sum = sum.saturating_add(*count);
            let mut labels = labels.to_vec();
            labels.push(("le", bound));
            self.sample(&bucket, &labels, sum);
        }
        self.sample(&format!("{name}_sum"), labels, seconds(of.sum_ns));
        self.sample(&format!("{name}_count"), labels, sum);
    }
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// A counter or gauge of input and output: its name, type, help, and where it is.
type IoFamily = (&'static str, &'static str, &'static str, fn(&IoStatistics) -> u64);

const IO: [IoFamily; 8] = [
    ("reads_total", "counter", "Reads completed.", |io| io.reads),
    ("writes_total", "counter", "Writes completed.", |io| io.writes),
    ("other_commands_total", "counter", "Other commands completed.", |io| io.others),
    ("read_bytes_total", "counter", "Bytes read.", |io| io.read_bytes),
    ("written_bytes_total", "counter", "Bytes written.", |io| io.write_bytes),
    ("errors_total", "counter", "Commands that ended with an error.", |io| io.errors),
    ("queue_depth", "gauge", "Commands under way.", |io| io.queue_depth),
    ("throttled_total", "counter", "Commands held back by a limit.", |io| io.throttled),
];

/// A latency of input and output.
type LatencyFamily = (&'static str, &'static str, fn(&IoStatistics) -> &LatencyHistogram);

const LATENCY: [LatencyFamily; 2] = [
    ("read_latency_seconds", "How long reads took.", |io| &io.read_latency),
    ("write_latency_seconds", "How long writes took.", |io| &io.write_latency),
];

fn io(text: &mut Text, what: &str, all: &[(Labels, &IoStatistics)]) {
    for (name, kind, help, value) in IO {
        let name = format!("forebay_{what}_{name}");
        text.family(&name, kind, help);
        for (labels, io) in all {
            text.sample(&name, labels, value(io));
        }
    }
    for (name, help, histogram) in LATENCY {
        let name = format!("forebay_{what}_{name}");
        text.family(&name, "histogram", help);
        for (labels, io) in all {
            text.histogram(&name, labels, histogram(io));
        }
    }
}

fn reactors(text: &mut Text, statistics: &Statistics) {
    type Family = (&'static str, &'static str, &'static str, fn(&crate::ReactorStatistics) -> f64);
    const FAMILIES: [Family; 6] = [
        ("busy_seconds_total", "counter", "Time in turns that found work.", |r| seconds(r.busy_ns)),
        ("seconds_total", "counter", "Time since the reactor started.", |r| seconds(r.total_ns)),
        ("turns_total", "counter", "Turns.", |r| r.turns as f64),
        ("sleeps_total", "counter", "Times it went to sleep.", |r| r.sleeps as f64),
        ("queue_depth", "gauge", "Commands under way.", |r| r.queue_depth as f64),
        ("buffer_bytes", "gauge", "DMA memory on loan.", |r| r.buffer_bytes as f64),
    ];
    for (name, kind, help, value) in FAMILIES {
        let name = format!("forebay_reactor_{name}");
        text.family(&name, kind, help);
        for reactor in &statistics.reactors {
            text.sample(&name, &[("reactor", reactor.reactor.to_string())], value(reactor));
        }
    }
    text.family("forebay_reactor_busy_ratio", "gauge", "Share of its time spent in busy turns.");
    for reactor in &statistics.reactors {
        let share = reactor.busy_ns as f64 / reactor.total_ns.max(1) as f64;
        text.sample(
            "forebay_reactor_busy_ratio",
            &[("reactor", reactor.reactor.to_string())],
            share,
        );
    }
}

fn pools(text: &mut Text, statistics: &Statistics) {
    type Family = (&'static str, &'static str, &'static str, fn(&crate::PoolStatistics) -> u64);
    const FAMILIES: [Family; 10] = [
        ("total_bytes", "gauge", "What the devices have for data.", |p| p.space.total_bytes),
        ("free_bytes", "gauge", "What anybody may still write to.", |p| p.space.free_bytes),
        ("used_bytes", "gauge", "What holds data.", |p| p.space.used_bytes),
        ("reserved_bytes", "gauge", "Promised to thick volumes.", |p| p.space.reserved_bytes),
        ("shared_bytes", "gauge", "Seen by more than one.", |p| p.space.shared_bytes),
        ("reclaimable_bytes", "gauge", "Seen by nobody.", |p| p.space.reclaimable_bytes),
        ("commits_total", "counter", "Commits of the metadata.", |p| p.commits),
        ("full_errors_total", "counter", "Writes that found no room.", |p| p.full_errors),
        ("discarded_bytes_total", "counter", "Given back to the devices.", |p| p.discarded_bytes),
        ("discard_waiting_bytes", "gauge", "About to be given back.", |p| p.discard_waiting_bytes),
    ];
    for (name, kind, help, value) in FAMILIES {
        let name = format!("forebay_pool_{name}");
        text.family(&name, kind, help);
        for pool in &statistics.pools {
            text.sample(&name, &[("pool", pool.pool.to_string())], value(pool));
        }
    }
}

/// The metrics of these statistics, and of the events counted so far.
pub fn render(statistics: &Statistics, events: &[(EventKind, Severity, u64)]) -> String {
    let text = &mut Text(String::new());
    text.family("forebay_uptime_seconds", "gauge", "Since the appliance started.");
    text.sample("forebay_uptime_seconds", &[], statistics.uptime_ms as f64 / 1e3);
    text.family("forebay_connections", "gauge", "Connections of hosts that are open.");
    text.sample("forebay_connections", &[], statistics.connections);
    text.family("forebay_connections_refused_total", "counter", "Connections turned away.");
    text.sample("forebay_connections_refused_total", &[], statistics.connections_refused);
    let volumes: Vec<(Labels, &IoStatistics)> = statistics
        .volumes
        .iter()
        .map(|v| {
            let pool = v.pool.as_ref().map(ToString::to_string).unwrap_or_default();
            (vec![("pool", pool), ("volume", v.volume.to_string())], &v.io)
        })
        .collect();
    io(text, "volume", &volumes);
    let hosts: Vec<(Labels, &IoStatistics)> =
        statistics.hosts.iter().map(|h| (vec![("host", h.host.to_string())], &h.io)).collect();
    io(text, "host", &hosts);
    text.family("forebay_host_controllers", "gauge", "Controllers the host has.");
    for host in &statistics.hosts {
        let labels = [("host", host.host.to_string())];
        text.sample("forebay_host_controllers", &labels, host.controllers);
    }
    let devices: Vec<(Labels, &IoStatistics)> = statistics
        .devices
        .iter()
        .map(|d| (vec![("device", d.device.to_string())], &d.io))
        .collect();
    io(text, "device", &devices);
    reactors(text, statistics);
    pools(text, statistics);
    text.family("forebay_events_total", "counter", "Events by kind and severity.");
    for (kind, severity, count) in events {
        let severity = match severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        };
        let labels = [("kind", kind.as_str().to_owned()), ("severity", severity.to_owned())];
        text.sample("forebay_events_total", &labels, count);
    }
    std::mem::take(&mut text.0)
}
