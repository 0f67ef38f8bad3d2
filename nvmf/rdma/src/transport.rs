//! All queue pairs of one reactor.

mod answer;
mod life;

use crate::capsule;
use crate::conn::Conn;
use crate::limits::{IN_CAPSULE_BYTES, QPAIRS, RECEIVES, REQUESTS};
use crate::receives::Receives;
use crate::request::{Capsule, Requests, untag};
use crate::stats::Stats;
use bdev::{DmaBuf, DmaPool};
use nvme_spec::Fabric;
use nvmf::transport::{
    CloseReason, Crowd, Event, InCapsule, Origin, PullTo, QpairId, ReqId, Response, Transport,
};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;
use verbs::limits::{BATCH, CHAIN, PORTS};
use verbs::meaning;
use verbs::{Completion, Nic, Outcome, PortId, Receive, What, Work};

/// Sizes that may be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Places for queue pairs.
    pub qpairs: u16,
    /// Commands under way.
    pub requests: u32,
    /// Receives of each port.
    pub receives: u16,
    /// Time in which a host may take no answer while capsules of others wait for places, in ns.
    pub stall_ns: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            qpairs: QPAIRS,
            requests: REQUESTS,
            receives: RECEIVES,
            stall_ns: nvmf::limits::STALL_NS,
        }
    }
}

/// A place for a queue pair.
struct Place {
    generation: u16,
    conn: Option<Conn>,
}

/// A port in use.
struct Port {
    receives: Receives,
    conns: u32,
}

/// A capsule that waits for a place for its command.
struct PutOff {
    qpair: QpairId,
    port: PortId,
    slot: u16,
    bytes: u32,
}

/// NVMe/RDMA on one reactor.
pub struct RdmaTransport<N> {
    nic: N,
    config: Config,
    places: Vec<Place>,
    free: Vec<u16>,
    ports: [Option<Port>; PORTS],
    requests: Requests,
    /// Who has commands under way.
    crowd: Crowd,
    /// Room for the completion of each command, while any port is open.
    cqes: Option<DmaBuf>,
    put_off: VecDeque<PutOff>,
    completions: Vec<Completion>,
    /// Places with something to post, and the same list while it is worked on.
    dirty: Vec<u16>,
    flushing: Vec<u16>,
    /// Places that are to end.
    closing: Vec<u16>,
    chain: Vec<Work>,
    receive_chain: Vec<Receive>,
    stats: Arc<Stats>,
    now_ns: u64,
}

impl<N: Nic<Admission = Origin>> RdmaTransport<N> {
    /// Without connections.
    pub fn new(nic: N, config: Config) -> RdmaTransport<N> {
        let qpairs = usize::from(config.qpairs);
        assert!(qpairs > 0 && config.requests > 0 && config.receives > 0, "no place for a command");
        RdmaTransport {
            nic,
            config,
            places: (0..qpairs).map(|_| Place { generation: 0, conn: None }).collect(),
            free: (0..config.qpairs).rev().collect(),
            ports: Default::default(),
            requests: Requests::new(config.requests),
            crowd: Crowd::default(),
            cqes: None,
            put_off: VecDeque::with_capacity(usize::from(config.receives) * PORTS),
            completions: Vec::with_capacity(BATCH * 8),
            dirty: Vec::with_capacity(qpairs),
            flushing: Vec::with_capacity(qpairs),
            closing: Vec::with_capacity(qpairs),
            chain: Vec::with_capacity(CHAIN),
            receive_chain: Vec::with_capacity(usize::from(config.receives)),
            stats: Arc::new(Stats::default()),
            now_ns: 0,
        }
    }

