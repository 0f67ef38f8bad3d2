//! Which connections are ready, and which are new.

use crate::accept::Inbox;
use crate::socket::{Socket, TcpSocket};
use crate::sys::Epoll;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, RawFd};
use std::sync::Arc;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest {
    /// Bytes to receive; not while the connection is held back.
    pub read: bool,
    /// Room to send; only while a send is blocked.
    pub write: bool,
}

impl Interest {
    /// Bytes to receive.
    pub const READ: Interest = Interest { read: true, write: false };
}

/// A connection that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Its place.
    pub place: u16,
    /// There is something to receive, or an end to learn of.
    pub read: bool,
    /// There is room to send, or an error to learn of.
    pub write: bool,
}

/// A connection that has just come.
#[derive(Debug)]
pub struct Arrival<S> {
    /// The connection.
    pub socket: S,
    /// The host's end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
}

/// The source of connections and of their readiness. The simulator has its own.
pub trait Poller: Send {
    /// The connections.
    type Socket: Socket;

    /// The next new connection.
    fn accept(&mut self) -> Option<Arrival<Self::Socket>>;

    /// Watches a connection for [`Interest::READ`].
    ///
    /// # Errors
    /// The kernel's, when it is out of memory or watches.
    fn add(&mut self, place: u16, socket: &Self::Socket) -> io::Result<()>;

    /// Watches a connection, watched already, for something else.
    fn change(&mut self, place: u16, socket: &Self::Socket, interest: Interest);

    /// Ends watching a connection.
    fn remove(&mut self, place: u16, socket: &Self::Socket);

    /// Appends what is ready now. What is ready and not taken care of is reported again.
    fn ready(&mut self, out: &mut Vec<Ready>);

    /// A descriptor that is readable while something is ready or new.
    fn fd(&self) -> Option<RawFd> {
        None
    }
}

const INBOX: u64 = u64::MAX;
const READ: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP) as u32;
const WRITE: u32 = libc::EPOLLOUT as u32;
const GONE: u32 = (libc::EPOLLERR | libc::EPOLLHUP) as u32;

/// Readiness by epoll, new connections from an [`Inbox`].
#[derive(Debug)]
pub struct EpollPoller {
    epoll: Epoll,
    inbox: Arc<Inbox>,
}

impl EpollPoller {
    /// Watches `inbox`.
    ///
    /// # Errors
    /// The kernel's, when it is out of descriptors.
    pub fn new(inbox: Arc<Inbox>) -> io::Result<EpollPoller> {
        let epoll = Epoll::new()?;
        epoll.add(inbox.as_fd(), libc::EPOLLIN as u32, INBOX)?;
        Ok(EpollPoller { epoll, inbox })
    }
}

impl Poller for EpollPoller {
    type Socket = TcpSocket;

    fn accept(&mut self) -> Option<Arrival<TcpSocket>> {
        self.inbox.take()
    }

    fn add(&mut self, place: u16, socket: &TcpSocket) -> io::Result<()> {
        self.epoll.add(socket.as_fd(), READ, u64::from(place))
    }

    fn change(&mut self, place: u16, socket: &TcpSocket, interest: Interest) {
        let read = if interest.read { READ } else { 0 };
        let write = if interest.write { WRITE } else { 0 };
        let changed = self.epoll.change(socket.as_fd(), read | write, u64::from(place));
        changed.expect("a connection is watched until it is removed");
    }

    fn remove(&mut self, _place: u16, socket: &TcpSocket) {
        let removed = self.epoll.remove(socket.as_fd());
        removed.expect("a connection is watched until it is removed");
    }

    fn ready(&mut self, out: &mut Vec<Ready>) {
        let ready = self.epoll.ready(|events, token| {
            // The inbox is looked at in every turn anyway.
            if token != INBOX {
                let gone = events & GONE != 0;
                let read = gone || events & READ != 0;
                let write = gone || events & WRITE != 0;
                out.push(Ready { place: token as u16, read, write });
            }
        });
        match ready {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                panic!("epoll on an open descriptor failed: {error}")
            }
            _ => {}
        }
    }

    fn fd(&self) -> Option<RawFd> {
        Some(self.epoll.fd())
    }
}
