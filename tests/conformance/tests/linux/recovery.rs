//! The target dies and comes back; file systems on it do not notice.

use crate::{HOST, MAIN, run, start, stop};
use conformance::lab::{Kernel, Lab};
use conformance::report;

const CONFIGURATION: &str = r#"
[[bdev]]
name = "ext4"
kind = "file"
path = "{DIR}/ext4.img"
size = "256MiB"

[[bdev]]
name = "xfs"
kind = "file"
path = "{DIR}/xfs.img"
size = "320MiB"

[[subsystem]]
nqn = "{MAIN}"
hosts = ["{HOST}"]
[[subsystem.namespace]]
bdev = "ext4"
nsid = 1
[[subsystem.namespace]]
bdev = "xfs"
nsid = 2
"#;

const BOTH: [&str; 12] = [
    "device",
    "mkfs",
    "mount",
    "kill",
    "loss-seen",
    "restart",
    "reconnect",
    "no-write-failed",
    "tree",
    "umount",
    "remount",
    "tree-again",
];

const CHECKS: [&str; 13] = [
    "connect",
    "ext4-fsck",
    "xfs-repair",
    "storm-1",
    "storm-2",
    "storm-3",
    "storm-no-write-failed",
    "storm-umount",
    "storm-fsck",
    "disconnect",
    "kernel-is-calm",
    "appliance-is-calm",
    "appliance-terminates",
];

#[test]
fn backports_6_12() {
    killed_and_restarted(Kernel::Linux6_12);
}

#[test]
fn bookworm_6_1() {
    killed_and_restarted(Kernel::Linux6_1);
}

fn killed_and_restarted(kernel: Kernel) {
    let Some(lab) = Lab::required_or_skip() else { return };
    let mut appliance = start(&CONFIGURATION.replace("{MAIN}", MAIN).replace("{HOST}", HOST));
    let port = appliance.port();
    let mut outcome = run(&lab, kernel, "recovery", port, &[], &mut |words| match words {
        "kill" => appliance.kill().map(|()| String::new()),
        "restart" => appliance.restart().map(|()| String::new()),
        other => Err(format!("unknown request {other}")),
    });
    stop(&mut outcome, &mut appliance);
    let mut expected = CHECKS.to_vec();
    for kind in ["ext4", "xfs"] {
        expected.extend(BOTH.iter().map(|name| &*format!("{kind}-{name}").leak()));
    }
    report::judge(&outcome, &expected);
}
