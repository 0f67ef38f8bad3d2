//! A remote bdev over real sockets on loopback, against fake targets.

use super::*;
use crate::fake::{BLOCK, Knobs, Server, Storage};
use crate::{Host, Pattern, Session, discover};
use bdev::sleep::clock_ns;
use bdev::{Addr, DmaSlice, Done, Io, IoFlags, Memory, Op, Stack, Tag};
use nvme_spec::Status;
use nvme_spec::aen::Event;
use nvmf_wire::Nqn;
use nvmf_wire::discovery::{AdrFam, Record, SubType, TrType};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

const BLOCKS: usize = 8192;

fn options(address: SocketAddr) -> Options {
    let subsystem = Nqn::new("nqn.2026-01.io.forebay:test").unwrap();
    Options {
        reconnect_delay: Duration::from_millis(5),
        ..Options::new(address, subsystem, Host::of_id([3; 16]))
    }
}

struct Rig {
    stack: Stack,
    addr: Addr,
    memory: Arc<Memory>,
    done: Vec<Done>,
}

impl Rig {
    fn new(bdev: Arc<dyn Bdev>) -> Rig {
        let memory = Arc::new(Memory::map(1, 16 << 20).unwrap());
        let mut stack = Stack::new(0, memory.clone());
        let addr = stack.open(&bdev, clock_ns()).unwrap();
        Rig { stack, addr, memory, done: Vec::new() }
    }

    fn submit(&mut self, op: Op, lba: u64, data: DmaSlice, blocks: u32, tag: u64) {
        let (reply_to, reply_tag) = (Addr::edge(0), Tag(tag));
        let io = Io { op, flags: IoFlags::NONE, lba, blocks, data, reply_to, reply_tag };
        self.stack.submit(self.addr, io, clock_ns());
    }

