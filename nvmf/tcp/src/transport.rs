//! All connections of one reactor.

use crate::Config;
use crate::arena::Arenas;
use crate::conn::{Conn, Cx, Outgoing, Received, Sending, Shared, State};
use crate::limits::{ARENA_BYTES, EPOLL_EVENTS, EPOLL_TURNS, HOT_QPAIRS, HOT_TURNS};
use crate::poller::{EpollPoller, Poller, Ready};
use crate::request::{Answer, Home, requests};
use crate::socket::{Arrival, Socket};
use crate::stats::{Counters, Stats};
use bdev::{DmaBuf, DmaPool};
use nvme_spec::Status;
use nvmf::transport::{
    CloseReason, Crowd, Due, Event, PullTo, QpairId, ReqId, Response, Stage, Transport,
};
use std::os::fd::RawFd;
use std::sync::Arc;

/// How often deadlines are looked at while there are any, in ns.
const EXPIRY_NS: u64 = 100_000_000;

/// A place for a connection.
struct Place<S> {
    generation: u16,
    conn: Option<Box<Conn<S>>>,
}

/// NVMe/TCP on one reactor.
pub struct TcpTransport<P: Poller = EpollPoller> {
    poller: P,
    places: Vec<Place<P::Socket>>,
    free: Vec<u16>,
    shared: Shared,
    outgoing: Option<Outgoing>,
    /// Places with something to send, and the same list while it is worked on.
    dirty: Vec<u16>,
    flushing: Vec<u16>,
    /// Places received from in every turn.
    hot: Vec<u16>,
    /// Places that wait for a place for a command or for memory.
    held: Vec<u16>,
    /// The same list while it is worked on, and those on it that got something.
    retried: Vec<u16>,
    served: Vec<u16>,
    ready: Vec<Ready>,
    turns_since_ready: u32,
    /// Connections other than the hot ones were ready when the poller was asked last.
    others_busy: bool,
    blocked: u32,
    /// Buffers to give back to the pool.
    returns: Vec<DmaBuf>,
    expiry_ns: Option<u64>,
}

impl<P: Poller> TcpTransport<P> {
    /// Without connections.
    pub fn new(poller: P, config: Config) -> TcpTransport<P> {
        config.check();
        let qpairs = config.qpairs;
        let place = |_| Place { generation: 0, conn: None };
        TcpTransport {
            poller,
            places: (0..qpairs).map(place).collect(),
            free: (0..qpairs).rev().collect(),
            outgoing: None,
            dirty: Vec::with_capacity(usize::from(qpairs)),
            flushing: Vec::with_capacity(usize::from(qpairs)),
            hot: Vec::with_capacity(HOT_QPAIRS),
            held: Vec::with_capacity(usize::from(qpairs)),
            retried: Vec::with_capacity(usize::from(qpairs)),
            served: Vec::with_capacity(usize::from(qpairs)),
            ready: Vec::with_capacity(EPOLL_EVENTS),
            turns_since_ready: 0,
            others_busy: false,
            blocked: 0,
            returns: Vec::with_capacity(config.requests as usize),
            expiry_ns: None,
            shared: Shared {
                requests: requests(config.requests),
                config,
                arenas: Arenas::new(),
                carries: Vec::new(),
                stats: Arc::new(Stats::default()),
                crowd: Crowd::default(),
                now_ns: 0,
                may_land: false,
            },
        }
    }

