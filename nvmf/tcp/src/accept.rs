//! New connections: accepted on a thread of their own, handed to the reactors.

use crate::inbox::Inbox;
use crate::socket::SocketOptions;
use bdev::sleep::{Signal, Sleeper};
use nvmf::places::{Crowded, Places};
use nvmf::registry::Serves;
use nvmf::transport::Origin;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

struct Stop {
    asked: AtomicBool,
    signal: Signal,
}

/// A thread that accepts connections on a listener and hands each to the reactor that has the
/// fewest. Ends when dropped.
pub struct Acceptor {
    address: SocketAddr,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Starts accepting what comes to a listener that has this behind it.
    ///
    /// # Errors
    /// The kernel's: an option that cannot be set, or no thread or descriptor to be had.
    ///
    /// # Panics
    /// Without an inbox.
    pub fn start(
        listener: TcpListener,
        serves: Serves,
        inboxes: Vec<Arc<Inbox>>,
        places: Arc<Places>,
        options: &SocketOptions,
    ) -> io::Result<Acceptor> {
        assert!(!inboxes.is_empty(), "nobody to hand connections to");
        listener.set_nonblocking(true)?;
        options.apply(listener.as_fd())?;
        let address = listener.local_addr()?;
        let stop = Arc::new(Stop { asked: AtomicBool::new(false), signal: Signal::new()? });
        let spare = Some(Signal::new()?);
        let (turn, short, crowded) = (0, false, Told::default());
        let work = Work {
            listener,
            serves,
            inboxes,
            places,
            stop: stop.clone(),
            turn,
            spare,
            short,
            crowded,
        };
        let thread = std::thread::Builder::new().name("acceptor".into()).spawn(|| work.run())?;
        Ok(Acceptor { address, stop, thread: Some(thread) })
    }

