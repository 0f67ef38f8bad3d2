//! The target between a fabric that costs nothing and a bdev that does nothing.

use bdev::dma::PoolPlan;
use bdev::{
    Addr, Bdev, Channel, Cx, DmaBuf, DmaPool, Edge, EdgeCx, Geometry, Io, Memory, OpenCx,
    OpenError, Stack,
};
use nvme_spec::{Sqe, Status, property};
use nvmf::Target;
use nvmf::namespace::NamespaceConfig;
use nvmf::registry::{Registry, RegistryConfig};
use nvmf::subsystem::{Hosts, SubsystemConfig};
use nvmf::transport::{
    CloseReason, Event, InCapsule, Origin, PullTo, QpairId, ReqId, Response, Transport,
};
use nvmf_wire::Nqn;
use nvmf_wire::connect::{CNTLID_DYNAMIC, Connect, ConnectData, cattr};
use nvmf_wire::property::{PropertySet, Width};
use std::sync::Arc;
use zerocopy::IntoBytes;

const NQN: &str = "nqn.2026-01.example:path";
/// Commands sent at once.
pub const DEPTH: u32 = 32;

/// Hands out prepared commands and forgets the answers.
pub struct Fabric {
    inbox: Vec<Event>,
    sent: Vec<ReqId>,
    last: Option<Response>,
    /// Answers that say success.
    pub answers: u64,
}

impl Transport for Fabric {
    fn poll(
        &mut self,
        _now_ns: u64,
        _may_land: bool,
        _pool: &mut DmaPool,
        out: &mut Vec<Event>,
    ) -> u32 {
        out.append(&mut self.inbox);
        out.len() as u32
    }

    fn pull(&mut self, req: ReqId, _to: PullTo) {
        self.inbox.push(Event::Pulled { req, status: Status::SUCCESS });
    }

    fn respond(&mut self, req: ReqId, response: Response) {
        self.answers += u64::from(response.cqe.status().is_success());
        self.last = Some(response);
        self.sent.push(req);
    }

    fn discard(&mut self, req: ReqId) {
        self.sent.push(req);
    }

    fn close(&mut self, _qpair: QpairId, why: CloseReason) {
        panic!("closed: {why}");
    }

    fn flush(&mut self, _now_ns: u64, _pool: &mut DmaPool, out: &mut Vec<Event>) -> u32 {
        out.extend(self.sent.drain(..).map(|req| Event::Sent { req }));
        out.len() as u32
    }

    fn qpair_limit(&self) -> u32 {
        16
    }

    fn request_limit(&self) -> u32 {
        256
    }

    fn in_capsule_bytes(&self) -> u32 {
        8192
    }
}

struct Nothing;

impl Bdev for Nothing {
    fn geometry(&self) -> Geometry {
        Geometry::plain(4096, 1 << 30)
    }

    fn open(&self, _cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        Ok(Box::new(Nothing))
    }
}

impl Channel for Nothing {
    fn submit(&mut self, io: Io, cx: &mut Cx<'_>) {
        cx.complete(io, Status::SUCCESS);
    }

    fn outstanding(&self) -> u32 {
        0
    }
}

/// A reactor's worth of target.
pub struct Lab {
    /// The target.
    pub target: Target<Fabric>,
    stack: Stack,
    pool: DmaPool,
    dones: Vec<bdev::Done>,
}

impl Lab {
    /// One turn of the reactor.
    pub fn turn(&mut self) {
        let Lab { target, stack, pool, dones } = self;
        let mut cx = EdgeCx { me: Addr::edge(0), stack, pool, now_ns: 1 };
        target.poll(&mut cx);
        cx.stack.poll(1);
        cx.stack.deliver(1, dones);
        for done in dones.drain(..) {
            target.done(done, &mut cx);
        }
        target.flush(&mut cx);
    }

