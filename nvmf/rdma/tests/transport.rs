//! The transport against hardware made of memory: every command ends once, whatever happens, and no
//! memory is given back that hardware may still touch.

mod support;

use bdev::dma::PoolPlan;
use bdev::{DmaBuf, DmaPool, Memory};
use nvme_spec::{Cqe, Sgl, Sqe, Status};
use nvmf::transport::{
    CloseReason, Event, InCapsule, Origin, PullTo, QpairId, ReqId, Response, Transport,
};
use nvmf_rdma::{Config, RdmaTransport};
use nvmf_wire::rdma::Reject;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use support::FakeNic;
use verbs::{Ask, ConnectionEvent, Gone};
use zerocopy::IntoBytes;

/// How far the target is with a command.
#[derive(Debug)]
enum Stage {
    Taken,
    Pulling(DmaBuf),
    Pulled(DmaBuf),
    Answered(Option<DmaBuf>),
}

struct Bench {
    transport: RdmaTransport<FakeNic>,
    pool: DmaPool,
    events: Vec<Event>,
    /// Commands under way, with their queue pair and command.
    commands: BTreeMap<u32, (QpairId, Sqe, Stage)>,
    open: Vec<QpairId>,
    closed: Vec<(QpairId, CloseReason)>,
    statuses: Vec<Status>,
    /// Data that came in capsules.
    in_capsule: Vec<Vec<u8>>,
    now_ns: u64,
    cid: u16,
}

/// Receives of the port.
const RECEIVES: usize = 32;

impl Bench {
    fn new(requests: u32, room: u32) -> Bench {
        let plan = PoolPlan::for_bytes(8 << 20);
        let memory = Arc::new(Memory::map(1, plan.bytes()).unwrap());
        let config = Config { qpairs: 4, requests, receives: RECEIVES as u16, ..Config::default() };
        let mut nic = FakeNic::default();
        nic.room = room;
        Bench {
            transport: RdmaTransport::new(nic, config),
            pool: DmaPool::new(memory, 0, &plan),
            events: Vec::new(),
            commands: BTreeMap::new(),
            open: Vec::new(),
            closed: Vec::new(),
            statuses: Vec::new(),
            in_capsule: Vec::new(),
            now_ns: 0,
            cid: 0,
        }
    }

    fn nic(&mut self) -> &mut FakeNic {
        self.transport.nic_mut()
    }

    fn ask(&mut self) {
        let (peer, local) = ("192.0.2.2:5".parse().unwrap(), "192.0.2.1:4420".parse().unwrap());
        let ask = Ask { qid: 0, entries: 16, reads: 4 };
        let event = ConnectionEvent::Asks {
            request: 1,
            port: 0,
            ask,
            admission: Origin::alone(peer, local),
        };
        self.nic().events.push_back(event);
        self.turn();
    }

    /// One turn of the reactor.
    fn turn(&mut self) {
        self.now_ns += 1_000_000;
        let mut events = std::mem::take(&mut self.events);
        self.transport.poll(self.now_ns, true, &mut self.pool, &mut events);
        self.take(&mut events);
        self.transport.flush(self.now_ns, &mut self.pool, &mut events);
        self.take(&mut events);
        self.events = events;
        // What hardware may touch is nobody's.
        let touched = self.transport.nic().touched();
        for (_, _, stage) in self.commands.values() {
            if let Stage::Pulled(buf) = stage {
                let (at, end) = (buf.slice().as_ptr() as usize, buf.len());
                let hits = |s: &bdev::DmaSlice| (at..at + end).contains(&(s.as_ptr() as usize));
                assert!(!touched.iter().any(hits), "a pull that has ended is still under way");
            }
        }
    }

