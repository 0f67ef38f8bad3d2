//! The commands, one at a time.

use crate::fabric::Manners;
use crate::node::{NQN, Node, connect_data, event_request, io, read, registry, write};
use crate::ram::Ram;
use bdev::{Geometry, IoFlags, Op};
use nvme_spec::dsm::{Range, attribute};
use nvme_spec::identify::{self, IDENTIFY_BYTES, Identify, IdentifyController, cns};
use nvme_spec::opcode::{admin, nvm};
use nvme_spec::{Sgl, Sqe, Status};
use nvmf::places::{PlaceLimits, Places};
use nvmf::refused::RefusalReason;
use nvmf_wire::connect::{BadParameter, CNTLID_DYNAMIC, Connect};
use std::sync::Arc;
use zerocopy::{FromBytes, IntoBytes};

fn node() -> (Node, Arc<Ram>) {
    let ram = Ram::new(Geometry { align_bytes: 512, ..Geometry::plain(512, 8192) });
    let registry = registry(1, std::slice::from_ref(&ram));
    (Node::new(&registry, 0, [8, 4, 2, 2]), ram)
}

fn hang_up_all(node: &mut Node, qpairs: &[nvmf::transport::QpairId]) {
    for qpair in qpairs {
        node.fabric().hang_up(*qpair);
    }
    node.settle();
    node.now_ns += 20_000_000;
    node.settle();
    node.check_nothing_left();
}

#[test]
fn a_host_connects_identifies_reads_and_writes() {
    let (mut node, ram) = node();
    let (adm, cntlid) = node.connect_admin(0);
    let mut sqe = Sqe::new(admin::IDENTIFY, 0, 0);
    let identify =
        Identify { cns: cns::CONTROLLER, cntid: 0, cns_specific: 0, csi: 0, uuid_index: 0 };
    identify.put(&mut sqe);
    sqe.dptr = Sgl::transport(IDENTIFY_BYTES as u32);
    let answer = node.call(adm, sqe, &[], false);
    assert_eq!(answer.cqe.status(), Status::SUCCESS);
    let data = IdentifyController::read_from_bytes(&answer.data).unwrap();
    assert_eq!(data.cntlid.get(), cntlid);
    assert_eq!(identify::ascii(&data.subnqn), NQN);

    let qp = node.connect_io(cntlid, 1, false);
    for (lba, blocks, in_capsule) in
        [(0, 1, true), (8, 16, true), (100, 256, false), (1000, 2048, false)]
    {
        let data: Vec<u8> = (0..blocks * 512).map(|i| (i as u64 * 7 + lba) as u8).collect();
        assert_eq!(node.status(qp, write(lba, blocks), &data, in_capsule), Status::SUCCESS);
        let at = lba as usize * 512;
        assert_eq!(ram.disk().bytes[at..at + data.len()], data);
        let answer = node.call(qp, read(lba, blocks), &[], false);
        assert_eq!(answer.cqe.status(), Status::SUCCESS);
        assert!(answer.data == data && answer.implied);
        assert_eq!(answer.cqe.sqhd.get(), 0xffff);
    }
    assert_eq!(node.status(qp, io(nvm::FLUSH, 0, 1), &[], false), Status::SUCCESS);
    hang_up_all(&mut node, &[adm, qp]);
}

#[test]
fn misaligned_capsule_data_is_copied_before_it_goes_to_the_bdev() {
    let (mut node, ram) = node();
    node.fabric().manners = Manners { misaligned: 100, ..Manners::PROMPT };
    let (adm, qp) = node.connect();
    assert_eq!(node.status(qp, write(3, 2), &[9; 1024], true), Status::SUCCESS);
    assert_eq!(ram.disk().bytes[3 * 512..5 * 512], [9; 1024]);
    hang_up_all(&mut node, &[adm, qp]);
}

