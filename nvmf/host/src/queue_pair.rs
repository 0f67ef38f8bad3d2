//! A queue pair of either fabric.

use crate::qpair::{Broken, Ended, Payload, Qpair, RdmaQpair};
use crate::{Socket, TcpSocket};
use bdev::Memory;
use nvme_spec::Sqe;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::RawFd;
use std::sync::Arc;
use verbs::initiator::Cutter;

/// What is above a queue pair needs of it; [`Qpair`] says more of each.
pub trait QueuePair: Send {
    /// Whether one more command may be submitted.
    fn has_room(&self) -> bool;

    /// Takes a command; it leaves with the next poll.
    fn submit(&mut self, ticket: u32, sqe: Sqe, payload: Payload, deadline_ns: u64);

    /// Sends what waits, takes what is there, and answers it.
    ///
    /// # Errors
    /// Why the connection is lost: it is to be abandoned.
    fn poll(&mut self, now_ns: u64, end: impl FnMut(u32, Ended)) -> Result<u32, Broken>;

    /// Ends the connection, which is lost because of `why`. Commands that have not ended never
    /// will; once this returns, nothing uses their memory.
    fn abandon(&mut self, why: &Broken);

    /// A descriptor that becomes readable when there is something to take.
    fn fd(&self) -> Option<RawFd>;

    /// When to poll even if nothing arrives.
    fn next_deadline_ns(&self) -> Option<u64>;
}

impl<S: Socket> QueuePair for Qpair<S, u32> {
    #[inline]
    fn has_room(&self) -> bool {
        Qpair::has_room(self)
    }

    #[inline]
    fn submit(&mut self, ticket: u32, sqe: Sqe, payload: Payload, deadline_ns: u64) {
        Qpair::submit(self, ticket, sqe, payload, deadline_ns);
    }

    #[inline]
    fn poll(&mut self, now_ns: u64, end: impl FnMut(u32, Ended)) -> Result<u32, Broken> {
        Qpair::poll(self, now_ns, end)
    }

    fn abandon(&mut self, why: &Broken) {
        if let Broken::Wire(error) = why {
            self.terminate(*error);
        }
        // Memory is only ever used within calls.
        self.drain(|_| {});
    }

    fn fd(&self) -> Option<RawFd> {
        Qpair::fd(self)
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        Qpair::next_deadline_ns(self)
    }
}

/// A queue pair of either fabric.
pub enum AnyQueuePair {
    /// Over TCP.
    Tcp(Box<Qpair<TcpSocket, u32>>),
    /// Over RDMA.
    Rdma(Box<RdmaQpair<u32>>),
}

macro_rules! either {
    ($self:expr, $qpair:ident => $body:expr) => {
        match $self {
            AnyQueuePair::Tcp($qpair) => $body,
            AnyQueuePair::Rdma($qpair) => $body,
        }
    };
}

impl QueuePair for AnyQueuePair {
    #[inline]
    fn has_room(&self) -> bool {
        either!(self, qpair => qpair.has_room())
    }

    #[inline]
    fn submit(&mut self, ticket: u32, sqe: Sqe, payload: Payload, deadline_ns: u64) {
        either!(self, qpair => qpair.submit(ticket, sqe, payload, deadline_ns));
    }

    #[inline]
    fn poll(&mut self, now_ns: u64, end: impl FnMut(u32, Ended)) -> Result<u32, Broken> {
        either!(self, qpair => qpair.poll(now_ns, end))
    }

    fn abandon(&mut self, why: &Broken) {
        match self {
            AnyQueuePair::Tcp(qpair) => qpair.abandon(why),
            AnyQueuePair::Rdma(qpair) => qpair.close(|_| {}),
        }
    }

    fn fd(&self) -> Option<RawFd> {
        either!(self, qpair => qpair.fd())
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        either!(self, qpair => qpair.next_deadline_ns())
    }
}

impl AnyQueuePair {
    /// Commands wait because a socket takes no more.
    pub(crate) fn is_blocked(&self) -> bool {
        match self {
            AnyQueuePair::Tcp(qpair) => qpair.is_blocked(),
            AnyQueuePair::Rdma(_) => false,
        }
    }

    /// Whether nothing is under way, so that it can be handed on.
    pub(crate) fn is_quiet(&self) -> bool {
        either!(self, qpair => qpair.is_quiet())
    }

    /// Whether whatever happens next makes the descriptor readable.
    pub(crate) fn may_sleep(&self) -> bool {
        match self {
            AnyQueuePair::Tcp(_) => true,
            AnyQueuePair::Rdma(qpair) => qpair.may_sleep(),
        }
    }

    /// Lets payloads lie in `memory`.
    pub(crate) fn lend(&mut self, memory: &Arc<Memory>) -> Result<(), String> {
        match self {
            AnyQueuePair::Tcp(_) => Ok(()),
            AnyQueuePair::Rdma(qpair) => qpair.lend(memory),
        }
    }

    /// With which another thread ends the connection.
    pub(crate) fn ender(&self) -> io::Result<Ender> {
        Ok(match self {
            AnyQueuePair::Tcp(qpair) => Ender::Tcp(qpair.socket().handle()?),
            AnyQueuePair::Rdma(qpair) => Ender::Rdma(qpair.cutter()),
        })
    }
}

/// Ends a connection from another thread than the one that uses it, which then notices.
pub(crate) enum Ender {
    /// A handle to the same connection.
    Tcp(TcpStream),
    /// The connection manager's.
    Rdma(Box<dyn Cutter>),
}

impl Ender {
    pub(crate) fn end(&self) {
        match self {
            // It may be gone already, which is what is wanted.
            Ender::Tcp(stream) => drop(stream.shutdown(Shutdown::Both)),
            Ender::Rdma(cutter) => cutter.cut(),
        }
    }
}
