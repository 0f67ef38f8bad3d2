//! The time of day. The kernel starts with that of the machine's clock; a time server corrects it
//! (SNTP, RFC 4330).

use crate::kmsg;
use rustix::time::{ClockId, Timespec, clock_settime};
use std::net::{ToSocketAddrs, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds from 1900, where NTP begins, to 1970.
const EPOCHS_S: u64 = 2_208_988_800;
/// A clock is set where it is wrong by more.
const TOLERATED_NS: i128 = 100_000_000;
const AGAIN: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(3);

/// Keeps the clock by the first of these servers that answers, on a thread of its own. `servers` is
/// asked each time, for networks come and go.
pub fn keep(servers: impl Fn() -> Vec<String> + Send + 'static) {
    let run = move || {
        loop {
            let set = servers().iter().find_map(|server| correct(server).ok());
            if let Some(Some(sentence)) = &set {
                kmsg::write(kmsg::INFO, sentence);
            }
            std::thread::sleep(if set.is_some() { AGAIN } else { Duration::from_secs(20) });
        }
    };
    // Without it the machine's clock is what there is.
    let _ = std::thread::Builder::new().name("time".into()).spawn(run);
}

/// Asks one server, and sets the clock if it is wrong: what was done, if anything.
fn correct(server: &str) -> Result<Option<String>, String> {
    let say = |error: std::io::Error| format!("{server}: {error}");
    let with_port = if server.contains(':') { server.to_owned() } else { format!("{server}:123") };
    let to = with_port.to_socket_addrs().map_err(say)?.next().ok_or("no address")?;
    let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(from).map_err(say)?;
    socket.connect(to).map_err(say)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(say)?;
    let sent_ns = now_ns();
    socket.send(&question(sent_ns)).map_err(say)?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).map_err(say)?;
    let offset_ns = offset_ns(&answer[..length], sent_ns, now_ns())
        .ok_or_else(|| format!("{server}: it does not know the time"))?;
    if offset_ns.abs() <= TOLERATED_NS {
        return Ok(None);
    }
    let right_ns = now_ns() + offset_ns;
    let time = Timespec {
        tv_sec: (right_ns / 1_000_000_000) as i64,
        tv_nsec: (right_ns % 1_000_000_000) as i64,
    };
    clock_settime(ClockId::Realtime, time).map_err(|error| error.to_string())?;
    Ok(Some(format!("the clock was {} ms wrong and is set by {server}", offset_ns / 1_000_000)))
}

fn now_ns() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128)
}

/// A question of a client, version 4, that names the time of its sending.
fn question(sent_ns: i128) -> [u8; 48] {
    let mut packet = [0; 48];
    packet[0] = 4 << 3 | 3;
    packet[40..].copy_from_slice(&stamp(sent_ns));
    packet
}

/// NTP's timestamp: seconds since 1900 and a fraction, 32 bits each.
fn stamp(unix_ns: i128) -> [u8; 8] {
    let seconds = (unix_ns / 1_000_000_000) as u64 + EPOCHS_S;
    let fraction = (((unix_ns % 1_000_000_000) as u64) << 32) / 1_000_000_000;
    (seconds << 32 | fraction).to_be_bytes()
}

/// Nanoseconds since 1970, of a timestamp; those without the highest bit are after 2036.
fn unix_ns(stamp: u64) -> i128 {
    let (seconds, fraction) = (stamp >> 32, stamp & 0xffff_ffff);
    let era = if seconds & 0x8000_0000 == 0 { 1 << 32 } else { 0 };
    let seconds = i128::from(seconds + era) - i128::from(EPOCHS_S);
    seconds * 1_000_000_000 + i128::from((fraction * 1_000_000_000) >> 32)
}

/// By how much our clock is late, if the answer is one to our question.
fn offset_ns(answer: &[u8], sent_ns: i128, received_ns: i128) -> Option<i128> {
    let word = |at: usize| Some(u64::from_be_bytes(answer.get(at..at + 8)?.try_into().ok()?));
    let (leap, mode) = (answer.first()? >> 6, answer[0] & 7);
    let stratum = *answer.get(1)?;
    let ours = word(24)? == u64::from_be_bytes(stamp(sent_ns));
    let (came, left) = (word(32)?, word(40)?);
    if leap == 3 || mode != 4 || !(1..16).contains(&stratum) || !ours || left == 0 {
        return None;
    }
    Some((unix_ns(came) - sent_ns + unix_ns(left) - received_ns) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(sent_ns: i128, came_ns: i128, left_ns: i128) -> [u8; 48] {
        let mut packet = [0; 48];
        packet[0] = 4 << 3 | 4;
        packet[1] = 2;
        packet[24..32].copy_from_slice(&stamp(sent_ns));
        packet[32..40].copy_from_slice(&stamp(came_ns));
        packet[40..].copy_from_slice(&stamp(left_ns));
        packet
    }

    #[test]
    fn the_offset_leaves_out_the_way() {
        let t = 1_780_000_000_000_000_000;
        let packet = answer(t, t + 5_000_000_000, t + 5_010_000_000);
        let late = offset_ns(&packet, t, t + 30_000_000).unwrap();
        assert!((late - 4_990_000_000).abs() < 10, "{late}");
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let t = 1_780_000_000_000_000_000;
        let good = answer(t, t, t);
        assert!(offset_ns(&good, t, t).is_some());
        assert!(offset_ns(&good, t + 1_000, t).is_none(), "to another question");
        for (place, value) in [(0, 4 << 3 | 3), (0, 0xe4), (1, 0), (1, 16)] {
            let mut bad = good;
            bad[place] = value;
            assert!(offset_ns(&bad, t, t).is_none(), "{place} {value}");
        }
    }

    proptest! {
        #[test]
        fn stamps_come_back(ns in 0_i128..4_000_000_000_000_000_000) {
            prop_assert!((unix_ns(u64::from_be_bytes(stamp(ns))) - ns).abs() <= 1);
        }

        #[test]
        fn anything_may_come(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            offset_ns(&bytes, 0, 0);
        }
    }
}
