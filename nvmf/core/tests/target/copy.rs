//! Copy, against an oracle that moves blocks one by one.

use crate::node::{NQN, Node, io, registry};
use crate::ram::Ram;
use bdev::{Geometry, Op};
use nvme_spec::copy::{Copy, SourceRange};
use nvme_spec::feature::{HostBehavior, SetFeatures, fid};
use nvme_spec::identify::{Identify, IdentifyController, IdentifyNamespace, cns};
use nvme_spec::opcode::{admin, nvm};
use nvme_spec::{Sgl, Sqe, Status};
use nvmf::limits;
use nvmf::transport::QpairId;
use proptest::prelude::*;
use std::sync::Arc;
use zerocopy::{FromBytes, IntoBytes};

const BLOCKS: u64 = 4096;
const BLOCK: usize = 512;

struct Lab {
    node: Node,
    rams: [Arc<Ram>; 2],
    adm: QpairId,
    qp: QpairId,
}

impl Lab {
    fn new() -> Lab {
        let rams: [Arc<Ram>; 2] =
            std::array::from_fn(|_| Ram::new(Geometry::plain(BLOCK as u32, BLOCKS)));
        for (of, ram) in rams.iter().enumerate() {
            for block in 0..BLOCKS as usize {
                let tag = ((of as u64) << 32 | block as u64).to_le_bytes();
                ram.disk().bytes[block * BLOCK..][..8].copy_from_slice(&tag);
            }
        }
        let mut node = Node::new(&registry(1, &rams), 0, [8, 0, 4, 0]);
        let (adm, qp) = node.connect();
        Lab { node, rams, adm, qp }
    }

    /// Lets ranges name their namespaces.
    fn enable_format_2(&mut self) {
        assert_eq!(self.set_formats(1 << 2), Status::SUCCESS);
    }

    fn set_formats(&mut self, cdfe: u16) -> Status {
        let mut sqe = Sqe::new(admin::SET_FEATURES, 0, 0);
        SetFeatures { fid: fid::HOST_BEHAVIOR, save: false, value: 0 }.put(&mut sqe);
        let behavior = HostBehavior { cdfe: cdfe.into(), ..Default::default() };
        self.node.status(self.adm, sqe, behavior.as_bytes(), true).code()
    }

    /// Copies, and returns the status and dword 0.
    fn copy(&mut self, lba: u64, ranges: &[SourceRange], format: u8) -> (Status, u32) {
        self.copy_from(lba, ranges, format, true)
    }

    fn copy_from(
        &mut self,
        lba: u64,
        ranges: &[SourceRange],
        format: u8,
        in_capsule: bool,
    ) -> (Status, u32) {
        let sqe = command(lba, ranges.len() as u32, format);
        let answer = self.node.call(self.qp, sqe, ranges.as_bytes(), in_capsule);
        (answer.cqe.status().code(), answer.cqe.dw0.get())
    }

    fn identify(&mut self, cns: u8, nsid: u32) -> Vec<u8> {
        let mut sqe = Sqe::new(admin::IDENTIFY, 0, nsid);
        Identify { cns, cntid: 0, cns_specific: 0, csi: 0, uuid_index: 0 }.put(&mut sqe);
        sqe.dptr = Sgl::transport(4096);
        self.node.call(self.adm, sqe, &[], false).data
    }

    fn end(mut self) {
        for qpair in [self.qp, self.adm] {
            self.node.fabric().hang_up(qpair);
        }
        self.node.settle();
        self.node.now_ns += 20_000_000;
        self.node.settle();
        self.node.check_nothing_left();
    }
}

fn command(lba: u64, ranges: u32, format: u8) -> Sqe {
    let mut sqe = io(nvm::COPY, lba, 1);
    Copy { ranges, format }.put(&mut sqe);
    sqe
}

#[test]
fn the_bytes_are_those_of_the_specification() {
    let sqe = command(0x1122_3344_5566, 3, 2);
    let bytes = sqe.as_bytes();
    assert_eq!(bytes[0], 0x19);
    assert_eq!(bytes[40..52], [0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0, 0x02, 0x02, 0, 0]);
    let range = SourceRange::new(7, 0x0102_0304_0506, 0x1_0000);
    let mut expected = [0u8; 32];
    expected[0] = 7;
    expected[8..14].copy_from_slice(&[6, 5, 4, 3, 2, 1]);
    expected[16..18].copy_from_slice(&[0xff, 0xff]);
    assert_eq!(range.as_bytes(), expected);
    assert_eq!((range.blocks(), Copy::of(&sqe)), (0x1_0000, Copy { ranges: 3, format: 2 }));
}

