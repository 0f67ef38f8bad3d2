//! The discovery log: who sees what, and how it is read.

use crate::lab::*;
use nvme_spec::Fabric;
use nvme_spec::Status;
use nvme_spec::log::{GetLogPage, lid};
use nvmf::controller::{Association, Controller};
use nvmf::registry::{DISCOVERY_NQN, Listener, Registry, Serves};
use nvmf::subsystem::{ConnectRefusal, Hosts, Subsystem};
use nvmf_wire::discovery::{AdrFam, Log, SubType, TrType, eflags};
use std::collections::BTreeSet;
use std::sync::Arc;

const OTHER: &str = "nqn.2026-01.example:other-host";
const SECOND: &str = "nqn.2026-01.example:second";

fn listener(addr: &str, port_id: u16, serves: Serves) -> Listener {
    let addr = addr.parse().unwrap();
    Listener { fabric: Fabric::Tcp, addr, only_ipv6: false, port_id, serves }
}

fn controller(registry: &Registry, host: &str, local: &str) -> Arc<Controller> {
    let association = Association { local: local.parse().unwrap(), ..association(host) };
    let ctrl = connected_as(registry.discovery(), association).unwrap();
    enable(&ctrl);
    ctrl
}

/// Subsystem type, NQN and address of each entry.
fn seen(ctrl: &Controller) -> Vec<(SubType, String, String)> {
    let data = send(ctrl, &log_page(lid::DISCOVERY, 64 << 10), &[]).ok().data;
    let log = Log::parse(&data).unwrap();
    let record = |entry: &nvmf_wire::discovery::Entry| {
        let record = entry.record().unwrap();
        assert_eq!((record.trtype, record.cntlid), (TrType::Tcp, 0xffff));
        assert!(record.asqsz >= 32);
        let address = match record.adrfam {
            AdrFam::Ipv4 => format!("{}:{}", record.traddr, record.trsvcid),
            _ => format!("[{}]:{}", record.traddr, record.trsvcid),
        };
        (record.subtype, record.subnqn.as_str().to_owned(), address)
    };
    log.entries().iter().map(record).collect()
}

fn nvm(nqn: &str, addr: &str) -> (SubType, String, String) {
    (SubType::Nvm, nqn.into(), addr.into())
}

fn current(addr: &str) -> (SubType, String, String) {
    (SubType::Current, "nqn.2026-01.example:discovery".into(), addr.into())
}

#[test]
fn hosts_see_what_they_may_connect_to() {
    let lab = Lab::new();
    lab.registry.add_subsystem(subsystem_config(SECOND, 1..=100), START_NS).unwrap();
    lab.registry.add_listener(listener("192.0.2.1:4420", 1, Serves::Everything));
    lab.registry.add_listener(listener("192.0.2.1:8009", 2, Serves::Discovery));
    lab.registry.set_hosts(NQN, Hosts::Listed(BTreeSet::from([HOST.into()]))).unwrap();
    let here = [current("192.0.2.1:4420"), current("192.0.2.1:8009")];
    let ctrl = controller(&lab.registry, HOST, "192.0.2.1:8009");
    let mut expected = vec![nvm(SECOND, "192.0.2.1:4420"), nvm(NQN, "192.0.2.1:4420")];
    expected.extend(here.clone());
    assert_eq!(seen(&ctrl), expected);
    let other = controller(&lab.registry, OTHER, "192.0.2.1:8009");
    expected.remove(1);
    assert_eq!(seen(&other), expected);
    lab.registry.add_host(NQN, OTHER).unwrap();
    assert!(seen(&other).contains(&nvm(NQN, "192.0.2.1:4420")));
    lab.registry.remove_subsystem(SECOND).unwrap();
    assert!(!seen(&other).contains(&nvm(SECOND, "192.0.2.1:4420")));
}

#[test]
fn an_unspecified_address_is_told_as_the_one_in_use() {
    let lab = Lab::new();
    lab.registry.add_listener(listener("0.0.0.0:4420", 1, Serves::Everything));
    lab.registry.add_listener(listener("[::]:4421", 2, Serves::Everything));
    let four = controller(&lab.registry, HOST, "198.51.100.7:8009");
    assert!(seen(&four).contains(&nvm(NQN, "198.51.100.7:4420")));
    assert!(seen(&four).contains(&nvm(NQN, "198.51.100.7:4421")), "both families listen there");
    let six = controller(&lab.registry, HOST, "[2001:db8::7]:8009");
    let found = seen(&six);
    assert_eq!(found, [nvm(NQN, "[2001:db8::7]:4421"), current("[2001:db8::7]:4421")]);
    let mapped = controller(&lab.registry, HOST, "[::ffff:198.51.100.7]:8009");
    assert_eq!(seen(&mapped), seen(&four));
}

#[test]
fn one_on_every_ipv6_address_alone_is_not_told_to_ipv4() {
    let lab = Lab::new();
    let only_ipv6 =
        |addr: &str| Listener { only_ipv6: true, ..listener(addr, 1, Serves::Everything) };
    lab.registry.add_listener(only_ipv6("[::]:4420"));
    lab.registry.add_listener(listener("0.0.0.0:8009", 2, Serves::Discovery));
    let four = controller(&lab.registry, HOST, "198.51.100.7:8009");
    assert_eq!(seen(&four), [current("198.51.100.7:8009")]);
    let six = controller(&lab.registry, HOST, "[2001:db8::7]:4420");
    assert!(seen(&six).contains(&nvm(NQN, "[2001:db8::7]:4420")));
}

