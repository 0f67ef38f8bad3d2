//! A remote namespace as one reactor sees it.
//!
//! Operations are gathered and leave in one send a turn; what has arrived is taken in one receive.
//! When the connection is lost, every operation that was not answered is kept and sent again over
//! the next one: reads and writes of blocks may be repeated. When no connection comes for too
//! long, they fail with Host Pathing Error, and so does every later one until there is one again.

#[cfg(test)]
mod tests;

use crate::QueuePair;
use crate::plan::{Shape, Work};
use crate::qpair::Broken;
use bdev::{Channel, Cx, Io, Op, Slab};
use nvme_spec::Status;
use std::collections::VecDeque;
use std::os::fd::RawFd;

/// How often to look for a new connection while operations wait for one, in ns.
const LOOK_NS: u64 = 1_000_000;

/// A connected I/O queue.
pub struct Lane<Q> {
    /// The queue pair.
    pub qpair: Q,
    /// What the namespace takes.
    pub shape: Shape,
    /// Which association it belongs to; counts up.
    pub generation: u32,
}

/// Where connected queues come from.
pub trait Lanes<Q>: Send {
    /// The next one, if it is there.
    fn take(&mut self) -> Option<Lane<Q>>;

    /// The last one, of `generation`, is lost; another one is wanted.
    fn lost(&mut self, generation: u32, why: &Broken);
}

/// How patient a channel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// How long a command may take, in ns.
    pub io_timeout_ns: u64,
    /// How long operations wait for a connection, in ns.
    pub loss_timeout_ns: u64,
    /// How often an operation is sent again.
    pub retries: u8,
}

enum Link<Q> {
    /// Connected.
    Up { qpair: Box<Q>, generation: u32, shape: Shape },
    /// Waiting for a connection; operations wait, too.
    Down { since_ns: u64 },
    /// Waited too long; operations fail.
    Lost,
}

/// The channel. It opens without a connection and takes the first that comes.
pub struct RemoteChannel<Q, L> {
    link: Link<Q>,
    lanes: L,
    works: Slab<Work>,
    /// Operations with commands to be made, in order.
    waiting: VecDeque<u32>,
    limit: u32,
    patience: Patience,
    polled_ns: u64,
}

impl<Q: QueuePair, L: Lanes<Q>> RemoteChannel<Q, L> {
    /// A channel for `limit` operations at once, which gets its connections from `lanes`.
    pub fn new(lanes: L, patience: Patience, limit: u32, now_ns: u64) -> RemoteChannel<Q, L> {
        RemoteChannel {
            link: Link::Down { since_ns: now_ns },
            lanes,
            works: Slab::new(limit),
            waiting: VecDeque::with_capacity(limit as usize),
            limit,
            patience,
            polled_ns: now_ns,
        }
    }

    /// Takes a connection if one has come.
    fn look(&mut self) -> bool {
        let Some(Lane { qpair, shape, generation }) = self.lanes.take() else {
            return false;
        };
        self.link = Link::Up { qpair: Box::new(qpair), generation, shape };
        true
    }

    /// Makes commands of the operations that wait, as far as there are slots.
    fn issue(&mut self, cx: &mut Cx<'_>) {
        let Link::Up { qpair, shape, .. } = &mut self.link else { return };
        let deadline_ns = cx.now_ns().saturating_add(self.patience.io_timeout_ns);
        while let Some(&index) = self.waiting.front() {
            let work = self.works.get_mut(index).expect("what waits is there");
            while work.left > 0 && qpair.has_room() {
                match work.next(shape) {
                    Ok((sqe, payload)) => {
                        work.out += 1;
                        qpair.submit(index, sqe, payload, deadline_ns);
                    }
                    Err(status) => {
                        work.status = status;
                        work.left = 0;
                    }
                }
            }
            if work.left > 0 {
                return;
            }
            work.queued = false;
            self.waiting.pop_front();
            if self.works.get(index).is_some_and(|work| work.out == 0) {
                end(&mut self.works, index, cx);
            }
        }
    }