    /// The address listened on, with the port that the kernel chose.
    pub fn address(&self) -> SocketAddr {
        self.address
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

struct Work {
    listener: TcpListener,
    serves: Serves,
    inboxes: Vec<Arc<Inbox>>,
    places: Arc<Places>,
    stop: Arc<Stop>,
    turn: usize,
    /// A descriptor to give up when the process has no other left: a connection that cannot be
    /// served is closed, and its host told, instead of left waiting for an answer.
    spare: Option<Signal>,
    /// Connections are being turned away for lack of descriptors; it is logged once.
    short: bool,
    crowded: Told,
}

/// How long nothing more is logged of connections for which there is no place.
const TOLD_FOR: Duration = Duration::from_secs(60);

/// What the log was told of connections for which there is no place, once a minute.
#[derive(Default)]
struct Told {
    at: Option<Instant>,
    untold: u64,
}

impl Told {
    fn refused(&mut self, peer: SocketAddr, why: Crowded) {
        self.untold += 1;
        if self.at.is_some_and(|at| at.elapsed() < TOLD_FOR) {
            return;
        }
        self.at = Some(Instant::now());
        let count = std::mem::take(&mut self.untold);
        match why {
            Crowded::All => tracing::warn!(%peer, count, "all connections are in use"),
            Crowded::Address => {
                tracing::warn!(%peer, count, "the address has all connections that it may have")
            }
        }
    }
}

impl Work {
    fn run(mut self) {
        let mut sleeper = Sleeper::default();
        while !self.stop.asked.load(Ordering::Relaxed) {
            sleeper.until_readable(self.stop.signal.fd());
            sleeper.until_readable(self.listener.as_raw_fd());
            let ready = sleeper.sleep(None);
            if let Err(error) = ready.and_then(|_| self.accept_all()) {
                // Out of memory, or of descriptors with none to give up. The connection waits in
                // the kernel; trying again at once would only burn the core.
                tracing::warn!(%error, "a connection cannot be accepted");
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        // Those whose connections stand already are not cut off with the listener.
        let _ = self.accept_all();
    }

    fn accept_all(&mut self) -> io::Result<()> {
        if self.spare.is_none() {
            self.spare = Some(Signal::new()?);
        }
        loop {
            match self.listener.accept() {
                Ok((stream, peer)) => {
                    self.short = false;
                    self.hand_over(stream, peer);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The peer gave up while it waited.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => match (error.raw_os_error(), self.spare.take()) {
                    (Some(libc::EMFILE | libc::ENFILE), Some(spare)) => {
                        drop(spare);
                        if !self.turn_away(&error)? {
                            return Ok(());
                        }
                    }
                    (_, spare) => {
                        self.spare = spare;
                        return Err(error);
                    }
                },
            }
        }
    }

    /// Closes the connection that has waited longest, with the descriptor that was spared for it.
    /// False if none waits: without descriptors the kernel does not look.
    fn turn_away(&mut self, why: &io::Error) -> io::Result<bool> {
        let accepted = self.listener.accept();
        let waited = accepted.is_ok();
        if let Ok((_, peer)) = &accepted {
            self.places.turn_away();
            if !std::mem::replace(&mut self.short, true) {
                tracing::warn!(%peer, error = %why, "connections are turned away");
            }
        }
        drop(accepted);
        self.spare = Some(Signal::new()?);
        Ok(waited)
    }

    /// Gives a connection to the reactor with the fewest, in turn among equals. One too many, or
    /// broken already, is closed by being dropped.
    fn hand_over(&mut self, stream: TcpStream, peer: SocketAddr) {
        let Ok(local) = stream.local_addr() else { return };
        let place = match self.places.take(peer.ip()) {
            Ok(place) => place,
            Err(why) => return self.crowded.refused(peer, why),
        };
        let origin = Origin { peer, local, serves: self.serves, place };
        let count = self.inboxes.len();
        self.turn = (self.turn + 1) % count;
        let order = (0..count).map(|i| &self.inboxes[(self.turn + i) % count]);
        if let Some(inbox) = order.min_by_key(|inbox| inbox.load()) {
            let _ = inbox.push(stream, origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvmf::places::PlaceLimits;
    use rustix::net::sockopt;
    use rustix::process::Resource;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};

    fn start(
        listener: TcpListener,
        inboxes: &[Arc<Inbox>],
        places: &Arc<Places>,
        options: &SocketOptions,
    ) -> io::Result<Acceptor> {
        let (inboxes, places) = (inboxes.to_vec(), places.clone());
        Acceptor::start(listener, Serves::Everything, inboxes, places, options)
    }

    fn wait_for(what: impl Fn() -> bool) {
        while !what() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn connections_spread_over_reactors_and_a_surplus_one_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let inboxes = vec![Inbox::new().unwrap(), Inbox::new().unwrap()];
        let places = Places::new(PlaceLimits { each: 4, ..PlaceLimits::of(4) });
        let options = SocketOptions { congestion: Some("reno".into()), ..Default::default() };
        let acceptor = start(listener, &inboxes, &places, &options).unwrap();
        let address = acceptor.address();
        let mut clients: Vec<TcpStream> = Vec::new();
        for count in 1..=4 {
            clients.push(TcpStream::connect(address).unwrap());
            wait_for(|| places.open() == count);
        }
        wait_for(|| inboxes.iter().map(|i| i.load()).sum::<u32>() == 4);
        assert_eq!([inboxes[0].load(), inboxes[1].load()], [2, 2]);

        let mut surplus = TcpStream::connect(address).unwrap();
        assert!(matches!(surplus.read(&mut [0]), Ok(0) | Err(_)));
        assert_eq!((places.open(), places.refused()), (4, 1));

        let arrival = inboxes[0].take().unwrap();
        assert_eq!(crate::socket::congestion(arrival.socket.as_fd()).unwrap(), "reno");
        let socket = arrival.socket.as_fd();
        assert!(sockopt::socket_keepalive(socket).unwrap());
        assert_eq!(sockopt::tcp_keepidle(socket).unwrap(), Duration::from_secs(15));
        assert_eq!(sockopt::tcp_user_timeout(socket).unwrap(), 30_000);
        drop(arrival);
        assert_eq!((places.open(), inboxes[0].load()), (3, 1));
        assert!(inboxes[0].take().is_some());
        assert!(inboxes[0].take().is_none());
    }

    /// In a process of its own (nextest), since it uses up the descriptors of all of it.
    #[test]
    fn without_descriptors_a_connection_is_closed_and_later_ones_are_served() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (inbox, places) = (Inbox::new().unwrap(), Places::new(PlaceLimits::of(4)));
        let options = SocketOptions::default();
        let inboxes = vec![inbox.clone()];
        let acceptor = start(listener, &inboxes, &places, &options).unwrap();
        let address = acceptor.address();
        let script = format!("read; exec 3<>/dev/tcp/127.0.0.1/{}; cat <&3", address.port());
        let mut host = Command::new("bash");
        let mut host = host.arg("-c").arg(script).stdin(Stdio::piped()).spawn().unwrap();
        let mut all = rustix::process::getrlimit(Resource::Nofile);
        all.current = Some(64);
        rustix::process::setrlimit(Resource::Nofile, all).unwrap();
        let mut hoard = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            hoard.push(file);
        }
        // Kept, since its descriptor would be one to accept with.
        let mut stdin = host.stdin.take().unwrap();
        stdin.write_all(b"\n").unwrap();
        host.wait().unwrap();
        assert_eq!((places.open(), places.refused()), (0, 1), "it was told, and is not waiting");
        drop(hoard);
        let _served = TcpStream::connect(address).unwrap();
        wait_for(|| places.open() == 1);
    }

    #[test]
    fn an_unknown_congestion_control_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let options = SocketOptions { congestion: Some("none".into()), ..Default::default() };
        let inboxes = vec![Inbox::new().unwrap()];
        assert!(start(listener, &inboxes, &Places::new(PlaceLimits::of(1)), &options).is_err());
    }
}
