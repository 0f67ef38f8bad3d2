//! Injected media errors.

use crate::{FAULTY, HOST, MAIN, run, start, stop};
use conformance::lab::{Kernel, Lab};
use conformance::report::{self, Outcome};
use serde_json::Value;

const CONFIGURATION: &str = r#"
[[bdev]]
name = "good"
kind = "ram"
size = "16MiB"

[[bdev]]
name = "below"
kind = "ram"
size = "16MiB"

[[bdev]]
name = "bad"
kind = "error"
base = "below"
[[bdev.rule]]
ops = ["read"]
lba = 100
blocks = 8
status = [2, 0x81]
[[bdev.rule]]
ops = ["write"]
lba = 200
blocks = 1
status = [0, 0x06]

[[subsystem]]
nqn = "{MAIN}"
hosts = ["{HOST}"]
[[subsystem.namespace]]
bdev = "good"

[[subsystem]]
nqn = "{FAULTY}"
hosts = ["{HOST}"]
[[subsystem.namespace]]
bdev = "bad"
"#;

const CHECKS: [&str; 16] = [
    "connect",
    "connect-main",
    "block-device",
    "buffered-read-eio",
    "direct-read-medium",
    "write-eio",
    "below-reads",
    "above-reads",
    "around-writes",
    "other-namespace",
    "still-live",
    "disconnect",
    "error-log-tells",
    "smart-log-counts",
    "appliance-is-calm",
    "appliance-terminates",
];

#[test]
fn backports_6_12() {
    injected(Kernel::Linux6_12);
}

#[test]
fn bookworm_6_1() {
    injected(Kernel::Linux6_1);
}

fn injected(kernel: Kernel) {
    let Some(lab) = Lab::required_or_skip() else { return };
    let names = [("{MAIN}", MAIN), ("{FAULTY}", FAULTY), ("{HOST}", HOST)];
    let configuration =
        names.iter().fold(CONFIGURATION.to_owned(), |text, (name, nqn)| text.replace(name, nqn));
    let mut appliance = start(&configuration);
    let mut outcome = run(&lab, kernel, "faults", appliance.port(), &[], &mut |words| {
        Err(format!("unknown request {words}"))
    });
    let told = error_log_tells(&outcome);
    outcome.add("error-log-tells", told);
    let counted = smart_log_counts(&outcome);
    outcome.add("smart-log-counts", counted);
    stop(&mut outcome, &mut appliance);
    report::judge(&outcome, &CHECKS);
}

fn parsed(outcome: &Outcome, name: &str) -> Result<Value, String> {
    serde_json::from_str(&outcome.text(name)?).map_err(|error| format!("{name}: {error}"))
}

/// The error log has an entry for the failed read: Unrecovered Read Error, its namespace, its LBA.
fn error_log_tells(outcome: &Outcome) -> Result<(), String> {
    let log = parsed(outcome, "error-log")?;
    let entries = log["errors"].as_array().ok_or("no entries")?;
    let told = entries.iter().any(|entry| {
        entry["status_field"].as_u64().is_some_and(|status| status & 0x7ff == 0x281)
            && entry["nsid"].as_u64() == Some(1)
            && entry["lba"].as_u64().is_some_and(|lba| (64..108).contains(&lba))
    });
    if told { Ok(()) } else { Err(format!("no such entry; the first is {}", entries[0])) }
}

fn smart_log_counts(outcome: &Outcome) -> Result<(), String> {
    let log = parsed(outcome, "smart-log")?;
    let number = |name: &str| match &log[name] {
        Value::String(text) => text.parse().unwrap_or(0),
        other => other.as_u64().unwrap_or(0),
    };
    let (media, entries) = (number("media_errors"), number("num_err_log_entries"));
    if media > 0 && entries >= media {
        return Ok(());
    }
    Err(format!("{media} media errors, {entries} error log entries"))
}
