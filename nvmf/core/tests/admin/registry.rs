//! Changes of what is exported.

use crate::lab::*;
use bdev::Geometry;
use nvmf::controller::EndReason;
use nvmf::limits;
use nvmf::namespace::NamespaceConfig;
use nvmf::registry::{DISCOVERY_NQN, RegistryError};
use nvmf::stats::Stats;
use nvmf::subsystem::{ConnectRefusal, Hosts};
use std::collections::BTreeSet;

const OTHER: &str = "nqn.2026-01.example:other-host";

fn namespace(nsid: u32, geometry: Geometry) -> NamespaceConfig {
    NamespaceConfig { nsid, uuid: None, nguid: None, eui64: None, bdev: Sized::new(geometry) }
}

#[test]
fn wrong_configurations_are_refused() {
    let registry = new_registry();
    let good = subsystem_config(NQN, 1..=10);
    let add = |config| registry.add_subsystem(config, START_NS).map(|_| ());
    for (field, config) in [
        ("NQN", subsystem_config("not a name", 1..=10)),
        (
            "serial number",
            nvmf::subsystem::SubsystemConfig { serial: "x".repeat(21), ..good.clone() },
        ),
        ("serial number", nvmf::subsystem::SubsystemConfig { serial: "".into(), ..good.clone() }),
        ("model number", nvmf::subsystem::SubsystemConfig { model: "x\n".into(), ..good.clone() }),
        (
            "firmware revision",
            nvmf::subsystem::SubsystemConfig { firmware: "123456789".into(), ..good.clone() },
        ),
        ("range of controller identifiers", subsystem_config(NQN, 0..=10)),
        ("range of controller identifiers", subsystem_config(NQN, 1..=0xfff0)),
        #[allow(clippy::reversed_empty_ranges)]
        ("range of controller identifiers", subsystem_config(NQN, 9..=8)),
    ] {
        assert!(matches!(add(config), Err(RegistryError::BadField(f, _)) if f == field), "{field}");
    }
    add(good.clone()).unwrap();
    assert_eq!(add(good), Err(RegistryError::SubsystemExists(NQN.into())));
    let taken = subsystem_config(DISCOVERY_NQN, 1..=2);
    assert_eq!(add(taken), Err(RegistryError::SubsystemExists(DISCOVERY_NQN.into())));
}

#[test]
fn wrong_namespaces_are_refused() {
    let lab = Lab::new();
    let add = |nqn, config| lab.registry.add_namespace(nqn, config).map(|_| ());
    let plain = Geometry::plain(512, 8);
    for nsid in [0, limits::NAMESPACES + 1, u32::MAX] {
        assert_eq!(add(NQN, namespace(nsid, plain.clone())), Err(RegistryError::BadNsid(nsid)));
    }
    assert_eq!(add(NQN, namespace(1, plain.clone())), Err(RegistryError::NamespaceExists(1)));
    for bad in [Geometry::plain(520, 8), Geometry::plain(512, 0), Geometry::plain(0, 8)] {
        assert!(matches!(add(NQN, namespace(2, bad)), Err(RegistryError::BadBdev(_))));
    }
    assert_eq!(add(OTHER, namespace(2, plain)), Err(RegistryError::NoSubsystem(OTHER.into())));
    assert_eq!(lab.registry.remove_namespace(NQN, 2).err(), Some(RegistryError::NoNamespace(2)));
    assert_eq!(lab.registry.refresh_namespace(NQN, 2), Err(RegistryError::NoNamespace(2)));
}

#[test]
fn hosts_that_are_not_listed_are_refused() {
    let lab = Lab::new();
    lab.registry.set_hosts(NQN, Hosts::Listed(BTreeSet::from([HOST.into()]))).unwrap();
    assert!(lab.ctrl.is_live(), "its host is on the list");
    let refused = connected_as(&lab.subsystem, association(OTHER)).err();
    assert_eq!(refused, Some(ConnectRefusal::HostNotAllowed));
    lab.registry.add_host(NQN, OTHER).unwrap();
    let ctrl = connected_as(&lab.subsystem, association(OTHER)).unwrap();
    assert_eq!(lab.registry.add_host(NQN, OTHER), Err(RegistryError::HostExists(OTHER.into())));
    lab.registry.remove_host(NQN, OTHER).unwrap();
    assert_eq!(ctrl.ended(), Some(EndReason::HostRemoved));
    assert!(lab.ctrl.is_live());
    assert_eq!(lab.registry.remove_host(NQN, OTHER), Err(RegistryError::NoHost(OTHER.into())));
}

#[test]
fn a_removed_subsystem_ends_its_controllers() {
    let lab = Lab::new();
    let ns = lab.subsystem.namespace(1).unwrap();
    lab.registry.remove_subsystem(NQN).unwrap();
    assert_eq!(lab.ctrl.ended(), Some(EndReason::SubsystemRemoved));
    assert!(ns.is_removed());
    assert!(lab.registry.subsystem(NQN).is_none());
    let late = connected_as(&lab.subsystem, association(HOST)).err();
    assert_eq!(late, Some(ConnectRefusal::Removed));
    assert!(lab.registry.remove_subsystem(NQN).is_err());
    // Discovery refers to the directory, not the other way round: nothing is left behind.
    let subsystem = lab.subsystem.clone();
    drop((lab, ns));
    assert_eq!(std::sync::Arc::strong_count(&subsystem), 1);
}

#[test]
fn shutting_down_ends_everything() {
    let lab = Lab::new();
    let discovery = enabled(lab.registry.discovery());
    lab.registry.shut_down();
    assert_eq!(lab.ctrl.ended(), Some(EndReason::Shutdown));
    assert_eq!(discovery.ended(), Some(EndReason::Shutdown));
    assert!(connected_as(&lab.subsystem, association(HOST)).is_err());
}

