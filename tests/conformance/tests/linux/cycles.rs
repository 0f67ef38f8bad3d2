//! Many connections leave nothing behind.

use crate::{HOST, MAIN, controllers, run, start, stats, stop};
use conformance::appliance::Appliance;
use conformance::lab::{Kernel, Lab, Load};
use conformance::report;
use std::time::{Duration, Instant};

const CONFIGURATION: &str = r#"
[[bdev]]
name = "disk"
kind = "ram"
size = "16MiB"

[[subsystem]]
nqn = "{MAIN}"
hosts = ["{HOST}"]
[[subsystem.namespace]]
bdev = "disk"
nsid = 1
"#;

/// Memory that all cycles may add, in KiB: less than 6 KiB a cycle in the long form and 26 KiB in
/// the short one, where one controller with one queue pair has far more than that while it lives.
const GROWTH_KIB: u64 = 1024;

/// What the process holds while no host is connected.
struct Weight {
    resident_kib: u64,
    descriptors: usize,
}

#[test]
fn bookworm_6_1() {
    cycles(Kernel::Linux6_1);
}

#[test]
fn backports_6_12() {
    cycles(Kernel::Linux6_12);
}

fn cycles(kernel: Kernel) {
    let Some(lab) = Lab::required_or_skip() else { return };
    let mut appliance = start(&CONFIGURATION.replace("{MAIN}", MAIN).replace("{HOST}", HOST));
    let load = Load::wanted();
    let more =
        [("WARM", load.pick("20", "10").to_owned()), ("CYCLES", load.pick("200", "40").to_owned())];
    let mut weights = Vec::new();
    let port = appliance.port();
    let mut outcome = run(&lab, kernel, "cycles", port, &more, &mut |_| {
        weights.push(weigh(&appliance)?);
        Ok(String::new())
    });
    outcome.add("nothing-left", compare(&weights));
    stop(&mut outcome, &mut appliance);
    let expected = ["every-cycle", "nothing-left", "appliance-is-calm", "appliance-terminates"];
    report::judge(&outcome, &expected);
}

/// Waits until no controller and no connection is left, then weighs.
fn weigh(appliance: &Appliance) -> Result<Weight, String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let report = stats(appliance)?;
        let connections = report["connections"]["open"].as_u64().ok_or("stats: no connections")?;
        match (controllers(&report)?, connections) {
            (0, 0) => break,
            left if Instant::now() > deadline => {
                return Err(format!("{} controllers and {} connections are left", left.0, left.1));
            }
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
    let (resident_kib, descriptors) = (appliance.resident_kib()?, appliance.descriptors()?);
    println!("  note: {resident_kib} KiB resident, {descriptors} descriptors");
    Ok(Weight { resident_kib, descriptors })
}

fn compare(weights: &[Weight]) -> Result<(), String> {
    let [before, after] = weights else {
        return Err(format!("weighed {} times, not twice", weights.len()));
    };
    if after.descriptors != before.descriptors {
        return Err(format!("{} descriptors, {} before", after.descriptors, before.descriptors));
    }
    if after.resident_kib > before.resident_kib + GROWTH_KIB {
        return Err(format!("{} KiB resident, {} before", after.resident_kib, before.resident_kib));
    }
    Ok(())
}
