//! The target on one reactor: a fabric above, a stack of channels below.

use crate::export::controller::Location;
use crate::export::counters::ReactorCounters;
use crate::export::refused::{RefusalReason, RefusedHost};
use crate::export::registry::Registry;
use crate::limits;
use crate::machine::cid::CidError;
use crate::machine::io::arrival::Arrivals;
use crate::machine::io::command::Fault;
use crate::machine::io::direct::Landing;
use crate::machine::place::NONE;
use crate::machine::qpair::{Phase, Qpair, Role};
use crate::machine::request::{Answer, Request, State, capsule_data};
use crate::machine::space::Spaces;
use crate::machine::transport::{CloseReason, Event, InCapsule, QpairId, ReqId, Transport};
use crate::machine::wait::BufferQueue;
use bdev::{Done, Edge, EdgeCx, Slab};
use nvme_spec::{Sqe, Status};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;

/// The target on one reactor, over one fabric. Its I/O carries the number of the request as tag.
pub struct Target<T> {
    pub(crate) transport: T,
    pub(crate) registry: Arc<Registry>,
    pub(crate) reactor: usize,
    pub(crate) qpairs: Slab<Qpair>,
    /// By place in the transport: the queue pair that has it now, or [`NONE`].
    by_place: Box<[u32]>,
    /// The keys in `qpairs`.
    pub(crate) keys: Vec<u32>,
    pub(crate) requests: Box<[Request]>,
    pub(crate) spaces: Spaces,
    pub(crate) waiting: BufferQueue,
    /// Writes and fused pairs that the gate of their namespace holds back.
    pub(crate) gated: VecDeque<u32>,
    pub(crate) counters: Arc<ReactorCounters>,
    /// Room for the data of one admin command.
    pub(crate) admin_data: Vec<u8>,
    events: Vec<Event>,
    /// Writes to memory of this batch of events.
    pub(crate) landings: Vec<Landing>,
    /// Writes to memory whose data is on the way.
    pub(crate) arrivals: Arrivals,
    pub(crate) next_tick_ns: u64,
    pub(crate) now_ns: u64,
}

impl<T: Transport> Target<T> {
    /// The target of `registry` on reactor `reactor`, reached over `transport`.
    pub fn new(transport: T, registry: Arc<Registry>, reactor: usize) -> Target<T> {
        assert!(reactor < registry.reactors(), "the registry was told how many reactors there are");
        let requests = transport.request_limit();
        let places = transport.qpair_limit();
        // A queue pair that is closed keeps its place here until its commands have ended, while
        // the transport may use its own place again.
        let qpairs = places + places.min(requests);
        Target {
            counters: registry.reactor_counters(reactor).clone(),
            transport,
            registry,
            reactor,
            qpairs: Slab::new(qpairs),
            keys: Vec::with_capacity(qpairs as usize),
            by_place: vec![NONE; places as usize].into(),
            requests: (0..requests).map(|_| Request::free()).collect(),
            spaces: Spaces::new(reactor),
            waiting: BufferQueue::new(requests),
            gated: VecDeque::with_capacity(requests as usize),
            admin_data: Vec::new(),
            events: Vec::with_capacity(requests as usize),
            landings: Vec::with_capacity(requests as usize),
            arrivals: Arrivals::new(requests),
            next_tick_ns: 0,
            now_ns: 0,
        }
    }

    /// The fabric.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// The fabric, to change: to add or remove listeners.
    pub fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    /// Queue pairs, those included whose connection is gone but whose commands have not ended.
    pub fn queue_pairs(&self) -> u32 {
        self.qpairs.len()
    }

    /// Commands that have come and whose answer has not left.
    pub fn commands(&self) -> usize {
        self.requests.iter().filter(|request| request.state != State::Free).count()
    }

    fn event(&mut self, event: &Event, cx: &mut EdgeCx<'_>) {
        match event {
            Event::Command { qpair, req, sqe, in_capsule } => {
                self.command(*qpair, *req, sqe, *in_capsule, cx)
            }
            Event::Sent { req } => self.sent(*req, cx),
            Event::Pulled { req, status } => self.pulled(*req, *status, cx),
            Event::Connected { qpair, origin, direct } => {
                let by_ns = cx.now_ns + limits::CONNECT_NS;
                self.connected(Qpair::new(*qpair, origin.clone(), *direct, by_ns))
            }
            Event::Closed { qpair, why } => self.closed(*qpair, why, cx),
        }
    }

