//! Killed while a volume is being made: afterwards there is a volume with its export, or neither.

use crate::appliance::{Appliance, PATIENCE};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A pool's device that takes its time to write, so that a making lasts long enough to be hit.
fn configuration(dir: &Path) -> String {
    format!(
        r#"
[reactors]
memory = "32MiB"
[[bdev]]
name = "file"
kind = "file"
path = "{}"
size = "128MiB"
[[bdev]]
name = "slow"
kind = "delay"
base = "file"
write_us = 60000
[[bdev]]
name = "ram"
kind = "ram"
size = "1MiB"
[[subsystem]]
nqn = "nqn.2026-01.org.example:test"
allow_any_host = true
[[subsystem.namespace]]
bdev = "ram"
"#,
        dir.join("disk.img").display()
    )
}

fn shown(node: &Appliance, args: &[&str]) -> Value {
    let output = node.ask(&[args, &["--json"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Begins to make a volume, and kills the appliance `after` its name was written down.
fn cut_short(node: Appliance, volume: &str, after: Duration) -> TempDir {
    let mut making = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["volume", "create", volume, "8MiB", "--allow-any-host", "--data-dir"])
        .arg(node.dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let state = node.dir.path().join("wanted.log");
    let until = Instant::now() + PATIENCE;
    let own = format!(":{}\"", volume.replace('/', ":"));
    while !std::fs::read_to_string(&state).is_ok_and(|text| text.contains(&own)) {
        assert!(Instant::now() < until, "{volume} was never written down");
        std::thread::sleep(Duration::from_micros(200));
    }
    std::thread::sleep(after);
    let (dir, _) = node.kill();
    // It says that nobody answers any more, or that it was done just in time.
    making.wait().unwrap();
    dir
}

#[test]
fn a_volume_that_is_cut_short_in_its_making_is_exported_or_not_there() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("forebay.toml");
    std::fs::write(&file, configuration(files.path())).unwrap();
    let mut node = Appliance::start_config(&file);
    shown(&node, &["pool", "create", "tank", "slow"]);
    for round in 0..6_u8 {
        let volume = format!("tank/v{round}");
        let dir = cut_short(node, &volume, Duration::from_millis(u64::from(round) * 70));
        node = Appliance::start_config_in(dir, &file);
        let volumes = shown(&node, &["volume", "list"]);
        let volumes = volumes["items"].as_array().expect("a list");
        assert!(volumes.len() <= usize::from(round) + 1, "{volumes:?}");
        let exported = volumes.iter().filter(|volume| volume["export"]["allow_any_host"] == true);
        assert_eq!(exported.count(), volumes.len(), "round {round}: {volumes:?}");
        let subsystems = shown(&node, &["subsystem", "list"]);
        let subsystems = subsystems["items"].as_array().expect("a list").len();
        assert_eq!(subsystems, volumes.len() + 1, "one each, and the configured one");
        // The same again makes it so, whatever was left of it.
        shown(&node, &["volume", "create", &volume, "8MiB", "--allow-any-host"]);
        assert_eq!(shown(&node, &["volume", "show", &volume])["export"]["nsid"], 1);
    }
}

/// What was made before it is noted would be there afterwards, and nobody would know how it is to be
/// exported. A kill right after the note comes before the volume is made, unless this machine has no
/// time for the test; then another volume is tried.
#[test]
fn nothing_is_made_before_it_is_written_down() {
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("forebay.toml");
    std::fs::write(&file, configuration(files.path())).unwrap();
    let mut node = Appliance::start_config(&file);
    shown(&node, &["pool", "create", "tank", "slow"]);
    for round in 0..8 {
        let volume = format!("tank/v{round}");
        let dir = cut_short(node, &volume, Duration::ZERO);
        node = Appliance::start_config_in(dir, &file);
        let volumes = shown(&node, &["volume", "list"]);
        if volumes["items"].as_array().expect("a list").len() == round {
            shown(&node, &["volume", "create", &volume, "8MiB", "--allow-any-host"]);
            let export = &shown(&node, &["volume", "show", &volume])["export"];
            assert_eq!(export["allow_any_host"], true);
            return;
        }
    }
    panic!("each volume was there by the time that it was written down");
}
