//! The target on one reactor: a fabric above, a stack of channels below. It routes: events of the
//! fabric to commands, commands through their course, and answers back.

mod admin;
mod course;
mod early_end;

use crate::export::controller::EndReason;
use crate::export::counters::ReactorCounters;
use crate::export::places::Peer;
use crate::export::refused::{RefusalReason, RefusedHost};
use crate::export::registry::Registry;
use crate::limits;
use crate::machine::elsewhere::{AtOnce, Elsewhere};
use crate::machine::io::arrival::Arrivals;
use crate::machine::io::direct::Landing;
use crate::machine::qpair::{Phase, Qpair, Role};
use crate::machine::qpairs::Qpairs;
use crate::machine::request::Requests;
use crate::machine::share::Shares;
use crate::machine::space::Spaces;
use crate::machine::transport::{CloseReason, Event, QpairId, Transport};
use crate::machine::wait::FairQueue;
use bdev::{Done, Edge, EdgeCx};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;

/// The target on one reactor, over one fabric. Its I/O carries the number of the request as tag.
pub struct Target<T> {
    transport: T,
    registry: Arc<Registry>,
    reactor: usize,
    qpairs: Qpairs,
    requests: Requests,
    spaces: Spaces,
    waiting: FairQueue,
    shares: Shares,
    /// Commands of several steps whose next one is due.
    steps: FairQueue,
    /// How long a connection may hold buffers and not move while others wait, in ns.
    stall_ns: u64,
    /// Writes and fused pairs that the gate of their namespace holds back.
    gated: VecDeque<u32>,
    /// Writes to memory of this batch of events.
    landings: Vec<Landing>,
    /// Writes to memory whose data is on the way.
    arrivals: Arrivals,
    counters: Arc<ReactorCounters>,
    /// Room for the data of one admin command.
    admin_data: Vec<u8>,
    elsewhere: Box<dyn Elsewhere>,
    /// Questions that are asked there, and not answered.
    questions: u32,
    events: Vec<Event>,
    next_tick_ns: u64,
    now_ns: u64,
}

impl<T: Transport> Target<T> {
    /// The target of `registry` on reactor `reactor`, reached over `transport`.
    pub fn new(transport: T, registry: Arc<Registry>, reactor: usize) -> Target<T> {
        assert!(reactor < registry.reactors(), "the registry was told how many reactors there are");
        let requests = transport.request_limit();
        let qpairs = Qpairs::new(transport.qpair_limit(), requests);
        Target {
            counters: registry.reactor_counters(reactor).clone(),
            transport,
            registry,
            reactor,
            requests: Requests::new(requests),
            spaces: Spaces::new(reactor),
            waiting: FairQueue::new(requests, qpairs.limit()),
            shares: Shares::default(),
            steps: FairQueue::new(requests, qpairs.limit()),
            stall_ns: limits::STALL_NS,
            qpairs,
            gated: VecDeque::with_capacity(requests as usize),
            landings: Vec::with_capacity(requests as usize),
            arrivals: Arrivals::new(requests),
            admin_data: Vec::new(),
            elsewhere: Box::new(AtOnce::default()),
            questions: 0,
            events: Vec::with_capacity(requests as usize),
            next_tick_ns: 0,
            now_ns: 0,
        }
    }

    /// The same, with what takes long answered elsewhere. (Otherwise it is answered at once, and
    /// the reactor does nothing else meanwhile.)
    pub fn with_elsewhere(mut self, elsewhere: Box<dyn Elsewhere>) -> Target<T> {
        self.elsewhere = elsewhere;
        self
    }

