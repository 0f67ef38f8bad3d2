//! A bounded number of 4 KiB reads at depth 32 through the driver and nothing else, on a controller
//! made of software whose own work is not counted.
//!
//! ```text
//! valgrind --tool=callgrind --toggle-collect='*drive_path::measured*' drive_path 2000
//! ```
//!
//! Counted: submitting to the stack, the channel's polls with their doorbells, and the delivery of
//! completions.

#[path = "../tests/rig/mod.rs"]
mod rig;
#[path = "../tests/soft/mod.rs"]
mod soft;

use bdev::{Addr, DmaSlice, Io, IoFlags, Op, Tag};
use rig::Rig;
use soft::{Config, Space};

/// Reads under way at once.
const DEPTH: u64 = 32;

#[inline(never)]
fn measured_submit(rig: &mut Rig, ns: Addr, data: &[DmaSlice]) {
    for (tag, data) in data.iter().enumerate() {
        let (reply_to, reply_tag) = (Addr::edge(0), Tag(tag as u64));
        let (op, flags, lba) = (Op::Read, IoFlags::NONE, tag as u64);
        let io = Io { op, flags, lba, blocks: 1, data: *data, reply_to, reply_tag };
        rig.stack.submit(ns, io, rig.now_ns);
    }
    rig.stack.poll(rig.now_ns);
}

#[inline(never)]
fn measured_harvest(rig: &mut Rig) {
    rig.stack.poll(rig.now_ns);
    rig.stack.deliver(rig.now_ns, &mut rig.dones);
}

fn main() {
    let rounds: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(2000);
    let mut rig = Rig::new(Config { spaces: vec![Space::new(1, 4096, 64)], ..Config::default() });
    let ns = rig.open(1);
    rig.turns(50);
    let bufs: Vec<_> = (0..DEPTH).map(|_| rig.buffer(4096, 0)).collect();
    let data: Vec<DmaSlice> = bufs.iter().map(|buf| buf.slice()).collect();
    rig.soft.engine().lent = data.iter().map(|d| (d.as_ptr() as usize, d.len())).collect();
    rig.dones.reserve(DEPTH as usize);
    let mut reads = 0;
    let doorbells = rig.soft.engine().doorbells;
    for _ in 0..rounds {
        // Slower than a watch comes round: the look after time-outs is in the count as it is in use.
        rig.now_ns += 1000;
        measured_submit(&mut rig, ns, &data);
        rig.soft.work();
        measured_harvest(&mut rig);
        reads += rig.dones.iter().filter(|done| done.status.is_success()).count() as u64;
        rig.dones.clear();
    }
    assert_eq!(reads, rounds * DEPTH, "every read succeeds");
    let rung = rig.soft.engine().doorbells;
    println!("{reads} reads, {} and {} doorbells", rung[0] - doorbells[0], rung[1] - doorbells[1]);
    rig.check();
}
