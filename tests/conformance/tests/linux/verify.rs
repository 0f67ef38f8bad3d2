//! Data comes back as it was written.

use crate::{HOST, MAIN, run, start, stop};
use conformance::lab::{Kernel, Lab, Load};
use conformance::report::{self, Outcome};
use serde_json::Value;

const CONFIGURATION: &str = r#"
[[bdev]]
name = "disk"
kind = "file"
path = "{DIR}/disk.img"
size = "160MiB"

[[bdev]]
name = "small"
kind = "file"
path = "{DIR}/small.img"
size = "32MiB"
block = 512

[[bdev]]
name = "memory"
kind = "ram"
size = "16MiB"

[[subsystem]]
nqn = "{MAIN}"
hosts = ["{HOST}"]
[[subsystem.namespace]]
bdev = "disk"
nsid = 1
[[subsystem.namespace]]
bdev = "small"
nsid = 2
[[subsystem.namespace]]
bdev = "memory"
nsid = 3
"#;

/// Sections of the job file in `lab/jobs/verify.sh`.
const SECTIONS: usize = 14;

/// Digests, a round each.
const ROUNDS: [&str; 4] = ["none", "header", "data", "both"];

// The short form makes two rounds on one kernel and the others on the other.

#[test]
fn backports_6_12() {
    rounds(Kernel::Linux6_12, Load::wanted().pick(&ROUNDS[..], &["none", "both"]));
}

#[test]
fn bookworm_6_1() {
    rounds(Kernel::Linux6_1, Load::wanted().pick(&ROUNDS[..], &["header", "data"]));
}

fn rounds(kernel: Kernel, rounds: &[&str]) {
    let Some(lab) = Lab::required_or_skip() else { return };
    let mut appliance = start(&CONFIGURATION.replace("{MAIN}", MAIN).replace("{HOST}", HOST));
    let more = [("ROUNDS", rounds.join(" "))];
    let mut outcome = run(&lab, kernel, "verify", appliance.port(), &more, &mut |words| {
        Err(format!("unknown request {words}"))
    });
    let mut expected = vec!["kernel-is-calm", "appliance-is-calm", "appliance-terminates"];
    for round in rounds {
        let name = format!("verified-{round}");
        let result = every_section_wrote_and_read(&outcome, round);
        outcome.add(&name, result);
        for check in ["connect", "verify", "verified", "disconnect"] {
            expected.push(format!("{check}-{round}").leak());
        }
    }
    stop(&mut outcome, &mut appliance);
    report::judge(&outcome, &expected);
}

/// fio says what it did: a section that wrote or read nothing has verified nothing, and one of
/// depth 128 that never had 64 commands under way was not deep.
fn every_section_wrote_and_read(outcome: &Outcome, round: &str) -> Result<(), String> {
    let text = outcome.text(&format!("fio-{round}"))?;
    let report: Value = serde_json::from_str(&text).map_err(|error| format!("fio: {error}"))?;
    let jobs = report["jobs"].as_array().ok_or("fio: no jobs")?;
    if jobs.len() != SECTIONS {
        return Err(format!("fio ran {} sections, not {SECTIONS}", jobs.len()));
    }
    for job in jobs {
        let moved = |way: &str| job[way]["io_bytes"].as_u64().unwrap_or(0);
        if job["error"].as_u64() != Some(0) || moved("write") == 0 || moved("read") == 0 {
            let (name, error) = (&job["jobname"], &job["error"]);
            return Err(format!(
                "{name}: error {error}, wrote {} and read {} bytes",
                moved("write"),
                moved("read")
            ));
        }
        let name = job["jobname"].as_str().unwrap_or_default();
        let deep = job["iodepth_level"][">=64"].as_f64().unwrap_or(0.0);
        if name.ends_with("qd128") && deep == 0.0 {
            return Err(format!("{name}: its depth was never 64: {}", job["iodepth_level"]));
        }
    }
    Ok(())
}