#[test]
fn what_can_be_copied_is_stated_and_kept_to() {
    let mut lab = Lab::new();
    let data = lab.identify(cns::CONTROLLER, 0);
    let id = IdentifyController::read_from_bytes(&data).unwrap();
    assert_eq!(id.oncs.get() & 0x300, 0x300, "Copy, with single atomicity");
    assert_eq!(id.cdfs.get(), 0b101);
    let data = lab.identify(cns::NAMESPACE, 1);
    let ns = IdentifyNamespace::read_from_bytes(&data).unwrap();
    let most = limits::COPY_BYTES / BLOCK as u32;
    assert_eq!((ns.mcl.get(), u32::from(ns.mssrl.get())), (most, most));
    assert_eq!(u32::from(ns.msrc) + 1, limits::COPY_RANGES);
    let one = |slba, blocks| SourceRange::new(0, slba, blocks);
    let limit = Status::COMMAND_SIZE_LIMIT;
    let (all, few) = (vec![one(0, 1); 129], [one(0, 1)]);
    assert_eq!(lab.copy_from(100, &all[..128], 0, false), (Status::SUCCESS, 0));
    assert_eq!(lab.copy_from(100, &all, 0, false), (limit, 0));
    assert_eq!(lab.copy(0, &[one(0, 1), one(0, most + 1)], 0), (limit, 1), "MSSRL");
    assert_eq!(lab.copy(0, &[one(0, 2000); 17], 0), (limit, 0), "MCL");
    let range = Status::LBA_OUT_OF_RANGE;
    assert_eq!(lab.copy(0, &[one(0, 1), one(BLOCKS, 1)], 0), (range, 1));
    assert_eq!(lab.copy(0, &[one(u64::MAX, 2)], 0), (range, 0));
    assert_eq!(lab.copy(BLOCKS - 1, &[one(0, 2)], 0), (range, 0));
    assert_eq!(lab.copy(u64::MAX, &few, 0), (range, 0));
    for format in [1, 3, 4, 15] {
        assert_eq!(lab.copy(0, &few, format), (Status::INVALID_FIELD, 0), "{format}");
    }
    let mut short = command(0, 2, 0);
    short.dptr = Sgl::in_capsule(0, 63);
    let status = lab.node.status(lab.qp, short, &[0; 63], true);
    assert_eq!(status.code(), Status::INVALID_SGL_LENGTH);
    lab.rams[0].disk().log.retain(|(op, ..)| *op == Op::Write);
    assert_eq!(lab.rams[0].disk().log.len(), 1, "what is refused writes nothing");
    lab.end();
}

#[test]
fn ranges_name_other_namespaces_when_the_host_has_enabled_it() {
    let mut lab = Lab::new();
    let from = |nsid, slba, blocks| [SourceRange::new(nsid, slba, blocks)];
    assert_eq!(lab.copy(0, &from(2, 0, 1), 2), (Status::INVALID_FIELD, 0), "not enabled");
    for unknown in [1 << 0, 1 << 3, 1 << 4, 1 << 15] {
        assert_eq!(lab.set_formats(unknown), Status::INVALID_FIELD);
    }
    lab.enable_format_2();
    assert_eq!(lab.copy(10, &from(2, 4, 3), 2), (Status::SUCCESS, 0));
    let expected = lab.rams[1].disk().bytes[4 * BLOCK..7 * BLOCK].to_vec();
    assert_eq!(lab.rams[0].disk().bytes[10 * BLOCK..13 * BLOCK], expected);
    for (nsid, status) in [
        (0, Status::INVALID_NAMESPACE),
        (Sqe::NSID_ALL, Status::INVALID_NAMESPACE),
        (limits::NAMESPACES + 1, Status::INVALID_NAMESPACE),
        (3, Status::INVALID_FIELD),
    ] {
        assert_eq!(lab.copy(0, &from(nsid, 0, 1), 2), (status, 0), "namespace {nsid}");
    }
    let overlap = Status::OVERLAPPING_RANGE;
    assert_eq!(lab.copy(10, &from(1, 12, 3), 2), (overlap, 0));
    assert_eq!(lab.copy(10, &from(1, 8, 3), 2), (overlap, 0));
    assert_eq!(lab.copy(10, &from(1, 7, 3), 2), (Status::SUCCESS, 0), "beside each other");
    let mut fast = from(2, 0, 1);
    fast[0].sopt = (1 << 15).into();
    assert_eq!(lab.copy(0, &fast, 2), (Status::FAST_COPY_NOT_POSSIBLE, 0));
    let odd = Ram::new(Geometry::plain(4096, 64));
    crate::node::add_namespace(&lab.node.registry, 3, &odd);
    lab.node.open_namespaces();
    assert_eq!(lab.copy(0, &from(3, 0, 1), 2), (Status::INCOMPATIBLE_NAMESPACE, 0));
    // A reset forgets it.
    lab.node.set_cc(lab.adm, 0);
    lab.node.now_ns += 20_000_000;
    lab.node.settle();
    lab.node.enable(lab.adm);
    let subsystem = lab.node.registry.subsystem(NQN).unwrap();
    let cntlid = subsystem.live_controllers()[0].cntlid();
    lab.qp = lab.node.connect_io(cntlid, 1, false);
    assert_eq!(lab.copy(0, &from(2, 0, 1), 2), (Status::INVALID_FIELD, 0));
    lab.end();
}

