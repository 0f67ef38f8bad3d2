//! One sample of one side: both processes started, measured, ended.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::Running;
use crate::sample::{Op, Sample, Span, Workload};

/// Longest that a process may take beyond what it was asked to do.
pub(super) const GRACE: Duration = Duration::from_secs(60);

/// The subsystem that Forebay exports while it is measured.
pub(super) const NQN: &str = "nqn.2026-01.io.forebay:bench";

/// What a side is started from and with.
#[derive(Clone, Debug)]
pub struct Bed {
    /// The program `bench`.
    pub bench: PathBuf,
    /// The program `forebay`.
    pub forebay: PathBuf,
    /// Where processes keep files while they run.
    pub dir: PathBuf,
    /// Congestion control of all sockets.
    pub congestion: String,
    /// Length of a sample.
    pub span: Span,
}

/// A sample of the ceiling.
///
/// # Errors
/// What the half that failed said.
pub fn ceiling(bed: &Bed, workload: &Workload) -> io::Result<(Sample, String)> {
    let shape = shape_args(workload);
    let mut command = Command::new(&bed.bench);
    command.arg("ceiling-server").args(&shape).args(["--congestion", &bed.congestion]);
    let mut server = Running::start(&mut command, &side_dir(bed, "server")?)?;
    let hello: serde_json::Value = server.find(|line| serde_json::from_str(line).ok())?;
    let port = hello["port"].to_string();
    let mut command = Command::new(&bed.bench);
    command.arg("ceiling-client").args(&shape).args(span_args(&bed.span));
    command.args(["--congestion", &bed.congestion, "--port", &port]);
    let sample = sample(bed, &mut command)?;
    // It ends by itself once the client has closed.
    server.finish(GRACE)?;
    Ok((sample, hello["pages"].as_str().unwrap_or("unknown").to_owned()))
}

/// A sample of Forebay with a ram namespace of the ceiling's size.
///
/// # Errors
/// What the process that failed said.
pub fn forebay(bed: &Bed, workload: &Workload) -> io::Result<Sample> {
    let mut command = serve(bed, "busy")?;
    let (target, address) = start(bed, command.args(["--cores", "0"]))?;
    let mut command = load(bed, &address, workload);
    command.args(span_args(&bed.span));
    let sample = sample(bed, &mut command)?;
    target.stop(GRACE)?;
    Ok(sample)
}

/// `forebay serve` with a ram namespace, on a port of the kernel's choice.
pub(super) fn serve(bed: &Bed, poll: &str) -> io::Result<Command> {
    let mut command = Command::new(&bed.forebay);
    serve_args(&mut command, bed, poll)?;
    Ok(command)
}

/// The arguments of [`serve`], for a program that runs Forebay.
pub(super) fn serve_args(command: &mut Command, bed: &Bed, poll: &str) -> io::Result<()> {
    command.args(["serve", "--ram", "512MiB", "--nqn", NQN, "--listen", "127.0.0.1:0"]);
    command.args(["--api", "off", "--poll", poll, "--congestion", &bed.congestion]);
    command.arg("--data-dir").arg(data_dir(bed)?);
    command.env("FOREBAY_LOG", "warn");
    Ok(())
}

/// The data directory of [`serve`].
pub(super) fn data_dir(bed: &Bed) -> io::Result<PathBuf> {
    side_dir(bed, "data")
}

/// Starts a target and waits until it says where to connect.
pub(super) fn start(bed: &Bed, command: &mut Command) -> io::Result<(Running, String)> {
    let mut target = Running::start(command, &side_dir(bed, "target")?)?;
    let address = target.find(connect_address)?;
    Ok((target, address))
}

/// The address in a line such as `nvme connect -t tcp -a 127.0.0.1 -s 4420 -n NQN`.
fn connect_address(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let after = |flag: &str| {
        let at = words.iter().position(|word| *word == flag)?;
        words.get(at + 1).copied()
    };
    line.contains("nvme connect ").then(|| Some(format!("{}:{}", after("-a")?, after("-s")?)))?
}

/// The load generator against `address`.
pub(super) fn load(bed: &Bed, address: &str, workload: &Workload) -> Command {
    let mut command = Command::new(&bed.bench);
    command.args(["forebay-load", "--address", address, "--nqn", NQN]);
    command.args(["--congestion", &bed.congestion]).args(shape_args(workload));
    command
}

/// Runs a command that prints a sample.
pub(super) fn sample(bed: &Bed, command: &mut Command) -> io::Result<Sample> {
    let limit = Duration::from_secs_f64(bed.span.warmup + bed.span.seconds) + GRACE;
    let line = Running::start(command, &side_dir(bed, "load")?)?.output(limit)?;
    Ok(serde_json::from_str(&line)?)
}

fn side_dir(bed: &Bed, name: &str) -> io::Result<PathBuf> {
    let dir = Path::new(&bed.dir).join(name);
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

fn shape_args(workload: &Workload) -> Vec<String> {
    let op = match workload.op {
        Op::Read => "read",
        Op::Write => "write",
    };
    let number = |flag: &str, value: usize| [flag.to_owned(), value.to_string()];
    ["--op".to_owned(), op.to_owned()]
        .into_iter()
        .chain(number("--payload", workload.payload))
        .chain(number("--depth", workload.depth))
        .chain(number("--connections", workload.connections))
        .collect()
}

pub(super) fn span_args(span: &Span) -> [String; 4] {
    ["--warmup".into(), span.warmup.to_string(), "--seconds".into(), span.seconds.to_string()]
}

#[cfg(test)]
mod tests {
    use super::connect_address;

    #[test]
    fn the_address_is_read_from_what_the_target_prints() {
        let line = "  nvme connect -t tcp -a 127.0.0.1 -s 34567 -n nqn.2026-01.io.forebay:bench\n";
        assert_eq!(connect_address(line).as_deref(), Some("127.0.0.1:34567"));
        assert_eq!(connect_address("  nvme discover -t tcp -a 127.0.0.1 -s 8009"), None);
        assert_eq!(connect_address("  nvme connect -t tcp -a 127.0.0.1"), None);
    }
}