    /// The counts of all connections, for any thread.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.shared.stats
    }

    /// The counts of a connection.
    pub fn counters(&self, qpair: QpairId) -> Option<Counters> {
        let conn = self.places.get(usize::from(qpair.index))?.conn.as_ref()?;
        (conn.id == qpair).then_some(conn.counters)
    }

    /// The places of connections in use, those that are ending included.
    pub fn connections(&self) -> u32 {
        (self.places.len() - self.free.len()) as u32
    }

    fn conn(&mut self, place: u16) -> Option<&mut Box<Conn<P::Socket>>> {
        self.places[usize::from(place)].conn.as_mut()
    }

    /// Gives the memory of a command's capsule back. Returns the queue pair.
    fn release_capsule(&mut self, req: ReqId) -> QpairId {
        let request = self.shared.requests.get_mut(req);
        let qpair = request.qpair;
        match std::mem::take(&mut request.capsule.home) {
            Home::None => {}
            Home::Arena(arena) => self.shared.arenas.release(arena),
            Home::Own(buf) => self.returns.push(buf),
        }
        qpair
    }

    /// Says what was left to say, and gives back what is not used.
    fn settle(&mut self, pool: &mut DmaPool, out: &mut Vec<Event>) -> u32 {
        let said = self.shared.requests.settle(out);
        self.returns.drain(..).for_each(|buf| pool.give(buf));
        let nobody = self.free.len() == self.places.len();
        self.shared.arenas.sweep(pool, nobody);
        if nobody && let Some(outgoing) = self.outgoing.take() {
            pool.give(outgoing.into_headers());
        }
        said
    }

    /// Takes on a connection; without a place or memory it is closed by being dropped.
    fn admit(&mut self, arrival: Arrival<P::Socket>, pool: &mut DmaPool) {
        if self.outgoing.is_none() {
            self.outgoing = pool.take(ARENA_BYTES).map(Outgoing::new);
        }
        let ready = self.outgoing.is_some() && self.shared.arenas.spare(pool).is_some();
        let Some(index) = ready.then(|| self.free.pop()).flatten() else {
            return Stats::add(&self.shared.stats.refused, 1);
        };
        let Arrival { socket, origin } = arrival;
        if self.poller.add(index, &socket).is_err() {
            self.free.push(index);
            return Stats::add(&self.shared.stats.refused, 1);
        }
        let place = &mut self.places[usize::from(index)];
        place.generation = place.generation.wrapping_add(1);
        let id = QpairId { index, generation: place.generation };
        place.conn = Some(Box::new(Conn::new(socket, id, origin, &mut self.shared)));
        Stats::add(&self.shared.stats.opened, 1);
        self.settled(index);
    }

    /// Receives from one connection. Whether anything came.
    fn receive(&mut self, index: u16, pool: &mut DmaPool, out: &mut Vec<Event>) -> bool {
        let TcpTransport { places, shared, .. } = self;
        let Some(conn) = places[usize::from(index)].conn.as_mut() else { return false };
        if conn.landings > 0 && !shared.may_land {
            return false;
        }
        let before = conn.counters;
        let received = conn.receive(&mut Cx { shared, pool, out });
        self.shared.stats.add_since(&before, &conn.counters);
        match received {
            Received::Nothing => {
                conn.idle_turns += 1;
                return false;
            }
            Received::Bytes => conn.idle_turns = 0,
            Received::Held => {
                let some = conn.counters != before;
                self.hold(index);
                self.settled(index);
                return some;
            }
            Received::Gone(why) => {
                self.cut(index, why, out);
                return true;
            }
        }
        self.settled(index);
        true
    }

    /// Stops reading a connection until [`TcpTransport::retry_held`].
    fn hold(&mut self, index: u16) {
        // Somebody may be in its way.
        self.expiry_ns.get_or_insert(self.shared.now_ns + EXPIRY_NS);
        let Some(conn) = self.conn(index) else { return };
        if !conn.held {
            conn.held = true;
            conn.hot = false;
            self.held.push(index);
        }
    }

    /// Brings the lists, the poller and the clock up to date after a connection was used.
    fn settled(&mut self, index: u16) {
        let TcpTransport { places, poller, shared, dirty, .. } = self;
        let Some(conn) = places[usize::from(index)].conn.as_mut() else { return };
        if conn.wants_flush() && !conn.dirty {
            conn.dirty = true;
            dirty.push(index);
        }
        let wants = conn.wants();
        if wants != conn.interest {
            self.blocked += u32::from(wants.write);
            self.blocked -= u32::from(conn.interest.write);
            conn.interest = wants;
            poller.change(index, &conn.socket, wants);
            Stats::add(&shared.stats.held_back, u64::from(conn.held));
        }
        if self.expiry_ns.is_none()
            && (conn.pulls > 0 || conn.deadline_ns(&shared.config).is_some())
        {
            self.expiry_ns = Some(shared.now_ns + EXPIRY_NS);
        }
    }

    /// Reads on where there was no place or memory before.
    fn retry_held(&mut self, pool: &mut DmaPool, out: &mut Vec<Event>) -> u32 {
        let mut work = 0;
        std::mem::swap(&mut self.held, &mut self.retried);
        for at in 0..self.retried.len() {
            let index = self.retried[at];
            let now_ns = self.shared.now_ns;
            let Some(conn) = self.conn(index) else { continue };
            conn.unhold(now_ns);
            let served = self.receive(index, pool, out);
            work += u32::from(served);
            // Who got something goes behind those who got nothing.
            if served && self.held.last() == Some(&index) {
                self.held.pop();
                self.served.push(index);
            }
            self.settled(index);
        }
        self.retried.clear();
        self.held.append(&mut self.served);
        work
    }

    /// Receives from the connections that were busy lately.
    fn poll_hot(&mut self, pool: &mut DmaPool, out: &mut Vec<Event>) -> u32 {
        let mut work = 0;
        let mut at = 0;
        while at < self.hot.len() {
            let index = self.hot[at];
            work += u32::from(self.receive(index, pool, out));
            match self.conn(index) {
                Some(conn) if conn.hot && conn.idle_turns < HOT_TURNS => at += 1,
                conn => {
                    if let Some(conn) = conn {
                        conn.hot = false;
                    }
                    // A connection that went has taken itself off the list.
                    if self.hot.get(at) == Some(&index) {
                        self.hot.swap_remove(at);
                    }
                }
            }
        }
        work
    }

    /// Receives from the others that are ready.
    fn poll_ready(&mut self, pool: &mut DmaPool, out: &mut Vec<Event>) -> u32 {
        self.turns_since_ready += 1;
        let due = self.turns_since_ready >= EPOLL_TURNS || self.blocked > 0;
        if !due && !self.hot.is_empty() && !self.others_busy {
            return 0;
        }
        self.turns_since_ready = 0;
        self.others_busy = false;
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.ready(&mut ready);
        let mut work = 0;
        for Ready { place, read, write } in ready.drain(..) {
            let Some(conn) = self.conn(place) else { continue };
            if write && conn.blocked {
                conn.blocked = false;
                self.settled(place);
            }
            let Some(conn) = self.conn(place) else { continue };
            if conn.held && conn.reads_on() {
                // It has had its turn.
                self.others_busy |= read;
            } else if conn.held && read {
                // Nothing was asked for: it is broken.
                let why = "the connection broke while it was held back".to_string();
                self.cut(place, CloseReason::Network(why), out);
                work += 1;
            } else if read && !conn.hot {
                self.others_busy = true;
                work += u32::from(self.receive(place, pool, out));
                self.warm(place);
            }
        }
        self.ready = ready;
        work
    }

    /// Puts a connection that is busy on the list of those looked at in every turn.
    fn warm(&mut self, index: u16) {
        if self.hot.len() == HOT_QPAIRS {
            return;
        }
        if let Some(conn) = self.conn(index)
            && conn.is_ready()
            && !conn.held
            && !conn.hot
        {
            conn.hot = true;
            conn.idle_turns = 0;
            self.hot.push(index);
        }
    }

    /// Sends what one connection has, and ends it if it is to end.
    fn send(&mut self, index: u16, out: &mut Vec<Event>) {
        let TcpTransport { places, shared, outgoing, .. } = self;
        let Some(conn) = places[usize::from(index)].conn.as_mut() else { return };
        let outgoing = outgoing.as_mut().expect("taken with the first connection");
        let before = conn.counters;
        let sending = conn.send(outgoing, shared, out);
        shared.stats.add_since(&before, &conn.counters);
        match sending {
            Sending::Done => match &conn.state {
                State::Closing { why, .. } => {
                    let why = why.clone();
                    self.finish(index, why, out);
                }
                State::Greeting { .. } | State::Ready | State::Lingering { .. } => {}
            },
            Sending::More => {}
            Sending::Blocked => {
                conn.blocked = true;
                conn.blocked_ns = shared.now_ns;
            }
            Sending::Gone(why) => {
                let why = match &conn.state {
                    State::Closing { why, .. } => why.clone(),
                    _ => why,
                };
                return self.cut(index, why, out);
            }
        }
        self.settled(index);
    }

    /// Tells the target that a connection is gone: what was under way on it has ended.
    fn announce_end(&mut self, index: u16, why: CloseReason, out: &mut Vec<Event>) {
        let TcpTransport { places, shared, .. } = self;
        let Some(conn) = places[usize::from(index)].conn.as_mut() else { return };
        if !conn.announced {
            return;
        }
        conn.announced = false;
        shared.requests.end_qpair(conn.id, why, out);
    }

    /// Ends a connection that has sent everything: the host is told, and waited for.
    fn finish(&mut self, index: u16, why: CloseReason, out: &mut Vec<Event>) {
        self.announce_end(index, why, out);
        let TcpTransport { places, shared, .. } = self;
        let Some(conn) = places[usize::from(index)].conn.as_mut() else { return };
        conn.socket.finish();
        conn.linger(shared);
        conn.held = false;
    }

    /// Ends a connection at once.
    fn cut(&mut self, index: u16, why: CloseReason, out: &mut Vec<Event>) {
        self.announce_end(index, why, out);
        let TcpTransport { places, poller, shared, .. } = self;
        let Some(mut conn) = places[usize::from(index)].conn.take() else { return };
        conn.drop_carry(shared);
        conn.drop_tail(shared);
        conn.leave(shared);
        self.blocked -= u32::from(conn.interest.write);
        poller.remove(index, &conn.socket);
        drop(conn);
        for list in [&mut self.hot, &mut self.held, &mut self.dirty] {
            list.retain(|other| *other != index);
        }
        self.free.push(index);
        Stats::add(&self.shared.stats.closed, 1);
    }

    /// Ends what has run out of time.
    fn expire(&mut self, out: &mut Vec<Event>) {
        let now_ns = self.shared.now_ns;
        if self.expiry_ns.is_none_or(|at| now_ns < at) {
            return;
        }
        self.expire_pulls(out);
        self.end_stalled(out);
        let mut armed = !self.held.is_empty();
        for index in 0..self.places.len() as u16 {
            let TcpTransport { places, shared, .. } = self;
            let Some(conn) = &places[usize::from(index)].conn else { continue };
            let over = conn.deadline_ns(&shared.config);
            armed |= over.is_some() || conn.pulls > 0;
            if let Some((at, what)) = over
                && at <= now_ns
            {
                let why = match &conn.state {
                    State::Closing { why, .. } => why.clone(),
                    _ => CloseReason::Protocol(what.to_string()),
                };
                self.cut(index, why, out);
            }
        }
        self.expiry_ns = armed.then_some(now_ns + EXPIRY_NS);
    }

    /// Ends connections whose hosts do not take their answers, while others wait for places.
    fn end_stalled(&mut self, out: &mut Vec<Event>) {
        let (now_ns, stall_ns) = (self.shared.now_ns, self.shared.config.stall_ns);
        for index in 0..self.places.len() as u16 {
            let others_wait = self.held.iter().any(|held| *held != index);
            let conn = self.places[usize::from(index)].conn.as_ref();
            if others_wait && conn.is_some_and(|conn| conn.is_stalled(now_ns, stall_ns)) {
                self.cut(index, CloseReason::Stalled, out);
            }
        }
    }

    /// Ends connections whose hosts do not send what they announced.
    fn expire_pulls(&mut self, out: &mut Vec<Event>) {
        if !self.places.iter().flat_map(|place| &place.conn).any(|conn| conn.pulls > 0) {
            return;
        }
        let (now_ns, limit_ns) = (self.shared.now_ns, self.shared.config.pull_ns);
        let mut late = Vec::new();
        for (_, request) in self.shared.requests.iter() {
            if let Stage::Pulling { pull, .. } = &request.stage
                && pull.began_ns + limit_ns <= now_ns
                && !late.contains(&request.qpair)
            {
                late.push(request.qpair);
            }
        }
        for qpair in late {
            let why = "data asked for with an R2T did not come in time".to_string();
            self.cut(qpair.index, CloseReason::Protocol(why), out);
        }
    }
}