#[test]
fn pieces_end_on_boundaries_and_are_written_at_once() {
    let mut lab = Lab::new();
    let ranges = [SourceRange::new(0, 1000, 250), SourceRange::new(0, 2000, 350)];
    let mut sqe = command(200, 2, 0);
    sqe.set_fua();
    let status = lab.node.status(lab.qp, sqe, ranges.as_bytes(), true);
    assert_eq!(status, Status::SUCCESS);
    let log = lab.rams[0].disk().log.clone();
    let writes = log.iter().filter(|(op, ..)| *op == Op::Write);
    let writes: Vec<(u64, u32)> = writes.map(|(_, _, lba, blocks)| (*lba, *blocks)).collect();
    assert_eq!(writes, [(200, 56), (256, 256), (512, 256), (768, 32)]);
    assert!(log.iter().all(|(op, flags, ..)| (*op == Op::Write) == flags.has(bdev::IoFlags::FUA)));
    let namespace = lab.node.registry.subsystem(NQN).unwrap().namespace(1).unwrap();
    assert_eq!(namespace.total().copies, 1);
    lab.end();
}

/// A fused pair has its blocks; a Copy that reads elsewhere writes them after the pair.
#[test]
fn the_write_of_a_copy_waits_for_a_fused_pair() {
    let mut lab = Lab::new();
    lab.enable_format_2();
    lab.rams[0].disk().end = 0;
    let old = lab.rams[0].disk().bytes[..BLOCK].to_vec();
    let mut compare = io(nvm::COMPARE, 0, 1);
    (compare.cid, compare.flags) = (700.into(), Sqe::FUSE_FIRST);
    let mut write = io(nvm::WRITE, 0, 1);
    (write.cid, write.flags) = (701.into(), Sqe::FUSE_SECOND);
    assert!(lab.node.fabric().send(lab.qp, compare, &old, true));
    assert!(lab.node.fabric().send(lab.qp, write, &[9; BLOCK], true));
    lab.node.turn();
    let mut copy = command(0, 1, 2);
    copy.cid = 702.into();
    let from = [SourceRange::new(2, 5, 1)];
    assert!(lab.node.fabric().send(lab.qp, copy, from.as_bytes(), true));
    for _ in 0..20 {
        lab.node.turn();
    }
    assert_eq!(lab.rams[1].disk().log.len(), 1, "it has read");
    assert_eq!(lab.rams[0].disk().log, [], "and waits");
    lab.rams[0].disk().end = 100;
    for cid in 700..=702 {
        assert_eq!(lab.node.answer(lab.qp, cid).cqe.status(), Status::SUCCESS);
    }
    let ops: Vec<Op> = lab.rams[0].disk().log.iter().map(|(op, ..)| *op).collect();
    assert_eq!(ops, [Op::Read, Op::Write, Op::Write]);
    let copied = lab.rams[1].disk().bytes[5 * BLOCK..6 * BLOCK].to_vec();
    assert_eq!(lab.rams[0].disk().bytes[..BLOCK], copied);
    lab.end();
}