#[test]
fn an_address_has_its_share_of_the_discovery_controllers() {
    let lab = Lab::new();
    let from = |peer: &str| {
        let association = Association { peer: peer.parse().unwrap(), ..association(HOST) };
        connected_as(lab.registry.discovery(), association)
    };
    let held: Vec<_> = (0..16).map(|port| from(&format!("192.0.2.2:{}", 1000 + port))).collect();
    assert!(held.iter().all(Result::is_ok));
    assert_eq!(from("192.0.2.2:99").unwrap_err(), ConnectRefusal::TooManyControllers);
    assert_eq!(from("[::ffff:192.0.2.2]:99").unwrap_err(), ConnectRefusal::TooManyControllers);
    for network in 0..3 {
        let each = (0..16).all(|host| from(&format!("[2001:db8:0:{network}::{host}]:1")).is_ok());
        assert!(each, "up to the limit of all");
    }
    assert_eq!(from("192.0.2.3:1").unwrap_err(), ConnectRefusal::TooManyControllers);
}

#[test]
fn the_generation_counts_the_changes() {
    let lab = Lab::new();
    let ctrl = controller(&lab.registry, HOST, "192.0.2.1:8009");
    let genctr = || {
        let data = send(&ctrl, &log_page(lid::DISCOVERY, 4096), &[]).ok().data;
        Log::parse(&data).unwrap().genctr()
    };
    let mut last = genctr();
    let mut changed = |what: &str| {
        assert!(genctr() > last, "{what}");
        last = genctr();
    };
    let it = listener("192.0.2.1:4420", 1, Serves::Everything);
    lab.registry.add_listener(it);
    changed("a listener came");
    lab.registry.add_subsystem(subsystem_config(SECOND, 1..=100), START_NS).unwrap();
    changed("a subsystem came");
    lab.registry.set_hosts(SECOND, Hosts::Listed(BTreeSet::new())).unwrap();
    changed("its hosts changed");
    lab.registry.add_host(SECOND, HOST).unwrap();
    changed("a host came");
    lab.registry.remove_host(SECOND, HOST).unwrap();
    changed("a host went");
    lab.registry.remove_subsystem(SECOND).unwrap();
    changed("a subsystem went");
    lab.registry.remove_listener(&it);
    changed("a listener went");
    lab.registry.remove_listener(&it);
    assert_eq!(genctr(), last, "nothing changed");
}

#[test]
fn the_log_can_be_read_in_pieces() {
    let lab = Lab::new();
    for port in 0..5 {
        let addr = format!("192.0.2.1:{}", 4420 + port);
        lab.registry.add_listener(listener(&addr, port, Serves::Everything));
    }
    let ctrl = controller(&lab.registry, HOST, "192.0.2.1:8009");
    let read = |lpo, bytes: u32, rae| {
        let numd = bytes / 4 - 1;
        let fields = GetLogPage { lid: lid::DISCOVERY, lpo, numd, rae, ..Default::default() };
        send(&ctrl, &log_page_with(fields), &[])
    };
    let whole = read(0, 11 << 10, false).ok().data;
    assert_eq!(Log::parse(&whole).unwrap().entries().len(), 10);
    for step in [4, 20, 1024, 4096] {
        let pieces: Vec<u8> = (0..11 << 10)
            .step_by(step as usize)
            .flat_map(|at| read(at, step, true).ok().data)
            .collect();
        assert_eq!(pieces[..11 << 10], whole);
    }
    // Beyond the end are zeroes: the log may have become shorter, which the generation tells.
    assert_eq!(read(1 << 30, 1024, true).ok().data, [0; 1024]);
    assert_eq!(read(2, 1024, true).status.code(), Status::INVALID_FIELD);
}

#[test]
fn discovery_answers_to_both_names() {
    let lab = Lab::new();
    let discovery: &Arc<Subsystem> = lab.registry.discovery();
    for nqn in [DISCOVERY_NQN, discovery.nqn()] {
        assert!(Arc::ptr_eq(&lab.registry.subsystem(nqn).unwrap(), discovery));
    }
}

#[test]
fn discovery_entries_say_whether_they_return_the_same() {
    let flags = |registry: &Registry| {
        let ctrl = controller(registry, HOST, "192.0.2.1:8009");
        let data = send(&ctrl, &log_page(lid::DISCOVERY, 64 << 10), &[]).ok().data;
        let entries = Log::parse(&data).unwrap().entries().to_vec();
        let current = |entry: &nvmf_wire::discovery::Entry| {
            let record = entry.record().unwrap();
            let port: u16 = record.trsvcid.parse().unwrap();
            (record.subtype == SubType::Current).then_some((port, record.eflags))
        };
        entries.iter().filter_map(current).collect::<Vec<_>>()
    };
    let lab = Lab::new();
    let (persistent, same) = (eflags::PERSISTENT, eflags::PERSISTENT | eflags::DUPLICATE);
    lab.registry.add_listener(listener("192.0.2.1:8009", 1, Serves::Discovery));
    lab.registry.add_listener(listener("198.51.100.7:8010", 2, Serves::Discovery));
    assert_eq!(flags(&lab.registry), [(8009, same), (8010, same)]);
    // Told by its own address to a host that comes to the other one.
    lab.registry.add_listener(listener("0.0.0.0:4420", 3, Serves::Everything));
    assert_eq!(flags(&lab.registry), [(4420, same), (8009, same), (8010, persistent)]);
}
