//! Stacks of layers over memory, against a byte array.

use bdev::dma::PoolPlan;
use bdev::{Addr, Bdev, DmaBuf, DmaPool, DmaSlice, Done, Io, IoFlags, Memory, Op, Stack, Tag};
use bdev_mem::{Delay, DelaysNs, ErrorInjector, Null, OpSet, Ram, Rule, Times};
use nvme_spec::Status;
use proptest::prelude::*;
use std::sync::Arc;

const BLOCK: usize = 512;
const BLOCKS: u64 = 64;

/// One reactor's worth of a stack, with a clock that jumps to the next deadline.
struct Rig {
    stack: Stack,
    pool: DmaPool,
    top: Addr,
    now_ns: u64,
    dones: Vec<Done>,
}

impl Rig {
    fn new(bdev: &Arc<dyn Bdev>) -> Rig {
        let plan = PoolPlan::for_bytes(8 << 20);
        let memory = Arc::new(Memory::map(1, plan.bytes()).unwrap());
        let mut stack = Stack::new(0, memory.clone());
        let top = stack.open(bdev, 0).unwrap();
        Rig { stack, pool: DmaPool::new(memory, 0, &plan), top, now_ns: 1_000, dones: Vec::new() }
    }

    fn submit(&mut self, op: Op, lba: u64, blocks: u32, data: DmaSlice, tag: u64) {
        let (reply_to, reply_tag) = (Addr::edge(0), Tag(tag));
        let io = Io { op, flags: IoFlags::NONE, lba, blocks, data, reply_to, reply_tag };
        self.stack.submit(self.top, io, self.now_ns);
    }

    /// Turns until `count` completions are there, moving the clock only when nothing happens.
    fn run(&mut self, count: usize) {
        while self.dones.len() < count {
            let work =
                self.stack.poll(self.now_ns) + self.stack.deliver(self.now_ns, &mut self.dones);
            if work == 0 {
                let due = self.stack.next_deadline_ns().expect("something is still to come");
                assert!(due > self.now_ns, "due at {due}, yet nothing done at {}", self.now_ns);
                self.now_ns = due;
            }
        }
    }

    fn one(&mut self, op: Op, lba: u64, blocks: u32, data: DmaSlice) -> Status {
        self.submit(op, lba, blocks, data, 7);
        self.run(1);
        let done = self.dones.pop().unwrap();
        assert_eq!((done.tag, done.to), (Tag(7), Addr::edge(0)));
        done.status
    }

    fn end(mut self) {
        assert_eq!(self.stack.next_deadline_ns(), None);
        self.stack.close(self.top);
        assert_eq!(self.stack.channels(), 0);
        assert_eq!(self.pool.taken(), [0; 4]);
    }
}

#[derive(Clone, Debug)]
enum Layer {
    Delay(DelaysNs),
    Error(Rule),
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => Just(Op::Read),
        4 => Just(Op::Write),
        1 => Just(Op::WriteZeroes),
        1 => Just(Op::Deallocate),
        1 => Just(Op::Flush)
    ]
}

fn layer() -> impl Strategy<Value = Layer> {
    let delay = (0..5000u64, 0..5000u64, 0..500u64).prop_map(|(read, write, flush)| {
        Layer::Delay(DelaysNs { read, write, write_zeroes: 40, deallocate: write / 2, flush })
    });
    let times = prop_oneof![
        Just(Times::Always),
        (0..5u64).prop_map(Times::First),
        (1..6u64, any::<u64>()).prop_map(|(n, seed)| Times::OneIn { n, seed })
    ];
    let error =
        (any_op(), any_op(), 0..BLOCKS, 1..8u64, times).prop_map(|(a, b, lba, n, times)| {
            let status = if a == Op::Read { Status::UNRECOVERED_READ } else { Status::WRITE_FAULT };
            Layer::Error(Rule { ops: OpSet::only(a).and(b), lbas: lba..lba + n, status, times })
        });
    prop_oneof![delay, error]
}

fn build(layers: &[Layer]) -> (Arc<dyn Bdev>, Vec<Rule>) {
    let mut bdev: Arc<dyn Bdev> = Arc::new(Ram::new(BLOCKS * BLOCK as u64, BLOCK as u32).unwrap());
    let mut rules = Vec::new();
    for layer in layers {
        bdev = match layer {
            Layer::Delay(delays) => Arc::new(Delay::new(bdev, *delays)),
            Layer::Error(rule) => {
                let injector = ErrorInjector::new(bdev);
                injector.add(rule.clone()).unwrap();
                rules.push(rule.clone());
                Arc::new(injector)
            }
        };
    }
    (bdev, rules)
}

/// An operation of a batch: one of eight stripes, so that those under way at once never overlap.
type Step = (Op, u64, u32, u8);

