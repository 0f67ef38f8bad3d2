//! In steady state the transport allocates nothing.

#[path = "../../core/tests/counting/mod.rs"]
mod counting;
mod support;

use counting::ALLOCATIONS;
use nvmf::places::{PlaceLimits, Places};
use nvmf::registry::Serves;
use nvmf_tcp::{Acceptor, Config, EpollPoller, Inbox, SocketOptions, TcpTransport};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use support::Ram;
use support::host::Host;

/// How far the host is: warming up, asking for the count to begin, counted, done.
static PHASE: AtomicU32 = AtomicU32::new(0);
const ASK: u32 = 1;
const COUNT: u32 = 2;
const END: u32 = 3;

fn until(stream: &mut TcpStream, host: &mut Host, done: impl Fn(&Host) -> bool) {
    let mut bytes = vec![0; 256 << 10];
    while !done(host) {
        stream.write_all(&std::mem::take(&mut host.out)).unwrap();
        let count = stream.read(&mut bytes).unwrap();
        assert!(count > 0, "the target stays");
        host.receive(&bytes[..count]);
    }
}

/// Rounds of 64 commands of every kind.
fn rounds(stream: &mut TcpStream, host: &mut Host, count: usize) {
    for _ in 0..count {
        host.done.clear();
        for cid in 0..64u16 {
            let at = u64::from(cid) * 65_536;
            match cid % 4 {
                0 => host.write_in_capsule(cid, at, &[cid as u8; 4096]),
                1 => host.write(cid, at, vec![cid as u8; 40_000]),
                _ => host.read(cid, at, 4096),
            }
        }
        until(stream, host, |host| host.done.len() == 64);
    }
}

fn host(address: SocketAddr, digests: bool) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut host = Host::new(digests, digests, 0, 1);
    until(&mut stream, &mut host, Host::is_ready);
    rounds(&mut stream, &mut host, 20);
    PHASE.store(ASK, Ordering::SeqCst);
    while PHASE.load(Ordering::SeqCst) != COUNT {
        std::thread::yield_now();
    }
    rounds(&mut stream, &mut host, 50);
    PHASE.store(END, Ordering::SeqCst);
}

/// Allocations of 50 rounds: over buffers and with digests, or straight from and to memory.
fn allocations(direct: bool) -> u64 {
    PHASE.store(0, Ordering::SeqCst);
    let inbox = Inbox::new().unwrap();
    let poller = EpollPoller::new(inbox.clone()).unwrap();
    let mut ram = Ram::new(TcpTransport::new(poller, Config::default()), 32 << 20);
    (ram.lend, ram.land) = (direct.then_some(true), direct.then_some(true));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let places = Places::new(PlaceLimits::of(1));
    let options = SocketOptions::default();
    let acceptor =
        Acceptor::start(listener, Serves::Everything, vec![inbox], places, &options).unwrap();
    let address = acceptor.address();
    let hosts = std::thread::spawn(move || host(address, !direct));
    let mut now_ns = 0;
    let mut before = 0;
    while PHASE.load(Ordering::SeqCst) != END && !hosts.is_finished() {
        now_ns += 1000;
        if ram.turn(now_ns) == 0 {
            std::thread::sleep(Duration::from_micros(20));
        }
        if PHASE.load(Ordering::SeqCst) == ASK {
            before = ALLOCATIONS.get();
            PHASE.store(COUNT, Ordering::SeqCst);
        }
    }
    let during = ALLOCATIONS.get() - before;
    hosts.join().unwrap();
    assert_eq!(ram.commands, 70 * 64);
    during
}

#[test]
fn commands_in_steady_state_allocate_nothing() {
    assert_eq!([false, true].map(allocations), [0, 0]);
}