    fn take_events(&mut self, mut events: Vec<Event>, cx: &mut EdgeCx<'_>) {
        for event in &events {
            self.event(event, cx);
        }
        events.clear();
        self.events = events;
        self.land();
    }

    fn connected(&mut self, qpair: Qpair) {
        let id = qpair.id;
        match self.qpairs.insert(qpair) {
            Ok(key) => {
                self.by_place[usize::from(id.index)] = key;
                self.keys.push(key);
                self.counters.connections.add(1);
            }
            Err(_) => self.transport.close(id, CloseReason::Controller("too many queue pairs")),
        }
    }

    /// The queue pair that the transport means, if it is still there.
    fn key(&self, id: QpairId) -> Option<u32> {
        let key = *self.by_place.get(usize::from(id.index))?;
        (self.qpairs.get(key)?.id == id).then_some(key)
    }

    fn command(
        &mut self,
        id: QpairId,
        req: ReqId,
        sqe: &Sqe,
        in_capsule: InCapsule,
        cx: &mut EdgeCx<'_>,
    ) {
        self.counters.commands.add(1);
        let key = self.key(id);
        if let Some(key) = key
            && self.take_direct(key, req, sqe, in_capsule, cx)
        {
            return;
        }
        let capsule = capsule_data(in_capsule);
        let request = &mut self.requests[req.0 as usize];
        let data = capsule.unwrap_or(bdev::DmaSlice::EMPTY);
        request.begin(key.unwrap_or(NONE), sqe, data, self.now_ns);
        let Some(qpair) = key.and_then(|key| self.qpairs.get_mut(key)) else {
            return self.finish(req.0, Answer::status(Status::ABORTED_SQ_DELETION), cx);
        };
        qpair.set_slots(qpair.slots() + 1);
        request.doomed = capsule.err();
        if let Err(refusal) = self.enter(req.0) {
            return self.refuse(req.0, refusal, cx);
        }
        let Some(qpair) = key.and_then(|key| self.qpairs.get(key)) else { unreachable!("kept") };
        match (&qpair.phase, &qpair.role) {
            (Phase::Open, Role::Io(_)) => self.start_io(req.0, cx),
            (Phase::Open, Role::Admin(_)) => self.start_admin(req.0, cx),
            (Phase::AwaitingConnect { .. }, _) => self.start_connect(req.0, cx),
            _ => self.finish(req.0, Answer::status(Status::ABORTED_SQ_DELETION), cx),
        }
    }

    /// Enters a command into its queue pair's table. One with the identifier of a held Asynchronous
    /// Event Request takes its place.
    fn enter(&mut self, at: u32) -> Result<(), CidError> {
        let request = &mut self.requests[at as usize];
        let (key, cid) = (request.qpair, request.sqe.cid());
        let Some(qpair) = self.qpairs.get_mut(key) else { unreachable!("just found") };
        let mut entered = qpair.enter(cid, at);
        if entered == Err(CidError::Conflict)
            && let Some(held) = qpair.find(cid)
            && self.requests[held as usize].state == State::EventHeld
        {
            self.displace_held_event(held);
            let Some(qpair) = self.qpairs.get_mut(key) else { unreachable!("just found") };
            entered = qpair.enter(cid, at);
        }
        self.requests[at as usize].entered = entered.is_ok();
        entered
    }

    /// Ends a command that could not be entered into its queue pair.
    #[cold]
    fn refuse(&mut self, at: u32, refusal: CidError, cx: &mut EdgeCx<'_>) {
        let key = self.requests[at as usize].qpair;
        match refusal {
            CidError::Conflict => {
                self.finish(at, Fault::at(Status::CID_CONFLICT, Location::CID).into(), cx)
            }
            CidError::Full => {
                self.finish(at, Answer::status(Status::SEQUENCE_ERROR.dnr()), cx);
                let why = "more commands than the queue has entries";
                self.close_qpair(key, CloseReason::Protocol(why.into()));
            }
        }
    }

    /// Tells the transport to close a queue pair, once.
    pub(crate) fn close_qpair(&mut self, key: u32, why: CloseReason) {
        let Some(qpair) = self.qpairs.get_mut(key) else { return };
        if !matches!(qpair.phase, Phase::Closing | Phase::Closed) {
            qpair.phase = Phase::Closing;
            self.transport.close(qpair.id, why);
        }
    }

