//! One reactor's worth of target, turned by hand.

use crate::fabric::{Answer, FakeFabric};
use crate::ram::Ram;
use bdev::dma::{ClassPlan, PoolPlan};
use bdev::{Addr, Bdev, DmaPool, Edge, EdgeCx, Memory, Stack};
use nvme_spec::Sqe;
use nvme_spec::opcode::admin;
use nvme_spec::property;
use nvme_spec::{Status, opcode};
use nvmf::Target;
use nvmf::elsewhere::{AtOnce, Elsewhere};
use nvmf::namespace::NamespaceConfig;
use nvmf::registry::{Registry, RegistryConfig};
use nvmf::subsystem::{Hosts, SubsystemConfig};
use nvmf::transport::QpairId;
use nvmf_wire::Nqn;
use nvmf_wire::connect::{CNTLID_DYNAMIC, Connect, ConnectData, Connected, cattr};
use nvmf_wire::property::{PropertyGet, PropertySet, Width};
use std::sync::Arc;
use zerocopy::IntoBytes;

pub const NQN: &str = "nqn.2026-01.example:unit";
pub const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555";

/// Buffers of each class.
pub fn pool_plan(counts: [u32; 4]) -> PoolPlan {
    let bytes = [4 << 10, 16 << 10, 128 << 10, 1 << 20];
    PoolPlan(std::array::from_fn(|i| ClassPlan { bytes: bytes[i], count: counts[i] }))
}

pub fn subsystem_config(nqn: &str) -> SubsystemConfig {
    SubsystemConfig {
        nqn: nqn.into(),
        serial: "SN1".into(),
        model: "Forebay".into(),
        firmware: "1".into(),
        hosts: Hosts::Any,
        cntlids: 1..=100,
    }
}

/// A registry with one subsystem and the given namespaces, identifiers from 1.
pub fn registry(reactors: usize, rams: &[Arc<Ram>]) -> Arc<Registry> {
    let discovery = subsystem_config("nqn.2026-01.example:discovery");
    let registry = Registry::new(RegistryConfig { reactors, discovery, now_ns: 0 }).unwrap();
    registry.add_subsystem(subsystem_config(NQN), 0).unwrap();
    for (index, ram) in rams.iter().enumerate() {
        add_namespace(&registry, index as u32 + 1, ram);
    }
    Arc::new(registry)
}

pub fn add_namespace(registry: &Registry, nsid: u32, ram: &Arc<Ram>) {
    let bdev: Arc<dyn Bdev> = ram.clone();
    let config = NamespaceConfig { nsid, uuid: None, nguid: None, eui64: None, bdev };
    registry.add_namespace(NQN, config).unwrap();
}

pub struct Node {
    pub target: Target<FakeFabric>,
    pub stack: Stack,
    pub pool: DmaPool,
    pub now_ns: u64,
    pub registry: Arc<Registry>,
    pub reactor: usize,
    next_cid: u16,
    dones: Vec<bdev::Done>,
}

impl Node {
    pub fn new(registry: &Arc<Registry>, reactor: usize, counts: [u32; 4]) -> Node {
        Node::asking(registry, reactor, counts, None)
    }

    /// One whose questions are answered elsewhere.
    pub fn asking(
        registry: &Arc<Registry>,
        reactor: usize,
        counts: [u32; 4],
        elsewhere: Option<Box<dyn Elsewhere>>,
    ) -> Node {
        const REQUESTS: u32 = 256;
        let plan = pool_plan(counts);
        let bytes = plan.bytes().max(FakeFabric::capsule_room(REQUESTS));
        let memory = Arc::new(Memory::map(2, bytes).unwrap());
        let fabric = FakeFabric::new(memory.clone(), 1, REQUESTS, 32);
        let elsewhere = elsewhere.unwrap_or_else(|| Box::new(AtOnce::default()));
        let target = Target::new(fabric, registry.clone(), reactor).with_elsewhere(elsewhere);
        let mut node = Node {
            target,
            stack: Stack::new(reactor, memory.clone()),
            pool: DmaPool::new(memory, 0, &plan),
            now_ns: 1_000_000_000,
            registry: registry.clone(),
            reactor,
            next_cid: 0,
            dones: Vec::new(),
        };
        node.open_namespaces();
        node
    }

    /// Opens a channel for each namespace that has none here, as control does.
    pub fn open_namespaces(&mut self) {
        for namespace in self.registry.subsystem(NQN).unwrap().namespaces() {
            if namespace.channel(self.reactor).is_none() {
                let addr = self.stack.open(namespace.bdev(), self.now_ns).unwrap();
                namespace.set_channel(self.reactor, Some(addr));
            }
        }
    }

    pub fn turn(&mut self) -> u32 {
        let Node { target, stack, pool, now_ns, dones, .. } = self;
        let now_ns = *now_ns;
        let mut cx = EdgeCx { me: Addr::edge(0), stack, pool, now_ns };
        let mut work = target.poll(&mut cx);
        work += cx.stack.poll(now_ns);
        work += cx.stack.deliver(now_ns, dones);
        for done in dones.drain(..) {
            target.done(done, &mut cx);
        }
        work + target.flush(&mut cx)
    }

