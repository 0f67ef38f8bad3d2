//! Pools and volumes: what an operator does on the command line, as a host sees it.

use crate::operator::{Reads, device, json, nqn};
use crate::{HOST, run, start, stop};
use conformance::appliance::Appliance;
use conformance::lab::{Kernel, Lab};
use conformance::report;
use std::os::unix::fs::MetadataExt;

const CHECKS: [&str; 63] = [
    "create",
    "connect",
    "mkfs",
    "mount",
    "resize",
    "resize-seen",
    "growfs",
    "growfs-larger",
    "tree-after-resize",
    "settle",
    "settled",
    "snapshot",
    "snapshot-export",
    "snapshot-connect",
    "snapshot-read-only",
    "snapshot-mount",
    "snapshot-tree",
    "snapshot-write",
    "clone",
    "clone-connect",
    "clone-mount",
    "clone-tree",
    "clone-apart",
    "snapshot-apart",
    "clone-umount",
    "clone-repair",
    "snapshot-umount",
    "raw-create",
    "raw-connect",
    "raw-fill",
    "raw-takes-space",
    "raw-discard",
    "discard-gives-back",
    "file-gets-smaller",
    "raw-zeros",
    "limit-fill",
    "limit-iops",
    "iops-counted",
    "iops-holds",
    "limit-bandwidth",
    "bandwidth-counted",
    "bandwidth-holds",
    "limit-none",
    "limit-gone",
    "big-create",
    "big-connect",
    "full-is-said",
    "full-alert",
    "full-read",
    "full-overwrite",
    "full-elsewhere",
    "add-device",
    "full-heals",
    "big-unexport",
    "big-delete",
    "restart",
    "restart-tree",
    "umount",
    "repair",
    "disconnect",
    "kernel-is-calm",
    "appliance-is-calm",
    "appliance-terminates",
];

#[test]
fn backports_6_12() {
    volumes(Kernel::Linux6_12);
}

#[test]
fn bookworm_6_1() {
    volumes(Kernel::Linux6_1);
}

/// Whether `rate` is within a tenth of `limit`.
fn within_a_tenth(rate: f64, limit: &str) -> Result<String, String> {
    let limit: f64 = limit.parse().map_err(|error| format!("{limit}: {error}"))?;
    match (rate - limit).abs() <= limit / 10.0 {
        true => Ok(String::new()),
        false => Err(format!("{rate:.1} a second, not {limit}")),
    }
}

/// What the guest asks for; `from` is the count that rates are taken from.
fn answer(
    appliance: &mut Appliance,
    from: &mut Option<Reads>,
    words: &str,
) -> Result<String, String> {
    let words: Vec<&str> = words.split_whitespace().collect();
    match words[..] {
        ["cli", ..] => appliance.operate(&words[1..]).map(|_| String::new()),
        ["nqn", what] => nqn(appliance, what),
        ["used"] => {
            let pool = json(appliance, &["pool", "show", "tank"])?;
            Ok(pool["space"]["used_bytes"].to_string())
        }
        ["taken"] => {
            let file = appliance.folder().join("first.img");
            let meta = std::fs::metadata(file).map_err(|error| error.to_string())?;
            Ok((meta.blocks() * 512).to_string())
        }
        ["alert"] => {
            let alerts = json(appliance, &["alerts"])?.to_string();
            match alerts.contains("full") {
                true => Ok(String::new()),
                false => Err(format!("nothing of a full pool in {alerts}")),
            }
        }
        ["count"] => {
            *from = Some(Reads::now(appliance, "raw")?);
            Ok(String::new())
        }
        ["begun" | "counted" | "free", ..] => {
            let from = from.as_ref().ok_or("nothing was counted before")?;
            compared(from, &Reads::now(appliance, "raw")?, &words)
        }
        ["kill"] => appliance.kill().map(|()| String::new()),
        ["restart"] => appliance.restart().map(|()| String::new()),
        _ => Err(format!("unknown request {words:?}")),
    }
}

/// What can be said of two counts.
fn compared(from: &Reads, now: &Reads, words: &[&str]) -> Result<String, String> {
    let (reads, bytes) = from.rates(now);
    let held = now.held_back.saturating_sub(from.held_back);
    match *words {
        ["begun"] if now.commands >= from.commands + 10 => Ok(String::new()),
        ["counted", "iops", limit] => within_a_tenth(reads, limit),
        ["counted", "bandwidth", limit] => within_a_tenth(bytes, limit),
        ["free"] if now.commands > from.commands && held == 0 => Ok(String::new()),
        _ => Err(format!("{words:?}: {reads} a second, {held} of them held back")),
    }
}

fn volumes(kernel: Kernel) {
    let Some(lab) = Lab::required_or_skip() else { return };
    let mut appliance = start("");
    let (first, more) = (device(&appliance, "first.img", 224), device(&appliance, "more.img", 256));
    appliance.operate(&["pool", "create", "tank", &first]).expect("a pool");
    let port = appliance.port();
    let variables = [("MORE", more), ("HOSTNQN", HOST.to_owned())];
    let mut from = None;
    let mut outcome = run(&lab, kernel, "volumes", port, &variables, &mut |words| {
        answer(&mut appliance, &mut from, words)
    });
    stop(&mut outcome, &mut appliance);
    report::judge(&outcome, &CHECKS);
}
