//! Peers that send garbage, half of something, or nothing. The process never ends, never grows
//! without bound, and other hosts' I/O goes on.

use crate::appliance::{Appliance, NQN, eventually, footprint};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A small generator, so that every run sends the same.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// An ICReq without digests (NVMe/TCP Transport Specification, "ICReq").
fn icreq() -> Vec<u8> {
    let mut pdu = vec![0; 128];
    pdu[2] = 128;
    pdu[4] = 128;
    pdu
}

fn connect(node: &Appliance) -> TcpStream {
    let stream = TcpStream::connect(node.address).expect("the listener is there");
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

fn greeted(node: &Appliance) -> TcpStream {
    let mut stream = connect(node);
    stream.write_all(&icreq()).unwrap();
    let mut icresp = [0; 128];
    stream.read_exact(&mut icresp).expect("an ICResp");
    assert_eq!(icresp[0], 1);
    stream
}

/// Reads until the target ends the connection; what came.
fn until_closed(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut all);
    all
}

/// While `abuse` goes on, a host writes and verifies; afterwards the process is up and small.
fn survives(node: &mut Appliance, abuse: impl FnOnce(&Appliance)) {
    let (before_kib, _) = footprint(node.pid());
    std::thread::scope(|scope| {
        let node: &Appliance = node;
        let host = scope.spawn(|| {
            for seed in ["1", "2", "3"] {
                for action in ["write", "verify"] {
                    let output = node.io(&[action, "--seed", seed, "--size", "4KiB"]);
                    let text = String::from_utf8_lossy(&output.stderr).into_owned();
                    assert!(output.status.success(), "{action}: {text}");
                }
            }
        });
        abuse(node);
        host.join().expect("the other host's I/O goes on");
    });
    assert!(node.is_up());
    let (after_kib, _) = footprint(node.pid());
    assert!(after_kib < before_kib + 64 * 1024, "{before_kib} KiB became {after_kib}");
    eventually("the bad connections are gone", || node.stats()["connections"]["open"] == 0);
}

#[test]
fn garbage_from_the_first_byte() {
    let mut node = Appliance::start(&["--ram", "16MiB"]);
    survives(&mut node, |node| {
        let mut noise = Noise(1);
        for round in 0..200 {
            let mut stream = connect(node);
            // The target may end the connection while we still send.
            let _ = stream.write_all(&noise.bytes(1 + round * 7));
            drop(stream);
        }
    });
}

#[test]
fn garbage_after_a_good_beginning_is_answered_with_a_termination() {
    let mut node = Appliance::start(&["--ram", "16MiB"]);
    survives(&mut node, |node| {
        let mut noise = Noise(2);
        let mut terminated = 0;
        for _ in 0..100 {
            let mut stream = greeted(node);
            let mut pdu = noise.bytes(256);
            // A type that no host sends, so that what follows cannot be taken for a command.
            pdu[0] = 0x0f;
            let _ = stream.write_all(&pdu);
            let answer = until_closed(stream);
            terminated += u32::from(answer.first() == Some(&0x03));
        }
        assert!(terminated >= 90, "C2HTermReq came {terminated} times of 100");
    });
}

#[test]
fn wrong_lengths_end_the_connection() {
    let mut node = Appliance::start(&["--ram", "16MiB"]);
    survives(&mut node, |node| {
        // HLEN, PDO, PLEN of a command capsule, each wrong in its way.
        for (hlen, pdo, plen) in [
            (0u8, 0u8, 72u32),
            (255, 0, 72),
            (72, 0, 0),
            (72, 0, 71),
            (72, 0, u32::MAX),
            (72, 255, 4096),
            (72, 71, 4168),
            (72, 72, 72 + (1 << 20)),
        ] {
            let mut stream = greeted(node);
            let mut pdu = vec![0; 72];
            (pdu[0], pdu[2], pdu[3]) = (0x04, hlen, pdo);
            pdu[4..8].copy_from_slice(&plen.to_le_bytes());
            let _ = stream.write_all(&pdu);
            let answer = until_closed(stream);
            assert_eq!(answer.first(), Some(&0x03), "({hlen}, {pdo}, {plen}): {answer:02x?}");
        }
    });
}

