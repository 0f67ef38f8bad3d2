//! Pools and volumes from their making to a restart.

use crate::appliance::{
    Appliance, at, config, host, name, new_volume, open_to_all, refused, snapshot_at,
};
use crate::host::Host;
use bdev::Bdev;
use node::Node;
use webui_model::{
    Control, DeviceAdd, DriveFormat, DriveSanitize, GroupSnapshotCreate, JobStatus, Limits, Made,
    MemberState, PoolImport, RefusalKind, Rename, Resize, RollBack, SanitizeAction, SecureErase,
    SnapshotCreate, SubsystemCreate, VolumeClone, VolumeCreate,
};

const MIB: u64 = 1 << 20;

fn own(pool: &str, volume: &str) -> String {
    format!("nqn.2026-01.io.forebay:{pool}:{volume}")
}

fn clone_of(volume: &str) -> VolumeClone {
    VolumeClone {
        name: name(volume),
        limits: Limits::default(),
        subsystem: None,
        hosts: Vec::new(),
        allow_any_host: true,
    }
}

#[test]
fn what_was_made_and_written_is_there_after_a_restart() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img", "b.img"], 128 * MIB);
    let volume = node.make_volume("tank", "v", 64 * MIB);
    let mut host = Host::connect(node.address, &own("tank", "v"), 1);
    assert_eq!(host.bdev.geometry().bytes(), 64 * MIB);
    host.write(1, 0, 16 * MIB);
    let request = SnapshotCreate { name: name("monday") };
    node.create_snapshot(&at("tank", "v"), request).unwrap();
    host.write(2, 8 * MIB, 16 * MIB);
    let monday = snapshot_at("tank", "v", "monday");
    node.clone_snapshot(&monday, clone_of("c")).unwrap();
    node.export_snapshot(&monday, open_to_all()).unwrap();
    let mut clone = Host::connect(node.address, &own("tank", "c"), 1);
    clone.verify(1, 0, 16 * MIB);
    clone.write(3, 0, 4 * MIB);
    host.verify(1, 0, 8 * MIB);
    host.verify(2, 8 * MIB, 16 * MIB);
    // Not flushed: a stop in order keeps it.
    assert!(host.fill(7, 40 * MIB, 8 * MIB).1.is_success());
    host.end();
    clone.end();
    let lines = node.connect_info(&at("tank", "v")).unwrap().lines;
    let before = (node.volumes(None).unwrap(), node.subsystems().unwrap());

    let node = node.again();
    let after = (node.volumes(None).unwrap(), node.subsystems().unwrap());
    assert_eq!(after.1.len(), 3);
    for (a, b) in before.1.iter().zip(&after.1) {
        assert_eq!((&a.nqn, &a.hosts, a.allow_any_host), (&b.nqn, &b.hosts, b.allow_any_host));
        assert_eq!(a.namespaces, b.namespaces);
    }
    assert_eq!(node.volume(&at("tank", "v")).unwrap().uuid, volume.uuid);
    assert_eq!(before.0.len(), after.0.len());
    assert_eq!(node.connect_info(&at("tank", "v")).unwrap().lines, lines);
    let mut host = Host::connect(node.address, &own("tank", "v"), 1);
    host.verify(1, 0, 8 * MIB);
    host.verify(2, 8 * MIB, 16 * MIB);
    host.verify(7, 40 * MIB, 8 * MIB);
    let mut clone = Host::connect(node.address, &own("tank", "c"), 1);
    clone.verify(3, 0, 4 * MIB);
    clone.verify(1, 4 * MIB, 12 * MIB);
    let mut past = Host::connect(node.address, &own("tank", "v:monday"), 1);
    past.verify(1, 0, 16 * MIB);
    past.is_zero(16 * MIB, 8 * MIB);
    assert!(!past.fill(9, 0, MIB).1.is_success(), "a snapshot is not written");
    host.end();
    clone.end();
    past.end();
}

