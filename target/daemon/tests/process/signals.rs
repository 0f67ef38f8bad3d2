//! Signals: ends in order, files that are read again, and those that mean nothing.

use crate::appliance::{Appliance, NQN, eventually};
use std::fs;
use std::process::{Command, Output};

fn signal(node: &Appliance, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &node.pid().to_string()]).status();
    assert!(sent.unwrap().success(), "{name}");
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn signals_that_mean_nothing_do_nothing() {
    let mut node = Appliance::start(&["--ram", "16MiB"]);
    for name in ["USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "XCPU", "XFSZ", "34", "64"] {
        signal(&node, name);
    }
    signal(&node, "HUP");
    eventually("HUP is answered", || text(&node.ask(&["events"])).contains("was read again"));
    assert!(node.is_up());
    assert!(node.io(&["write", "--seed", "1"]).status.success());
    signal(&node, "QUIT");
    let (ended_well, log, _) = node.terminate();
    assert!(ended_well && log.contains("stopped"), "{log}");
}

fn configuration(hosts: &str, memory: &str) -> String {
    format!(
        r#"
[reactors]
memory = "{memory}"
[[bdev]]
name = "ram"
kind = "ram"
size = "16MiB"
[[subsystem]]
nqn = "{NQN}"
{hosts}
[[subsystem.namespace]]
bdev = "ram"
"#
    )
}

#[test]
fn hup_takes_over_who_may_connect_and_says_what_has_to_wait() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("forebay.toml");
    let write = |hosts: &str, memory: &str| fs::write(&file, configuration(hosts, memory)).unwrap();
    write("allow_any_host = true", "32MiB");
    let node = Appliance::start_config(&file);
    assert!(node.io(&["read"]).status.success());
    write("hosts = [\"nqn.2026-01.org.example:other\"]", "32MiB");
    signal(&node, "HUP");
    let events = |says: &str| text(&node.ask(&["events"])).contains(says);
    eventually("the file is read", || events(&format!("who may connect has changed for {NQN}")));
    assert!(!node.io(&["read"]).status.success(), "not listed any more");
    write("allow_any_host = true", "64MiB");
    signal(&node, "HUP");
    eventually("the rest waits", || events("Changes of reactors take effect at the next start"));
    assert!(node.io(&["read"]).status.success());
    write("", "64MiB");
    signal(&node, "HUP");
    eventually("what is wrong is said", || events("stays as it was"));
    assert!(node.io(&["read"]).status.success());
}
