//! All queue pairs of one reactor.

mod answer;
mod life;

use crate::capsule;
use crate::conn::Conn;
use crate::limits::{IN_CAPSULE_BYTES, QPAIRS, RECEIVES, REQUESTS};
use crate::receives::Receives;
use crate::request::Requests;
use crate::stats::Stats;
use bdev::{DmaBuf, DmaPool};
use nvme_spec::Fabric;
use nvme_spec::Status;
use nvmf::transport::{
    CloseReason, Event, InCapsule, Origin, PullTo, QpairId, ReqId, Response, Transport,
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
}

impl Default for Config {
    fn default() -> Config {
        Config { qpairs: QPAIRS, requests: REQUESTS, receives: RECEIVES }
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
    /// Pulls that ended where they began, and answers to queue pairs that are gone.
    ended: Vec<(ReqId, Status)>,
    orphans: Vec<ReqId>,
    stats: Arc<Stats>,
    now_ns: u64,
}

impl<N: Nic<Admission = Origin>> RdmaTransport<N> {
    /// Without connections.
    pub fn new(nic: N, config: Config) -> RdmaTransport<N> {
        let (qpairs, requests) = (usize::from(config.qpairs), config.requests as usize);
        assert!(qpairs > 0 && requests > 0 && config.receives > 0, "no place for a command");
        RdmaTransport {
            nic,
            config,
            places: (0..qpairs).map(|_| Place { generation: 0, conn: None }).collect(),
            free: (0..config.qpairs).rev().collect(),
            ports: Default::default(),
            requests: Requests::new(config.requests),
            cqes: None,
            put_off: VecDeque::with_capacity(usize::from(config.receives) * PORTS),
            completions: Vec::with_capacity(BATCH * 8),
            dirty: Vec::with_capacity(qpairs),
            flushing: Vec::with_capacity(qpairs),
            closing: Vec::with_capacity(qpairs),
            chain: Vec::with_capacity(CHAIN),
            receive_chain: Vec::with_capacity(usize::from(config.receives)),
            ended: Vec::with_capacity(requests),
            orphans: Vec::with_capacity(requests),
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

    /// Says what was left to say.
    fn settle(&mut self, out: &mut Vec<Event>) -> u32 {
        let said = self.ended.len() + self.orphans.len();
        out.extend(self.ended.drain(..).map(|(req, status)| Event::Pulled { req, status }));
        for req in self.orphans.drain(..) {
            self.requests.remove(req);
            out.push(Event::Sent { req });
        }
        said as u32
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
                let Some((req, request)) = self.requests.find(tag) else { return };
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
        if self.requests.is_full() || !self.put_off.is_empty() {
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
        let req = self.requests.insert(qpair, parsed.remote);
        self.stats.commands.add(1);
        match parsed.in_capsule {
            InCapsule::Data(_) => {
                self.requests.get(req).receive = Some((port, slot));
                self.stats.in_capsule.add(1);
            }
            InCapsule::None | InCapsule::Damaged => self.release(port, slot),
        }
        let (sqe, in_capsule) = (parsed.sqe, parsed.in_capsule);
        out.push(Event::Command { qpair, req, sqe, in_capsule });
    }

    /// Makes commands of the capsules that waited for a place.
    fn begin_put_off(&mut self, out: &mut Vec<Event>) -> u32 {
        let mut begun = 0;
        while !self.requests.is_full()
            && let Some(capsule) = self.put_off.pop_front()
        {
            begun += 1;
            if self.open_conn(capsule.qpair).is_some() {
                self.begin(capsule, out);
            } else {
                self.release(capsule.port, capsule.slot);
            }
        }
        begun
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
        let mut work = self.settle(out);
        while let Some(event) = self.nic.connection_event() {
            self.connection_event(event, pool, out);
            work += 1;
        }
        work += self.begin_put_off(out);
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
        let work = self.settle(out) + self.post_all(out);
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
        // The end of one that is closing is noticed by its completions, or by the tick after it.
        (!self.closing.is_empty()).then_some(self.now_ns + 10_000_000)
    }
}
