//! The initiator against our own target, over loopback.

use bdev::{Addr, Bdev, DmaSlice, Done, Io, IoFlags, Memory, Op, Stack, Tag};
use bdev_mem::Ram;
use loopback::{NQN, Node};
use nvme_spec::opcode::nvm;
use nvme_spec::{Sqe, Status};
use nvmf::registry::{Fabric, Listener, Serves};
use nvmf::subsystem::Hosts;
use nvmf_host::qpair::Payload;
use nvmf_host::{Data, Host, LinkState, Options, Pattern, RemoteBdev, Session, discover};
use nvmf_wire::Nqn;
use reactor::thread::clock_ns;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const BLOCK: usize = 512;
const DISK: u64 = 32 << 20;

fn host() -> Host {
    Host::of_id([5; 16])
}

fn options(address: SocketAddr) -> Options {
    Options {
        reconnect_delay: Duration::from_millis(5),
        reconnect_delay_max: Duration::from_millis(50),
        ..Options::new(address, Nqn::new(NQN).unwrap(), host())
    }
}

fn ram() -> Arc<dyn Bdev> {
    Arc::new(Ram::new(DISK, BLOCK as u32).unwrap())
}

struct Rig {
    stack: Stack,
    addr: Addr,
    memory: Arc<Memory>,
    done: Vec<Done>,
    /// First block that it writes.
    base: u64,
}

impl Rig {
    fn new(bdev: Arc<dyn Bdev>) -> Rig {
        let memory = Arc::new(Memory::map(1, 16 << 20).unwrap());
        let mut stack = Stack::new(0, memory.clone());
        let addr = stack.open(&bdev, clock_ns()).unwrap();
        Rig { stack, addr, memory, done: Vec::new(), base: 0 }
    }

    fn submit(&mut self, op: Op, flags: IoFlags, lba: u64, data: DmaSlice, blocks: u32, tag: u64) {
        let (reply_to, reply_tag) = (Addr::edge(0), Tag(tag));
        let io = Io { op, flags, lba, blocks, data, reply_to, reply_tag };
        self.stack.submit(self.addr, io, clock_ns());
    }

    fn settle(&mut self) -> Vec<Done> {
        while self.stack.outstanding(self.addr) > 0 || self.stack.has_dones() {
            let now = clock_ns();
            if self.stack.poll(now) + self.stack.deliver(now, &mut self.done) == 0 {
                std::thread::sleep(Duration::from_micros(20));
            }
        }
        std::mem::take(&mut self.done)
    }

    fn one(&mut self, op: Op, flags: IoFlags, lba: u64, data: DmaSlice, blocks: u32) -> Status {
        self.submit(op, flags, lba, data, blocks, 0);
        self.settle()[0].status
    }

    /// Writes `count` pieces of `blocks` blocks at once, calls `meanwhile`, reads them back and
    /// checks them.
    fn write_and_check(
        &mut self,
        seed: u64,
        blocks: usize,
        count: usize,
        meanwhile: impl FnOnce(),
    ) {
        let pattern = Pattern::new(seed);
        let bytes = blocks * BLOCK;
        let pieces: Vec<DmaSlice> =
            (0..count).map(|n| self.memory.slice(0, n * bytes, bytes)).collect();
        let mut data = vec![0; bytes];
        let base = self.base;
        let lba = |n: usize| base + (n * blocks) as u64;
        for (n, piece) in pieces.iter().enumerate() {
            let lba = lba(n);
            pattern.fill(lba, BLOCK, &mut data);
            piece.copy_in(0, &data);
            self.submit(Op::Write, IoFlags::FUA, lba, *piece, blocks as u32, n as u64);
        }
        self.stack.poll(clock_ns());
        meanwhile();
        let written = self.settle();
        for (n, piece) in pieces.iter().enumerate() {
            piece.zero();
            self.submit(Op::Read, IoFlags::NONE, lba(n), *piece, blocks as u32, n as u64);
        }
        for done in [written, self.settle()] {
            assert_eq!(done.len(), count);
            assert!(done.iter().all(|done| done.status == Status::SUCCESS), "{done:?}");
        }
        for (n, piece) in pieces.iter().enumerate() {
            piece.copy_out(0, &mut data);
            assert_eq!(pattern.check(lba(n), BLOCK, &data), Ok(()));
        }
    }
}

