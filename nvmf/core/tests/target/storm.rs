//! Hosts that do everything at once, on two reactors, with errors, aborts and lost connections;
//! an oracle checks each answer, and at the end nothing may be left.

use crate::chance::Chance;
use crate::fabric::{Answer, FabricBug, Manners};
use crate::model::{Allowed, Model};
use crate::node::{NQN, Node, io, registry};
use crate::ram::{Ram, RamBug};
use bdev::Geometry;
use nvme_spec::dsm::{Range as DsmRange, attribute};
use nvme_spec::opcode::{admin, nvm};
use nvme_spec::{Fuse, Sgl, Sqe, Status};
use nvmf::transport::QpairId;
use proptest::prelude::*;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use zerocopy::IntoBytes;

const BLOCKS: usize = 96;

/// A command that a host waits for.
struct Pending {
    kind: Kind,
    /// When it was issued; the name of a write in the model.
    issued: u64,
    first: usize,
    allowed: Allowed,
}

#[derive(Clone, Debug)]
enum Kind {
    Read,
    /// Write, Write Zeroes, Deallocate: these blocks get a new value; one after the other if
    /// `in_steps`, so that a failed one may have written some.
    Write {
        range: Range<usize>,
        in_steps: bool,
    },
    Compare {
        value: u64,
    },
    /// No data: Flush, Verify, Abort.
    Other,
}

/// How a storm blows.
#[derive(Clone, Copy, Debug)]
struct Weather {
    seed: u64,
    /// Percent of the operations of the bdev that fail.
    errors: u64,
    /// Percent of the pulls that fail.
    pull_errors: u64,
    /// A connection is lost once in so many steps.
    hang_ups: u64,
    buffers: [u32; 4],
    /// The device is memory.
    direct: bool,
    steps: u32,
    fabric_bug: Option<FabricBug>,
    ram_bug: Option<RamBug>,
}

struct Storm {
    nodes: Vec<Node>,
    ram: Arc<Ram>,
    chance: Chance,
    model: Model,
    /// By node: the queue pairs in use.
    queues: Vec<Vec<QpairId>>,
    admins: Vec<Option<QpairId>>,
    pending: HashMap<(usize, QpairId, u16), Pending>,
    /// Writes of connections that are gone: they may take effect until their node is at rest.
    lost: Vec<(u64, Range<usize>)>,
    next_value: u64,
    weather: Weather,
    answered: u32,
}

fn block_data(value: u64, blocks: usize) -> Vec<u8> {
    value.to_le_bytes().repeat(64 * blocks)
}

impl Storm {
    fn new(weather: Weather) -> Storm {
        let plain = Geometry::plain(512, BLOCKS as u64);
        let direct_access = weather.direct;
        let ram = Ram::new(Geometry { align_bytes: 64, direct_access, ..plain });
        let registry = registry(2, std::slice::from_ref(&ram));
        let nodes = (0..2).map(|r| Node::new(&registry, r, weather.buffers)).collect();
        let mut storm = Storm {
            nodes,
            ram,
            chance: Chance::new(weather.seed),
            model: Model::new(BLOCKS),
            queues: vec![Vec::new(), Vec::new()],
            admins: vec![None, None],
            pending: HashMap::new(),
            lost: Vec::new(),
            next_value: 1,
            weather,
            answered: 0,
        };
        for node in &mut storm.nodes {
            node.fabric().manners.direct = 70;
        }
        storm.connect_all();
        storm.blow();
        storm
    }

    /// Sees that each node has an admin queue, with I/O queues on both nodes: a host that lost its
    /// controller comes back.
    fn connect_all(&mut self) {
        for number in 0..2 {
            if self.admins[number].is_some() {
                continue;
            }
            let (admin, cntlid) = self.nodes[number].connect_admin(0);
            self.admins[number] = Some(admin);
            for qid in 1..=2u16 {
                let other = usize::from(qid) % 2;
                let qpair = self.nodes[other].connect_io(cntlid, qid, qid == 1);
                self.queues[other].push(qpair);
            }
        }
    }

