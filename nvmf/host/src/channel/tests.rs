//! A channel over connections that break, against an oracle.

use super::*;
use crate::fake::strategy::{cuts, knobs};
use crate::fake::{BLOCK, Fake, Knobs, Pipe, Storage};
use crate::plan::Deallocate;
use crate::qpair::{Qpair, QueueParams};
use bdev::{Addr, Bdev, DmaSlice, Done, Geometry, IoFlags, Memory, OpenCx, OpenError, Stack, Tag};
use nvmf_wire::pdu::Framing;
use proptest::prelude::*;
use std::sync::{Arc, Mutex};

const BLOCKS: usize = 256;
const SLOT_BYTES: usize = 128 * BLOCK;
const SLOTS: usize = 16;
const SECOND: u64 = 1_000_000_000;

const PATIENCE: Patience =
    Patience { io_timeout_ns: 5 * SECOND, loss_timeout_ns: 60 * SECOND, retries: u8::MAX };

/// What happens to the connections, one after the other.
struct Plan {
    storage: Arc<Mutex<Storage>>,
    knobs: Knobs,
    cuts: Vec<usize>,
    shape: Shape,
    /// After how many bytes to the host each connection ends; those after the last stay.
    ends: Vec<usize>,
    /// The first connection never says anything.
    mute_first: bool,
    /// Connections given out.
    given: u32,
    /// Connections told to be lost, by generation.
    lost: Vec<u32>,
    /// No connection can be had.
    none: bool,
}

#[derive(Clone)]
struct Planned(Arc<Mutex<Plan>>);

impl Lanes<Qpair<Pipe, u32>> for Planned {
    fn take(&mut self) -> Option<Lane<Qpair<Pipe, u32>>> {
        let mut plan = self.0.lock().unwrap();
        if plan.none || plan.given as usize != plan.lost.len() {
            return None;
        }
        plan.given += 1;
        let generation = plan.given;
        let fake = Fake::ready(plan.knobs.clone(), plan.storage.clone());
        let mut socket = Pipe::new(fake, plan.cuts.clone());
        if let Some(end) = plan.ends.get(generation as usize - 1) {
            socket.ends_after = *end;
        }
        socket.mute = plan.mute_first && generation == 1;
        let params = QueueParams {
            framing: Framing {
                hdgst: plan.knobs.hdgst,
                ddgst: plan.knobs.ddgst,
                pda: plan.knobs.cpda,
            },
            max_h2c_data: plan.knobs.maxh2cdata,
            in_capsule_bytes: (plan.knobs.ioccsz * 16).saturating_sub(64),
            depth: 7,
        };
        Some(Lane { qpair: Qpair::new(socket, params), shape: plan.shape, generation })
    }

    fn lost(&mut self, generation: u32, _why: &Broken) {
        self.0.lock().unwrap().lost.push(generation);
    }
}

/// Opens the channel that it holds.
struct Once(Mutex<Option<Box<dyn Channel>>>);

impl Bdev for Once {
    fn geometry(&self) -> Geometry {
        Geometry::plain(BLOCK as u32, BLOCKS as u64)
    }

    fn open(&self, _cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        Ok(self.0.lock().unwrap().take().expect("opened once"))
    }
}

struct Rig {
    stack: Stack,
    addr: Addr,
    memory: Arc<Memory>,
    now_ns: u64,
    done: Vec<Done>,
    plan: Arc<Mutex<Plan>>,
}

impl Rig {
    fn new(plan: Plan, patience: Patience) -> Rig {
        let memory = Arc::new(Memory::map(1, SLOTS * SLOT_BYTES).unwrap());
        let plan = Arc::new(Mutex::new(plan));
        let channel = RemoteChannel::new(Planned(plan.clone()), patience, 64, 0);
        let bdev: Arc<dyn Bdev> = Arc::new(Once(Mutex::new(Some(Box::new(channel)))));
        let mut stack = Stack::new(0, memory.clone());
        let addr = stack.open(&bdev, 0).unwrap();
        Rig { stack, addr, memory, now_ns: 0, done: Vec::new(), plan }
    }

    fn slice(&self, n: usize, bytes: usize) -> DmaSlice {
        self.memory.slice(0, n % SLOTS * SLOT_BYTES, bytes)
    }