    /// One turn of a connection.
    fn turn(&mut self, cx: &mut Cx<'_>) -> u32 {
        let RemoteChannel { link, works, waiting, .. } = self;
        let Link::Up { qpair, generation, .. } = link else { return 0 };
        let result = qpair.poll(cx.now_ns(), |index, ended| {
            let work = works.get_mut(index).expect("a command belongs to an operation");
            work.out -= 1;
            let status = ended.status();
            if !status.is_success() && work.status.is_success() {
                // The rest of it is not begun any more.
                work.status = status;
                work.left = 0;
                if std::mem::take(&mut work.queued) {
                    waiting.retain(|waits| *waits != index);
                }
            }
            if work.out == 0 && work.left == 0 {
                end(works, index, cx);
            }
        });
        match result {
            Ok(work) => work,
            Err(why) => {
                // Nothing uses the memory of its operations afterwards: they may end.
                qpair.abandon(&why);
                self.lanes.lost(*generation, &why);
                self.link = Link::Down { since_ns: cx.now_ns() };
                self.keep_all(cx);
                1
            }
        }
    }

    /// After a loss: everything that was not answered waits again, unless it was lost too often.
    fn keep_all(&mut self, cx: &mut Cx<'_>) {
        self.waiting.clear();
        for index in 0..self.limit {
            let Some(work) = self.works.get_mut(index) else { continue };
            if work.out > 0 {
                work.losses = work.losses.saturating_add(1);
                if work.losses > self.patience.retries && work.status.is_success() {
                    work.status = Status::HOST_PATHING;
                }
            }
            work.start_over();
            if !work.status.is_success() {
                end(&mut self.works, index, cx);
                continue;
            }
            work.queued = true;
            self.waiting.push_back(index);
        }
    }

    /// No connection came for too long.
    fn give_up(&mut self, cx: &mut Cx<'_>) {
        self.link = Link::Lost;
        self.waiting.clear();
        for index in 0..self.limit {
            if let Some(work) = self.works.get_mut(index) {
                work.status = Status::HOST_PATHING;
                end(&mut self.works, index, cx);
            }
        }
    }
}

/// Puts an operation where it stays until it ends.
#[inline]
fn place(works: &mut Slab<Work>, work: Work) -> u32 {
    works
        .insert(work)
        .unwrap_or_else(|work| panic!("more operations than the channel's limit: {:?}", work.io))
}

/// Ends an operation.
#[inline]
fn end(works: &mut Slab<Work>, index: u32, cx: &mut Cx<'_>) {
    let work = works.remove(index).expect("an operation ends once");
    cx.complete(work.io, work.status);
}

impl<Q: QueuePair, L: Lanes<Q>> Channel for RemoteChannel<Q, L> {
    fn submit(&mut self, io: Io, cx: &mut Cx<'_>) {
        if matches!(self.link, Link::Lost) && !self.look() {
            cx.complete(io, Status::HOST_PATHING);
            return;
        }
        if io.blocks == 0 && io.op != Op::Flush {
            cx.complete(io, Status::SUCCESS);
            return;
        }
        let mut work = Work::new(io);
        if let Link::Up { qpair, shape, .. } = &mut self.link
            && self.waiting.is_empty()
            && qpair.has_room()
            && let Ok((sqe, payload)) = work.next(shape)
        {
            work.out = 1;
            let more = work.left > 0;
            work.queued = more;
            let index = place(&mut self.works, work);
            let deadline_ns = cx.now_ns().saturating_add(self.patience.io_timeout_ns);
            qpair.submit(index, sqe, payload, deadline_ns);
            if more {
                self.waiting.push_back(index);
                self.issue(cx);
            }
            return;
        }
        work.queued = true;
        let index = place(&mut self.works, work);
        self.waiting.push_back(index);
        self.issue(cx);
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> u32 {
        self.polled_ns = cx.now_ns();
        match &self.link {
            Link::Up { .. } => {
                let work = self.turn(cx);
                if work > 0 && !self.waiting.is_empty() {
                    self.issue(cx);
                }
                work
            }
            Link::Down { since_ns } => {
                let since_ns = *since_ns;
                if self.look() {
                    self.issue(cx);
                    return 1;
                }
                let waited = cx.now_ns().saturating_sub(since_ns);
                if waited >= self.patience.loss_timeout_ns {
                    self.give_up(cx);
                    return 1;
                }
                0
            }
            Link::Lost => u32::from(self.look()),
        }
    }

    fn polled(&self) -> bool {
        true
    }

    fn wake_fd(&self) -> Option<RawFd> {
        match &self.link {
            Link::Up { qpair, .. } => qpair.fd(),
            Link::Down { .. } | Link::Lost => None,
        }
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        match &self.link {
            Link::Up { qpair, .. } => qpair.next_deadline_ns(),
            Link::Down { .. } if !self.works.is_empty() => Some(self.polled_ns + LOOK_NS),
            Link::Down { .. } | Link::Lost => None,
        }
    }

    fn outstanding(&self) -> u32 {
        self.works.len()
    }
}
