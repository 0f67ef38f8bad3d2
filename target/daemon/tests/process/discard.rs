//! The files of a pool get smaller, and an operator sees and says so.

use crate::appliance::{Appliance, eventually, forebay};
use std::os::unix::fs::MetadataExt;
use std::process::Output;

fn good(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// MiB that a file takes.
fn taken(path: &str) -> u64 {
    std::fs::metadata(path).unwrap().blocks() >> 11
}

fn io(node: &Appliance, action: &str, volume: &str, seed: &str) {
    let nqn = format!("nqn.2026-01.io.forebay:tank:{volume}");
    good(&forebay(&["io", action, &node.address(), "--nqn", &nqn, "--seed", seed]));
}

#[test]
fn a_file_gets_smaller_also_where_the_process_was_killed_on_the_way() {
    let node = Appliance::start(&["--ram", "1MiB"]);
    let path = node.dir.path().join("a.img");
    std::fs::File::create(&path).unwrap().set_len(512 << 20).unwrap();
    let path = path.to_str().unwrap();
    good(&node.ask(&["pool", "create", "tank", path, "--discard", "off"]));
    for (volume, size) in [("tank/v", "96MiB"), ("tank/kept", "16MiB")] {
        good(&node.ask(&["volume", "create", volume, size, "--allow-any-host"]));
    }
    io(&node, "write", "v", "3");
    io(&node, "write", "kept", "4");
    assert!(taken(path) >= 112, "{}", taken(path));
    good(&node.ask(&["volume", "delete", "tank/v", "--yes"]));
    // Nothing was given back so far, and nobody remembers what was deleted.
    let said = good(&node.ask(&["pool", "discard", "tank"]));
    assert!(said.contains("discard  off") && said.contains("switched off"), "{said}");
    let (dir, address) = node.kill();
    let moved = dir.path().join("a.img");
    let path = moved.to_str().unwrap();
    let node = Appliance::start_in(dir, &address, &["--ram", "1MiB"]);
    assert!(taken(path) >= 112, "{}", taken(path));
    let said = good(&node.ask(&["pool", "discard", "tank", "auto"]));
    assert!(said.contains("discard  auto") && said.contains("its file is sparse"), "{said}");
    eventually("a smaller file", || taken(path) <= 24);
    eventually("it is told", || {
        let shown = good(&node.ask(&["pool", "show", "tank", "--json"]));
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let discard = &shown["devices"][0]["discard"];
        discard["on"] == true
            && discard["waiting_bytes"] == 0
            && discard["discarded_bytes"].as_u64().unwrap() >= 96 << 20
    });
    let shown = good(&node.ask(&["pool", "show", "tank"]));
    assert!(shown.contains("given back") && shown.contains("waiting"), "{shown}");
    io(&node, "verify", "kept", "4");
    // Killed while it discards, again and again, it has what is there.
    let (mut dir, mut address) = node.kill();
    for seed in 5..9 {
        let node = Appliance::start_in(dir, &address, &["--ram", "1MiB"]);
        io(&node, "verify", "kept", "4");
        let seed = seed.to_string();
        good(&node.ask(&["volume", "create", "tank/v", "64MiB", "--allow-any-host"]));
        io(&node, "write", "v", &seed);
        io(&node, "verify", "v", &seed);
        good(&node.ask(&["volume", "delete", "tank/v", "--yes"]));
        (dir, address) = node.kill();
    }
    let node = Appliance::start_in(dir, &address, &["--ram", "1MiB"]);
    let path = node.dir.path().join("a.img");
    eventually("a smaller file again", || taken(path.to_str().unwrap()) <= 24);
    io(&node, "verify", "kept", "4");
    let (ended_well, log, _) = node.terminate();
    assert!(ended_well, "{log}");
}
