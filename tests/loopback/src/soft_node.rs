//! Our own target over RDMA made of memory, which does its turns when its hosts look.

use crate::soft::{Plan, SoftDialer, SoftNic, Wire};
use crate::{NQN, subsystem};
use bdev::dma::PoolPlan;
use bdev::{Bdev, DmaPool, Memory, Stack};
use nvmf::Target;
use nvmf::namespace::NamespaceConfig;
use nvmf::registry::{Registry, RegistryConfig};
use nvmf::subsystem::Hosts;
use nvmf_rdma::{Config, RdmaTransport};
use reactor::{Handle, Reactor, thread};
use std::sync::{Arc, Mutex};

/// One target with one reactor and no thread.
pub struct SoftNode {
    /// Between it and its hosts.
    pub wire: Wire,
    /// What it exports.
    pub registry: Arc<Registry>,
    reactor: Arc<Mutex<Reactor>>,
}

impl SoftNode {
    /// Exports `bdev` as namespace 1 to any host, on a wire that works as `plan` says.
    pub fn start(bdev: &Arc<dyn Bdev>, plan: Plan) -> SoftNode {
        let now_ns = thread::clock_ns();
        let discovery = subsystem("nqn.2026-01.io.forebay:discovery", Hosts::Any);
        let config = RegistryConfig { reactors: 1, discovery, now_ns };
        let registry = Arc::new(Registry::new(config).unwrap());
        registry.add_subsystem(subsystem(NQN, Hosts::Any), now_ns).unwrap();
        let config =
            NamespaceConfig { nsid: 1, uuid: None, nguid: None, eui64: None, bdev: bdev.clone() };
        let namespace = registry.add_namespace(NQN, config).unwrap();
        let pools = PoolPlan::for_bytes(32 << 20);
        let memory = Arc::new(Memory::map(1, pools.bytes()).unwrap());
        let stack = Stack::new(0, memory.clone());
        let handle = Handle::new(0).unwrap();
        let mut reactor = Reactor::new(handle, stack, DmaPool::new(memory, 0, &pools));
        let channel = reactor.stack.open(bdev, now_ns).unwrap();
        namespace.set_channel(0, Some(channel));
        let wire = Wire::new(plan);
        let transport = RdmaTransport::new(SoftNic::new(&wire), Config::default());
        reactor.add_edge(Box::new(Target::new(transport, registry.clone(), 0)));
        SoftNode { wire, registry, reactor: Arc::new(Mutex::new(reactor)) }
    }

    /// What connects to it.
    pub fn dialer(&self) -> SoftDialer {
        let reactor = self.reactor.clone();
        SoftDialer::new(
            &self.wire,
            Arc::new(move || {
                if let Ok(mut reactor) = reactor.try_lock() {
                    reactor.turn(thread::clock_ns());
                }
            }),
        )
    }

    /// Does turns until nothing is left to do.
    pub fn settle(&self) {
        let mut reactor = self.reactor.lock().unwrap();
        for _ in 0..200 {
            reactor.turn(thread::clock_ns());
        }
    }

    /// Buffers that it has on loan, by class.
    pub fn buffers(&self) -> [u32; 4] {
        self.reactor.lock().unwrap().pool.taken()
    }
}
