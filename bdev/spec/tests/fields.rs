//! Fields whose place or packing the layout assertions do not show.

use nvme_spec::feature::Queues;
use nvme_spec::identify::{
    Identify, IdentifyNamespace, NamespaceList, NsDescriptor, NsDescriptors, NsDescriptorsMut,
    ascii, put_ascii,
};
use nvme_spec::log::{AnaGroup, AnaGroups, AnaHeader, ErrorEntry, GetLogPage, SmartLog};
use nvme_spec::maintenance::{Format, Sanitize, SanitizeLog, SanitizeState, SecureErase};
use nvme_spec::property::{Cap, Cc, Csts, Shutdown, ShutdownStatus, css, version};
use nvme_spec::queue::{CreateCq, CreateSq, abort, doorbell, is_contiguous};
use nvme_spec::{Cqe, Fuse, Psdt, Sgl, SglKind, Shown, Sqe, Status, aen, opcode};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

#[test]
fn sqe_fields_are_where_a_read_command_has_them() {
    let mut bytes = [0u8; 64];
    bytes[0] = 0x02;
    bytes[1] = 0x41;
    bytes[2..4].copy_from_slice(&0x1234u16.to_le_bytes());
    bytes[4..8].copy_from_slice(&7u32.to_le_bytes());
    bytes[32..36].copy_from_slice(&4096u32.to_le_bytes());
    bytes[39] = 0x5a;
    bytes[40..48].copy_from_slice(&0x0102_0304_0506_0708u64.to_le_bytes());
    bytes[48..52].copy_from_slice(&0x4000_0007u32.to_le_bytes());
    let sqe = Sqe::ref_from_bytes(&bytes).unwrap();
    assert_eq!((sqe.opcode, sqe.cid(), sqe.nsid()), (opcode::nvm::READ, 0x1234, 7));
    assert_eq!((sqe.fuse(), sqe.psdt()), (Fuse::First, Psdt::Sgl));
    assert_eq!((sqe.slba(), sqe.blocks(), sqe.fua()), (0x0102_0304_0506_0708, 8, true));
    assert_eq!((sqe.dptr.kind(), sqe.dptr.len()), (SglKind::Transport, 4096));

    let mut built = Sqe::new(opcode::nvm::READ, 0x1234, 7);
    built.flags = Sqe::FLAGS_SGL | Sqe::FUSE_FIRST;
    built.dptr = Sgl::transport(4096);
    built.set_slba(0x0102_0304_0506_0708);
    built.set_blocks(8);
    built.set_fua();
    assert_eq!(built.as_bytes(), bytes);
}

#[test]
fn keyed_descriptor_packs_length_and_key() {
    let sgl = Sgl::keyed(0x1122_3344_5566_7788, 0x00ab_cdef, 0xdead_beef, true);
    let expected = [
        0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0xef, 0xcd, 0xab, 0xef, 0xbe, 0xad, 0xde,
        0x4f,
    ];
    assert_eq!(sgl.as_bytes(), expected);
    assert_eq!((sgl.keyed_len(), sgl.key()), (0x00ab_cdef, 0xdead_beef));
    assert_eq!(sgl.kind(), SglKind::Keyed { invalidate: true });
}

#[test]
fn status_is_in_the_upper_fifteen_bits() {
    let cqe = Cqe::new(9, Status::CAPACITY_EXCEEDED.dnr());
    assert_eq!(&cqe.as_bytes()[12..], [9, 0, 0x02, 0x81]);
    assert_eq!(cqe.status().code(), Status::CAPACITY_EXCEEDED);
    let mut entry = ErrorEntry::default();
    entry.set_status(Status::UNRECOVERED_READ);
    assert_eq!(entry.status(), Status::UNRECOVERED_READ);
    assert_eq!(entry.status.get(), 0x0281 << 1);
}

#[test]
fn transfer_direction_of_opcodes() {
    use opcode::Transfer;
    assert_eq!(Transfer::of(opcode::nvm::WRITE), Transfer::ToController);
    assert_eq!(Transfer::of(opcode::nvm::COMPARE), Transfer::ToController);
    assert_eq!(Transfer::of(opcode::nvm::READ), Transfer::ToHost);
    assert_eq!(Transfer::of(opcode::nvm::WRITE_ZEROES), Transfer::None);
    assert_eq!(Transfer::of(opcode::admin::IDENTIFY), Transfer::ToHost);
    assert_eq!(Transfer::of(opcode::fabrics::CONNECT), Transfer::ToController);
    assert_eq!(Transfer::of(opcode::fabrics::PROPERTY_GET), Transfer::None);
}