    /// From here on nothing is prompt.
    fn blow(&mut self) {
        let Weather { seed, errors, pull_errors, fabric_bug, ram_bug, .. } = self.weather;
        for (number, node) in self.nodes.iter_mut().enumerate() {
            let fabric = node.fabric();
            fabric.manners =
                Manners { pull: 40, pull_error: pull_errors, send: 40, misaligned: 50, direct: 70 };
            fabric.chance = Chance::new(seed ^ (number as u64 + 77));
            fabric.bug = fabric_bug;
        }
        let mut disk = self.ram.disk();
        (disk.end, disk.errors, disk.apart, disk.bug) = (30, errors, 20, ram_bug);
        disk.recalled = 50;
        disk.chance = Chance::new(seed ^ 5);
    }

    fn run(mut self) -> Result<u32, String> {
        for _ in 0..self.weather.steps {
            let number = self.chance.below(2) as usize;
            if self.chance.percent(50) {
                self.act(number);
            }
            if self.weather.hang_ups > 0 && self.chance.below(self.weather.hang_ups) == 0 {
                self.lose_connection(number);
            }
            if self.chance.percent(1) {
                self.connect_all();
            }
            self.turn(number)?;
        }
        self.calm_down()?;
        self.leave()?;
        Ok(self.answered)
    }

    /// One host does something on one queue of a node.
    fn act(&mut self, number: usize) {
        if self.queues[number].is_empty() {
            return;
        }
        let which = self.chance.below(self.queues[number].len() as u64) as usize;
        let qpair = self.queues[number][which];
        let busy = self.pending.keys().filter(|(n, q, _)| (*n, *q) == (number, qpair)).count();
        if busy >= 60 {
            return;
        }
        match self.chance.below(100) {
            0..40 => self.send_read(number, qpair),
            40..70 => self.send_write(number, qpair),
            70..75 => self.send_zeroes(number, qpair),
            75..80 => self.send_deallocate(number, qpair),
            80..86 => {
                self.send_compare(number, qpair, 0);
            }
            86..93 => self.send_fused(number, qpair),
            93..96 => self.send_plain(number, qpair, nvm::FLUSH),
            96..98 => self.send_plain(number, qpair, nvm::VERIFY),
            _ => self.send_abort(number),
        }
    }

    fn some_range(&mut self) -> Range<usize> {
        let blocks = match self.chance.below(4) {
            0..3 => 1 + self.chance.below(4) as usize,
            _ => 1 + self.chance.below(64) as usize,
        };
        let first = self.chance.below((BLOCKS - blocks + 1) as u64) as usize;
        first..first + blocks
    }

    fn value(&mut self) -> u64 {
        self.next_value += 1;
        self.next_value
    }

    /// Sends a command; false when the fabric is full.
    fn send(
        &mut self,
        (number, qpair): (usize, QpairId),
        mut sqe: Sqe,
        data: &[u8],
        mut kind: Kind,
        range: Range<usize>,
    ) -> Option<u64> {
        let node = &mut self.nodes[number];
        sqe.cid = node.cid().into();
        let in_capsule = !data.is_empty() && data.len() <= 8192 && self.chance.percent(50);
        if !node.fabric().is_open(qpair) || !node.fabric().send(qpair, sqe, data, in_capsule) {
            return None;
        }
        if let Kind::Write { in_steps, .. } = &mut kind {
            let arrives = sqe.opcode == nvm::WRITE && !in_capsule && sqe.fuse() == Fuse::None;
            *in_steps |= arrives && self.weather.direct;
        }
        let issued = self.model.tick();
        let (first, allowed) = (range.start, self.model.allowed(range));
        let pending = Pending { kind, issued, first, allowed };
        assert!(self.pending.insert((number, qpair, sqe.cid()), pending).is_none());
        Some(issued)
    }

