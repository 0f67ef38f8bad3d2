//! Start, change, stop, kill, start again.

use crate::appliance::{Appliance, NQN, eventually, footprint};
use std::process::Output;

fn good(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn what_is_written_is_read_back_with_and_without_digests() {
    let node = Appliance::start(&["--ram", "64MiB", "--null", "1GiB"]);
    good(&node.io(&["write", "--seed", "7"]));
    good(&node.io(&["verify", "--seed", "7", "--size", "4KiB", "--depth", "128"]));
    good(&node.io(&["verify", "--seed", "7", "--size", "1MiB", "--hdr-digest", "--data-digest"]));
    let wrong = node.io(&["verify", "--seed", "8"]);
    assert!(!wrong.status.success(), "another seed must not verify");
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("is wrong from byte"));
    good(&node.io(&["read", "--nsid", "2"]));
    let stats = node.stats();
    let namespace = &stats["subsystems"][0]["namespaces"][0]["counts"];
    assert_eq!(namespace["write_bytes"], 64 << 20);
    eventually("the commands' buffers are back", || {
        node.stats()["reactors"].as_array().unwrap().iter().all(|reactor| {
            reactor["buffers_taken"].as_array().unwrap().iter().all(|count| count == 0)
        })
    });
}

#[test]
fn killed_and_started_again_the_file_has_all_that_was_flushed() {
    let dir = tempfile::tempdir().unwrap();
    let file = format!("{}=32MiB", dir.path().join("disk.img").display());
    let node = Appliance::start(&["--file", &file]);
    good(&node.io(&["write", "--seed", "3"]));
    let (state, address) = node.kill();
    let node = Appliance::start_in(state, &address, &["--file", &file]);
    good(&node.io(&["verify", "--seed", "3"]));
    let (ended_well, log, _) = node.terminate();
    assert!(ended_well && log.contains("stopped"), "{log}");
}

#[test]
fn a_stop_in_the_middle_of_writes_ends_well() {
    let dir = tempfile::tempdir().unwrap();
    let file = format!("{}=256MiB", dir.path().join("disk.img").display());
    let node = Appliance::start(&["--file", &file]);
    let address = node.address();
    let writer = std::thread::spawn(move || {
        let args = ["io", "write", &address, "--nqn", NQN, "--size", "4KiB", "--depth", "64"];
        let mut child =
            std::process::Command::new(env!("CARGO_BIN_EXE_forebay")).args(args).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1500));
        // The target is gone, and the writer would wait for it for minutes.
        let _ = child.kill();
        child.wait().unwrap()
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    let (ended_well, log, _) = node.terminate();
    writer.join().unwrap();
    assert!(ended_well, "{log}");
}

#[test]
fn namespaces_and_subsystems_come_and_go() {
    let node = Appliance::start(&["--ram", "16MiB"]);
    good(&node.ask(&["device", "attach", "--memory", "8MiB", "--name", "more"]));
    good(&node.ask(&["namespace", "add", NQN, "--device", "more"]));
    good(&node.io(&["write", "--nsid", "2"]));
    good(&node.io(&["verify", "--nsid", "2", "--size", "4KiB"]));
    good(&node.ask(&["namespace", "remove", NQN, "2", "--yes"]));
    assert!(!node.io(&["read", "--nsid", "2"]).status.success(), "it is gone");
    good(&node.ask(&["device", "detach", "more", "--yes"]));
    let other = "nqn.2026-01.org.example:other";
    good(&node.ask(&["subsystem", "create", other, "--host", "nqn.2026-01.org.example:h"]));
    good(&node.ask(&["host", "add", other, "nqn.2026-01.org.example:h2"]));
    good(&node.ask(&["host", "remove", other, "nqn.2026-01.org.example:h", "--yes"]));
    let stats = node.stats();
    let hosts = &stats["subsystems"].as_array().unwrap().iter().find(|s| s["nqn"] == other);
    assert_eq!(hosts.unwrap()["hosts"], serde_json::json!(["nqn.2026-01.org.example:h2"]));
    good(&node.ask(&["subsystem", "delete", other, "--yes"]));
    good(&node.io(&["write"]));
}

#[test]
fn a_file_that_grows_is_larger_for_hosts_after_a_rescan() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    let node = Appliance::start(&["--file", &format!("{}=16MiB", path.display())]);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(32 << 20).unwrap();
    let said = good(&node.ask(&["device", "rescan", "file0"]));
    assert!(said.contains("32.00 MiB"), "{said}");
    good(&node.io(&["write", "--offset", "16MiB", "--length", "16MiB"]));
}

#[test]
fn hosts_that_are_not_listed_are_refused() {
    let node = Appliance::start(&["--ram", "1MiB", "--host", "nqn.2026-01.org.example:friend"]);
    let address = node.address();
    let identify = |host: &str| {
        crate::appliance::forebay(&["identify", &address, "--nqn", NQN, "--hostnqn", host])
    };
    good(&identify("nqn.2026-01.org.example:friend"));
    let stranger = identify("nqn.2026-01.org.example:stranger");
    let text = String::from_utf8_lossy(&stranger.stderr).into_owned();
    assert!(!stranger.status.success() && text.contains("Connect Invalid Host"), "{text}");
    let discover = |host: &str| {
        good(&crate::appliance::forebay(&["discover", &address, "--json", "--hostnqn", host]))
    };
    assert!(discover("nqn.2026-01.org.example:friend").contains(NQN));
    assert!(!discover("nqn.2026-01.org.example:stranger").contains(NQN), "filtered by host");
}

#[test]
fn two_hundred_connections_leave_nothing_behind() {
    let node = Appliance::start(&["--ram", "1MiB"]);
    let cycle = |count: usize| {
        for _ in 0..count {
            good(&node.io(&["read", "--length", "64KiB"]));
        }
        let idle = || node.stats()["connections"]["open"] == 0;
        eventually("every connection ends", idle);
    };
    cycle(20);
    let (kib, descriptors) = footprint(node.pid());
    cycle(200);
    // The connection by which the counters were asked for ends after its answer.
    eventually("no descriptor is left", || footprint(node.pid()).1 <= descriptors);
    let (kib_after, _) = footprint(node.pid());
    assert!(kib_after < kib + 2048, "{kib} KiB became {kib_after}");
    let stats = node.stats();
    let left: usize = stats["subsystems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["controllers"].as_array().unwrap().len())
        .sum();
    assert_eq!(left, 0, "no controller is left");
}