#[test]
fn command_views_round_trip() {
    let identify = Identify { cns: 5, cntid: 0xfffe, cns_specific: 0x77, csi: 2, uuid_index: 3 };
    let log = GetLogPage {
        lid: 0x70,
        lsp: 0x55,
        rae: true,
        numd: 0x1234_5678,
        lsi: 0x9abc,
        lpo: 0x0fed_cba9_8765_4321,
        index_offset: true,
        csi: 4,
        uuid_index: 1,
    };
    let mut sqe = Sqe::default();
    identify.put(&mut sqe);
    assert_eq!(Identify::of(&sqe), identify);
    log.put(&mut sqe);
    assert_eq!(GetLogPage::of(&sqe), log);
    assert_eq!(sqe.cdw10.get(), 0x5678_d570);
    assert_eq!(GetLogPage { numd: u32::MAX, ..log }.bytes(), 1 << 34);
}

#[test]
fn capabilities_and_configuration() {
    let cap = Cap {
        mqes: 127,
        cqr: true,
        to: 30,
        css: css::NVM | css::IO_COMMAND_SETS,
        crms: 1,
        ..Cap::default()
    };
    // 127 | CQR | TO 30 << 24 | CSS 41h << 37 | CRMS.
    assert_eq!(cap.bits(), 0x0800_0820_1e01_007f);
    assert_eq!(Cap::from_bits(cap.bits()), cap);
    assert_eq!(Cc::ENABLE.0, 0x0046_0001);
    assert_eq!((Cc::ENABLE.iosqes(), Cc::ENABLE.iocqes()), (6, 4));
    assert_eq!(Cc::ENABLE.with_normal_shutdown().shutdown(), Shutdown::Normal);
    assert_eq!(Csts(Csts::SHST_COMPLETE | Csts::RDY).shutdown(), ShutdownStatus::Complete);
    assert_eq!(version(2, 0, 0), 0x0002_0000);
    assert_eq!(version(1, 4, 0), 0x0001_0400);
}

#[test]
fn queues_are_zero_based_and_saturate() {
    assert_eq!(Queues::from_dword(0x0003_0007), Queues { submission: 8, completion: 4 });
    assert_eq!(Queues { submission: 8, completion: 4 }.dword(), 0x0003_0007);
    assert_eq!(Queues { submission: 0, completion: u32::MAX }.dword(), 0xffff_0000);
}

#[test]
fn events_as_a_host_sees_them() {
    assert_eq!(aen::Event::NAMESPACE_CHANGED.dword(), 0x0004_0002);
    assert_eq!(aen::Event::ANA_CHANGED.dword(), 0x000c_0302);
    assert_eq!(aen::Event::DISCOVERY_CHANGED.dword(), 0x0070_f002);
    assert_eq!(aen::Event::from_dword(0x0080_0006), aen::Event::RESERVATION);
}

#[test]
fn descriptors_round_trip_and_pass_over_the_unknown() {
    let mut bytes = [0xffu8; 4096];
    let all = [
        NsDescriptor::Eui64([1; 8]),
        NsDescriptor::Nguid([2; 16]),
        NsDescriptor::Uuid([3; 16]),
        NsDescriptor::Csi(0),
    ];
    let mut list = NsDescriptorsMut::new(&mut bytes);
    all.into_iter().for_each(|descriptor| list.push(descriptor));
    assert!(NsDescriptors::new(&bytes).eq(all));
    assert_eq!(&bytes[..4], [1, 8, 0, 0]);
    // An unknown type is passed over; a wrong length of a known one too.
    bytes[0] = 9;
    bytes[12] = 1;
    assert!(NsDescriptors::new(&bytes).eq(all.into_iter().skip(2)));
    // The last descriptor does not fit.
    assert_eq!(NsDescriptors::new(&[3, 16, 0, 0, 1]).next(), None);
}

#[test]
fn namespace_list_starts_above() {
    let list = NamespaceList::above(2, [1, 2, 3, 9]);
    assert!(list.iter().eq([3, 9]));
    assert_eq!(NamespaceList::above(0, 1..=5000).iter().count(), 1024);
}

#[test]
fn formatted_block_size() {
    let mut ns = IdentifyNamespace::default();
    assert!(ns.format().is_none());
    ns.lbaf[0].lbads = 9;
    assert_eq!(ns.format().map(|f| f.lbads), Some(9));
    ns.flbas = 1;
    assert!(ns.format().is_none());
    ns.nlbaf = 63;
    ns.flbas = 0x7f;
    ns.lbaf[63].lbads = 12;
    assert_eq!(ns.format().map(|f| f.lbads), Some(12));
}

#[test]
fn ascii_fields() {
    let mut field = [0u8; 8];
    put_ascii(&mut field, "a\u{e9}b");
    assert_eq!(&field, b"a??b    ");
    put_ascii(&mut field, "longer than it");
    assert_eq!(&field, b"longer t");
    assert_eq!(ascii(b"Forebay \0"), "Forebay");
    assert_eq!(ascii(&[0xff; 4]), "");
    assert_eq!(ascii(b"    "), "");
}

