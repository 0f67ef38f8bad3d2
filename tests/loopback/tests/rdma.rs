//! The initiator against our own target over RDMA made of memory: every command ends once, with
//! its data, whatever the network does; and no memory is used once its operation has ended.

mod support;

use bdev::{Bdev, DmaSlice, Memory};
use loopback::NQN;
use loopback::soft::{Fault, Plan};
use loopback::soft_node::SoftNode;
use nvme_spec::opcode::nvm;
use nvme_spec::property::Cc;
use nvme_spec::{Sqe, Status};
use nvmf_host::qpair::{Broken, Ended, Payload, RdmaQpair, Ring};
use nvmf_host::{Host, LinkState, Options, RemoteBdev, Transport};
use nvmf_wire::Nqn;
use nvmf_wire::connect::{Connect, ConnectData, Connected};
use nvmf_wire::property::{PropertySet, Width};
use nvmf_wire::rdma::Reject;
use proptest::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use support::{BLOCK, DISK, Rig, ram};
use verbs::initiator::{Dialer, Wish};
use zerocopy::IntoBytes;

const DEPTH: u16 = 8;

/// The most bytes of one command.
const SLOT_BYTES: usize = 32 * BLOCK;

fn options(node: &SoftNode) -> Options {
    let address = "192.0.2.1:4420".parse().unwrap();
    let mut options = Options::new(address, Nqn::new(NQN).unwrap(), Host::of_id([5; 16]));
    options.transport = Transport::Rdma(Arc::new(node.dialer()));
    options.connect_timeout = Duration::from_millis(300);
    options.reconnect_delay = Duration::from_millis(5);
    options.reconnect_delay_max = Duration::from_millis(50);
    options
}

