//! A target with a little RAM, a host of few words, and a network that does as it is told.

#![allow(dead_code)] // Each test uses its part.

pub mod host;
pub mod network;
pub mod world;

use bdev::dma::PoolPlan;
use bdev::{DmaBuf, DmaPool, DmaSlice, Memory};
use nvme_spec::{Cqe, SglKind, Sqe, Status};
use nvmf::transport::{CloseReason, Event, InCapsule, PullTo, QpairId, ReqId, Response, Transport};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

pub const WRITE: u8 = 1;
pub const READ: u8 = 2;
/// Never answered, until the end.
pub const WAIT: u8 = 0x0c;

/// Bytes that a target stores.
pub const STORE_BYTES: usize = 4 << 20;

/// What is stored.
pub struct Store(Arc<Memory>);

impl Store {
    /// Bytes of it.
    pub fn get(&self, range: Range<usize>) -> Vec<u8> {
        let mut bytes = vec![0; range.len()];
        self.slice(range).copy_out(0, &mut bytes);
        bytes
    }

    /// Changes bytes of it.
    pub fn put(&self, at: usize, bytes: &[u8]) {
        self.slice(at..at + bytes.len()).copy_in(0, bytes);
    }

    fn slice(&self, range: Range<usize>) -> DmaSlice {
        self.0.slice(0, range.start, range.len())
    }
}

/// How far the target thinks a command is.
enum Stage {
    Free,
    Executing {
        qpair: QpairId,
        sqe: Sqe,
        data: InCapsule,
    },
    /// Without a buffer, the data goes straight to the store.
    Pulling {
        qpair: QpairId,
        sqe: Sqe,
        buf: Option<DmaBuf>,
    },
    Answered {
        buf: Option<DmaBuf>,
    },
}

/// A target that checks what the transport promises. `slba` is an offset in bytes.
pub struct Ram<T> {
    pub transport: T,
    pub pool: DmaPool,
    pub store: Store,
    /// Reads are answered with the store itself where the transport takes what is lent; and
    /// whether it is told so.
    pub lend: Option<bool>,
    /// Data that is pulled goes straight to the store where the transport can do that, though not
    /// in every turn; and whether it is told so.
    pub land: Option<bool>,
    direct: Vec<QpairId>,
    pub implied: bool,
    /// Turns that a command is kept before it is answered.
    pub delay: u32,
    pub open: Vec<QpairId>,
    pub closed: Vec<CloseReason>,
    pub commands: u64,
    stages: Vec<Stage>,
    waiting: VecDeque<(u64, ReqId)>,
    parked: Vec<ReqId>,
    turn: u64,
    events: Vec<Event>,
}

impl<T: Transport> Ram<T> {
    pub fn new(transport: T, pool_bytes: usize) -> Ram<T> {
        let plan = PoolPlan::for_bytes(pool_bytes);
        let memory = Arc::new(Memory::map(1, plan.bytes()).unwrap());
        let store = Arc::new(Memory::map(1, STORE_BYTES).unwrap());
        Ram::with_memory(transport, DmaPool::new(memory, 0, &plan), store)
    }

    /// A target that stores in the first [`STORE_BYTES`] bytes of `store`.
    pub fn with_memory(transport: T, pool: DmaPool, store: Arc<Memory>) -> Ram<T> {
        let stages = (0..transport.request_limit()).map(|_| Stage::Free).collect();
        Ram {
            transport,
            pool,
            store: Store(store),
            lend: None,
            land: None,
            direct: Vec::new(),
            implied: true,
            delay: 0,
            open: Vec::new(),
            closed: Vec::new(),
            commands: 0,
            stages,
            waiting: VecDeque::new(),
            parked: Vec::new(),
            turn: 0,
            events: Vec::new(),
        }
    }

    /// One turn of a reactor. Returns how much was done.
    pub fn turn(&mut self, now_ns: u64) -> u32 {
        self.turn += 1;
        let mut events = std::mem::take(&mut self.events);
        let may_land = self.may_land();
        let mut work = self.transport.poll(now_ns, may_land, &mut self.pool, &mut events);
        self.handle(&mut events);
        while self.waiting.front().is_some_and(|(at, _)| *at <= self.turn) {
            let (_, req) = self.waiting.pop_front().unwrap();
            self.execute(req);
        }
        work += self.transport.flush(now_ns, &mut self.pool, &mut events);
        self.handle(&mut events);
        self.events = events;
        work + self.waiting.len() as u32
    }

    /// Whether data may land in the turn under way.
    pub fn may_land(&self) -> bool {
        !self.turn.is_multiple_of(3)
    }

    /// Commands that the transport must still say `Sent` for, or that are not answered.
    pub fn busy(&self) -> usize {
        self.stages.iter().filter(|stage| !matches!(stage, Stage::Free)).count()
    }

    /// Answers what was to wait until the end.
    pub fn release_parked(&mut self) {
        for req in std::mem::take(&mut self.parked) {
            self.answer(req, None, Status::ABORT_REQUESTED, None);
        }
    }

    /// Ends what was to wait until the end, without answers.
    pub fn discard_parked(&mut self) {
        for req in std::mem::take(&mut self.parked) {
            *self.stage(req) = Stage::Answered { buf: None };
            self.transport.discard(req);
        }
    }

    fn stage(&mut self, req: ReqId) -> &mut Stage {
        &mut self.stages[req.0 as usize]
    }

