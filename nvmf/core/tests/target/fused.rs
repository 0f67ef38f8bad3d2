//! Fused Compare and Write.

use crate::chance::Chance;
use crate::fabric::Manners;
use crate::node::{Node, io, read, registry, write};
use crate::ram::Ram;
use bdev::Geometry;
use nvme_spec::opcode::nvm;
use nvme_spec::{Sqe, Status};
use nvmf::transport::QpairId;
use proptest::prelude::*;
use std::sync::Arc;

fn compare(lba: u64, blocks: u32) -> Sqe {
    let mut sqe = io(nvm::COMPARE, lba, blocks);
    sqe.flags |= Sqe::FUSE_FIRST;
    sqe
}

fn second(lba: u64, blocks: u32) -> Sqe {
    let mut sqe = write(lba, blocks);
    sqe.flags |= Sqe::FUSE_SECOND;
    sqe
}

fn send(node: &mut Node, qpair: QpairId, mut sqe: Sqe, data: &[u8], in_capsule: bool) -> u16 {
    sqe.cid = node.cid().into();
    assert!(node.fabric().send(qpair, sqe, data, in_capsule));
    sqe.cid()
}

/// Sends two commands one after the other. Returns both statuses.
fn both(node: &mut Node, qp: QpairId, a: (Sqe, &[u8]), b: (Sqe, &[u8])) -> (Status, Status) {
    let first = send(node, qp, a.0, a.1, true);
    let second = send(node, qp, b.0, b.1, false);
    let status = |node: &mut Node, cid| node.answer(qp, cid).cqe.status().code();
    (status(node, first), status(node, second))
}

fn one_node() -> (Node, Arc<Ram>) {
    let ram = Ram::new(Geometry { align_bytes: 512, ..Geometry::plain(512, 1024) });
    let registry = registry(1, std::slice::from_ref(&ram));
    (Node::new(&registry, 0, [8, 4, 4, 4]), ram)
}

#[test]
fn writes_only_what_compares_equal() {
    let (mut node, ram) = one_node();
    let (_adm, qp) = node.connect();
    let pair = |node: &mut Node, old: u8, new: u8| {
        both(node, qp, (compare(4, 2), &[old; 1024]), (second(4, 2), &[new; 1024]))
    };
    assert_eq!(pair(&mut node, 0, 7), (Status::SUCCESS, Status::SUCCESS));
    assert_eq!(ram.disk().bytes[4 * 512..6 * 512], [7; 1024]);
    let failed = (Status::COMPARE_FAILURE, Status::ABORTED_FAILED_FUSED);
    assert_eq!(pair(&mut node, 0, 8), failed);
    assert_eq!(ram.disk().bytes[4 * 512], 7);
    assert_eq!(pair(&mut node, 7, 9), (Status::SUCCESS, Status::SUCCESS));
}

#[test]
fn halves_that_do_not_fit_fail_together() {
    let (mut node, ram) = one_node();
    let (_adm, qp) = node.connect();
    let zero = [0; 512];
    let cases = [
        (compare(0, 1), second(1, 1), Status::ABORTED_FAILED_FUSED, Status::INVALID_FIELD),
        (compare(2000, 1), second(2000, 1), Status::LBA_OUT_OF_RANGE, Status::ABORTED_FAILED_FUSED),
        (
            Sqe { flags: Sqe::FUSE_FIRST, ..write(0, 1) },
            second(0, 1),
            Status::INVALID_FIELD,
            Status::ABORTED_FAILED_FUSED,
        ),
    ];
    for (a, b, first, other) in cases {
        assert_eq!(both(&mut node, qp, (a, &zero), (b, &zero)), (first, other));
    }
    let big = vec![0; 257 * 512];
    let a = send(&mut node, qp, compare(0, 257), &big, false);
    let b = send(&mut node, qp, second(0, 257), &big, false);
    assert_eq!(node.answer(qp, a).cqe.status().code(), Status::ATOMIC_WRITE_UNIT);
    assert_eq!(node.answer(qp, b).cqe.status().code(), Status::ABORTED_FAILED_FUSED);
    assert!(ram.disk().log.is_empty());
}

#[test]
fn a_half_without_the_other_is_aborted() {
    let (mut node, _ram) = one_node();
    let (_adm, qp) = node.connect();
    let alone = send(&mut node, qp, second(0, 1), &[0; 512], true);
    assert_eq!(node.answer(qp, alone).cqe.status().code(), Status::ABORTED_MISSING_FUSED);
    let first = send(&mut node, qp, compare(0, 1), &[0; 512], true);
    node.settle();
    assert!(node.fabric().answers.is_empty(), "it waits for the second");
    let other = send(&mut node, qp, read(0, 1), &[], false);
    assert_eq!(node.answer(qp, first).cqe.status().code(), Status::ABORTED_MISSING_FUSED);
    assert_eq!(node.answer(qp, other).cqe.status(), Status::SUCCESS);
    let first = send(&mut node, qp, compare(0, 1), &[0; 512], true);
    let again = both(&mut node, qp, (compare(0, 1), &[0; 512]), (second(0, 1), &[1; 512]));
    assert_eq!(node.answer(qp, first).cqe.status().code(), Status::ABORTED_MISSING_FUSED);
    assert_eq!(again, (Status::SUCCESS, Status::SUCCESS));
}

