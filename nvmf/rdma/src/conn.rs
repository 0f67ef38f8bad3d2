//! One queue pair: what waits for its send queue, and how it ends.

use nvmf::places::Peer;
use nvmf::transport::{CloseReason, Crowd, Origin, Owed, QpairId};
use std::collections::VecDeque;
use verbs::{PortId, Work};

/// Where a queue pair is in its life.
#[derive(Debug)]
pub(crate) enum State {
    /// It takes commands.
    Open,
    /// What was answered is still sent; it ends then, or at the latest at `by_ns`.
    Closing { why: CloseReason, by_ns: u64 },
}

/// One queue pair.
#[derive(Debug)]
pub(crate) struct Conn {
    pub id: QpairId,
    pub port: PortId,
    pub state: State,
    /// Work requests that are to be posted.
    waiting: VecDeque<Work>,
    /// Work requests that fit in the send queue now.
    room: u32,
    /// Answers that were given and have not been sent.
    pub answers: u32,
    /// It is on the list of those with something to post.
    pub dirty: bool,
    /// Commands under way.
    commands: u32,
    /// Data that is read from the host, and answers that it has to take.
    pub owed: Owed,
    /// The number of its address among those that have connections.
    address: u16,
    /// Where it comes from; its place among all connections, held until it is gone.
    origin: Origin,
}

impl Conn {
    pub(crate) fn new(
        id: QpairId,
        port: PortId,
        room: u32,
        entries: u16,
        origin: Origin,
        crowd: &mut Crowd,
    ) -> Conn {
        Conn {
            id,
            port,
            state: State::Open,
            waiting: VecDeque::with_capacity(2 * usize::from(entries)),
            room,
            answers: 0,
            dirty: false,
            commands: 0,
            owed: Owed::default(),
            address: crowd.join(Peer::of(origin.peer.ip())),
            origin,
        }
    }

    /// A command has come.
    pub(crate) fn command_came(&mut self, crowd: &mut Crowd) {
        self.commands += 1;
        if self.commands == 1 {
            crowd.set_busy(self.address, true);
        }
    }

    /// A command has ended.
    pub(crate) fn command_left(&mut self, crowd: &mut Crowd) {
        self.commands -= 1;
        if self.commands == 0 {
            crowd.set_busy(self.address, false);
        }
    }

    /// It is gone, with all its commands.
    pub(crate) fn leave(&self, crowd: &mut Crowd) {
        if self.commands > 0 {
            crowd.set_busy(self.address, false);
        }
        crowd.leave(Peer::of(self.origin.peer.ip()));
    }

    /// Places for commands that it may take now, of `all` of which `free` are free.
    pub(crate) fn places(&self, crowd: &Crowd, all: u32, free: u32) -> u32 {
        crowd.room(self.address, self.commands, all, free)
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    /// Puts a work request in line.
    pub(crate) fn push(&mut self, work: Work) {
        self.waiting.push_back(work);
    }

    /// Moves what fits in the send queue to `out`, in order, up to `most`.
    pub(crate) fn take(&mut self, most: usize, out: &mut Vec<Work>) {
        let count = self.waiting.len().min(self.room as usize).min(most);
        out.extend(self.waiting.drain(..count));
        self.room -= count as u32;
    }

    /// Whether something could be posted.
    pub(crate) fn can_post(&self) -> bool {
        self.room > 0 && !self.waiting.is_empty()
    }

    /// Work requests have ended.
    pub(crate) fn ended(&mut self, count: u32) {
        self.room += count;
    }

    /// Whether it has said all that it had to say.
    pub(crate) fn is_done(&self, now_ns: u64) -> bool {
        match self.state {
            State::Open => false,
            State::Closing { by_ns, .. } => self.answers == 0 || now_ns >= by_ns,
        }
    }
}