#[test]
fn identifiers_run_out_before_anything_else_breaks() {
    let lab = Lab::new();
    let mut ctrls = Vec::new();
    for _ in 0..99 {
        ctrls.push(connected(&lab.subsystem));
    }
    let refused = connected_as(&lab.subsystem, association(HOST)).err();
    assert_eq!(refused, Some(ConnectRefusal::TooManyControllers));
    ctrls[40].end(EndReason::AdminQueueClosed);
    assert_eq!(connected(&lab.subsystem).cntlid(), ctrls[40].cntlid());
}

#[test]
fn queue_pairs_see_that_something_changed() {
    let lab = Lab::new();
    let mut last = lab.subsystem.generation();
    let mut changed = |what: &str| {
        let now = lab.subsystem.generation();
        assert_ne!(now, last, "{what}");
        last = now;
    };
    let ns = add(&lab.registry, 2, Sized::new(Geometry::plain(512, 8)));
    changed("a namespace came");
    ns.set_channel(1, None);
    changed("a channel went");
    ns.set_channel(1, Some(bdev::Addr::channel(4)));
    changed("a channel came");
    assert_eq!(ns.channel(1), Some(bdev::Addr::channel(4)));
    lab.small.0.lock().unwrap().blocks = 1;
    lab.registry.refresh_namespace(NQN, 1).unwrap();
    changed("a namespace was resized");
    lab.registry.remove_namespace(NQN, 2).unwrap();
    changed("a namespace went");
    lab.registry.set_ana_state(NQN, nvme_spec::log::AnaState::Inaccessible).unwrap();
    changed("another way to reach the namespaces");
}

#[test]
fn statistics_add_up() {
    let lab = Lab::new();
    lab.ctrl.claim_queue(1, 128, 2).unwrap();
    lab.ctrl.queue_counters(1).reads.add(3);
    lab.subsystem.namespace(1).unwrap().counters(2).reads.add(3);
    let stats = Stats::read(&lab.registry);
    assert_eq!(stats.subsystems.len(), 2);
    let subsystem = &stats.subsystems[0];
    assert_eq!((subsystem.nqn.as_str(), subsystem.total.reads), (NQN, 3));
    assert_eq!(subsystem.namespaces[0].reactors[2].reads, 3);
    let controller = &subsystem.controllers[0];
    assert_eq!((controller.queues.len(), controller.ready), (2, true));
    assert_eq!((controller.queues[1].queue.qid, controller.queues[1].queue.reactor), (1, 2));
    assert_eq!(stats.hosts()[HOST].reads, 3);
    assert_eq!(stats.io_by_reactor()[2].reads, 3);
    assert_eq!(stats.reactors.len(), REACTORS);
}

#[test]
fn no_two_namespaces_have_one_name() {
    let lab = Lab::new();
    let second = "nqn.2026-01.example:second";
    lab.registry.add_subsystem(subsystem_config(second, 1..=10), START_NS).unwrap();
    let plain = || namespace(2, Geometry::plain(512, 8));
    let ids = *lab.subsystem.namespace(1).unwrap().ids();
    for (name, config) in [
        ("UUID", NamespaceConfig { uuid: Some(ids.uuid), ..plain() }),
        ("NGUID", NamespaceConfig { nguid: Some(ids.nguid), ..plain() }),
        ("UUID", NamespaceConfig { uuid: Some([0; 16]), ..plain() }),
        ("NGUID", NamespaceConfig { nguid: Some([0; 16]), ..plain() }),
        ("EUI-64", NamespaceConfig { eui64: Some([0; 8]), ..plain() }),
    ] {
        for nqn in [NQN, second] {
            let refused = lab.registry.add_namespace(nqn, config.clone()).err();
            assert!(matches!(refused, Some(RegistryError::BadField(n, _)) if n == name), "{name}");
        }
    }
    let with_eui64 = NamespaceConfig { eui64: Some([1; 8]), ..plain() };
    lab.registry.add_namespace(NQN, with_eui64.clone()).unwrap();
    let refused = lab.registry.add_namespace(second, with_eui64).err();
    assert!(matches!(refused, Some(RegistryError::BadField("EUI-64", _))));
    // The same names again, once they are free.
    lab.registry.remove_namespace(NQN, 1).unwrap();
    lab.registry.add_namespace(NQN, namespace(1, Geometry::plain(512, 8))).unwrap();
}

#[test]
fn hosts_are_known_by_names_that_can_be_sent() {
    let lab = Lab::new();
    lab.registry.set_hosts(NQN, Hosts::Listed(BTreeSet::new())).unwrap();
    let long = "x".repeat(224);
    for name in ["", "a\0b", &long] {
        assert!(matches!(lab.registry.add_host(NQN, name), Err(RegistryError::BadField(..))));
        let hosts = Hosts::Listed(BTreeSet::from([name.into()]));
        assert!(matches!(lab.registry.set_hosts(NQN, hosts), Err(RegistryError::BadField(..))));
    }
}

#[test]
fn changes_from_many_threads_are_all_there() {
    let lab = Lab::new();
    lab.registry.set_hosts(NQN, Hosts::Listed(BTreeSet::new())).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let registry = &lab.registry;
            scope.spawn(move || {
                for n in 0..50 {
                    registry.add_host(NQN, &format!("host-{thread}-{n}")).unwrap();
                }
            });
        }
    });
    assert!(matches!(lab.subsystem.hosts(), Hosts::Listed(nqns) if nqns.len() == 200));
}