#[test]
fn memory_is_read_and_written_where_it_is() {
    let ram = Ram::new(Geometry { direct_access: true, ..Geometry::plain(512, 8192) });
    let registry = registry(1, std::slice::from_ref(&ram));
    let mut node = Node::new(&registry, 0, [2, 0, 0, 0]);
    node.fabric().manners.direct = 100;
    let (adm, qp) = node.connect();
    assert_eq!(node.status(qp, write(8, 16), &[5; 8192], true), Status::SUCCESS);
    assert_eq!(ram.disk().bytes[8 * 512..24 * 512], [5; 8192]);
    // More than all buffers together hold.
    let answer = node.call(qp, read(0, 2048), &[], false);
    assert_eq!(answer.cqe.status(), Status::SUCCESS);
    assert_eq!(answer.data, ram.disk().bytes[..2048 * 512]);
    assert_eq!(node.status(qp, write(0, 2048), &[7; 2048 * 512], false), Status::SUCCESS);
    assert_eq!(ram.disk().bytes[..2048 * 512], [7; 2048 * 512]);
    assert_eq!(ram.disk().log, [], "nothing went through the stack");
    let namespace = registry.subsystem(NQN).unwrap().namespace(1).unwrap();
    let counts = namespace.total();
    assert_eq!((counts.reads, counts.read_bytes), (1, 2048 * 512));
    assert_eq!((counts.writes, counts.write_bytes), (2, 8192 + 2048 * 512));

    // The blocks are read when they are sent; until then the namespace is held.
    node.fabric().manners.send = 0;
    let mut sqe = read(8, 1);
    sqe.cid = node.cid().into();
    assert!(node.fabric().send(qp, sqe, &[], false));
    node.turn();
    ram.disk().bytes[8 * 512..9 * 512].fill(6);
    assert_eq!(registry.remove_namespace(NQN, 1).map(|_| ()), Ok(()));
    node.fabric().hang_up(qp);
    for _ in 0..20 {
        node.now_ns += 20_000_000;
        node.turn();
    }
    assert!(namespace.is_held(0), "what is lent is not given up");
    node.fabric().manners.send = 100;
    hang_up_all(&mut node, &[adm]);
    assert!(!namespace.is_held(0));
}

#[test]
fn data_in_the_capsule_of_a_command_that_takes_none_is_ignored() {
    let (mut node, ram) = node();
    let (adm, qp) = node.connect();
    ram.disk().bytes[..4096].fill(5);
    for bytes in [1, 512, 8192] {
        let mut identify = Sqe::new(admin::IDENTIFY, 0, 0);
        identify.cdw10 = 1.into();
        for (qpair, mut sqe) in [(qp, read(0, 8)), (adm, identify)] {
            sqe.cid = node.cid().into();
            assert!(node.fabric().send(qpair, sqe, &vec![9; bytes], true));
            node.fabric().describe_host_room(4096);
            let answer = node.answer(qpair, sqe.cid());
            assert_eq!(answer.cqe.status(), Status::SUCCESS);
            assert_eq!(answer.data.len(), 4096);
            assert!(qpair == adm || answer.data == [5; 4096]);
        }
    }
    hang_up_all(&mut node, &[adm, qp]);
}

#[test]
fn compare_verify_and_write_zeroes() {
    let (mut node, ram) = node();
    let (adm, qp) = node.connect();
    ram.disk().bytes[..4096].fill(5);
    for in_capsule in [true, false] {
        let compare = io(nvm::COMPARE, 0, 8);
        assert_eq!(node.status(qp, compare, &[5; 4096], in_capsule), Status::SUCCESS);
        let mut other = [5; 4096];
        other[4095] = 6;
        let status = node.status(qp, compare, &other, in_capsule);
        assert_eq!(status.code(), Status::COMPARE_FAILURE);
    }
    ram.disk().log.clear();
    assert_eq!(node.status(qp, io(nvm::VERIFY, 1, 1000), &[], false), Status::SUCCESS);
    let blocks: Vec<(u64, u32)> = ram.disk().log.iter().map(|l| (l.2, l.3)).collect();
    assert_eq!(blocks, [(1, 256), (257, 256), (513, 256), (769, 232)]);
    let mut zeroes = io(nvm::WRITE_ZEROES, 2, 4);
    zeroes.set_deac();
    zeroes.set_fua();
    assert_eq!(node.status(qp, zeroes, &[], false), Status::SUCCESS);
    let flags = IoFlags::FUA.with(IoFlags::MAY_DEALLOCATE);
    assert_eq!(ram.disk().log.last(), Some(&(Op::WriteZeroes, flags, 2, 4)));
    assert_eq!(ram.disk().bytes[1024..3072], [0; 2048]);
    assert_eq!(ram.disk().bytes[1023], 5);
    hang_up_all(&mut node, &[adm, qp]);
}