/// Nothing is left of hosts that are gone.
fn check_nothing_left(node: &SoftNode) {
    for _ in 0..200 {
        node.settle();
        if node.wire.connections() == 0 && node.buffers() == [0; 4] {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} connections, buffers {:?}", node.wire.connections(), node.buffers());
}

#[test]
fn every_operation() {
    let node = SoftNode::start(&ram(), Plan::default());
    let bdev = Arc::new(RemoteBdev::connect(options(&node), 1).unwrap());
    assert_eq!(bdev.geometry().bytes(), DISK);
    assert_eq!(bdev.controller().in_capsule_bytes, 4096);
    let mut rig = Rig::new(bdev.clone());
    rig.every_operation();
    rig.stack.close(rig.addr);
    bdev.disconnect();
    check_nothing_left(&node);
}

#[test]
fn a_network_that_is_cut_again_and_again_loses_nothing() {
    let node = SoftNode::start(&ram(), Plan::default());
    let bdev = Arc::new(RemoteBdev::connect(options(&node), 1).unwrap());
    let mut rig = Rig::new(bdev.clone());
    let faults = [
        Fault::Unacknowledged,
        Fault::NoReceive,
        Fault::Disconnected,
        Fault::ShortAnswer,
        Fault::Invalidates,
        Fault::Twice,
    ];
    for (seed, fault) in faults.into_iter().enumerate() {
        let fault = Some((7, fault));
        rig.write_and_check(seed as u64, 256, 32, || {
            node.wire.replan(Plan { fault, ..Plan::default() })
        });
        rig.write_and_check(seed as u64 + 50, 8, 100, || node.wire.cut());
        assert_eq!(bdev.link(), LinkState::Connected);
    }
    rig.stack.close(rig.addr);
    bdev.disconnect();
    check_nothing_left(&node);
}

#[test]
fn who_is_not_connected_is_told_why() {
    let node = SoftNode::start(&ram(), Plan::default());
    let text = |options| RemoteBdev::connect(options, 1).map(drop).unwrap_err().to_string();
    let digests = Options { data_digest: true, ..options(&node) };
    assert!(text(digests).contains("NVMe/RDMA has no digests"));
    let other = Nqn::new("nqn.2026-01.io.forebay:other").unwrap();
    let absent = text(Options { subsystem: other, ..options(&node) });
    assert!(absent.contains("there is no subsystem nqn.2026-01.io.forebay:other"), "{absent}");
    let reject = Some(Reject::NoResources);
    node.wire.replan(Plan { reject, ..Plan::default() });
    let full = text(options(&node));
    assert_eq!(
        full,
        "no connection over RDMA to 192.0.2.1:4420: the target has no place for one more queue"
    );
    node.wire.replan(Plan { deaf: true, ..Plan::default() });
    assert!(text(options(&node)).contains("no answer over RDMA in time"));
    check_nothing_left(&node);
}

/// One queue, driven by hand.
struct Queue {
    qpair: RdmaQpair<usize>,
    now_ns: u64,
}

impl Queue {
    fn open(node: &SoftNode, qid: u16, cntlid: u16, in_capsule: u32) -> (Queue, Connected) {
        let memory = Arc::new(Memory::map(1, 4096 + Ring::bytes(DEPTH)).unwrap());
        let ring = Ring::new(memory.clone(), 4096, DEPTH);
        let wish = Wish { qid, cntlid, depth: DEPTH };
        let address = "192.0.2.1:4420".parse().unwrap();
        let limit = Duration::from_secs(5);
        let dialer = node.dialer();
        let link = dialer.connect(address, &wish, &memory, &ring.landings(), limit).unwrap();
        let mut queue = Queue { qpair: RdmaQpair::new(link, ring, in_capsule), now_ns: 0 };
        let host = Host::of_id([5; 16]);
        let connect = Connect { recfmt: 0, qid, sqsize: DEPTH, cattr: 4, kato_ms: 0 };
        let data = ConnectData::new(host.id, cntlid, &Nqn::new(NQN).unwrap(), &host.nqn);
        let bytes = memory.slice(0, 0, 1024);
        bytes.copy_in(0, data.as_bytes());
        let ended = queue.one(connect.sqe(0), Payload::ToController(bytes));
        assert_eq!(ended.status(), Status::SUCCESS);
        (queue, Connected::from_dword(ended.cqe.dw0.get()))
    }

    fn one(&mut self, sqe: Sqe, payload: Payload) -> Ended {
        self.qpair.submit(0, sqe, payload, u64::MAX);
        let mut result = None;
        for _ in 0..100_000 {
            self.now_ns += 1000;
            self.qpair.poll(self.now_ns, |_, ended| result = Some(ended)).unwrap();
            if let Some(ended) = result {
                return ended;
            }
        }
        panic!("no answer");
    }
}

/// A write or a read: first block, blocks.
type Command = (bool, usize, usize);

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let blocks = prop_oneof![Just(1usize), Just(8), Just(9), 1usize..=32];
    let command = (any::<bool>(), 0usize..200, blocks);
    prop::collection::vec(command, 1..40)
}

fn content(n: usize, blocks: usize) -> Vec<u8> {
    (0..blocks * BLOCK).map(|at| (at * 7 + at / 512 + n * 31 + 1) as u8).collect()
}

/// Command number `n`, with its data in `data`.
fn command((write, lba, blocks): Command, n: usize, data: DmaSlice) -> (Sqe, Payload) {
    let mut sqe = Sqe::new(if write { nvm::WRITE } else { nvm::READ }, 0, 1);
    sqe.set_slba(lba as u64);
    sqe.set_blocks(blocks as u32);
    if write {
        data.copy_in(0, &content(n, blocks));
        return (sqe, Payload::ToController(data));
    }
    data.zero();
    (sqe, Payload::ToHost(data))
}