    /// The counts, for any thread.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.stats
    }

    /// The hardware.
    pub fn nic(&self) -> &N {
        &self.nic
    }

    /// The hardware, to change.
    pub fn nic_mut(&mut self) -> &mut N {
        &mut self.nic
    }

    /// Queue pairs, those that are ending included.
    pub fn connections(&self) -> u32 {
        (self.places.len() - self.free.len()) as u32
    }

    fn conn(&mut self, index: u16) -> Option<&mut Conn> {
        self.places.get_mut(usize::from(index))?.conn.as_mut()
    }

    /// The queue pair `id`, while it takes commands.
    fn open_conn(&mut self, id: QpairId) -> Option<&mut Conn> {
        self.conn(id.index).filter(|conn| conn.id == id && conn.is_open())
    }

    /// Puts a place on the list of those with something to post.
    fn mark(&mut self, index: u16) {
        let Some(conn) = self.places[usize::from(index)].conn.as_mut() else { return };
        if !conn.dirty && conn.can_post() {
            conn.dirty = true;
            self.dirty.push(index);
        }
    }

    /// Takes what the hardware has done.
    fn take_completions(&mut self, out: &mut Vec<Event>) -> u32 {
        let mut completions = std::mem::take(&mut self.completions);
        self.nic.poll(&mut completions);
        let count = completions.len() as u32;
        for completion in completions.drain(..) {
            self.completed(completion, out);
        }
        self.completions = completions;
        count
    }

    fn completed(&mut self, completion: Completion, out: &mut Vec<Event>) {
        let Completion { port, place, outcome, what } = completion;
        if let Outcome::Failed(_) = outcome {
            self.stats.failures.add(1);
        }
        match what {
            What::Received(slot, bytes) => self.received(port, place, slot, bytes, outcome, out),
            What::Read(tag) | What::Write(tag) | What::Sent(tag) => {
                // One that was destroyed has said all about its commands.
                let Some((req, request)) = untag(&self.requests, tag) else { return };
                if place != Some(request.qpair.index) {
                    return;
                }
                match (outcome, what) {
                    (Outcome::Done, What::Read(_)) => self.read_ended(req, out),
                    (Outcome::Done, What::Sent(_)) => self.answer_sent(req, out),
                    (Outcome::Done, _) => {}
                    (outcome, _) => {
                        let index = request.qpair.index;
                        self.cut(index, broken_by(outcome, what), out)
                    }
                }
            }
        }
    }

    fn received(
        &mut self,
        port: PortId,
        place: Option<u16>,
        slot: u16,
        bytes: u32,
        outcome: Outcome,
        out: &mut Vec<Event>,
    ) {
        let Some(at) = self.ports[usize::from(port)].as_mut() else { return };
        at.receives.hold();
        let conn = place.and_then(|place| self.conn(place));
        let Some((id, open)) = conn.map(|conn| (conn.id, conn.is_open())) else {
            return self.release(port, slot);
        };
        if outcome != Outcome::Done {
            self.release(port, slot);
            return self.cut(id.index, broken_by(outcome, What::Received(slot, bytes)), out);
        }
        if !open {
            return self.release(port, slot);
        }
        let put_off = PutOff { qpair: id, port, slot, bytes };
        // What came before on its queue goes first.
        let behind = self.put_off.iter().any(|other| other.qpair == id);
        if behind || self.places_of(id) == Some(0) {
            self.stats.put_off.add(1);
            return self.put_off.push_back(put_off);
        }
        self.begin(put_off, out);
    }

    /// Makes a capsule a command.
    fn begin(&mut self, capsule: PutOff, out: &mut Vec<Event>) {
        let PutOff { qpair, port, slot, bytes } = capsule;
        let at = self.ports[usize::from(port)].as_ref().expect("kept while a capsule is in use");
        let Some(parsed) = capsule::parse(&at.receives.slot(slot), bytes) else {
            self.release(port, slot);
            let why = format!("a capsule of {bytes} bytes holds no command");
            return self.cut(qpair.index, CloseReason::Protocol(why), out);
        };
        self.stats.commands.add(1);
        let receive = match parsed.in_capsule {
            InCapsule::Data(_) => {
                self.stats.in_capsule.add(1);
                Some((port, slot))
            }
            InCapsule::None | InCapsule::Damaged => {
                self.release(port, slot);
                None
            }
        };
        let req = self.requests.insert(qpair, Capsule { remote: parsed.remote, receive });
        let RdmaTransport { places, crowd, .. } = self;
        if let Some(conn) = &mut places[usize::from(qpair.index)].conn {
            conn.command_came(crowd);
        }
        let (sqe, in_capsule) = (parsed.sqe, parsed.in_capsule);
        out.push(Event::Command { qpair, req, sqe, in_capsule });
    }

    /// Makes commands of the capsules that waited for a place.
    fn begin_put_off(&mut self, out: &mut Vec<Event>) -> u32 {
        let (mut begun, mut at) = (0, 0);
        while self.requests.free() > 0
            && let Some(capsule) = self.put_off.get(at)
        {
            let qpair = capsule.qpair;
            let room = self.places_of(qpair);
            if room == Some(0) {
                at += 1;
                continue;
            }
            let Some(capsule) = self.put_off.remove(at) else { break };
            begun += 1;
            match room {
                Some(_) => self.begin(capsule, out),
                None => self.release(capsule.port, capsule.slot),
            }
        }
        begun
    }

    /// Places for commands that a queue pair may take now; `None` when it is gone or ends.
    fn places_of(&mut self, id: QpairId) -> Option<u32> {
        let (all, free) = (self.requests.limit(), self.requests.free());
        let conn = self.places[usize::from(id.index)].conn.as_ref();
        let conn = conn.filter(|conn| conn.id == id && conn.is_open())?;
        Some(conn.places(&self.crowd, all, free))
    }

    /// Ends queue pairs whose hosts take no answers, while capsules of others wait for places.
    fn end_stalled(&mut self, out: &mut Vec<Event>) {
        for index in 0..self.places.len() as u16 {
            let others_wait = self.put_off.iter().any(|capsule| capsule.qpair.index != index);
            let conn = self.places[usize::from(index)].conn.as_ref();
            let is_stuck = |conn: &Conn| {
                conn.is_open() && conn.owed.is_stuck(self.now_ns, self.config.stall_ns)
            };
            if others_wait && conn.is_some_and(is_stuck) {
                self.cut(index, CloseReason::Stalled, out);
            }
        }
    }

    /// A receive may be used again.
    fn release(&mut self, port: PortId, slot: u16) {
        let at = self.ports[usize::from(port)].as_mut();
        at.expect("kept while a capsule is in use").receives.release(slot);
    }

    /// Posts what has gathered: work requests of each queue pair, and receives of each port.
    fn post_all(&mut self, out: &mut Vec<Event>) -> u32 {
        let mut work = 0;
        std::mem::swap(&mut self.dirty, &mut self.flushing);
        for at in 0..self.flushing.len() {
            work += self.post(self.flushing[at], out);
        }
        self.flushing.clear();
        for port in 0..PORTS {
            if let Some(at) = self.ports[port].as_mut() {
                at.receives.drain_idle(&mut self.receive_chain);
                if !self.receive_chain.is_empty() {
                    self.nic.receive(port as PortId, &self.receive_chain);
                    self.stats.receive_posts.add(1);
                    self.receive_chain.clear();
                }
            }
        }
        work
    }

    /// Posts what one queue pair has, a chain at a time.
    fn post(&mut self, index: u16, out: &mut Vec<Event>) -> u32 {
        let mut posted = 0;
        loop {
            let Some(conn) = self.places[usize::from(index)].conn.as_mut() else { return posted };
            conn.dirty = false;
            conn.take(CHAIN, &mut self.chain);
            if self.chain.is_empty() {
                return posted;
            }
            posted += self.chain.len() as u32;
            let result = self.nic.post(index, &self.chain);
            self.chain.clear();
            self.stats.posts.add(1);
            if let Err(error) = result {
                self.cut(index, CloseReason::Network(error.to_string()), out);
                return posted;
            }
        }
    }
}