#[test]
fn dataset_management_deallocates_range_by_range_or_nothing() {
    let (mut node, ram) = node();
    let (adm, qp) = node.connect();
    ram.disk().bytes.fill(1);
    let range = |slba: u64, blocks: u32| Range {
        slba: slba.into(),
        blocks: blocks.into(),
        ..Range::default()
    };
    let mut ranges = vec![Range::default(); 256];
    ranges[..4].copy_from_slice(&[range(0, 2), range(5, 0), range(10, 1), range(8191, 1)]);
    let mut sqe = io(nvm::DATASET_MANAGEMENT, 0, 1);
    sqe.cdw10 = 3.into();
    sqe.cdw11 = attribute::DEALLOCATE.into();
    for in_capsule in [true, false] {
        ram.disk().log.clear();
        assert_eq!(node.status(qp, sqe, ranges.as_bytes(), in_capsule), Status::SUCCESS);
        let done: Vec<(Op, u64, u32)> = ram.disk().log.iter().map(|l| (l.0, l.2, l.3)).collect();
        let d = Op::Deallocate;
        assert_eq!(done, [(d, 0, 2), (d, 10, 1), (d, 8191, 1)]);
    }
    ram.disk().log.clear();
    ranges[3] = range(8191, 2);
    let status = node.status(qp, sqe, ranges.as_bytes(), true);
    assert_eq!(status.code(), Status::LBA_OUT_OF_RANGE);
    assert!(ram.disk().log.is_empty());
    // Without the attribute, ranges are hints.
    ranges[3] = range(0, 0);
    sqe.cdw11 = attribute::INTEGRAL_READ.into();
    assert_eq!(node.status(qp, sqe, ranges.as_bytes(), true), Status::SUCCESS);
    assert!(ram.disk().log.is_empty());
    hang_up_all(&mut node, &[adm, qp]);
}

#[test]
fn dataset_management_keeps_to_its_limits_and_to_pieces() {
    let ram = Ram::new(Geometry::plain(512, 1 << 18));
    let registry = registry(1, std::slice::from_ref(&ram));
    let mut node = Node::new(&registry, 0, [8, 8, 0, 0]);
    let (adm, qp) = node.connect();
    let most = nvmf::limits::DATASET_RANGE_BLOCKS;
    let range = |slba: u64, blocks: u32| Range {
        slba: slba.into(),
        blocks: blocks.into(),
        ..Range::default()
    };
    let mut sqe = io(nvm::DATASET_MANAGEMENT, 0, 1);
    sqe.cdw11 = attribute::DEALLOCATE.into();
    let ranges = [range(0, most + 1)];
    let status = node.status(qp, sqe, ranges.as_bytes(), true);
    assert_eq!(status.code(), Status::COMMAND_SIZE_LIMIT);
    sqe.cdw10 = u32::from(nvmf::limits::DATASET_RANGES).into();
    let ranges = vec![range(0, 1); 256];
    let status = node.status(qp, sqe, ranges.as_bytes(), true);
    assert_eq!(status.code(), Status::COMMAND_SIZE_LIMIT);
    assert!(ram.disk().log.is_empty());
    // A piece ends on a boundary of 64 MiB, and another command passes between two turns.
    sqe.cdw10 = 0.into();
    let blocks = 200_000;
    let ranges = [range(7, blocks)];
    assert_eq!(node.status(qp, sqe, ranges.as_bytes(), true), Status::SUCCESS);
    let done: Vec<(u64, u32)> = ram.disk().log.iter().map(|l| (l.2, l.3)).collect();
    let piece = nvmf::limits::DEALLOCATE_PIECE_BYTES / 512;
    assert_eq!(done, [(7, piece - 7), (u64::from(piece), blocks + 7 - piece)]);
    hang_up_all(&mut node, &[adm, qp]);
}