/// Opens an admin queue and an I/O queue, and enables the controller between the two.
fn open_both(node: &SoftNode, in_capsule: u32) -> (Queue, Queue) {
    let (mut admin, connected) = Queue::open(node, 0, 0xffff, 0);
    let enable = u64::from(Cc::ENABLE.0);
    let enable = PropertySet { width: Width::Four, offset: 0x14, value: enable };
    assert_eq!(admin.one(enable.sqe(0), Payload::None).status(), Status::SUCCESS);
    (admin, Queue::open(node, 1, connected.cntlid, in_capsule).0)
}

/// Runs commands one group after the other, of which no two touch the same blocks. Returns each
/// one's end with its data, and why the connection was lost, if it was.
#[allow(clippy::type_complexity)]
fn run(
    node: &SoftNode,
    commands: &[Command],
    in_capsule: u32,
    fault: Option<(u32, Fault)>,
) -> (Vec<(usize, Ended, Vec<u8>)>, Option<Broken>) {
    let choices = node.wire.plan().choices;
    let (mut admin, mut io) = open_both(node, in_capsule);
    let memory = Arc::new(Memory::map(1, commands.len() * SLOT_BYTES).unwrap());
    io.qpair.lend(&memory).unwrap();
    let slice = |n: usize| -> DmaSlice { memory.slice(0, n * SLOT_BYTES, commands[n].2 * BLOCK) };
    node.wire.replan(Plan { choices, fault, ..Plan::default() });
    let (mut ends, mut begun, mut broken) = (Vec::new(), 0, None);
    let apart = |a: Command, b: Command| a.1 + a.2 <= b.1 || b.1 + b.2 <= a.1;
    let mut open: Vec<usize> = Vec::new();
    for _ in 0..100_000 {
        while begun < commands.len()
            && io.qpair.has_room()
            && open.iter().all(|other| apart(commands[*other], commands[begun]))
        {
            let (sqe, payload) = command(commands[begun], begun, slice(begun));
            io.qpair.submit(begun, sqe, payload, u64::MAX);
            open.push(begun);
            begun += 1;
        }
        io.now_ns += 1000;
        let mut now = Vec::new();
        let result = io.qpair.poll(io.now_ns, |n, ended| now.push((n, ended)));
        let touched = node.wire.touched();
        for (n, ended) in now {
            let memory = slice(n).as_ptr();
            assert!(!touched.iter().any(|t| t.as_ptr() == memory), "{n} ended and is in use");
            let mut data = vec![0; slice(n).len()];
            slice(n).copy_out(0, &mut data);
            open.retain(|other| *other != n);
            ends.push((n, ended, data));
        }
        if let Err(why) = result {
            broken = Some(why);
            break;
        }
        if open.is_empty() && begun == commands.len() {
            break;
        }
    }
    let mut held = Vec::new();
    io.qpair.close(|n| held.push(n));
    held.sort_unstable();
    open.sort_unstable();
    assert_eq!(held, open, "what had not ended comes back");
    assert!(broken.is_some() || open.is_empty(), "commands that never end");
    let of_ours = |t: &DmaSlice| held.iter().any(|n| slice(*n).as_ptr() == t.as_ptr());
    assert!(!node.wire.touched().iter().any(of_ours), "memory in use after the end");
    admin.qpair.close(|_| {});
    (ends, broken)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_command_ends_once_with_its_data(
        choices in prop::collection::vec(any::<u8>().prop_map(|c| c | 0x10), 1..20),
        commands in commands(),
        in_capsule in prop::sample::select(vec![0u32, 512, 4096]),
    ) {
        let node = SoftNode::start(&ram(), Plan { choices, ..Plan::default() });
        let (mut ends, broken) = run(&node, &commands, in_capsule, None);
        prop_assert!(broken.is_none(), "{:?}", broken);
        ends.sort_by_key(|(n, ..)| *n);
        prop_assert_eq!(ends.len(), commands.len());
        let mut model = vec![0; 256 * BLOCK];
        for (n, (index, ended, data)) in ends.into_iter().enumerate() {
            prop_assert_eq!(n, index);
            prop_assert_eq!(ended.status(), Status::SUCCESS);
            let (write, lba, blocks) = commands[n];
            let range = lba * BLOCK..(lba + blocks) * BLOCK;
            if write {
                model[range].copy_from_slice(&content(n, blocks));
            } else {
                prop_assert_eq!(&data[..], &model[range], "command {}", n);
            }
        }
        check_nothing_left(&node);
    }

    #[test]
    fn a_connection_that_breaks_leaves_nothing_behind(
        choices in prop::collection::vec(any::<u8>().prop_map(|c| c | 0x10), 1..20),
        commands in commands(),
        fault in prop::sample::select(vec![
            Fault::Unacknowledged, Fault::NoReceive, Fault::Disconnected, Fault::ShortAnswer,
            Fault::Invalidates, Fault::Twice,
        ]),
        at in 0u32..60,
    ) {
        let node = SoftNode::start(&ram(), Plan { choices, ..Plan::default() });
        let (ends, broken) = run(&node, &commands, 4096, Some((at, fault)));
        let mut seen: Vec<usize> = ends.iter().map(|(n, ..)| *n).collect();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), ends.len(), "one ended twice");
        if let Some(why) = broken {
            let text = why.to_string();
            match fault {
                Fault::Unacknowledged => prop_assert!(text.contains("retries exceeded"), "{text}"),
                Fault::ShortAnswer => prop_assert!(text.contains("not as long"), "{text}"),
                Fault::Invalidates => prop_assert!(text.contains("invalidates"), "{text}"),
                Fault::Twice => prop_assert!(text.contains("not under way"), "{text}"),
                _ => {}
            }
        }
        check_nothing_left(&node);
    }
}