fn step() -> impl Strategy<Value = Step> {
    (any_op(), 0..BLOCKS / 8, 1..9u32, any::<u8>())
}

struct Sent {
    op: Op,
    at: usize,
    fill: u8,
    buf: DmaBuf,
    bytes: usize,
}

fn send(rig: &mut Rig, stripe: usize, (op, offset, blocks, fill): Step) -> Sent {
    let blocks = if op == Op::Flush { 0 } else { blocks.min((BLOCKS / 8 - offset) as u32) };
    let lba = if op == Op::Flush { 0 } else { stripe as u64 * (BLOCKS / 8) + offset };
    let bytes = blocks as usize * BLOCK;
    let buf = rig.pool.take(bytes.max(1)).unwrap();
    buf.slice().copy_in(0, &vec![fill; buf.len()]);
    let has_data = matches!(op, Op::Read | Op::Write);
    let data = if has_data { buf.slice().sub(0, bytes) } else { DmaSlice::EMPTY };
    rig.submit(op, lba, blocks, data, stripe as u64);
    Sent { op, at: lba as usize * BLOCK, fill, buf, bytes }
}

/// Holds one completion against the oracle, and takes what it changed into the oracle.
fn check(sent: &Sent, status: Status, oracle: &mut [u8], rules: &[Rule]) {
    let range = sent.at..sent.at + sent.bytes;
    if !status.is_success() {
        let fits = |r: &Rule| r.ops.has(sent.op) && r.status == status;
        assert!(rules.iter().any(fits), "{:?} failed with {status:?} by no rule", sent.op);
        return;
    }
    match sent.op {
        Op::Read => {
            let mut got = vec![0; sent.bytes];
            sent.buf.slice().copy_out(0, &mut got);
            assert_eq!(got, oracle[range]);
        }
        Op::Write => oracle[range].fill(sent.fill),
        Op::WriteZeroes | Op::Deallocate => oracle[range].fill(0),
        Op::Flush => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn any_stack_of_layers_reads_what_was_written(
        layers in proptest::collection::vec(layer(), 0..5),
        batches in proptest::collection::vec(proptest::collection::vec(step(), 1..9), 1..30),
    ) {
        let (bdev, rules) = build(&layers);
        let mut rig = Rig::new(&bdev);
        let mut oracle = vec![0u8; BLOCKS as usize * BLOCK];
        for batch in batches {
            let sent: Vec<Sent> =
                batch.into_iter().take(8).enumerate().map(|(i, s)| send(&mut rig, i, s)).collect();
            rig.run(sent.len());
            let mut seen = vec![false; sent.len()];
            for done in std::mem::take(&mut rig.dones) {
                let index = done.tag.0 as usize;
                prop_assert!(!std::mem::replace(&mut seen[index], true), "completed twice");
                check(&sent[index], done.status, &mut oracle, &rules);
            }
            sent.into_iter().for_each(|s| rig.pool.give(s.buf));
        }
        rig.end();
    }
}

fn ram(bytes: u64) -> Arc<dyn Bdev> {
    Arc::new(Ram::new(bytes, BLOCK as u32).unwrap())
}

#[test]
fn out_of_range_is_refused_by_both_disks() {
    let null: Arc<dyn Bdev> = Arc::new(Null::new(BLOCKS * BLOCK as u64, BLOCK as u32).unwrap());
    for bdev in [ram(BLOCKS * BLOCK as u64), null] {
        let mut rig = Rig::new(&bdev);
        let buf = rig.pool.take(2 * BLOCK).unwrap();
        let data = buf.slice().sub(0, 2 * BLOCK);
        for lba in [BLOCKS - 1, BLOCKS, u64::MAX, u64::MAX - 1] {
            for op in [Op::Read, Op::Write] {
                assert_eq!(rig.one(op, lba, 2, data), Status::LBA_OUT_OF_RANGE.dnr());
            }
            let status = rig.one(Op::Deallocate, lba, 2, DmaSlice::EMPTY);
            assert_eq!(status, Status::LBA_OUT_OF_RANGE.dnr());
        }
        rig.pool.give(buf);
        rig.end();
    }
}

#[test]
fn null_reads_as_zeros_and_shows_nothing_of_an_old_buffer() {
    let null: Arc<dyn Bdev> = Arc::new(Null::new(1 << 60, 4096).unwrap());
    let mut rig = Rig::new(&null);
    let buf = rig.pool.take(4096).unwrap();
    buf.slice().copy_in(0, &[9; 4096]);
    assert_eq!(rig.one(Op::Write, 5, 1, buf.slice()), Status::SUCCESS);
    assert_eq!(rig.one(Op::Read, 5, 1, buf.slice()), Status::SUCCESS);
    let mut got = [1; 4096];
    buf.slice().copy_out(0, &mut got);
    assert_eq!(got, [0; 4096]);
    rig.pool.give(buf);
    rig.end();
}

#[test]
fn clearing_much_goes_in_steps_and_others_pass() {
    let bytes = 8u64 << 20;
    let bdev = ram(bytes);
    let mut rig = Rig::new(&bdev);
    let last = bytes / BLOCK as u64 - 1;
    let buf = rig.pool.take(BLOCK).unwrap();
    let data = buf.slice().sub(0, BLOCK);
    data.copy_in(0, &[3; BLOCK]);
    assert_eq!(rig.one(Op::Write, last, 1, data), Status::SUCCESS);
    rig.submit(Op::WriteZeroes, 0, (bytes / BLOCK as u64) as u32, DmaSlice::EMPTY, 1);
    rig.submit(Op::Read, last, 1, data, 2);
    rig.stack.poll(0);
    rig.stack.deliver(0, &mut rig.dones);
    assert_eq!(rig.dones.len(), 1, "the read does not wait for the zeroes");
    assert_eq!(rig.stack.outstanding(rig.top), 1);
    assert_eq!(rig.stack.next_deadline_ns(), Some(0));
    let mut polls = 1;
    while rig.dones.len() < 2 {
        polls += rig.stack.poll(0);
        rig.stack.deliver(0, &mut rig.dones);
    }
    assert_eq!(polls, 31, "256 KiB at a time, the first at once");
    rig.dones.clear();
    assert_eq!(rig.one(Op::Read, last, 1, data), Status::SUCCESS);
    let mut got = [1; BLOCK];
    data.copy_out(0, &mut got);
    assert_eq!(got, [0; BLOCK]);
    rig.pool.give(buf);
    rig.end();
}

#[test]
fn deallocating_costs_what_was_written() {
    let bytes = 64u64 << 20;
    let bdev = ram(bytes);
    let mut rig = Rig::new(&bdev);
    let blocks = (bytes / BLOCK as u64) as u32;
    let buf = rig.pool.take(BLOCK).unwrap();
    let data = buf.slice().sub(0, BLOCK);
    data.copy_in(0, &[3; BLOCK]);
    let polls = |rig: &mut Rig| {
        rig.submit(Op::Deallocate, 0, blocks, DmaSlice::EMPTY, 1);
        let mut polls = 0;
        while rig.dones.is_empty() {
            polls += rig.stack.poll(0);
            rig.stack.deliver(0, &mut rig.dones);
        }
        rig.dones.clear();
        polls
    };
    assert_eq!(polls(&mut rig), 0, "nothing was written");
    assert_eq!(rig.one(Op::Write, 5, 1, data), Status::SUCCESS);
    assert_eq!(polls(&mut rig), 0, "one block was");
    for lba in (0..2048).step_by(16) {
        rig.dones.clear();
        assert_eq!(rig.one(Op::Write, lba, 1, data), Status::SUCCESS);
    }
    assert_eq!(polls(&mut rig), 4, "1 MiB was, and 256 KiB are cleared at a time");
    assert_eq!(polls(&mut rig), 0, "and once");
    rig.dones.clear();
    assert_eq!(rig.one(Op::Read, 16, 1, data), Status::SUCCESS);
    let mut got = [1; BLOCK];
    data.copy_out(0, &mut got);
    assert_eq!(got, [0; BLOCK]);
    rig.pool.give(buf);
    rig.end();
}

#[test]
fn delay_holds_each_operation_as_long_as_it_says() {
    let delays = DelaysNs { read: 100, write: 300, ..DelaysNs::all(0) };
    let layer = Arc::new(Delay::new(ram(BLOCKS * BLOCK as u64), delays));
    let bdev: Arc<dyn Bdev> = layer.clone();
    let mut rig = Rig::new(&bdev);
    let buf = rig.pool.take(BLOCK).unwrap();
    let data = buf.slice().sub(0, BLOCK);
    rig.submit(Op::Write, 0, 1, data, 1);
    rig.submit(Op::Read, 1, 1, data, 2);
    rig.submit(Op::Read, 2, 1, data, 3);
    rig.submit(Op::Flush, 0, 0, DmaSlice::EMPTY, 4);
    assert_eq!(rig.stack.next_deadline_ns(), Some(1_100));
    let mut order = Vec::new();
    for count in 1..=4 {
        rig.run(count);
        order.push((rig.dones[count - 1].tag.0, rig.now_ns));
    }
    assert_eq!(order, [(4, 1_000), (2, 1_100), (3, 1_100), (1, 1_300)]);
    rig.dones.clear();
    layer.set(DelaysNs::all(0));
    assert_eq!(rig.one(Op::Write, 0, 1, data), Status::SUCCESS);
    assert_eq!(rig.now_ns, 1_300);
    rig.pool.give(buf);
    rig.end();
}

#[test]
fn rules_change_while_it_runs_and_count_over_all_reactors() {
    let layer = Arc::new(ErrorInjector::new(ram(BLOCKS * BLOCK as u64)));
    let bdev: Arc<dyn Bdev> = layer.clone();
    let mut rigs = [Rig::new(&bdev), Rig::new(&bdev)];
    let rule = |times| Rule {
        ops: OpSet::only(Op::Deallocate),
        lbas: 4..6,
        status: Status::WRITE_FAULT.dnr(),
        times,
    };
    let mut hit = |lba, blocks| -> Vec<bool> {
        let failed =
            |r: &mut Rig| !r.one(Op::Deallocate, lba, blocks, DmaSlice::EMPTY).is_success();
        rigs.iter_mut().map(failed).collect()
    };
    assert_eq!(hit(4, 1), [false, false]);
    let first = layer.add(rule(Times::First(3))).unwrap();
    assert_eq!(hit(0, 4), [false, false], "ends before the range");
    assert_eq!(hit(6, 9), [false, false], "starts behind the range");
    assert_eq!(hit(3, 2), [true, true]);
    assert_eq!(hit(5, 1), [true, false], "three in all");
    assert_eq!(layer.failed(first), Some(3));
    let always = layer.add(rule(Times::Always)).unwrap();
    assert_eq!(hit(5, 1), [true, true]);
    assert_eq!((layer.remove(always), layer.remove(always)), (Some(2), None));
    assert_eq!(hit(5, 1), [false, false]);
    layer.add(rule(Times::Always)).unwrap();
    layer.clear();
    assert_eq!(hit(5, 1), [false, false]);
    rigs.into_iter().for_each(Rig::end);
}

#[test]
fn one_in_n_fails_about_as_often_and_the_same_for_the_same_seed() {
    let failures = |seed| -> Vec<bool> {
        let layer = Arc::new(ErrorInjector::new(ram(BLOCKS * BLOCK as u64)));
        let times = Times::OneIn { n: 10, seed };
        let rule = Rule { ops: OpSet::ALL, lbas: 0..1, status: Status::INTERNAL_ERROR, times };
        layer.add(rule).unwrap();
        let bdev: Arc<dyn Bdev> = layer;
        let mut rig = Rig::new(&bdev);
        let seen = (0..2000).map(|_| !rig.one(Op::Flush, 0, 0, DmaSlice::EMPTY).is_success());
        let seen = seen.collect();
        rig.end();
        seen
    };
    let (a, again, b) = (failures(1), failures(1), failures(2));
    assert_eq!(a, again);
    assert_ne!(a, b);
    let count = a.iter().filter(|failed| **failed).count();
    assert!((150..250).contains(&count), "{count} of 2000 with one in ten");
}

#[test]
fn rules_that_could_never_fail_anything_are_refused_in_a_sentence() {
    let layer = ErrorInjector::new(ram(BLOCKS * BLOCK as u64));
    let good =
        Rule { ops: OpSet::ALL, lbas: 0..1, status: Status::WRITE_FAULT, times: Times::Always };
    let say = |rule| layer.add(rule).expect_err("refused").0;
    assert!(say(Rule { ops: OpSet::NONE, ..good.clone() }).contains("no operation"));
    assert!(say(Rule { lbas: 3..3, ..good.clone() }).contains("no block"));
    let never = Times::OneIn { n: 0, seed: 0 };
    assert!(say(Rule { times: never, ..good.clone() }).contains("one in zero"));
    assert!(say(Rule { status: Status::SUCCESS, ..good.clone() }).contains("success"));
    layer.add(good).unwrap();
}

/// The checker of the property test must see a disk that lies.
#[test]
#[should_panic(expected = "left == right")]
fn oracle_catches_a_write_that_did_not_happen() {
    let bdev = ram(BLOCKS * BLOCK as u64);
    let mut rig = Rig::new(&bdev);
    let mut oracle = vec![0u8; BLOCKS as usize * BLOCK];
    let write = send(&mut rig, 0, (Op::Write, 0, 1, 0x55));
    check(&write, Status::SUCCESS, &mut oracle, &[]);
    rig.run(1);
    rig.dones.clear();
    // Another write to the same block that the oracle is not told of.
    let _ = send(&mut rig, 0, (Op::Write, 0, 1, 0xaa));
    let read = send(&mut rig, 0, (Op::Read, 0, 1, 0));
    rig.run(2);
    check(&read, Status::SUCCESS, &mut oracle, &[]);
}
