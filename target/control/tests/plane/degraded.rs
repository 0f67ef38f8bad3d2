//! A start without everything that was there before.

use crate::appliance::{Appliance, at, config, name, refused};
use crate::host::Host;
use control::Node;
use webui_api::model::{MemberState, Status};
use webui_api::{Control, RefusalKind};

const MIB: u64 = 1 << 20;

#[test]
fn a_device_that_is_missing_is_named_and_all_is_well_when_it_is_back() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img", "b.img"], 64 * MIB);
    node.make_pool("other", &["c.img"], 64 * MIB);
    node.make_volume("tank", "v", 8 * MIB);
    node.make_volume("other", "v", 8 * MIB);
    let mut host = Host::connect(node.address, "nqn.2026-01.io.forebay:tank:v", 1);
    host.write(1, 0, 8 * MIB);
    host.end();
    let (dir, address) = (node.dir.clone(), node.address);
    let (there, away) = (node.file("b.img"), node.file("b.img.away"));
    let mut node = node;
    node.stop();
    std::fs::rename(&there, &away).unwrap();

    let node = Appliance::start(dir, address);
    let pool = node.pool(&name("tank")).unwrap();
    assert_eq!(pool.status, Status::Failed);
    assert!(pool.reason.contains("b.img"), "{}", pool.reason);
    let missing = pool.devices.iter().filter(|device| device.state == MemberState::Missing);
    assert_eq!(missing.count(), 1, "{pool:?}");
    let text = refused(node.volume(&at("tank", "v")), RefusalKind::Unavailable);
    assert!(text.contains("b.img"), "{text}");
    assert_eq!(node.appliance().unwrap().status, Status::Degraded);
    let subsystems = node.subsystems().unwrap();
    let statuses: Vec<Status> = subsystems.iter().map(|subsystem| subsystem.status).collect();
    assert_eq!(statuses, [Status::Ok, Status::Degraded]);
    let mut other = Host::connect(node.address, "nqn.2026-01.io.forebay:other:v", 1);
    other.write(2, 0, MIB);
    refused(node.detach_device(&name("a.img")), RefusalKind::InUse);

    std::fs::rename(&away, &there).unwrap();
    node.eventually("the pool is back", |node| {
        node.pool(&name("tank")).unwrap().status == Status::Ok
    });
    let mut host = Host::connect(node.address, "nqn.2026-01.io.forebay:tank:v", 1);
    host.verify(1, 0, 8 * MIB);
    other.verify(2, 0, MIB);
    host.end();
    other.end();
    node.eventually("no alert is left", |node| node.alerts().unwrap().is_empty());
}

#[test]
fn a_damaged_state_file_gets_a_sentence_and_the_pools_are_not_lost() {
    let mut node = Appliance::new();
    node.make_pool("tank", &["a.img"], 64 * MIB);
    node.make_volume("tank", "v", 8 * MIB);
    node.stop();
    let path = node.file("state.json");
    let whole = std::fs::read(&path).unwrap();
    for bytes in [&whole[..whole.len() / 2], b"", b"\xff\xfe garbage"] {
        std::fs::write(&path, bytes).unwrap();
        let started = Node::start(config(node.dir.path(), node.address));
        let why = started.err().expect("it does not start");
        assert!(why.contains("state.json") && why.contains("is damaged"), "{why}");
    }
    std::fs::remove_file(&path).unwrap();
    let node = Appliance::start(node.dir.clone(), node.address);
    assert!(node.pools().unwrap().is_empty());
    let devices = vec![node.file("a.img").to_str().unwrap().parse().unwrap()];
    let import = webui_api::model::PoolImport { name: None, devices };
    node.import_pool(import).unwrap();
    assert_eq!(node.volumes(None).unwrap().len(), 1);
}
