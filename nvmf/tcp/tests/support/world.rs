//! A target, its hosts, and the time that they share.

use super::Ram;
use super::host::Host;
use super::network::{Network, SharedPipe};
use nvmf::transport::Transport;
use nvmf_tcp::{Config, TcpTransport};

pub const MS: u64 = 1_000_000;

pub struct World {
    pub network: Network,
    pub ram: Ram<TcpTransport<Network>>,
    pub now_ns: u64,
}

/// A host and its connection.
pub struct Link {
    pub host: Host,
    pub pipe: SharedPipe,
}

impl World {
    pub fn new(config: Config, pool_bytes: usize) -> World {
        let network = Network::default();
        let transport = TcpTransport::new(network.clone(), config);
        World { network, ram: Ram::new(transport, pool_bytes), now_ns: 0 }
    }

    pub fn connect(&mut self, host: Host) -> Link {
        Link { host, pipe: self.network.connect() }
    }

    /// A connection past ICReq.
    pub fn ready(&mut self, host: Host) -> Link {
        let mut link = self.connect(host);
        self.run(&mut [&mut link], |links| links[0].host.is_ready());
        link
    }

    pub fn turn(&mut self, links: &mut [&mut Link]) {
        self.now_ns += MS / 10;
        for link in links.iter_mut() {
            let out = std::mem::take(&mut link.host.out);
            link.pipe.lock().unwrap().to_target.extend(out);
        }
        self.ram.turn(self.now_ns);
        for link in links.iter_mut() {
            let sent = std::mem::take(&mut link.pipe.lock().unwrap().from_target);
            link.host.receive(&sent);
        }
    }

    pub fn run(&mut self, links: &mut [&mut Link], until: impl Fn(&[&mut Link]) -> bool) {
        for _ in 0..20_000 {
            if until(links) {
                return;
            }
            self.turn(links);
        }
        panic!("nothing more happens: {:?}", self.ram.transport.stats());
    }

    pub fn run_one(&mut self, link: &mut Link, until: impl Fn(&Link) -> bool) {
        self.run(&mut [link], |links| until(links[0]));
    }

    /// Whatever was done, nothing is left when the hosts are gone.
    pub fn end(mut self, links: Vec<Link>) {
        for link in &links {
            link.pipe.lock().unwrap().host_ended = true;
        }
        self.now_ns += 3_600_000 * MS;
        for _ in 0..100 {
            self.turn(&mut []);
        }
        self.ram.release_parked();
        for _ in 0..3 {
            self.now_ns += 3_600_000 * MS;
            self.turn(&mut []);
        }
        assert!(links.iter().all(|link| link.pipe.lock().unwrap().dropped));
        assert_eq!(self.ram.open, []);
        assert_eq!(self.ram.busy(), 0);
        assert_eq!(self.ram.pool.taken(), [0; 4]);
        assert_eq!(self.ram.transport.connections(), 0);
        assert_eq!(self.ram.transport.next_deadline_ns(), None);
    }
}

pub fn plain() -> Host {
    Host::new(false, false, 0, 1)
}

/// Bytes that tell their place.
pub fn data(seed: u8, bytes: u32) -> Vec<u8> {
    (0..bytes).map(|i| (i as u8).wrapping_mul(7).wrapping_add(seed) ^ (i >> 8) as u8).collect()
}

/// Starts a pulled write of 8 KiB and returns the tag of its R2T.
pub fn r2t(world: &mut World, link: &mut Link) -> u16 {
    link.host.answers = false;
    link.host.write(7, 0, data(1, 8192));
    world.run_one(link, |link| !link.host.r2ts.is_empty());
    let (tag, offset, bytes) = link.host.r2ts[0];
    assert_eq!((offset, bytes), (0, 8192));
    tag
}