    /// As [`Storm::send`], for what gives blocks a value.
    fn send_change(
        &mut self,
        to: (usize, QpairId),
        sqe: Sqe,
        data: &[u8],
        range: Range<usize>,
        value: u64,
    ) {
        let in_steps = sqe.opcode == nvm::DATASET_MANAGEMENT;
        let kind = Kind::Write { range: range.clone(), in_steps };
        if let Some(issued) = self.send(to, sqe, data, kind, 0..0) {
            let readers = self.pending.values_mut().map(|p| (p.first, &mut p.allowed));
            self.model.write_issued(issued, range, value, readers);
        }
    }

    fn send_read(&mut self, number: usize, qpair: QpairId) {
        let range = self.some_range();
        let mut sqe = io(nvm::READ, range.start as u64, range.len() as u32);
        sqe.dptr = Sgl::transport(range.len() as u32 * 512);
        self.send((number, qpair), sqe, &[], Kind::Read, range);
    }

    fn send_write(&mut self, number: usize, qpair: QpairId) {
        let (range, value) = (self.some_range(), self.value());
        let sqe = io(nvm::WRITE, range.start as u64, range.len() as u32);
        let data = block_data(value, range.len());
        self.send_change((number, qpair), sqe, &data, range, value);
    }

    fn send_zeroes(&mut self, number: usize, qpair: QpairId) {
        let range = self.some_range();
        let sqe = io(nvm::WRITE_ZEROES, range.start as u64, range.len() as u32);
        self.send_change((number, qpair), sqe, &[], range, 0);
    }

    fn send_deallocate(&mut self, number: usize, qpair: QpairId) {
        // Ranges next to each other, so that one range of blocks is what changes.
        let range = self.some_range();
        let middle = range.start + range.len() / 2;
        let part = |part: Range<usize>| DsmRange {
            slba: (part.start as u64).into(),
            blocks: (part.len() as u32).into(),
            ..DsmRange::default()
        };
        let ranges = [part(range.start..middle), part(middle..range.end)];
        let mut sqe = io(nvm::DATASET_MANAGEMENT, 0, 1);
        (sqe.cdw10, sqe.cdw11) = (1.into(), attribute::DEALLOCATE.into());
        self.send_change((number, qpair), sqe, ranges.as_bytes(), range, 0);
    }

    fn send_compare(&mut self, number: usize, qpair: QpairId, flags: u8) -> (Range<usize>, bool) {
        let mut range = self.some_range();
        if self.chance.percent(70) {
            range.end = range.start + 1;
        }
        let value = self.model.likely(range.start);
        let mut sqe = io(nvm::COMPARE, range.start as u64, range.len() as u32);
        sqe.flags |= flags;
        let data = block_data(value, range.len());
        let kind = Kind::Compare { value };
        let sent = self.send((number, qpair), sqe, &data, kind, range.clone());
        (range, sent.is_some())
    }

    fn send_fused(&mut self, number: usize, qpair: QpairId) {
        let (mut range, sent) = self.send_compare(number, qpair, Sqe::FUSE_FIRST);
        // Now and then the second half does not fit, or does not come.
        if !sent || self.chance.percent(10) {
            return;
        }
        if self.chance.percent(10) {
            range = self.some_range();
        }
        let value = self.value();
        let mut sqe = io(nvm::WRITE, range.start as u64, range.len() as u32);
        sqe.flags |= Sqe::FUSE_SECOND;
        let data = block_data(value, range.len());
        self.send_change((number, qpair), sqe, &data, range, value);
    }

    fn send_plain(&mut self, number: usize, qpair: QpairId, opcode: u8) {
        let range = self.some_range();
        let sqe = io(opcode, range.start as u64, range.len() as u32);
        self.send((number, qpair), sqe, &[], Kind::Other, 0..0);
    }

