//! Captures golden PDUs: a stock Linux host against the kernel's own target, the recorder between
//! them. Writes `tests/golden/pdu/KERNEL/` anew: one file per kind of PDU, and `index.tsv`.

use conformance::guest::{self, Extras, Job};
use conformance::lab::{Kernel, Lab, tree};
use conformance::pdu::{self, Captured, Sender};
use conformance::record::{Conversation, Recorder};
use conformance::report;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Larger PDUs say nothing more and fill the tree.
const KEPT_BYTES: usize = 5000;

fn main() -> ExitCode {
    for kernel in [Kernel::Linux6_12, Kernel::Linux6_1] {
        if let Err(why) = capture(kernel) {
            eprintln!("capture: {why}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn capture(kernel: Kernel) -> Result<(), String> {
    let lab = Lab::find()?;
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|error| format!("no free port: {error}"))?;
    let recorder = Recorder::start(free.port()).map_err(|error| format!("recorder: {error}"))?;
    let job = Job {
        script: "capture",
        variables: vec![("ADDRESS", "10.0.2.2".into()), ("PORT", recorder.port().to_string())],
        limit: Duration::from_secs(300),
        forwards: vec![(free.port(), 4420)],
        extras: Extras::default(),
    };
    let outcome = guest::run(&lab, kernel, &job, &mut |_| Err("nothing to ask for".into()))?;
    let faults = report::faults(&outcome, &[]);
    let failed: Vec<_> = outcome.checks.iter().filter(|check| check.failure.is_some()).collect();
    if !outcome.ended || !failed.is_empty() {
        return Err(format!("{}\n{}", outcome.serial_tail, faults.join("\n")));
    }
    let kept = select(&recorder.conversations(), kernel == Kernel::Linux6_12)?;
    let folder = tree().join(format!("tests/golden/pdu/linux-{kernel}"));
    write(&folder, &lab.version(kernel)?, &kept)
        .map_err(|error| format!("{}: {error}", folder.display()))
}

/// With digests the kinds of frame matter, not every command again.
const KEPT_WITH_DIGESTS: [&str; 11] = [
    "icreq",
    "icresp",
    "connect-admin",
    "connect-io",
    "response-to-connect-io",
    "read",
    "c2h-data-for-read",
    "write-in-capsule",
    "response-to-write-in-capsule",
    "r2t",
    "h2c-data-last",
];

/// The first PDU of each name, digest agreement and sender. `all` keeps the target's too.
fn select(conversations: &[Conversation], all: bool) -> Result<Vec<Captured>, String> {
    let mut seen = BTreeSet::new();
    let mut kept = Vec::new();
    for conversation in conversations {
        for one in pdu::name_all(conversation)? {
            let plain = !one.header_digest && !one.data_digest;
            let wanted = if all && plain {
                one.bytes.len() <= KEPT_BYTES
            } else {
                (all || one.sender == Sender::Host)
                    && (plain || KEPT_WITH_DIGESTS.contains(&one.name.as_str()))
            };
            if wanted && seen.insert(file_name(&one)) {
                kept.push(one);
            }
        }
    }
    Ok(kept)
}

fn file_name(one: &Captured) -> String {
    let digests = match (one.header_digest, one.data_digest) {
        (false, false) => "",
        (true, false) => ".hdgst",
        (false, true) => ".ddgst",
        (true, true) => ".hdgst-ddgst",
    };
    format!("{}{digests}.bin", one.name)
}

fn write(folder: &Path, version: &str, kept: &[Captured]) -> std::io::Result<()> {
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder)?;
    let mut index = format!(
        "# PDUs between the NVMe/TCP host of Linux {version} and the same kernel's target.\n\
         # file\tsender\theader digest\tdata digest\tbytes\n"
    );
    for one in kept {
        let name = file_name(one);
        let sender = match one.sender {
            Sender::Host => "host",
            Sender::Target => "target",
        };
        let (header, data) = (u8::from(one.header_digest), u8::from(one.data_digest));
        let _ = writeln!(index, "{name}\t{sender}\t{header}\t{data}\t{}", one.bytes.len());
        std::fs::write(folder.join(name), &one.bytes)?;
    }
    std::fs::write(folder.join("index.tsv"), index)?;
    println!("{}: {} PDUs", folder.display(), kept.len());
    Ok(())
}