    fn settle(&mut self) -> Vec<Done> {
        while self.stack.outstanding(self.addr) > 0 || self.stack.has_dones() {
            let now = clock_ns();
            if self.stack.poll(now) + self.stack.deliver(now, &mut self.done) == 0 {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        std::mem::take(&mut self.done)
    }

    fn one(&mut self, op: Op, lba: u64, data: DmaSlice, blocks: u32) -> Status {
        self.submit(op, lba, data, blocks, 0);
        let done = self.settle();
        assert_eq!(done.len(), 1);
        done[0].status
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
        let piece = |n: usize| self.memory.slice(0, n * bytes, bytes);
        let pieces: Vec<DmaSlice> = (0..count).map(piece).collect();
        let mut data = vec![0; bytes];
        for (n, piece) in pieces.iter().enumerate() {
            pattern.fill((n * blocks) as u64, BLOCK, &mut data);
            piece.copy_in(0, &data);
            self.submit(Op::Write, (n * blocks) as u64, *piece, blocks as u32, n as u64);
        }
        self.stack.poll(clock_ns());
        meanwhile();
        for op in [Op::Write, Op::Read] {
            if op == Op::Read {
                for (n, piece) in pieces.iter().enumerate() {
                    piece.zero();
                    self.submit(op, (n * blocks) as u64, *piece, blocks as u32, n as u64);
                }
            }
            let done = self.settle();
            assert_eq!(done.len(), count);
            assert!(done.iter().all(|done| done.status == Status::SUCCESS), "{done:?}");
        }
        for (n, piece) in pieces.iter().enumerate() {
            piece.copy_out(0, &mut data);
            assert_eq!(pattern.check((n * blocks) as u64, BLOCK, &data), Ok(()));
        }
    }
}

#[test]
fn all_operations_with_and_without_digests() {
    for (hdgst, ddgst) in [(false, false), (true, false), (false, true), (true, true)] {
        let knobs = Knobs { hdgst, ddgst, cpda: 3, mdts: 5, ..Knobs::default() };
        let server = Server::start(knobs, Storage::new(BLOCKS));
        let options = Options {
            header_digest: hdgst,
            data_digest: ddgst,
            congestion: Some("reno".into()),
            ..options(server.address)
        };
        let bdev = Arc::new(RemoteBdev::connect(options, 1).unwrap());
        assert_eq!(bdev.geometry().blocks, BLOCKS as u64);
        assert!(bdev.geometry().volatile_cache && bdev.geometry().deallocates);
        let mut rig = Rig::new(bdev.clone());
        rig.write_and_check(1, 1, 40, || {});
        rig.write_and_check(2, 8, 40, || {});
        // 1 MiB, in commands of 128 KiB.
        rig.write_and_check(3, 2048, 4, || {});
        let data = rig.memory.slice(0, 0, 8 * BLOCK);
        for op in [Op::WriteZeroes, Op::Deallocate] {
            rig.write_and_check(4, 8, 2, || {});
            assert_eq!(rig.one(op, 0, DmaSlice::EMPTY, 8), Status::SUCCESS);
            assert_eq!(rig.one(Op::Read, 0, data, 8), Status::SUCCESS);
            let mut bytes = vec![1; 8 * BLOCK];
            data.copy_out(0, &mut bytes);
            assert!(bytes.iter().all(|byte| *byte == 0), "{op:?}");
        }
        assert_eq!(rig.one(Op::Flush, 0, DmaSlice::EMPTY, 0), Status::SUCCESS);
        rig.stack.close(rig.addr);
        bdev.disconnect();
        assert_eq!(bdev.link(), LinkState::Closed);
    }
}

#[test]
fn connections_that_are_cut_are_made_again_and_nothing_is_lost() {
    let server = Server::start(Knobs::default(), Storage::new(BLOCKS));
    let bdev = Arc::new(RemoteBdev::connect(options(server.address), 1).unwrap());
    let mut rig = Rig::new(bdev.clone());
    rig.write_and_check(1, 8, 8, || {});
    let before = server.accepted();
    for seed in 2..6 {
        rig.write_and_check(seed, 256, 16, || server.cut());
    }
    assert!(server.accepted() >= before + 2);
    assert_eq!(bdev.link(), LinkState::Connected);
}

#[test]
fn a_target_that_is_away_is_waited_for_and_then_given_up() {
    let server = Server::start(Knobs::default(), Storage::new(BLOCKS));
    let patient = options(server.address);
    let bdev = Arc::new(RemoteBdev::connect(patient.clone(), 1).unwrap());
    let hasty = Options { loss_timeout: Duration::from_millis(50), ..patient };
    let other = Arc::new(RemoteBdev::connect(hasty, 1).unwrap());
    let (mut rig, mut hasty) = (Rig::new(bdev.clone()), Rig::new(other));
    rig.write_and_check(1, 8, 4, || {});
    hasty.write_and_check(1, 8, 4, || {});
    server.refuse(true);
    server.cut();
    let data = hasty.memory.slice(0, 0, 8 * BLOCK);
    assert_eq!(hasty.one(Op::Read, 0, data, 8), Status::HOST_PATHING);
    assert_eq!(hasty.one(Op::Read, 0, data, 8), Status::HOST_PATHING);
    let LinkState::Reconnecting { why } = bdev.link() else { panic!("{:?}", bdev.link()) };
    let reasons = ["closed the connection", "reset", "Broken pipe"];
    assert!(reasons.iter().any(|reason| why.contains(reason)), "{why}");
    rig.write_and_check(2, 8, 4, || server.refuse(false));
    // The hasty one finds its way back, too.
    while hasty.one(Op::Read, 0, data, 8) != Status::SUCCESS {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_resize_is_heard_of() {
    let server = Server::start(Knobs::default(), Storage::new(BLOCKS));
    let bdev = RemoteBdev::connect(options(server.address), 1).unwrap();
    {
        let mut storage = server.storage.lock().unwrap();
        storage.blocks = 100;
        storage.events.push(Event::NAMESPACE_CHANGED.dword());
    }
    while bdev.geometry().blocks != 100 {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn more_reactors_than_queues_are_told_so() {
    let server = Server::start(Knobs::default(), Storage::new(BLOCKS));
    let bdev: Arc<dyn Bdev> = Arc::new(RemoteBdev::connect(options(server.address), 1).unwrap());
    let first = Rig::new(bdev.clone());
    let mut other = Stack::new(1, first.memory.clone());
    let refused = other.open(&bdev, 0).unwrap_err();
    assert!(refused.0.contains("all 1 I/O queues"), "{refused}");
    let mut first = first;
    first.stack.close(first.addr);
    other.open(&bdev, 0).unwrap();
}

#[test]
fn refusals_are_sentences() {
    let knobs = Knobs { refuse_host: true, ..Knobs::default() };
    let server = Server::start(knobs, Storage::new(BLOCKS));
    let said = |address, nsid| {
        let options = Options { connect_timeout: Duration::from_millis(100), ..options(address) };
        RemoteBdev::connect(options, nsid).map(drop).unwrap_err().to_string()
    };
    let text = said(server.address, 1);
    assert!(text.contains("Connect Invalid Host"), "{text}");
    assert!(text.contains("add nqn.2014-08.org.nvmexpress:uuid:03030303-"), "{text}");

    let server = Server::start(Knobs::default(), Storage::new(BLOCKS));
    let text = said(server.address, 5);
    assert!(text.contains("has no namespace 5"), "{text}");
    let wrong = Options { congestion: Some("nonesuch".into()), ..options(server.address) };
    let text = RemoteBdev::connect(wrong, 1).map(drop).unwrap_err().to_string();
    assert!(text.contains("congestion control nonesuch"), "{text}");

    // Nobody there; somebody who says nothing; somebody who speaks something else.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap();
    let text = said(silent, 1);
    assert!(text.contains("did not answer in time"), "{text}");
    let speaker = std::thread::spawn(move || {
        // The first connection is the silent one's.
        listener.accept().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n").unwrap();
        stream
    });
    let text = said(silent, 1);
    assert!(text.contains("faulty PDU"), "{text}");
    drop(speaker.join());
    let text = said(silent, 1);
    assert!(text.contains("cannot connect to 127.0.0.1"), "{text}");
}

#[test]
fn discovery_tells_what_there_is() {
    let storage = Storage::new(8);
    let record = Record {
        trtype: TrType::Tcp,
        adrfam: AdrFam::Ipv4,
        subtype: SubType::Nvm,
        treq: 4,
        portid: 1,
        cntlid: 0xffff,
        asqsz: 32,
        eflags: 0,
        trsvcid: "4420",
        subnqn: Nqn::new("nqn.2026-01.io.forebay:one").unwrap(),
        traddr: "127.0.0.1",
        sectype: 0,
    };
    // More than one page of them.
    let mut entries = vec![record.entry(); 11];
    entries[3].subnqn = [b'x'; 256];
    entries[7].subnqn[1] = b'\n';
    entries[10].traddr[..6].copy_from_slice(b"\x1b[2J\n ");
    storage.lock().unwrap().entries = entries;
    let server = Server::start(Knobs::default(), storage);
    let discovered = discover(server.address, Host::of_id([1; 16])).unwrap();
    let found = discovered.records;
    assert_eq!(found.len(), 9);
    let whose = "(address 127.0.0.1, port 4420) has an NQN that";
    let long = format!("record 4 {whose} is longer than 223 bytes");
    let broken = format!("record 8 {whose} contains a space or a control character");
    assert_eq!(discovered.left_out, [long, broken]);
    assert_eq!(found[8].address, "\\u{1b}[2J\\n 0.1", "nothing that a terminal acts on");
    let found = &found[..8];
    assert_eq!(found[7].socket_address(), Some("127.0.0.1:4420".parse().unwrap()));
    assert_eq!(found[7].subsystem, "nqn.2026-01.io.forebay:one");
    assert_eq!((found[0].transport, found[0].kind), (TrType::Tcp, SubType::Nvm));
}

#[test]
fn a_session_executes_what_it_is_given() {
    let server = Server::start(Knobs::default(), Storage::new(BLOCKS));
    let mut session = Session::connect(&options(server.address)).unwrap();
    let controller = session.controller().unwrap();
    assert_eq!(controller.model, "Fake");
    assert_eq!(controller.in_capsule_bytes, 8192);
    assert_eq!(session.active_namespaces().unwrap(), [1]);
    assert_eq!(session.namespace(1).unwrap().block_bytes, 512);
    let mut queue = session.io_queue(1, 8, &controller).unwrap();
    let sqe = nvme_spec::Sqe::new(nvme_spec::opcode::nvm::COMPARE, 0, 1);
    let ended = queue.execute("Compare", sqe, crate::Data::Out(&[0; 512])).unwrap();
    assert_eq!(ended.cqe.status().code(), Status::INVALID_OPCODE);
    session.shut_down(Duration::from_secs(1)).unwrap();
}
