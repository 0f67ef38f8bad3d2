//! Time-outs, fatal errors, hangs and removal: every operation ends, and never before the
//! controller has lost its memory.

mod rig;
mod soft;

use bdev::{Addr, DmaBuf, DmaSlice, IoFlags, Op};
use bdev_nvme::{Failure, Health};
use nvme_spec::Status;
use rig::Rig;
use soft::{Config, Fate};

const CUT_SHORT: Status = Status::COMMAND_INTERRUPTED;
const NO_CONTROLLER: Status = Status::INTERNAL_ERROR.dnr();

/// A rig with its namespace open.
fn ready(config: Config) -> (Rig, Addr) {
    let mut rig = Rig::new(config);
    let ns = rig.open(1);
    rig.turns(10);
    (rig, ns)
}

/// Lets every I/O command have `fate`.
fn all(rig: &Rig, fate: Fate) {
    rig.soft.engine().decide = Box::new(move |qid, _| if qid > 0 { fate } else { Fate::Now });
}

/// Submits `count` reads of one block.
fn reads(rig: &mut Rig, ns: Addr, count: u64) -> Vec<DmaBuf> {
    let bufs: Vec<DmaBuf> = (0..count).map(|_| rig.buffer(512, 0)).collect();
    for (buf, tag) in bufs.iter().zip(0..) {
        rig.submit(ns, Op::Read, IoFlags::NONE, tag, 1, buf.slice().sub(0, 512), tag);
    }
    bufs
}

/// Gives buffers back, and checks that each operation ended with `status`.
fn ended(rig: &mut Rig, bufs: Vec<DmaBuf>, status: Status) {
    assert_eq!(rig.dones.len(), bufs.len());
    assert!(rig.dones.iter().all(|done| done.status == status), "{:?}", rig.dones);
    rig.dones.clear();
    bufs.into_iter().for_each(|buf| rig.pool.give(buf));
    rig.check();
}

#[test]
fn a_late_command_is_aborted() {
    let (mut rig, ns) = ready(Config::default());
    all(&rig, Fate::Later);
    let bufs = reads(&mut rig, ns, 1);
    rig.turns(90);
    assert_eq!((rig.dones.len(), rig.soft.engine().aborts.len()), (0, 0));
    rig.run(1);
    assert_eq!(rig.soft.engine().aborts.len(), 1);
    ended(&mut rig, bufs, Status::ABORT_REQUESTED);
    let counts = rig.controller.counts();
    assert_eq!((counts.timeouts, counts.aborts, counts.resets), (1, 1, 0));
    all(&rig, Fate::Now);
    assert_eq!(rig.read(ns, 0, 1, 512).0, Status::SUCCESS);
}

#[test]
fn a_command_that_cannot_be_aborted_costs_a_reset_and_the_queue_comes_back() {
    let (mut rig, ns) = ready(Config::default());
    all(&rig, Fate::Never);
    let bufs = reads(&mut rig, ns, 20);
    rig.run(20);
    all(&rig, Fate::Now);
    ended(&mut rig, bufs, CUT_SHORT);
    let counts = rig.controller.counts();
    assert_eq!((counts.timeouts, counts.resets), (20, 1));
    // No more aborts at once than the controller takes.
    assert!(rig.soft.engine().aborts.len() < 20);
    assert_eq!(rig.write(ns, 5, 1, &[5; 512]), Status::SUCCESS);
    assert_eq!(rig.read(ns, 5, 1, 512), (Status::SUCCESS, vec![5; 512]));
    assert_eq!(rig.controller.health(), Health::Ready);
    rig.check();
}

#[test]
fn operations_that_come_during_a_reset_wait_for_its_end() {
    let (mut rig, ns) = ready(Config { lag: 50, ..Config::default() });
    rig.soft.engine().faults.fatal = true;
    rig.turns(25);
    rig.soft.engine().faults.fatal = false;
    assert_eq!(rig.controller.health(), Health::Starting);
    let bufs = reads(&mut rig, ns, 10);
    rig.run(10);
    ended(&mut rig, bufs, Status::SUCCESS);
    assert_eq!(rig.controller.counts().resets, 1);
}

