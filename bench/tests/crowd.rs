//! Eight hosts that misbehave, and one whose commands all end.

use std::process::Command;

use bench::misbehaving::{Manner, Misbehaving, Victim};
use node::Node;
use node::config::Config;

const NQN: &str = "nqn.2026-01.org.example:crowd";
const BYTES: u64 = 64 << 20;

/// A target with a file and so little memory that one host could take all of it.
fn target(dir: &std::path::Path) -> (std::sync::Arc<Node>, String) {
    std::fs::create_dir(dir.join("data")).expect("a folder");
    let text = format!(
        "data_dir = {:?}
        [reactors]
        poll = \"adaptive\"
        memory = \"32MiB\"
        [[bdev]]
        name = \"file\"
        kind = \"file\"
        path = {:?}
        size = \"{BYTES}\"
        block = 4096
        [[subsystem]]
        nqn = \"{NQN}\"
        allow_any_host = true
        [[subsystem.namespace]]
        bdev = \"file\"
        nsid = 1
        [[listener]]
        address = \"127.0.0.1:0\"
        ",
        dir.join("data"),
        dir.join("disk")
    );
    let node = Node::start(Config::from_text(&text).expect("configuration")).expect("target");
    let address = node.listening().first().expect("a listener").0.to_string();
    (node, address)
}

#[test]
fn every_command_ends_beside_eight_that_misbehave() {
    let dir = tempfile::tempdir().expect("a directory");
    let (node, address) = target(dir.path());
    let victim = Victim {
        address: address.parse().expect("an address"),
        nqn: NQN.to_owned(),
        block_bytes: 4096,
        blocks: BYTES / 4096,
    };
    let hosts = Misbehaving::start(&victim, &Manner::EIGHT);
    hosts.all_at_it().expect("eight hosts");
    for shape in [
        ["--op", "write", "--payload", "1048576", "--depth", "4", "--ios", "60"],
        ["--op", "read", "--payload", "262144", "--depth", "8", "--ios", "200"],
        ["--op", "read", "--payload", "4096", "--depth", "32", "--ios", "500"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_bench"))
            .args(["forebay-load", "--core", "0", "--address", &address, "--nqn", NQN])
            .args(shape)
            .output()
            .expect("load");
        assert!(output.status.success(), "{shape:?}: {output:?}");
    }
    assert!(hosts.under_way() > 0, "they are still at it");
    drop(hosts);
    node.stop().expect("stop");
}
