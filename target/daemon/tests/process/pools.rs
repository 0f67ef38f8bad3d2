//! Pools and volumes of a running `forebay serve`, asked for on the command line, and kill -9.

use crate::appliance::{Appliance, NQN, eventually, forebay};
use std::process::Output;

const RAM: [&str; 2] = ["--ram", "1MiB"];

fn good(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A sparse file in the appliance's folder, to be a device.
fn device(node: &Appliance, name: &str, mib: u64) -> String {
    let path = node.dir.path().join(name);
    std::fs::File::create(&path).unwrap().set_len(mib << 20).unwrap();
    path.to_str().unwrap().to_owned()
}

fn io(address: &str, action: &str, volume: &str, seed: &str) -> Output {
    let nqn = format!("nqn.2026-01.io.forebay:tank:{volume}");
    forebay(&["io", action, address, "--nqn", &nqn, "--seed", seed])
}

/// What a command prints for programs, without what may differ between two looks.
fn shown(node: &Appliance, args: &[&str]) -> serde_json::Value {
    let text = good(&node.ask(&[args, &["--json"]].concat()));
    let mut value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    forget(&mut value);
    value
}

fn forget(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            let moving = ["controllers", "reason", "status", "space", "used_bytes", "discard"];
            moving.iter().for_each(|field| drop(fields.remove(*field)));
            fields.values_mut().for_each(forget);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(forget),
        _ => {}
    }
}

#[test]
fn killed_and_started_again_everything_is_there() {
    let node = Appliance::start(&RAM);
    let (a, b) = (device(&node, "a.img", 128), device(&node, "b.img", 128));
    good(&node.ask(&["pool", "create", "tank", &a, &b]));
    good(&node.ask(&["volume", "create", "tank/v", "32MiB", "--allow-any-host"]));
    let address = node.address();
    good(&io(&address, "write", "v", "3"));
    good(&node.ask(&["snapshot", "create", "tank/v@monday"]));
    good(&io(&address, "write", "v", "4"));
    good(&node.ask(&["snapshot", "clone", "tank/v@monday", "c", "--allow-any-host"]));
    let shared = "nqn.2026-01.org.example:shared";
    good(&node.ask(&["subsystem", "create", shared, "--host", "nqn.2026-01.org.example:h"]));
    good(&node.ask(&["volume", "create", "tank/w", "8MiB", "--subsystem", shared]));
    let looks: [&[&str]; 4] =
        [&["pool", "list"], &["volume", "list"], &["subsystem", "list"], &["device", "list"]];
    let before = looks.map(|look| shown(&node, look));

    let (dir, address) = node.kill();
    let node = Appliance::start_in(dir, &address, &RAM);
    let after = looks.map(|look| shown(&node, look));
    assert_eq!(before, after);
    good(&io(&address, "verify", "v", "4"));
    good(&io(&address, "verify", "c", "3"));
    good(&node.io(&["write"]));
    good(&node.ask(&["volume", "rollback", "tank/v@monday", "--yes", "--force"]));
    good(&io(&address, "verify", "v", "3"));
    let (ended_well, log, _) = node.terminate();
    assert!(ended_well, "{log}");
}

/// Writes all of a volume in the background.
fn writer(address: &str, volume: &str, seed: &str) -> std::thread::JoinHandle<Output> {
    let (address, seed) = (address.to_owned(), seed.to_owned());
    let nqn = format!("nqn.2026-01.io.forebay:tank:{volume}");
    let writer = std::thread::spawn(move || {
        forebay(&["io", "write", &address, "--nqn", &nqn, "--seed", &seed, "--size", "16KiB"])
    });
    std::thread::sleep(std::time::Duration::from_millis(150));
    writer
}

#[test]
fn ended_again_and_again_while_a_host_writes() {
    let mut node = Appliance::start(&RAM);
    let a = device(&node, "a.img", 512);
    good(&node.ask(&["pool", "create", "tank", &a]));
    for volume in ["tank/v", "tank/w"] {
        good(&node.ask(&["volume", "create", volume, "64MiB", "--allow-any-host"]));
    }
    let address = node.address();
    good(&io(&address, "write", "v", "2"));
    for round in 0..3 {
        let seed = (round + 5).to_string();
        // Killed while a host writes to a new volume, it has all that was answered, flushed or not;
        // the host has waited for it, and goes on.
        let new = format!("new{round}");
        let path = format!("tank/{new}");
        good(&node.ask(&["volume", "create", &path, "64MiB", "--allow-any-host"]));
        let host = writer(&address, &new, &seed);
        let (dir, _) = node.kill();
        node = Appliance::start_in(dir, &address, &RAM);
        good(&host.join().unwrap());
        good(&io(&address, "verify", &new, &seed));
        good(&io(&address, "verify", "v", "2"));
        // Stopped, it ends well; what it did not do any more it has said it did not.
        let host = writer(&address, "w", &seed);
        let (ended_well, log, dir) = node.terminate();
        assert!(ended_well, "{log}");
        node = Appliance::start_in(dir, &address, &RAM);
        let said = String::from_utf8_lossy(&host.join().unwrap().stderr).into_owned();
        assert!(said.is_empty() || said.contains("Aborted due to SQ Deletion"), "{said}");
        good(&io(&address, "write", "w", &seed));
        good(&io(&address, "verify", "w", &seed));
        good(&io(&address, "verify", "v", "2"));
    }
}

#[test]
fn a_device_that_is_gone_does_not_keep_the_rest_from_starting() {
    let node = Appliance::start(&RAM);
    let a = device(&node, "a.img", 64);
    good(&node.ask(&["pool", "create", "tank", &a]));
    good(&node.ask(&["volume", "create", "tank/v", "8MiB", "--allow-any-host"]));
    good(&io(&node.address(), "write", "v", "1"));
    let (dir, address) = node.kill();
    let away = dir.path().join("away");
    std::fs::rename(&a, &away).unwrap();
    let node = Appliance::start_in(dir, &address, &RAM);
    good(&node.io(&["write"]));
    let status = String::from_utf8_lossy(&node.ask(&["alerts"]).stdout).into_owned();
    assert!(status.contains("a.img"), "{status}");
    assert!(!io(&address, "verify", "v", "1").status.success());
    std::fs::rename(&away, &a).unwrap();
    eventually("the volume is back", || io(&address, "verify", "v", "1").status.success());
}

#[test]
fn a_damaged_state_file_is_named() {
    let node = Appliance::start(&RAM);
    let a = device(&node, "a.img", 64);
    good(&node.ask(&["pool", "create", "tank", &a]));
    let (ended_well, log, dir) = node.terminate();
    assert!(ended_well, "{log}");
    let log = std::fs::read_to_string(dir.path().join("wanted.log")).unwrap();
    std::fs::write(dir.path().join("wanted.log"), log.replacen("\"revision\"", "\"vision\"", 1))
        .unwrap();
    let data = dir.path().to_str().unwrap();
    let flags = ["serve", "--data-dir", data, "--ram", "1MiB", "--listen", "127.0.0.1:0"];
    let why = crate::appliance::refusal(&[&flags[..], &["--api", "off", "--nqn", NQN]].concat());
    assert!(why.contains("wanted.log is damaged"), "{why}");
}
