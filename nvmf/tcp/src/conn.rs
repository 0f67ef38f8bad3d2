//! One connection: its state, without a clock, a socket of its own or a list of the others.

mod land;
mod receive;
mod send;

pub(crate) use receive::Received;
pub(crate) use send::{Outgoing, Sending};

use crate::Config;
use crate::arena::Arenas;
use crate::limits::{
    COMMANDS_PER_QPAIR, DIRECT_BYTES, MAX_CAPSULE_BYTES, PUT_OFF_BYTES, R2TS_PER_COMMAND,
};
use crate::poller::Interest;
use crate::request::{Pull, R2t, Requests};
use crate::socket::Socket;
use crate::stats::{Counters, Stats};
use bdev::{DmaPool, DmaSlice};
use nvmf::places::Peer;
use nvmf::transport::{CloseReason, Crowd, Event, Origin, PullTo, QpairId, ReqId};
use nvmf_wire::digest::DataDigest;
use nvmf_wire::pdu::{
    Framing, Params, Side, TERM_BYTES, TERM_MAX_DATA, WireError, encode_term_req,
};
use std::collections::VecDeque;
use std::sync::Arc;

/// What the connections of a transport share.
pub(crate) struct Shared {
    pub config: Config,
    pub requests: Requests,
    pub arenas: Arenas,
    /// Empty buffers for the beginnings of PDUs that came, and for the ends of blocks that go.
    pub carries: Vec<Vec<u8>>,
    pub stats: Arc<Stats>,
    /// Who has commands under way.
    pub crowd: Crowd,
    pub now_ns: u64,
    /// Data may land in this poll.
    pub may_land: bool,
}

impl Shared {
    /// An empty buffer with room for the longest capsule.
    fn carry(&mut self) -> Vec<u8> {
        self.carries.pop().unwrap_or_else(|| Vec::with_capacity(MAX_CAPSULE_BYTES))
    }
}

/// What a connection may reach while it receives.
pub(crate) struct Cx<'a> {
    pub shared: &'a mut Shared,
    pub pool: &'a mut DmaPool,
    pub out: &'a mut Vec<Event>,
}

/// How far a connection is.
#[derive(Debug)]
pub(crate) enum State {
    /// ICReq has not come.
    Greeting { until_ns: u64 },
    /// Commands may come.
    Ready,
    /// Nothing is received any more; what is to be sent is sent, then it ends.
    Closing { why: CloseReason, until_ns: u64 },
    /// The target has been told that it is gone. Waits for the host to end, so that the last
    /// bytes are not lost to a reset; what comes is thrown away.
    Lingering { until_ns: u64, received: usize },
}

/// What to send next. Headers are written when they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Out {
    /// The answer to ICReq.
    IcResp,
    /// The R2T of this number of a command.
    R2t { req: ReqId, number: u8 },
    /// Data, completion, or both.
    Answer { req: ReqId },
    /// The end, with what was wrong.
    Term,
}

/// Where received bytes belong.
#[derive(Debug)]
enum Rx {
    /// To the header of a PDU.
    Header,
    /// To the payload of an H2CData.
    Payload(Incoming),
    /// To the digest after it.
    Trailer(Incoming),
}

/// The payload of one H2CData.
#[derive(Debug)]
struct Incoming {
    req: ReqId,
    /// The number of the R2T it answers.
    number: usize,
    /// Where the rest of it goes.
    rest: DmaSlice,
    /// Its length in bytes.
    bytes: u32,
    /// It goes to the memory of a device: only whole blocks are written.
    lands: Option<land::Landing>,
    digest: Option<DataDigest>,
}

/// One connection.
pub(crate) struct Conn<S> {
    pub socket: S,
    pub id: QpairId,
    origin: Origin,
    /// The number of its address among those that have connections.
    address: u16,
    pub state: State,
    params: Params,
    framing: Framing,
    /// R2Ts that may be outstanding for one command.
    maxr2t: usize,
    rx: Rx,
    /// The beginning of a PDU, until the rest of it comes.
    carry: Vec<u8>,
    /// Capsules that wait for a place or for memory, whole.
    put_off: VecDeque<u8>,
    /// The count of PDUs when the one that is under way began, and the time.
    begun: Option<(u64, u64)>,
    out: VecDeque<Out>,
    /// Bytes of the first of `out` that are sent already.
    front_sent: usize,
    /// The rest of a lent block of the first of `out`, from byte `tail_at` of its data on, when
    /// the block was sent in part.
    tail: Vec<u8>,
    tail_at: usize,
    term: Option<Box<(usize, [u8; TERM_BYTES + TERM_MAX_DATA])>>,
    /// Commands not answered in full.
    pub outstanding: u32,
    /// Commands whose data is on the way, and those of them with much of it.
    pub pulls: u32,
    large_pulls: u32,
    /// Commands whose data goes to the memory of a device.
    pub landings: u32,
    pub counters: Counters,
    /// The target knows of it.
    pub announced: bool,
    /// The kernel has no room: wait until it says that it has.
    pub blocked: bool,
    /// When it last took something and had no room for the rest, in ns.
    pub blocked_ns: u64,
    /// In the transport's list of those that have something to send.
    pub dirty: bool,
    /// In the transport's list of those that are received from in every turn.
    pub hot: bool,
    /// In the transport's list of those that wait for a place or for memory.
    pub held: bool,
    /// Turns without a byte while hot.
    pub idle_turns: u32,
    /// What the poller was told.
    pub interest: Interest,
}

