//! Hosts that are refused: an operator finds out which, from where, and why.

use crate::appliance::{Appliance, at, host, name, new_volume};
use crate::host::{Host, options};
use webui_model::{
    Control, Event, EventKind, ExportSet, ObjectKind, Severity, Status, VolumeCreate,
};

const MIB: u64 = 1 << 20;

fn nqn_of(id: u8) -> String {
    nvmf_host::Host::of_id([id; 16]).nqn.as_str().to_owned()
}

/// What was told of refusals so far.
fn told(node: &dyn Control) -> Vec<Event> {
    let events = node.event_log().newest(1000).items;
    events.into_iter().filter(|event| event.kind == EventKind::Refused).collect()
}

#[test]
fn a_host_that_is_not_listed_is_told_of_with_its_address_and_the_reason() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 64 * MIB);
    let closed = VolumeCreate { allow_any_host: false, ..new_volume("v", 8 * MIB) };
    let volume = node.create_volume(&name("tank"), closed).unwrap().into_inner();
    let own = volume.export.unwrap().subsystem;
    let stranger = host(&nqn_of(1));
    let connect = |nqn: &str| Host::with(options(node.address, nqn, 1), 1).err();
    (0..5).for_each(|_| assert!(connect(own.as_str()).is_some()));
    node.eventually("it is told of", |node| !told(node).is_empty());
    let event = told(&*node).remove(0);
    assert_eq!((event.severity, event.object.kind), (Severity::Warning, ObjectKind::Host));
    assert_eq!(event.object.name, stranger.as_str());
    for part in ["127.0.0.1", "not among the hosts that may connect", own.as_str(), "host add"] {
        assert!(event.message.contains(part), "{}", event.message);
    }

    let shown = node.host(&stranger).unwrap();
    assert_eq!((shown.status, shown.controllers), (Status::Offline, 0));
    assert!(shown.reason.contains("it was refused"), "{}", shown.reason);
    let last = shown.last_refusal.unwrap();
    assert_eq!((last.count, last.subsystem.as_deref()), (5, Some(own.as_str())));
    assert_eq!(last.address, "127.0.0.1");

    // Of what goes on there is one event a minute; another reason is another one.
    assert!(connect("nqn.2026-01.org.example:nowhere").is_some());
    node.eventually("the other reason", |node| {
        told(node).iter().any(|event| event.message.contains("a subsystem that is not there"))
    });
    assert!(told(&*node).len() <= 3, "{:?}", told(&*node));

    // Once it is let in, it is as any other, and what was stays known.
    let one = ExportSet { hosts: vec![stranger.clone()], ..ExportSet::default() };
    node.export_volume(&at("tank", "v"), one).unwrap();
    let connected = Host::with(options(node.address, own.as_str(), 1), 1).unwrap();
    let shown = node.host(&stranger).unwrap();
    assert_eq!((shown.status, shown.controllers), (Status::Ok, 1));
    assert!(shown.last_refusal.is_some());
    connected.end();
}
