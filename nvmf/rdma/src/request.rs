//! Commands under way, from their capsule to the end of their answer's SEND.

use nvmf::transport::{QpairId, ReqId, Response};
use verbs::{PortId, Remote};

/// Uses of a place that are told apart; tags stay below 2^62.
const USES: u32 = 1 << 30;

/// How far a command is.
#[derive(Debug)]
pub(crate) enum State {
    /// No command.
    Free,
    /// With the target.
    Executing,
    /// Its data is being read from the host. The answer, if it was given before that ends.
    Reading(Option<Response>),
    /// Its answer is on the way, as this many work requests.
    Answering(u32),
    /// Answered after its queue pair was gone; `Sent` is still to be said.
    Orphan,
}

/// One command.
#[derive(Debug)]
pub(crate) struct Request {
    /// The queue pair it came on.
    pub qpair: QpairId,
    /// How far it is.
    pub state: State,
    /// The host's memory for its data.
    pub remote: Option<Remote>,
    /// The receive that its data came in.
    pub receive: Option<(PortId, u16)>,
    /// Counts the uses of the place, so that a completion for an earlier one is told apart.
    uses: u32,
}

/// All commands of a transport.
pub(crate) struct Requests {
    places: Vec<Request>,
    free: Vec<u32>,
}

impl Requests {
    pub(crate) fn new(limit: u32) -> Requests {
        let nobody = QpairId { index: 0, generation: 0 };
        let empty =
            |_| Request { qpair: nobody, state: State::Free, remote: None, receive: None, uses: 0 };
        Requests { places: (0..limit).map(empty).collect(), free: (0..limit).rev().collect() }
    }

    pub(crate) fn limit(&self) -> u32 {
        self.places.len() as u32
    }

    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty()
    }

    /// A place for a command; the caller has made sure that one is free.
    pub(crate) fn insert(&mut self, qpair: QpairId, remote: Option<Remote>) -> ReqId {
        let index = self.free.pop().expect("no more is taken than there are places for");
        let place = &mut self.places[index as usize];
        let uses = (place.uses + 1) % USES;
        *place = Request { qpair, state: State::Executing, remote, receive: None, uses };
        ReqId(index)
    }

    /// Frees a place. Its receive was released with the answer.
    pub(crate) fn remove(&mut self, req: ReqId) {
        let request = &mut self.places[req.0 as usize];
        debug_assert!(!matches!(request.state, State::Free), "freed once");
        debug_assert!(request.receive.is_none(), "released before");
        request.state = State::Free;
        self.free.push(req.0);
    }

    /// A command, by its number.
    pub(crate) fn get(&mut self, req: ReqId) -> &mut Request {
        &mut self.places[req.0 as usize]
    }

    /// What its work requests carry.
    pub(crate) fn tag(&self, req: ReqId) -> u64 {
        u64::from(self.places[req.0 as usize].uses) << 32 | u64::from(req.0)
    }

    /// The command that a tag means, if it is the one that has the place now.
    pub(crate) fn find(&self, tag: u64) -> Option<(ReqId, &Request)> {
        let index = tag as u32;
        let request = self.places.get(index as usize)?;
        let is_it = u64::from(request.uses) == tag >> 32 && !matches!(request.state, State::Free);
        is_it.then_some((ReqId(index), request))
    }

    /// Every command, with its number.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (ReqId, &mut Request)> {
        self.places.iter_mut().enumerate().map(|(index, request)| (ReqId(index as u32), request))
    }
}
