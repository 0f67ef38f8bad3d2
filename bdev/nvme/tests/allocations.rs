//! Operations allocate nothing: plain ones, ones that are cut, ones that wait for a place, failed
//! ones.

#[path = "../../../nvmf/core/tests/counting/mod.rs"]
mod counting;
mod rig;
mod soft;

use bdev::{Addr, DmaSlice, Io, IoFlags, Op, Tag};
use counting::ALLOCATIONS;
use nvme_spec::Status;
use rig::Rig;
use soft::{Config, Fate};

/// What the driver and the stack around it allocate in one round; the drive's own is not counted.
fn round(rig: &mut Rig, ns: Addr, ops: &[(Op, u32, DmaSlice)]) -> u64 {
    let mut allocated = 0;
    let before = ALLOCATIONS.get();
    for (tag, (op, blocks, data)) in ops.iter().enumerate() {
        let (reply_to, reply_tag) = (Addr::edge(0), Tag(tag as u64));
        let (op, blocks, data) = (*op, *blocks, *data);
        let io = Io { op, flags: IoFlags::FUA, lba: 8, blocks, data, reply_to, reply_tag };
        rig.stack.submit(ns, io, rig.now_ns);
    }
    allocated += ALLOCATIONS.get() - before;
    while rig.dones.len() < ops.len() {
        rig.now_ns += 1000;
        let before = ALLOCATIONS.get();
        rig.stack.poll(rig.now_ns);
        rig.stack.deliver(rig.now_ns, &mut rig.dones);
        allocated += ALLOCATIONS.get() - before;
        rig.soft.work();
    }
    rig.dones.clear();
    allocated
}

#[test]
fn operations_allocate_nothing() {
    let mut rig = Rig::new(Config { mqes: 7, mdts: 2, shadows: true, ..Config::default() });
    let ns = rig.open(1);
    rig.turns(20);
    let buf = rig.buffer(1 << 20, 1);
    let data = |bytes| buf.slice().sub(0, bytes);
    let mut ops = Vec::new();
    for _ in 0..10 {
        ops.push((Op::Read, 8, data(4096)));
        ops.push((Op::Write, 1, data(512)));
        ops.push((Op::Read, 256, data(128 << 10)));
        ops.push((Op::WriteZeroes, 100, DmaSlice::EMPTY));
        ops.push((Op::Flush, 0, DmaSlice::EMPTY));
    }
    let lent = (buf.slice().as_ptr() as usize, buf.len());
    rig.soft.engine().lent = vec![lent];
    rig.dones.reserve(ops.len());
    for fate in [Fate::Now, Fate::Fail(Status::WRITE_FAULT)] {
        rig.soft.engine().decide = Box::new(move |qid, _| if qid > 0 { fate } else { Fate::Now });
        round(&mut rig, ns, &ops);
        for _ in 0..20 {
            assert_eq!(round(&mut rig, ns, &ops), 0);
        }
    }
    // The count counts.
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(vec![0u8; 100]));
    assert_eq!(ALLOCATIONS.get() - before, 1);
    rig.check();
}
