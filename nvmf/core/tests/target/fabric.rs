//! A fabric without a network: the test is the host.

use crate::chance::Chance;
use bdev::{DmaPool, Memory};
use nvme_spec::{Cqe, Sgl, Sqe, Status};
use nvmf::places::Places;
use nvmf::registry::Serves;
use nvmf::transport::{
    CloseReason, Event, InCapsule, Origin, PullTo, QpairId, ReqId, Response, Transport,
};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

/// Room for the data of a capsule, with some to spare for bad alignment.
pub const CAPSULE_BYTES: usize = 8192;
const CAPSULE_ROOM: usize = CAPSULE_BYTES + 512;

/// How the fabric behaves, in percent of the chances it has at each poll.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// A pull ends.
    pub pull: u64,
    /// A pull that ends, ends with an error.
    pub pull_error: u64,
    /// An answer leaves.
    pub send: u64,
    /// Data in a capsule lies at an odd address.
    pub misaligned: u64,
    /// A new connection takes data that is lent, and data for devices.
    pub direct: u64,
}

impl Manners {
    /// Everything at once, and without errors.
    pub const PROMPT: Manners =
        Manners { pull: 100, pull_error: 0, send: 100, misaligned: 0, direct: 0 };
}

/// A bug to plant in the fabric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FabricBug {
    /// The transport forgets, now and then, to say that an answer has left.
    LosesSent,
    /// The transport loses an answer.
    LosesAnswer,
    /// The transport delivers an answer twice.
    DoublesAnswer,
    /// The transport delivers half of what the host sends.
    TruncatesPull,
    /// The transport reads the first half of lent data at once, and the rest when it sends it.
    TearsLent,
    /// The transport writes data to a device's memory by halves of blocks.
    TearsLanding,
}

/// An answer as the host got it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub qpair: QpairId,
    pub cqe: Cqe,
    pub data: Vec<u8>,
    pub implied: bool,
}

enum Place {
    Free,
    /// A command is under way; what the host would send if asked.
    Busy {
        qpair: QpairId,
        host_data: Vec<u8>,
        pull: Option<PullTo>,
        /// Bytes that have landed in a device.
        landed: usize,
    },
    /// Ended without an answer.
    Discarded,
    Answered {
        qpair: QpairId,
        response: Response,
        /// It came after the end of the queue pair, and goes nowhere.
        late: bool,
        /// What a transport with a bug has read already.
        early: Vec<u8>,
    },
}

pub struct FakeFabric {
    memory: Arc<Memory>,
    region: u16,
    places: Vec<Place>,
    free: Vec<u32>,
    /// By place of queue pairs: generation, open, to be reported closed.
    qpairs: Vec<(u16, bool, Option<CloseReason>)>,
    inbox: VecDeque<Event>,
    /// What connections come to, where from, and whose places they take, if they share any.
    pub serves: Serves,
    pub peer: SocketAddr,
    pub places_of_all: Option<Arc<Places>>,
    pub answers: Vec<Answer>,
    pub closed: Vec<(QpairId, CloseReason)>,
    /// Connections whose hosts take nothing and send no data.
    pub stuck: Vec<QpairId>,
    pub manners: Manners,
    pub bug: Option<FabricBug>,
    pub chance: Chance,
}

impl FakeFabric {
    /// A fabric whose capsules lie in region `region`.
    pub fn new(memory: Arc<Memory>, region: u16, requests: u32, qpairs: u16) -> FakeFabric {
        FakeFabric {
            memory,
            region,
            places: (0..requests).map(|_| Place::Free).collect(),
            free: (0..requests).rev().collect(),
            qpairs: vec![(0, false, None); usize::from(qpairs)],
            inbox: VecDeque::new(),
            serves: Serves::Everything,
            peer: ([127, 0, 0, 1], 40000).into(),
            places_of_all: None,
            answers: Vec::new(),
            closed: Vec::new(),
            stuck: Vec::new(),
            manners: Manners::PROMPT,
            bug: None,
            chance: Chance::new(1),
        }
    }

    /// Bytes of DMA memory that capsules take.
    pub fn capsule_room(requests: u32) -> usize {
        requests as usize * CAPSULE_ROOM
    }

    /// The host connects; `None` when every place is taken.
    pub fn connect(&mut self) -> Option<QpairId> {
        let index = self.qpairs.iter().position(|(_, open, _)| !open)?;
        let place = &mut self.qpairs[index];
        *place = (place.0.wrapping_add(1), true, None);
        let qpair = QpairId { index: index as u16, generation: place.0 };
        let (peer, local) = (self.peer, "127.0.0.1:4420".parse().unwrap());
        let origin = match &self.places_of_all {
            Some(places) => {
                let place = places.take(peer.ip()).ok()?;
                Origin { peer, local, serves: self.serves, place }
            }
            None => Origin { serves: self.serves, ..Origin::alone(peer, local) },
        };
        let direct = self.chance.percent(self.manners.direct);
        self.inbox.push_back(Event::Connected { qpair, origin, direct });
        Some(qpair)
    }

