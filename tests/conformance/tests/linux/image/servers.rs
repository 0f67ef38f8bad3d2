//! A server that takes logs and one that knows the time, on this machine's loopback: what the
//! emulator's network has at 10.0.2.2.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Seconds from 1900, where NTP begins, to 1970.
const EPOCHS_S: u64 = 2_208_988_800;

pub(super) struct Servers {
    pub(super) log_port: u16,
    pub(super) time_port: u16,
    log: Arc<Mutex<Vec<String>>>,
}

impl Servers {
    /// Starts both. They answer until this process ends.
    pub(super) fn start() -> Result<Servers, String> {
        let bound = || {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|e| e.to_string())?;
            let port = socket.local_addr().map_err(|error| error.to_string())?.port();
            Ok::<_, String>((socket, port))
        };
        let ((logs, log_port), (times, time_port)) = (bound()?, bound()?);
        let log = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut packet = [0; 2048];
            while let Ok(length) = logs.recv(&mut packet) {
                let line = String::from_utf8_lossy(&packet[..length]).into_owned();
                lines.lock().expect("nobody panics with it").push(line);
            }
        });
        std::thread::spawn(move || {
            let mut question = [0; 512];
            while let Ok((length, from)) = times.recv_from(&mut question) {
                if length >= 48 {
                    let _ = times.send_to(&answer(&question), from);
                }
            }
        });
        Ok(Servers { log_port, time_port, log })
    }

    /// Waits for a line of the log of today (RFC 5424, by the clock of who sent it) with both texts.
    pub(super) fn heard(&self, one: &str, other: &str, patience: Duration) -> Result<(), String> {
        let until = Instant::now() + patience;
        loop {
            let log = self.log.lock().expect("nobody panics with it");
            let found = log.iter().any(|line| {
                line.contains(one) && line.contains(other) && line.starts_with('<') && recent(line)
            });
            if found {
                return Ok(());
            }
            if Instant::now() > until {
                let last = &log[log.len().saturating_sub(20)..];
                return Err(format!("no log of today with {one}, {other}:\n{}", last.join("\n")));
            }
            drop(log);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Whether a line is from a clock that is less than an hour wrong: `<30>1 2026-01-01T...`.
fn recent(line: &str) -> bool {
    let Some(stamp) = line.split(' ').nth(1) else { return false };
    let date = std::process::Command::new("date").args(["-d", stamp, "+%s"]).output();
    let seconds = date.ok().and_then(|out| String::from_utf8(out.stdout).ok()?.trim().parse().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    seconds.is_some_and(|seconds: u64| now.abs_diff(seconds) < 3600)
}

/// The answer of a server of stratum 1 (RFC 4330).
fn answer(question: &[u8]) -> [u8; 48] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    let fraction = (u64::from(now.subsec_nanos()) << 32) / 1_000_000_000;
    let stamp = ((now.as_secs() + EPOCHS_S) << 32 | fraction).to_be_bytes();
    let mut packet = [0; 48];
    packet[..2].copy_from_slice(&[4 << 3 | 4, 1]);
    packet[24..32].copy_from_slice(&question[40..48]);
    packet[32..40].copy_from_slice(&stamp);
    packet[40..].copy_from_slice(&stamp);
    packet
}
