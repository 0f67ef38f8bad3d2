//! Log pages: contents.

use crate::lab::*;
use nvme_spec::log::{
    AnaGroups, AnaHeader, AnaState, CommandEffects, ErrorEntry, FeatureEffects, FirmwareSlots,
    GetLogPage, SmartLog, SupportedLogPages, command_effect, feature_effect, lid,
};
use nvme_spec::opcode::{fabrics, nvm};
use nvme_spec::{Sqe, Status};
use nvmf::controller::{CommandError, Controller, Location};
use nvmf::limits;
use nvmf::subsystem::Subsystem;
use zerocopy::FromBytes;

fn read<T: FromBytes>(ctrl: &Controller, lid: u8) -> T {
    read_at(ctrl, lid, START_NS)
}

fn read_at<T: FromBytes>(ctrl: &Controller, lid: u8, now_ns: u64) -> T {
    let sqe = log_page(lid, size_of::<T>() as u32);
    T::read_from_bytes(&send_at(ctrl, &sqe, &[], now_ns).ok().data).ok().unwrap()
}

#[test]
fn supported_pages_are_those_that_can_be_read() {
    let lab = Lab::new();
    let discovery = enabled(lab.registry.discovery());
    for ctrl in [&lab.ctrl, &discovery] {
        let log: SupportedLogPages = read(ctrl, lid::SUPPORTED_LOG_PAGES);
        for lid in 0..=0xff {
            let readable = send(ctrl, &log_page(lid, 4), &[]).status.is_success();
            assert_eq!(log.pages[usize::from(lid)].get() & 1 == 1, readable, "{lid:02x}h");
        }
    }
}

#[test]
fn command_effects_list_what_is_taken() {
    let lab = Lab::new();
    let log: CommandEffects = read(&lab.ctrl, lid::COMMAND_EFFECTS);
    for opcode in (0..=0xff).filter(|opcode| *opcode != fabrics::FABRICS) {
        let answer = lab.send(&Sqe::new(opcode, 0, 0));
        let taken = answer.status.code() != Status::INVALID_OPCODE;
        let listed = log.admin[usize::from(opcode)].get() & command_effect::SUPPORTED != 0;
        assert_eq!(listed, taken, "{opcode:02x}h");
    }
    let writes = [nvm::WRITE, nvm::WRITE_ZEROES, nvm::DATASET_MANAGEMENT, nvm::COPY];
    let others = [nvm::FLUSH, nvm::READ, nvm::COMPARE, nvm::VERIFY];
    for opcode in 0..=0xff {
        let expected = match opcode {
            op if writes.contains(&op) => command_effect::SUPPORTED | command_effect::CONTENT,
            op if others.contains(&op) => command_effect::SUPPORTED,
            _ => 0,
        };
        assert_eq!(log.io[usize::from(opcode)].get(), expected, "{opcode:02x}h");
    }
}

#[test]
fn feature_effects_list_what_can_be_read() {
    let lab = Lab::new();
    let log: FeatureEffects = read(&lab.ctrl, lid::FEATURE_EFFECTS);
    for fid in 0..=0xff {
        let mut sqe = get_feature(fid, nvme_spec::feature::Select::Capabilities, 0);
        sqe.nsid = 1.into();
        let taken = lab.send(&sqe).status.is_success();
        let listed = log.features[usize::from(fid)].get() & feature_effect::SUPPORTED != 0;
        assert_eq!(listed, taken, "{fid:02x}h");
    }
}

#[test]
fn smart_counts_what_was_done() {
    let lab = Lab::new();
    let ns = lab.subsystem.namespace(1).unwrap();
    ns.counters(0).reads.add(5);
    ns.counters(1).compares.add(1);
    ns.counters(0).read_bytes.add(512_000);
    ns.counters(2).read_bytes.add(1);
    ns.counters(2).writes.add(7);
    ns.counters(2).write_bytes.add(511);
    lab.subsystem.namespace(3).unwrap().counters(0).reads.add(100);
    lab.subsystem.namespace(3).unwrap().counters(0).media_errors.add(2);
    let now_ns = START_NS + 5 * HOUR_NS + HOUR_NS / 2;
    let log: SmartLog = read_at(&lab.ctrl, lid::SMART, now_ns);
    assert_eq!(log.data_units_read.get(), 2, "rounded up");
    assert_eq!(log.data_units_written.get(), 1);
    assert_eq!((log.host_reads.get(), log.host_writes.get()), (106, 7));
    assert_eq!((log.power_on_hours.get(), log.power_cycles.get()), (5, 1));
    assert_eq!(log.media_errors.get(), 2);
    assert_eq!((log.available_spare, log.critical_warning), (100, 0));
    assert_eq!(log.error_entries.get(), 0);

    let mut sqe = log_page(lid::SMART, 512);
    sqe.nsid = 1.into();
    let log = SmartLog::read_from_bytes(&lab.send(&sqe).ok().data).unwrap();
    assert_eq!((log.host_reads.get(), log.media_errors.get()), (6, 0));
}