    pub fn is_open(&self, qpair: QpairId) -> bool {
        let (generation, open, _) = &self.qpairs[usize::from(qpair.index)];
        *generation == qpair.generation && *open
    }

    /// The host sends a command with its data in the capsule or, on request, outside. False when
    /// the fabric has no place for it now.
    pub fn send(&mut self, qpair: QpairId, mut sqe: Sqe, data: &[u8], in_capsule: bool) -> bool {
        assert!(self.is_open(qpair), "the host sends on a connection it has");
        let Some(req) = self.free.pop() else { return false };
        sqe.flags |= Sqe::FLAGS_SGL;
        let capsule = if in_capsule {
            let odd = usize::from(self.chance.percent(self.manners.misaligned)) * 52;
            let slice =
                self.memory.slice(self.region, req as usize * CAPSULE_ROOM + odd, data.len());
            slice.copy_in(0, data);
            sqe.dptr = Sgl::in_capsule(0, data.len() as u32);
            InCapsule::Data(slice)
        } else {
            if !data.is_empty() {
                sqe.dptr = Sgl::transport(data.len() as u32);
            }
            InCapsule::None
        };
        self.places[req as usize] =
            Place::Busy { qpair, host_data: data.to_vec(), pull: None, landed: 0 };
        self.inbox.push_back(Event::Command { qpair, req: ReqId(req), sqe, in_capsule: capsule });
        true
    }

    /// The command sent last describes room for `bytes` bytes with the host, whatever its capsule
    /// holds.
    pub fn describe_host_room(&mut self, bytes: u32) {
        let Some(Event::Command { sqe, .. }) = self.inbox.back_mut() else { panic!("just sent") };
        sqe.dptr = Sgl::transport(bytes);
    }

    /// As [`FakeFabric::send`], with a capsule whose digest is wrong.
    pub fn send_damaged(&mut self, qpair: QpairId, mut sqe: Sqe) -> bool {
        let Some(req) = self.free.pop() else { return false };
        sqe.flags |= Sqe::FLAGS_SGL;
        self.places[req as usize] =
            Place::Busy { qpair, host_data: Vec::new(), pull: None, landed: 0 };
        let in_capsule = InCapsule::Damaged;
        self.inbox.push_back(Event::Command { qpair, req: ReqId(req), sqe, in_capsule });
        true
    }

    /// The host closes a connection: pulls end with an error, and nothing reaches it any more.
    pub fn hang_up(&mut self, qpair: QpairId) {
        if self.is_open(qpair) {
            self.qpairs[usize::from(qpair.index)].2 = Some(CloseReason::Peer);
        }
    }

    /// Gets on with the pulls: a buffer is filled at once, the memory of a device in steps.
    fn serve_pulls(&mut self, may_land: bool, out: &mut Vec<Event>) {
        for (req, place) in self.places.iter_mut().enumerate() {
            let Place::Busy { qpair, host_data, pull, landed } = place else { continue };
            let Some(to) = *pull else { continue };
            if self.qpairs[usize::from(qpair.index)].2.is_some() || self.stuck.contains(qpair) {
                // Nothing is received any more; the end of the connection ends the pull.
                continue;
            }
            let to_device = matches!(to, PullTo::Device(_));
            if to_device && !may_land || !self.chance.percent(self.manners.pull) {
                continue;
            }
            let into = to.slice();
            let mut end = match (to_device, self.bug) {
                (false, _) => into.len(),
                (true, Some(FabricBug::TearsLanding)) => (*landed + 256).min(into.len()),
                (true, _) => {
                    let blocks = 1 + self.chance.below(3) as usize;
                    (*landed + blocks * 4096).min(into.len())
                }
            };
            if self.bug == Some(FabricBug::TruncatesPull) {
                end = into.len() / 2;
            }
            into.copy_in(*landed, &host_data[*landed..end]);
            *landed = end;
            let bad = self.chance.percent(self.manners.pull_error);
            if end < into.len() && !bad && self.bug != Some(FabricBug::TruncatesPull) {
                continue;
            }
            *pull = None;
            let status = if bad { Status::TRANSIENT_TRANSPORT } else { Status::SUCCESS };
            out.push(Event::Pulled { req: ReqId(req as u32), status });
        }
    }