#[test]
fn a_fatal_error_under_load_ends_all_that_was_under_way() {
    for busy_to_the_end in [false, true] {
        let (mut rig, ns) = ready(Config { lag: 10, ..Config::default() });
        all(&rig, Fate::Later);
        let bufs = reads(&mut rig, ns, 100);
        rig.turns(2);
        rig.soft.engine().faults.fatal = true;
        rig.soft.engine().faults.busy_to_the_end = busy_to_the_end;
        for _ in 0..400 {
            rig.turn();
            let mut engine = rig.soft.engine();
            if !engine.cc.enabled() {
                engine.faults.fatal = false;
            }
            // Disabled and not yet seen so, it goes on writing into memory.
            if busy_to_the_end && !engine.cc.enabled() && !engine.held.is_empty() {
                engine.complete_at(0);
            }
        }
        all(&rig, Fate::Now);
        ended(&mut rig, bufs, CUT_SHORT);
        assert_eq!(rig.read(ns, 0, 1, 512).0, Status::SUCCESS);
    }
}

#[test]
fn a_drive_that_is_pulled_ends_everything_at_once_and_for_good() {
    let (mut rig, ns) = ready(Config { mqes: 31, ..Config::default() });
    all(&rig, Fate::Later);
    let bufs = reads(&mut rig, ns, 100);
    rig.turns(2);
    rig.soft.engine().faults.gone = true;
    rig.run(100);
    ended(&mut rig, bufs, NO_CONTROLLER);
    assert_eq!(rig.controller.health(), Health::Dead(Failure::Gone));
    assert_eq!(rig.read(ns, 0, 1, 512).0, NO_CONTROLLER);
    rig.stack.close(ns);
    // Whoever opens it now hears the same, at once.
    let ns = rig.open(1);
    assert_eq!(rig.read(ns, 0, 1, 512).0, NO_CONTROLLER);
}

#[test]
fn a_drive_that_the_machine_wants_back_is_let_go_and_goes_on_when_it_returns() {
    let (mut rig, ns) = ready(Config { mqes: 31, ..Config::default() });
    all(&rig, Fate::Later);
    let bufs = reads(&mut rig, ns, 100);
    rig.turns(2);
    rig.soft.engine().faults.wanted_back = true;
    rig.run(100);
    ended(&mut rig, bufs, NO_CONTROLLER);
    assert_eq!(rig.controller.health(), Health::Dead(Failure::Removed));
    let isolated = rig.soft.engine().isolated;
    assert_eq!((isolated, rig.soft.engine().let_go), (true, 1));
    assert_eq!(rig.read(ns, 0, 1, 512).0, NO_CONTROLLER);
    // The same channel goes on when it is there again.
    all(&rig, Fate::Now);
    rig.controller.reset(rig.now_ns);
    rig.turns(100);
    assert_eq!(rig.write(ns, 3, 1, &[7; 512]), Status::SUCCESS);
    assert_eq!(rig.read(ns, 3, 1, 512), (Status::SUCCESS, vec![7; 512]));
    // It was without power: the next Flush cannot promise what was written before, those after it
    // can.
    let flush = |rig: &mut Rig| rig.one(ns, Op::Flush, 0, 0, DmaSlice::EMPTY);
    assert_eq!(flush(&mut rig), NO_CONTROLLER);
    assert_eq!(flush(&mut rig), Status::SUCCESS);
    // A reset keeps the power on.
    rig.controller.reset(rig.now_ns);
    rig.turns(100);
    assert_eq!(flush(&mut rig), Status::SUCCESS);
    assert_eq!(rig.controller.health(), Health::Ready);
    rig.check();
}

#[test]
fn one_that_was_given_up_before_is_let_go_too() {
    let (mut rig, ns) = ready(Config::default());
    rig.controller.shut_down(rig.now_ns);
    rig.turns(100);
    assert_eq!(rig.controller.health(), Health::Dead(Failure::Asked));
    assert_eq!(rig.soft.engine().let_go, 0, "nobody asked");
    rig.soft.engine().faults.wanted_back = true;
    rig.turns(100);
    assert_eq!(rig.soft.engine().let_go, 1);
    assert_eq!(rig.read(ns, 0, 1, 512).0, NO_CONTROLLER);
    rig.check();
}

#[test]
fn one_that_will_not_stop_is_cut_off_before_its_operations_end() {
    let (mut rig, ns) = ready(Config::default());
    all(&rig, Fate::Later);
    let bufs = reads(&mut rig, ns, 10);
    rig.turns(2);
    {
        let mut engine = rig.soft.engine();
        (engine.faults.fatal, engine.faults.never_stops) = (true, true);
        engine.faults.isolations = 3;
    }
    while !rig.soft.engine().isolated {
        rig.turn();
        assert_eq!(rig.dones.len(), 0, "not while it can write");
        // It writes, late, until it is cut off.
        let mut engine = rig.soft.engine();
        let isolations = engine.faults.isolations;
        if isolations < 3 && engine.held.len() > 5 {
            engine.complete_at(0);
        }
        assert!(rig.now_ns < 10_000_000_000);
    }
    rig.run(10);
    assert_eq!(rig.controller.health(), Health::Dead(Failure::Hung("it does not stop")));
    ended(&mut rig, bufs, NO_CONTROLLER);
}

