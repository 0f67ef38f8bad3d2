//! Pools and volumes: what an operator does on the command line, as a host sees it.

use crate::{HOST, run, start_with_api, stop};
use conformance::appliance::Appliance;
use conformance::lab::{Kernel, Lab};
use conformance::report;
use serde_json::Value;
use std::fs::File;

const CHECKS: [&str; 61] = [
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
    "raw-zeros",
    "limit-fill",
    "limit-iops",
    "iops-hold",
    "limit-bandwidth",
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
    "restart-1",
    "restart-2",
    "restart-tree",
    "umount",
    "repair",
    "disconnect",
    "kernel-is-calm",
    "appliance-is-calm",
    "appliance-terminates",
];

#[test]
fn linux_6_12() {
    volumes(Kernel::Linux6_12);
}

#[test]
fn linux_6_1() {
    volumes(Kernel::Linux6_1);
}

fn json(appliance: &Appliance, words: &[&str]) -> Result<Value, String> {
    let text = appliance.operate(&[words, &["--json"]].concat())?;
    serde_json::from_str(&text).map_err(|error| format!("no JSON: {error}: {text}"))
}

/// The subsystem of `POOL/VOLUME` or `POOL/VOLUME@SNAPSHOT`.
fn nqn(appliance: &Appliance, what: &str) -> Result<String, String> {
    let kind = if what.contains('@') { "snapshot" } else { "volume" };
    let shown = json(appliance, &[kind, "show", what])?;
    let nqn = shown["export"]["subsystem"].as_str();
    nqn.map(str::to_owned).ok_or_else(|| format!("{what} is not exported: {shown}"))
}

fn answer(appliance: &mut Appliance, words: &str) -> Result<String, String> {
    let words: Vec<&str> = words.split_whitespace().collect();
    match words[..] {
        ["cli", ..] => appliance.operate(&words[1..]).map(|_| String::new()),
        ["nqn", what] => nqn(appliance, what),
        ["used"] => {
            let pool = json(appliance, &["pool", "show", "tank"])?;
            Ok(pool["space"]["used_bytes"].to_string())
        }
        ["alert"] => {
            let alerts = json(appliance, &["alerts"])?.to_string();
            match alerts.contains("full") {
                true => Ok(String::new()),
                false => Err(format!("nothing of a full pool in {alerts}")),
            }
        }
        ["kill"] => appliance.kill().map(|()| String::new()),
        ["restart"] => appliance.restart().map(|()| String::new()),
        _ => Err(format!("unknown request {words:?}")),
    }
}

fn volumes(kernel: Kernel) {
    let Some(lab) = Lab::required_or_skip() else { return };
    let mut appliance = start_with_api();
    let file = |name: &str, mib: u64| {
        let path = appliance.folder().join(name);
        File::create(&path).and_then(|file| file.set_len(mib << 20)).expect("a sparse file");
        path.display().to_string()
    };
    let (first, more) = (file("first.img", 512), file("more.img", 256));
    appliance.operate(&["pool", "create", "tank", &first]).expect("a pool");
    let port = appliance.port();
    let variables = [("MORE", more), ("HOSTNQN", HOST.to_owned())];
    let mut outcome =
        run(&lab, kernel, "volumes", port, &variables, &mut |words| answer(&mut appliance, words));
    stop(&mut outcome, &mut appliance);
    report::judge(&outcome, &CHECKS);
}