    /// Aborts some command: of this controller or, now and then, of another one.
    fn send_abort(&mut self, number: usize) {
        let Some(admin) = self.admins[number] else { return };
        let Some((_, _, cid)) = self.pending.keys().min_by_key(|k| k.2).copied() else { return };
        let later = self.chance.below(12) as u16;
        let mut sqe = Sqe::new(admin::ABORT, 0, 0);
        let sqid = 1 + self.chance.below(2) as u32;
        sqe.cdw10 = (u32::from(cid + later) << 16 | sqid).into();
        self.send((number, admin), sqe, &[], Kind::Other, 0..0);
    }

    fn lose_connection(&mut self, number: usize) {
        let which = self.chance.below(self.queues[number].len() as u64 + 1) as usize;
        match self.queues[number].get(which) {
            Some(qpair) => self.nodes[number].fabric().hang_up(*qpair),
            None => {
                if let Some(admin) = self.admins[number] {
                    self.nodes[number].fabric().hang_up(admin);
                }
            }
        }
    }

    fn turn(&mut self, number: usize) -> Result<(), String> {
        self.nodes[number].now_ns += 200_000;
        self.nodes[number].turn();
        for answer in std::mem::take(&mut self.nodes[number].fabric().answers) {
            self.check(number, answer)?;
        }
        for (qpair, _) in std::mem::take(&mut self.nodes[number].fabric().closed) {
            self.connection_lost(number, qpair);
        }
        if self.nodes.iter().all(|node| node.target.commands() == 0) {
            for (write, range) in std::mem::take(&mut self.lost) {
                self.model.write_unknown(write, range);
            }
        }
        Ok(())
    }

    fn connection_lost(&mut self, number: usize, qpair: QpairId) {
        self.queues[number].retain(|q| *q != qpair);
        if self.admins[number] == Some(qpair) {
            self.admins[number] = None;
        }
        let gone = self.pending.extract_if(|key, _| (key.0, key.1) == (number, qpair));
        for (_, pending) in gone {
            if let Kind::Write { range, .. } = pending.kind {
                self.lost.push((pending.issued, range));
            }
        }
    }

    /// One answer: exactly one for each command, and the right one.
    fn check(&mut self, number: usize, answer: Answer) -> Result<(), String> {
        let key = (number, answer.qpair, answer.cqe.cid.get());
        let Some(pending) = self.pending.remove(&key) else {
            return Err(format!("an answer to a command that is not under way: {answer:?}"));
        };
        self.answered += 1;
        let status = answer.cqe.status();
        match pending.kind {
            Kind::Read if status.is_success() => pending.allowed.check(&answer.data)?,
            Kind::Compare { value } if status.is_success() => {
                pending.allowed.check_compare(value, true)?
            }
            Kind::Compare { value } if status.code() == Status::COMPARE_FAILURE => {
                pending.allowed.check_compare(value, false)?
            }
            Kind::Write { range, .. } if status.is_success() => {
                self.model.write_done(pending.issued, range)
            }
            Kind::Write { range, in_steps: true } => {
                self.model.write_unknown(pending.issued, range)
            }
            // Whatever the reason: nothing was written.
            Kind::Write { range, .. } => self.model.write_without_effect(pending.issued, range),
            _ => {}
        }
        Ok(())
    }

    /// The storm is over: every command is answered, and the blocks are what they should be.
    fn calm_down(&mut self) -> Result<(), String> {
        for node in &mut self.nodes {
            node.fabric().manners = Manners::PROMPT;
        }
        self.ram.disk().end = 100;
        self.ram.disk().errors = 0;
        // A first half that waits for its second is answered when another command comes.
        for number in 0..2 {
            for qpair in self.queues[number].clone() {
                self.send_plain(number, qpair, nvm::FLUSH);
            }
        }
        for round in 0..400 {
            self.turn(round % 2)?;
        }
        if let Some((key, pending)) = self.pending.iter().next() {
            return Err(format!("a command is never answered: {key:?} {:?}", pending.kind));
        }
        if self.lost.is_empty() {
            let disk = self.ram.disk();
            self.model.allowed(0..BLOCKS).check(&disk.bytes)?;
        }
        Ok(())
    }