    fn take(&mut self, events: &mut Vec<Event>) {
        for event in events.drain(..) {
            match event {
                Event::Connected { qpair, direct, .. } => {
                    assert!(!direct);
                    self.open.push(qpair);
                }
                Event::Command { qpair, req, sqe, in_capsule } => {
                    assert!(self.open.contains(&qpair), "a command of nobody's");
                    if let InCapsule::Data(slice) = in_capsule {
                        let mut data = vec![0; slice.len()];
                        slice.copy_out(0, &mut data);
                        self.in_capsule.push(data);
                    }
                    let before = self.commands.insert(req.0, (qpair, sqe, Stage::Taken));
                    assert!(before.is_none(), "the place is in use");
                }
                Event::Pulled { req, status } => {
                    let (qpair, sqe, stage) = self.commands.remove(&req.0).expect("under way");
                    let Stage::Pulling(buf) = stage else { panic!("pulled in {stage:?}") };
                    self.statuses.push(status);
                    self.commands.insert(req.0, (qpair, sqe, Stage::Pulled(buf)));
                }
                Event::Sent { req } => {
                    let (_, _, stage) = self.commands.remove(&req.0).expect("under way");
                    let Stage::Answered(buf) = stage else { panic!("sent in {stage:?}") };
                    if let Some(buf) = buf {
                        let at = buf.slice().as_ptr();
                        let touched = self.transport.nic().touched();
                        assert!(!touched.iter().any(|s| s.as_ptr() == at), "still under way");
                        self.pool.give(buf);
                    }
                }
                Event::Closed { qpair, why } => {
                    let at = self.open.iter().position(|open| *open == qpair);
                    self.open.remove(at.expect("closed once"));
                    self.closed.push((qpair, why));
                }
            }
        }
    }

    /// A host sends a command whose data is at `sgl`.
    fn send(&mut self, place: u16, sgl: Sgl, data: &[u8]) -> bool {
        self.cid = self.cid.wrapping_add(1);
        let mut sqe = Sqe::new(1, self.cid, 1);
        sqe.flags = Sqe::FLAGS_SGL;
        sqe.dptr = sgl;
        let bytes = 64 + data.len() as u32;
        self.nic().capsule(place, sqe.as_bytes(), data, bytes)
    }

    fn pull(&mut self, req: u32, bytes: usize) {
        let buf = self.pool.take(bytes).expect("memory");
        let into = buf.slice().sub(0, bytes);
        self.commands.get_mut(&req).expect("under way").2 = Stage::Pulling(buf);
        self.transport.pull(ReqId(req), PullTo::Buffer(into));
    }

    /// Answers a command, with `data` for the host.
    fn answer(&mut self, req: u32, data: Option<&[u8]>) {
        let (_, sqe, stage) = self.commands.get_mut(&req).expect("under way");
        let mut buf = match std::mem::replace(stage, Stage::Taken) {
            Stage::Pulled(buf) => Some(buf),
            _ => None,
        };
        let cqe = Cqe::new(sqe.cid(), Status::SUCCESS);
        let slice = data.map(|data| {
            let filled = buf.take().unwrap_or_else(|| self.pool.take(data.len()).expect("memory"));
            filled.slice().copy_in(0, data);
            let slice = filled.slice().sub(0, data.len());
            buf = Some(filled);
            slice
        });
        *stage = Stage::Answered(buf);
        let response = Response { data: slice, lent: false, cqe, cqe_may_be_implied: false };
        self.transport.respond(ReqId(req), response);
    }

    /// Ends a command without an answer.
    fn discard(&mut self, req: u32) {
        let (_, _, stage) = self.commands.get_mut(&req).expect("under way");
        assert!(matches!(stage, Stage::Taken));
        *stage = Stage::Answered(None);
        self.transport.discard(ReqId(req));
    }

    /// Lets hardware do all that it has, and ends every command.
    fn settle(&mut self) {
        for _ in 0..12 {
            for place in 0..4 {
                while self.nic().work(place, false) {}
            }
            self.turn();
            let waiting = |(req, (_, _, stage)): (&u32, &(QpairId, Sqe, Stage))| {
                matches!(stage, Stage::Taken | Stage::Pulled(_)).then_some(*req)
            };
            for req in self.commands.iter().filter_map(waiting).collect::<Vec<_>>() {
                self.answer(req, None);
            }
        }
    }