impl<P: Poller> Transport for TcpTransport<P> {
    fn poll(
        &mut self,
        now_ns: u64,
        may_land: bool,
        pool: &mut DmaPool,
        out: &mut Vec<Event>,
    ) -> u32 {
        self.shared.now_ns = now_ns;
        self.shared.may_land = may_land;
        let mut work = self.settle(pool, out);
        while let Some(arrival) = self.poller.accept() {
            self.admit(arrival, pool);
            work += 1;
        }
        if !self.held.is_empty() {
            work += self.retry_held(pool, out);
        }
        work += self.poll_hot(pool, out);
        work += self.poll_ready(pool, out);
        self.expire(out);
        work
    }

    fn pull(&mut self, req: ReqId, to: PullTo) {
        let TcpTransport { places, shared, .. } = self;
        let qpair = shared.requests.get(req).qpair;
        let conn = places[usize::from(qpair.index)].conn.as_mut();
        let Some(conn) = conn.filter(|conn| conn.id == qpair && conn.is_ready()) else {
            return shared.requests.end_pull_at_once(req, Status::DATA_TRANSFER_ERROR);
        };
        if to.slice().is_empty() {
            return shared.requests.end_pull_at_once(req, Status::SUCCESS);
        }
        conn.begin_pull(req, to, shared);
        self.settled(qpair.index);
    }

