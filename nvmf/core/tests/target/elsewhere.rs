//! Commands whose questions are answered elsewhere, at a time of the test's choice.

use crate::node::{NQN, Node, read, registry};
use crate::ram::Ram;
use bdev::Geometry;
use nvme_spec::log::lid;
use nvme_spec::opcode::admin;
use nvme_spec::{Sgl, Sqe, Status};
use nvmf::elsewhere::{Elsewhere, Question, Reply, Ticket};
use nvmf::transport::QpairId;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// Questions that were asked, and answers that are there.
#[derive(Default)]
struct Desk {
    asked: VecDeque<(Ticket, Question)>,
    answered: VecDeque<(Ticket, Reply)>,
}

/// Keeps questions until the test answers them.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Desk>>);

impl Kept {
    fn asked(&self) -> usize {
        self.0.lock().unwrap().asked.len()
    }

    /// Answers the oldest question, so many times.
    fn answer(&self, times: usize) {
        let mut desk = self.0.lock().unwrap();
        let (ticket, question) = desk.asked.pop_front().expect("one was asked");
        for _ in 0..times {
            desk.answered.push_back((ticket, question.clone().answer()));
        }
    }
}

impl Elsewhere for Kept {
    fn ask(&mut self, ticket: Ticket, question: Question) {
        self.0.lock().unwrap().asked.push_back((ticket, question));
    }

    fn poll(&mut self, _now_ns: u64) -> Option<(Ticket, Reply)> {
        self.0.lock().unwrap().answered.pop_front()
    }
}

fn node() -> (Node, Kept, QpairId, QpairId) {
    let ram = Ram::new(Geometry::plain(512, 64));
    let kept = Kept::default();
    let registry = registry(1, std::slice::from_ref(&ram));
    let mut node = Node::asking(&registry, 0, [8, 0, 0, 0], Some(Box::new(kept.clone())));
    let (admin, io) = node.connect();
    (node, kept, admin, io)
}

fn send(node: &mut Node, qpair: QpairId, mut sqe: Sqe, cid: u16) {
    sqe.cid = cid.into();
    assert!(node.fabric().send(qpair, sqe, &[], false));
    node.settle();
}

/// A read of the SMART log.
fn smart(nsid: u32) -> Sqe {
    let mut sqe = Sqe::new(admin::GET_LOG_PAGE, 0, nsid);
    sqe.cdw10 = (127 << 16 | u32::from(lid::SMART)).into();
    sqe.dptr = Sgl::transport(512);
    sqe
}

fn status(node: &mut Node, qpair: QpairId, cid: u16) -> Status {
    node.answer(qpair, cid).cqe.status().code()
}

fn end(mut node: Node, kept: &Kept, qpairs: &[QpairId]) {
    qpairs.iter().for_each(|qpair| node.fabric().hang_up(*qpair));
    node.settle();
    while kept.asked() > 0 {
        assert!(node.target.commands() > 0, "a command waits for each answer that is out");
        kept.answer(1);
        node.settle();
    }
    node.check_nothing_left();
}

#[test]
fn others_go_on_while_a_log_is_put_together() {
    let (mut node, kept, admin, io) = node();
    send(&mut node, admin, smart(Sqe::NSID_ALL), 101);
    assert_eq!((kept.asked(), node.fabric().answers.len()), (1, 0));
    assert_eq!(node.status(io, read(0, 1), &[], false), Status::SUCCESS);
    let identify = Sqe::new(admin::KEEP_ALIVE, 0, 0);
    assert_eq!(node.status(admin, identify, &[], false), Status::SUCCESS);
    kept.answer(1);
    let answer = node.answer(admin, 101);
    assert_eq!(answer.cqe.status(), Status::SUCCESS);
    assert_eq!(answer.data[32], 1, "the read in between is in the log");
    end(node, &kept, &[admin, io]);
}

#[test]
fn an_abort_is_answered_with_the_command_it_aborts() {
    let (mut node, kept, admin, io) = node();
    send(&mut node, admin, smart(1), 101);
    let mut abort = Sqe::new(admin::ABORT, 0, 0);
    abort.cdw10 = (101 << 16).into();
    send(&mut node, admin, abort, 102);
    assert!(node.fabric().answers.is_empty(), "nothing is cancelled");
    kept.answer(1);
    assert_eq!(status(&mut node, admin, 101), Status::ABORT_REQUESTED);
    let answer = node.answer(admin, 102);
    assert_eq!((answer.cqe.status(), answer.cqe.dw0.get()), (Status::SUCCESS, 0));
    end(node, &kept, &[admin, io]);
}

#[test]
fn a_reset_of_the_controller_ends_what_it_has_asked() {
    let (mut node, kept, admin, io) = node();
    send(&mut node, admin, smart(1), 101);
    assert_eq!(node.set_cc(admin, 0), Status::SUCCESS);
    kept.answer(1);
    assert_eq!(status(&mut node, admin, 101), Status::ABORTED_SQ_DELETION);
    end(node, &kept, &[admin, io]);
}

#[test]
fn a_namespace_that_is_gone_when_the_answer_is_made_is_refused() {
    let (mut node, kept, admin, io) = node();
    send(&mut node, admin, smart(1), 101);
    let namespace = node.registry.remove_namespace(NQN, 1).unwrap();
    kept.answer(1);
    let ended = node.answer(admin, 101).cqe.status();
    assert_eq!(ended.code(), Status::INVALID_NAMESPACE);
    node.now_ns += 100_000_000;
    node.settle();
    assert!(!namespace.is_held(0));
    if let Some(channel) = namespace.take_channel(0) {
        node.stack.close(channel);
    }
    end(node, &kept, &[admin, io]);
}

#[test]
fn a_lost_connection_is_forgotten_when_the_answer_has_come() {
    let (mut node, kept, admin, io) = node();
    send(&mut node, admin, smart(1), 101);
    [admin, io].iter().for_each(|qpair| node.fabric().hang_up(*qpair));
    node.settle();
    assert_eq!(node.target.queue_pairs(), 1, "the admin queue waits for its command");
    end(node, &kept, &[]);
}

#[test]
#[should_panic(expected = "a question is answered once")]
fn a_second_answer_breaks_an_invariant() {
    let (mut node, kept, admin, _) = node();
    send(&mut node, admin, smart(1), 101);
    send(&mut node, admin, smart(1), 102);
    kept.answer(2);
    node.settle();
}
