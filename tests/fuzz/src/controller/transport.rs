//! A fabric whose hosts are the script. Checks what the target asks of it.

use bdev::{DmaPool, Memory};
use nvme_spec::{SglKind, Sqe, Status};
use nvmf::transport::{
    CloseReason, Event, InCapsule, Origin, PullTo, QpairId, ReqId, Response, Transport,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// Places for queue pairs.
pub const QPAIRS: usize = 4;
/// Places for commands.
pub const REQUESTS: usize = 12;
/// Bytes that a capsule holds.
pub const CAPSULE_BYTES: usize = 8192;

/// A connection of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Free,
    Open,
    /// `Closed` is on its way; the target may still ask for what it does not know yet.
    Closing,
    /// `Closed` was handed over in this turn.
    Closed,
}

/// A command of the script.
#[derive(Clone, Copy, Debug)]
enum Place {
    Free,
    Running { qpair: QpairId, sqe: Sqe, pull: Option<PullTo>, pulled: bool },
    Answered,
}

/// A fabric without a network.
pub struct Script {
    memory: Arc<Memory>,
    lines: [(Line, u16); QPAIRS],
    places: [Place; REQUESTS],
    events: VecDeque<Event>,
    sent: Vec<ReqId>,
    /// What the next pulls end with.
    pub pull_status: Status,
    /// Pulls are held back until the script lets them go.
    pub hold_pulls: bool,
    /// Controller identifier of the last Connect that succeeded.
    pub cntlid: u16,
    /// Commands answered.
    pub answered: u64,
}

impl Script {
    /// A fabric without hosts; capsule data lies in region 1 of `memory`.
    pub fn new(memory: Arc<Memory>) -> Script {
        Script {
            memory,
            lines: [(Line::Free, 0); QPAIRS],
            places: [Place::Free; REQUESTS],
            events: VecDeque::new(),
            sent: Vec::new(),
            pull_status: Status::SUCCESS,
            hold_pulls: false,
            cntlid: 1,
            answered: 0,
        }
    }

    fn id(&self, at: usize) -> QpairId {
        QpairId { index: at as u16, generation: self.lines[at].1 }
    }

    /// Opens the connection of place `at`, if it is free.
    pub fn connect(&mut self, at: usize) {
        let (line, generation) = &mut self.lines[at];
        if *line != Line::Free {
            return;
        }
        (*line, *generation) = (Line::Open, generation.wrapping_add(1));
        let qpair = self.id(at);
        let addr = |port| ([192, 0, 2, 7], port).into();
        self.events.push_back(Event::Connected {
            qpair,
            origin: Origin::alone(addr(50_000), addr(4420)),
            direct: at & 1 == 0,
        });
    }

    /// Sends a command on the connection of place `at`, if it is open and there is room.
    pub fn command(&mut self, at: usize, sqe: Sqe, capsule: Option<&[u8]>) {
        let free = self.places.iter().position(|place| matches!(place, Place::Free));
        let (Line::Open, Some(place)) = (self.lines[at].0, free) else { return };
        let qpair = self.id(at);
        self.places[place] = Place::Running { qpair, sqe, pull: None, pulled: false };
        let in_capsule = match capsule {
            None => InCapsule::None,
            Some(data) => {
                let data = &data[..data.len().min(CAPSULE_BYTES)];
                let slice = self.memory.slice(1, place * CAPSULE_BYTES, data.len());
                slice.copy_in(0, data);
                InCapsule::Data(slice)
            }
        };
        let req = ReqId(place as u32);
        self.events.push_back(Event::Command { qpair, req, sqe, in_capsule });
    }

    /// The host of place `at` goes away.
    pub fn hang_up(&mut self, at: usize) {
        if self.lines[at].0 == Line::Open {
            self.end(at, CloseReason::Peer);
        }
    }

    fn end(&mut self, at: usize, why: CloseReason) {
        self.lines[at].0 = Line::Closing;
        let qpair = self.id(at);
        for (req, place) in self.places.iter_mut().enumerate() {
            if let Place::Running { qpair: of, pull, pulled, .. } = place
                && *of == qpair
                && pull.take().is_some()
            {
                *pulled = true;
                let (req, status) = (ReqId(req as u32), Status::TRANSIENT_TRANSPORT);
                self.events.push_back(Event::Pulled { req, status });
            }
        }
        self.events.push_back(Event::Closed { qpair, why });
    }

    /// Ends all pulls that may end.
    fn end_pulls(&mut self, may_land: bool, status: Status) {
        for (at, place) in self.places.iter_mut().enumerate() {
            if let Place::Running { pull, pulled, .. } = place
                && pull.is_some_and(|to| may_land || matches!(to, PullTo::Buffer(_)))
                && let Some(into) = pull.take().map(PullTo::slice)
            {
                *pulled = true;
                let pattern: Vec<u8> = (0..into.len()).map(|n| n as u8).collect();
                into.copy_in(0, &pattern);
                self.events.push_back(Event::Pulled { req: ReqId(at as u32), status });
            }
        }
    }