    fn respond(&mut self, req: ReqId, response: Response) {
        let qpair = self.release_capsule(req);
        let TcpTransport { places, shared, dirty, .. } = self;
        let conn = places[usize::from(qpair.index)].conn.as_mut();
        let conn = conn.filter(|conn| conn.id == qpair && conn.is_ready());
        let due = shared.requests.respond(req, response, conn.is_some());
        if let (Due::Now, Some(conn)) = (due, conn) {
            shared.requests.answer(req, Answer::from(response));
            conn.answer(req);
            if !conn.dirty && !conn.blocked {
                conn.dirty = true;
                dirty.push(qpair.index);
            }
        }
    }

    fn discard(&mut self, req: ReqId) {
        let qpair = self.release_capsule(req);
        self.shared.requests.discard(req);
        let conn = self.places[usize::from(qpair.index)].conn.as_mut();
        if let Some(conn) = conn.filter(|conn| conn.id == qpair && conn.is_ready()) {
            conn.command_left(&mut self.shared.crowd);
        }
    }

    fn close(&mut self, qpair: QpairId, why: CloseReason) {
        let TcpTransport { places, shared, .. } = self;
        let conn = places.get_mut(usize::from(qpair.index)).and_then(|p| p.conn.as_mut());
        if let Some(conn) = conn.filter(|conn| conn.id == qpair) {
            conn.close(why, shared);
            self.settled(qpair.index);
        }
    }

    fn flush(&mut self, now_ns: u64, pool: &mut DmaPool, out: &mut Vec<Event>) -> u32 {
        self.shared.now_ns = now_ns;
        let mut work = self.settle(pool, out);
        std::mem::swap(&mut self.dirty, &mut self.flushing);
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.divide(self.flushing.len());
        }
        for at in 0..self.flushing.len() {
            let index = self.flushing[at];
            if let Some(conn) = self.conn(index) {
                conn.dirty = false;
                self.send(index, out);
                work += 1;
            }
        }
        self.flushing.clear();
        work
    }

    fn qpair_limit(&self) -> u32 {
        self.places.len() as u32
    }

    fn request_limit(&self) -> u32 {
        self.shared.requests.limit()
    }

    fn in_capsule_bytes(&self) -> u32 {
        self.shared.config.in_capsule_bytes
    }

    fn wake_fd(&self) -> Option<RawFd> {
        self.poller.fd()
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        self.expiry_ns
    }
}
