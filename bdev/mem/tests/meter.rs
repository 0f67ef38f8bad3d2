//! What a meter counts, against what was done.

use bdev::dma::PoolPlan;
use bdev::latency::{BOUNDS, bucket};
use bdev::{Addr, Bdev, DmaPool, DmaSlice, Done, Io, IoFlags, Memory, Op, Stack, Tag};
use bdev_mem::{Delay, DelaysNs, ErrorInjector, Meter, OpSet, Ram, Rule, Times};
use nvme_spec::Status;
use proptest::prelude::*;
use std::sync::Arc;

const BLOCKS: u64 = 64;
const BAD: u64 = 13;

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Read),
        3 => Just(Op::Write),
        1 => Just(Op::WriteZeroes),
        1 => Just(Op::Deallocate),
        1 => Just(Op::Flush)
    ]
}

/// What should have been counted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Expected {
    counts: [u64; 6],
    times: [Vec<u64>; 2],
}

fn read(meter: &Meter, reactor: usize) -> (Expected, u64) {
    let here = &meter.reactors()[reactor];
    let all = [
        &here.reads,
        &here.writes,
        &here.others,
        &here.read_bytes,
        &here.write_bytes,
        &here.errors,
    ];
    let times = [&here.latencies.reads, &here.latencies.writes].map(|times| {
        let mut counts = [0; BOUNDS + 1];
        let sum_ns = times.read_into(&mut counts);
        counts.into_iter().chain([sum_ns]).collect()
    });
    (Expected { counts: all.map(|count| count.get()), times }, here.under_way.get())
}

proptest! {
    #[test]
    fn it_counts_what_was_done_and_how_long_it_took(
        delays in (0u64..9_000_000, 0u64..90_000),
        steps in proptest::collection::vec((op(), 0..BLOCKS, 1u32..4), 1..60),
    ) {
        let ram = Arc::new(Ram::new(BLOCKS * 512, 512).unwrap());
        let bad = ErrorInjector::new(ram);
        let status = Status::INTERNAL_ERROR;
        bad.add(Rule { ops: OpSet::ALL, lbas: BAD..BAD + 1, status, times: Times::Always })
            .unwrap();
        let each = DelaysNs { read: delays.0, write: delays.1, ..DelaysNs::all(0) };
        let meter = Arc::new(Meter::new(Arc::new(Delay::new(Arc::new(bad), each)), 2));
        let plan = PoolPlan::for_bytes(8 << 20);
        let memory = Arc::new(Memory::map(2, plan.bytes()).unwrap());
        let mut pool = DmaPool::new(memory.clone(), 1, &plan);
        let mut stack = Stack::new(1, memory);
        let bdev: Arc<dyn Bdev> = meter.clone();
        let top = stack.open(&bdev, 0).unwrap();
        let buf = pool.take(4 * 512).unwrap();
        let mut expected = Expected {
            times: [vec![0; BOUNDS + 2], vec![0; BOUNDS + 2]],
            ..Expected::default()
        };
        for (number, (op, lba, blocks)) in steps.iter().enumerate() {
            let blocks = if *op == Op::Flush { 0 } else { (*blocks).min((BLOCKS - lba) as u32) };
            let lba = if *op == Op::Flush { 0 } else { *lba };
            let has_data = matches!(op, Op::Read | Op::Write);
            let bytes = blocks as usize * 512;
            let data = if has_data { buf.slice().sub(0, bytes) } else { DmaSlice::EMPTY };
            let (reply_to, reply_tag) = (Addr::edge(0), Tag(number as u64));
            let io = Io { op: *op, flags: IoFlags::NONE, lba, blocks, data, reply_to, reply_tag };
            stack.submit(top, io, 5_000);
            prop_assert_eq!(u64::from(stack.outstanding(top)), number as u64 + 1);
        }
        prop_assert_eq!(read(&meter, 1).1, steps.len() as u64);
        let mut now_ns = 5_000;
        let mut dones: Vec<Done> = Vec::new();
        while dones.len() < steps.len() {
            let seen = dones.len();
            if stack.poll(now_ns) + stack.deliver(now_ns, &mut dones) == 0 {
                now_ns = stack.next_deadline_ns().expect("something is still to come");
            }
            for done in &dones[seen..] {
                let (op, _, blocks) = steps[done.tag.0 as usize];
                let lba = steps[done.tag.0 as usize].1;
                let bytes = u64::from(blocks.min((BLOCKS - lba) as u32)) * 512;
                let which = match op {
                    _ if !done.status.is_success() => 5,
                    Op::Read => 0,
                    Op::Write => 1,
                    _ => 2,
                };
                expected.counts[which] += 1;
                if which < 2 {
                    expected.counts[which + 3] += bytes;
                    expected.times[which][bucket(now_ns - 5_000)] += 1;
                    expected.times[which][BOUNDS + 1] += now_ns - 5_000;
                }
            }
        }
        prop_assert_eq!(read(&meter, 1), (expected, 0));
        prop_assert_eq!(read(&meter, 0).0.counts, [0; 6]);
        stack.close(top);
        pool.give(buf);
    }
}