#[test]
fn a_forced_read_commits_what_a_volatile_cache_holds() {
    let ram = Ram::new(Geometry { volatile_cache: true, ..Geometry::plain(512, 64) });
    let registry = registry(1, std::slice::from_ref(&ram));
    let mut node = Node::new(&registry, 0, [8, 0, 0, 0]);
    let (adm, qp) = node.connect();
    let mut sqe = read(1, 1);
    sqe.set_fua();
    assert_eq!(node.status(qp, sqe, &[], false), Status::SUCCESS);
    let mut sqe = write(1, 1);
    sqe.set_fua();
    assert_eq!(node.status(qp, sqe, &[1; 512], true), Status::SUCCESS);
    let ops: Vec<(Op, IoFlags)> = ram.disk().log.iter().map(|l| (l.0, l.1)).collect();
    let fua = IoFlags::FUA;
    assert_eq!(ops, [(Op::Flush, IoFlags::NONE), (Op::Read, fua), (Op::Write, fua)]);
    hang_up_all(&mut node, &[adm, qp]);
}

#[test]
fn flush_of_all_namespaces_reaches_each() {
    let rams: Vec<Arc<Ram>> = (0..3).map(|_| Ram::new(Geometry::plain(512, 64))).collect();
    let registry = registry(1, &rams);
    let mut node = Node::new(&registry, 0, [8, 0, 0, 0]);
    let (adm, qp) = node.connect();
    let flush = Sqe::new(nvm::FLUSH, 0, Sqe::NSID_ALL);
    assert_eq!(node.status(qp, flush, &[], false), Status::SUCCESS);
    assert!(rams.iter().all(|ram| ram.disk().log.len() == 1));
    hang_up_all(&mut node, &[adm, qp]);
}

#[test]
fn errors_end_the_command_and_nothing_else() {
    let (mut node, ram) = node();
    let (adm, qp) = node.connect();
    let mut wrong_nsid = read(0, 1);
    wrong_nsid.nsid = 9.into();
    assert_eq!(node.status(qp, wrong_nsid, &[], false).code(), Status::INVALID_NAMESPACE);
    let status = node.status(qp, read(8192, 1), &[], false);
    assert_eq!((status.code(), status.is_dnr()), (Status::LBA_OUT_OF_RANGE, true));
    // Beyond MDTS: the command fails, the connection stays.
    let status = node.status(qp, read(0, 2049), &[], false);
    assert_eq!((status.code(), status.is_dnr()), (Status::INVALID_FIELD, true));
    assert_eq!(node.status(qp, Sqe::new(0x99, 0, 1), &[], false).code(), Status::INVALID_OPCODE);
    ram.disk().errors = 100;
    assert_eq!(node.status(qp, read(0, 1), &[], false).code(), Status::UNRECOVERED_READ);
    assert_eq!(node.status(qp, write(0, 1), &[0; 512], true).code(), Status::WRITE_FAULT);
    ram.disk().errors = 0;
    let mut sqe = write(0, 1);
    sqe.cid = node.cid().into();
    sqe.dptr = Sgl::in_capsule(0, 512);
    assert!(node.fabric().send_damaged(qp, sqe));
    assert_eq!(node.answer(qp, sqe.cid()).cqe.status().code(), Status::TRANSIENT_TRANSPORT);
    node.fabric().manners.pull_error = 100;
    let status = node.status(qp, write(0, 1), &[1; 512], false);
    assert_eq!(status.code(), Status::TRANSIENT_TRANSPORT);
    assert_eq!(ram.disk().bytes[0], 0, "a write that failed on the way is not done");
    node.fabric().manners.pull_error = 0;
    assert_eq!(node.status(qp, read(0, 1), &[], false), Status::SUCCESS);
    let ctrl = &node.registry.subsystem(NQN).unwrap().live_controllers()[0];
    assert_eq!(ctrl.error_count(), 8);
    let counts = ctrl.queue_counters(1).read();
    assert_eq!((counts.reads, counts.errors, counts.media_errors), (1, 8, 2));
    hang_up_all(&mut node, &[adm, qp]);
}