#[test]
fn every_operation_with_and_without_digests() {
    let node = Node::start(ram(), Hosts::Any, None);
    for (header_digest, data_digest) in [(false, false), (true, false), (false, true), (true, true)]
    {
        let options = Options { header_digest, data_digest, ..options(node.address) };
        let bdev = Arc::new(RemoteBdev::connect(options, 1).unwrap());
        assert_eq!(bdev.geometry().bytes(), DISK);
        assert_eq!(bdev.controller().model, "Forebay");
        let mut rig = Rig::new(bdev.clone());
        for (blocks, count) in [(1, 200), (8, 200), (17, 100), (256, 40), (2048, 16)] {
            rig.write_and_check(blocks as u64, blocks, count, || {});
        }
        let data = rig.memory.slice(0, 0, 64 * BLOCK);
        let flags = [IoFlags::NONE, IoFlags::MAY_DEALLOCATE];
        for (op, flags) in
            [(Op::WriteZeroes, flags[0]), (Op::WriteZeroes, flags[1]), (Op::Deallocate, flags[0])]
        {
            rig.write_and_check(9, 64, 2, || {});
            assert_eq!(rig.one(op, flags, 0, DmaSlice::EMPTY, 64), Status::SUCCESS);
            assert_eq!(rig.one(Op::Read, IoFlags::NONE, 0, data, 64), Status::SUCCESS);
            let mut bytes = vec![1; 64 * BLOCK];
            data.copy_out(0, &mut bytes);
            assert!(bytes.iter().all(|byte| *byte == 0), "{op:?}");
        }
        assert_eq!(rig.one(Op::Flush, IoFlags::NONE, 0, DmaSlice::EMPTY, 0), Status::SUCCESS);
        let end = DISK / BLOCK as u64;
        let beyond = rig.one(Op::Read, IoFlags::NONE, end - 1, data, 64);
        assert_eq!(beyond.code(), Status::LBA_OUT_OF_RANGE);
        rig.stack.close(rig.addr);
        bdev.disconnect();
    }
}

#[test]
fn a_target_that_is_killed_and_started_again_loses_nothing() {
    let disk = ram();
    let mut node = Node::start(disk.clone(), Hosts::Any, None);
    let address = node.address;
    let bdev = Arc::new(RemoteBdev::connect(options(address), 1).unwrap());
    let mut rig = Rig::new(bdev.clone());
    for seed in 0..5 {
        rig.write_and_check(seed, 256, 32, || {
            node.kill();
            node = Node::start(disk.clone(), Hosts::Any, Some(address));
        });
        assert_eq!(bdev.link(), LinkState::Connected);
    }
}

