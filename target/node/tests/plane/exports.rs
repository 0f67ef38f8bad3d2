//! Who reaches what, changed while hosts are at work.

use crate::appliance::{Appliance, at, host, name, new_volume, open_to_all, refused};
use crate::host::{Host, options};
use webui_model::{
    Address, Control, Declaration, ExportSet, Fabric, HostAdd, ListenerCreate, Made, NamespaceAdd,
    NamespaceSource, RefusalKind, Status, SubsystemCreate, VolumeCreate,
};

const MIB: u64 = 1 << 20;
const SHARED: &str = "nqn.2026-01.org.example:shared";

fn nqn_of(id: u8) -> String {
    nvmf_host::Host::of_id([id; 16]).nqn.as_str().to_owned()
}

#[test]
fn hosts_are_let_in_and_turned_away_one_by_one() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 64 * MIB);
    let closed = VolumeCreate { allow_any_host: false, ..new_volume("v", 8 * MIB) };
    let volume = node.create_volume(&name("tank"), closed).unwrap().into_inner();
    let own = volume.export.unwrap().subsystem;
    let info = node.connect_info(&at("tank", "v")).unwrap();
    assert!(info.warning.unwrap().contains("No host may connect"));
    let connect = |id: u8| Host::with(options(node.address, own.as_str(), id), 1);
    assert!(connect(1).err().unwrap().contains("Connect Invalid Host"));
    let add = HostAdd { host: host(&nqn_of(1)) };
    node.add_host(&own, add.clone()).unwrap();
    assert_eq!(node.add_host(&own, add).unwrap().hosts.len(), 1);
    let mut one = connect(1).unwrap();
    one.write(1, 0, MIB);
    let both =
        ExportSet { hosts: vec![host(&nqn_of(1)), host(&nqn_of(2))], ..ExportSet::default() };
    node.export_volume(&at("tank", "v"), both).unwrap();
    let mut two = connect(2).unwrap();
    two.verify(1, 0, MIB);
    node.remove_host(&own, &host(&nqn_of(2))).unwrap();
    node.eventually("its controller ends", |node| node.controllers().unwrap().len() == 1);
    one.verify(1, 0, MIB);
    assert_eq!(node.host(&host(&nqn_of(1))).unwrap().controllers, 1);
    refused(node.remove_host(&own, &host(&nqn_of(2))), RefusalKind::NotFound);
    refused(node.host(&host(&nqn_of(9))), RefusalKind::NotFound);
    node.eventually("it comes back and is refused", |node| {
        node.host(&host(&nqn_of(2))).is_ok_and(|host| host.last_refusal.is_some())
    });
    one.end();
}

#[test]
fn volumes_share_a_subsystem() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 128 * MIB);
    let shared =
        SubsystemCreate { nqn: SHARED.parse().unwrap(), hosts: vec![], allow_any_host: true };
    node.create_subsystem(shared.clone()).unwrap();
    assert!(matches!(node.create_subsystem(shared).unwrap(), Made::Existing(_)));
    let nqn = SHARED.parse().unwrap();
    let within = |volume: &str| VolumeCreate {
        subsystem: Some(SHARED.parse().unwrap()),
        allow_any_host: false,
        ..new_volume(volume, 8 * MIB)
    };
    for (volume, nsid) in [("a", 1), ("b", 2)] {
        let made = node.create_volume(&name("tank"), within(volume)).unwrap().into_inner();
        assert_eq!(made.export.unwrap().nsid, nsid);
    }
    let mut host = Host::connect(node.address, SHARED, 2);
    host.write(1, 0, 8 * MIB);
    node.delete_volume(&at("tank", "a"), true).unwrap();
    host.verify(1, 0, 8 * MIB);
    refused(node.delete_subsystem(&nqn), RefusalKind::InUse);
    host.end();
    // From the shared one to its own, and back, with another number.
    node.export_volume(&at("tank", "b"), open_to_all()).unwrap();
    let mut host = Host::connect(node.address, "nqn.2026-01.io.forebay:tank:b", 1);
    host.verify(1, 0, 8 * MIB);
    host.end();
    let source = NamespaceSource::Volume(at("tank", "b"));
    let add = NamespaceAdd { source, nsid: Some(7) };
    refused(node.add_namespace(&nqn, add.clone()), RefusalKind::InUse);
    node.unexport_volume(&at("tank", "b")).unwrap();
    refused(node.unexport_volume(&at("tank", "b")), RefusalKind::NotFound);
    assert_eq!(node.add_namespace(&nqn, add).unwrap().into_inner().nsid, 7);
    let node = node.again();
    let mut host = Host::connect(node.address, SHARED, 7);
    host.verify(1, 0, 8 * MIB);
    host.end();
    node.remove_namespace(&nqn, 7).unwrap();
    node.delete_subsystem(&nqn).unwrap();
}