    fn handle(&mut self, events: &mut Vec<Event>) {
        for event in events.drain(..) {
            match event {
                Event::Connected { qpair, direct, .. } => {
                    if direct {
                        self.direct.push(qpair);
                    }
                    assert!(self.open.iter().all(|other| other.index != qpair.index));
                    self.open.push(qpair);
                }
                Event::Command { qpair, req, sqe, in_capsule } => {
                    assert!(self.open.contains(&qpair), "a command before Connected");
                    assert!(matches!(self.stage(req), Stage::Free), "a place used twice");
                    self.commands += 1;
                    *self.stage(req) = Stage::Executing { qpair, sqe, data: in_capsule };
                    self.begin(req, sqe);
                }
                Event::Pulled { req, status } => {
                    let stage = std::mem::replace(self.stage(req), Stage::Free);
                    let Stage::Pulling { qpair, sqe, buf } = stage else {
                        panic!("pulled without a pull")
                    };
                    *self.stage(req) = Stage::Executing { qpair, sqe, data: InCapsule::None };
                    if let (true, Some(buf)) = (status.is_success(), &buf) {
                        self.write(&sqe, buf.slice().sub(0, sqe.dptr.len() as usize));
                    }
                    self.answer(req, None, status, buf);
                }
                Event::Sent { req } => {
                    let stage = std::mem::replace(self.stage(req), Stage::Free);
                    let Stage::Answered { buf } = stage else { panic!("sent without an answer") };
                    buf.into_iter().for_each(|buf| self.pool.give(buf));
                }
                Event::Closed { qpair, why } => {
                    let at = self.open.iter().position(|other| *other == qpair);
                    self.open.swap_remove(at.expect("closed once, after Connected"));
                    self.closed.push(why);
                    let pulls = self
                        .stages
                        .iter()
                        .filter(|s| matches!(s, Stage::Pulling { qpair: of, .. } if *of == qpair));
                    assert_eq!(pulls.count(), 0, "pulls end before Closed");
                }
            }
        }
    }

    fn begin(&mut self, req: ReqId, sqe: Sqe) {
        if sqe.opcode == WAIT {
            return self.parked.push(req);
        }
        self.waiting.push_back((self.turn + u64::from(self.delay), req));
    }

    fn range(&self, sqe: &Sqe) -> Option<Range<usize>> {
        let start = usize::try_from(sqe.slba()).ok()?;
        let end = start.checked_add(sqe.dptr.len() as usize)?;
        (end <= STORE_BYTES && sqe.dptr.len() <= 1 << 20).then_some(start..end)
    }

    fn write(&mut self, sqe: &Sqe, from: DmaSlice) {
        let range = self.range(sqe).unwrap();
        self.store.slice(range).copy_from(from);
    }

    fn execute(&mut self, req: ReqId) {
        let Stage::Executing { qpair, sqe, data } = *self.stage(req) else {
            panic!("only what is with the target is executed")
        };
        let Some(range) = self.range(&sqe) else {
            return self.answer(req, None, Status::LBA_OUT_OF_RANGE, None);
        };
        match (sqe.opcode, data) {
            (READ, _) if self.lend.is_some() && self.direct.contains(&qpair) => {
                let slice = self.store.slice(range);
                self.answer(req, Some(slice), Status::SUCCESS, None);
            }
            (READ, _) => {
                let Some(buf) = self.pool.take(range.len().max(1)) else {
                    return self.waiting.push_back((self.turn + 1, req));
                };
                let slice = buf.slice().sub(0, range.len());
                slice.copy_from(self.store.slice(range));
                self.answer(req, Some(slice), Status::SUCCESS, Some(buf));
            }
            (WRITE, InCapsule::Damaged) => {
                self.answer(req, None, Status::TRANSIENT_TRANSPORT, None)
            }
            (WRITE, InCapsule::Data(from)) => {
                if from.len() == range.len() {
                    self.write(&sqe, from);
                    self.answer(req, None, Status::SUCCESS, None);
                } else {
                    self.answer(req, None, Status::INVALID_SGL_LENGTH, None);
                }
            }
            (WRITE, InCapsule::None)
                if sqe.dptr.kind() == SglKind::Transport
                    && self.land.is_some()
                    && self.direct.contains(&qpair) =>
            {
                let blocks = self.store.slice(range);
                *self.stage(req) = Stage::Pulling { qpair, sqe, buf: None };
                let told = self.land == Some(true);
                let to = if told { PullTo::Device(blocks) } else { PullTo::Buffer(blocks) };
                self.transport.pull(req, to);
            }
            (WRITE, InCapsule::None) if sqe.dptr.kind() == SglKind::Transport => {
                let Some(buf) = self.pool.take(range.len().max(1)) else {
                    return self.waiting.push_back((self.turn + 1, req));
                };
                let into = buf.slice().sub(0, range.len());
                *self.stage(req) = Stage::Pulling { qpair, sqe, buf: Some(buf) };
                self.transport.pull(req, PullTo::Buffer(into));
            }
            _ => self.answer(req, None, Status::INVALID_OPCODE, None),
        }
    }

    fn answer(&mut self, req: ReqId, data: Option<DmaSlice>, status: Status, buf: Option<DmaBuf>) {
        let stage = std::mem::replace(self.stage(req), Stage::Answered { buf });
        let Stage::Executing { sqe, .. } = stage else { panic!("answered while with the target") };
        let cqe = Cqe::new(sqe.cid(), status);
        let cqe_may_be_implied = self.implied && status.is_success();
        let lent = data.is_some() && self.lend == Some(true);
        self.transport.respond(req, Response { data, lent, cqe, cqe_may_be_implied });
    }
}
