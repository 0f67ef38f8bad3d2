//! What an administrator types; namespaces and subsystems that come and go.

use crate::{CLOSED, HOST, MAIN, run, start, stop};
use conformance::appliance::Appliance;
use conformance::golden;
use conformance::lab::{Kernel, Lab};
use conformance::report::{self, Outcome};
use serde_json::Value;

const CONFIGURATION: &str = r#"
[[bdev]]
name = "disk"
kind = "file"
path = "{DIR}/disk.img"
size = "64MiB"

[[bdev]]
name = "small"
kind = "ram"
size = "32MiB"
block = 512

[[bdev]]
name = "spare"
kind = "ram"
size = "16MiB"

[[bdev]]
name = "nothing"
kind = "null"
size = "16MiB"

[[subsystem]]
nqn = "{MAIN}"
serial = "LAB0001"
hosts = ["{HOST}"]
[[subsystem.namespace]]
bdev = "disk"
nsid = 1
uuid = "0b0f5c9e-7a64-4f86-9d5e-0a54f9b0a001"
[[subsystem.namespace]]
bdev = "small"
nsid = 2
uuid = "0b0f5c9e-7a64-4f86-9d5e-0a54f9b0a002"
"#;

/// A host that no guest is.
const OTHER_HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:99999999-2222-3333-4444-555555555555";

const CHECKS: [&str; 57] = [
    "discover",
    "discover-json",
    "connect",
    "block-devices",
    "block-size-4096",
    "block-size-512",
    "list",
    "list-subsys",
    "id-ctrl",
    "id-ns-1",
    "id-ns-2",
    "smart-log",
    "error-log",
    "ns-descs-1",
    "ns-descs-2",
    "changed-ns-list",
    "ana-log",
    "effects-log",
    "fw-log",
    "list-ns",
    "supported-log-pages",
    "get-property",
    "get-features",
    "invalid-opcode",
    "state",
    "blkdiscard-4096",
    "blkdiscard-512",
    "write-zeroes-4096",
    "write-zeroes-512",
    "discard-offered",
    "write-zeroes-offered",
    "flush",
    "compare-equal",
    "compare-different",
    "copy",
    "copied",
    "verify",
    "beyond-the-end",
    "namespace-add",
    "hot-add-seen",
    "hot-add-usable",
    "namespace-remove",
    "hot-remove-seen",
    "others-unharmed",
    "disconnect",
    "closed-refused",
    "unknown-refused",
    "connect-all",
    "connect-all-device",
    "connect-all-not-closed",
    "disconnect-all",
    "persistent-discovery",
    "subsystem-change",
    "discovery-event",
    "rediscover",
    "kernel-is-calm",
    "appliance-is-calm",
];

/// Documents of nvme-cli, with the fields that may differ from run to run and why they may.
const DOCUMENTS: [(&str, &[&str]); 15] = [
    // The port is chosen anew for every run.
    ("discover-json", &["/records/0/trsvcid", "/records/1/trsvcid"]),
    // The kernel names disks in the order in which its scan finds them. The release.
    (
        "list",
        &[
            "/Devices/0/DevicePath",
            "/Devices/1/DevicePath",
            "/Devices/0/Firmware",
            "/Devices/1/Firmware",
        ],
    ),
    // The port again.
    ("list-subsys", &["/0/Subsystems/0/Paths/0/Address"]),
    // The release.
    ("id-ctrl", &["/cntlid", "/fr"]),
    ("id-ns-1", &[]),
    ("id-ns-2", &[]),
    // What the kernel read while it scanned.
    ("smart-log", &["/data_units_read", "/host_read_commands", "/num_err_log_entries"]),
    ("error-log", &[]),
    ("ns-descs-1", &[]),
    ("ns-descs-2", &[]),
    ("changed-ns-list", &[]),
    ("ana-log", &[]),
    ("effects-log", &[]),
    // The release.
    ("fw-log", &["/nvme0/Firmware Rev Slot 1"]),
    ("list-ns", &[]),
];

#[test]
fn backports_6_12() {
    everything(Kernel::Linux6_12);
}

#[test]
fn bookworm_6_1() {
    everything(Kernel::Linux6_1);
}

fn everything(kernel: Kernel) {
    let Some(lab) = Lab::required_or_skip() else { return };
    let names = [("{MAIN}", MAIN), ("{HOST}", HOST)];
    let configuration =
        names.iter().fold(CONFIGURATION.to_owned(), |text, (name, nqn)| text.replace(name, nqn));
    let mut appliance = start(&configuration);
    let closed = ["subsystem", "create", CLOSED, "--host", OTHER_HOST];
    appliance.operate(&closed).expect("a subsystem");
    let namespace = ["namespace", "add", CLOSED, "--device", "nothing"];
    appliance.operate(&namespace).expect("a namespace");
    let port = appliance.port();
    let mut outcome =
        run(&lab, kernel, "admin", port, &[], &mut |words| carry_out(&appliance, words));
    let mut expected: Vec<&str> = CHECKS.to_vec();
    for (name, volatile) in DOCUMENTS {
        let golden_name = format!("{name}-golden");
        let result =
            document(&outcome, name).and_then(|text| golden::compare(name, &text, volatile));
        outcome.add(&golden_name, result);
        expected.push(golden_name.leak());
    }
    let names = discovery_lists_what_the_host_may_use(&outcome);
    outcome.add("discovery-filtered", names);
    stop(&mut outcome, &mut appliance);
    expected.extend(["discovery-filtered", "appliance-terminates"]);
    report::judge(&outcome, &expected);
}

/// What the job asks for.
fn carry_out(appliance: &Appliance, words: &str) -> Result<String, String> {
    match words {
        "namespace-add" => {
            appliance.operate(&["namespace", "add", MAIN, "--device", "spare", "--nsid", "3"])
        }
        "namespace-remove" => appliance.operate(&["namespace", "remove", MAIN, "3", "--yes"]),
        "subsystem-change" => appliance.operate(&["host", "add", CLOSED, HOST]),
        other => Err(format!("unknown request {other}")),
    }
    .map(|text| text.lines().next().unwrap_or("").to_owned())
}

/// A document that the job sent, in an order that does not depend on the host's scan.
fn document(outcome: &Outcome, name: &str) -> Result<String, String> {
    let text = outcome.text(name)?;
    if name != "list" {
        return Ok(text);
    }
    let mut list: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if let Some(devices) = list["Devices"].as_array_mut() {
        devices.sort_by_key(|device| device["NameSpace"].as_u64());
    }
    Ok(list.to_string())
}

fn discovery_lists_what_the_host_may_use(outcome: &Outcome) -> Result<(), String> {
    let (before, after) = (outcome.text("discover.txt")?, outcome.text("rediscover.txt")?);
    if !before.contains(MAIN) || before.contains(CLOSED) {
        return Err(format!("before the change: {before}"));
    }
    if !after.contains(MAIN) || !after.contains(CLOSED) {
        return Err(format!("after the change: {after}"));
    }
    Ok(())
}