#[test]
fn smart_remembers_removed_namespaces() {
    let lab = Lab::new();
    let ns = lab.subsystem.namespace(1).unwrap();
    ns.counters(0).reads.add(5);
    lab.registry.remove_namespace(NQN, 1).unwrap();
    // A command that was under way ends.
    ns.counters(0).reads.add(1);
    assert_eq!(read::<SmartLog>(&lab.ctrl, lid::SMART).host_reads.get(), 6);
    drop(ns);
    for _ in 0..3 {
        let ns = add(&lab.registry, 1, lab.small.clone());
        ns.counters(0).reads.add(1);
        drop(ns);
        lab.registry.remove_namespace(NQN, 1).unwrap();
    }
    assert_eq!(read::<SmartLog>(&lab.ctrl, lid::SMART).host_reads.get(), 9);
}

#[test]
fn busy_time_counts_each_tick_once() {
    let lab = Lab::new();
    let minute = 60 * SECOND_NS / Subsystem::BUSY_TICK_NS;
    for tick in 0..minute {
        // Two reactors see I/O in the same tick.
        lab.subsystem.note_busy(tick * Subsystem::BUSY_TICK_NS);
        lab.subsystem.note_busy(tick * Subsystem::BUSY_TICK_NS + 5);
    }
    assert_eq!(read::<SmartLog>(&lab.ctrl, lid::SMART).busy_minutes.get(), 1);
}

#[test]
fn the_error_log_keeps_the_newest() {
    let lab = Lab::new();
    let many = limits::ERROR_ENTRIES as u64 + 3;
    for n in 0..many {
        let status = lab.ctrl.log_error(CommandError {
            sqid: 4,
            cid: n as u16,
            status: Status::UNRECOVERED_READ,
            location: Location::SLBA,
            lba: n * 8,
            nsid: 1,
        });
        assert_eq!(status, Status::UNRECOVERED_READ.more());
    }
    let sqe = log_page(lid::ERROR, 64 * limits::ERROR_ENTRIES as u32);
    let data = lab.send(&sqe).ok().data;
    let entries = <[ErrorEntry]>::ref_from_bytes(&data).unwrap();
    for (at, entry) in entries.iter().enumerate() {
        let n = many - 1 - at as u64;
        assert_eq!((entry.error_count.get(), entry.lba.get()), (n + 1, n * 8));
        assert_eq!((entry.sqid.get(), entry.cid.get(), entry.nsid.get()), (4, n as u16, 1));
        assert_eq!(entry.status().code(), Status::UNRECOVERED_READ);
        assert_eq!(entry.parameter_location.get(), 40);
    }
    assert_eq!(read::<SmartLog>(&lab.ctrl, lid::SMART).error_entries.get(), u128::from(many));
}

#[test]
fn pages_read_in_pieces_are_the_same() {
    let lab = Lab::new();
    lab.send(&identify(0, 0xff));
    lab.send(&identify(0, 0xfe));
    for lid in [lid::ERROR, lid::COMMAND_EFFECTS, lid::ANA, lid::FIRMWARE_SLOT] {
        let whole = lab.send(&log_page(lid, 8192)).ok().data;
        let length = if lid == lid::ANA { 56 } else { 512 };
        for lpo in (0..length).step_by(12) {
            let fields = GetLogPage { lid, lpo, numd: 4, ..Default::default() };
            let piece = lab.send(&log_page_with(fields)).ok().data;
            assert_eq!(piece, whole[lpo as usize..lpo as usize + 20]);
        }
    }
}

#[test]
fn one_firmware_slot_is_active() {
    let lab = Lab::new();
    let log: FirmwareSlots = read(&lab.ctrl, lid::FIRMWARE_SLOT);
    assert_eq!((log.afi, &log.revisions[0]), (1, b"0.1.0   "));
    assert_eq!(log.revisions[1..], [[0; 8]; 6]);
}

#[test]
fn the_ana_log_has_one_group() {
    let lab = Lab::new();
    let log = |lsp| {
        let fields = GetLogPage { lid: lid::ANA, lsp, numd: 63, ..Default::default() };
        lab.send(&log_page_with(fields)).ok().data
    };
    let check = |data: &[u8], state, expected: &[u32]| {
        let groups: Vec<_> = AnaGroups::new(data).unwrap().collect();
        assert_eq!(groups.len(), 1);
        let (group, nsids) = groups[0];
        assert_eq!((group.group.get(), AnaState::from_byte(group.state)), (1, Some(state)));
        assert_eq!(nsids.iter().map(|n| n.get()).collect::<Vec<_>>(), expected);
        (AnaHeader::read_from_prefix(data).unwrap().0.change_count.get(), group.change_count.get())
    };
    let before = check(&log(0), AnaState::Optimized, &[1, 3]);
    check(&log(AnaHeader::LSP_GROUPS_ONLY), AnaState::Optimized, &[]);
    lab.registry.remove_namespace(NQN, 1).unwrap();
    let after = check(&log(0), AnaState::Optimized, &[3]);
    assert!(after.0 > before.0 && after.1 > before.1);
    lab.registry.set_ana_state(NQN, AnaState::Inaccessible).unwrap();
    let last = check(&log(0), AnaState::Inaccessible, &[3]);
    assert!(last.0 > after.0 && last.1 > after.1);
}

#[test]
fn reading_past_the_end_gives_zeroes() {
    let lab = Lab::new();
    let data = lab.send(&log_page(lid::SMART, 4096)).ok().data;
    assert_eq!(data.len(), 4096);
    assert!(data[512..].iter().all(|b| *b == 0));
}
