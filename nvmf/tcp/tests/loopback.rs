//! Over real sockets.

mod support;

use nvmf::places::{PlaceLimits, Places};
use nvmf::registry::Serves;
use nvmf::transport::CloseReason;
use nvmf_tcp::{Acceptor, Config, EpollPoller, Inbox, SocketOptions, Stats, TcpTransport};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use support::Ram;
use support::host::Host;

/// A target on its own thread.
struct Target {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    stats: Arc<Stats>,
    thread: Option<JoinHandle<Ram<TcpTransport>>>,
    _acceptor: Acceptor,
}

impl Target {
    fn start(config: Config, connections: u32) -> Target {
        let inbox = Inbox::new().unwrap();
        let poller = EpollPoller::new(inbox.clone()).unwrap();
        let mut ram = Ram::new(TcpTransport::new(poller, config), 32 << 20);
        let stats = ram.transport.stats().clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            while !stopping.load(Ordering::Relaxed) {
                if ram.turn(start.elapsed().as_nanos() as u64) == 0 {
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
            ram
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (all, each) = (2 * connections, connections);
        let limits = PlaceLimits { all, each, silent: all, silent_each: each };
        let (places, serves) = (Places::new(limits), Serves::Everything);
        let options = SocketOptions { congestion: Some("reno".into()), ..Default::default() };
        let acceptor = Acceptor::start(listener, serves, vec![inbox], places, &options).unwrap();
        let address = acceptor.address();
        Target { address, stop, stats, thread: Some(thread), _acceptor: acceptor }
    }

    fn stop(&mut self) -> Ram<TcpTransport> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

struct Client {
    stream: TcpStream,
    host: Host,
}

impl Client {
    fn connect(target: &Target, mut host: Host) -> Client {
        let mut stream = TcpStream::connect(target.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.write_all(&std::mem::take(&mut host.out)).unwrap();
        let mut client = Client { stream, host };
        while !client.host.is_ready() {
            client.turn().unwrap();
        }
        client
    }

    /// Sends what is queued, and receives once. `None` when the target has ended.
    fn turn(&mut self) -> Option<()> {
        let out = std::mem::take(&mut self.host.out);
        let _ = self.stream.write_all(&out);
        let mut bytes = vec![0; 256 << 10];
        let count = self.stream.read(&mut bytes).ok().filter(|count| *count > 0)?;
        self.host.receive(&bytes[..count]);
        Some(())
    }

    fn run_until(&mut self, done: usize) {
        while self.host.done.len() < done || !self.host.out.is_empty() {
            self.turn().expect("the target stays");
        }
    }

    fn run_to_the_end(&mut self) {
        while self.turn().is_some() {}
    }
}

fn pattern(seed: u32, bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|i| (i.wrapping_mul(31).wrapping_add(seed) >> 3) as u8).collect()
}

fn writes_and_reads(host: Host, config: Config) {
    let mut target = Target::start(config, 8);
    let mut client = Client::connect(&target, host);
    let sizes = [512usize, 4096, 8192, 128 << 10, 1 << 20];
    for (number, size) in sizes.iter().enumerate() {
        let cid = number as u16 * 4;
        let data = pattern(number as u32, *size);
        client.host.done.clear();
        client.host.write(cid, 4096, data.clone());
        client.run_until(1);
        client.host.read(cid + 1, 4096, *size as u32);
        client.run_until(2);
        assert_eq!(client.host.done[1].data, data, "{size} bytes by R2T");
        if *size <= 8192 {
            let data = pattern(99 + number as u32, *size);
            client.host.write_in_capsule(cid + 2, 1 << 20, &data);
            client.run_until(3);
            client.host.read(cid + 3, 1 << 20, *size as u32);
            client.run_until(4);
            assert_eq!(client.host.done[3].data, data, "{size} bytes in the capsule");
        }
    }
    drop(client);
    while target.stats.closed.load(Ordering::Relaxed) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let mut ram = target.stop();
    ram.turn(u64::MAX / 2);
    assert_eq!(ram.closed, [CloseReason::Peer]);
    assert_eq!((ram.busy(), ram.pool.taken()), (0, [0; 4]));
}

#[test]
fn data_comes_back_without_digests() {
    writes_and_reads(Host::new(false, false, 0, 1), Config::default());
}

#[test]
fn data_comes_back_with_digests_and_alignment() {
    writes_and_reads(Host::new(true, true, 31, 1), Config::default());
}

#[test]
fn data_comes_back_through_many_small_r2ts() {
    let config = Config { r2t_bytes: 8192, max_h2c_data_bytes: 4096, ..Config::default() };
    writes_and_reads(Host::new(true, false, 0, 4), config);
}

#[test]
fn a_full_queue_is_served_with_few_calls() {
    let mut target = Target::start(Config::default(), 8);
    let mut client = Client::connect(&target, Host::new(false, false, 0, 1));
    const DEPTH: u16 = 128;
    for round in 0..50 {
        client.host.done.clear();
        for cid in 0..DEPTH {
            let at = u64::from(cid) * 4096;
            if (cid + round) % 2 == 0 {
                client.host.write_in_capsule(cid, at, &pattern(cid.into(), 4096));
            } else {
                client.host.read(cid, at, 4096);
            }
        }
        client.run_until(DEPTH.into());
    }
    let stats = target.stats.clone();
    let count = |c: &std::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
    assert_eq!(count(&stats.commands), 50 * u64::from(DEPTH));
    // Each round is 264 KiB of commands and data, received in pieces of at most 128 KiB.
    let calls = count(&stats.recvs) + count(&stats.sends);
    assert!(calls * 4 < count(&stats.commands), "{calls} calls for {stats:?}");
    drop(client);
    target.stop();
}

#[test]
fn a_term_req_reaches_the_host_although_it_goes_on_sending() {
    let mut target = Target::start(Config::default(), 8);
    let mut client = Client::connect(&target, Host::new(false, false, 0, 1));
    // An ICReq a second time, and a lot of commands behind it.
    client.host.out = Host::new(false, false, 0, 1).out;
    for cid in 0..1000 {
        client.host.read(cid, 0, 512);
    }
    client.run_to_the_end();
    assert_eq!(client.host.term, Some((2, 0)), "PDU sequence error, by an ICReq");
    drop(client);
    let ram = target.stop();
    assert_eq!(ram.closed.len(), 1);
    assert!(matches!(&ram.closed[0], CloseReason::Protocol(_)), "{:?}", ram.closed);
}

#[test]
fn a_thousand_idle_connections_hold_no_buffer() {
    let mut target = Target::start(Config::default(), 1000);
    let clients: Vec<Client> =
        (0..1000).map(|_| Client::connect(&target, Host::new(false, false, 0, 1))).collect();
    let mut last = Client {
        stream: TcpStream::connect(target.address).unwrap(),
        host: Host::new(false, false, 0, 1),
    };
    last.run_to_the_end();
    assert!(!last.host.is_ready(), "one over the limit");
    let ram = target.stop();
    assert_eq!(ram.open.len(), 1000);
    assert_eq!(ram.pool.taken(), [0, 0, 2, 0], "one to receive into, one for headers");
    drop(clients);
}