    fn submit(&mut self, n: usize, step: &Step) {
        let bytes = if matches!(step.op, Op::Read | Op::Write) { step.blocks * BLOCK } else { 0 };
        let data = self.slice(n, bytes);
        match step.op {
            Op::Write => data.copy_in(0, &content(n, step.blocks)),
            Op::Read => data.zero(),
            _ => {}
        }
        let flush = step.op == Op::Flush;
        let io = Io {
            op: step.op,
            flags: IoFlags::NONE,
            lba: if flush { 0 } else { step.lba as u64 },
            blocks: if flush { 0 } else { step.blocks as u32 },
            data,
            reply_to: Addr::edge(0),
            reply_tag: Tag(n as u64),
        };
        self.stack.submit(self.addr, io, self.now_ns);
    }

    fn turn(&mut self, ns: u64) {
        self.now_ns += ns;
        self.stack.poll(self.now_ns);
        self.stack.deliver(self.now_ns, &mut self.done);
    }

    /// Turns until nothing is outstanding, for a bounded number of times.
    fn settle(&mut self, ns: u64) {
        for _ in 0..100_000 {
            if self.stack.outstanding(self.addr) == 0 && !self.stack.has_dones() {
                return;
            }
            self.turn(ns);
        }
        panic!("operations never end: {}", self.stack.outstanding(self.addr));
    }
}

#[derive(Clone, Debug)]
struct Step {
    op: Op,
    lba: usize,
    blocks: usize,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let op = prop::sample::select(vec![
        Op::Read,
        Op::Read,
        Op::Write,
        Op::Write,
        Op::WriteZeroes,
        Op::Deallocate,
        Op::Flush,
    ]);
    let blocks = prop_oneof![1usize..16, 16usize..=128];
    let step = (op, 0..BLOCKS, blocks).prop_map(|(op, lba, blocks)| Step {
        op,
        lba: lba.min(BLOCKS - blocks),
        blocks,
    });
    prop::collection::vec(step, 1..40)
}

fn content(n: usize, blocks: usize) -> Vec<u8> {
    (0..blocks * BLOCK).map(|at| (at * 5 + at / 512 + n * 37 + 1) as u8).collect()
}

/// Whether no two steps touch the same blocks unless both only read.
fn compatible(steps: &[Step]) -> bool {
    let touches = |step: &Step| step.op != Op::Flush;
    steps.iter().enumerate().all(|(i, a)| {
        steps[..i].iter().all(|b| {
            !touches(a)
                || !touches(b)
                || (a.op == Op::Read && b.op == Op::Read)
                || a.lba + a.blocks <= b.lba
                || b.lba + b.blocks <= a.lba
        })
    })
}

fn shape() -> impl Strategy<Value = Shape> {
    let deallocate =
        prop::sample::select(vec![Deallocate::DatasetManagement, Deallocate::WriteZeroes]);
    (1u32..200, 1u32..200, 1u32..200, any::<bool>(), deallocate).prop_map(
        |(blocks, zeroes, dealloc, deac, deallocate)| Shape {
            nsid: 1,
            block_bytes: BLOCK as u32,
            max_blocks: blocks,
            max_zeroes_blocks: zeroes,
            max_deallocate_blocks: dealloc,
            zeroes_may_deallocate: deac,
            deallocate,
        },
    )
}

const SHAPE: Shape = Shape {
    nsid: 1,
    block_bytes: BLOCK as u32,
    max_blocks: 128,
    max_zeroes_blocks: 128,
    max_deallocate_blocks: 128,
    zeroes_may_deallocate: true,
    deallocate: Deallocate::DatasetManagement,
};