    /// The transport has closed a queue pair: nothing reaches the host any more.
    fn closed(&mut self, id: QpairId, why: &CloseReason, cx: &mut EdgeCx<'_>) {
        let Some(key) = self.key(id) else { return };
        self.by_place[usize::from(id.index)] = NONE;
        let qpair = self.qpairs.get_mut(key).expect("found by its key");
        let before = std::mem::replace(&mut qpair.phase, Phase::Closed);
        // What this side has ended was noted then.
        if let (CloseReason::Protocol(what), false) = (why, matches!(before, Phase::Closing)) {
            self.note_given_up(key, RefusalReason::Protocol, Some(what.clone()));
        }
        count_closed(&self.counters, why);
        self.detach(key);
        self.doom_all(key, Status::ABORTED_SQ_DELETION, cx);
        self.forget_qpair_when_done(key);
    }

    /// A host is given up: whoever is asked about it finds out why.
    pub(crate) fn note_given_up(&self, key: u32, reason: RefusalReason, detail: Option<String>) {
        let Some(qpair) = self.qpairs.get(key) else { return };
        let association = qpair.ctrl().map(|ctrl| ctrl.association());
        self.registry.refused().note(RefusedHost {
            host: association.map(|association| association.host_nqn.clone()),
            address: qpair.origin.peer.ip(),
            subsystem: qpair.ctrl().map(|ctrl| ctrl.subsystem().nqn().to_owned()),
            reason,
            detail,
            last_ns: self.now_ns,
            count: 0,
        });
    }

    /// One place of the transport less for a queue pair.
    pub(crate) fn forget_request(&mut self, key: u32) {
        let qpair = self.qpairs.get_mut(key).expect("kept until its last command has ended");
        qpair.set_slots(qpair.slots() - 1);
        match qpair.phase {
            Phase::Closed => self.forget_qpair_when_done(key),
            Phase::Leaving if qpair.slots() == 0 => self.close_qpair(key, CloseReason::Disconnect),
            _ => {}
        }
    }

    fn forget_qpair_when_done(&mut self, key: u32) {
        if self.qpairs.get(key).is_some_and(|qpair| qpair.slots() == 0) {
            let mut qpair = self.qpairs.remove(key).expect("just found");
            self.keys.retain(|other| *other != key);
            if let Role::Io(queue) = &mut qpair.role {
                queue.forget_views(&mut self.spaces);
                queue.ctrl.release_queue(queue.qid);
            }
        }
    }
}

impl<T: Transport> Edge for Target<T> {
    fn poll(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        self.now_ns = cx.now_ns;
        let mut events = std::mem::take(&mut self.events);
        let may_land = self.admit_arrivals();
        let mut work = self.transport.poll(cx.now_ns, may_land, cx.pool, &mut events);
        self.dismiss_arrivals();
        self.take_events(events, cx);
        work += self.serve_waiting(cx);
        work += self.retry_gated(cx);
        if cx.now_ns >= self.next_tick_ns {
            work += self.tick(cx);
        }
        work
    }

    fn done(&mut self, done: Done, cx: &mut EdgeCx<'_>) {
        self.step_done(done.tag.0 as u32, done.status, cx);
    }

    fn flush(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        let mut work = self.serve_waiting(cx);
        let mut events = std::mem::take(&mut self.events);
        work += self.transport.flush(cx.now_ns, cx.pool, &mut events);
        self.take_events(events, cx);
        work + self.serve_waiting(cx)
    }

    fn wake_fd(&self) -> Option<RawFd> {
        self.transport.wake_fd()
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        // What the gate holds back is let go on other reactors, which do not wake this one.
        let gate = (!self.gated.is_empty()).then_some(self.now_ns);
        let tick = (!self.qpairs.is_empty()).then_some(self.next_tick_ns);
        [gate, tick, self.transport.next_deadline_ns()].into_iter().flatten().min()
    }
}

/// Counts a connection that ended.
fn count_closed(counters: &ReactorCounters, why: &CloseReason) {
    match why {
        CloseReason::Peer | CloseReason::Disconnect => counters.closed_by_host.add(1),
        CloseReason::Network(_) => counters.closed_by_network.add(1),
        CloseReason::Protocol(_) => counters.closed_for_protocol.add(1),
        CloseReason::Controller(_) | CloseReason::Shutdown => counters.closed_by_target.add(1),
    }
}