#[test]
fn each_fault_is_noticed_and_named() {
    for (fault, named) in [
        (Fault::Unacknowledged, "does not acknowledge it"),
        (Fault::Disconnected, "closed the connection"),
        (Fault::NoReceive, "closed the connection"),
        (Fault::ShortAnswer, "not as long"),
        (Fault::Invalidates, "invalidates"),
        (Fault::Twice, "not under way"),
    ] {
        let node = SoftNode::start(&ram(), Plan::default());
        let commands: Vec<Command> = (0..20).map(|n| (n % 2 == 0, n * 8, 8)).collect();
        let (_, broken) = run(&node, &commands, 4096, Some((4, fault)));
        let text = broken.expect("it ends the connection").to_string();
        assert!(text.contains(named), "{fault:?}: {text}");
        check_nothing_left(&node);
    }
}

#[test]
fn data_that_lands_beside_its_place_is_found() {
    let node = SoftNode::start(&ram(), Plan::default());
    let commands = [(true, 0, 8), (false, 0, 8)];
    let (ends, _) = run(&node, &commands, 0, Some((0, Fault::Misplaced)));
    assert_ne!(ends[1].2, content(0, 8), "the checker sees it");
}

#[test]
fn a_command_that_is_not_answered_in_time_ends_the_connection() {
    let node = SoftNode::start(&ram(), Plan::default());
    let (mut queue, _) = Queue::open(&node, 0, 0xffff, 0);
    // No progress from here on.
    node.wire.replan(Plan { choices: vec![0], ..Plan::default() });
    let sqe = PropertySet { width: Width::Four, offset: 0x14, value: 1 }.sqe(0);
    queue.qpair.submit(3, sqe, Payload::None, 1_000_000_000);
    assert_eq!(queue.qpair.poll(500_000_000, |_, _| {}).unwrap(), 1);
    let why = queue.qpair.poll(1_100_000_000, |_, _| panic!("it ended")).unwrap_err();
    assert!(matches!(why, Broken::Timeout), "{why}");
    let mut held = Vec::new();
    queue.qpair.close(|ticket| held.push(ticket));
    assert_eq!(held, [3]);
    check_nothing_left(&node);
}
