//! What a target needs of RDMA hardware: connections, work requests, completions.

use crate::private_data::Ask;
use bdev::DmaSlice;
use nvmf_wire::rdma::Reject;
use std::os::fd::RawFd;

/// A device, by its place in the hardware's list.
pub type PortId = u8;

/// Memory of the host, as a keyed SGL descriptor names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its address there.
    pub addr: u64,
    /// The key that allows access.
    pub rkey: u32,
    /// Length in bytes.
    pub bytes: u32,
    /// The host asks that the key be invalidated with the answer.
    pub invalidate: bool,
}

/// A work request for a send queue. `tag`, below 2^62, comes back with its completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// RDMA READ: the host's memory into `into`. Its completion is reported.
    Read {
        /// Whose.
        tag: u64,
        /// As many bytes as this.
        into: DmaSlice,
        /// From where.
        from: Remote,
    },
    /// RDMA WRITE of `from` to the host. Only its failure is reported.
    Write {
        /// Whose.
        tag: u64,
        /// What.
        from: DmaSlice,
        /// Where to.
        into: Remote,
    },
    /// SEND of a completion. Its completion is reported, and says that a WRITE before it has
    /// ended, too.
    Send {
        /// Whose.
        tag: u64,
        /// The completion queue entry, in DMA memory.
        cqe: DmaSlice,
        /// The key that the host's side invalidates with it.
        invalidate: Option<u32>,
    },
}

/// Memory for one capsule.
#[derive(Clone, Copy, Debug)]
pub struct Receive {
    /// Its number; comes back with its completion.
    pub slot: u16,
    /// Where the command goes.
    pub sqe: DmaSlice,
    /// Where its data goes.
    pub data: DmaSlice,
}

/// How a work request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it should.
    Done,
    /// It was dropped, for its queue pair is broken.
    Flushed,
    /// It failed, with the code of the verbs library, and broke its queue pair.
    Failed(u32),
}

/// Which work request has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A receive; `slot` and the bytes that came.
    Received(u16, u32),
    /// The READ of this tag.
    Read(u64),
    /// The WRITE of this tag.
    Write(u64),
    /// The SEND of this tag.
    Sent(u64),
}

/// The end of a work request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The port that it was on.
    pub port: PortId,
    /// The place of its queue pair; none if that is destroyed.
    pub place: Option<u16>,
    /// How it ended.
    pub outcome: Outcome,
    /// Which it was.
    pub what: What,
}

/// Why a connection is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    /// The host ended it.
    Disconnected,
    /// The network or the device failed.
    Broken(String),
}

/// What happened to a connection.
#[derive(Debug)]
pub enum ConnectionEvent<R, A> {
    /// A host asks for one.
    Asks {
        /// What is accepted or rejected.
        request: R,
        /// The device it came by.
        port: PortId,
        /// The host's wishes.
        ask: Ask,
        /// What its listener gave it, kept as long as the connection.
        admission: A,
    },
    /// The one at this place is gone, or cannot go on.
    Gone {
        /// Its place.
        place: u16,
        /// Why.
        why: Gone,
    },
}

/// How large a queue pair is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Work requests in its send queue, if the device allows that many.
    pub work: u32,
    /// Receives that the host is told of.
    pub receives: u16,
}

/// How much one reactor has of what is set up once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Places for queue pairs.
    pub qpairs: u16,
    /// Entries of the completion queue of a port.
    pub completions: u32,
}

/// A queue pair that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Work requests that fit in its send queue.
    pub work: u32,
}

/// Why hardware did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicError(pub String);

impl std::fmt::Display for NicError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The RDMA hardware as one reactor uses it. Places are the transport's numbers for queue pairs.
pub trait Nic: Send {
    /// A connection that waits to be accepted.
    type Request;

    /// What a listener gives each connection that it lets in.
    type Admission;

    /// What has happened to connections. Looks for more than what is at hand only now and then.
    fn connection_event(&mut self) -> Option<ConnectionEvent<Self::Request, Self::Admission>>;

    /// Opens a port: a completion queue and a shared receive queue for so many receives.
    ///
    /// # Errors
    /// The device's, for a person.
    fn open_port(&mut self, port: PortId, receives: u16) -> Result<(), NicError>;

    /// Closes a port that has no queue pair: no memory of its receives is used any more.
    fn close_port(&mut self, port: PortId);

    /// Makes a queue pair at `place` and accepts the connection. The place is free again after an
    /// error; the host is told.
    ///
    /// # Errors
    /// The device's, for a person.
    fn accept(
        &mut self,
        place: u16,
        port: PortId,
        request: Self::Request,
        ask: &Ask,
        sizes: Sizes,
    ) -> Result<Accepted, NicError>;

    /// Turns a host away.
    fn reject(&mut self, request: Self::Request, why: Reject);

    /// Disconnects, and destroys the queue pair: when this returns, no memory named by its work
    /// requests is used any more, and its receives that were not completed are lost to the port.
    fn release(&mut self, place: u16);

    /// Posts work requests in their order, as one chain.
    ///
    /// # Errors
    /// The device's, for a person: some of them may be under way, and the queue pair is of no more
    /// use.
    fn post(&mut self, place: u16, work: &[Work]) -> Result<(), NicError>;

    /// Posts receives to the shared queue of a port, as one chain.
    fn receive(&mut self, port: PortId, receives: &[Receive]);

    /// Appends what has ended.
    fn poll(&mut self, out: &mut Vec<Completion>);

    /// Whether all that may end from now on makes [`Nic::wake_fd`] readable.
    fn may_sleep(&self) -> bool;

    /// A descriptor that becomes readable when there is something to do.
    fn wake_fd(&self) -> Option<RawFd>;
}

/// What the code of a completion that failed means (`ibv_wc_status`).
pub fn meaning(code: u32) -> &'static str {
    match code {
        1 | 4 => "memory that is not registered was named",
        2 => "the work request was faulty",
        3 => "the queue pair was not ready",
        9 | 10 => "the other side does not allow access to that memory",
        11 => "the other side failed",
        12 => "the other side does not acknowledge it (retries exceeded)",
        13 => "the other side has no receive for it (RNR retries exceeded)",
        _ => "the device failed",
    }
}