    /// Lets hardware do all that it has, and ends every command and queue pair.
    fn finish(&mut self) {
        for qpair in self.open.clone() {
            self.transport.close(qpair, CloseReason::Shutdown);
        }
        self.settle();
        self.now_ns += 4_000_000_000;
        (0..3).for_each(|_| self.turn());
        assert!(self.commands.is_empty(), "left behind: {:?}", self.commands);
        assert!(self.open.is_empty());
        assert_eq!(self.nic().queue_pairs(), 0);
        assert_eq!(self.transport.connections(), 0);
        assert!(!self.nic().port_open, "a port nobody uses is closed");
        assert_eq!(self.pool.taken(), [0; 4], "memory went back");
    }

    fn last(&self) -> u32 {
        *self.commands.keys().next_back().expect("a command")
    }
}

#[test]
fn a_write_is_read_from_the_host_and_answered_with_its_key() {
    let mut bench = Bench::new(8, 64);
    bench.ask();
    bench.nic().memory.insert(7, (0..=255).cycle().take(8192).collect());
    assert!(bench.send(0, Sgl::keyed(100, 4096, 7, true), &[]));
    bench.turn();
    let req = bench.last();
    bench.pull(req, 4096);
    bench.turn();
    assert!(bench.nic().work(0, false));
    bench.turn();
    let (_, _, Stage::Pulled(buf)) = &bench.commands[&req] else { panic!("not pulled") };
    let mut data = vec![0; 4096];
    buf.slice().copy_out(0, &mut data);
    assert!(data == bench.transport.nic().memory[&7][100..4196]);
    bench.answer(req, None);
    bench.turn();
    assert!(bench.nic().work(0, false));
    let answer = bench.nic().answers.pop().unwrap();
    assert_eq!(answer.invalidated, Some(7));
    assert_eq!(answer.cqe, Cqe::new(1, Status::SUCCESS).as_bytes());
    bench.turn();
    assert!(bench.commands.is_empty());
    assert_eq!(bench.statuses, [Status::SUCCESS]);
    bench.finish();
}

#[test]
fn a_host_that_takes_no_answers_ends_when_another_waits_for_places() {
    let mut bench = Bench::new(4, 64);
    bench.ask();
    bench.ask();
    let [bad, good] = bench.open[..] else { panic!("two queue pairs") };
    for _ in 0..4 {
        assert!(bench.send(bad.index, Sgl::default(), &[]));
    }
    bench.turn();
    let all: Vec<u32> = bench.commands.keys().copied().collect();
    all.iter().for_each(|req| bench.answer(*req, None));
    bench.turn();
    bench.now_ns += 2 * nvmf::limits::STALL_NS;
    bench.turn();
    assert!(bench.closed.is_empty(), "nobody waits");
    assert!(bench.send(good.index, Sgl::default(), &[]));
    bench.turn();
    bench.turn();
    assert_eq!(bench.closed, [(bad, CloseReason::Stalled)]);
    bench.turn();
    assert!(bench.commands.values().any(|(qpair, ..)| *qpair == good), "it has its place");
    let all: Vec<u32> = bench.commands.keys().copied().collect();
    all.iter().for_each(|req| bench.answer(*req, None));
    bench.finish();
}

#[test]
fn a_read_is_one_chain_of_write_and_send() {
    let mut bench = Bench::new(8, 64);
    bench.ask();
    bench.nic().memory.insert(9, vec![0; 8192]);
    bench.send(0, Sgl::keyed(4096, 512, 9, false), &[]);
    bench.send(0, Sgl::keyed(0, 512, 9, false), &[]);
    bench.turn();
    let posts = bench.nic().posts;
    for req in bench.commands.keys().copied().collect::<Vec<_>>() {
        bench.answer(req, Some(&[0x5a; 512]));
    }
    bench.turn();
    assert_eq!(bench.nic().posts, posts + 1, "both answers ring once");
    (0..4).for_each(|_| assert!(bench.nic().work(0, false)));
    let memory = &bench.transport.nic().memory[&9];
    assert!(memory[..512] == [0x5a; 512] && memory[4096..4608] == [0x5a; 512]);
    assert_eq!(memory[512], 0);
    assert_eq!(bench.nic().answers[0].invalidated, None);
    bench.finish();
}