#[test]
fn listeners_come_and_go() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 64 * MIB);
    node.make_volume("tank", "v", 8 * MIB);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let request =
        ListenerCreate { transport: Fabric::Tcp, address: Address(free), discovery_only: false };
    node.create_listener(request).unwrap();
    let nqn = "nqn.2026-01.io.forebay:tank:v";
    let mut host = Host::connect(free, nqn, 1);
    assert_eq!(node.connect_info(&at("tank", "v")).unwrap().addresses.len(), 2);
    let configured = node.delete_listener(Fabric::Tcp, Address(node.address));
    refused(configured, RefusalKind::Refused);
    // The queue for I/O connects by itself: what has answered is connected, and stays.
    host.write(2, 0, MIB);
    node.delete_listener(Fabric::Tcp, Address(free)).unwrap();
    host.write(1, 0, MIB);
    host.end();
    assert!(Host::with(options(free, nqn, 1), 1).is_err());
    node.create_listener(request).unwrap();
    let _node = node.again();
    let mut host = Host::connect(free, nqn, 1);
    host.verify(1, 0, MIB);
    host.end();
}

#[test]
fn listeners_on_all_addresses_share_a_port_and_are_told_as_addresses_of_the_machine() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 64 * MIB);
    node.make_volume("tank", "v", 8 * MIB);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let tcp = |ip: &str| ListenerCreate {
        transport: Fabric::Tcp,
        address: format!("{ip}:{free}").parse().unwrap(),
        discovery_only: false,
    };
    let (all, all_v6, one) = (tcp("0.0.0.0"), tcp("[::]"), tcp("127.0.0.1"));
    node.create_listener(one).unwrap();
    let beside = refused(node.create_listener(all), RefusalKind::InUse);
    assert!(beside.contains("one of the addresses of"), "{beside}");
    node.delete_listener(Fabric::Tcp, one.address).unwrap();
    node.create_listener(all).unwrap();
    let within = refused(node.create_listener(one), RefusalKind::InUse);
    assert!(within.contains("takes in what comes to"), "{within}");
    for (nowhere, why) in [("224.0.0.1", "multicast"), ("255.255.255.255", "broadcast")] {
        let told = refused(node.create_listener(tcp(nowhere)), RefusalKind::Invalid);
        assert!(told.contains(why), "{told}");
    }
    let nqn = "nqn.2026-01.io.forebay:tank:v";
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("SKIPPED: this machine has no IPv6");
        return;
    }
    node.create_listener(all_v6).unwrap();
    let node = node.again();
    assert_eq!(node.listeners().unwrap().len(), 3);
    assert!(node.listeners().unwrap().iter().all(|l| l.status == Status::Ok));
    for ip in ["127.0.0.1", "[::1]"] {
        let mut host = Host::connect(tcp(ip).address.0, nqn, 1);
        host.write(1, 0, MIB);
        host.end();
    }
    let info = node.connect_info(&at("tank", "v")).unwrap();
    assert!(info.addresses.len() >= 2, "{info:?}");
    assert!(info.addresses.iter().all(|at| !at.address.0.ip().is_unspecified()), "{info:?}");
    // Each address is there once: the one for IPv6 leaves IPv4 to the other.
    let told: std::collections::BTreeSet<_> = info.addresses.iter().map(|at| at.address).collect();
    assert_eq!(told.len(), info.addresses.len(), "{info:?}");
    // One on every IPv6 address takes IPv4 where nothing else does.
    node.delete_listener(Fabric::Tcp, all.address).unwrap();
    node.delete_listener(Fabric::Tcp, all_v6.address).unwrap();
    node.create_listener(all_v6).unwrap();
    Host::connect(one.address.0, nqn, 1).end();
    let within = refused(node.create_listener(all), RefusalKind::InUse);
    assert!(within.contains("takes in what comes to"), "{within}");
}

