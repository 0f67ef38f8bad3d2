//! Lines to the machine's log: syslog, or journald, which answers at the same socket.
//!
//! The crate `syslog` (7.0) blocks whoever logs, and does not connect again when the daemon was
//! started again; what is left of it is the line below.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

/// Where the machine's log daemon listens.
pub const SOCKET: &str = "/dev/log";
/// Facility authpriv, severity notice (RFC 5424, 6.2.1).
const PRIORITY: u32 = 10 * 8 + 5;
/// Lines that wait for the daemon.
const WAITING: usize = 1024;
/// How long to wait for a daemon that is not there.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a daemon may take for a line.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends lines on a thread of its own.
pub struct Syslog {
    lines: SyncSender<Vec<u8>>,
    lost: Arc<AtomicU64>,
}

impl Syslog {
    /// Sends to the daemon at this socket, which need not be there yet.
    ///
    /// # Errors
    /// There is no thread.
    pub fn start(socket: &Path) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let (socket, counter) = (socket.to_owned(), Arc::clone(&lost));
        let send = move || send_all(&socket, &waiting, &counter);
        std::thread::Builder::new().name("syslog".into()).spawn(send)?;
        Ok(Self { lines, lost })
    }

    /// Hands over a line, and never waits: where too many wait already it is lost, and counted.
    pub fn send(&self, line: &[u8]) {
        if self.lines.try_send(line.to_vec()).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that were lost.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

fn connect(socket: &PathBuf) -> io::Result<UnixDatagram> {
    let made = UnixDatagram::unbound()?;
    made.connect(socket)?;
    made.set_write_timeout(Some(PATIENCE))?;
    Ok(made)
}

/// Sends what comes until nobody is left who would send.
fn send_all(socket: &PathBuf, waiting: &Receiver<Vec<u8>>, lost: &AtomicU64) {
    let mut connected = None;
    let pid = std::process::id();
    for line in waiting {
        let message = [format!("<{PRIORITY}>forebay[{pid}]: ").as_bytes(), &line].concat();
        loop {
            let Some(daemon) = connected.as_ref() else {
                connected = connect(socket).ok();
                if connected.is_none() {
                    std::thread::sleep(PAUSE);
                }
                continue;
            };
            match UnixDatagram::send(daemon, &message) {
                Ok(_) => break,
                Err(error)
                    if rustix::io::Errno::from_io_error(&error)
                        == Some(rustix::io::Errno::MSGSIZE) =>
                {
                    lost.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                // It was started again.
                Err(_) => connected = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_starts_again_gets_what_comes_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let syslog = Syslog::start(&path).unwrap();
        syslog.send(b"first");
        let read = |daemon: &UnixDatagram| {
            let mut bytes = [0; 256];
            let length = daemon.recv(&mut bytes).unwrap();
            String::from_utf8(bytes[..length].to_vec()).unwrap()
        };
        let daemon = UnixDatagram::bind(&path).unwrap();
        assert_eq!(read(&daemon), format!("<85>forebay[{}]: first", std::process::id()));
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        syslog.send(b"second");
        let daemon = UnixDatagram::bind(&path).unwrap();
        assert!(read(&daemon).ends_with(": second"));
        assert_eq!(syslog.lost(), 0);
    }

    #[test]
    fn nobody_waits_for_a_daemon_that_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let syslog = Syslog::start(&folder.path().join("log")).unwrap();
        (0..2000).for_each(|_| syslog.send(b"line"));
        assert!((970..=976).contains(&syslog.lost()), "{}", syslog.lost());
    }
}