#[test]
fn data_in_a_capsule_stays_until_the_answer_and_its_receive_comes_back() {
    let mut bench = Bench::new(8, 64);
    bench.ask();
    assert_eq!(bench.nic().receives(), 32);
    bench.send(0, Sgl::in_capsule(0, 4096), &[3; 4096]);
    bench.turn();
    bench.turn();
    assert_eq!((bench.in_capsule[0].clone(), bench.nic().receives()), (vec![3; 4096], 31));
    bench.answer(bench.last(), None);
    bench.turn();
    assert_eq!(bench.nic().receives(), 32);
    bench.finish();
}

#[test]
fn a_discarded_command_gives_its_place_and_its_receive_back_and_is_not_answered() {
    let mut bench = Bench::new(2, 64);
    bench.ask();
    for _ in 0..10 {
        assert!(bench.send(0, Sgl::in_capsule(0, 4096), &[3; 4096]));
        bench.turn();
        assert_eq!(bench.nic().receives(), 31);
        bench.discard(bench.last());
        bench.turn();
        bench.turn();
        assert!(bench.commands.is_empty());
        assert_eq!(bench.nic().receives(), 32);
    }
    assert!(!bench.nic().work(0, false), "nothing to send");
    bench.finish();
}

#[test]
fn descriptors_that_name_no_memory_here_fail_the_command_alone() {
    let mut bench = Bench::new(8, 64);
    bench.ask();
    bench.nic().memory.insert(1, vec![0; 512]);
    bench.send(0, Sgl::transport(512), &[]);
    bench.turn();
    bench.pull(bench.last(), 512);
    bench.turn();
    bench.answer(bench.last(), Some(&[1; 512]));
    bench.send(0, Sgl::keyed(0, 256, 1, false), &[]);
    bench.turn();
    bench.pull(bench.last(), 512);
    bench.turn();
    bench.answer(bench.last(), Some(&[1; 512]));
    bench.turn();
    let (kind, length) = (Status::INVALID_SGL_TYPE.dnr(), Status::INVALID_SGL_LENGTH.dnr());
    assert_eq!(bench.statuses, [kind, length]);
    while bench.nic().work(0, false) {}
    let said: Vec<_> = bench.nic().answers.iter().map(|a| a.cqe).collect();
    assert_eq!(said[0], Cqe::new(1, kind).as_bytes());
    assert_eq!(said[1], Cqe::new(2, length).as_bytes());
    assert!(bench.closed.is_empty());
    bench.finish();
}

#[test]
fn a_capsule_too_short_for_a_command_ends_its_queue_pair() {
    let mut bench = Bench::new(8, 64);
    bench.ask();
    bench.nic().capsule(0, &[0; 64], &[], 63);
    bench.turn();
    assert!(matches!(&bench.closed[..], [(_, CloseReason::Protocol(_))]));
    bench.finish();
}

#[test]
fn hosts_beyond_the_places_are_rejected() {
    let mut bench = Bench::new(8, 64);
    (0..5).for_each(|_| bench.ask());
    assert_eq!(bench.nic().rejected, [Reject::NoResources]);
    assert_eq!(bench.open.len(), 4);
    bench.finish();
    bench.nic().refuse_accept = true;
    bench.ask();
    bench.finish();
}

#[test]
fn a_queue_pair_that_takes_no_work_ends_and_so_do_its_commands() {
    let mut bench = Bench::new(8, 64);
    bench.ask();
    bench.nic().memory.insert(1, vec![0; 512]);
    bench.send(0, Sgl::keyed(0, 512, 1, false), &[]);
    bench.turn();
    bench.nic().refuse_post = true;
    bench.pull(bench.last(), 512);
    bench.turn();
    assert!(matches!(&bench.closed[..], [(_, CloseReason::Network(_))]));
    assert_eq!(bench.statuses, [Status::DATA_TRANSFER_ERROR]);
    bench.finish();
}

