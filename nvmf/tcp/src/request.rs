//! Commands under way, from their capsule to the last byte of their answer.

use crate::limits::{R2TS_PER_COMMAND, TTAG_REQUEST_BITS};
use bdev::{DmaBuf, DmaSlice};
use nvmf::transport::{QpairId, ReqId, Response};

/// Where the data of a capsule lies.
#[derive(Debug)]
pub(crate) enum Home {
    /// There was none.
    None,
    /// In a receive buffer.
    Arena(u16),
    /// In a buffer of its own.
    Own(DmaBuf),
}

/// An R2T that the host has not answered in full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct R2t {
    /// Where the next byte goes.
    pub next: u32,
    /// Where the last byte goes, plus one.
    pub end: u32,
    /// The host has it: before that, nothing answers it.
    pub sent: bool,
}

/// Data on its way from the host.
#[derive(Debug)]
pub(crate) struct Pull {
    /// Where it goes.
    pub into: DmaSlice,
    /// `into` is the memory of a device: nothing goes there but whole blocks.
    pub lands: bool,
    /// The beginning of a block whose end comes with another PDU, where the data lands.
    pub part: Vec<u8>,
    /// Bytes asked for so far, from the start.
    pub asked: u32,
    /// Bytes arrived and checked, in all R2Ts.
    pub received: u32,
    /// By the number in their tag.
    pub r2ts: [Option<R2t>; R2TS_PER_COMMAND as usize],
    /// A data digest was wrong.
    pub damaged: bool,
    /// When it began, in ns.
    pub began_ns: u64,
    /// The answer, if it was given before all data was there: sent after it.
    pub answer: Option<Response>,
}

/// How far a command is.
#[derive(Debug)]
pub(crate) enum State {
    /// No command.
    Free,
    /// With the target.
    Executing,
    /// Its data is on the way here.
    Pulling(Pull),
    /// Its answer is on the way out. The digest of the data is kept for a send in several parts.
    Answering { response: Response, digest: Option<[u8; 4]> },
    /// Discarded, or answered after its connection was gone; `Sent` is still to be said.
    Orphan,
}

/// One command.
#[derive(Debug)]
pub(crate) struct Request {
    /// The connection it came on.
    pub qpair: QpairId,
    /// The host's number for it.
    pub cid: u16,
    /// How far it is.
    pub state: State,
    /// The data in its capsule.
    pub home: Home,
}

/// All commands of a transport.
pub(crate) struct Requests {
    places: Vec<Request>,
    free: Vec<u32>,
}

impl Requests {
    pub(crate) fn new(limit: u32) -> Requests {
        assert!(limit <= 1 << TTAG_REQUEST_BITS, "more commands than a transfer tag can name");
        let nobody = QpairId { index: 0, generation: 0 };
        let empty = |_| Request { qpair: nobody, cid: 0, state: State::Free, home: Home::None };
        Requests { places: (0..limit).map(empty).collect(), free: (0..limit).rev().collect() }
    }

    pub(crate) fn limit(&self) -> u32 {
        self.places.len() as u32
    }

    pub(crate) fn free(&self) -> u32 {
        self.free.len() as u32
    }

    /// A place for a command; the caller has made sure that one is free.
    pub(crate) fn insert(&mut self, qpair: QpairId, cid: u16, home: Home) -> ReqId {
        let index = self.free.pop().expect("no more is received than there are places for");
        self.places[index as usize] = Request { qpair, cid, state: State::Executing, home };
        ReqId(index)
    }

    /// Frees a place. Its data was released with the answer.
    pub(crate) fn remove(&mut self, req: ReqId) {
        let request = &mut self.places[req.0 as usize];
        debug_assert!(!matches!(request.state, State::Free), "freed once");
        debug_assert!(matches!(request.home, Home::None), "released before");
        request.state = State::Free;
        self.free.push(req.0);
    }

    /// A command, by our own number for it.
    pub(crate) fn get(&mut self, req: ReqId) -> &mut Request {
        &mut self.places[req.0 as usize]
    }

    /// A command, by a number that a peer sent.
    pub(crate) fn find(&mut self, index: u32) -> Option<&mut Request> {
        self.places.get_mut(index as usize)
    }

    /// The host has an R2T, and may answer it.
    pub(crate) fn r2t_sent(&mut self, req: ReqId, number: usize) {
        if let State::Pulling(pull) = &mut self.get(req).state
            && let Some(r2t) = &mut pull.r2ts[number]
        {
            r2t.sent = true;
        }
    }

    /// Every command, with its number.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ReqId, &mut Request)> {
        self.places.iter_mut().enumerate().map(|(index, request)| (ReqId(index as u32), request))
    }
}

/// The transfer tag of R2T number `number` of command `req`.
pub(crate) fn ttag(req: ReqId, number: usize) -> u16 {
    (req.0 | (number as u32) << TTAG_REQUEST_BITS) as u16
}

/// The number of the command, and of the R2T, in a transfer tag.
pub(crate) fn untag(ttag: u16) -> (u32, usize) {
    let tag = u32::from(ttag);
    (tag & ((1 << TTAG_REQUEST_BITS) - 1), (tag >> TTAG_REQUEST_BITS) as usize)
}
