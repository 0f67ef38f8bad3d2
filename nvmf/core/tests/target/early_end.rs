//! Commands and connections that end early: Abort, Keep Alive, resets, lost connections.

use crate::fabric::Manners;
use crate::node::{Node, connect_data, event_request, read, registry, write};
use crate::ram::Ram;
use bdev::Geometry;
use nvme_spec::opcode::admin;
use nvme_spec::{Sqe, Status, property};
use nvmf::transport::{CloseReason, QpairId};
use nvmf_wire::connect::{CNTLID_DYNAMIC, Connect};
use nvmf_wire::property::{PropertyGet, PropertySet, Width};
use std::sync::Arc;

fn node(buffers: [u32; 4]) -> (Node, Arc<Ram>) {
    let ram = Ram::new(Geometry::plain(512, 8192));
    let registry = registry(1, std::slice::from_ref(&ram));
    (Node::new(&registry, 0, buffers), ram)
}

fn send(node: &mut Node, qpair: QpairId, mut sqe: Sqe, cid: u16, data: &[u8]) {
    sqe.cid = cid.into();
    assert!(node.fabric().send(qpair, sqe, data, false));
    node.turn();
    node.turn();
}

fn abort(sqid: u16, cid: u16) -> Sqe {
    let mut sqe = Sqe::new(admin::ABORT, 0, 0);
    sqe.cdw10 = (u32::from(cid) << 16 | u32::from(sqid)).into();
    sqe
}

/// Whether an Abort says that it did.
fn aborts(node: &mut Node, adm: QpairId, sqid: u16, cid: u16) -> bool {
    let answer = node.call(adm, abort(sqid, cid), &[], false);
    assert_eq!(answer.cqe.status(), Status::SUCCESS);
    answer.cqe.dw0.get() & 1 == 0
}

fn no_answer_but(node: &mut Node, qpair: QpairId, cid: u16, status: Status) {
    assert_eq!(node.answer(qpair, cid).cqe.status().code(), status);
}

#[test]
fn abort_of_a_command_that_waits_for_a_buffer() {
    let (mut node, ram) = node([2, 0, 0, 0]);
    let (adm, qp) = node.connect();
    ram.disk().end = 0;
    for cid in 101..=104 {
        send(&mut node, qp, read(0, 1), cid, &[]);
    }
    assert!(aborts(&mut node, adm, 1, 104));
    no_answer_but(&mut node, qp, 104, Status::ABORT_REQUESTED);
    assert!(!aborts(&mut node, adm, 1, 101), "it is in the stack");
    assert!(!aborts(&mut node, adm, 1, 999), "there is none");
    assert!(!aborts(&mut node, adm, 9, 103), "there is no such queue");
    ram.disk().end = 100;
    for cid in 101..=103 {
        no_answer_but(&mut node, qp, cid, Status::SUCCESS);
    }
    end(&mut node, &[adm, qp]);
}

#[test]
fn abort_of_a_command_whose_data_is_on_its_way() {
    let (mut node, ram) = node([4, 0, 0, 0]);
    let (adm, qp) = node.connect();
    node.fabric().manners.pull = 0;
    send(&mut node, qp, write(0, 1), 101, &[1; 512]);
    let mut sqe = abort(1, 101);
    sqe.cid = 102.into();
    assert!(node.fabric().send(adm, sqe, &[], false));
    node.settle();
    assert!(node.fabric().answers.is_empty(), "the Abort ends after what it aborts");
    node.fabric().manners.pull = 100;
    no_answer_but(&mut node, qp, 101, Status::ABORT_REQUESTED);
    let answer = node.answer(adm, 102);
    assert_eq!((answer.cqe.status(), answer.cqe.dw0.get()), (Status::SUCCESS, 0));
    assert_eq!(ram.disk().bytes[0], 0, "nothing was written");
    end(&mut node, &[adm, qp]);
}

