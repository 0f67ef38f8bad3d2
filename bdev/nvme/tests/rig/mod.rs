//! A drive made of software under one reactor's worth of a stack, with a clock of its own.
#![allow(dead_code)] // each test program uses its part

use super::soft::{Config, Soft};
use bdev::dma::PoolPlan;
use bdev::{Addr, Bdev, DmaBuf, DmaPool, DmaSlice, Done, Io, IoFlags, Memory, Op, Stack, Tag};
use bdev_nvme::{Answer, Controller, Health, NvmeBdev, Options, Request};
use nvme_spec::Status;
use std::sync::Arc;

/// A turn, in ns.
const TURN_NS: u64 = 1_000_000;

/// Short times, so that a test sees time-outs within a few hundred turns.
pub fn options() -> Options {
    Options {
        io_timeout_ns: 100 * TURN_NS,
        abort_grace_ns: 50 * TURN_NS,
        admin_timeout_ns: 200 * TURN_NS,
        format_timeout_ns: 400 * TURN_NS,
        watch_ns: 10 * TURN_NS,
        idle_watch_ns: 20 * TURN_NS,
        attempts: 3,
        io_queues: 8,
        shadow_doorbells: true,
    }
}

/// A controller and whoever uses it.
pub struct Rig {
    pub soft: Arc<Soft>,
    pub controller: Controller,
    pub stack: Stack,
    pub pool: DmaPool,
    pub now_ns: u64,
    pub dones: Vec<Done>,
    /// By tag: where the data of an operation under way is.
    lent: Vec<(u64, (usize, usize))>,
}

impl Rig {
    /// A controller that nothing was done with.
    pub fn cold(config: Config) -> Rig {
        let soft = Arc::new(Soft::new(config));
        let controller = Controller::new(soft.clone(), options()).unwrap();
        // Of the largest buffers eight: more than the operations of one batch.
        let plan = PoolPlan::for_bytes(32 << 20);
        let memory = Arc::new(Memory::map(2, plan.bytes()).unwrap());
        Rig {
            soft,
            controller,
            stack: Stack::new(0, memory.clone()),
            pool: DmaPool::new(memory, 1, &plan),
            now_ns: 0,
            dones: Vec::new(),
            lent: Vec::new(),
        }
    }

    /// A controller that is ready.
    pub fn new(config: Config) -> Rig {
        let mut rig = Rig::cold(config);
        rig.settle();
        assert_eq!(rig.controller.health(), Health::Ready);
        rig
    }

    /// Polls the controller alone until it is ready or dead.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            if matches!(self.controller.health(), Health::Ready | Health::Dead(_)) {
                return;
            }
            self.now_ns += TURN_NS;
            self.controller.poll(self.now_ns);
            self.soft.work();
        }
        panic!("neither ready nor dead: {:?}", self.controller.health());
    }

    /// Opens namespace `nsid` and waits until its queue is there.
    pub fn open(&mut self, nsid: u32) -> Addr {
        let bdev: Arc<dyn Bdev> = Arc::new(self.controller.bdev(nsid).unwrap());
        self.stack.open(&bdev, self.now_ns).unwrap()
    }

    pub fn bdev(&self, nsid: u32) -> Result<NvmeBdev, String> {
        self.controller.bdev(nsid).map_err(|error| error.0)
    }

    /// One turn of the reactor, without the drive.
    pub fn half_turn(&mut self) {
        self.now_ns += TURN_NS;
        self.stack.poll(self.now_ns);
        let before = self.dones.len();
        self.stack.deliver(self.now_ns, &mut self.dones);
        for done in &self.dones[before..] {
            let at = self.lent.iter().position(|(tag, _)| *tag == done.tag.0);
            let (_, range) = self.lent.swap_remove(at.expect("ended once, after it was submitted"));
            let mut engine = self.soft.engine();
            let at = engine.lent.iter().position(|lent| *lent == range).expect("lent");
            engine.lent.swap_remove(at);
        }
    }

    /// One turn of the reactor and of the drive.
    pub fn turn(&mut self) {
        self.half_turn();
        self.soft.work();
    }

    pub fn turns(&mut self, count: u32) {
        (0..count).for_each(|_| self.turn());
    }

    /// Turns until `count` operations have ended.
    pub fn run(&mut self, count: usize) {
        for _ in 0..20_000 {
            if self.dones.len() >= count {
                return;
            }
            self.turn();
        }
        panic!("{} of {count} operations ended: {:?}", self.dones.len(), self.controller.health());
    }

    #[allow(clippy::too_many_arguments)]
    pub fn submit(
        &mut self,
        to: Addr,
        op: Op,
        flags: IoFlags,
        lba: u64,
        blocks: u32,
        data: DmaSlice,
        tag: u64,
    ) {
        let range = (data.as_ptr() as usize, data.len());
        self.lent.push((tag, range));
        self.soft.engine().lent.push(range);
        let (reply_to, reply_tag) = (Addr::edge(0), Tag(tag));
        let io = Io { op, flags, lba, blocks, data, reply_to, reply_tag };
        self.stack.submit(to, io, self.now_ns);
    }

    /// Does one operation, and says how it ended.
    pub fn one(&mut self, to: Addr, op: Op, lba: u64, blocks: u32, data: DmaSlice) -> Status {
        assert!(self.dones.is_empty());
        self.submit(to, op, IoFlags::NONE, lba, blocks, data, 1 << 40);
        self.run(1);
        self.dones.pop().unwrap().status
    }

    /// A buffer of `bytes` bytes, each of them `fill`.
    pub fn buffer(&mut self, bytes: usize, fill: u8) -> DmaBuf {
        let buf = self.pool.take(bytes).expect("a buffer");
        buf.slice().copy_in(0, &vec![fill; buf.len()]);
        buf
    }

    pub fn write(&mut self, to: Addr, lba: u64, blocks: u32, bytes: &[u8]) -> Status {
        let buf = self.buffer(bytes.len(), 0);
        buf.slice().copy_in(0, bytes);
        let status = self.one(to, Op::Write, lba, blocks, buf.slice().sub(0, bytes.len()));
        self.pool.give(buf);
        status
    }

    pub fn read(&mut self, to: Addr, lba: u64, blocks: u32, bytes: usize) -> (Status, Vec<u8>) {
        let buf = self.buffer(bytes, 0xee);
        let status = self.one(to, Op::Read, lba, blocks, buf.slice().sub(0, bytes));
        let mut got = vec![0; bytes];
        buf.slice().copy_out(0, &mut got);
        self.pool.give(buf);
        (status, got)
    }

    /// Asks for an admin command and waits for its answer.
    pub fn ask(&mut self, request: Request) -> Answer {
        let ticket = self.controller.ask(request);
        for _ in 0..10_000 {
            if let Some(answer) = self.controller.answer(ticket) {
                return answer;
            }
            self.now_ns += TURN_NS;
            self.controller.poll(self.now_ns);
            self.soft.work();
        }
        panic!("no answer");
    }

    /// What the driver did against the specification, as one text.
    pub fn blame(&self) -> String {
        self.soft.violations().join("\n")
    }

    /// Fails if the driver did anything against the specification.
    pub fn check(&self) {
        assert_eq!(self.blame(), "");
    }
}