impl<S: Socket> Conn<S> {
    pub(crate) fn new(socket: S, id: QpairId, origin: Origin, shared: &mut Shared) -> Conn<S> {
        let address = shared.crowd.join(Peer::of(origin.peer.ip()));
        Conn {
            address,
            socket,
            id,
            origin,
            state: State::Greeting { until_ns: shared.now_ns + shared.config.icreq_ns },
            params: Params::initialize(Side::Controller),
            framing: Framing::default(),
            maxr2t: 1,
            rx: Rx::Header,
            carry: Vec::new(),
            put_off: VecDeque::new(),
            begun: None,
            out: VecDeque::new(),
            front_sent: 0,
            tail: Vec::new(),
            tail_at: 0,
            term: None,
            outstanding: 0,
            pulls: 0,
            large_pulls: 0,
            landings: 0,
            counters: Counters::default(),
            announced: false,
            blocked: false,
            blocked_ns: 0,
            dirty: false,
            hot: false,
            held: false,
            idle_turns: 0,
            interest: Interest::READ,
        }
    }

    /// Whether commands come and answers go.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready)
    }

    /// Whether there is something to send, or an end to come to.
    pub(crate) fn wants_flush(&self) -> bool {
        !self.blocked && (!self.out.is_empty() || matches!(self.state, State::Closing { .. }))
    }

    /// What to wait for.
    pub(crate) fn wants(&self) -> Interest {
        let closing = matches!(self.state, State::Closing { .. });
        let read = !closing && (!self.held || self.reads_on());
        Interest { read, write: self.blocked }
    }

    /// Whether it is read although it is held back: for data that was asked for, and that makes
    /// places and memory free.
    pub(crate) fn reads_on(&self) -> bool {
        self.pulls > 0 && self.put_off.len() < PUT_OFF_BYTES
    }

    /// When it has to be looked at even if nothing comes: the time, and what it means.
    pub(crate) fn deadline_ns(&self, config: &Config) -> Option<(u64, &'static str)> {
        match self.state {
            State::Greeting { .. } if self.origin.place.is_unwanted() => {
                Some((0, "no ICReq came, and its place was needed"))
            }
            State::Greeting { until_ns } => Some((until_ns, "no ICReq came in time")),
            State::Closing { until_ns, .. } => Some((until_ns, "it could not be ended in time")),
            State::Lingering { until_ns, .. } => Some((until_ns, "the host did not end it")),
            State::Ready if self.held => None,
            State::Ready => {
                self.begun.map(|(_, at)| (at + config.pdu_ns, "a PDU was not completed in time"))
            }
        }
    }

    /// Ends it as a fault of the host, with a TermReq that names the `error` in `header`.
    fn fail(&mut self, error: WireError, header: &[u8], shared: &Shared) {
        let mut bytes = [0; TERM_BYTES + TERM_MAX_DATA];
        let sender = Side::Controller;
        let len = encode_term_req(&mut bytes, sender, error.fes, error.fei, header);
        self.term = Some(Box::new((len, bytes)));
        self.out.push_back(Out::Term);
        Stats::add(&shared.stats.protocol_errors, 1);
        self.close(CloseReason::Protocol(error.to_string()), shared);
    }

    /// Receives nothing any more, and ends after what is to be sent.
    pub(crate) fn close(&mut self, why: CloseReason, shared: &Shared) {
        if matches!(self.state, State::Greeting { .. } | State::Ready) {
            let until_ns = shared.now_ns + shared.config.linger_ns;
            self.state = State::Closing { why, until_ns };
            self.begun = None;
            self.put_off = VecDeque::new();
        }
    }

    /// Forgets all commands and bytes: the target has been told that it is gone.
    pub(crate) fn linger(&mut self, shared: &mut Shared) {
        let until_ns = shared.now_ns + shared.config.linger_ns;
        self.state = State::Lingering { until_ns, received: 0 };
        self.rx = Rx::Header;
        self.out = VecDeque::new();
        self.front_sent = 0;
        self.forget_commands(shared);
        (self.pulls, self.large_pulls, self.landings) = (0, 0, 0);
        self.blocked = false;
        self.drop_carry(shared);
        self.drop_tail(shared);
    }

    /// A command has come.
    #[inline]
    pub(crate) fn command_came(&mut self, crowd: &mut Crowd) {
        self.outstanding += 1;
        if self.outstanding == 1 {
            crowd.set_busy(self.address, true);
        }
    }

    /// The answer of a command has left.
    #[inline]
    pub(crate) fn command_left(&mut self, crowd: &mut Crowd) {
        self.outstanding -= 1;
        if self.outstanding == 0 {
            crowd.set_busy(self.address, false);
        }
    }

    fn forget_commands(&mut self, shared: &mut Shared) {
        if std::mem::take(&mut self.outstanding) > 0 {
            shared.crowd.set_busy(self.address, false);
        }
    }

    /// It is gone, and so is its place among those of its address.
    pub(crate) fn leave(&mut self, shared: &mut Shared) {
        self.forget_commands(shared);
        shared.crowd.leave(Peer::of(self.origin.peer.ip()));
    }

    /// Places for commands that it may take now.
    fn places(&self, shared: &Shared) -> u32 {
        let Shared { requests, crowd, .. } = shared;
        let room = crowd.room(self.address, self.outstanding, requests.limit(), requests.free());
        room.min(COMMANDS_PER_QPAIR.saturating_sub(self.outstanding))
    }

    /// Whether it has commands, and has taken nothing of what is to be sent for longer than it may
    /// while others wait.
    pub(crate) fn is_stalled(&self, now_ns: u64, stall_ns: u64) -> bool {
        self.outstanding > 0
            && self.blocked
            && matches!(self.state, State::Ready)
            && now_ns.saturating_sub(self.blocked_ns) > stall_ns
    }

    /// Goes on reading. The time it was held back does not count against the host.
    pub(crate) fn unhold(&mut self, now_ns: u64) {
        self.held = false;
        self.begun = self.begun.map(|(pdu, _)| (pdu, now_ns));
    }

    /// Gives the buffer for the beginnings of PDUs back.
    pub(crate) fn drop_carry(&mut self, shared: &mut Shared) {
        if self.carry.capacity() > 0 {
            self.carry.clear();
            shared.carries.push(std::mem::take(&mut self.carry));
        }
    }

    /// Gives the buffer for the end of a block back.
    pub(crate) fn drop_tail(&mut self, shared: &mut Shared) {
        if self.tail.capacity() > 0 {
            self.tail.clear();
            shared.carries.push(std::mem::take(&mut self.tail));
        }
    }

    /// Queues the answer of a command.
    pub(crate) fn answer(&mut self, req: ReqId) {
        self.out.push_back(Out::Answer { req });
    }

    /// Begins to fetch data.
    pub(crate) fn begin_pull(&mut self, req: ReqId, to: PullTo, shared: &mut Shared) {
        let lands = matches!(to, PullTo::Device(_));
        self.pulls += 1;
        self.large_pulls += u32::from(to.slice().len() >= DIRECT_BYTES as usize);
        self.landings += u32::from(lands);
        let pull = Pull {
            into: to.slice(),
            lands,
            part: Vec::new(),
            asked: 0,
            received: 0,
            r2ts: Default::default(),
            damaged: false,
            began_ns: shared.now_ns,
        };
        shared.requests.begin_pull(req, pull);
        self.ask(req, shared);
    }

    /// Asks for as much of a command's data as the host takes R2Ts for.
    fn ask(&mut self, req: ReqId, shared: &mut Shared) {
        let pull = shared.requests.pull(req).expect("only data on its way is asked for");
        let whole = pull.into.len() as u32;
        // One at a time where data lands, so that it comes in order and no two blocks are begun.
        let most = if pull.lands { whole } else { shared.config.r2t_bytes };
        for number in 0..self.maxr2t.min(R2TS_PER_COMMAND as usize) {
            if pull.r2ts[number].is_none() && pull.asked < whole {
                let end = pull.asked + (whole - pull.asked).min(most);
                pull.r2ts[number] = Some(R2t { next: pull.asked, end, sent: false });
                pull.asked = end;
                self.out.push_back(Out::R2t { req, number: number as u8 });
            }
        }
    }
}