#[test]
fn a_copy_ends_early_with_its_host() {
    let mut lab = Lab::new();
    lab.rams[0].disk().end = 0;
    let mut copy = command(2000, 1, 0);
    copy.cid = 700.into();
    let from = [SourceRange::new(0, 0, 1000)];
    assert!(lab.node.fabric().send(lab.qp, copy, from.as_bytes(), true));
    lab.node.turn();
    lab.node.fabric().hang_up(lab.qp);
    lab.node.settle();
    assert_eq!(lab.node.target.commands(), 1, "its read is in the stack");
    lab.rams[0].disk().end = 100;
    lab.node.settle();
    assert_eq!(lab.rams[0].disk().log.len(), 1, "and nothing after that");
    lab.end();
}

/// A range: of which namespace, from where, how many.
fn range() -> impl Strategy<Value = (u32, u64, u32)> {
    let blocks = prop_oneof![1u32..8, 1u32..700];
    (1u32..=2, 0..BLOCKS, blocks)
        .prop_map(|(nsid, slba, blocks)| (nsid, slba, blocks.min((BLOCKS - slba) as u32)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Every block of the destination is what the ranges say; where a step fails, those of the
    /// ranges before the one that is named are, and the rest is old or new.
    #[test]
    fn blocks_are_those_of_the_ranges_in_their_order(
        copies in prop::collection::vec((0..BLOCKS, prop::collection::vec(range(), 1..12)), 1..4),
        in_capsule: bool,
        (end, errors) in (20u64..=100, prop_oneof![Just(0u64), 1u64..30]),
        seed: u64,
    ) {
        let mut lab = Lab::new();
        lab.enable_format_2();
        for ram in &lab.rams {
            let mut disk = ram.disk();
            (disk.end, disk.errors) = (end, errors);
            disk.chance = crate::chance::Chance::new(seed | 1);
        }
        let mut model: Vec<Vec<u8>> =
            lab.rams.iter().map(|ram| ram.disk().bytes.to_vec()).collect();
        for (lba, ranges) in copies {
            let entries: Vec<SourceRange> =
                ranges.iter().map(|(n, slba, blocks)| SourceRange::new(*n, *slba, *blocks)).collect();
            let total: u64 = ranges.iter().map(|(_, _, blocks)| u64::from(*blocks)).sum();
            let lba = lba.min(BLOCKS.saturating_sub(total));
            let (status, first_bad) = lab.copy_from(lba, &entries, 2, in_capsule);
            let overlaps = |(nsid, slba, blocks): &(u32, u64, u32)| {
                *nsid == 1 && *slba < lba + total && lba < slba + u64::from(*blocks)
            };
            if lba + total > BLOCKS {
                prop_assert_eq!(status, Status::LBA_OUT_OF_RANGE);
            } else if let Some(at) = ranges.iter().position(overlaps) {
                prop_assert_eq!((status, first_bad), (Status::OVERLAPPING_RANGE, at as u32));
            } else {
                prop_assert!(status.is_success() || errors > 0, "{:?}", status);
                let mut at = lba as usize * BLOCK;
                for (number, (nsid, slba, blocks)) in (0u32..).zip(&ranges) {
                    let bytes = *blocks as usize * BLOCK;
                    let from = *slba as usize * BLOCK;
                    let new = model[*nsid as usize - 1][from..from + bytes].to_vec();
                    let there = lab.rams[0].disk().bytes[at..at + bytes].to_vec();
                    if status.is_success() || number < first_bad {
                        prop_assert!(there == new, "range {} of {:?}", number, ranges);
                    }
                    let old = &model[0][at..at + bytes];
                    for block in 0..*blocks as usize {
                        let is = |all: &[u8]| all[block * BLOCK..][..BLOCK] == there[block * BLOCK..][..BLOCK];
                        prop_assert!(is(&new) || is(old), "block {} of range {}", block, number);
                    }
                    at += bytes;
                }
            }
            let now = lab.rams[0].disk().bytes.to_vec();
            let changed = lba as usize * BLOCK..((lba + total).min(BLOCKS)) as usize * BLOCK;
            prop_assert!(now[..changed.start] == model[0][..changed.start], "written before it");
            prop_assert!(now[changed.end..] == model[0][changed.end..], "written behind it");
            model[0] = now;
            prop_assert!(lab.rams[1].disk().bytes.to_vec() == model[1], "a source is only read");
        }
        for ram in &lab.rams {
            (ram.disk().end, ram.disk().errors) = (100, 0);
        }
        lab.end();
    }
}
