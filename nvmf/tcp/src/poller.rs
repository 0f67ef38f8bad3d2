//! Which connections are ready, and which are new.

use crate::inbox::Inbox;
use crate::limits::EPOLL_EVENTS;
use crate::socket::{Arrival, Socket, TcpSocket};
use rustix::event::Timespec;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
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
const READ: EventFlags = EventFlags::IN.union(EventFlags::RDHUP);
const WRITE: EventFlags = EventFlags::OUT;
const GONE: EventFlags = EventFlags::ERR.union(EventFlags::HUP);

/// Readiness by epoll, new connections from an [`Inbox`].
#[derive(Debug)]
pub struct EpollPoller {
    epoll: OwnedFd,
    inbox: Arc<Inbox>,
}

impl EpollPoller {
    /// Watches `inbox`.
    ///
    /// # Errors
    /// The kernel's, when it is out of descriptors.
    pub fn new(inbox: Arc<Inbox>) -> io::Result<EpollPoller> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, inbox.as_fd(), EventData::new_u64(INBOX), EventFlags::IN)?;
        Ok(EpollPoller { epoll, inbox })
    }
}

/// By which readiness of the connection in `place` is reported.
fn token(place: u16) -> EventData {
    EventData::new_u64(place.into())
}

impl Poller for EpollPoller {
    type Socket = TcpSocket;

    fn accept(&mut self) -> Option<Arrival<TcpSocket>> {
        self.inbox.take()
    }

    fn add(&mut self, place: u16, socket: &TcpSocket) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, socket, token(place), READ)?)
    }

    fn change(&mut self, place: u16, socket: &TcpSocket, interest: Interest) {
        let mut events = EventFlags::empty();
        events.set(READ, interest.read);
        events.set(WRITE, interest.write);
        let changed = epoll::modify(&self.epoll, socket, token(place), events);
        changed.expect("a connection is watched until it is removed");
    }

    fn remove(&mut self, _place: u16, socket: &TcpSocket) {
        let removed = epoll::delete(&self.epoll, socket);
        removed.expect("a connection is watched until it is removed");
    }

    fn ready(&mut self, out: &mut Vec<Ready>) {
        let mut room = [const { MaybeUninit::<Event>::uninit() }; EPOLL_EVENTS];
        let at_once = Timespec::default();
        let events = match epoll::wait(&self.epoll, &mut room, Some(&at_once)) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return,
            Err(error) => panic!("epoll on an open descriptor failed: {error}"),
        };
        for event in events {
            let (flags, token) = (event.flags, event.data.u64());
            // The inbox is looked at in every turn anyway.
            if token != INBOX {
                let gone = flags.intersects(GONE);
                let read = gone || flags.intersects(READ);
                let write = gone || flags.intersects(WRITE);
                out.push(Ready { place: token as u16, read, write });
            }
        }
    }

    fn fd(&self) -> Option<RawFd> {
        Some(self.epoll.as_raw_fd())
    }
}
