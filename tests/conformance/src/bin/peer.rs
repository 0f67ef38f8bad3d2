//! Runs a job against the kernel's own target, in the guest itself: tells the lab's faults from
//! Forebay's. `cargo run -p conformance --bin peer -- verify 6.12`

use conformance::guest::{self, Extras, Job};
use conformance::lab::{Kernel, Lab};
use std::process::ExitCode;
use std::time::Duration;

const MAIN: &str = "nqn.2026-01.org.example:main";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (script, kernel) = match &arguments[..] {
        [script] => (script, Kernel::Linux6_12),
        [script, kernel] if kernel == "6.12" => (script, Kernel::Linux6_12),
        [script, kernel] if kernel == "6.1" => (script, Kernel::Linux6_1),
        _ => {
            eprintln!("peer: give a job of tests/conformance/lab/jobs, and 6.1 or 6.12");
            return ExitCode::FAILURE;
        }
    };
    match run(script, kernel) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("peer: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(script: &str, kernel: Kernel) -> Result<(), String> {
    let lab = Lab::find()?;
    let job = Job {
        script,
        variables: vec![
            ("PEER", "nvmet".into()),
            ("ADDRESS", "127.0.0.1".into()),
            ("PORT", "4420".into()),
            ("MAIN", MAIN.into()),
            ("CLOSED", format!("{MAIN}-closed")),
            ("FAULTY", format!("{MAIN}-faulty")),
            ("ROUNDS", "none header data both".into()),
            ("WARM", "2".into()),
            ("CYCLES", "5".into()),
        ],
        limit: Duration::from_secs(600),
        forwards: Vec::new(),
        extras: Extras::default(),
    };
    let outcome = guest::run(&lab, kernel, &job, &mut |words| {
        Err(format!("the kernel's target cannot {words}"))
    })?;
    for check in &outcome.checks {
        match &check.failure {
            None => println!("ok    {}", check.name),
            Some(why) => println!("FAIL  {}: {why}", check.name),
        }
    }
    for (name, bytes) in &outcome.files {
        println!("--- {name}\n{}", String::from_utf8_lossy(bytes));
    }
    if outcome.ended { Ok(()) } else { Err(format!("it did not end\n{}", outcome.serial_tail)) }
}
