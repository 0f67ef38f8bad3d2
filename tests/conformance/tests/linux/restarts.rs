//! Volumes of a pool through restarts of the appliance in the middle of fio's verify.

use crate::operator::{device, nqn};
use crate::{HOST, run, start, stop};
use conformance::lab::{Kernel, Lab};
use conformance::report;

/// For each way to end the appliance.
const EACH: [&str; 7] =
    ["connect", "write", "write-restarts", "read", "read-restarts", "calm", "disconnect"];

#[test]
fn backports_6_12() {
    restarts(Kernel::Linux6_12);
}

#[test]
fn bookworm_6_1() {
    restarts(Kernel::Linux6_1);
}

fn restarts(kernel: Kernel) {
    let Some(lab) = Lab::required_or_skip() else { return };
    let mut appliance = start("");
    let file = device(&appliance, "disk.img", 512);
    appliance.operate(&["pool", "create", "tank", &file]).expect("a pool");
    let volume = |name: &str| {
        let words = ["volume", "create", name, "64MiB", "--host", HOST];
        appliance.operate(&words).expect("a volume");
        nqn(&appliance, name).expect("its subsystem")
    };
    let variables = [("STOPPED", volume("tank/stopped")), ("KILLED", volume("tank/killed"))];
    let port = appliance.port();
    let mut outcome = run(&lab, kernel, "restarts", port, &variables, &mut |words| match words {
        "terminate" => appliance.terminate().map(|()| String::new()),
        "kill" => appliance.kill().map(|()| String::new()),
        "restart" => appliance.restart().map(|()| String::new()),
        other => Err(format!("unknown request {other}")),
    });
    for check in &outcome.checks {
        if check.failure.is_some() && outcome.files.contains_key(&check.name) {
            println!("--- {}\n{}", check.name, outcome.text(&check.name).unwrap_or_default());
        }
    }
    stop(&mut outcome, &mut appliance);
    let mut expected = vec!["appliance-is-calm", "appliance-terminates"];
    for how in ["terminate", "kill"] {
        expected.extend(EACH.iter().map(|name| &*format!("{how}-{name}").leak()));
    }
    report::judge(&outcome, &expected);
}
