//! The log: everything goes to the kernel's ring buffer, which shows what is urgent on the console
//! and is what is left after a crash; from there it goes to a log server.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{ToSocketAddrs, UdpSocket};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Severities of syslog.
pub const ERROR: u8 = 3;
/// Likewise.
pub const WARNING: u8 = 4;
/// Likewise.
pub const INFO: u8 = 6;
/// Likewise.
pub const DEBUG: u8 = 7;

/// Facility `daemon`: what user space says.
const DAEMON: u8 = 3;
/// A record of the kernel's has room for about 1,000 bytes.
const RECORD: usize = 900;
const PATH: &str = "/dev/kmsg";

/// Puts text into the log.
pub fn write(severity: u8, text: &str) {
    let Ok(mut log) = OpenOptions::new().write(true).open(PATH) else { return };
    for line in text.lines() {
        let mut rest = line;
        loop {
            let mut end = rest.len().min(RECORD);
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            let (part, later) = rest.split_at(end);
            // There is nobody to tell that there is no log.
            let _ =
                log.write_all(format!("<{}>forebay: {part}\n", DAEMON * 8 + severity).as_bytes());
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
    }
}

/// Takes the lines of a program into the log, on a thread of its own, until it closes them.
pub fn take(lines: impl Read + Send + 'static) {
    let copy = move || {
        let mut lines = BufReader::new(lines);
        let mut line = Vec::new();
        // A line that never ends is cut.
        while matches!((&mut lines).take(1 << 16).read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end();
            write(severity_of(text), text);
            line.clear();
        }
    };
    // Without it the program stops once the pipe is full: then nothing works any more.
    std::thread::Builder::new().name("log".into()).spawn(copy).expect("a thread can be made");
}

/// What `tracing` put in front: the time, then the level.
fn severity_of(line: &str) -> u8 {
    match line.split_ascii_whitespace().nth(1) {
        Some("ERROR") => ERROR,
        Some("WARN") => WARNING,
        Some("INFO") => INFO,
        Some("DEBUG" | "TRACE") => DEBUG,
        // A panic, an allocation that failed.
        _ => WARNING,
    }
}

/// A record as it is read: `6,339,5140900,-;text`, with lines of more behind it.
struct Record<'a> {
    priority: u32,
    at_us: u64,
    text: &'a str,
}

impl Record<'_> {
    fn read(record: &str) -> Option<Record<'_>> {
        let (head, text) = record.split_once(';')?;
        let mut fields = head.split(',');
        let priority = fields.next()?.parse().ok()?;
        let at_us = fields.nth(1)?.parse().ok()?;
        Some(Record { priority, at_us, text: text.lines().next().unwrap_or("") })
    }
}

/// Calls `each` with records, from the oldest on. Returns when there are none, or not at all.
fn read(follow: bool, mut each: impl FnMut(Record<'_>)) -> std::io::Result<()> {
    let flags = if follow { 0 } else { rustix::fs::OFlags::NONBLOCK.bits() as i32 };
    let mut log = OpenOptions::new().read(true).custom_flags(flags).open(PATH)?;
    let mut record = [0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&record[..length]);
                if let Some(record) = Record::read(&text) {
                    each(record);
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            // Records were overwritten before they were read.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The end of the log: `bytes` of it, where there is so much, and at most twice as much.
pub fn tail(bytes: usize) -> String {
    let mut text = String::new();
    let kept = read(false, |record| {
        let (seconds, micros) = (record.at_us / 1_000_000, record.at_us % 1_000_000);
        text.push_str(&format!("[{seconds:5}.{micros:06}] {}\n", record.text));
        if text.len() > 2 * bytes {
            let from = text.len() - bytes;
            let from = text[from..].find('\n').map_or(from, |line| from + line + 1);
            text.drain(..from);
        }
    });
    if let Err(error) = kept {
        text.push_str(&format!("The log cannot be read: {error}.\n"));
    }
    text
}

/// Sends the log to a server, by UDP as RFC 5424 has it, on a thread of its own.
///
/// # Errors
/// A sentence: there is no such address.
pub fn forward(server: &str, hostname: &str) -> Result<(), String> {
    let server = if server.contains(':') { server.to_owned() } else { format!("{server}:514") };
    let hostname = hostname.to_owned();
    let send = move || {
        let socket = loop {
            // A name is resolved again until there is a network.
            let made =
                server.to_socket_addrs().ok().and_then(|mut all| all.next()).and_then(|to| {
                    let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                    let socket = UdpSocket::bind(from).ok()?;
                    socket.connect(to).ok()?;
                    Some(socket)
                });
            match made {
                Some(socket) => break socket,
                None => std::thread::sleep(Duration::from_secs(5)),
            }
        };
        let _ = read(true, |record| {
            let now = humantime::format_rfc3339_micros(SystemTime::now());
            let message =
                format!("<{}>1 {now} {hostname} forebay - - - {}", record.priority, record.text);
            // Nobody who listens is nothing that could be told.
            let _ = socket.send(message.as_bytes());
        });
    };
    let made = std::thread::Builder::new().name("syslog".into()).spawn(send);
    made.map(drop).map_err(|error| format!("The log cannot be forwarded: {error}."))
}

/// Puts text on every console, past the log: secrets are seen there and kept nowhere.
pub fn console(text: &str) {
    let active = std::fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
    let mut names: Vec<&str> = active.split_ascii_whitespace().collect();
    if names.is_empty() {
        names.push("console");
    }
    for name in names {
        if let Ok(mut console) = File::options().write(true).open(Path::new("/dev").join(name)) {
            let _ = console.write_all(format!("{text}\n").as_bytes());
        }
    }
}

/// Puts the lines of a program on every console, on a thread of its own, until it closes them.
pub fn show(lines: impl Read + Send + 'static) {
    let copy = move || {
        for line in BufReader::new(lines).lines().map_while(Result::ok) {
            console(&line);
        }
    };
    std::thread::Builder::new().name("console".into()).spawn(copy).expect("a thread can be made");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read() {
        let record = Record::read("30,339,5140900,-;forebay: hello\n SUBSYSTEM=x\n").unwrap();
        assert_eq!((record.priority, record.at_us, record.text), (30, 5_140_900, "forebay: hello"));
        for text in ["", ";", "a,b,c;d", "1,2;x"] {
            assert!(Record::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn levels_are_severities() {
        assert_eq!(severity_of("2026-01-01T00:00:00Z  WARN a: b"), WARNING);
        assert_eq!(severity_of("2026-01-01T00:00:00Z  INFO a: b"), INFO);
        assert_eq!(severity_of("thread 'main' panicked at"), WARNING);
    }
}
