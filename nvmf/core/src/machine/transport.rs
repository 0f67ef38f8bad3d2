//! What the target needs from a fabric: six verbs, so that TCP, RDMA and the simulated network
//! share one request state machine.
//!
//! The life of a command, the same on every fabric and in every kind of failure:
//!
//! ```text
//! Event::Command{req} --> [pull(req, into) --> Event::Pulled{req}] --> respond(req, ..) --> Event::Sent{req}
//! ```
//!
//! Each `Command` gets exactly one `respond` or `discard`, and each of these exactly one `Sent`,
//! after which the transport may use the number `req` again. This holds for a queue pair that is closed, too:
//! `Closed` says that nothing reaches the host any more; pulls that were under way have ended with
//! an error before it; the commands still executing are answered as ever, into nothing.

mod crowd;
mod owed;
mod table;

pub use crowd::Crowd;
pub use owed::Owed;
pub use table::{Carried, Command, Commands, Due, Stage};

use crate::export::places::{Place, PlaceLimits, Places};
use crate::export::registry::Serves;
use bdev::DmaSlice;
use nvme_spec::{Cqe, Fabric, Sqe, Status};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

/// A queue pair of one transport: its place, and how often the place was used, so that a late
/// event for an earlier user is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QpairId {
    /// The place, below [`Transport::qpair_limit`].
    pub index: u16,
    /// Counts up with each use of the place.
    pub generation: u16,
}

/// A command under way in one transport: a place below [`Transport::request_limit`], used again
/// after `Sent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReqId(pub u32);

/// Where a connection comes from, and what it came to: known by the listener that took it in.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The host's end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// What is behind the listener.
    pub serves: Serves,
    /// Its place, held as long as anybody has this.
    pub place: Arc<Place>,
}

impl Origin {
    /// A connection that shares its places with no other, to everything: for fabrics without
    /// listeners.
    pub fn alone(peer: SocketAddr, local: SocketAddr) -> Origin {
        let place = Places::new(PlaceLimits::of(1)).take(peer.ip()).expect("the only one");
        Origin { peer, local, serves: Serves::Everything, place }
    }
}

/// What a fabric reports.
#[derive(Debug)]
pub enum Event {
    /// A connection stands (on TCP: the ICReq is answered). Fabrics Connect comes as a command.
    Connected {
        /// The new queue pair.
        qpair: QpairId,
        /// Where it comes from, and what it came to.
        origin: Origin,
        /// Answers on it may be [`Response::lent`], and data be pulled to [`PullTo::Device`].
        direct: bool,
    },
    /// A command arrived.
    Command {
        /// The queue pair it came on.
        qpair: QpairId,
        /// Its place from now on.
        req: ReqId,
        /// The command.
        sqe: Sqe,
        /// What came with it.
        in_capsule: InCapsule,
    },
    /// A pull ended: the memory is filled, or `status` says why not.
    Pulled {
        /// Whose.
        req: ReqId,
        /// `SUCCESS`, `TRANSIENT_TRANSPORT` for a wrong digest, or what the transport reports.
        status: Status,
    },
    /// The answer has left (or is dropped with its queue pair): its data is no longer read.
    Sent {
        /// Whose.
        req: ReqId,
    },
    /// A queue pair is gone.
    Closed {
        /// Which.
        qpair: QpairId,
        /// Why.
        why: CloseReason,
    },
}

/// Data that came in the capsule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InCapsule {
    /// None.
    None,
    /// Here, until `respond`. In DMA memory, with any alignment.
    Data(DmaSlice),
    /// It came, but its digest is wrong: the command fails with Transient Transport Error.
    Damaged,
}

/// Where the data of a pull goes: the first bytes of the host's data, as many as there is room for.
#[derive(Clone, Copy, Debug)]
pub enum PullTo {
    /// To a buffer that is the transport's until `Pulled`.
    Buffer(DmaSlice),
    /// To the memory of a device, which is its blocks for everybody else. The transport writes it
    /// only within a [`Transport::poll`] that may land data, and each 4 KiB of it, counted from
    /// the start, within one of them, so that nobody gets a block that is half written, and no
    /// host that breaks off leaves one. When the pull fails, any of them may have been written.
    Device(DmaSlice),
}

