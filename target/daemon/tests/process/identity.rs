//! A pool is open once, on the devices that it had: copies of them, moved ones, two processes, and
//! kill -9, with writes that were answered and not flushed.

use crate::appliance::{Appliance, eventually};
use crate::host::Host;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;

const RAM: [&str; 2] = ["--ram", "1MiB"];
const NQN: &str = "nqn.2026-01.io.forebay:tank:v";
const MIB: u64 = 1 << 20;

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn good(node: &Appliance, args: &[&str]) -> String {
    let output = node.ask(args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    said(&output)
}

fn refused(node: &Appliance, args: &[&str]) -> String {
    let output = node.ask(args);
    assert!(!output.status.success(), "{args:?} was taken: {}", said(&output));
    said(&output)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// A folder of devices that outlives every appliance, and one with a pool on `disk.img` in it.
fn tank() -> (TempDir, Appliance) {
    let files = tempfile::tempdir().unwrap();
    let disk = files.path().join("disk.img");
    std::fs::File::create(&disk).unwrap().set_len(64 * MIB).unwrap();
    let node = Appliance::start(&RAM);
    good(&node, &["pool", "create", "tank", text(&disk)]);
    good(&node, &["volume", "create", "tank/v", "16MiB", "--allow-any-host"]);
    (files, node)
}

/// Writes that are answered, and not flushed.
fn write(node: &Appliance, seed: u64, mib: std::ops::Range<u64>) {
    let mut host = Host::connect(node.address, NQN, 1);
    let bytes = (mib.end - mib.start) * MIB;
    let (written, status) = host.fill(seed, mib.start * MIB, bytes);
    assert!(written == bytes && status.is_success(), "{status}");
    host.end();
}

fn verify(node: &Appliance, seed: u64, mib: std::ops::Range<u64>) {
    let mut host = Host::connect(node.address, NQN, 1);
    host.verify(seed, mib.start * MIB, (mib.end - mib.start) * MIB);
    host.end();
}

fn copy(files: &TempDir, from: &str, to: &str) -> PathBuf {
    let to = files.path().join(to);
    std::fs::copy(files.path().join(from), &to).unwrap();
    to
}

fn is_served(node: &Appliance) -> bool {
    let shown = good(node, &["pool", "show", "tank", "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    shown["status"] == "ok"
}

/// Kills an appliance, and starts it again.
fn killed(node: Appliance) -> Appliance {
    let (dir, address) = node.kill();
    Appliance::start_in(dir, &address, &RAM)
}

#[test]
fn a_copy_of_a_live_pool_is_left_alone() {
    let (files, node) = tank();
    write(&node, 1, 0..8);
    let copy = copy(&files, "disk.img", "copy.img");
    good(&node, &["device", "attach", text(&copy)]);
    write(&node, 2, 8..16);
    let why = refused(&node, &["pool", "import"]);
    assert!(why.contains("is imported already, on disk.img") && why.contains("copy.img"), "{why}");
    for device in ["copy.img", text(&copy)] {
        let why = refused(&node, &["pool", "import", "tank", "--device", device]);
        assert!(why.contains("is none of its devices"), "{why}");
        let why = refused(&node, &["pool", "import", "--device", device]);
        assert!(why.contains("is imported already"), "{why}");
    }
    assert!(good(&node, &["pool", "importable"]).contains("copy of pool tank"));
    // The one that it had is used, whichever is looked at first.
    let node = killed(node);
    verify(&node, 1, 0..8);
    verify(&node, 2, 8..16);
    let shown = good(&node, &["pool", "show", "tank", "--json"]);
    assert!(shown.contains("disk.img") && !shown.contains("copy.img"), "{shown}");
}

#[test]
fn a_copy_does_not_take_the_place_of_a_device_that_is_away() {
    let (files, node) = tank();
    write(&node, 1, 0..8);
    let copy = copy(&files, "disk.img", "a-copy.img");
    good(&node, &["device", "attach", text(&copy)]);
    write(&node, 2, 8..16);
    let (dir, address) = node.kill();
    let (disk, away) = (files.path().join("disk.img"), files.path().join("away"));
    std::fs::rename(&disk, &away).unwrap();
    let node = Appliance::start_in(dir, &address, &RAM);
    assert!(!is_served(&node));
    let alerts = good(&node, &["alerts"]);
    assert!(alerts.contains("disk.img") && alerts.contains("a-copy.img"), "{alerts}");
    // What the killed process had answered is not taken for what is on the copy.
    let why = refused(&node, &["pool", "import", "tank", "--device", text(&copy)]);
    assert!(why.contains("device a-copy.img is not the one that it had"), "{why}");
    std::fs::rename(&away, &disk).unwrap();
    eventually("the pool is back", || is_served(&node));
    verify(&node, 1, 0..8);
    verify(&node, 2, 8..16);
}

#[test]
fn a_device_that_was_moved_is_the_same() {
    let (files, node) = tank();
    let mut host = Host::connect(node.address, NQN, 1);
    host.write(2, 0, 4 * MIB);
    host.end();
    write(&node, 1, 4..12);
    let (dir, address) = node.kill();
    let moved = files.path().join("moved.img");
    std::fs::rename(files.path().join("disk.img"), &moved).unwrap();
    let node = Appliance::start_in(dir, &address, &RAM);
    good(&node, &["device", "attach", text(&moved)]);
    assert!(is_served(&node));
    verify(&node, 2, 0..4);
    verify(&node, 1, 4..12);
    let mut host = Host::connect(node.address, NQN, 1);
    host.is_zero(12 * MIB, 4 * MIB);
    host.end();
}

#[test]
fn two_processes_do_not_have_one_pool() {
    let (files, one) = tank();
    let two = Appliance::start(&RAM);
    write(&one, 1, 0..8);
    let copy = copy(&files, "disk.img", "copy.img");
    write(&one, 2, 8..16);
    let import = ["pool", "import", "--device", text(&copy)];
    let forced = ["pool", "import", "--force", "--device", text(&copy)];
    let why = refused(&two, &import);
    assert!(why.contains("is open already on this machine"), "{why}");
    refused(&two, &forced);
    // Nor the device itself, by another name.
    let link = files.path().join("link.img");
    std::fs::hard_link(files.path().join("disk.img"), &link).unwrap();
    let why = refused(&two, &["pool", "create", "other", "--force", "--yes", text(&link)]);
    assert!(why.contains("is in use by another"), "{why}");

    let (dir, address) = one.kill();
    let why = refused(&two, &import);
    assert!(why.contains("A process that was killed had answered writes"), "{why}");
    good(&two, &forced);
    good(&two, &["volume", "export", "tank/v", "--allow-any-host"]);
    write(&two, 3, 0..16);
    // As long as the copy is open, the pool is.
    let one = Appliance::start_in(dir, &address, &RAM);
    assert!(!is_served(&one));
    good(&two, &["pool", "export", "tank", "--yes"]);
    eventually("the pool is back", || is_served(&one));
    verify(&one, 1, 0..8);
    verify(&one, 2, 8..16);
    // What was written to the copy is in the copy.
    good(&one, &["pool", "export", "tank", "--yes"]);
    good(&two, &import);
    verify(&two, 3, 0..16);
}

#[test]
fn a_second_process_leaves_a_data_directory_as_it_is() {
    let node = Appliance::start(&RAM);
    let dir = node.dir.path();
    let before = std::fs::read_to_string(dir.join("api.url")).unwrap();
    let flags = ["serve", "--data-dir", text(dir), "--ram", "1MiB", "--memory", "32MiB"];
    let ports = ["--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"];
    let why = crate::appliance::refusal(&[&flags[..], &ports[..]].concat());
    assert!(why.contains("is in use by another forebay"), "{why}");
    assert!(why.contains(&node.pid().to_string()), "{why}");
    assert_eq!(std::fs::read_to_string(dir.join("api.url")).unwrap(), before);
    good(&node, &["status"]);
}