#[derive(Clone, Debug)]
enum Step {
    Ask,
    Write { place: u16, bytes: u32 },
    InCapsule { place: u16, bytes: usize },
    Pull { which: usize },
    Answer { which: usize, data: bool },
    Work { place: u16, fail: bool },
    Disconnect { place: u16 },
    Close { which: usize },
    Turn,
}

fn step() -> impl Strategy<Value = Step> {
    let place = 0u16..4;
    prop_oneof![
        1 => Just(Step::Ask),
        6 => (place.clone(), 1u32..8192).prop_map(|(place, bytes)| Step::Write { place, bytes }),
        3 => (place.clone(), 0usize..4096)
            .prop_map(|(place, bytes)| Step::InCapsule { place, bytes }),
        6 => any::<usize>().prop_map(|which| Step::Pull { which }),
        8 => any::<(usize, bool)>().prop_map(|(which, data)| Step::Answer { which, data }),
        12 => (place.clone(), proptest::bool::weighted(0.03))
            .prop_map(|(place, fail)| Step::Work { place, fail }),
        1 => place.prop_map(|place| Step::Disconnect { place }),
        1 => any::<usize>().prop_map(|which| Step::Close { which }),
        6 => Just(Step::Turn),
    ]
}

fn nth<'a>(bench: &'a Bench, which: usize, fits: impl Fn(&Stage) -> bool) -> Option<u32> {
    let fitting: Vec<&'a u32> =
        bench.commands.iter().filter(|(_, (_, _, s))| fits(s)).map(|(req, _)| req).collect();
    (!fitting.is_empty()).then(|| *fitting[which % fitting.len()])
}

fn take_step(bench: &mut Bench, step: Step) {
    match step {
        Step::Ask if bench.open.len() < 4 => bench.ask(),
        Step::Ask | Step::Turn => bench.turn(),
        Step::Write { place, bytes } => {
            bench.nic().memory.entry(1).or_insert_with(|| vec![7; 8192]);
            bench.send(place, Sgl::keyed(0, bytes, 1, bytes % 2 == 0), &[]);
        }
        Step::InCapsule { place, bytes } => {
            bench.send(place, Sgl::in_capsule(0, bytes as u32), &vec![1; bytes]);
        }
        Step::Pull { which } => {
            if let Some(req) = nth(bench, which, |stage| matches!(stage, Stage::Taken)) {
                let sgl = bench.commands[&req].1.dptr;
                bench.pull(req, (sgl.keyed_len() as usize).clamp(1, 8192));
            }
        }
        Step::Answer { which, data } => {
            let ready = |stage: &Stage| matches!(stage, Stage::Taken | Stage::Pulled(_));
            if let Some(req) = nth(bench, which, ready) {
                let bytes = bench.commands[&req].1.dptr.keyed_len().clamp(1, 8192) as usize;
                let data = data.then(|| vec![9; bytes]);
                bench.answer(req, data.as_deref());
            }
        }
        Step::Work { place, fail } => {
            bench.nic().work(place, fail);
        }
        Step::Disconnect { place } => {
            if bench.open.iter().any(|open| open.index == place) {
                let event = ConnectionEvent::Gone { place, why: Gone::Disconnected };
                bench.nic().events.push_back(event);
                bench.turn();
            }
        }
        Step::Close { which } => {
            if let Some(qpair) = bench.open.get(which % bench.open.len().max(1)).copied() {
                bench.transport.close(qpair, CloseReason::Controller("reset"));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn every_command_ends_once_and_nothing_is_left(
        requests in 1u32..12,
        room in 2u32..12,
        steps in proptest::collection::vec(step(), 1..300),
        settles in any::<bool>(),
    ) {
        let mut bench = Bench::new(requests, room);
        bench.ask();
        for step in steps {
            take_step(&mut bench, step);
        }
        if settles {
            // With one place for commands each of them waits for those before.
            (0..RECEIVES).for_each(|_| bench.settle());
            if bench.nic().port_open {
                assert_eq!(bench.nic().receives(), RECEIVES, "each receive is with the card again");
            }
        }
        bench.finish();
    }
}
