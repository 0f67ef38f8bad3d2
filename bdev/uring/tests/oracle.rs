//! Random operations on real files and devices, against a byte array.

mod rig;

use bdev::{DmaBuf, DmaSlice, IoFlags, Op};
use bdev_uring::{Options, UringBdev};
use nvme_spec::Status;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rig::Rig;
use std::path::Path;

/// Operations under way at once, each in a stripe of its own.
const STRIPES: u64 = 8;
/// Bytes of a stripe.
const STRIPE_BYTES: u64 = 3 << 20;

#[derive(Clone, Debug)]
struct Step {
    op: Op,
    fua: bool,
    may_deallocate: bool,
    /// Where in the stripe, and how much, as shares of what is possible.
    start: u64,
    length: u64,
    fill: u8,
}

fn step() -> impl Strategy<Value = Step> {
    let op = prop_oneof![
        6 => Just(Op::Read),
        6 => Just(Op::Write),
        2 => Just(Op::WriteZeroes),
        2 => Just(Op::Deallocate),
        1 => Just(Op::Flush)
    ];
    // Mostly a few blocks, at times up to 1 MiB.
    let length = prop_oneof![4 => 1..9u64, 1 => 1..2049u64];
    (op, any::<bool>(), any::<bool>(), any::<u64>(), length, any::<u8>()).prop_map(
        |(op, fua, may_deallocate, start, length, fill)| Step {
            op,
            fua,
            may_deallocate,
            start,
            length,
            fill,
        },
    )
}

struct Sent {
    op: Op,
    at: usize,
    bytes: usize,
    fill: u8,
    buf: DmaBuf,
}

fn send(rig: &mut Rig, stripe: u64, block: u64, step: &Step) -> Option<Sent> {
    let stripe_blocks = STRIPE_BYTES / block;
    let zeroing = matches!(step.op, Op::WriteZeroes | Op::Deallocate);
    let most = if zeroing { stripe_blocks } else { (1 << 20) / block };
    let (blocks, lba) = if step.op == Op::Flush {
        (0, 0)
    } else {
        let blocks = if zeroing { step.length * 7 } else { step.length }.min(most);
        (blocks, stripe * stripe_blocks + step.start % (stripe_blocks - blocks + 1))
    };
    let bytes = (blocks * block) as usize;
    let has_data = matches!(step.op, Op::Read | Op::Write);
    let buf = rig.pool.take(if has_data { bytes } else { 1 })?;
    // Unlike any device's contents, so that a read that does nothing is seen.
    buf.slice().copy_in(0, &vec![step.fill ^ 0x5a; buf.len()]);
    let data = if has_data { buf.slice().sub(0, bytes) } else { DmaSlice::EMPTY };
    if step.op == Op::Write {
        data.copy_in(0, &vec![step.fill; bytes]);
    }
    let mut flags = if step.fua { IoFlags::FUA } else { IoFlags::NONE };
    if step.may_deallocate {
        flags = flags.with(IoFlags::MAY_DEALLOCATE);
    }
    rig.submit(step.op, flags, lba, blocks as u32, data, stripe);
    Some(Sent { op: step.op, at: lba as usize * block as usize, bytes, fill: step.fill, buf })
}

fn check(sent: &Sent, oracle: &mut [u8]) -> Result<(), TestCaseError> {
    let range = sent.at..sent.at + sent.bytes;
    match sent.op {
        Op::Read => {
            let mut got = vec![0; sent.bytes];
            sent.buf.slice().copy_out(0, &mut got);
            prop_assert!(got == oracle[range], "{} bytes at {} are wrong", sent.bytes, sent.at);
        }
        Op::Write => oracle[range].fill(sent.fill),
        Op::WriteZeroes | Op::Deallocate => oracle[range].fill(0),
        Op::Flush => {}
    }
    Ok(())
}

/// Runs the batches; then reads all of it back through the device and, for a file, around it.
fn run_case(path: &Path, options: Options, batches: &[Vec<Step>]) -> Result<(), TestCaseError> {
    let mut rig = Rig::new(UringBdev::open(path, options).unwrap());
    let block = u64::from(options.block_bytes);
    let mut oracle = vec![0u8; (STRIPES * STRIPE_BYTES) as usize];
    let all = (STRIPES * STRIPE_BYTES / block) as u32;
    let status = rig.one(Op::WriteZeroes, IoFlags::NONE, 0, all, DmaSlice::EMPTY);
    prop_assert_eq!(status, Status::SUCCESS);
    for batch in batches {
        let sent: Vec<Option<Sent>> =
            batch.iter().zip(0..).map(|(step, n)| send(&mut rig, n, block, step)).collect();
        rig.run(sent.iter().flatten().count());
        for done in std::mem::take(&mut rig.dones) {
            prop_assert_eq!(done.status, Status::SUCCESS);
            check(sent[done.tag.0 as usize].as_ref().expect("sent"), &mut oracle)?;
        }
        sent.into_iter().flatten().for_each(|s| rig.pool.give(s.buf));
    }
    for (n, piece) in oracle.chunks(1 << 20).enumerate() {
        let lba = (n << 20) as u64 / block;
        let got = rig.read(lba, (piece.len() as u64 / block) as u32).unwrap();
        prop_assert!(got == piece, "MiB {n} is wrong at the end");
    }
    prop_assert_eq!(rig.device.errors(), 0);
    rig.end();
    prop_assert!(std::fs::read(path).unwrap() == oracle, "the contents of {path:?} are wrong");
    Ok(())
}

