//! What nobody needs any more leaves the files of a pool.

use crate::appliance::{Appliance, at, name};
use crate::host::Host;
use bdev::{DmaSlice, Op};
use nvme_spec::Status;
use std::os::unix::fs::MetadataExt;
use webui_model::{
    Control, DeviceDiscard, DeviceRef, DiscardMode, DiscardSet, PoolCreate, PoolImport,
    RefusalKind, SnapshotCreate,
};

const MIB: u64 = 1 << 20;

/// Blocks of 4096 bytes in so many MiB.
const BLOCKS: u64 = 256;

/// Bytes that a file takes.
fn taken(node: &Appliance, file: &str) -> u64 {
    std::fs::metadata(node.file(file)).unwrap().blocks() * 512
}

fn discard(node: &dyn Control) -> DeviceDiscard {
    node.pool(&name("tank")).unwrap().devices[0].discard.clone()
}

/// Waits until the file takes no more than so many bytes.
fn shrinks_to(node: &Appliance, bytes: u64) {
    let is_small = |_: &dyn Control| taken(node, "a.img") <= bytes;
    node.eventually(&format!("a file of {} bytes", bytes), is_small);
}

fn deallocate(host: &mut Host, from: u64, mib: u64) {
    let status = host.one(Op::Deallocate, from * BLOCKS, (mib * BLOCKS) as u32, DmaSlice::EMPTY);
    assert_eq!(status, Status::SUCCESS);
    assert_eq!(host.one(Op::Flush, 0, 0, DmaSlice::EMPTY), Status::SUCCESS);
}

#[test]
fn space_of_what_is_deleted_and_deallocated_comes_back_to_the_file() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 512 * MIB);
    for (volume, mib) in [("v", 64), ("kept", 16)] {
        node.make_volume("tank", volume, mib * MIB);
    }
    let mut host = Host::connect(node.address, "nqn.2026-01.io.forebay:tank:v", 1);
    let mut kept = Host::connect(node.address, "nqn.2026-01.io.forebay:tank:kept", 1);
    kept.write(7, 0, 16 * MIB);
    host.write(1, 0, 64 * MIB);
    assert!(taken(&node, "a.img") >= 80 * MIB);

    deallocate(&mut host, 48, 16);
    shrinks_to(&node, 68 * MIB);

    let snapshot = SnapshotCreate { name: name("s") };
    node.create_snapshot(&at("tank", "v"), snapshot).unwrap();
    host.write(2, 0, 32 * MIB);
    assert!(taken(&node, "a.img") >= 96 * MIB);
    let snapshot = crate::appliance::snapshot_at("tank", "v", "s");
    node.delete_snapshot(&snapshot).unwrap();
    shrinks_to(&node, 68 * MIB);
    host.verify(2, 0, 32 * MIB);
    host.verify(1, 32 * MIB, 16 * MIB);
    host.is_zero(48 * MIB, 16 * MIB);

    host.end();
    node.delete_volume(&at("tank", "v"), true).unwrap();
    shrinks_to(&node, 20 * MIB);
    kept.verify(7, 0, 16 * MIB);
    kept.write(8, 0, 16 * MIB);
    node.make_volume("tank", "v", 64 * MIB);
    let mut host = Host::connect(node.address, "nqn.2026-01.io.forebay:tank:v", 1);
    host.is_zero(0, 64 * MIB);
    host.write(3, 0, 64 * MIB);
    host.verify(3, 0, 64 * MIB);
    kept.verify(8, 0, 16 * MIB);

    let says = discard(&*node);
    assert!(says.on && says.reason.contains("sparse"), "{says:?}");
    assert!(says.discarded_bytes >= 112 * MIB, "{says:?}");
    let pools = node.statistics().unwrap().pools;
    assert!(pools[0].discarded_bytes >= says.discarded_bytes);
    node.eventually("nothing waits", |node| discard(node).waiting_bytes == 0);
    host.end();
    kept.end();
}

#[test]
fn it_is_as_an_operator_wants_it_and_stays_so() {
    let node = Appliance::new();
    let devices: Vec<DeviceRef> = vec![node.make("a.img", 256 * MIB)];
    let off = Some(DiscardMode::Off);
    let request = PoolCreate { name: name("tank"), devices, force: false, discard: off };
    node.create_pool(request.clone()).unwrap();
    let other = PoolCreate { discard: Some(DiscardMode::On), ..request };
    assert_eq!(node.create_pool(other).unwrap_err().kind, RefusalKind::Exists);
    node.make_volume("tank", "v", 64 * MIB);
    let mut host = Host::connect(node.address, "nqn.2026-01.io.forebay:tank:v", 1);
    host.write(1, 0, 64 * MIB);
    host.end();
    node.delete_volume(&at("tank", "v"), true).unwrap();
    let is_empty = |node: &dyn Control| node.pool(&name("tank")).unwrap().space.used_bytes == 0;
    node.eventually("it is deleted", is_empty);

    let node = node.again();
    assert_eq!(node.pool(&name("tank")).unwrap().discard, DiscardMode::Off);
    let says = discard(&*node);
    assert!(!says.on && says.reason.contains("switched off"), "{says:?}");
    assert!(taken(&node, "a.img") >= 64 * MIB && says.discarded_bytes == 0);
    assert_eq!(node.declaration().unwrap().pools[0].discard, off);

    node.export_pool(&name("tank"), false).unwrap();
    let back = PoolImport { name: Some(name("tank")), ..PoolImport::default() };
    assert_eq!(node.import_pool(back).unwrap().into_inner().discard, DiscardMode::Off);

    // What was deleted before, and before the pool was opened, is found.
    let now = node.set_discard(&name("tank"), DiscardSet { mode: DiscardMode::Auto }).unwrap();
    assert_eq!(now.discard, DiscardMode::Auto);
    shrinks_to(&node, 8 * MIB);
    let node = node.again();
    assert_eq!(node.pool(&name("tank")).unwrap().discard, DiscardMode::Auto);
}

#[test]
fn space_that_was_set_aside_for_a_file_stays_so_until_somebody_wants_it() {
    let node = Appliance::new();
    let device = node.make("a.img", 128 * MIB);
    let mut command = std::process::Command::new("fallocate");
    assert!(command.args(["--length", "128MiB", device.as_str()]).status().unwrap().success());
    let request =
        PoolCreate { name: name("tank"), devices: vec![device], force: false, discard: None };
    node.create_pool(request).unwrap();
    let says = discard(&*node);
    assert!(!says.on && says.reason.contains("set aside"), "{says:?}");
    assert!(taken(&node, "a.img") >= 128 * MIB);
    node.set_discard(&name("tank"), DiscardSet { mode: DiscardMode::On }).unwrap();
    shrinks_to(&node, 32 * MIB);
    assert!(discard(&*node).on);
}
