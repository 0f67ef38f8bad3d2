//! Random operations on a controller that misbehaves within the specification, against an array of
//! bytes.

use super::rig::Rig;
use super::soft::{Config, Fate, Faults, Space};
use bdev::{Addr, DmaBuf, DmaSlice, IoFlags, Op};
use nvme_spec::Status;
use proptest::prelude::*;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

/// Operations under way at once, each in a stripe of its own.
pub const STRIPES: u64 = 6;
/// Blocks of a stripe.
const STRIPE_BLOCKS: u64 = 2048;
const BLOCK: usize = 512;

#[derive(Clone, Debug)]
pub struct Step {
    op: Op,
    start: u64,
    blocks: u64,
    /// Where in its buffer the data begins, in dwords.
    offset: usize,
    fill: u8,
}

#[derive(Clone, Debug)]
pub struct Batch {
    steps: Vec<Step>,
    /// For each command the drive takes in, over and over.
    fates: Vec<Fate>,
    /// The controller has a fatal error this many turns after.
    fatal_after: Option<u32>,
    /// Which of the commands that wait is completed next, over and over.
    picks: Vec<usize>,
}

#[derive(Clone, Debug)]
pub struct Case {
    pub config: Config,
    pub batches: Vec<Batch>,
}

fn step() -> impl Strategy<Value = Step> {
    let op = prop_oneof![
        4 => Just(Op::Read),
        4 => Just(Op::Write),
        1 => Just(Op::WriteZeroes),
        1 => Just(Op::Deallocate),
        1 => Just(Op::Flush)
    ];
    let blocks = prop_oneof![4 => 1..17u64, 1 => 1..1024u64];
    (op, any::<u64>(), blocks, 0..1024usize, 1..=255u8)
        .prop_map(|(op, start, blocks, offset, fill)| Step { op, start, blocks, offset, fill })
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Now),
        6 => Just(Fate::Later),
        1 => Just(Fate::Fail(Status::WRITE_FAULT)),
        1 => Just(Fate::Twice),
        1 => any::<u16>().prop_map(|cid| Fate::StrayBefore(cid | 0xfc00)),
        1 => Just(Fate::WrongQueue),
    ]
}

fn batch() -> impl Strategy<Value = Batch> {
    (
        prop::collection::vec(step(), 1..=STRIPES as usize),
        prop::collection::vec(fate(), 1..8),
        prop_oneof![9 => Just(None), 1 => (0..4u32).prop_map(Some)],
        prop::collection::vec(any::<usize>(), 1..8),
    )
        .prop_map(|(steps, fates, fatal_after, picks)| Batch {
            steps,
            fates,
            fatal_after,
            picks,
        })
}

pub fn case() -> impl Strategy<Value = Case> {
    let config = (3..40u16, 0..3u8, 0..7u8, any::<bool>(), any::<bool>(), 0..6u32).prop_map(
        |(mqes, dstrd, mdts, shadows, write_zeroes, lag)| {
            let spaces = vec![Space::new(1, BLOCK as u32, STRIPES * STRIPE_BLOCKS)];
            Config { mqes, dstrd, mdts, shadows, write_zeroes, lag, spaces, ..Config::default() }
        },
    );
    (config, prop::collection::vec(batch(), 1..8))
        .prop_map(|(config, batches)| Case { config, batches })
}

struct Sent {
    op: Op,
    lba: u64,
    blocks: u64,
    fill: u8,
    buf: DmaBuf,
    data: DmaSlice,
}

fn pattern(fill: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| fill ^ (at / 509) as u8).collect()
}

fn send(rig: &mut Rig, ns: Addr, stripe: u64, step: &Step) -> Sent {
    let blocks = if step.op == Op::Flush { 0 } else { step.blocks };
    let lba = if blocks == 0 {
        0
    } else {
        stripe * STRIPE_BLOCKS + step.start % (STRIPE_BLOCKS - blocks)
    };
    let has_data = matches!(step.op, Op::Read | Op::Write);
    let bytes = if has_data { blocks as usize * BLOCK } else { 0 };
    let buf = rig.buffer(bytes + 4096, 0x5a);
    let data = if has_data { buf.slice().sub(step.offset * 4, bytes) } else { DmaSlice::EMPTY };
    if step.op == Op::Write {
        data.copy_in(0, &pattern(step.fill, bytes));
    }
    rig.submit(ns, step.op, IoFlags::NONE, lba, blocks as u32, data, stripe);
    Sent { op: step.op, lba, blocks, fill: step.fill, buf, data }
}

/// Turns until all of a batch has ended. Of the commands that wait one is completed each turn: as the
/// case says, and every other turn the oldest. A drive that leaves one waiting for longer than the
/// time-out has it aborted, and rightly.
fn drive(rig: &mut Rig, batch: &Batch, count: usize) -> Result<(), String> {
    let mut picks = batch.picks.iter().cycle();
    let mut fatal_in = batch.fatal_after;
    for turn in 0..3000 {
        if rig.dones.len() == count {
            return Ok(());
        }
        rig.turn();
        let mut engine = rig.soft.engine();
        match fatal_in {
            Some(0) => {
                engine.faults.fatal = true;
                if !engine.cc.enabled() {
                    engine.faults.fatal = false;
                    fatal_in = None;
                }
            }
            Some(left) => fatal_in = Some(left - 1),
            None => {}
        }
        let waiting = engine.held.iter().filter(|held| held.fate == Fate::Later).count();
        if waiting > 0 && !engine.faults.fatal {
            let chosen = picks.next().expect("a cycle") % waiting;
            let pick = if turn % 2 == 0 { chosen } else { 0 };
            let mut later = engine.held.iter().enumerate().filter(|(_, h)| h.fate == Fate::Later);
            let at = later.nth(pick).expect("counted").0;
            if engine.has_room(engine.held[at].qid) {
                engine.complete_at(at);
            }
        }
    }
    Err(format!("{} of {count} operations ended", rig.dones.len()))
}

