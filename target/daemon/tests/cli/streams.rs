//! `forebay events`.

use crate::rig::Rig;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

/// A command that goes on; ended when dropped.
struct Following(Child);

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn follow(rig: &Rig, args: &[&str]) -> (Following, impl Iterator<Item = String> + use<>) {
    let mut child = rig.command(args).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (Following(child), lines.map(|line| line.expect("text")))
}

#[test]
fn events_are_shown_as_they_happen() {
    let rig = Rig::furnished();
    // From the oldest on, so that nothing happens before the stream is open.
    let (_following, mut lines) = follow(&rig, &["events", "--follow", "--after", "0"]);
    assert!(lines.next().expect("a first event").contains("created"));
    rig.good(&["volume", "create", "tank/new", "1GiB"]);
    assert!(lines.any(|line| line.contains("created") && line.contains("volume tank/new")));
}

#[test]
fn programs_get_one_event_a_line() {
    let rig = Rig::furnished();
    let (_following, lines) = follow(&rig, &["events", "--follow", "--after", "0", "--json"]);
    for line in lines.take(3) {
        let event: webui_model::Event = serde_json::from_str(&line).expect("an event");
        assert!(event.id >= 1_000);
    }
}

#[test]
fn recent_events_are_a_table() {
    let rig = Rig::furnished();
    let said = rig.good(&["events"]);
    let first = said.lines().next().unwrap();
    assert!(first.starts_with("when") && first.ends_with("what happened"), "{said}");
    assert!(said.contains("volume tank/a"), "{said}");
    assert_eq!(rig.good(&["events", "--limit", "2"]).lines().count(), 3);
    let json = rig.good(&["events", "--limit", "2", "--json"]);
    assert_eq!(json, format!("{}\n", rig.get("/api/v1/events?limit=2")));
    assert!(rig.run(&["events", "--limit", "0"]).code == 2);
}