fn plan(knobs: Knobs, cuts: Vec<usize>, shape: Shape, ends: Vec<usize>) -> Plan {
    Plan {
        storage: Storage::new(BLOCKS),
        knobs,
        cuts,
        shape,
        ends,
        mute_first: false,
        given: 0,
        lost: Vec::new(),
        none: false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_io_ends_once_and_right_however_often_the_connection_breaks(
        knobs in knobs(), cuts in cuts(), steps in steps(), shape in shape(),
        ends in prop::collection::vec(0usize..60_000, 0..12), together in 1usize..=SLOTS,
    ) {
        let together = if steps.chunks(together).all(compatible) { together } else { 1 };
        let mut rig = Rig::new(plan(knobs, cuts, shape, ends), PATIENCE);
        let mut model = vec![0; BLOCKS * BLOCK];
        for (group, chunk) in steps.chunks(together).enumerate() {
            for (index, step) in chunk.iter().enumerate() {
                rig.submit(group * together + index, step);
            }
            rig.settle(1000);
            let mut done = std::mem::take(&mut rig.done);
            done.sort_by_key(|done| done.tag.0);
            prop_assert_eq!(done.len(), chunk.len());
            for (index, (step, done)) in chunk.iter().zip(done).enumerate() {
                let n = group * together + index;
                prop_assert_eq!(done.tag, Tag(n as u64));
                prop_assert_eq!(done.status, Status::SUCCESS);
                let place = step.lba * BLOCK..(step.lba + step.blocks) * BLOCK;
                match step.op {
                    Op::Read => {
                        let mut data = vec![0; place.len()];
                        rig.slice(n, place.len()).copy_out(0, &mut data);
                        prop_assert!(data == model[place]);
                    }
                    Op::Write => model[place].copy_from_slice(&content(n, step.blocks)),
                    Op::WriteZeroes | Op::Deallocate => model[place].fill(0),
                    Op::Flush => {}
                }
            }
        }
        let plan = rig.plan.lock().unwrap();
        prop_assert!(plan.storage.lock().unwrap().ram == model);
        let generations: Vec<u32> = (1..=plan.lost.len() as u32).collect();
        prop_assert_eq!(&plan.lost, &generations, "each connection is lost once");
    }
}

fn read(lba: usize) -> Step {
    Step { op: Op::Read, lba, blocks: 8 }
}

#[test]
fn without_a_connection_operations_fail_in_the_end_and_at_once_from_then_on() {
    let mut plan = plan(Knobs::default(), vec![1 << 20], SHAPE, vec![]);
    plan.none = true;
    let mut rig = Rig::new(plan, PATIENCE);
    rig.submit(0, &read(0));
    rig.turn(59 * SECOND);
    assert!(rig.done.is_empty());
    rig.turn(2 * SECOND);
    assert_eq!(rig.done[0].status, Status::HOST_PATHING);
    rig.submit(1, &read(8));
    rig.turn(1);
    assert_eq!(rig.done[1].status, Status::HOST_PATHING);
    // A connection that comes after all is used by the next operation.
    rig.plan.lock().unwrap().none = false;
    rig.submit(2, &read(8));
    rig.settle(1);
    assert_eq!(rig.done[2].status, Status::SUCCESS);
}

#[test]
fn an_operation_without_an_answer_is_sent_again_over_the_next_connection() {
    let mut plan = plan(Knobs::default(), vec![1 << 20], SHAPE, vec![]);
    plan.mute_first = true;
    let mut rig = Rig::new(plan, PATIENCE);
    rig.turn(1);
    rig.submit(0, &read(0));
    rig.turn(1);
    rig.turn(4 * SECOND);
    assert!(rig.done.is_empty() && rig.plan.lock().unwrap().lost.is_empty());
    rig.turn(2 * SECOND);
    assert_eq!(rig.plan.lock().unwrap().lost, [1]);
    rig.settle(1);
    assert_eq!(rig.done[0].status, Status::SUCCESS);
}

#[test]
fn an_operation_that_breaks_every_connection_fails() {
    let ends = vec![10; 100];
    let plan = plan(Knobs::default(), vec![1 << 20], SHAPE, ends);
    let mut rig = Rig::new(plan, Patience { retries: 3, ..PATIENCE });
    rig.submit(0, &read(0));
    rig.settle(1);
    assert_eq!(rig.done[0].status, Status::HOST_PATHING);
    assert_eq!(rig.plan.lock().unwrap().lost.len(), 4);
}

#[test]
fn what_the_namespace_cannot_do_or_refuses_fails_once() {
    let shape =
        Shape { max_blocks: 4, max_zeroes_blocks: 0, deallocate: Deallocate::Unsupported, ..SHAPE };
    let mut rig = Rig::new(plan(Knobs::default(), vec![1 << 20], shape, vec![]), PATIENCE);
    rig.submit(0, &Step { op: Op::WriteZeroes, lba: 0, blocks: 8 });
    rig.submit(1, &Step { op: Op::Deallocate, lba: 0, blocks: 8 });
    // Half of it lies beyond the end: more commands than the queue holds, some of which fail.
    rig.submit(2, &Step { op: Op::Read, lba: BLOCKS - 50, blocks: 100 });
    rig.submit(3, &Step { op: Op::Flush, lba: 0, blocks: 0 });
    rig.settle(1);
    rig.done.sort_by_key(|done| done.tag.0);
    let statuses: Vec<Status> = rig.done.iter().map(|done| done.status.code()).collect();
    let invalid = Status::INVALID_OPCODE;
    assert_eq!(statuses, [invalid, invalid, Status::LBA_OUT_OF_RANGE, Status::SUCCESS]);
}
