//! Stock Debian kernels against the shipped binary.
//!
//! One boot carries many checks; each is printed with its own verdict, and a check that did not run
//! fails the test as one that failed does.

mod admin;
mod cycles;
mod drive;
mod faults;
mod image;
mod local_drives;
mod operator;
mod pair;
mod rdma;
mod rdma_initiator;
mod recovery;
mod restarts;
mod verify;
mod volumes;

use conformance::appliance::Appliance;
use conformance::guest::{self, Answer, Extras, Job};
use conformance::lab::{Kernel, Lab};
use conformance::report::Outcome;
use std::time::Duration;

const MAIN: &str = "nqn.2026-01.org.example:main";
const CLOSED: &str = "nqn.2026-01.org.example:closed";
const FAULTY: &str = "nqn.2026-01.org.example:faulty";
/// The host that every guest is; `lab/jobs/prelude.sh` has the same default.
const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555";

/// The start of every configuration.
const BASE: &str = r#"
data_dir = "{DIR}"

[reactors]
memory = "64MiB"

[[listener]]
address = "127.0.0.1:{PORT}"
"#;

/// Runs a job against an appliance. Fails the test where the guest cannot even be started.
fn run(
    lab: &Lab,
    kernel: Kernel,
    script: &str,
    port: u16,
    more: &[(&'static str, String)],
    answer: &mut Answer<'_>,
) -> Outcome {
    let mut variables = vec![
        ("ADDRESS", "10.0.2.2".to_owned()),
        ("PORT", port.to_string()),
        ("HOSTNQN", HOST.to_owned()),
        ("MAIN", MAIN.to_owned()),
        ("CLOSED", CLOSED.to_owned()),
        ("FAULTY", FAULTY.to_owned()),
    ];
    variables.extend(more.iter().cloned());
    let limit = Duration::from_secs(800);
    let job = Job { script, variables, limit, forwards: Vec::new(), extras: Extras::default() };
    match guest::run(lab, kernel, &job, answer) {
        Ok(outcome) => outcome,
        Err(why) => panic!("{why}"),
    }
}

/// Starts the binary. Fails the test where it does not come up.
fn start(configuration: &str) -> Appliance {
    match Appliance::start(&format!("{BASE}{configuration}")) {
        Ok(appliance) => appliance,
        Err(why) => panic!("{why}"),
    }
}

/// The appliance ends on SIGTERM, or was not running any more: part of every outcome.
fn stop(outcome: &mut Outcome, appliance: &mut Appliance) {
    let log = appliance.log_tail();
    let complaints: Vec<&str> =
        log.lines().filter(|line| line.contains("panicked")).take(3).collect();
    let calm = if complaints.is_empty() { Ok(()) } else { Err(complaints.join("; ")) };
    outcome.add("appliance-is-calm", calm);
    outcome.add("appliance-terminates", appliance.terminate());
}

/// The appliance's counters.
fn stats(appliance: &Appliance) -> Result<serde_json::Value, String> {
    let text = appliance.operate(&["stats", "--json"])?;
    serde_json::from_str(&text).map_err(|error| format!("stats --json: {error}"))
}

/// Controllers of all subsystems, by a report of [`stats`].
fn controllers(report: &serde_json::Value) -> Result<usize, String> {
    let subsystems = report["subsystems"].as_array().ok_or("stats: no subsystems")?;
    Ok(subsystems.iter().filter_map(|one| one["controllers"].as_array()).map(Vec::len).sum())
}
