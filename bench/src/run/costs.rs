//! What an I/O costs the target beside time, what an idle target costs, and what a connection.

use std::fmt;
use std::io;
use std::process::Command;
use std::time::Duration;

use serde::Serialize;

use super::process::{Running, cpu_seconds, resident_bytes};
use super::report::verdict;
use super::sides::{self, Bed, GRACE, NQN};
use crate::sample::{Op, Workload};

/// Bounded runs under callgrind: the difference of the two, divided by the difference of their
/// lengths, is free of what starting and connecting cost.
const SHORT_RUN: u64 = 20_000;
const LONG_RUN: u64 = 80_000;
/// A bounded run at full speed.
const COUNTED_RUN: u64 = 1_000_000;
/// How long an idle target is watched.
const IDLE: Duration = Duration::from_secs(5);
/// Hosts that stay connected without I/O, each with an admin queue and an I/O queue.
const IDLE_HOSTS: usize = 32;

/// Most instructions outside the kernel for a 4 KiB read.
const INSTRUCTIONS_PROMISE: f64 = 900.0;
/// Most of one core that an idle target uses, in percent.
const IDLE_PROMISE: f64 = 2.0;

/// The costs; what could not be measured is missing.
#[derive(Debug, Default, Serialize)]
pub struct Costs {
    /// Per I/O, one entry a workload.
    pub per_io: Vec<PerIo>,
    /// CPU of an idle target, adaptive polling, no host connected, in percent of one core.
    pub idle_cpu_percent: Option<f64>,
    /// The same with idle hosts connected.
    pub idle_cpu_connected_percent: Option<f64>,
    /// Resident memory of one idle connection of the target, in bytes.
    pub bytes_per_connection: Option<f64>,
}

/// What one I/O costs the target.
#[derive(Debug, Serialize)]
pub struct PerIo {
    /// Operation, payload, depth.
    pub name: String,
    /// Instructions outside the kernel (callgrind); nothing where valgrind is not installed.
    pub instructions: Option<f64>,
    /// Calls into the kernel that moved data.
    pub calls: f64,
    /// Calls into the kernel that found nothing to do: polls of empty sockets.
    pub empty_calls: f64,
}

/// Measures all of it.
///
/// # Errors
/// What the process that failed said.
pub fn measure(bed: &Bed, costs: &mut Costs) -> io::Result<()> {
    for op in [Op::Read, Op::Write] {
        let workload = Workload { op, payload: 4096, depth: 32, connections: 1 };
        let instructions = if has_valgrind() { Some(instructions(bed, &workload)?) } else { None };
        let (calls, empty_calls) = calls(bed, &workload)?;
        let name = match op {
            Op::Read => "4 KiB read QD 32",
            Op::Write => "4 KiB write QD 32",
        };
        costs.per_io.push(PerIo { name: name.into(), instructions, calls, empty_calls });
    }
    idle(bed, costs)
}

