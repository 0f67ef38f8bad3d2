//! Hosts that take no answers, or send no data, beside one that does.

use crate::node::{NQN, Node, io, read, registry, write};
use crate::ram::Ram;
use bdev::Geometry;
use nvme_spec::opcode::nvm;
use nvme_spec::{Sqe, Status};
use nvmf::limits::STALL_NS;
use nvmf::refused::RefusalReason;
use nvmf::transport::{CloseReason, QpairId};
use std::sync::Arc;

/// A node whose buffers are so many of one size, and its disk.
fn node(buffers: u32) -> (Node, Arc<Ram>) {
    let ram = Ram::new(Geometry::plain(512, 8192));
    let registry = registry(1, std::slice::from_ref(&ram));
    (Node::new(&registry, 0, [buffers, 0, 0, 0]), ram)
}

/// A host at address `last`: its admin queue and an I/O queue.
fn host(node: &mut Node, last: u8) -> [QpairId; 2] {
    node.fabric().peer = ([192, 0, 2, last], 40000).into();
    let (admin, io) = node.connect();
    [admin, io]
}

/// Sends so many commands without waiting.
fn flood(node: &mut Node, qpair: QpairId, sqe: Sqe, data: &[u8], count: u16) {
    for _ in 0..count {
        let mut sqe = sqe;
        sqe.cid = node.cid().into();
        assert!(node.fabric().send(qpair, sqe, data, false));
    }
    node.settle();
}

fn buffers_of_all(node: &Node) -> u32 {
    node.pool.taken().iter().sum()
}

/// How many of a batch of reads are answered without time going on.
fn answered_at_once(node: &mut Node, qpair: QpairId, count: u16) -> usize {
    node.fabric().answers.clear();
    flood(node, qpair, read(0, 1), &[], count);
    node.fabric().answers.iter().filter(|answer| answer.qpair == qpair).count()
}

fn pass(node: &mut Node, ns: u64) {
    let end_ns = node.now_ns + ns;
    while node.now_ns < end_ns {
        node.now_ns += 100_000_000;
        node.settle();
    }
}

fn end(mut node: Node, hosts: &[[QpairId; 2]]) {
    node.fabric().stuck.clear();
    for qpair in hosts.iter().flatten() {
        node.fabric().hang_up(*qpair);
    }
    node.settle();
    node.check_nothing_left();
}

#[test]
fn eight_hosts_that_take_nothing_leave_buffers_to_a_ninth() {
    let (mut node, _) = node(32);
    let hosts: Vec<_> = (1..=9).map(|last| host(&mut node, last)).collect();
    let good = hosts[8][1];
    for [_, io] in &hosts[..8] {
        node.fabric().stuck.push(*io);
    }
    for [_, io] in &hosts[..8] {
        flood(&mut node, *io, read(0, 1), &[], 20);
    }
    assert!(buffers_of_all(&node) <= 24, "a quarter is left: {:?}", node.pool.taken());
    assert_eq!(answered_at_once(&mut node, good, 50), 50);
    assert_eq!(buffers_of_all(&node), 24);
    end(node, &hosts);
}

#[test]
fn hosts_that_send_no_data_leave_buffers_to_others() {
    let (mut node, _) = node(32);
    let hosts: Vec<_> = (1..=9).map(|last| host(&mut node, last)).collect();
    for [_, io] in &hosts[..8] {
        node.fabric().stuck.push(*io);
        flood(&mut node, *io, write(0, 1), &[1; 512], 20);
    }
    let good = hosts[8][1];
    assert_eq!(node.status(good, write(0, 1), &[2; 512], false), Status::SUCCESS);
    assert_eq!(answered_at_once(&mut node, good, 50), 50);
    end(node, &hosts);
}