fn holds_against_oracle(path: &Path, options: Options, cases: u32) {
    let batches = proptest::collection::vec(proptest::collection::vec(step(), 1..9), 1..12);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&batches, |batches| run_case(path, options, &batches));
    result.unwrap_or_else(|error| panic!("{error}"));
}

fn file_in(folder: &Path, block_bytes: u32) -> std::path::PathBuf {
    let path = folder.join("device");
    UringBdev::create(&path, STRIPES * STRIPE_BYTES, block_bytes).unwrap();
    path
}

#[test]
fn file_with_direct_io_reads_what_was_written() {
    let folder = rig::on_disk();
    for block_bytes in [512, 4096] {
        let path = file_in(folder.path(), block_bytes);
        let options = Options { block_bytes, ..Options::default() };
        let device = UringBdev::open(&path, options).unwrap();
        println!("direct I/O refused: {:?}", device.buffered());
        drop(device);
        holds_against_oracle(&path, options, 12);
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn file_through_the_page_cache_reads_what_was_written() {
    let folder = rig::on_disk();
    let path = file_in(folder.path(), 512);
    let options = Options { block_bytes: 512, buffered: true, ..Options::default() };
    assert_eq!(UringBdev::open(&path, options).unwrap().buffered(), Some("as asked for"));
    holds_against_oracle(&path, options, 12);
}

#[test]
fn file_on_tmpfs_works_without_direct_io_and_says_so() {
    let folder = rig::on_tmpfs();
    let path = file_in(folder.path(), 512);
    let options = Options { block_bytes: 512, ..Options::default() };
    let device = UringBdev::open(&path, options).unwrap();
    assert_eq!(device.buffered(), Some("the file system does no direct I/O"));
    drop(device);
    holds_against_oracle(&path, options, 20);
}

#[test]
fn loop_device_reads_what_was_written() {
    let Some(device) = rig::Loop::or_skip(STRIPES * STRIPE_BYTES, 512) else { return };
    let options = Options { block_bytes: 512, ..Options::default() };
    assert_eq!(UringBdev::open(&device.path, options).unwrap().buffered(), None);
    holds_against_oracle(&device.path, options, 12);
}

/// The comparison must see a block that changed behind its back.
#[test]
fn oracle_catches_a_block_that_changed() {
    let folder = rig::on_disk();
    let path = file_in(folder.path(), 4096);
    let mut rig = Rig::new(UringBdev::open(&path, Options::default()).unwrap());
    let mut oracle = vec![0u8; (STRIPES * STRIPE_BYTES) as usize];
    let op = |op| Step { op, fua: true, may_deallocate: false, start: 5, length: 2, fill: 9 };
    let mut go = |rig: &mut Rig, kind| {
        let sent = send(rig, 0, 4096, &op(kind)).unwrap();
        rig.run(1);
        rig.dones.clear();
        let result = check(&sent, &mut oracle);
        rig.pool.give(sent.buf);
        result
    };
    go(&mut rig, Op::Write).unwrap();
    go(&mut rig, Op::Read).unwrap();
    assert_eq!(rig.write(6, &[8; 4096], IoFlags::NONE), Status::SUCCESS);
    go(&mut rig, Op::Read).expect_err("block 6 is not what the oracle was told");
    rig.end();
}

/// More at once than the ring has places for.
#[test]
fn thousands_at_once_all_complete_once() {
    let folder = rig::on_disk();
    let path = file_in(folder.path(), 4096);
    let mut rig = Rig::new(UringBdev::open(&path, Options::default()).unwrap());
    let buf = rig.pool.take(4096).unwrap();
    let blocks = STRIPES * STRIPE_BYTES / 4096;
    const COUNT: u64 = 6000;
    for n in 0..COUNT {
        rig.submit(Op::Read, IoFlags::NONE, n % blocks, 1, buf.slice(), n);
    }
    rig.run(COUNT as usize);
    let mut seen: Vec<u64> = rig
        .dones
        .drain(..)
        .map(|done| {
            assert_eq!(done.status, Status::SUCCESS);
            done.tag.0
        })
        .collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..COUNT));
    rig.pool.give(buf);
    rig.end();
}

#[test]
fn a_turn_costs_one_system_call_and_none_when_nothing_is_new() {
    let folder = rig::on_disk();
    let path = file_in(folder.path(), 4096);
    let mut rig = Rig::new(UringBdev::open(&path, Options::default()).unwrap());
    let buf = rig.pool.take(4096).unwrap();
    for n in 0..64 {
        rig.submit(Op::Read, IoFlags::NONE, n, 1, buf.slice(), n);
    }
    assert_eq!(rig.device.system_calls(), 0, "submitting only gathers");
    rig.stack.poll(0);
    assert_eq!(rig.device.system_calls(), 1, "64 operations in one call");
    rig.run(64);
    let calls = rig.device.system_calls();
    (0..1000).for_each(|_| assert_eq!(rig.stack.poll(0), 0));
    assert_eq!(rig.device.system_calls(), calls, "nothing is new");
    rig.dones.clear();
    rig.pool.give(buf);
    rig.end();
}