#[test]
fn an_error_on_the_way_fails_both() {
    let (mut node, ram) = one_node();
    let (_adm, qp) = node.connect();
    node.fabric().manners.pull_error = 100;
    let pair = both(&mut node, qp, (compare(0, 1), &[0; 512]), (second(0, 1), &[1; 512]));
    assert_eq!(pair, (Status::ABORTED_FAILED_FUSED, Status::TRANSIENT_TRANSPORT));
    node.fabric().manners.pull_error = 0;
    ram.disk().errors = 100;
    let pair = both(&mut node, qp, (compare(0, 1), &[0; 512]), (second(0, 1), &[1; 512]));
    assert_eq!(pair, (Status::UNRECOVERED_READ, Status::ABORTED_FAILED_FUSED));
    ram.disk().errors = 0;
    let pair = both(&mut node, qp, (compare(0, 1), &[0; 512]), (second(0, 1), &[1; 512]));
    assert_eq!(pair, (Status::SUCCESS, Status::SUCCESS));
}

/// A host that counts in block 0 with compare and write, on one of two reactors.
struct Counter {
    qp: QpairId,
    believes: u64,
    waits: Option<(u16, u16)>,
    succeeded: u64,
}

fn block(value: u64) -> Vec<u8> {
    value.to_le_bytes().repeat(64)
}

/// One step of a counter. A failed compare makes it look again.
fn step(node: &mut Node, counter: &mut Counter, ram: &Ram, in_capsule: bool) {
    let Some((first, other)) = counter.waits else {
        let (old, new) = (block(counter.believes), block(counter.believes + 1));
        let a = send(node, counter.qp, compare(0, 1), &old, in_capsule);
        let b = send(node, counter.qp, second(0, 1), &new, !in_capsule);
        counter.waits = Some((a, b));
        return;
    };
    let answers = &node.fabric().answers;
    if answers.len() < 2 {
        return;
    }
    assert!(answers.iter().all(|a| [first, other].contains(&a.cqe.cid.get())));
    let status = answers.iter().find(|a| a.cqe.cid.get() == other).unwrap().cqe.status();
    node.fabric().answers.clear();
    counter.waits = None;
    if status.is_success() {
        counter.succeeded += 1;
    }
    counter.believes = u64::from_le_bytes(ram.disk().bytes[..8].try_into().unwrap());
}

/// Two hosts on two reactors count in one block. Returns the count on the disk, and how often they
/// were told that they had counted.
fn count(seed: u64, foreign_writes: bool) -> (u64, u64) {
    let ram = Ram::new(Geometry::plain(512, 64));
    let registry = registry(2, std::slice::from_ref(&ram));
    let mut nodes =
        [Node::new(&registry, 0, [16, 0, 0, 0]), Node::new(&registry, 1, [16, 0, 0, 0])];
    let mut chance = Chance::new(seed);
    let mut counters: Vec<Counter> = nodes
        .iter_mut()
        .map(|node| Counter { qp: node.connect().1, believes: 0, waits: None, succeeded: 0 })
        .collect();
    for (number, node) in nodes.iter_mut().enumerate() {
        node.fabric().manners = Manners { pull: 50, send: 50, ..Manners::PROMPT };
        node.fabric().chance = Chance::new(seed + number as u64);
    }
    ram.disk().end = 30;
    ram.disk().chance = Chance::new(seed + 9);
    for _ in 0..600 {
        let at = chance.below(2) as usize;
        nodes[at].turn();
        step(&mut nodes[at], &mut counters[at], &ram, chance.percent(50));
        // The bug: a write that knows nothing of the gate.
        if foreign_writes && chance.percent(5) {
            let value = u64::from_le_bytes(ram.disk().bytes[..8].try_into().unwrap());
            ram.disk().bytes[..512].copy_from_slice(&block(value.saturating_sub(1)));
        }
    }
    ram.disk().end = 100;
    for _ in 0..200 {
        for (node, counter) in nodes.iter_mut().zip(&mut counters) {
            node.fabric().manners = Manners::PROMPT;
            node.turn();
            if counter.waits.is_some() {
                step(node, counter, &ram, true);
            }
        }
    }
    assert!(counters.iter().all(|c| c.waits.is_none()), "a pair is never answered");
    let value = u64::from_le_bytes(ram.disk().bytes[..8].try_into().unwrap());
    (value, counters.iter().map(|c| c.succeeded).sum())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn two_reactors_never_lose_a_count(seed in any::<u32>()) {
        let (value, told) = count(u64::from(seed), false);
        prop_assert_eq!(value, told);
        prop_assert!(told > 10, "they get on: {}", told);
    }
}

#[test]
fn the_counting_checker_catches_a_write_that_ignores_the_gate() {
    assert!((0..20).any(|seed| {
        let (value, told) = count(seed, true);
        value != told
    }));
}