/// Why a queue pair ends whose work request did not do what it should.
fn broken_by(outcome: Outcome, what: What) -> CloseReason {
    let name = match what {
        What::Received(..) => "a receive",
        What::Read(_) => "an RDMA READ",
        What::Write(_) => "an RDMA WRITE",
        What::Sent(_) => "a SEND",
    };
    match outcome {
        Outcome::Failed(code) => {
            CloseReason::Network(format!("{name} failed, code {code}: {}", meaning(code)))
        }
        Outcome::Flushed | Outcome::Done => CloseReason::Peer,
    }
}

impl<N: Nic<Admission = Origin>> Transport for RdmaTransport<N> {
    fn poll(
        &mut self,
        now_ns: u64,
        _may_land: bool,
        pool: &mut DmaPool,
        out: &mut Vec<Event>,
    ) -> u32 {
        self.now_ns = now_ns;
        let mut work = self.requests.settle(out);
        while let Some(event) = self.nic.connection_event() {
            self.connection_event(event, pool, out);
            work += 1;
        }
        work += self.begin_put_off(out);
        if !self.put_off.is_empty() {
            self.end_stalled(out);
        }
        work += self.take_completions(out);
        if self.connections() == 0 {
            self.close_idle_ports(pool);
        }
        work
    }

    fn pull(&mut self, req: ReqId, to: PullTo) {
        let PullTo::Buffer(into) = to else {
            unreachable!("data lands in devices only where a queue pair was said to be direct")
        };
        self.read(req, into);
    }

    fn respond(&mut self, req: ReqId, response: Response) {
        self.answer(req, response);
    }

    fn discard(&mut self, req: ReqId) {
        self.drop_unanswered(req);
    }

    fn close(&mut self, qpair: QpairId, why: CloseReason) {
        self.begin_close(qpair, why);
    }

    fn flush(&mut self, now_ns: u64, _pool: &mut DmaPool, out: &mut Vec<Event>) -> u32 {
        self.now_ns = now_ns;
        let work = self.requests.settle(out) + self.post_all(out);
        work + self.end_closing(out)
    }

    fn qpair_limit(&self) -> u32 {
        self.places.len() as u32
    }

    fn request_limit(&self) -> u32 {
        self.requests.limit()
    }

    fn in_capsule_bytes(&self) -> u32 {
        IN_CAPSULE_BYTES
    }

    fn fabric(&self) -> Fabric {
        Fabric::Rdma
    }

    fn wake_fd(&self) -> Option<RawFd> {
        self.nic.wake_fd()
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        if !self.nic.may_sleep() {
            return Some(self.now_ns);
        }
        // The end of one that is closing is noticed by its completions, or by the tick after it; that
        // of one which keeps others waiting by nothing else.
        let looks = !self.closing.is_empty() || !self.put_off.is_empty();
        looks.then_some(self.now_ns + 10_000_000)
    }
}