#[test]
fn abort_of_an_event_request() {
    let (mut node, _ram) = node([4, 0, 0, 0]);
    let (adm, qp) = node.connect();
    for cid in 101..=104 {
        send(&mut node, adm, event_request(), cid, &[]);
    }
    send(&mut node, adm, event_request(), 105, &[]);
    no_answer_but(&mut node, adm, 105, Status::AER_LIMIT);
    assert!(aborts(&mut node, adm, 0, 102));
    no_answer_but(&mut node, adm, 102, Status::ABORT_REQUESTED);
    send(&mut node, adm, event_request(), 106, &[]);
    assert!(node.fabric().answers.is_empty(), "there is room for another one");
    end(&mut node, &[adm, qp]);
}

/// SPDK's host drops its event requests when it shuts down, and uses their identifiers again.
#[test]
fn a_command_takes_the_place_of_an_event_request_with_its_identifier() {
    let (mut node, _ram) = node([4, 0, 0, 0]);
    let (adm, qp) = node.connect();
    for cid in 101..=104 {
        send(&mut node, adm, event_request(), cid, &[]);
    }
    let get = PropertyGet { width: Width::Four, offset: property::CC };
    send(&mut node, adm, get.sqe(101), 101, &[]);
    let answer = node.answer(adm, 101);
    assert_eq!(answer.cqe.status(), Status::SUCCESS);
    assert_eq!(answer.cqe.dw0.get(), property::Cc::ENABLE.0);
    // One request less is held, and one more fits.
    send(&mut node, adm, event_request(), 105, &[]);
    send(&mut node, adm, event_request(), 106, &[]);
    no_answer_but(&mut node, adm, 106, Status::AER_LIMIT);
    // Event requests may take each other's places, too.
    send(&mut node, adm, event_request(), 103, &[]);
    assert!(node.fabric().answers.is_empty());
    let set = PropertySet {
        width: Width::Four,
        offset: property::CC,
        value: u64::from(property::Cc::ENABLE.with_normal_shutdown().0),
    };
    send(&mut node, adm, set.sqe(102), 102, &[]);
    no_answer_but(&mut node, adm, 102, Status::SUCCESS);
    assert!(node.fabric().answers.is_empty(), "what was dropped is not answered");
    end(&mut node, &[adm, qp]);
}

#[test]
fn every_other_identifier_in_use_is_in_conflict() {
    let (mut node, ram) = node([4, 0, 0, 0]);
    let (adm, qp) = node.connect();
    ram.disk().end = 0;
    send(&mut node, qp, read(0, 1), 101, &[]);
    send(&mut node, qp, read(0, 1), 101, &[]);
    no_answer_but(&mut node, qp, 101, Status::CID_CONFLICT);
    ram.disk().end = 100;
    no_answer_but(&mut node, qp, 101, Status::SUCCESS);
    end(&mut node, &[adm, qp]);
}

#[test]
fn silence_ends_the_controller_and_every_queue() {
    let (mut node, ram) = node([4, 0, 0, 0]);
    let (adm, cntlid) = node.connect_admin(1000);
    let qp = node.connect_io(cntlid, 1, false);
    for _ in 0..5 {
        node.now_ns += 600_000_000;
        assert_eq!(
            node.status(adm, Sqe::new(admin::KEEP_ALIVE, 0, 0), &[], false),
            Status::SUCCESS
        );
    }
    // I/O counts, too.
    for _ in 0..5 {
        node.now_ns += 600_000_000;
        assert_eq!(node.status(qp, read(0, 1), &[], false), Status::SUCCESS);
        node.now_ns += 20_000_000;
        node.turn();
    }
    assert!(node.fabric().is_open(adm));
    node.fabric().manners.pull = 0;
    send(&mut node, qp, write(0, 1), 700, &[1; 512]);
    node.now_ns += 1_500_000_000;
    node.turn();
    node.fabric().manners.pull = 100;
    node.settle();
    assert!(!node.fabric().is_open(adm) && !node.fabric().is_open(qp));
    let why = CloseReason::Controller("the keep alive timer of the controller expired");
    assert!(node.fabric().closed.iter().all(|(_, reason)| *reason == why));
    assert_eq!(ram.disk().bytes[0], 0, "no write of it is done after that");
    node.check_nothing_left();
    let (again, other) = node.connect_admin(1000);
    assert_ne!(other, cntlid);
    end(&mut node, &[again]);
}

