//! The audit log of an appliance that is killed: each change that happened has its intent.

use crate::appliance::{Appliance, forebay};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// Kills, and changes that are under way at each.
const KILLS: u32 = 50;
const CHANGES: u32 = 4;

fn name(kill: u32, change: u32) -> String {
    format!("nqn.2026-01.org.example:k{kill}-c{change}")
}

/// Makes subsystems, one after the other, until the appliance is gone.
fn change(folder: &Path, kill: u32) {
    for change in 0..CHANGES {
        let nqn = name(kill, change);
        forebay(&["subsystem", "create", &nqn, "--data-dir", folder.to_str().unwrap()]);
    }
}

/// Subsystems that the log says somebody wanted to make.
fn intended(folder: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(folder.join("audit.log")).unwrap();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let intents = lines.filter(|line| line["event"] == "intent");
    intents.filter_map(|line| line["body"]["nqn"].as_str().map(str::to_owned)).collect()
}

fn there(node: &Appliance) -> BTreeSet<String> {
    let output = node.ask(&["subsystem", "list", "--json"]);
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let names = list["items"].as_array().unwrap().iter();
    names.filter_map(|s| s["nqn"].as_str().map(str::to_owned)).collect()
}

#[test]
fn each_change_that_happened_has_its_intent_whenever_it_is_killed() {
    let mut dir = tempfile::tempdir().unwrap();
    let flags = ["--ram", "1MiB"];
    let node = Appliance::start_in(dir, "127.0.0.1:0", &flags);
    let started = Instant::now();
    change(node.dir.path(), KILLS);
    let all = started.elapsed();
    dir = node.kill().0;
    let mut unfinished = 0;
    for kill in 0..KILLS {
        let node = Appliance::start_in(dir, "127.0.0.1:0", &flags);
        let folder = node.dir.path().to_owned();
        let changing = std::thread::spawn(move || change(&folder, kill));
        // Each a little later than the one before.
        std::thread::sleep(all * kill / KILLS + Duration::from_millis(1));
        dir = node.kill().0;
        changing.join().unwrap();
        unfinished += u32::from(!intended(dir.path()).contains(&name(kill, CHANGES - 1)));
    }
    let node = Appliance::start_in(dir, "127.0.0.1:0", &flags);
    let (there, intended) = (there(&node), intended(node.dir.path()));
    let made = there.iter().filter(|nqn| nqn.contains(":k")).count();
    assert!(made > 20 && unfinished > 10, "{made} made, {unfinished} cut short");
    for nqn in there.iter().filter(|nqn| nqn.contains(":k")) {
        assert!(intended.contains(nqn), "{nqn} was made, and nobody is known to have wanted it");
    }
    let verified = node.ask(&["audit", "verify"]);
    let says = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success() && says.contains("are as they were written"), "{says}");
}

#[test]
fn a_log_that_was_changed_is_found_out() {
    let node = Appliance::start(&["--ram", "1MiB"]);
    change(node.dir.path(), 0);
    let path = node.dir.path().join("audit.log");
    let text = std::fs::read_to_string(&path).unwrap();
    let verify = || {
        let output = node.ask(&["audit", "verify"]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    assert_eq!(verify().0, Some(0));
    let changed = text.replacen("k0-c1", "k0-c7", 1);
    assert_ne!(changed, text);
    std::fs::write(&path, changed).unwrap();
    let (code, says) = verify();
    assert!(code == Some(1) && says.contains("NOT as they were written"), "{says}");
    assert!(says.contains("the line before it is another than was written"), "{says}");
}

#[test]
fn lines_go_into_the_log_of_the_program_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("forebay.toml");
    std::fs::write(&file, "[reactors]\nmemory = \"32MiB\"\n[audit]\nforward = \"log\"\n").unwrap();
    let node = Appliance::start_config(&file);
    change(node.dir.path(), 0);
    let (ended_well, log, dir) = node.terminate();
    assert!(ended_well, "{log}");
    let text = std::fs::read_to_string(dir.path().join("audit.log")).unwrap();
    assert!(text.lines().count() >= 8, "{text}");
    for line in text.lines() {
        assert!(log.contains(line), "{line} is not in {log}");
    }
}
