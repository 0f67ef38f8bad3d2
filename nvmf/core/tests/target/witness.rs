//! Namespaces whose bdev keeps account of who writes: nothing is written before the host is noted, and
//! a host that may have lost something hears it at its next Flush.

use crate::node::{NQN, Node, io, registry, write};
use crate::ram::Ram;
use bdev::{Geometry, Noted, Op, Witness};
use nvme_spec::opcode::nvm;
use nvme_spec::{Sqe, Status};
use nvmf::transport::QpairId;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

/// The host identifier of the test's host.
const HOST: u128 = u128::from_be_bytes([7; 16]);

/// What the account says.
pub struct Book {
    says: Mutex<Noted>,
    asked: Mutex<Vec<(u128, String)>>,
    losses: Mutex<HashSet<u128>>,
}

impl Witness for Book {
    fn note(&self, host: u128, name: &str) -> Noted {
        self.asked.lock().unwrap().push((host, name.to_owned()));
        *self.says.lock().unwrap()
    }

    fn take_loss(&self, host: u128) -> bool {
        self.losses.lock().unwrap().remove(&host)
    }
}

impl Book {
    fn say(&self, noted: Noted) {
        *self.says.lock().unwrap() = noted;
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

struct Lab {
    node: Node,
    ram: Arc<Ram>,
    book: Arc<Book>,
    qp: QpairId,
}

fn lab(says: Noted) -> Lab {
    let book = Arc::new(Book {
        says: Mutex::new(says),
        asked: Mutex::default(),
        losses: Mutex::default(),
    });
    let geometry =
        Geometry { volatile_cache: true, deallocates: true, ..Geometry::plain(512, 1024) };
    let ram = Ram::new(geometry);
    *ram.1.lock().unwrap() = Some(book.clone());
    let other = Ram::new(Geometry { volatile_cache: true, ..Geometry::plain(512, 1024) });
    let registry = registry(1, &[ram.clone(), other]);
    let mut node = Node::new(&registry, 0, [8, 4, 4, 4]);
    let (_admin, qp) = node.connect();
    Lab { node, ram, book, qp }
}

impl Lab {
    fn send(&mut self, mut sqe: Sqe, data: &[u8]) -> u16 {
        sqe.cid = self.node.cid().into();
        assert!(self.node.fabric().send(self.qp, sqe, data, true));
        sqe.cid()
    }

    fn status(&mut self, sqe: Sqe, data: &[u8]) -> Status {
        self.node.status(self.qp, sqe, data, true)
    }

    fn done(&self) -> Vec<Op> {
        self.ram.disk().log.iter().map(|(op, ..)| *op).collect()
    }

    fn turns(&mut self) {
        for _ in 0..20 {
            self.node.turn();
        }
    }
}

#[test]
fn nothing_is_written_before_the_host_is_noted() {
    let mut lab = lab(Noted::Pending);
    let zeroes = io(nvm::WRITE_ZEROES, 8, 1);
    let first = [lab.send(write(0, 1), &[5; 512]), lab.send(zeroes, &[])];
    let mut compare = io(nvm::COMPARE, 4, 1);
    compare.flags |= Sqe::FUSE_FIRST;
    let mut second = write(4, 1);
    second.flags |= Sqe::FUSE_SECOND;
    let pair = [lab.send(compare, &[0; 512]), lab.send(second, &[6; 512])];
    lab.turns();
    assert!(lab.done().is_empty() && lab.node.fabric().answers.is_empty());
    let qp = lab.qp;
    let read = lab.node.status(qp, crate::node::read(0, 1), &[], false);
    assert_eq!(read, Status::SUCCESS, "reads go on");
    lab.book.say(Noted::Yes);
    for cid in first.into_iter().chain(pair) {
        assert_eq!(lab.node.answer(qp, cid).cqe.status(), Status::SUCCESS);
    }
    assert_eq!(lab.ram.disk().bytes[0], 5);
    assert_eq!(lab.ram.disk().bytes[4 * 512], 6);
    let asked = lab.book.asked();
    let (host, name) = lab.book.asked.lock().unwrap()[0].clone();
    assert_eq!((host, &name[..]), (HOST, crate::node::HOST));
    assert_eq!(lab.status(write(2, 1), &[9; 512]), Status::SUCCESS);
    assert_eq!(lab.book.asked(), asked, "it is remembered");
    lab.node.settle();
}

#[test]
fn a_host_that_cannot_be_noted_writes_nothing() {
    let mut lab = lab(Noted::No);
    assert_eq!(lab.status(write(0, 1), &[5; 512]).code(), Status::INTERNAL_ERROR);
    assert!(!lab.status(write(0, 1), &[5; 512]).is_dnr(), "it may be tried again");
    let mut compare = io(nvm::COMPARE, 4, 1);
    compare.flags |= Sqe::FUSE_FIRST;
    let mut second = write(4, 1);
    second.flags |= Sqe::FUSE_SECOND;
    let pair = [lab.send(compare, &[0; 512]), lab.send(second, &[6; 512])];
    let qp = lab.qp;
    let ends = pair.map(|cid| lab.node.answer(qp, cid).cqe.status().code());
    assert_eq!(ends, [Status::INTERNAL_ERROR, Status::ABORTED_FAILED_FUSED]);
    assert!(lab.done().is_empty());
    lab.book.say(Noted::Yes);
    assert_eq!(lab.status(write(0, 1), &[5; 512]), Status::SUCCESS);
}

#[test]
fn that_nobody_keeps_account_is_asked_again() {
    let mut lab = lab(Noted::Needless);
    assert_eq!(lab.status(write(0, 1), &[5; 512]), Status::SUCCESS);
    lab.book.say(Noted::Pending);
    let cid = lab.send(write(1, 1), &[6; 512]);
    lab.turns();
    assert_eq!(lab.ram.disk().bytes[512], 0, "somebody does from now on");
    lab.book.say(Noted::Yes);
    let qp = lab.qp;
    assert_eq!(lab.node.answer(qp, cid).cqe.status(), Status::SUCCESS);
}

#[test]
fn a_loss_is_told_with_the_next_flush_once() {
    let mut lab = lab(Noted::Yes);
    let flush = |nsid| Sqe::new(nvm::FLUSH, 0, nsid);
    assert_eq!(lab.status(flush(1), &[]), Status::SUCCESS);
    lab.book.losses.lock().unwrap().extend([HOST, 99]);
    let all = lab.done().len();
    assert_eq!(lab.status(flush(2), &[]), Status::SUCCESS, "another namespace");
    let told = lab.status(flush(1), &[]);
    assert_eq!((told.code(), told.is_dnr()), (Status::INTERNAL_ERROR, true));
    assert_eq!(lab.done().len(), all, "nothing was flushed");
    assert_eq!(lab.status(flush(1), &[]), Status::SUCCESS);
    lab.book.losses.lock().unwrap().insert(HOST);
    assert_eq!(lab.status(flush(u32::MAX), &[]).code(), Status::INTERNAL_ERROR);
    assert_eq!(lab.status(flush(u32::MAX), &[]), Status::SUCCESS);
    assert_eq!(lab.book.losses.lock().unwrap().len(), 1, "another host's is its own");
    lab.node.settle();
    let subsystem = lab.node.registry.subsystem(NQN).unwrap();
    assert_eq!(subsystem.namespaces().len(), 2);
}

#[test]
fn a_connection_that_is_lost_while_its_host_is_noted_leaves_nothing_behind() {
    let mut lab = lab(Noted::Pending);
    lab.send(write(0, 1), &[5; 512]);
    lab.turns();
    let qp = lab.qp;
    lab.node.fabric().hang_up(qp);
    lab.turns();
    lab.book.say(Noted::Yes);
    lab.node.settle();
    assert!(lab.done().is_empty(), "nobody would be told");
}