    fn report_closed(&mut self, out: &mut Vec<Event>) {
        for index in 0..self.qpairs.len() {
            let Some(why) = self.qpairs[index].2.take() else { continue };
            let qpair = QpairId { index: index as u16, generation: self.qpairs[index].0 };
            // What came before is handed over before.
            out.extend(self.inbox.drain(..));
            for (req, place) in self.places.iter_mut().enumerate() {
                if let Place::Busy { qpair: of, pull, .. } = place
                    && *of == qpair
                    && pull.take().is_some()
                {
                    let status = Status::ABORTED_SQ_DELETION;
                    out.push(Event::Pulled { req: ReqId(req as u32), status });
                }
            }
            self.qpairs[index].1 = false;
            self.closed.push((qpair, why.clone()));
            out.push(Event::Closed { qpair, why });
        }
    }

    fn deliver(&mut self, qpair: QpairId, response: &Response, early: &[u8]) {
        let data = response.data.map_or(Vec::new(), |slice| {
            let mut data = vec![0; slice.len()];
            slice.copy_out(0, &mut data);
            data[..early.len()].copy_from_slice(early);
            data
        });
        if !self.is_open(qpair) || self.bug == Some(FabricBug::LosesAnswer) {
            return;
        }
        let implied = response.cqe_may_be_implied;
        let answer = Answer { qpair, cqe: response.cqe, data, implied };
        if self.bug == Some(FabricBug::DoublesAnswer) {
            self.answers.push(answer.clone());
        }
        self.answers.push(answer);
    }
}

impl Transport for FakeFabric {
    fn poll(
        &mut self,
        _now_ns: u64,
        may_land: bool,
        _pool: &mut DmaPool,
        out: &mut Vec<Event>,
    ) -> u32 {
        let before = out.len();
        out.extend(self.inbox.drain(..));
        self.serve_pulls(may_land, out);
        self.report_closed(out);
        (out.len() - before) as u32
    }

    fn pull(&mut self, req: ReqId, to: PullTo) {
        match &mut self.places[req.0 as usize] {
            Place::Busy { pull, host_data, .. } if pull.is_none() => {
                assert!(to.slice().len() <= host_data.len(), "a pull within the SGL");
                *pull = Some(to);
            }
            _ => panic!("a pull for a command that has one, or is none"),
        }
    }

    fn respond(&mut self, req: ReqId, response: Response) {
        let place = &mut self.places[req.0 as usize];
        let Place::Busy { qpair, pull: None, .. } = place else {
            panic!("an answer to a command that has one, is being pulled for, or is none")
        };
        let mut early = Vec::new();
        if let Some(data) = response.data.filter(|_| response.lent)
            && self.bug == Some(FabricBug::TearsLent)
        {
            early.resize(data.len() / 2 + 8, 0);
            data.copy_out(0, &mut early);
        }
        let late = self.qpairs[usize::from(qpair.index)].2.is_some();
        *place = Place::Answered { qpair: *qpair, response, late, early };
    }

    fn discard(&mut self, req: ReqId) {
        let place = &mut self.places[req.0 as usize];
        assert!(
            matches!(place, Place::Busy { pull: None, .. }),
            "with the target, and not answered"
        );
        *place = Place::Discarded;
    }

    fn close(&mut self, qpair: QpairId, why: CloseReason) {
        if self.is_open(qpair) {
            self.qpairs[usize::from(qpair.index)].2.get_or_insert(why);
        }
    }

    fn flush(&mut self, _now_ns: u64, _pool: &mut DmaPool, out: &mut Vec<Event>) -> u32 {
        let before = out.len();
        for req in 0..self.places.len() {
            if matches!(self.places[req], Place::Discarded) {
                self.places[req] = Place::Free;
                self.free.push(req as u32);
                out.push(Event::Sent { req: ReqId(req as u32) });
            }
            let Place::Answered { qpair, response, late, early } = &self.places[req] else {
                continue;
            };
            let (qpair, response, late, early) = (*qpair, *response, *late, early.clone());
            if self.stuck.contains(&qpair) && self.is_open(qpair) {
                continue;
            }
            if !self.chance.percent(self.manners.send) {
                continue;
            }
            if !late {
                self.deliver(qpair, &response, &early);
            }
            self.places[req] = Place::Free;
            if self.bug == Some(FabricBug::LosesSent) && self.chance.percent(1) {
                continue;
            }
            self.free.push(req as u32);
            out.push(Event::Sent { req: ReqId(req as u32) });
        }
        (out.len() - before) as u32
    }

    fn qpair_limit(&self) -> u32 {
        self.qpairs.len() as u32
    }

    fn request_limit(&self) -> u32 {
        self.places.len() as u32
    }

    fn in_capsule_bytes(&self) -> u32 {
        CAPSULE_BYTES as u32
    }
}
