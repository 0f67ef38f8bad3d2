//! New connections: asked for on a thread of their own, handed to the reactors.

use super::cm::{CmEvent, CmId, EventChannel};
use super::devices::Hardware;
use crate::private_data::{Ask, Queues};
use bdev::sleep::{Signal, Sleeper};
use nvmf_wire::rdma::Reject;
use rdma_mummy_sys::rdma_cm_event_type as kind;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use zerocopy::IntoBytes;

/// Says whether there may be one more connection, from the host's end to ours; what it gives is
/// handed on with the connection.
pub type Admit<A> = Arc<dyn Fn(SocketAddr, SocketAddr) -> Option<A> + Send + Sync>;

/// A connection that waits to be accepted.
pub struct Request {
    pub(super) id: CmId,
    pub(super) load: Load,
}

/// What waits in an inbox.
pub(super) struct Waiting<A> {
    pub(super) request: Request,
    pub(super) port: u8,
    pub(super) ask: Ask,
    pub(super) admission: A,
}

/// One connection in its reactor's count, as long as it is open.
pub(super) struct Load(Arc<AtomicU32>);

impl Load {
    fn one_more(count: &Arc<AtomicU32>) -> Load {
        count.fetch_add(1, Ordering::Relaxed);
        Load(count.clone())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where connections wait for their reactor, and where their events come.
pub struct Inbox<A> {
    /// Written after the queue, so that a look at it is enough to find an empty inbox.
    waiting: AtomicBool,
    /// Before the channel: identifiers are destroyed first.
    queue: Mutex<VecDeque<Waiting<A>>>,
    load: Arc<AtomicU32>,
    pub(super) signal: Signal,
    pub(super) channel: EventChannel,
}

impl<A> Inbox<A> {
    /// An empty one.
    ///
    /// # Errors
    /// The kernel's, when it is out of descriptors or the connection manager is not there.
    pub fn new() -> io::Result<Arc<Inbox<A>>> {
        Ok(Arc::new(Inbox {
            waiting: AtomicBool::new(false),
            queue: Mutex::new(VecDeque::new()),
            load: Arc::new(AtomicU32::new(0)),
            signal: Signal::new()?,
            channel: EventChannel::new()?,
        }))
    }

    fn push(&self, waiting: Waiting<A>) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(waiting);
        self.waiting.store(true, Ordering::Release);
        self.signal.raise();
    }

    /// The connection that has waited longest.
    pub(super) fn take(&self) -> Option<Waiting<A>> {
        if !self.waiting.load(Ordering::Acquire) {
            return None;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = queue.pop_front();
        if queue.is_empty() {
            self.waiting.store(false, Ordering::Release);
            self.signal.clear();
        }
        waiting
    }
}

/// Where to listen.
#[derive(Clone, Copy, Debug)]
pub struct Listened {
    /// The address.
    pub at: SocketAddr,
    /// It is `::`, and leaves IPv4 to another.
    pub only_ipv6: bool,
}

struct Stop {
    asked: AtomicBool,
    signal: Signal,
}

/// A thread that listens on an address and hands each connection to the reactor that has the
/// fewest. Ends when dropped.
pub struct Acceptor {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Starts listening, for a target with these queues.
    ///
    /// # Errors
    /// The connection manager's: the address is taken, or none of an RDMA device.
    ///
    /// # Panics
    /// Without an inbox.
    pub fn start<A: Send + 'static>(
        hardware: &Arc<Hardware>,
        address: Listened,
        inboxes: Vec<Arc<Inbox<A>>>,
        admit: Admit<A>,
        queues: Queues,
    ) -> io::Result<Acceptor> {
        assert!(!inboxes.is_empty(), "nobody to hand connections to");
        let channel = EventChannel::new()?;
        let listener = CmId::listen(&channel, address.at, address.only_ipv6)?;
        let stop = Arc::new(Stop { asked: AtomicBool::new(false), signal: Signal::new()? });
        let work = Work {
            _listener: listener,
            channel,
            hardware: hardware.clone(),
            inboxes,
            admit,
            queues,
            stop: stop.clone(),
            turn: 0,
        };
        let thread = std::thread::Builder::new().name("rdma".into()).spawn(|| work.run())?;
        Ok(Acceptor { stop, thread: Some(thread) })
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stop.asked.store(true, Ordering::Relaxed);
        self.stop.signal.raise();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the acceptor ends without a panic");
        }
    }
}

struct Work<A> {
    /// Before the channel: destroyed first.
    _listener: CmId,
    channel: EventChannel,
    hardware: Arc<Hardware>,
    inboxes: Vec<Arc<Inbox<A>>>,
    admit: Admit<A>,
    queues: Queues,
    stop: Arc<Stop>,
    turn: usize,
}

impl<A> Work<A> {
    fn run(mut self) {
        let mut sleeper = Sleeper::default();
        while !self.stop.asked.load(Ordering::Relaxed) {
            while let Some(event) = self.channel.next() {
                if event.kind == kind::RDMA_CM_EVENT_CONNECT_REQUEST {
                    self.asked(&event);
                }
            }
            sleeper.until_readable(self.channel.fd().as_raw_fd());
            sleeper.until_readable(self.stop.signal.fd());
            // An error is an early wake-up.
            let _ = sleeper.sleep(None);
        }
    }

    /// Hands a request to the reactor with the fewest connections, in turn among equals, or tells
    /// the host why not.
    fn asked(&mut self, event: &CmEvent) {
        let id = CmId::of_request(event);
        // SAFETY: the identifier is ours, and has been given its device.
        let ctx = unsafe { (*id.raw()).verbs };
        let taken = self.hardware.find(ctx).ok_or(Reject::NoResources).and_then(|port| {
            let ask = Ask::parse(&event.data[..event.data_bytes], event.reads, &self.queues)?;
            let (peer, local) = id.ends();
            let admission = (self.admit)(peer, local).ok_or(Reject::NoResources)?;
            Ok((port, ask, admission))
        });
        let (port, ask, admission) = match taken {
            Ok(taken) => taken,
            Err(why) => return id.reject(why.private_data().as_bytes()),
        };
        let count = self.inboxes.len();
        self.turn = (self.turn + 1) % count;
        let order = (0..count).map(|at| &self.inboxes[(self.turn + at) % count]);
        let least = order.min_by_key(|inbox| inbox.load.load(Ordering::Relaxed));
        let inbox = least.expect("there is one");
        if id.migrate(&inbox.channel).is_err() {
            return id.reject(Reject::NoResources.private_data().as_bytes());
        }
        let request = Request { id, load: Load::one_more(&inbox.load) };
        inbox.push(Waiting { request, port, ask, admission });
    }
}