#[test]
fn connect_is_checked() {
    let (mut node, _ram) = node();
    let admin = Connect { sqsize: 31, ..Connect::default() };
    let io = Connect { qid: 1, sqsize: 31, ..Connect::default() };
    let bad = |node: &mut Node, connect, data, parameter: BadParameter| {
        let (_, answer) = node.connect_raw(connect, &data);
        assert_eq!(answer.cqe.status(), Status::CONNECT_INVALID_PARAMETERS.dnr());
        assert_eq!(BadParameter::from_dword(answer.cqe.dw0.get()), parameter);
    };
    let dynamic = connect_data(CNTLID_DYNAMIC);
    bad(&mut node, admin, connect_data(1), BadParameter::Cntlid);
    bad(&mut node, Connect { sqsize: 0, ..admin }, dynamic, BadParameter::Sqsize);
    bad(&mut node, Connect { sqsize: 1024, ..admin }, dynamic, BadParameter::Sqsize);
    let mut data = dynamic;
    data.subnqn[23] = b'x';
    bad(&mut node, admin, data, BadParameter::SubNqn);
    data = dynamic;
    data.hostnqn = [b'n'; 256];
    bad(&mut node, admin, data, BadParameter::HostNqn);
    data.hostnqn = [0; 256];
    data.hostnqn[..20].copy_from_slice(b"nqn.2026-01.a:b\nok:\x1b");
    bad(&mut node, admin, data, BadParameter::HostNqn);
    bad(&mut node, io, connect_data(77), BadParameter::Cntlid);
    let (_, answer) = node.connect_raw(Connect { recfmt: 1, ..admin }, &dynamic);
    assert_eq!(answer.cqe.status(), Status::CONNECT_INCOMPATIBLE_FORMAT.dnr());

    let (qpair, answer) = node.connect_raw(admin, &dynamic);
    assert_eq!(answer.cqe.status(), Status::SUCCESS);
    let cntlid = answer.cqe.dw0.get() as u16;
    let (_, answer) = node.connect_raw(io, &connect_data(cntlid));
    assert_eq!(answer.cqe.status(), Status::SEQUENCE_ERROR.dnr(), "not enabled yet");
    node.enable(qpair);
    let mut data = connect_data(cntlid);
    data.hostid = [8; 16];
    bad(&mut node, io, data, BadParameter::HostId);
    bad(&mut node, Connect { qid: 500, ..io }, connect_data(cntlid), BadParameter::Qid);
    node.connect_io(cntlid, 1, true);
    let (_, answer) = node.connect_raw(io, &connect_data(cntlid));
    assert_eq!(answer.cqe.status(), Status::SEQUENCE_ERROR, "in use");
}

/// As SPDK's perf tool connects.
#[test]
fn a_host_without_a_name_is_known_by_its_identifier() {
    let (mut node, _ram) = node();
    let connect = Connect { sqsize: 31, ..Connect::default() };
    let unnamed = |hostid: u8, cntlid| {
        let mut data = connect_data(cntlid);
        (data.hostnqn, data.hostid) = ([0; 256], [hostid; 16]);
        data
    };
    let (adm, answer) = node.connect_raw(connect, &unnamed(0xab, CNTLID_DYNAMIC));
    assert_eq!(answer.cqe.status(), Status::SUCCESS);
    let cntlid = answer.cqe.dw0.get() as u16;
    node.enable(adm);
    let io = Connect { qid: 1, ..connect };
    let (_, answer) = node.connect_raw(io, &unnamed(0xac, cntlid));
    assert_eq!(answer.cqe.status(), Status::CONNECT_INVALID_PARAMETERS.dnr(), "another host");
    let (qp, answer) = node.connect_raw(io, &unnamed(0xab, cntlid));
    assert_eq!(answer.cqe.status(), Status::SUCCESS);
    assert_eq!(node.status(qp, read(0, 1), &[], false), Status::SUCCESS);
    let name = format!("nqn.2026-01.io.forebay:unnamed-host:{}", "ab".repeat(16));
    let subsystem = node.registry.subsystem(NQN).unwrap();
    assert_eq!(subsystem.live_controllers()[0].association().host_nqn, name);
    // Where hosts are listed, it is no exception.
    let hosts = nvmf::subsystem::Hosts::Listed([crate::node::HOST.to_owned()].into());
    node.registry.set_hosts(NQN, hosts).unwrap();
    let (_, answer) = node.connect_raw(connect, &unnamed(0xab, CNTLID_DYNAMIC));
    assert_eq!(answer.cqe.status(), Status::CONNECT_INVALID_HOST.dnr());
}

