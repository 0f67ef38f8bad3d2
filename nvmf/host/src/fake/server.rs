//! Fake targets behind a real socket on loopback.

use super::{Fake, Knobs, Storage};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A listener whose connections each speak to a [`Fake`].
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) storage: Arc<Mutex<Storage>>,
    shared: Arc<Shared>,
}

struct Shared {
    stop: AtomicBool,
    refuse: AtomicBool,
    accepted: AtomicUsize,
    streams: Mutex<Vec<TcpStream>>,
}

impl Server {
    pub(crate) fn start(knobs: Knobs, storage: Arc<Mutex<Storage>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            refuse: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            streams: Mutex::new(Vec::new()),
        });
        let (seen, keep) = (shared.clone(), storage.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if seen.stop.load(Ordering::SeqCst) {
                    return;
                }
                if seen.refuse.load(Ordering::SeqCst) {
                    continue;
                }
                seen.accepted.fetch_add(1, Ordering::SeqCst);
                stream.set_nodelay(true).unwrap();
                seen.streams.lock().unwrap().push(stream.try_clone().unwrap());
                let fake = Fake::new(knobs.clone(), keep.clone());
                std::thread::spawn(move || serve(stream, fake));
            }
        });
        Server { address, storage, shared }
    }

    /// Ends every connection.
    pub(crate) fn cut(&self) {
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Closes new connections at once, or no longer.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.shared.refuse.store(refuse, Ordering::SeqCst);
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the listener, so that its thread ends.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(mut stream: TcpStream, mut fake: Fake) {
    // Events come without a command that asks: look for them now and then.
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut bytes = vec![0; 1 << 16];
    while fake.failed.is_none() {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(n) => fake.receive(&bytes[..n]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => return,
        }
        while let Some(pdu) = fake.next_pdu() {
            if stream.write_all(&pdu).is_err() {
                return;
            }
        }
    }
}
