//! `forebay history`.

use crate::flags::Api;
use crate::print::{Table, value};
use clap::{Args, Subcommand, ValueEnum};
use std::fmt::Display;
use std::time::{SystemTime, UNIX_EPOCH};
use webui_client::path::{path, query};
use webui_client::{Failure, Method};
use webui_model::{History, HistoryKind, HostNqn, Name};

/// Of what, and of when.
#[derive(Args)]
pub struct HistoryArgs {
    #[command(subcommand)]
    of: Option<Of>,
    /// How far to look back.
    #[arg(long, value_enum, default_value_t = Last::Hour, global = true)]
    last: Last,
    /// Steps no shorter than so many seconds.
    #[arg(long, value_name = "SECONDS", global = true,
        value_parser = clap::value_parser!(u32).range(1..))]
    step: Option<u32>,
    #[command(flatten)]
    api: Api,
}

#[derive(Subcommand)]
enum Of {
    /// All volumes together, as without a word.
    Appliance,
    /// The volumes of a pool, together.
    Pool {
        /// The pool.
        pool: Name,
    },
    /// A device.
    Device {
        /// The device.
        device: Name,
    },
    /// A volume, or a device or snapshot that is exported.
    Volume {
        /// The volume, as POOL/VOLUME; as POOL/VOLUME.SNAPSHOT, or DEVICE.
        volume: String,
    },
    /// A host.
    Host {
        /// The host.
        host: HostNqn,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Last {
    Hour,
    Day,
    Month,
}

impl Last {
    fn ms(self) -> u64 {
        let hours = match self {
            Last::Hour => 1,
            Last::Day => 24,
            Last::Month => 31 * 24,
        };
        hours * 3_600_000
    }
}

/// `forebay history`.
pub fn run(args: HistoryArgs) -> Result<(), Failure> {
    let c = args.api.open()?;
    let (kind, name) = match args.of.unwrap_or(Of::Appliance) {
        Of::Appliance => (HistoryKind::Appliance, None),
        Of::Pool { pool } => (HistoryKind::Pool, Some(pool.to_string())),
        Of::Device { device } => (HistoryKind::Device, Some(device.to_string())),
        Of::Volume { volume } => (HistoryKind::Volume, Some(volume)),
        Of::Host { host } => (HistoryKind::Host, Some(host.to_string())),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let from_ms = now_ms.saturating_sub(args.last.ms());
    let kind = kind.as_str();
    let mut asked: Vec<(&str, &dyn Display)> = vec![("kind", &kind), ("from_ms", &from_ms)];
    asked.extend(name.as_ref().map(|name| ("name", name as &dyn Display)));
    asked.extend(args.step.as_ref().map(|step| ("step_s", step as &dyn Display)));
    let at = format!("{}{}", path(&[&"history"]), query(&asked));
    let answer = c.ask(Method::GET, &at)?;
    c.print(&answer, print)
}

fn print(history: &History) {
    let mut table = Table::new(&[
        "when",
        "reads/s",
        "writes/s",
        "read/s",
        "written/s",
        "errors",
        "depth",
        "read p50",
        "p99",
        "write p50",
        "p99",
    ]);
    let a_second = |n: u64| n as f64 / f64::from(history.step_s.max(1));
    let rate = |of: &[u64], at: usize| {
        of.get(at).map_or_else(|| "-".into(), |n| format!("{:.1}", a_second(*n)))
    };
    let bytes = |of: &[u64], at: usize| {
        of.get(at).map_or_else(|| "-".into(), |n| value::bytes(a_second(*n) as u64))
    };
    let time = |of: &[Option<u64>], at: usize| {
        of.get(at).copied().flatten().map_or_else(|| "-".into(), micros)
    };
    for (at, at_ms) in history.at_ms.iter().enumerate() {
        table.row(vec![
            value::moment(*at_ms),
            rate(&history.reads, at),
            rate(&history.writes, at),
            bytes(&history.read_bytes, at),
            bytes(&history.write_bytes, at),
            history.errors.get(at).map_or_else(|| "-".into(), u64::to_string),
            history.queue_depth.get(at).map_or_else(|| "-".into(), |depth| format!("{depth:.1}")),
            time(&history.read_p50_ns, at),
            time(&history.read_p99_ns, at),
            time(&history.write_p50_ns, at),
            time(&history.write_p99_ns, at),
        ]);
    }
    table.print_bare();
    crate::line!("{}", history.reason);
}

/// A latency.
fn micros(ns: u64) -> String {
    match ns {
        ns if ns < 1_000_000 => format!("{:.0} us", ns as f64 / 1e3),
        ns => format!("{:.1} ms", ns as f64 / 1e6),
    }
}