#[test]
fn those_who_hold_all_and_do_not_move_end_when_others_wait() {
    let (mut node, _) = node(32);
    let mut hosts = Vec::new();
    for last in 1..=4 {
        let bad = host(&mut node, last);
        // The first one has behaved, and is trusted.
        (last..2).for_each(|_| (0..8).for_each(|_| flood(&mut node, bad[1], read(0, 1), &[], 50)));
        node.fabric().stuck.push(bad[1]);
        flood(&mut node, bad[1], read(0, 1), &[], 60);
        hosts.push(bad);
    }
    assert_eq!(buffers_of_all(&node), 32, "one that was trusted, and three that were not");
    node.fabric().stuck.clear();
    node.fabric().stuck.extend(hosts.iter().map(|bad| bad[1]));
    let good = host(&mut node, 5);
    pass(&mut node, STALL_NS / 2);
    let mut sqe = read(0, 1);
    sqe.cid = 901.into();
    assert!(node.fabric().send(good[1], sqe, &[], false));
    pass(&mut node, STALL_NS);
    assert_eq!(node.answer(good[1], 901).cqe.status(), Status::SUCCESS);
    assert!(hosts.iter().any(|bad| !node.fabric().is_open(bad[1])));
    let refused = node.registry.refused().list();
    let found = refused.iter().find(|one| one.reason == RefusalReason::Stalled);
    let found = found.expect("an operator is told");
    assert_eq!(found.subsystem.as_deref(), Some(NQN));
    let closed = node.fabric().closed.iter().filter(|(_, why)| *why == CloseReason::Stalled);
    assert!(closed.count() > 0);
    hosts.push(good);
    end(node, &hosts);
}

#[test]
fn who_does_not_move_stays_while_nobody_waits() {
    let (mut node, _) = node(32);
    let hosts = [host(&mut node, 1), host(&mut node, 2)];
    node.fabric().stuck.push(hosts[0][1]);
    flood(&mut node, hosts[0][1], read(0, 1), &[], 60);
    pass(&mut node, 4 * STALL_NS);
    assert_eq!(answered_at_once(&mut node, hosts[1][1], 50), 50);
    assert!(node.fabric().is_open(hosts[0][1]));
    end(node, &hosts);
}

#[test]
fn a_drive_that_ends_nothing_leaves_buffers_to_other_namespaces() {
    let (hung, ram) = (Ram::new(Geometry::plain(512, 64)), Ram::new(Geometry::plain(512, 64)));
    let registry = registry(1, &[hung.clone(), ram]);
    let mut node = Node::new(&registry, 0, [32, 0, 0, 0]);
    let hosts = [host(&mut node, 1), host(&mut node, 1)];
    hung.disk().end = 0;
    flood(&mut node, hosts[0][1], read(0, 1), &[], 60);
    assert!(buffers_of_all(&node) <= 24);
    let mut other = read(0, 1);
    other.nsid = 2.into();
    node.fabric().answers.clear();
    flood(&mut node, hosts[1][1], other, &[], 50);
    assert_eq!(node.fabric().answers.len(), 50);
    hung.disk().end = 100;
    node.settle();
    end(node, &hosts);
}

#[test]
fn who_moves_does_not_end_however_slow_the_drive_is() {
    let (mut node, ram) = node(8);
    let hosts = [host(&mut node, 1), host(&mut node, 2)];
    ram.disk().end = 0;
    flood(&mut node, hosts[0][1], read(0, 1), &[], 20);
    flood(&mut node, hosts[1][1], read(0, 1), &[], 20);
    pass(&mut node, 3 * STALL_NS);
    assert!(hosts.iter().flatten().all(|qpair| node.fabric().is_open(*qpair)));
    ram.disk().end = 100;
    node.settle();
    assert_eq!(node.fabric().answers.iter().filter(|a| a.cqe.status().is_success()).count(), 40);
    end(node, &hosts);
}

#[test]
fn a_queue_of_flushes_holds_nothing_of_others() {
    let (mut node, ram) = node(8);
    let hosts = [host(&mut node, 1), host(&mut node, 2)];
    ram.disk().end = 0;
    flood(&mut node, hosts[0][1], io(nvm::FLUSH, 0, 1), &[], 60);
    ram.disk().end = 100;
    assert_eq!(answered_at_once(&mut node, hosts[1][1], 20), 20);
    end(node, &hosts);
}
