//! Writes whose data goes straight to a device that is memory, while it comes.

use crate::fabric::Manners;
use crate::node::{Node, io, registry, write};
use crate::ram::Ram;
use bdev::Geometry;
use nvme_spec::opcode::nvm;
use nvme_spec::{Sqe, Status};
use nvmf::transport::QpairId;
use std::sync::Arc;

const BLOCK: usize = 512;
/// Blocks of the writes here, 64 KiB: the fabric needs several polls for them.
const BLOCKS: usize = 128;

/// Two reactors with one device that is memory, and a host on each: admin and I/O queue.
struct Two {
    ram: Arc<Ram>,
    nodes: [Node; 2],
    queues: [(QpairId, QpairId); 2],
}

fn two() -> Two {
    let ram = Ram::new(Geometry { direct_access: true, ..Geometry::plain(512, 1024) });
    let registry = registry(2, std::slice::from_ref(&ram));
    let mut nodes = [0, 1].map(|reactor| Node::new(&registry, reactor, [4, 0, 0, 0]));
    let queues = [0, 1].map(|at: usize| {
        nodes[at].fabric().manners.direct = 100;
        nodes[at].connect()
    });
    Two { ram, nodes, queues }
}

impl Two {
    /// Host 0 sends a write of `value` to the blocks from `lba` on; its data comes when asked for.
    fn write(&mut self, lba: u64, value: u8) -> u16 {
        self.send(0, write(lba, BLOCKS as u32), &[value; BLOCKS * BLOCK], false)
    }

    /// Host 1 sends a pair that makes `new` of `old` in one block.
    fn pair(&mut self, lba: u64, old: u8, new: u8) -> [u16; 2] {
        let half = |opcode, fuse| {
            let mut sqe = io(opcode, lba, 1);
            sqe.flags |= fuse;
            sqe
        };
        let compare = self.send(1, half(nvm::COMPARE, Sqe::FUSE_FIRST), &[old; BLOCK], true);
        [compare, self.send(1, half(nvm::WRITE, Sqe::FUSE_SECOND), &[new; BLOCK], true)]
    }

    fn send(&mut self, host: usize, mut sqe: Sqe, data: &[u8], in_capsule: bool) -> u16 {
        let node = &mut self.nodes[host];
        sqe.cid = node.cid().into();
        assert!(node.fabric().send(self.queues[host].1, sqe, data, in_capsule));
        sqe.cid()
    }

    fn turn(&mut self, host: usize) {
        for _ in 0..20 {
            self.nodes[host].turn();
        }
    }

    fn status(&mut self, host: usize, cid: u16) -> Status {
        let qpair = self.queues[host].1;
        self.nodes[host].answer(qpair, cid).cqe.status().code()
    }

    /// The value of every block of a write.
    fn values(&self, lba: usize) -> Vec<u8> {
        let disk = self.ram.disk();
        (lba..lba + BLOCKS).map(|block| disk.bytes[block * BLOCK]).collect()
    }

    fn end(mut self) {
        for (node, (admin, io)) in self.nodes.iter_mut().zip(self.queues) {
            node.fabric().manners = Manners::PROMPT;
            node.fabric().hang_up(admin);
            node.fabric().hang_up(io);
            for _ in 0..20 {
                node.now_ns += 20_000_000;
                node.turn();
            }
            node.check_nothing_left();
        }
    }
}

#[test]
fn data_waits_while_a_pair_holds_its_blocks() {
    let mut two = two();
    two.ram.disk().end = 0;
    let [compare, second] = two.pair(5, 0, 9);
    two.turn(1);
    let held = two.write(0, 7);
    two.turn(0);
    assert_eq!(two.values(0), [0; BLOCKS], "nothing lands under a pair");
    two.ram.disk().end = 100;
    assert_eq!(two.status(1, compare), Status::SUCCESS);
    assert_eq!(two.status(1, second), Status::SUCCESS);
    assert_eq!(two.status(0, held), Status::SUCCESS);
    assert_eq!(two.values(0), [7; BLOCKS], "the write came after the pair");
    two.end();
}

#[test]
fn data_for_other_blocks_does_not_wait() {
    let mut two = two();
    two.ram.disk().end = 0;
    let [_, second] = two.pair(5, 0, 9);
    two.turn(1);
    let write = two.write(200, 7);
    assert_eq!(two.status(0, write), Status::SUCCESS);
    two.ram.disk().end = 100;
    assert_eq!(two.status(1, second), Status::SUCCESS);
    two.end();
}

#[test]
fn a_pair_does_not_wait_for_a_host_that_is_slow() {
    let mut two = two();
    let slow = two.write(0, 7);
    two.nodes[0].turn();
    two.nodes[0].turn();
    two.nodes[0].fabric().manners.pull = 0;
    two.turn(0);
    let before = two.values(0);
    assert!(before[0] == 7 && before[BLOCKS - 1] == 0, "in the middle of it: {before:?}");
    let [compare, second] = two.pair(BLOCKS as u64 - 1, 0, 9);
    assert_eq!(two.status(1, compare), Status::SUCCESS);
    assert_eq!(two.status(1, second), Status::SUCCESS);
    two.nodes[0].fabric().manners.pull = 100;
    assert_eq!(two.status(0, slow), Status::SUCCESS);
    assert_eq!(two.values(0), [7; BLOCKS]);
    two.end();
}

#[test]
fn nothing_lands_for_a_controller_that_was_reset() {
    let mut two = two();
    let (admin, cntlid) = two.nodes[1].connect_admin(0);
    let own = std::mem::replace(&mut two.queues[0].1, two.nodes[0].connect_io(cntlid, 1, false));
    two.nodes[0].fabric().manners.pull = 0;
    two.write(0, 7);
    two.turn(0);
    assert_eq!(two.nodes[1].set_cc(admin, 0), Status::SUCCESS);
    two.nodes[0].fabric().manners.pull = 100;
    two.turn(0);
    assert_eq!(two.values(0), [0; BLOCKS]);
    assert!(!two.nodes[0].fabric().is_open(two.queues[0].1), "the queue pair is closed");
    two.nodes[1].fabric().hang_up(admin);
    two.queues[0].1 = own;
    two.end();
}

#[test]
fn an_aborted_write_ends_when_no_more_data_comes() {
    let mut two = two();
    two.nodes[0].fabric().manners.pull = 0;
    let cid = two.write(0, 7);
    two.turn(0);
    let mut abort = Sqe::new(nvme_spec::opcode::admin::ABORT, 0, 0);
    abort.cdw10 = (u32::from(cid) << 16 | 1).into();
    abort.cid = two.nodes[0].cid().into();
    let admin = two.queues[0].0;
    assert!(two.nodes[0].fabric().send(admin, abort, &[], false));
    two.turn(0);
    assert!(two.nodes[0].fabric().answers.is_empty(), "the Abort ends after what it aborts");
    two.nodes[0].fabric().manners.pull = 100;
    assert_eq!(two.status(0, cid), Status::ABORT_REQUESTED);
    assert_eq!(two.nodes[0].answer(admin, abort.cid()).cqe.dw0.get(), 0);
    two.end();
}