#[test]
fn making_what_is_there_changes_nothing_and_conflicts_are_named() {
    let node = Appliance::new();
    let pool = node.make_pool("tank", &["a.img"], 64 * MIB);
    let devices = vec![node.file("a.img").to_str().unwrap().parse().unwrap()];
    let again =
        webui_model::PoolCreate { name: name("tank"), devices, force: false, discard: None };
    let there = node.create_pool(again.clone()).unwrap();
    assert!(matches!(there, Made::Existing(there) if there.uuid == pool.uuid));
    let other = webui_model::PoolCreate { devices: vec![node.make("b.img", MIB)], ..again };
    assert!(refused(node.create_pool(other), RefusalKind::Exists).contains("other devices"));

    let made = node.create_volume(&name("tank"), new_volume("v", 8 * MIB)).unwrap();
    let Made::New(volume) = made else { panic!("{made:?}") };
    let again = node.create_volume(&name("tank"), new_volume("v", 8 * MIB)).unwrap();
    assert!(matches!(again, Made::Existing(there) if there == volume));
    let larger = node.create_volume(&name("tank"), new_volume("v", 16 * MIB));
    assert!(refused(larger, RefusalKind::Exists).contains("8388608 bytes"));
    let nowhere = node.create_volume(&name("other"), new_volume("v", MIB));
    refused(nowhere, RefusalKind::NotFound);
    let deleted = node.delete_pool(&name("tank"));
    assert!(refused(deleted, RefusalKind::InUse).contains("1 volume (v)"));
}

#[test]
fn a_volume_grows_and_shrinks_below_its_host() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 128 * MIB);
    node.make_volume("tank", "v", 8 * MIB);
    let mut host = Host::connect(node.address, &own("tank", "v"), 1);
    host.write(1, 0, 8 * MIB);
    let grow = Resize { bytes: 32 * MIB, may_shrink: false };
    node.resize_volume(&at("tank", "v"), grow).unwrap();
    node.eventually("the host is told", |_| host.bdev.geometry().bytes() == 32 * MIB);
    host.write(2, 8 * MIB, 24 * MIB);
    host.verify(1, 0, 8 * MIB);
    let shrink = Resize { bytes: 4 * MIB, may_shrink: false };
    refused(node.resize_volume(&at("tank", "v"), shrink), RefusalKind::Refused);
    let shrink = Resize { may_shrink: true, ..shrink };
    node.resize_volume(&at("tank", "v"), shrink).unwrap();
    node.resize_volume(&at("tank", "v"), grow).unwrap();
    node.eventually("the host is told", |_| host.bdev.geometry().bytes() == 32 * MIB);
    host.verify(1, 0, 4 * MIB);
    host.is_zero(4 * MIB, 28 * MIB);
    host.end();
}

#[test]
fn a_volume_goes_back_and_a_clone_takes_over() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 128 * MIB);
    let volumes = [name("v"), name("w")];
    volumes.iter().for_each(|v| drop(node.make_volume("tank", v.as_str(), 8 * MIB)));
    let mut host = Host::connect(node.address, &own("tank", "v"), 1);
    host.write(1, 0, 8 * MIB);
    let group = GroupSnapshotCreate { name: name("s"), volumes: volumes.to_vec() };
    assert_eq!(node.create_group_snapshot(&name("tank"), group.clone()).unwrap().len(), 2);
    refused(node.create_group_snapshot(&name("tank"), group), RefusalKind::Exists);
    host.write(2, 0, 8 * MIB);
    let back = RollBack { snapshot: name("s"), force: false };
    let text = refused(node.roll_back(&at("tank", "v"), back.clone()), RefusalKind::InUse);
    assert!(text.contains("is connected to volume tank/v"), "{text}");
    host.end();
    node.eventually("the host is gone", |node| node.controllers().unwrap().is_empty());
    node.roll_back(&at("tank", "v"), back).unwrap();
    let mut host = Host::connect(node.address, &own("tank", "v"), 1);
    host.verify(1, 0, 8 * MIB);
    host.end();

    let past = snapshot_at("tank", "v", "s");
    node.clone_snapshot(&past, clone_of("c")).unwrap();
    node.export_snapshot(&past, open_to_all()).unwrap();
    let outcome = node.promote(&at("tank", "c")).unwrap();
    assert_eq!((outcome.moved, outcome.former_origin), (vec![name("s")], Some(at("tank", "v"))));
    refused(node.promote(&at("tank", "c")), RefusalKind::Refused);
    let moved = node.snapshot(&snapshot_at("tank", "c", "s")).unwrap();
    assert!(moved.export.is_some(), "its export went with it: {moved:?}");
    let node = node.again();
    let mut past = Host::connect(node.address, &own("tank", "v:s"), 1);
    past.verify(1, 0, 8 * MIB);
    past.end();
}