#[test]
fn a_reset_closes_io_queues_and_keeps_the_admin_queue() {
    let (mut node, _ram) = node([4, 0, 0, 0]);
    let (adm, cntlid) = node.connect_admin(0);
    let qp = node.connect_io(cntlid, 1, false);
    send(&mut node, adm, event_request(), 101, &[]);
    assert_eq!(node.set_cc(adm, 0), Status::SUCCESS);
    no_answer_but(&mut node, adm, 101, Status::ABORTED_SQ_DELETION);
    assert_eq!(node.status(qp, read(0, 1), &[], false).code(), Status::ABORTED_SQ_DELETION);
    node.now_ns += 20_000_000;
    node.settle();
    assert!(node.fabric().is_open(adm) && !node.fabric().is_open(qp));
    node.enable(adm);
    let qp = node.connect_io(cntlid, 1, false);
    assert_eq!(node.status(qp, read(0, 1), &[], false), Status::SUCCESS);
    end(&mut node, &[adm, qp]);
}

/// A host that resets and enables at once waits for CSTS.RDY; from then on nothing refuses it.
#[test]
fn queues_connect_as_soon_as_the_controller_says_that_it_is_ready() {
    let (mut node, ram) = node([4, 0, 0, 0]);
    let (adm, cntlid) = node.connect_admin(0);
    let qp = node.connect_io(cntlid, 1, false);
    ram.disk().end = 0;
    send(&mut node, qp, write(0, 1), 101, &[1; 512]);
    assert_eq!(node.set_cc(adm, 0), Status::SUCCESS);
    assert_eq!(node.set_cc(adm, u64::from(property::Cc::ENABLE.0)), Status::SUCCESS);
    let csts = |node: &mut Node| {
        let get = PropertyGet { width: Width::Four, offset: property::CSTS };
        node.call(adm, get.sqe(0), &[], false).cqe.dw0.get()
    };
    let connect = Connect { qid: 1, sqsize: 31, ..Connect::default() };
    assert_eq!(csts(&mut node), 0, "the write from before the reset may still have an effect");
    let (early, refused) = node.connect_raw(connect, &connect_data(cntlid));
    assert_eq!(refused.cqe.status(), Status::SEQUENCE_ERROR, "the host may try again");
    node.fabric().hang_up(early);
    ram.disk().end = 100;
    while csts(&mut node) != property::Csts::RDY {
        node.now_ns += 1_000_000;
        node.turn();
    }
    let (again, answer) = node.connect_raw(connect, &connect_data(cntlid));
    assert_eq!(answer.cqe.status(), Status::SUCCESS);
    end(&mut node, &[adm, qp, again]);
}

#[test]
fn a_target_that_goes_down_answers_nothing_more() {
    let (mut node, _ram) = node([4, 0, 0, 0]);
    let (adm, cntlid) = node.connect_admin(0);
    let qp = node.connect_io(cntlid, 1, false);
    node.registry.shut_down();
    // Before anybody has looked whether the controller is there.
    for cid in 101..=103 {
        send(&mut node, qp, read(0, 1), cid, &[]);
        if !node.fabric().is_open(qp) {
            break;
        }
    }
    assert!(node.fabric().answers.is_empty(), "a host would try again until it gives up");
    let why = CloseReason::Controller("the target is going down");
    assert_eq!(node.fabric().closed, [(qp, why)]);
    // One that is about to connect again is to come back later.
    for (qid, wanted) in [(0, CNTLID_DYNAMIC), (1, cntlid)] {
        let connect = Connect { qid, sqsize: 31, ..Connect::default() };
        let (late, refused) = node.connect_raw(connect, &connect_data(wanted));
        assert_eq!(refused.cqe.status(), Status::CONNECT_BUSY);
        node.fabric().hang_up(late);
    }
    end(&mut node, &[adm]);
}

