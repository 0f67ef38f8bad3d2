//! Our own target in this process, on loopback, that can be killed and started again.
#![forbid(unsafe_code)]

pub mod soft;
pub mod soft_node;

use bdev::dma::PoolPlan;
use bdev::{Bdev, DmaPool, Memory, Stack};
use nvmf::Target;
use nvmf::elsewhere::Clerk;
use nvmf::namespace::NamespaceConfig;
use nvmf::places::{PlaceLimits, Places};
use nvmf::registry::{Registry, RegistryConfig, Serves};
use nvmf::subsystem::{Hosts, SubsystemConfig};
use nvmf_tcp::{Acceptor, Config, EpollPoller, Inbox, SocketOptions, TcpTransport};
use reactor::{Handle, Poll, Reactor, thread};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

/// The subsystem that a node exports.
pub const NQN: &str = "nqn.2026-01.io.forebay:test";

/// One target with one reactor.
pub struct Node {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it exports.
    pub registry: Arc<Registry>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
    acceptor: Option<Acceptor>,
}

pub(crate) fn subsystem(nqn: &str, hosts: Hosts) -> SubsystemConfig {
    SubsystemConfig {
        nqn: nqn.into(),
        serial: "FB0001".into(),
        model: "Forebay".into(),
        firmware: "1".into(),
        hosts,
        cntlids: 1..=0xffef,
    }
}

impl Node {
    /// Exports `bdev` as namespace 1 to `hosts`, at `address` or a port of the kernel's choice.
    pub fn start(bdev: Arc<dyn Bdev>, hosts: Hosts, address: Option<SocketAddr>) -> Node {
        let now_ns = thread::clock_ns();
        let discovery = subsystem("nqn.2026-01.io.forebay:discovery", Hosts::Any);
        let config = RegistryConfig { reactors: 1, discovery, now_ns };
        let registry = Arc::new(Registry::new(config).unwrap());
        registry.add_subsystem(subsystem(NQN, hosts), now_ns).unwrap();
        let config =
            NamespaceConfig { nsid: 1, uuid: None, nguid: None, eui64: None, bdev: bdev.clone() };
        let namespace = registry.add_namespace(NQN, config).unwrap();

        let any = "127.0.0.1:0".parse().unwrap();
        let listener = TcpListener::bind(address.unwrap_or(any)).unwrap();
        let address = listener.local_addr().unwrap();
        let inbox = Inbox::new().unwrap();
        let limits = PlaceLimits { each: 64, ..PlaceLimits::of(64) };
        let (places, inboxes) = (Places::new(limits), vec![inbox.clone()]);
        let options = SocketOptions::default();
        let acceptor =
            Acceptor::start(listener, Serves::Everything, inboxes, places, &options).unwrap();

        let handle = Handle::new(0).unwrap();
        let (mine, exported) = (handle.clone(), registry.clone());
        let spawned = thread::spawn(handle.clone(), None, Poll::ADAPTIVE, move || {
            let plan = PoolPlan::for_bytes(64 << 20);
            let memory = Arc::new(Memory::map(1, plan.bytes()).unwrap());
            let stack = Stack::new(0, memory.clone());
            let mut reactor = Reactor::new(mine, stack, DmaPool::new(memory, 0, &plan));
            let channel = reactor.stack.open(&bdev, now_ns).unwrap();
            namespace.set_channel(0, Some(channel));
            let transport = TcpTransport::new(EpollPoller::new(inbox).unwrap(), Config::default());
            let waker = reactor.handle().clone();
            let window = Clerk::start().unwrap().window(move || waker.wake());
            let target = Target::new(transport, exported, 0).with_elsewhere(Box::new(window));
            reactor.add_edge(Box::new(target));
            reactor
        });
        let (thread, acceptor) = (Some(spawned.unwrap()), Some(acceptor));
        Node { address, registry, handle, thread, acceptor }
    }

    /// Ends it without a word to anyone. What it exported stays.
    pub fn kill(&mut self) {
        drop(self.acceptor.take());
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