#[test]
fn half_a_pdu_and_then_silence_is_given_up_on() {
    let mut node = Appliance::start(&["--ram", "16MiB"]);
    survives(&mut node, |node| {
        let slow: Vec<TcpStream> = (0..50)
            .map(|cut| {
                let mut stream = if cut % 2 == 0 { connect(node) } else { greeted(node) };
                stream.write_all(&icreq()[..1 + cut]).unwrap();
                stream
            })
            .collect();
        for stream in slow {
            until_closed(stream);
        }
    });
}

#[test]
fn data_that_nobody_asked_for_ends_the_connection() {
    let mut node = Appliance::start(&["--ram", "16MiB"]);
    survives(&mut node, |node| {
        for transfer_tag in [0u16, 1, 0xffff] {
            let mut stream = greeted(node);
            let mut pdu = vec![0; 24 + 4096];
            (pdu[0], pdu[1], pdu[2], pdu[3]) = (0x06, 0x04, 24, 24);
            pdu[4..8].copy_from_slice(&(24u32 + 4096).to_le_bytes());
            pdu[10..12].copy_from_slice(&transfer_tag.to_le_bytes());
            pdu[16..20].copy_from_slice(&4096u32.to_le_bytes());
            let _ = stream.write_all(&pdu);
            assert_eq!(until_closed(stream).first(), Some(&0x03));
        }
    });
}

#[test]
fn connections_past_the_limit_are_turned_away_and_those_before_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("few.toml");
    let text = format!(
        "[tcp]\nconnections = 16\nconnections_per_address = 16\n[reactors]\nmemory = \"32MiB\"\n\
         [[bdev]]\nname = \"a\"\nkind = \"ram\"\nsize = \"16MiB\"\n\
         [[subsystem]]\nnqn = \"{NQN}\"\nallow_any_host = true\n\
         [[subsystem.namespace]]\nbdev = \"a\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut node = Appliance::start_config(&file);
    let idle: Vec<TcpStream> = (0..12).map(|_| greeted(&node)).collect();
    let flood: Vec<TcpStream> =
        (0..300).filter_map(|_| TcpStream::connect(node.address).ok()).collect();
    eventually("the flood is turned away", || {
        node.stats()["connections"]["refused"].as_u64() >= Some(250)
    });
    drop(flood);
    let output = node.io(&["write"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(node.is_up());
    drop(idle);
}

#[test]
fn a_host_that_falls_silent_loses_its_controller() {
    let node = Appliance::start(&["--ram", "16MiB"]);
    // Connect with a keep alive timeout of 1 s by hand, and then say nothing.
    let mut stream = greeted(&node);
    stream.write_all(&fabrics_connect(1000)).unwrap();
    let mut response = [0; 24];
    stream.read_exact(&mut response).expect("a response");
    assert_eq!(response[0], 0x05);
    assert_eq!(u16::from_le_bytes([response[22], response[23]]) >> 1, 0, "Connect succeeds");
    let controllers = |node: &Appliance| {
        node.stats()["subsystems"][0]["controllers"].as_array().map_or(0, Vec::len)
    };
    assert_eq!(controllers(&node), 1);
    until_closed(stream);
    eventually("its controller is gone", || controllers(&node) == 0);
}

/// A Connect command for the admin queue in its capsule (NVMe over Fabrics, "Connect Command").
fn fabrics_connect(kato_ms: u32) -> Vec<u8> {
    let mut pdu = vec![0; 72 + 1024];
    (pdu[0], pdu[2], pdu[3]) = (0x04, 72, 72);
    pdu[4..8].copy_from_slice(&(72u32 + 1024).to_le_bytes());
    let sqe = &mut pdu[8..72];
    (sqe[0], sqe[1], sqe[4]) = (0x7f, 0x40, 0x01);
    sqe[32..36].copy_from_slice(&1024u32.to_le_bytes());
    sqe[39] = 0x01;
    sqe[44..46].copy_from_slice(&31u16.to_le_bytes());
    sqe[48..52].copy_from_slice(&kato_ms.to_le_bytes());
    let data = &mut pdu[72..];
    data[..16].copy_from_slice(&[9; 16]);
    data[16..18].copy_from_slice(&0xffffu16.to_le_bytes());
    data[256..256 + NQN.len()].copy_from_slice(NQN.as_bytes());
    let host = b"nqn.2026-01.org.example:silent";
    data[512..512 + host.len()].copy_from_slice(host);
    pdu
}