    /// Turns until nothing happens any more.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.turn() == 0 {
                return;
            }
        }
        panic!("the node does not come to rest");
    }

    pub fn fabric(&mut self) -> &mut FakeFabric {
        self.target.transport_mut()
    }

    pub fn cid(&mut self) -> u16 {
        self.next_cid = self.next_cid.wrapping_add(1);
        self.next_cid
    }

    /// Sends a command and turns until it is answered.
    pub fn call(&mut self, qpair: QpairId, sqe: Sqe, data: &[u8], in_capsule: bool) -> Answer {
        let mut sqe = sqe;
        sqe.cid = self.cid().into();
        assert!(self.fabric().send(qpair, sqe, data, in_capsule));
        self.answer(qpair, sqe.cid())
    }

    /// Turns until command `cid` is answered.
    pub fn answer(&mut self, qpair: QpairId, cid: u16) -> Answer {
        for _ in 0..10_000 {
            let is_it = |a: &Answer| a.qpair == qpair && a.cqe.cid.get() == cid;
            if let Some(at) = self.fabric().answers.iter().position(is_it) {
                return self.fabric().answers.remove(at);
            }
            self.turn();
        }
        panic!("command {cid} is never answered");
    }

    pub fn status(&mut self, qpair: QpairId, sqe: Sqe, data: &[u8], in_capsule: bool) -> Status {
        self.call(qpair, sqe, data, in_capsule).cqe.status()
    }

    /// A connection with a Connect command as given, and the answer to it.
    pub fn connect_raw(&mut self, connect: Connect, data: &ConnectData) -> (QpairId, Answer) {
        let qpair = self.fabric().connect().expect("a free place");
        let answer = self.call(qpair, connect.sqe(0), data.as_bytes(), true);
        (qpair, answer)
    }

    /// Connects an admin queue and enables the controller. Returns it with the identifier.
    pub fn connect_admin(&mut self, kato_ms: u32) -> (QpairId, u16) {
        let connect = Connect { sqsize: 31, kato_ms, ..Connect::default() };
        let (qpair, answer) = self.connect_raw(connect, &connect_data(CNTLID_DYNAMIC));
        assert_eq!(answer.cqe.status(), Status::SUCCESS);
        let cntlid = Connected::from_dword(answer.cqe.dw0.get()).cntlid;
        self.enable(qpair);
        (qpair, cntlid)
    }

    pub fn enable(&mut self, admin: QpairId) {
        let value = u64::from(property::Cc::ENABLE.0);
        assert_eq!(self.set_cc(admin, value), Status::SUCCESS);
        let get = PropertyGet { width: Width::Four, offset: property::CSTS };
        let csts = self.call(admin, get.sqe(0), &[], false).cqe.dw0.get();
        assert_eq!(csts, property::Csts::RDY);
    }

    pub fn set_cc(&mut self, admin: QpairId, value: u64) -> Status {
        let set = PropertySet { width: Width::Four, offset: property::CC, value };
        self.status(admin, set.sqe(0), &[], false)
    }

    /// Connects I/O queue `qid`.
    pub fn connect_io(&mut self, cntlid: u16, qid: u16, flow_control: bool) -> QpairId {
        let cattr = if flow_control { 0 } else { cattr::DISABLE_SQ_FLOW };
        let connect = Connect { qid, sqsize: 63, cattr, ..Connect::default() };
        let (qpair, answer) = self.connect_raw(connect, &connect_data(cntlid));
        assert_eq!(answer.cqe.status(), Status::SUCCESS);
        qpair
    }

    /// Connects an admin queue and one I/O queue.
    pub fn connect(&mut self) -> (QpairId, QpairId) {
        let (admin, cntlid) = self.connect_admin(0);
        (admin, self.connect_io(cntlid, 1, false))
    }

    /// Whether nothing is left of any connection or command.
    pub fn check_nothing_left(&mut self) {
        assert_eq!(self.target.commands(), 0, "a request's place is leaked");
        assert_eq!(self.pool.taken(), [0; 4], "a buffer is leaked");
        assert_eq!(self.target.queue_pairs(), 0, "a queue pair is leaked");
        let subsystem = self.registry.subsystem(NQN).unwrap();
        for namespace in subsystem.namespaces() {
            if let Some(addr) = namespace.channel(self.reactor) {
                assert_eq!(self.stack.outstanding(addr), 0, "an operation never ends");
            }
        }
        let here = |c: &Arc<nvmf::controller::Controller>| c.association().reactor == self.reactor;
        assert!(!subsystem.live_controllers().iter().any(here), "a controller is leaked");
    }
}

pub fn connect_data(cntlid: u16) -> ConnectData {
    let nqn = |text| Nqn::new(text).unwrap();
    ConnectData::new([7; 16], cntlid, &nqn(NQN), &nqn(HOST))
}

/// A command on `blocks` blocks of namespace 1.
pub fn io(op: u8, lba: u64, blocks: u32) -> Sqe {
    let mut sqe = Sqe::new(op, 0, 1);
    sqe.set_slba(lba);
    sqe.set_blocks(blocks);
    sqe
}

pub fn read(lba: u64, blocks: u32) -> Sqe {
    let mut sqe = io(opcode::nvm::READ, lba, blocks);
    sqe.dptr = nvme_spec::Sgl::transport(blocks * 512);
    sqe
}

pub fn write(lba: u64, blocks: u32) -> Sqe {
    io(opcode::nvm::WRITE, lba, blocks)
}

pub fn event_request() -> Sqe {
    Sqe::new(admin::ASYNC_EVENT, 0, 0)
}