impl PullTo {
    /// The memory.
    pub fn slice(self) -> DmaSlice {
        match self {
            PullTo::Buffer(slice) | PullTo::Device(slice) => slice,
        }
    }
}

/// Why a queue pair ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The host closed the connection.
    Peer,
    /// The network failed.
    Network(String),
    /// The host broke the protocol of the fabric.
    Protocol(String),
    /// The controller ended: shutdown, reset of the association, Keep Alive expiry.
    Controller(&'static str),
    /// The host asked with a Disconnect command.
    Disconnect,
    /// The host took and sent nothing for too long, while others waited for what that held.
    Stalled,
    /// The target is going down.
    Shutdown,
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CloseReason::Peer => f.write_str("the host closed the connection"),
            CloseReason::Network(what) => write!(f, "the network failed: {what}"),
            CloseReason::Protocol(what) => write!(f, "the host broke the protocol: {what}"),
            CloseReason::Controller(why) => f.write_str(why),
            CloseReason::Disconnect => f.write_str("the host disconnected"),
            CloseReason::Stalled => {
                f.write_str("the host took and sent nothing for too long while others waited")
            }
            CloseReason::Shutdown => f.write_str("the target is going down"),
        }
    }
}

/// The answer to a command.
#[derive(Clone, Copy, Debug)]
pub struct Response {
    /// Data for the host, kept by the caller until `Sent`. Only with a successful status.
    pub data: Option<DmaSlice>,
    /// `data` is the memory of a device: it stays until `Sent`, but from one turn to the next its
    /// blocks may change. The transport reads each byte once, and no block of 4 KiB partly in one
    /// turn and partly in another, so that the host never gets a block that was half written.
    pub lent: bool,
    /// The completion.
    pub cqe: Cqe,
    /// The completion says nothing that the data does not: with flow control of the submission
    /// queue off and a zero result, TCP may send SUCCESS with the last data instead.
    pub cqe_may_be_implied: bool,
}

/// A fabric on one reactor.
pub trait Transport: Send {
    /// Takes what arrived, and appends what became of it to `out`. Unless it `may_land` data, no
    /// [`PullTo::Device`] is written.
    fn poll(
        &mut self,
        now_ns: u64,
        may_land: bool,
        pool: &mut bdev::DmaPool,
        out: &mut Vec<Event>,
    ) -> u32;

    /// Fetches the data of a command whose SGL says that it is with the host; at most the length
    /// in the SGL.
    fn pull(&mut self, req: ReqId, to: PullTo);

    /// Answers a command.
    fn respond(&mut self, req: ReqId, response: Response);

    /// Ends a command without an answer: its host has used the identifier for another command.
    /// `Sent` follows.
    fn discard(&mut self, req: ReqId);

    /// Ends a queue pair. What was answered before is still sent where that is possible, what is
    /// answered later is not; `Closed` follows.
    fn close(&mut self, qpair: QpairId, why: CloseReason);

    /// Sends what has gathered, once a turn, and appends `Sent` events to `out`.
    fn flush(&mut self, now_ns: u64, pool: &mut bdev::DmaPool, out: &mut Vec<Event>) -> u32;

    /// Places for queue pairs.
    fn qpair_limit(&self) -> u32;

    /// Places for commands under way.
    fn request_limit(&self) -> u32;

    /// Largest data in a capsule, in bytes: sets IOCCSZ.
    fn in_capsule_bytes(&self) -> u32;

    /// Which fabric it is.
    fn fabric(&self) -> Fabric {
        Fabric::Tcp
    }

    /// A descriptor that becomes readable when `poll` has something to do.
    fn wake_fd(&self) -> Option<RawFd> {
        None
    }

    /// When `poll` has to be called even if nothing happens.
    fn next_deadline_ns(&self) -> Option<u64> {
        None
    }
}