#[test]
fn a_host_that_is_not_listed_is_refused() {
    let (mut node, _ram) = node();
    let hosts = nvmf::subsystem::Hosts::Listed(["nqn.2026-01.example:other".to_owned()].into());
    node.registry.set_hosts(NQN, hosts).unwrap();
    let connect = Connect { sqsize: 31, ..Connect::default() };
    let (_, answer) = node.connect_raw(connect, &connect_data(CNTLID_DYNAMIC));
    assert_eq!(answer.cqe.status(), Status::CONNECT_INVALID_HOST.dnr());
    let refused = node.registry.refused().list();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].host.as_deref(), Some(crate::node::HOST));
    assert_eq!((refused[0].subsystem.as_deref(), refused[0].count), (Some(NQN), 1));
    assert_eq!(refused[0].reason, RefusalReason::NotListed);
}

#[test]
fn whoever_is_given_up_is_noted_with_the_reason() {
    let (mut node, _ram) = node();
    let reasons = |node: &Node| -> Vec<RefusalReason> {
        node.registry.refused().list().iter().map(|refused| refused.reason).collect()
    };
    let silent = node.fabric().connect().unwrap();
    node.settle();
    node.now_ns += 11_000_000_000;
    node.settle();
    assert!(!node.fabric().is_open(silent));
    assert_eq!(reasons(&node), [RefusalReason::NoConnect]);
    let (adm, _) = node.connect_admin(1000);
    node.now_ns += 2_000_000_000;
    node.settle();
    assert!(!node.fabric().is_open(adm));
    assert_eq!(reasons(&node), [RefusalReason::NoConnect, RefusalReason::KeepAlive]);
    let connect = Connect { sqsize: 0, ..Connect::default() };
    node.connect_raw(connect, &connect_data(CNTLID_DYNAMIC));
    let last = node.registry.refused().list().into_iter().find(|r| r.detail.is_some()).unwrap();
    assert_eq!((last.reason, last.detail.as_deref()), (RefusalReason::BadConnect, Some("Sqsize")));
}

#[test]
fn other_commands_wait_for_connect_and_connect_for_no_one() {
    let (mut node, _ram) = node();
    let qpair = node.fabric().connect().unwrap();
    assert_eq!(node.status(qpair, read(0, 1), &[], false), Status::SEQUENCE_ERROR.dnr());
    node.now_ns += 11_000_000_000;
    node.settle();
    assert!(!node.fabric().is_open(qpair), "no Connect came in time");
    node.check_nothing_left();
}

#[test]
fn sqhd_counts_commands_around_the_queue() {
    let (mut node, _ram) = node();
    let (adm, cntlid) = node.connect_admin(0);
    let connect = Connect { qid: 1, sqsize: 3, ..Connect::default() };
    let (qp, answer) = node.connect_raw(connect, &connect_data(cntlid));
    let mut heads = vec![answer.cqe.sqhd.get()];
    for _ in 0..6 {
        let answer = node.call(qp, read(0, 1), &[], false);
        assert!(!answer.implied, "SQHD has to reach the host");
        heads.push(answer.cqe.sqhd.get());
    }
    assert_eq!(heads, [1, 2, 3, 0, 1, 2, 3]);
    hang_up_all(&mut node, &[adm, qp]);
}

#[test]
fn disconnect_closes_the_queue_after_its_commands() {
    let (mut node, ram) = node();
    let (adm, qp) = node.connect();
    ram.disk().end = 0;
    let mut sqe = read(0, 1);
    sqe.cid = 900.into();
    assert!(node.fabric().send(qp, sqe, &[], false));
    let disconnect = nvmf_wire::connect::Disconnect { recfmt: 0 }.sqe(0);
    assert_eq!(node.status(qp, disconnect, &[], false), Status::SUCCESS);
    assert!(node.fabric().is_open(qp));
    ram.disk().end = 100;
    assert_eq!(node.answer(qp, 900).cqe.status(), Status::SUCCESS);
    node.settle();
    assert!(!node.fabric().is_open(qp));
    let status = node.status(adm, disconnect, &[], false);
    assert_eq!(status.code(), Status::INVALID_QUEUE_TYPE);
    hang_up_all(&mut node, &[adm]);
}