    /// The hosts leave; nothing may stay behind.
    fn leave(&mut self) -> Result<(), String> {
        for number in 0..2 {
            let qpairs = self.queues[number].iter().chain(&self.admins[number]);
            for qpair in qpairs.copied().collect::<Vec<_>>() {
                self.nodes[number].fabric().hang_up(qpair);
            }
        }
        for round in 0..400 {
            self.turn(round % 2)?;
        }
        for node in &self.nodes {
            let left = (node.target.commands(), node.target.queue_pairs(), node.pool.taken());
            if left != (0, 0, [0; 4]) {
                return Err(format!("commands, queue pairs, buffers left behind: {left:?}"));
            }
        }
        let namespace = self.nodes[0].registry.subsystem(NQN).unwrap().namespace(1).unwrap();
        if let Some(node) = (0..2).find(|reactor| namespace.is_held(*reactor)) {
            return Err(format!("reactor {node} holds the namespace still"));
        }
        let left = self.nodes[0].registry.subsystem(NQN).unwrap().live_controllers().len();
        if left > 0 {
            return Err(format!("{left} controllers left behind"));
        }
        Ok(())
    }
}

fn weather(seed: u64) -> Weather {
    Weather {
        seed,
        errors: 0,
        pull_errors: 0,
        hang_ups: 0,
        buffers: [12, 3, 3, 0],
        direct: false,
        steps: 1500,
        fabric_bug: None,
        ram_bug: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_command_has_one_right_answer_and_nothing_is_left(
        seed in any::<u32>(),
        errors in 0u64..10,
        pull_errors in 0u64..10,
        hang_ups in prop_oneof![Just(0u64), 50u64..400],
        plenty in any::<bool>(),
        direct in any::<bool>(),
    ) {
        let buffers = if plenty { [200, 40, 8, 4] } else { [3, 0, 3, 0] };
        let weather = weather(u64::from(seed));
        let weather = Weather { errors, pull_errors, hang_ups, buffers, direct, ..weather };
        let answered = Storm::new(weather).run().map_err(TestCaseError::fail)?;
        prop_assert!(hang_ups > 0 || answered > 300, "only {} answers", answered);
    }
}

/// Whether some storm with a bug in it is noticed, with these words.
fn notices(fabric_bug: Option<FabricBug>, ram_bug: Option<RamBug>, words: &str) {
    let found = (0..5).any(|seed| {
        let direct = matches!(fabric_bug, Some(FabricBug::TearsLent | FabricBug::TearsLanding));
        let weather = Weather { fabric_bug, ram_bug, direct, ..weather(seed) };
        Storm::new(weather).run().is_err_and(|error| error.contains(words))
    });
    assert!(found, "no storm says: {words}");
}

#[test]
fn the_checker_catches_a_lost_write() {
    notices(None, Some(RamBug::LosesWrite), "wrong data");
}

#[test]
fn the_checker_catches_data_of_another_block() {
    notices(None, Some(RamBug::WrongBlock), "wrong data");
}

#[test]
fn the_checker_catches_an_operation_that_never_ends() {
    notices(None, Some(RamBug::NeverEnds), "never answered");
}

#[test]
fn the_checker_catches_a_lost_answer() {
    notices(Some(FabricBug::LosesAnswer), None, "never answered");
}

#[test]
fn the_checker_catches_a_second_answer() {
    notices(Some(FabricBug::DoublesAnswer), None, "not under way");
}

#[test]
fn the_checker_catches_half_of_the_data() {
    notices(Some(FabricBug::TruncatesPull), None, "wrong data");
}

#[test]
fn the_checker_catches_blocks_of_which_half_was_read_before_they_changed() {
    notices(Some(FabricBug::TearsLent), None, "torn");
}

#[test]
fn the_checker_catches_blocks_of_which_half_was_written() {
    notices(Some(FabricBug::TearsLanding), None, "torn");
}

#[test]
fn the_checker_catches_a_leaked_buffer() {
    notices(Some(FabricBug::LosesSent), None, "left behind");
}
