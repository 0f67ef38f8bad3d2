//! What is exported: what somebody has asked for, and nothing else.

use crate::appliance::{Appliance, NQN, forebay, refusal};

fn text(node: &Appliance, args: &[&str]) -> String {
    let output = node.ask(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn who_asks_for_nothing_exports_nothing() {
    let node = Appliance::start(&[]);
    assert_eq!(text(&node, &["subsystem", "list", "--json"]).trim(), r#"{"items":[]}"#);
    assert!(!node.dir.path().join("disk0.img").exists());
    let listed = forebay(&["discover", &node.address()]);
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(!listed.contains("nqn.2026-01"), "{listed}");
    for flags in [&["--nqn", NQN][..], &["--host", NQN]] {
        let why = refusal(&[&["serve"][..], flags].concat());
        assert!(why.contains("--ram") && why.contains("--demo"), "of what? {why}");
    }
}

#[test]
fn what_is_to_be_tried_is_for_this_machine() {
    let node = Appliance::start(&["--demo"]);
    assert!(node.io(&["read", "--length", "1MiB"]).status.success());
    assert!(node.dir.path().join("disk0.img").exists());
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let place = ["serve", "--demo", "--data-dir", data.to_str().unwrap()];
    let why = refusal(&[&place[..], &["--listen", "0.0.0.0:0"]].concat());
    assert!(why.contains("loopback only") && why.contains("0.0.0.0:0"), "{why}");
    assert!(!data.exists(), "it is said before anything is made");
}