#[test]
fn events_reach_the_host_that_asked() {
    let (mut node, _ram) = node();
    let (adm, qp) = node.connect();
    let mut sqe = event_request();
    sqe.cid = 500.into();
    assert!(node.fabric().send(adm, sqe, &[], false));
    node.settle();
    let more = Ram::new(Geometry::plain(512, 64));
    crate::node::add_namespace(&node.registry, 2, &more);
    node.open_namespaces();
    node.now_ns += 20_000_000;
    let answer = node.answer(adm, 500);
    assert_eq!(answer.cqe.status(), Status::SUCCESS);
    assert_eq!(answer.cqe.dw0.get(), nvme_spec::aen::Event::NAMESPACE_CHANGED.dword());
    let mut second = read(5, 1);
    second.nsid = 2.into();
    assert_eq!(node.status(qp, second, &[], false), Status::SUCCESS);
    node.registry.remove_namespace(NQN, 2).unwrap();
    assert_eq!(node.status(qp, second, &[], false).code(), Status::INVALID_NAMESPACE);
    hang_up_all(&mut node, &[adm, qp]);
}

#[test]
fn a_connection_that_stays_silent_gives_its_place_to_another() {
    let (mut node, _ram) = node();
    let limits = PlaceLimits { silent_each: 2, ..PlaceLimits::of(64) };
    let places = Places::new(limits);
    node.fabric().places_of_all = Some(places.clone());
    let (adm, qp) = node.connect();
    let silent: Vec<_> = (0..3).map(|_| node.fabric().connect().unwrap()).collect();
    node.now_ns += 20_000_000;
    node.settle();
    let open =
        |node: &mut Node| silent.iter().map(|q| node.fabric().is_open(*q)).collect::<Vec<_>>();
    assert_eq!(open(&mut node), [false, true, true]);
    assert_eq!(places.open(), 4);
    assert_eq!(node.status(qp, read(0, 1), &[], false), Status::SUCCESS);
    hang_up_all(&mut node, &[adm, qp, silent[1], silent[2]]);
    assert_eq!(places.open(), 0);
}

#[test]
fn behind_a_listener_for_discovery_there_is_nothing_else() {
    use nvmf::registry::{DISCOVERY_NQN, Serves};
    let (mut node, _ram) = node();
    node.fabric().serves = Serves::Discovery;
    let connect = Connect { sqsize: 31, ..Connect::default() };
    let data = connect_data(CNTLID_DYNAMIC);
    let (_, answer) = node.connect_raw(connect, &data);
    assert_eq!(answer.cqe.status(), Status::CONNECT_INVALID_PARAMETERS.dnr());
    let mut discovery = data;
    discovery.subnqn = nvmf_wire::Nqn::new(DISCOVERY_NQN).unwrap().to_field();
    let (_, answer) = node.connect_raw(connect, &discovery);
    assert_eq!(answer.cqe.status(), Status::SUCCESS);
    node.fabric().serves = Serves::Everything;
    let (_, answer) = node.connect_raw(connect, &data);
    assert_eq!(answer.cqe.status(), Status::SUCCESS);
}

#[test]
fn a_command_that_no_buffer_is_large_enough_for_fails() {
    let ram = Ram::new(Geometry::plain(512, 8192));
    let registry = registry(1, std::slice::from_ref(&ram));
    let mut node = Node::new(&registry, 0, [4, 1, 0, 0]);
    let (adm, qp) = node.connect();
    assert_eq!(node.status(qp, read(0, 32), &[], false), Status::SUCCESS);
    assert_eq!(node.status(qp, read(0, 33), &[], false).code(), Status::INTERNAL_ERROR);
    // One for what comes, another one for what is there.
    let status = node.status(qp, io(nvm::COMPARE, 0, 32), &[0; 16384], false);
    assert_eq!(status.code(), Status::INTERNAL_ERROR);
    hang_up_all(&mut node, &[adm, qp]);
}