fn has_valgrind() -> bool {
    Command::new("valgrind").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Instructions of the target process for one I/O.
fn instructions(bed: &Bed, workload: &Workload) -> io::Result<f64> {
    let short = callgrind(bed, workload, SHORT_RUN)?;
    let long = callgrind(bed, workload, LONG_RUN)?;
    Ok(long.saturating_sub(short) as f64 / (LONG_RUN - SHORT_RUN) as f64)
}

/// All instructions of a target that serves `ios` I/Os. It sleeps when there is nothing to do, so
/// that waiting for the load costs nothing.
fn callgrind(bed: &Bed, workload: &Workload, ios: u64) -> io::Result<u64> {
    let out = bed.dir.join("callgrind.out");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--quiet"]);
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(&bed.forebay);
    sides::serve_args(&mut command, bed, "adaptive")?;
    let (target, address) = sides::start(bed, command.args(["--cores", "0"]))?;
    let mut load = sides::load(bed, &address, workload);
    sides::sample(bed, load.args(["--ios", &ios.to_string()]))?;
    target.stop(GRACE)?;
    let text = std::fs::read_to_string(&out)?;
    let total = text.lines().find_map(|line| {
        let (_, count) = line.split_once("totals: ").or_else(|| line.split_once("summary: "))?;
        count.trim().parse().ok()
    });
    total.ok_or_else(|| io::Error::other("callgrind wrote no total"))
}

/// Calls into the kernel for one I/O at full speed, by the target's own counters: those that moved
/// data, and those that found nothing.
fn calls(bed: &Bed, workload: &Workload) -> io::Result<(f64, f64)> {
    let mut command = sides::serve(bed, "busy")?;
    command.args(["--cores", "0"]);
    let (target, address) = sides::start(bed, &mut command)?;
    let mut load = sides::load(bed, &address, workload);
    sides::sample(bed, load.args(["--ios", &COUNTED_RUN.to_string()]))?;
    let mut stats = Command::new(&bed.forebay);
    stats.args(["stats", "--json", "--data-dir"]).arg(sides::data_dir(bed)?);
    let text = Running::start(&mut stats, &bed.dir)?.output(GRACE)?;
    target.stop(GRACE)?;
    let report: serde_json::Value = serde_json::from_str(&text)?;
    let sum = |names: &[&str]| -> f64 {
        let reactors = report["reactors"].as_array().into_iter().flatten();
        let counts =
            reactors.flat_map(|r| names.iter().filter_map(|name| r["tcp"][*name].as_f64()));
        counts.sum()
    };
    let commands = sum(&["commands"]);
    if commands < COUNTED_RUN as f64 {
        return Err(io::Error::other(format!("forebay stats counted {commands} commands only")));
    }
    Ok((sum(&["recvs", "sends"]) / commands, sum(&["empty_recvs", "full_sends"]) / commands))
}

/// CPU of an idle target, without hosts and with; memory of the connections between.
fn idle(bed: &Bed, costs: &mut Costs) -> io::Result<()> {
    let mut command = sides::serve(bed, "adaptive")?;
    let (target, address) = sides::start(bed, &mut command)?;
    std::thread::sleep(Duration::from_secs(1));
    costs.idle_cpu_percent = Some(cpu_percent(target.pid())?);
    let before = resident_bytes(target.pid())?;
    let mut hold = Command::new(&bed.bench);
    hold.args(["forebay-hold", "--address", &address, "--nqn", NQN]);
    hold.args(["--hosts", &IDLE_HOSTS.to_string(), "--congestion", &bed.congestion]);
    let mut hosts = Running::start(&mut hold, &bed.dir)?;
    hosts.find(|line| (line.trim() == "connected").then_some(()))?;
    let after = resident_bytes(target.pid())?;
    let connections = 2 * IDLE_HOSTS;
    costs.bytes_per_connection = Some(after.saturating_sub(before) as f64 / connections as f64);
    costs.idle_cpu_connected_percent = Some(cpu_percent(target.pid())?);
    hosts.finish(GRACE)?;
    target.stop(GRACE)
}

fn cpu_percent(pid: u32) -> io::Result<f64> {
    let before = cpu_seconds(pid)?;
    std::thread::sleep(IDLE);
    Ok((cpu_seconds(pid)? - before) / IDLE.as_secs_f64() * 100.0)
}

impl fmt::Display for Costs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for per_io in &self.per_io {
            let instructions = per_io.instructions.map_or_else(
                || "not measured (no valgrind)".to_owned(),
                |count| {
                    let kept = verdict(count <= INSTRUCTIONS_PROMISE);
                    format!("{count:.0} (promise <= {INSTRUCTIONS_PROMISE:.0}  {kept})")
                },
            );
            writeln!(f, "{}: instructions outside the kernel per I/O {instructions}", per_io.name)?;
            writeln!(
                f,
                "{}: system calls per I/O {:.3} that moved data, {:.3} polls that found nothing",
                per_io.name, per_io.calls, per_io.empty_calls
            )?;
        }
        let idle = [
            ("no host connected", self.idle_cpu_percent),
            ("idle hosts connected", self.idle_cpu_connected_percent),
        ];
        for (when, percent) in idle {
            let Some(percent) = percent else { continue };
            let kept = verdict(percent < IDLE_PROMISE);
            writeln!(
                f,
                "idle CPU, {when}: {percent:.1}% of one core (promise < {IDLE_PROMISE:.0}%  {kept})"
            )?;
        }
        if let Some(bytes) = self.bytes_per_connection {
            writeln!(f, "memory per idle connection: {:.1} KiB resident", bytes / 1024.0)?;
        }
        Ok(())
    }
}
