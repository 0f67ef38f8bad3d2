//! The load generator against a running target, every byte verified, and shown to notice wrong
//! data.

use std::process::{Command, Output};

use node::Node;
use node::config::Config;

const NQN: &str = "nqn.2026-01.org.example:load";

/// A target with two namespaces of 8 MiB: memory, and one that forgets what is written to it.
fn target(data_dir: &std::path::Path) -> (std::sync::Arc<Node>, String) {
    let text = format!(
        "data_dir = {data_dir:?}
        [reactors]
        poll = \"adaptive\"
        memory = \"16MiB\"
        [[bdev]]
        name = \"keeps\"
        kind = \"ram\"
        size = \"8MiB\"
        [[bdev]]
        name = \"forgets\"
        kind = \"null\"
        size = \"8MiB\"
        [[subsystem]]
        nqn = \"{NQN}\"
        allow_any_host = true
        [[subsystem.namespace]]
        bdev = \"keeps\"
        nsid = 1
        [[subsystem.namespace]]
        bdev = \"forgets\"
        nsid = 2
        [[listener]]
        address = \"127.0.0.1:0\"
        "
    );
    let node = Node::start(Config::from_text(&text).expect("configuration")).expect("target");
    let address = node.listening().first().expect("a listener").0.to_string();
    (node, address)
}

fn load(address: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["forebay-load", "--core", "0", "--check", "--address", address, "--nqn", NQN])
        .args(args)
        .output()
        .expect("load")
}

#[test]
fn data_are_right_after_writes_and_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    let (node, address) = target(dir.path());
    // The writes come first: they expect a namespace of zeros.
    for shape in [
        ["--op", "write", "--payload", "4096", "--depth", "32", "--connections", "2"],
        ["--op", "read", "--payload", "131072", "--depth", "4", "--connections", "1"],
        ["--op", "read", "--payload", "4096", "--depth", "1", "--connections", "4"],
    ] {
        let output = load(&address, &[&shape[..], &["--ios", "300"]].concat());
        assert!(output.status.success(), "{shape:?}: {output:?}");
        let sample: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a sample");
        assert!(sample["ios"].as_u64().expect("a count") >= 300, "{sample}");
    }
    node.stop().expect("stop");
}

#[test]
fn data_that_were_not_kept_are_noticed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (node, address) = target(dir.path());
    for op in ["read", "write"] {
        let output = load(&address, &["--nsid", "2", "--op", op, "--ios", "300"]);
        assert!(!output.status.success(), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("wrong data"), "{said}");
    }
    node.stop().expect("stop");
}

#[test]
fn a_payload_that_is_no_block_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let (node, address) = target(dir.path());
    let output = load(&address, &["--payload", "512"]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("multiple of the namespace's 4096 bytes"), "{said}");
    node.stop().expect("stop");
}
