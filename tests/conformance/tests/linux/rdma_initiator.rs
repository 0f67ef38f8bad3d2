//! Our initiator over soft-RoCE: the shipped binary in one guest, and in another the shipped
//! binary and a stock kernel's target.

use crate::MAIN;
use crate::local_drives::program;
use crate::pair::{self, LIMIT};
use crate::rdma::link;
use conformance::guest::{Extras, Job};
use conformance::lab::{Kernel, Lab};
use conformance::report;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The subsystem of the kernel's target.
const KERNEL: &str = "nqn.2026-01.io.forebay:kernel";

/// The emulator's monitor of the host, in the test's folder.
const MONITOR: &str = "host.qmp";

/// Connections made and ended one after another, with each target.
const CYCLES: u32 = 6;

/// The checks of one guest and the other, but for those made with each target.
const CHECKS: [&str; 46] = [
    "soft-roce",
    "ready",
    "serve",
    "all-back",
    "buffers-back",
    "mute-all-back",
    "mute-buffers-back",
    "mute-counted",
    "given-up",
    "given-up-buffers",
    "links-all-back",
    "links-buffers-back",
    "still-serving",
    "ends",
    "forebay-is-calm",
    "kernel-is-calm",
    "off-says-why",
    "host-soft-roce",
    "host-ready",
    "over-tcp",
    "nobody-listens",
    "no-subsystem",
    "no-way",
    "mute-others",
    "mute-ends",
    "stock-ours",
    "stock-kernel",
    "blink-connected",
    "blink-out",
    "blink-in",
    "blink-own-ours",
    "blink-stock-ours",
    "blink-stock-kernel",
    "blink-own-ours-verify",
    "cable-connected",
    "cable-out",
    "cable-in",
    "cable-own-ours",
    "cable-stock-ours",
    "cable-stock-kernel",
    "cable-own-ours-verify",
    "stock-live",
    "stock-gone-ours",
    "stock-gone-kernel",
    "host-all-back",
    "host-is-calm",
];

/// The checks made with each target.
const EACH: [&str; 14] = [
    "discover",
    "discovers",
    "identify",
    "512",
    "512-verify",
    "qd128",
    "qd128-verify",
    "odd",
    "odd-verify",
    "1m",
    "1m-verify",
    "nothing-else",
    "cycles",
    "all-back",
];

#[test]
fn backports_6_12() {
    let Some(lab) = Lab::required_or_skip() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (target, host) = (target_job(folder.path()), host_job(folder.path()));
    let cable = |words: &str| cable(folder.path(), words);
    let outcome = pair::run_with(&lab, Kernel::Linux6_12, &target, &host, &cable);
    let each: Vec<String> = ["ours", "kernel"]
        .iter()
        .flat_map(|peer| EACH.map(|check| format!("{peer}-{check}")))
        .collect();
    let mut checks: Vec<&str> = CHECKS.to_vec();
    checks.extend(each.iter().map(String::as_str));
    report::judge(&outcome, &checks);
}

fn target_job(folder: &Path) -> Job<'static> {
    let machine = link(folder, "server=on", "52:54:00:77:00:01");
    let extras = Extras { files: program(folder), machine, ..Extras::default() };
    let variables = vec![("MAIN", MAIN.to_owned()), ("KERNEL", KERNEL.to_owned())];
    Job { script: "rdma-peers", variables, limit: LIMIT, forwards: Vec::new(), extras }
}

fn host_job(folder: &Path) -> Job<'static> {
    let mut machine = link(folder, "server=off,reconnect-ms=200", "52:54:00:77:00:02");
    let monitor = folder.join(MONITOR);
    machine.push("-qmp".into());
    machine.push(format!("unix:{},server=on,wait=off", monitor.display()));
    let mut files = program(folder);
    files.push(("/bin/mute-host".to_owned(), mute_host(folder)));
    let extras = Extras { files, machine, ..Extras::default() };
    let variables = vec![
        ("MAIN", MAIN.to_owned()),
        ("KERNEL", KERNEL.to_owned()),
        ("CYCLES", CYCLES.to_string()),
    ];
    Job { script: "rdma-initiator", variables, limit: LIMIT, forwards: Vec::new(), extras }
}

/// Answers `cable out` and `cable in`: the link's end at the host loses its carrier, as by hand.
fn cable(folder: &Path, words: &str) -> Result<String, String> {
    let up = match words {
        "cable out" => false,
        "cable in" => true,
        _ => return Err(format!("{words} is nothing to ask for")),
    };
    let asked = set_link(&folder.join(MONITOR), up);
    asked.map_err(|error| format!("the emulator's monitor: {error}"))
}

fn set_link(monitor: &Path, up: bool) -> io::Result<String> {
    let mut stream = UnixStream::connect(monitor)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut next = || lines.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()));
    next()?;
    for ask in [
        r#"{"execute":"qmp_capabilities"}"#.to_owned(),
        format!(r#"{{"execute":"set_link","arguments":{{"name":"l0","up":{up}}}}}"#),
    ] {
        stream.write_all(format!("{ask}\n").as_bytes())?;
        let answer = next()?;
        if !answer.contains("\"return\"") {
            return Err(io::Error::other(answer));
        }
    }
    Ok(String::new())
}

/// The host that breaks the rules, without what debuggers need.
fn mute_host(folder: &Path) -> PathBuf {
    let path = folder.join("mute-host");
    let binary = env!("CARGO_BIN_EXE_mute-host");
    let strip = Command::new("strip").arg("-o").arg(&path).arg(binary).status();
    assert!(strip.expect("strip runs").success(), "the binary can be stripped");
    path
}
