//! Where new connections wait for their reactor.

use crate::load::Load;
use crate::socket::{Arrival, TcpSocket};
use bdev::sleep::Signal;
use nvmf::transport::Origin;
use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Where new connections wait for their reactor. It signals through a descriptor, so that a
/// reactor that sleeps is woken.
#[derive(Debug)]
pub struct Inbox {
    /// Written after the queue, so that a look at it is enough to find an empty inbox.
    waiting: AtomicBool,
    queue: Mutex<VecDeque<Arrival<TcpSocket>>>,
    signal: Signal,
    load: Arc<AtomicU32>,
}

impl Inbox {
    /// An empty one.
    ///
    /// # Errors
    /// The kernel's, when it is out of descriptors.
    pub fn new() -> io::Result<Arc<Inbox>> {
        Ok(Arc::new(Inbox {
            waiting: AtomicBool::new(false),
            queue: Mutex::new(VecDeque::new()),
            signal: Signal::new()?,
            load: Arc::new(AtomicU32::new(0)),
        }))
    }

    /// Connections of this reactor, waiting or open.
    pub fn load(&self) -> u32 {
        self.load.load(Ordering::Relaxed)
    }

    /// Hands over a connection.
    ///
    /// # Errors
    /// The kernel's, when the connection is broken already.
    pub fn push(&self, stream: TcpStream, origin: Origin) -> io::Result<()> {
        let socket = TcpSocket::new(stream, Load::one_more(&self.load))?;
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_back(Arrival { socket, origin });
        self.waiting.store(true, Ordering::Release);
        self.signal.raise();
        Ok(())
    }

    /// The connection that has waited longest.
    pub fn take(&self) -> Option<Arrival<TcpSocket>> {
        if !self.waiting.load(Ordering::Acquire) {
            return None;
        }
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let arrival = queue.pop_front();
        if queue.is_empty() {
            self.waiting.store(false, Ordering::Release);
            self.signal.clear();
        }
        arrival
    }
}

impl AsFd for Inbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }
}
