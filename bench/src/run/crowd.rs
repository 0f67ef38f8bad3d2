//! `bench crowd`: what eight hosts that misbehave cost one that does not, by turns.

use std::io;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use super::process::Running;
use super::sides::{self, Bed, GRACE, NQN};
use crate::misbehaving::{Manner, Misbehaving, Victim};
use crate::sample::{Op, Sample, Span, Workload};

/// Bytes of the namespace, and of a block.
const NAMESPACE_BYTES: u64 = 512 << 20;
const BLOCK_BYTES: u32 = 4096;

/// Flags of `bench crowd`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The program to measure; beside this one unless given.
    #[arg(long, value_name = "PATH")]
    pub forebay: Option<PathBuf>,
    /// Restarts of each side for each row.
    #[arg(long, default_value_t = 5)]
    pub pairs: usize,
    #[command(flatten)]
    pub(crate) span: Span,
}

/// What is measured: a small command, and one whose buffers others want.
fn workloads() -> [(&'static str, Workload); 2] {
    let of = |payload, depth| Workload { op: Op::Read, payload, depth, connections: 1 };
    [("4 KiB read QD 1", of(4 << 10, 1)), ("256 KiB read QD 4", of(256 << 10, 4))]
}

/// Prints the p99 of each workload alone and beside the eight, and the median of their ratios.
///
/// # Errors
/// What could not be measured.
pub fn crowd(options: &Options) -> io::Result<()> {
    let dir = std::env::temp_dir().join(format!("forebay-crowd-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let bench = std::env::current_exe()?;
    let forebay = options.forebay.clone().unwrap_or_else(|| bench.with_file_name("forebay"));
    let congestion = String::from("reno");
    let bed = Bed { bench, forebay, dir: dir.clone(), congestion, span: options.span.clone() };
    for (name, workload) in workloads() {
        let mut ratios = Vec::new();
        for pair in 0..options.pairs {
            let mut p99_us = [0.0; 2];
            for turn in 0..2 {
                let crowded = (turn + pair) % 2 == 1;
                p99_us[usize::from(crowded)] = measure(&bed, &workload, crowded)?.p99_us;
            }
            let ratio = p99_us[1] / p99_us[0];
            println!(
                "{name}: p99 {:.0} us alone, {:.0} us beside eight, {ratio:.2}",
                p99_us[0], p99_us[1]
            );
            ratios.push(ratio);
        }
        ratios.sort_by(f64::total_cmp);
        let median = ratios.get(ratios.len() / 2).copied().unwrap_or_default();
        println!("{name}: median {median:.2} of {} pairs, bound 3", ratios.len());
    }
    std::fs::remove_dir_all(&dir)
}

fn measure(bed: &Bed, workload: &Workload, crowded: bool) -> io::Result<Sample> {
    let file = PathBuf::from(format!("/dev/shm/forebay-crowd-{}", std::process::id()));
    let outcome = measure_on(bed, workload, crowded, &file);
    std::fs::remove_file(&file)?;
    outcome
}

fn measure_on(
    bed: &Bed,
    workload: &Workload,
    crowded: bool,
    file: &std::path::Path,
) -> io::Result<Sample> {
    let mut command = Command::new(&bed.forebay);
    let exported = format!("{}={NAMESPACE_BYTES}", file.display());
    command.args(["serve", "--file", &exported, "--nqn", NQN, "--listen", "127.0.0.1:0"]);
    command.args(["--api", "off", "--poll", "busy", "--cores", "0", "--memory", "128MiB"]);
    command.arg("--data-dir").arg(sides::data_dir(bed)?);
    command.env("FOREBAY_LOG", "error");
    let (target, address): (Running, String) = sides::start(bed, &mut command)?;
    let victim = Victim {
        address: address.parse().map_err(io::Error::other)?,
        nqn: NQN.to_owned(),
        block_bytes: BLOCK_BYTES,
        blocks: NAMESPACE_BYTES / u64::from(BLOCK_BYTES),
    };
    let hosts = crowded.then(|| Misbehaving::start(&victim, &Manner::EIGHT));
    hosts.as_ref().map_or(Ok(()), Misbehaving::all_at_it)?;
    let mut command = sides::load(bed, &address, workload);
    command.args(sides::span_args(&bed.span));
    let sample = sides::sample(bed, &mut command)?;
    drop(hosts);
    target.stop(GRACE)?;
    Ok(sample)
}