    /// Whether no command and no connection is there.
    pub fn is_idle(&self) -> bool {
        self.events.is_empty()
            && self.places.iter().all(|place| matches!(place, Place::Free))
            && self.lines.iter().all(|(line, _)| *line == Line::Free)
    }
}

/// What an answer may carry.
fn check_answer(sqe: &Sqe, response: &Response) {
    assert_eq!(response.cqe.cid, sqe.cid, "answered under another command's identifier");
    assert_eq!(response.cqe.status.get() & 1, 0, "no phase tag on fabrics");
    let status = response.cqe.status();
    assert!(status.text() != "unknown status", "{status:?}");
    if let Some(data) = response.data {
        assert!(status.is_success(), "data with {status:?}");
        assert!(data.len() <= sqe.dptr.len() as usize, "more data than the host described");
        assert!(!matches!(sqe.dptr.kind(), SglKind::InCapsule | SglKind::Unknown));
    }
    if response.cqe_may_be_implied {
        assert_eq!((response.cqe.dw0.get(), response.cqe.dw1.get()), (0, 0));
        assert!(status.is_success() && response.data.is_some());
    }
}

impl Transport for Script {
    fn poll(
        &mut self,
        _now_ns: u64,
        may_land: bool,
        _pool: &mut DmaPool,
        out: &mut Vec<Event>,
    ) -> u32 {
        if !self.hold_pulls {
            self.end_pulls(may_land, self.pull_status);
        }
        let before = out.len();
        for event in self.events.drain(..) {
            if let Event::Closed { qpair, .. } = &event {
                self.lines[usize::from(qpair.index)].0 = Line::Closed;
            }
            out.push(event);
        }
        (out.len() - before) as u32
    }

    fn pull(&mut self, req: ReqId, to: PullTo) {
        let Place::Running { qpair, sqe, pull, pulled } = &mut self.places[req.0 as usize] else {
            panic!("a pull for {req:?}, which is not running");
        };
        assert!(!*pulled && pull.is_none(), "pulled twice");
        assert!(to.slice().len() <= sqe.dptr.len() as usize, "more than the host described");
        assert_ne!(sqe.dptr.kind(), SglKind::InCapsule);
        let line = self.lines[usize::from(qpair.index)];
        if line == (Line::Open, qpair.generation) {
            *pull = Some(to);
        } else {
            *pulled = true;
            let status = Status::TRANSIENT_TRANSPORT;
            self.events.push_back(Event::Pulled { req, status });
        }
    }

    fn respond(&mut self, req: ReqId, response: Response) {
        let place = &mut self.places[req.0 as usize];
        let Place::Running { sqe, pull, .. } = place else {
            panic!("{req:?} is answered, but it is {place:?}");
        };
        assert!(pull.is_none(), "answered while its data is being pulled");
        check_answer(sqe, &response);
        if sqe.opcode == 0x7f && sqe.fctype() == 1 && response.cqe.status().is_success() {
            self.cntlid = response.cqe.dw0.get() as u16;
        }
        *place = Place::Answered;
        self.sent.push(req);
        self.answered += 1;
    }

    fn discard(&mut self, req: ReqId) {
        let place = &mut self.places[req.0 as usize];
        let Place::Running { pull: None, .. } = place else {
            panic!("{req:?} is discarded, but it is {place:?}");
        };
        *place = Place::Answered;
        self.sent.push(req);
    }

    fn close(&mut self, qpair: QpairId, why: CloseReason) {
        let at = usize::from(qpair.index);
        assert_eq!(qpair, self.id(at), "closes a queue pair that is long gone");
        assert_ne!(self.lines[at].0, Line::Free, "closes a queue pair that is gone");
        if self.lines[at].0 == Line::Open {
            self.end(at, why);
        }
    }

    fn flush(&mut self, _now_ns: u64, _pool: &mut DmaPool, out: &mut Vec<Event>) -> u32 {
        for (line, _) in self.lines.iter_mut().filter(|(line, _)| *line == Line::Closed) {
            *line = Line::Free;
        }
        let sent = self.sent.len();
        for req in self.sent.drain(..) {
            self.places[req.0 as usize] = Place::Free;
            out.push(Event::Sent { req });
        }
        sent as u32
    }

    fn qpair_limit(&self) -> u32 {
        QPAIRS as u32
    }

    fn request_limit(&self) -> u32 {
        REQUESTS as u32
    }

    fn in_capsule_bytes(&self) -> u32 {
        CAPSULE_BYTES as u32
    }
}
