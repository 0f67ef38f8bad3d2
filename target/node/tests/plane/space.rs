//! A pool that is full, and heals.

use crate::appliance::{Appliance, at, name};
use crate::host::Host;
use bdev::{Addr, Bdev, DmaSlice, Io, IoFlags, Op, Tag};
use nvme_spec::Status;
use reactor::thread::clock_ns;
use webui_model::{Control, DeviceAdd, EventKind, Status as How};

const MIB: u64 = 1 << 20;

#[test]
fn a_pool_without_a_refused_write_is_not_full() {
    let node = Appliance::new();
    node.make_pool("small", &["a.img"], 64 * MIB);
    node.make_volume("small", "v", 256 * MIB);
    let mut host = Host::connect(node.address, "nqn.2026-01.io.forebay:small:v", 1);
    // A volume asks for slots ahead, and gets the last ones long before it needs them.
    host.write(1, 0, 40 * MIB);
    let pool = node.pool(&name("small")).unwrap();
    assert!(pool.space.free_bytes > 0 && pool.reason.contains("free"), "{pool:?}");
    let full = node.alerts().unwrap().into_iter().find(|alert| alert.id == "pool-full:small");
    assert_eq!(full, None);
    host.end();
}

#[test]
fn a_full_pool_says_so_and_heals() {
    let node = Appliance::new();
    node.make_pool("small", &["a.img"], 64 * MIB);
    node.make_pool("other", &["o.img"], 64 * MIB);
    node.make_volume("small", "v", 256 * MIB);
    node.make_volume("other", "v", 16 * MIB);
    let mut host = Host::connect(node.address, "nqn.2026-01.io.forebay:small:v", 1);
    let mut other = Host::connect(node.address, "nqn.2026-01.io.forebay:other:v", 1);
    let (written, status) = host.fill(1, 0, 256 * MIB);
    assert_eq!(status.code(), Status::CAPACITY_EXCEEDED);
    assert!(written > 40 * MIB, "{written}");
    other.write(9, 0, 16 * MIB);
    let raised = |node: &dyn Control| {
        node.alerts().unwrap().iter().any(|alert| alert.id == "pool-full:small")
    };
    node.eventually("the alert is raised", raised);
    let volume = node.volume(&at("small", "v")).unwrap();
    assert_eq!(
        (volume.status, node.pool(&name("other")).unwrap().status),
        (How::Degraded, How::Ok)
    );
    // What is there is read and overwritten.
    host.verify(1, 0, written);
    host.write(2, 0, 8 * MIB);

    let add = DeviceAdd { device: node.make("b.img", 128 * MIB), force: false };
    node.add_device(&name("small"), add).unwrap();
    host.write(3, written, 32 * MIB);
    node.eventually("the alert is cleared", |node| !raised(node));
    let events = node.event_log().newest(1000).items;
    let of_kind = |kind| events.iter().filter(|event| event.kind == kind).count();
    assert!(of_kind(EventKind::AlertRaised) > 0 && of_kind(EventKind::AlertCleared) > 0);
    host.verify(2, 0, 8 * MIB);
    host.verify(1, 8 * MIB, written - 8 * MIB);
    host.verify(3, written, 32 * MIB);

    let statistics = node.statistics().unwrap();
    let small = statistics.volumes.iter().find(|v| v.pool == Some(name("small"))).unwrap();
    assert_eq!(small.io.write_latency.count(), small.io.writes);
    assert!(small.io.write_latency.quantile_ns(0.5).is_some() && small.io.errors > 0);
    assert!(statistics.pools.iter().any(|pool| pool.full_errors > 0));
    let used = node.pool(&name("small")).unwrap().space.used_bytes;
    assert_eq!(host.one(Op::Deallocate, 0, 2048, DmaSlice::EMPTY), Status::SUCCESS);
    assert_eq!(host.one(Op::Flush, 0, 0, DmaSlice::EMPTY), Status::SUCCESS);
    node.eventually("the space is back", |node| {
        node.pool(&name("small")).unwrap().space.used_bytes == used - 8 * MIB
    });
    host.end();
    other.end();
}

/// Submits writes of the first block, and does not wait for them.
fn submit_writes(host: &mut Host, count: u64) {
    let data = host.memory.slice(0, 0, host.bdev.geometry().block_bytes as usize);
    for tag in 0..count {
        let (reply_to, reply_tag) = (Addr::edge(0), Tag(tag));
        let (op, flags) = (Op::Write, IoFlags::NONE);
        let io = Io { op, flags, lba: 0, blocks: 1, data, reply_to, reply_tag };
        host.stack.submit(host.addr, io, clock_ns());
    }
}

/// Writes that the limits hold back for hours, of a host that is cut off or gone.
#[test]
fn a_volume_is_deleted_by_force_though_its_limits_hold_writes_back() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 128 * MIB);
    for volume in ["v", "w"] {
        node.make_volume("tank", volume, 8 * MIB);
        let limits = webui_model::Limits { iops: Some(1), ..Default::default() };
        node.set_limits(&at("tank", volume), limits).unwrap();
        let nqn = format!("nqn.2026-01.io.forebay:tank:{volume}");
        let mut host = Host::connect(node.address, &nqn, 1);
        submit_writes(&mut host, 16);
        let held_back = |node: &dyn Control| {
            host.stack.poll(clock_ns());
            let statistics = node.statistics().unwrap();
            statistics.volumes.iter().any(|v| v.volume == name(volume) && v.io.throttled >= 10)
        };
        node.eventually("writes are held back", held_back);
        if volume == "w" {
            host.bdev.disconnect();
            let gone = |node: &dyn Control| node.controllers().unwrap().is_empty();
            node.eventually("the host is gone", gone);
        }
        assert_eq!(node.delete_volume(&at("tank", volume), true), Ok(()));
        host.bdev.disconnect();
        // Its operations do not end well, and it is not asked for them.
        std::mem::forget(host);
    }
    assert!(node.volumes(None).unwrap().is_empty());
}