#[test]
fn a_name_changes_and_what_hosts_know_does_not() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 64 * MIB);
    node.make_volume("tank", "v", 8 * MIB);
    let renamed = node.rename_volume(&at("tank", "v"), Rename { name: name("w") }).unwrap();
    assert_eq!(renamed.export.unwrap().subsystem.to_string(), own("tank", "v"));
    let node = node.again();
    let mut host = Host::connect(node.address, &own("tank", "v"), 1);
    host.write(1, 0, MIB);
    let text = refused(node.delete_volume(&at("tank", "w"), false), RefusalKind::InUse);
    assert!(text.contains("volume tank/w"), "{text}");
    node.delete_volume(&at("tank", "w"), true).unwrap();
    assert!(node.subsystems().unwrap().is_empty());
    node.delete_pool(&name("tank")).unwrap();
    assert!(node.pools().unwrap().is_empty() && node.importable_pools().unwrap().is_empty());
}

#[test]
fn a_pool_goes_to_another_machine() {
    let one = Appliance::new();
    one.make_pool("tank", &["a.img", "b.img"], 64 * MIB);
    let uuid = one.make_volume("tank", "v", 8 * MIB).uuid;
    let mut host = Host::connect(one.address, &own("tank", "v"), 1);
    host.write(1, 0, 8 * MIB);
    let busy = refused(one.export_pool(&name("tank"), false), RefusalKind::InUse);
    assert!(busy.contains("is connected to volume tank/v"), "{busy}");
    host.end();
    one.export_pool(&name("tank"), true).unwrap();
    assert_eq!(one.importable_pools().unwrap()[0].devices.len(), 2);
    let path = |file: &str| one.file(file).to_str().unwrap().parse().unwrap();
    let devices: Vec<_> = ["a.img", "b.img"].map(path).to_vec();
    for device in one.devices().unwrap() {
        one.detach_device(&device.name).unwrap();
    }

    let two = Appliance::new();
    let half = PoolImport { devices: devices[..1].to_vec(), ..PoolImport::default() };
    let text = refused(two.import_pool(half), RefusalKind::NotFound);
    assert!(text.contains("is missing"), "{text}");
    assert!(two.devices().unwrap().is_empty(), "what was attached for it is let go");
    two.import_pool(PoolImport { devices, ..PoolImport::default() }).unwrap();
    assert_eq!(two.volume(&at("tank", "v")).unwrap().uuid, uuid);
    two.export_volume(&at("tank", "v"), open_to_all()).unwrap();
    let mut host = Host::connect(two.address, &own("tank", "v"), 1);
    host.verify(1, 0, 8 * MIB);
    host.end();
}

#[test]
fn a_pool_that_comes_back_is_exported_as_before() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 128 * MIB);
    let shared = "nqn.2026-01.org.example:shared";
    let subsystem =
        SubsystemCreate { nqn: shared.parse().unwrap(), hosts: vec![], allow_any_host: true };
    node.create_subsystem(subsystem).unwrap();
    let of_one = VolumeCreate {
        hosts: vec![host("nqn.2026-01.org.example:h")],
        allow_any_host: false,
        ..new_volume("listed", 8 * MIB)
    };
    node.create_volume(&name("tank"), of_one).unwrap();
    let within = VolumeCreate {
        subsystem: Some(shared.parse().unwrap()),
        allow_any_host: false,
        ..new_volume("within", 8 * MIB)
    };
    node.create_volume(&name("tank"), within).unwrap();
    node.make_volume("tank", "open", 8 * MIB);
    node.unexport_volume(&at("tank", "open")).unwrap();
    node.make_volume("tank", "old", 8 * MIB);
    let snapshot = SnapshotCreate { name: name("s") };
    node.create_snapshot(&at("tank", "old"), snapshot).unwrap();
    node.export_snapshot(&snapshot_at("tank", "old", "s"), open_to_all()).unwrap();
    node.rename_volume(&at("tank", "old"), Rename { name: name("new") }).unwrap();
    let shown = |node: &Appliance| {
        let exports = node.volumes(None).unwrap().into_iter().map(|v| (v.name, v.uuid, v.export));
        let snapshot = node.snapshot(&snapshot_at("tank", "new", "s")).unwrap();
        (exports.collect::<Vec<_>>(), snapshot.export, node.declaration().unwrap())
    };
    let before = shown(&node);
    node.export_pool(&name("tank"), false).unwrap();
    let left = node.subsystems().unwrap();
    assert_eq!(left.len(), 1, "only what is not the pool's alone: {left:?}");
    assert!(left[0].namespaces.is_empty() && node.alerts().unwrap().is_empty());
    // Also when the appliance was started again meanwhile.
    let node = node.again();
    assert!(node.pools().unwrap().is_empty());
    assert_eq!(node.subsystems().unwrap().len(), 1);
    node.import_pool(PoolImport { name: Some(name("tank")), ..PoolImport::default() }).unwrap();
    assert_eq!(shown(&node), before);
    let mut host = Host::connect(node.address, &own("tank", "old"), 1);
    host.write(1, 0, MIB);
    host.end();
    let node = node.again();
    assert_eq!(shown(&node), before);
}