    /// The same, with another time than [`limits::STALL_NS`], in ns.
    pub fn with_stall_limit(mut self, stall_ns: u64) -> Target<T> {
        self.stall_ns = stall_ns;
        self
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
        self.requests.busy()
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
                self.connected(Qpair::new(*qpair, origin.clone(), *direct, by_ns), cx)
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

    fn connected(&mut self, qpair: Qpair, cx: &EdgeCx<'_>) {
        let (id, peer) = (qpair.id(), Peer::of(qpair.origin().peer.ip()));
        match self.qpairs.insert(qpair) {
            Some(key) => {
                self.shares.join(key, peer, &cx.pool.counts());
                self.counters.connections.add(1);
            }
            None => self.transport.close(id, CloseReason::Controller("too many queue pairs")),
        }
    }

    /// Tells the transport to close a queue pair, once.
    fn close_qpair(&mut self, key: u32, why: CloseReason) {
        let Some(qpair) = self.qpairs.get_mut(key) else { return };
        if !matches!(qpair.phase(), Phase::Closing | Phase::Closed) {
            qpair.set_phase(Phase::Closing);
            self.transport.close(qpair.id(), why);
        }
    }

    /// Closes a queue pair whose controller has ended, or has been reset under it. True if it did.
    fn close_orphan(&mut self, key: u32) -> bool {
        let Some(qpair) = self.qpairs.get(key) else { return false };
        if matches!(qpair.phase(), Phase::Closing | Phase::Closed) {
            return false;
        }
        let why = match qpair.role() {
            Role::Unconnected => None,
            Role::Admin(queue) => queue.ctrl().ended().map(EndReason::text),
            Role::Io(queue) if queue.is_current() => None,
            Role::Io(queue) => {
                Some(queue.ctrl().ended().map_or("the controller was reset", EndReason::text))
            }
        };
        let Some(why) = why else { return false };
        self.close_qpair(key, CloseReason::Controller(why));
        true
    }

    /// The transport has closed a queue pair: nothing reaches the host any more.
    fn closed(&mut self, id: QpairId, why: &CloseReason, cx: &mut EdgeCx<'_>) {
        let Some(key) = self.qpairs.close(id) else { return };
        let qpair = self.qpairs.of(key);
        let before = qpair.set_phase(Phase::Closed);
        if let Some(queue) = qpair.admin() {
            queue.ctrl().end(EndReason::AdminQueueClosed);
        }
        // What this side has ended was noted then.
        match why {
            _ if before == Phase::Closing => {}
            CloseReason::Protocol(what) => {
                self.note_given_up(key, RefusalReason::Protocol, Some(what.clone()));
            }
            CloseReason::Stalled => self.note_given_up(key, RefusalReason::Stalled, None),
            _ => {}
        }
        count_closed(&self.counters, why);
        self.doom_all(key, nvme_spec::Status::ABORTED_SQ_DELETION, cx);
        self.forget_qpair_when_done(key);
    }

    /// A host is given up: whoever is asked about it finds out why.
    fn note_given_up(&self, key: u32, reason: RefusalReason, detail: Option<String>) {
        let Some(qpair) = self.qpairs.get(key) else { return };
        let association = qpair.ctrl().map(|ctrl| ctrl.association());
        self.registry.refused().note(RefusedHost {
            host: association.map(|association| association.host_nqn.clone()),
            address: qpair.origin().peer.ip(),
            subsystem: qpair.ctrl().map(|ctrl| ctrl.subsystem().nqn().to_owned()),
            reason,
            detail,
            last_ns: self.now_ns,
            count: 0,
        });
    }

    /// One place of the transport less for a queue pair.
    fn forget_request(&mut self, key: u32) {
        let qpair = self.qpairs.of(key);
        qpair.host_did(self.now_ns);
        qpair.command_left();
        match qpair.phase() {
            Phase::Closed => self.forget_qpair_when_done(key),
            Phase::Leaving if qpair.slots() == 0 => self.close_qpair(key, CloseReason::Disconnect),
            _ => {}
        }
    }

    fn forget_qpair_when_done(&mut self, key: u32) {
        if self.qpairs.get(key).is_some_and(|qpair| qpair.slots() == 0)
            && let Some(mut qpair) = self.qpairs.remove(key)
        {
            self.shares.leave(key);
            if let Some(queue) = qpair.io() {
                queue.forget_views(&mut self.spaces);
                queue.ctrl().release_queue(queue.qid());
            }
        }
    }

    /// What has to be looked at now and then: keep alive, events raised on other reactors, queue
    /// pairs whose controller has ended there. One pass over the queue pairs. Returns how many of
    /// them something happened to.
    fn tick(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        self.next_tick_ns = cx.now_ns + limits::TICK_NS;
        let forget = self.spaces.any_removed();
        if forget {
            self.recall_removed(cx);
        }
        let (mut number, mut work) = (0, 0);
        while let Some(key) = self.qpairs.nth(number) {
            work += u32::from(self.look_after(key, forget, cx));
            number += 1;
        }
        for space in self.spaces.busy() {
            space.subsystem.note_busy(cx.now_ns);
        }
        work
    }

    fn look_after(&mut self, key: u32, forget: bool, cx: &mut EdgeCx<'_>) -> bool {
        if let Some(why) = self.is_silent(key, cx.now_ns) {
            self.note_given_up(key, RefusalReason::NoConnect, None);
            self.close_qpair(key, CloseReason::Protocol(why.into()));
            return true;
        }
        if self.is_in_the_way(key, cx.now_ns) {
            self.note_given_up(key, RefusalReason::Stalled, None);
            self.close_qpair(key, CloseReason::Stalled);
            return true;
        }
        let Some(qpair) = self.qpairs.get_mut(key) else { return false };
        let is_gone = qpair.phase() == Phase::Closed;
        let mut told = false;
        if let Some(queue) = qpair.admin() {
            let ctrl = queue.ctrl();
            if ctrl.is_live() && ctrl.keep_alive_expired(cx.now_ns) {
                self.counters.keep_alive_expiries.add(1);
                ctrl.end(EndReason::KeepAliveExpired);
                self.note_given_up(key, RefusalReason::KeepAlive, None);
            }
            told = self.deliver_events(key, cx) | self.collect_abort_answers(key, cx);
        } else if let Some(queue) = qpair.io() {
            if queue.take_seen() {
                queue.ctrl().seen(cx.now_ns);
            }
            if forget {
                queue.forget_views(&mut self.spaces);
            }
            told = self.abort_for_others(key, cx);
        }
        if is_gone {
            // What was on its way to where it is held back was not found there the first time.
            self.recall_all(key, cx);
        }
        self.close_orphan(key) || told
    }

    /// Whether a connection holds buffers and does not move, while others wait for some.
    fn is_in_the_way(&self, key: u32, now_ns: u64) -> bool {
        let stuck = |qpair: &Qpair| {
            !matches!(qpair.phase(), Phase::Closing | Phase::Closed)
                && qpair.is_stuck(now_ns, self.stall_ns)
        };
        !self.waiting.is_empty()
            && self.qpairs.get(key).is_some_and(stuck)
            && self.shares.holds_any(key)
            && self.waiting.others_wait(key)
    }

    /// Why a connection is given up that has not brought its Connect, if it is.
    fn is_silent(&self, key: u32, now_ns: u64) -> Option<&'static str> {
        let qpair = self.qpairs.get(key)?;
        match qpair.phase() {
            Phase::AwaitingConnect { by_ns } if now_ns >= by_ns => Some("no Connect came in time"),
            Phase::AwaitingConnect { .. } if qpair.origin().place.is_unwanted() => {
                Some("no Connect came, and its place was needed")
            }
            _ => None,
        }
    }