#[test]
fn a_lost_connection_leaves_nothing_behind() {
    let (mut node, ram) = node([3, 0, 0, 0]);
    let (adm, qp) = node.connect();
    node.fabric().manners = Manners { pull: 0, send: 0, ..Manners::PROMPT };
    ram.disk().end = 0;
    send(&mut node, adm, event_request(), 90, &[]);
    send(&mut node, qp, write(0, 1), 101, &[1; 512]);
    send(&mut node, qp, read(0, 1), 102, &[]);
    send(&mut node, qp, read(0, 1), 103, &[]);
    send(&mut node, qp, read(0, 1), 104, &[]);
    node.fabric().hang_up(adm);
    node.fabric().hang_up(qp);
    node.settle();
    assert!(node.target.commands() > 0, "the answers have not left, the reads have not ended");
    node.fabric().manners.send = 100;
    node.settle();
    assert_eq!(node.target.commands(), 2, "two reads are in the stack");
    ram.disk().end = 100;
    end(&mut node, &[adm, qp]);
}

#[test]
fn what_the_stack_holds_back_ends_with_its_host_or_its_namespace() {
    let (mut node, ram) = node([4, 0, 0, 0]);
    let (adm, qp) = node.connect();
    ram.disk().end = 0;
    ram.disk().recalled = 100;
    send(&mut node, qp, write(0, 1), 101, &[1; 512]);
    send(&mut node, qp, read(0, 1), 102, &[]);
    assert_eq!(node.target.commands(), 2);
    node.fabric().hang_up(qp);
    node.settle();
    assert_eq!(node.target.commands(), 0, "their host is gone, and they had not begun");
    assert_eq!(ram.disk().log, []);
    // A namespace that is removed takes its commands along.
    let subsystem = node.registry.subsystem(crate::node::NQN).unwrap();
    let cntlid = subsystem.live_controllers()[0].cntlid();
    let qp = node.connect_io(cntlid, 2, false);
    send(&mut node, qp, write(0, 1), 103, &[1; 512]);
    let namespace = subsystem.namespace(1).unwrap();
    node.registry.remove_namespace(crate::node::NQN, 1).unwrap();
    node.now_ns += 20_000_000;
    no_answer_but(&mut node, qp, 103, Status::ABORT_REQUESTED);
    node.now_ns += 20_000_000;
    node.settle();
    assert!(!namespace.is_held(0));
    assert_eq!(ram.disk().log, []);
    end(&mut node, &[adm, qp]);
}

/// The host goes; what is in the stack ends; nothing is left.
fn end(node: &mut Node, qpairs: &[QpairId]) {
    for qpair in qpairs {
        node.fabric().hang_up(*qpair);
    }
    node.settle();
    node.fabric().manners = Manners::PROMPT;
    node.now_ns += 20_000_000;
    node.settle();
    node.check_nothing_left();
}

#[test]
fn abort_reaches_a_queue_on_another_reactor() {
    let ram = Ram::new(Geometry::plain(512, 8192));
    let registry = registry(2, std::slice::from_ref(&ram));
    let mut near = Node::new(&registry, 0, [4, 0, 0, 0]);
    let mut far = Node::new(&registry, 1, [1, 0, 0, 0]);
    let (adm, cntlid) = near.connect_admin(0);
    let qp = far.connect_io(cntlid, 1, false);
    ram.disk().end = 0;
    send(&mut far, qp, read(0, 1), 101, &[]);
    send(&mut far, qp, read(0, 1), 102, &[]);
    let mut ask = |far: &mut Node, cid: u16| {
        let mut sqe = abort(1, cid);
        sqe.cid = (cid + 400).into();
        assert!(near.fabric().send(adm, sqe, &[], false));
        for _ in 0..4 {
            near.now_ns += 11_000_000;
            near.turn();
            far.now_ns += 11_000_000;
            far.turn();
        }
        let answer = near.answer(adm, cid + 400);
        assert_eq!(answer.cqe.status(), Status::SUCCESS);
        answer.cqe.dw0.get()
    };
    assert_eq!(ask(&mut far, 102), 0);
    no_answer_but(&mut far, qp, 102, Status::ABORT_REQUESTED);
    assert_eq!(ask(&mut far, 101), 1, "it is in the stack");
    assert_eq!(ask(&mut far, 300), 1, "there is none");
    ram.disk().end = 100;
    no_answer_but(&mut far, qp, 101, Status::SUCCESS);
    end(&mut far, &[qp]);
    end(&mut near, &[adm]);
}