#[test]
fn a_volume_that_cannot_be_made_or_noted_leaves_nothing_behind() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 64 * MIB);
    let thick = VolumeCreate { thick: true, ..new_volume("v", 1 << 30) };
    refused(node.create_volume(&name("tank"), thick), RefusalKind::Full);
    assert!(node.subsystems().unwrap().is_empty() && node.alerts().unwrap().is_empty());
    let node = node.again();
    assert!(node.subsystems().unwrap().is_empty(), "what was noted of it was taken back");
    // How it is exported is noted before it is made: what cannot be noted is not made. Without the
    // log there is nothing to write behind, and in its place there can be no other.
    let (log, blocked) = (node.file("wanted.log"), node.file("wanted.log.new"));
    std::fs::remove_file(&log).unwrap();
    std::fs::create_dir(&blocked).unwrap();
    refused(node.create_volume(&name("tank"), new_volume("v", MIB)), RefusalKind::Device);
    assert!(node.volumes(None).unwrap().is_empty());
    std::fs::remove_dir(&blocked).unwrap();
    assert!(matches!(
        node.create_volume(&name("tank"), new_volume("v", MIB)).unwrap(),
        Made::New(_)
    ));
}

#[test]
fn a_device_is_added_and_another_drained_below_a_host_that_writes() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 128 * MIB);
    node.make_volume("tank", "v", 64 * MIB);
    let mut host = Host::connect(node.address, &own("tank", "v"), 1);
    host.write(1, 0, 48 * MIB);
    let alone = refused(node.drain_device(&name("tank"), 0), RefusalKind::Full);
    assert!(alone.contains("add a device first"), "{alone}");
    let add = DeviceAdd { device: node.make("b.img", 256 * MIB), force: false };
    let Made::New(added) = node.add_device(&name("tank"), add.clone()).unwrap() else {
        panic!("it is new")
    };
    assert_eq!((added.number, added.state), (1, MemberState::Member));
    assert!(matches!(node.add_device(&name("tank"), add).unwrap(), Made::Existing(_)));
    let job = node.drain_device(&name("tank"), 0).unwrap();
    for round in 0..40 {
        host.write(round + 2, (round % 4) * 4 * MIB, 4 * MIB);
    }
    node.eventually("it is drained", |node| node.job(job.id).unwrap().status == JobStatus::Done);
    let left = node.pool(&name("tank")).unwrap();
    assert_eq!(left.devices.len(), 1, "{left:?}");
    for piece in 0..4 {
        host.verify(38 + piece, piece * 4 * MIB, 4 * MIB);
    }
    host.verify(1, 16 * MIB, 32 * MIB);
    host.end();
    node.detach_device(&name("a.img")).unwrap();
    let node = node.again();
    let mut host = Host::connect(node.address, &own("tank", "v"), 1);
    host.verify(1, 16 * MIB, 32 * MIB);
    host.end();
}

#[test]
fn two_appliances_do_not_share_a_data_directory() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 64 * MIB);
    let second = Node::start(config(node.dir.path(), ([127, 0, 0, 1], 0).into()));
    let why = second.err().expect("it is refused");
    assert!(why.contains("is in use by another forebay"), "{why}");
    assert_eq!(node.pool(&name("tank")).unwrap().status, webui_model::Status::Ok);
    drop(node.again());
}

#[test]
fn what_is_no_nvme_drive_is_not_taken_for_one() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 128 * MIB);
    let device = node.devices().unwrap()[0].name.clone();
    let why = refused(node.device_health(&device), RefusalKind::NotFound);
    assert!(why.contains("is no NVMe drive"), "{why}");
    refused(node.device_health(&name("nobody")), RefusalKind::NotFound);
    let nowhere = "ffff:ff:1f.7".parse().unwrap();
    let format =
        DriveFormat { namespace: 1, block_bytes: None, erase: SecureErase::None, force: true };
    let why = refused(node.format_drive(&nowhere, format), RefusalKind::NotFound);
    assert!(why.contains("no PCI function ffff:ff:1f.7"), "{why}");
    let sanitize = DriveSanitize { action: SanitizeAction::BlockErase, force: true };
    refused(node.sanitize_drive(&nowhere, sanitize), RefusalKind::NotFound);
    assert_eq!(node.jobs().unwrap(), []);
}