#[test]
fn several_queues_at_once_and_a_kill_under_all_of_them() {
    let disk = ram();
    let mut node = Node::start(disk.clone(), Hosts::Any, None);
    let address = node.address;
    let options = Options { queues: 3, ..options(address) };
    let bdev: Arc<dyn Bdev> = Arc::new(RemoteBdev::connect(options, 1).unwrap());
    let threads: Vec<_> = (0..3)
        .map(|n: u64| {
            let bdev = bdev.clone();
            std::thread::spawn(move || {
                let mut rig = Rig::new(bdev);
                rig.base = n * 16384;
                for seed in 0..20 {
                    rig.write_and_check(seed, 8, 100, || {});
                    rig.write_and_check(seed, 256, 20, || {});
                }
                rig.stack.close(rig.addr);
            })
        })
        .collect();
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(20));
        node.kill();
        node = Node::start(disk.clone(), Hosts::Any, Some(address));
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn discovery_and_refusal() {
    let friend = host().nqn.as_str().to_string();
    let node = Node::start(ram(), Hosts::Listed([friend].into()), None);
    node.registry.add_listener(Listener {
        fabric: Fabric::Tcp,
        addr: node.address,
        port_id: 1,
        serves: Serves::Everything,
    });
    let found = discover(node.address, host()).unwrap();
    let of_ours = |f: &&nvmf_host::Found| f.subsystem == NQN;
    let ours: Vec<_> = found.iter().filter(of_ours).collect();
    assert_eq!(ours.len(), 1, "{found:?}");
    assert_eq!(ours[0].socket_address(), Some(node.address));

    let stranger = Host::of_id([6; 16]);
    let found = discover(node.address, stranger).unwrap();
    assert_eq!(found.iter().filter(of_ours).count(), 0, "{found:?}");
    let refused = Options { host: stranger, ..options(node.address) };
    let text = RemoteBdev::connect(refused, 1).map(drop).unwrap_err().to_string();
    assert!(text.contains("Connect Invalid Host") && text.contains("add nqn."), "{text}");
    let other = Nqn::new("nqn.2026-01.io.forebay:other").unwrap();
    let absent = Options { subsystem: other, ..options(node.address) };
    let text = RemoteBdev::connect(absent, 1).map(drop).unwrap_err().to_string();
    assert!(text.contains("there is no subsystem nqn.2026-01.io.forebay:other"), "{text}");
}

#[test]
fn raw_commands_and_a_fused_pair() {
    let node = Node::start(ram(), Hosts::Any, None);
    let mut session = Session::connect(&options(node.address)).unwrap();
    let controller = session.controller().unwrap();
    let mut queue = session.io_queue(1, 16, &controller).unwrap();
    let write = |opcode, flags| {
        let mut sqe = Sqe::new(opcode, 0, 1);
        sqe.set_blocks(1);
        sqe.flags |= flags;
        sqe
    };
    let old = [7; BLOCK];
    queue.succeed("Write", write(nvm::WRITE, 0), Data::Out(&old)).unwrap();
    queue.succeed("Compare", write(nvm::COMPARE, 0), Data::Out(&old)).unwrap();
    let other = queue.execute("Compare", write(nvm::COMPARE, 0), Data::Out(&[8; BLOCK])).unwrap();
    assert_eq!(other.cqe.status().code(), Status::COMPARE_FAILURE);

    let memory = Memory::map(1, 2 * BLOCK).unwrap();
    let (compare, new) = (memory.slice(0, 0, BLOCK), memory.slice(0, BLOCK, BLOCK));
    compare.copy_in(0, &old);
    new.copy_in(0, &[9; BLOCK]);
    for (first, second) in [
        (Status::SUCCESS, Status::SUCCESS),
        (Status::COMPARE_FAILURE, Status::ABORTED_FAILED_FUSED),
    ] {
        let sqe = write(nvm::COMPARE, Sqe::FUSE_FIRST);
        let a = queue.post(sqe, Payload::ToController(compare));
        let b = queue.post(write(nvm::WRITE, Sqe::FUSE_SECOND), Payload::ToController(new));
        assert_eq!(queue.wait("Compare", a).unwrap().cqe.status().code(), first);
        assert_eq!(queue.wait("Write", b).unwrap().cqe.status().code(), second);
    }
    let mut data = [0; BLOCK];
    queue.succeed("Read", write(nvm::READ, 0), Data::In(&mut data)).unwrap();
    assert_eq!(data, [9; BLOCK]);

    let unknown = queue.execute("0xc0", Sqe::new(0xc0, 0, 1), Data::None).unwrap();
    assert_eq!(unknown.cqe.status().code(), Status::INVALID_OPCODE);
    session.keep_alive().unwrap();
    session.shut_down(Duration::from_secs(2)).unwrap();
}