/// Compares an operation that ended with the model, and brings the model up to date.
fn judge(
    sent: &Sent,
    status: Status,
    rig: &Rig,
    model: &mut [u8],
    may_fail: bool,
    was_reset: bool,
) -> Result<(), String> {
    let range = sent.lba as usize * BLOCK..(sent.lba + sent.blocks) as usize * BLOCK;
    let now = rig.soft.engine().spaces[0].data[range.clone()].to_vec();
    let meant = match sent.op {
        Op::Write => pattern(sent.fill, range.len()),
        Op::WriteZeroes | Op::Deallocate => vec![0; range.len()],
        Op::Read | Op::Flush => model[range.clone()].to_vec(),
    };
    let allowed = status.is_success()
        || may_fail && status == Status::WRITE_FAULT
        || was_reset && status == Status::COMMAND_INTERRUPTED;
    if !allowed {
        return Err(format!("{:?} of {} blocks ended with {status}", sent.op, sent.blocks));
    }
    if status.is_success() {
        if sent.op == Op::Read {
            let mut got = vec![0; range.len()];
            sent.data.copy_out(0, &mut got);
            if got != meant {
                return Err(format!("{} blocks at {} read wrong", sent.blocks, sent.lba));
            }
        }
        if now != meant {
            return Err(format!("{:?} of {} blocks left wrong data", sent.op, sent.blocks));
        }
    }
    // Each block of one that failed is old or new.
    let blocks = now.chunks(BLOCK).zip(meant.chunks(BLOCK)).zip(model[range.clone()].chunks(BLOCK));
    if blocks.into_iter().any(|((now, new), old)| now != new && now != old) {
        return Err(format!("{:?} left blocks that are neither old nor new", sent.op));
    }
    model[range].copy_from_slice(&now);
    Ok(())
}

fn guard(rig: &Rig, sent: &Sent) -> Result<(), String> {
    // What lies in the buffer around the data was not touched.
    let mut whole = vec![0; sent.buf.len()];
    sent.buf.slice().copy_out(0, &mut whole);
    let at = match sent.data.is_empty() {
        true => 0,
        false => sent.data.as_ptr() as usize - sent.buf.slice().as_ptr() as usize,
    };
    let outside = whole[..at].iter().chain(&whole[at + sent.data.len()..]);
    let is_clean = outside.into_iter().all(|byte| *byte == 0x5a);
    let blame = rig.blame();
    match (is_clean, blame.is_empty()) {
        (true, true) => Ok(()),
        (false, _) => Err("memory around the data was written".to_owned()),
        (_, false) => Err(blame),
    }
}

/// Runs a case on a controller with `faults`.
///
/// # Errors
/// What is wrong, with the driver or with the controller.
pub fn run_case(case: &Case, faults: Faults) -> Result<(), String> {
    let mut rig = Rig::new(case.config.clone());
    let ns = rig.open(1);
    rig.turns(12);
    rig.soft.engine().faults = faults;
    let mut model = vec![0; STRIPES as usize * STRIPE_BLOCKS as usize * BLOCK];
    for batch in &case.batches {
        let failed: Arc<Mutex<HashSet<u64>>> = Arc::default();
        let (log, fates) = (failed.clone(), batch.fates.clone());
        let mut next = 0;
        rig.soft.engine().decide = Box::new(move |qid, sqe| {
            if qid == 0 {
                return Fate::Now;
            }
            next += 1;
            let fate = fates[next % fates.len()];
            if matches!(fate, Fate::Fail(_)) {
                // A flush has no blocks: any stripe may have failed then.
                let is_flush = sqe.opcode == nvme_spec::opcode::nvm::FLUSH;
                log.lock().unwrap().insert(if is_flush {
                    u64::MAX
                } else {
                    sqe.slba() / STRIPE_BLOCKS
                });
            }
            fate
        });
        let resets = rig.controller.counts().resets;
        let sent: Vec<Sent> =
            batch.steps.iter().zip(0..).map(|(step, n)| send(&mut rig, ns, n, step)).collect();
        drive(&mut rig, batch, sent.len())?;
        let was_reset = rig.controller.counts().resets > resets;
        for done in std::mem::take(&mut rig.dones) {
            let of = &sent[done.tag.0 as usize];
            let stripe = if of.op == Op::Flush { u64::MAX } else { of.lba / STRIPE_BLOCKS };
            let may_fail = failed.lock().unwrap().contains(&stripe);
            judge(of, done.status, &rig, &mut model, may_fail, was_reset)?;
            guard(&rig, of)?;
        }
        sent.into_iter().for_each(|s| rig.pool.give(s.buf));
        // A fatal error that came when all had ended has its reset before the next batch.
        rig.soft.engine().faults.fatal = false;
        rig.turns(30);
    }
    if rig.soft.engine().spaces[0].data != model {
        return Err("blocks that nobody wrote changed".to_owned());
    }
    rig.stack.close(ns);
    Ok(())
}