#[test]
fn a_declaration_says_what_it_lacks() {
    let mut node = Appliance::new();
    node.make_pool("tank", &["a.img"], 64 * MIB);
    node.make_volume("tank", "v", 8 * MIB);
    assert!(node.declaration().unwrap().lacks.is_empty());
    let shared =
        SubsystemCreate { nqn: SHARED.parse().unwrap(), hosts: Vec::new(), allow_any_host: true };
    node.create_subsystem(shared).unwrap();
    let inside = VolumeCreate {
        subsystem: Some(SHARED.parse().unwrap()),
        allow_any_host: false,
        ..new_volume("w", 8 * MIB)
    };
    node.create_volume(&name("tank"), inside).unwrap();
    node.create_snapshot(&at("tank", "v"), webui_model::SnapshotCreate { name: name("s") })
        .unwrap();
    node.rename_volume(&at("tank", "v"), webui_model::Rename { name: name("renamed") }).unwrap();
    let printed = node.declaration().unwrap();
    let lacks = |declaration: &Declaration, says: &str| {
        let found = declaration.lacks.iter().filter(|lack| lack.contains(says)).count();
        assert_eq!(found, 1, "{says}: {:?}", declaration.lacks);
    };
    lacks(&printed, "Snapshot tank/renamed@s is left out");
    lacks(&printed, "tank/renamed is exported as nqn.2026-01.io.forebay:tank:v");
    lacks(&printed, "tank/w is namespace 1 of");
    assert!(node.apply(printed.clone(), false).unwrap().changes.is_empty());
    let read = Declaration::from_toml(&printed.to_toml()).unwrap();
    assert_eq!(read, printed, "a file keeps it");
    // A pool that is away takes its volumes along, and that is said.
    node.stop();
    let (here, away) = (node.file("a.img"), node.file("away.img"));
    std::fs::rename(&here, &away).unwrap();
    let node = Appliance::start(node.dir.clone(), node.address);
    let printed = node.declaration().unwrap();
    assert!(printed.pools.is_empty());
    lacks(&printed, "Pool tank with all its volumes is left out, since it is not imported");
}

#[test]
fn a_declaration_is_made_so_once_and_printed_back() {
    let node = Appliance::new();
    let (a, b) = (node.make("a.img", 64 * MIB), node.make("b.img", 64 * MIB));
    let text = format!(
        r#"
[[pool]]
name = "tank"
devices = ["{a}", "{b}"]
[[pool.volume]]
name = "v"
bytes = "8MiB"
allow_any_host = true
[[pool.volume]]
name = "w"
bytes = "8MiB"
subsystem = "{SHARED}"
[[subsystem]]
nqn = "{SHARED}"
allow_any_host = true
"#
    );
    let declaration = Declaration::from_toml(&text).unwrap();
    let dry = node.apply(declaration.clone(), true).unwrap();
    assert!(node.pools().unwrap().is_empty() && node.devices().unwrap().is_empty());
    let done = node.apply(declaration.clone(), false).unwrap();
    assert_eq!(dry.changes, done.changes);
    assert_eq!(done.changes.len(), 4, "{done:?}");
    assert!(node.apply(declaration, false).unwrap().changes.is_empty());
    let printed = node.declaration().unwrap();
    assert!(node.apply(printed.clone(), false).unwrap().changes.is_empty());
    let grown = Declaration::from_toml(&printed.to_toml().replace("8MiB", "16MiB")).unwrap();
    assert_eq!(node.apply(grown, false).unwrap().changes.len(), 2);
    assert_eq!(node.volume(&at("tank", "w")).unwrap().bytes, 16 * MIB);
    node.export_pool(&name("tank"), false).unwrap();
    let back = node.apply(printed, false);
    assert!(refused(back, RefusalKind::Refused).contains("may_shrink"));
    assert_eq!(node.volumes(None).unwrap().len(), 2, "it was imported");
}