    /// The host sends a command.
    pub fn send(&mut self, index: u16, req: u32, sqe: Sqe, in_capsule: InCapsule) {
        let qpair = QpairId { index, generation: 1 };
        let event = Event::Command { qpair, req: ReqId(req), sqe, in_capsule };
        self.target.transport_mut().inbox.push(event);
    }

    /// How the last command ended.
    pub fn last(&self) -> Option<Status> {
        self.target.transport().last.map(|response| response.cqe.status())
    }

    /// Memory of one block.
    pub fn block(&mut self) -> DmaBuf {
        self.pool.take(4096).expect("a buffer")
    }

    /// Gives memory back.
    pub fn give(&mut self, buf: DmaBuf) {
        self.pool.give(buf);
    }

    fn connect(&mut self, index: u16, connect: Connect, cntlid: u16) -> u16 {
        let qpair = QpairId { index, generation: 1 };
        let end = "127.0.0.1:4420".parse().expect("an address");
        self.target.transport_mut().inbox.push(Event::Connected {
            qpair,
            origin: Origin::alone(end, end),
            direct: false,
        });
        let nqn = |text| Nqn::new(text).expect("a name");
        let data = ConnectData::new([1; 16], cntlid, &nqn(NQN), &nqn("nqn.2026-01.example:host"));
        let buf = self.pool.take(1024).expect("a buffer");
        buf.slice().copy_in(0, data.as_bytes());
        self.send(index, 0, connect.sqe(1), InCapsule::Data(buf.slice().sub(0, 1024)));
        self.turn();
        self.pool.give(buf);
        let answer = self.target.transport().last.expect("an answer").cqe;
        assert_eq!(answer.status(), Status::SUCCESS);
        answer.dw0.get() as u16
    }
}

/// A target with one namespace and an I/O queue, number 1, that is connected.
pub fn connected() -> Lab {
    let mut lab = lab();
    let cntlid = lab.connect(0, Connect { sqsize: 31, ..Connect::default() }, CNTLID_DYNAMIC);
    let value = u64::from(property::Cc::ENABLE.0);
    let set = PropertySet { width: Width::Four, offset: property::CC, value };
    lab.send(0, 0, set.sqe(1), InCapsule::None);
    lab.turn();
    let io = Connect { qid: 1, sqsize: 127, cattr: cattr::DISABLE_SQ_FLOW, ..Connect::default() };
    lab.connect(1, io, cntlid);
    lab
}

fn lab() -> Lab {
    let config = |nqn: &str| SubsystemConfig {
        nqn: nqn.into(),
        serial: "1".into(),
        model: "m".into(),
        firmware: "1".into(),
        hosts: Hosts::Any,
        cntlids: 1..=9,
    };
    let discovery = config("nqn.2026-01.example:discovery");
    let registry = Registry::new(RegistryConfig { reactors: 1, discovery, now_ns: 0 });
    let registry = Arc::new(registry.expect("a registry"));
    registry.add_subsystem(config(NQN), 0).expect("a subsystem");
    let bdev: Arc<dyn Bdev> = Arc::new(Nothing);
    let config = NamespaceConfig { nsid: 1, uuid: None, nguid: None, eui64: None, bdev };
    let namespace = registry.add_namespace(NQN, config).expect("a namespace");
    let plan = PoolPlan::for_bytes(16 << 20);
    let memory = Arc::new(Memory::map(1, plan.bytes()).expect("memory"));
    let mut stack = Stack::new(0, memory.clone());
    let channel = stack.open(namespace.bdev(), 0).expect("a channel");
    namespace.set_channel(0, Some(channel));
    let fabric = Fabric {
        inbox: Vec::with_capacity(256),
        sent: Vec::with_capacity(256),
        last: None,
        answers: 0,
    };
    let target = Target::new(fabric, registry, 0);
    Lab { target, stack, pool: DmaPool::new(memory, 0, &plan), dones: Vec::with_capacity(256) }
}