#[test]
fn a_controller_that_does_not_come_back_ends_what_waits_for_it() {
    let (mut rig, ns) = ready(Config::default());
    rig.soft.engine().faults.never_ready = true;
    rig.soft.engine().faults.fatal = true;
    while rig.soft.engine().cc.enabled() {
        rig.turn();
    }
    rig.soft.engine().faults.fatal = false;
    rig.turns(5);
    let bufs = reads(&mut rig, ns, 10);
    rig.run(10);
    ended(&mut rig, bufs, NO_CONTROLLER);
    let hung = Failure::Hung("it does not become ready");
    assert_eq!(rig.controller.health(), Health::Dead(hung));
    // An operator brings it back, and the same channel goes on.
    rig.soft.engine().faults.never_ready = false;
    rig.controller.reset(rig.now_ns);
    rig.turns(100);
    assert_eq!(rig.read(ns, 0, 1, 512).0, Status::SUCCESS);
    rig.check();
}

#[test]
fn an_admin_command_that_hangs_costs_a_reset() {
    let (mut rig, ns) = ready(Config::default());
    rig.soft.engine().decide = Box::new(|qid, sqe| match (qid, sqe.opcode) {
        (0, nvme_spec::opcode::admin::GET_LOG_PAGE) => Fate::Never,
        _ => Fate::Now,
    });
    let answer = rig.ask(bdev_nvme::Request::smart_log());
    assert!(answer.unwrap_err().to_string().contains("was reset meanwhile"));
    assert_eq!(rig.controller.counts().resets, 1);
    rig.turns(2);
    assert_eq!(rig.read(ns, 0, 1, 512).0, Status::SUCCESS);
    rig.check();
}

#[test]
fn a_queue_that_is_refused_ends_what_waits_for_it() {
    let mut rig = Rig::new(Config::default());
    rig.soft.engine().faults.no_queues = true;
    let ns = rig.open(1);
    let bufs = reads(&mut rig, ns, 5);
    rig.run(5);
    ended(&mut rig, bufs, NO_CONTROLLER);
    assert_eq!(rig.soft.engine().cqs.len(), 1, "its completion queue is deleted again");
    assert_eq!(rig.read(ns, 0, 1, 512).0, NO_CONTROLLER);
    // A reset tries again.
    rig.soft.engine().faults.no_queues = false;
    rig.controller.reset(rig.now_ns);
    rig.turns(100);
    assert_eq!(rig.read(ns, 0, 1, 512).0, Status::SUCCESS);
    rig.check();
}

#[test]
fn a_channel_that_is_closed_during_a_reset_leaves_nothing_behind() {
    let (mut rig, ns) = ready(Config { lag: 20, ..Config::default() });
    let before = rig.soft.engine().bus.len();
    rig.soft.engine().faults.fatal = true;
    rig.turns(15);
    rig.soft.engine().faults.fatal = false;
    rig.stack.close(ns);
    let pages = |rig: &Rig| rig.soft.engine().bus.len();
    assert!(pages(&rig) < before, "its operations' memory is off the bus");
    rig.settle();
    // The admin queue's memory alone is left.
    assert_eq!(pages(&rig), 1);
    let ns = rig.open(1);
    assert_eq!(rig.read(ns, 0, 1, 512).0, Status::SUCCESS);
    assert_eq!(pages(&rig), before);
    rig.check();
}

#[test]
fn resets_in_a_row_without_a_queue_between_are_counted() {
    let (mut rig, ns) = ready(Config::default());
    rig.soft.engine().decide = Box::new(|qid, sqe| match (qid, sqe.opcode) {
        (0, nvme_spec::opcode::admin::CREATE_CQ) => Fate::Never,
        _ => Fate::Now,
    });
    rig.controller.reset(rig.now_ns);
    rig.turns(2);
    let bufs = reads(&mut rig, ns, 5);
    rig.run(5);
    let why = Failure::Hung("an admin command does not complete");
    assert_eq!(rig.controller.health(), Health::Dead(why));
    ended(&mut rig, bufs, NO_CONTROLLER);
}