    /// Before the transport is polled: whether data may land. Queue pairs whose controller is gone
    /// are closed first.
    #[inline]
    fn admit_arrivals(&mut self) -> bool {
        if self.arrivals.is_empty() {
            return true;
        }
        let mut number = 0;
        while let Some(key) = self.arrivals.qpair(number) {
            self.close_orphan(key);
            number += 1;
        }
        self.arrivals.pass_gates(&self.requests, &self.spaces, self.reactor)
    }
}

impl<T: Transport> Edge for Target<T> {
    fn poll(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        self.now_ns = cx.now_ns;
        let mut events = std::mem::take(&mut self.events);
        let may_land = self.admit_arrivals();
        let mut work = self.transport.poll(cx.now_ns, may_land, cx.pool, &mut events);
        self.arrivals.dismiss(&self.spaces, self.reactor);
        self.take_events(events, cx);
        work += self.serve_waiting(cx);
        work += self.retry_gated(cx);
        work += self.take_steps(cx);
        if self.questions > 0 {
            work += self.take_replies(cx);
        }
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
        let waits = !self.gated.is_empty() || !self.steps.is_empty();
        let gate = waits.then_some(self.now_ns);
        let tick = (!self.qpairs.is_empty()).then_some(self.next_tick_ns);
        let replies = if self.questions > 0 { self.elsewhere.next_deadline_ns() } else { None };
        [gate, tick, replies, self.transport.next_deadline_ns()].into_iter().flatten().min()
    }
}

/// Counts a connection that ended.
fn count_closed(counters: &ReactorCounters, why: &CloseReason) {
    match why {
        CloseReason::Peer | CloseReason::Disconnect => counters.closed_by_host.add(1),
        CloseReason::Network(_) => counters.closed_by_network.add(1),
        CloseReason::Protocol(_) => counters.closed_for_protocol.add(1),
        CloseReason::Controller(_) | CloseReason::Stalled | CloseReason::Shutdown => {
            counters.closed_by_target.add(1)
        }
    }
}