#[test]
fn ana_groups_end_where_the_bytes_end() {
    let header = AnaHeader { groups: U16::new(3), ..AnaHeader::default() };
    let group = AnaGroup {
        group: U32::new(1),
        nsid_count: U32::new(2),
        change_count: U64::new(5),
        state: 1,
        ..AnaGroup::default()
    };
    let mut log = header.as_bytes().to_vec();
    log.extend_from_slice(group.as_bytes());
    log.extend_from_slice([1u32, 2].map(U32::new).as_bytes());
    log.extend_from_slice(AnaGroup { nsid_count: U32::MAX_VALUE, ..group }.as_bytes());
    let groups: Vec<_> = AnaGroups::new(&log).unwrap().collect();
    assert_eq!(groups.len(), 1);
    assert_eq!(groups[0].0, &group);
    assert_eq!(groups[0].1, [U32::new(1), U32::new(2)]);
}

#[test]
fn smart_units_round_up() {
    assert_eq!(SmartLog::data_units(0), 0);
    assert_eq!(SmartLog::data_units(1), 1);
    assert_eq!(SmartLog::data_units(512_001), 2);
}

#[test]
fn prps_take_the_data_pointer() {
    let mut sqe = Sqe::new(opcode::nvm::READ, 1, 1);
    sqe.set_prps(0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_f000);
    let bytes = sqe.as_bytes();
    assert_eq!(bytes[24..32], 0x1122_3344_5566_7788u64.to_le_bytes());
    assert_eq!(bytes[32..40], 0x99aa_bbcc_ddee_f000u64.to_le_bytes());
    assert_eq!(sqe.prps(), (0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_f000));
    assert_eq!(sqe.psdt(), Psdt::Prp);
}

#[test]
fn queue_commands_are_packed_as_the_specification_says() {
    let cq = CreateCq { qid: 3, entries: 1024, vector: Some(5) };
    let sqe = cq.sqe(7, 0x1000);
    assert_eq!((sqe.opcode, sqe.cdw10.get(), sqe.cdw11.get()), (0x05, 0x03ff_0003, 0x0005_0003));
    assert_eq!((CreateCq::of(&sqe), is_contiguous(&sqe)), (cq, true));
    let polled = CreateCq { vector: None, ..cq };
    assert_eq!((CreateCq::of(&polled.sqe(7, 0)), polled.sqe(7, 0).cdw11.get()), (polled, 1));
    let sq = CreateSq { qid: 3, entries: 2, cqid: 3 };
    let sqe = sq.sqe(8, 0x2000);
    assert_eq!((sqe.opcode, sqe.cdw10.get(), sqe.cdw11.get()), (0x01, 0x0001_0003, 0x0003_0001));
    assert_eq!((CreateSq::of(&sqe), sqe.prps()), (sq, (0x2000, 0)));
    let sqe = abort(9, 3, 0x8001);
    assert_eq!((sqe.opcode, sqe.abort_sqid(), sqe.abort_cid()), (0x08, 3, 0x8001));
    assert_eq!((doorbell(0, false, 0), doorbell(0, true, 0)), (0x1000, 0x1004));
    assert_eq!((doorbell(3, false, 0), doorbell(2, true, 2)), (0x1018, 0x1050));
}

#[test]
fn format_and_sanitize_carry_their_choices() {
    let format = Format { nsid: 1, lbaf: 0x23, erase: SecureErase::Cryptographic };
    let sqe = format.sqe(1);
    assert_eq!((sqe.opcode, sqe.nsid(), sqe.cdw10.get()), (0x80, 1, 0x2403));
    assert_eq!(Format::lbaf_of(&sqe), 0x23);
    let sqe = Sanitize::Overwrite(0xdead_beef).sqe(1);
    assert_eq!((sqe.opcode, sqe.cdw10.get(), sqe.cdw11.get()), (0x84, 0x13, 0xdead_beef));
    assert_eq!(Sanitize::BlockErase.sqe(1).cdw10.get(), 2);
    let log = SanitizeLog { status: U16::new(0x102), ..SanitizeLog::default() };
    assert_eq!(log.state(), SanitizeState::Running);
}

#[test]
fn shown_text_has_nothing_that_a_terminal_acts_on() {
    let shown = |text: &str| Shown(text).to_string();
    for plain in ["Samsung SSD 990 PRO", "nqn.2026-01.a:\u{e9}\u{4e16}", "it's \"C:\\\"", ""] {
        assert_eq!(shown(plain), plain);
    }
    assert_eq!(shown("\x1b[2Jx\nstatus ok\r"), "\\u{1b}[2Jx\\nstatus ok\\r");
    // Control characters of Latin-1, what turns the direction of text, line separators, NUL.
    assert_eq!(shown("\u{9b}\u{202e}\u{2028}\0"), "\\u{9b}\\u{202e}\\u{2028}\\0");
}
