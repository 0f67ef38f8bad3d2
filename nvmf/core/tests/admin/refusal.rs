//! Each wrong field has its status, its place in the command, and an entry in the error log.

use crate::lab::*;
use nvme_spec::identify::{Identify, cns};
use nvme_spec::log::{ErrorEntry, GetLogPage, lid};
use nvme_spec::opcode::{admin, nvm};
use nvme_spec::property::{self, Cc};
use nvme_spec::{Sgl, Sqe, Status};
use nvmf::controller::{Controller, Location};
use nvmf::limits;
use zerocopy::FromBytes;

fn newest_error(ctrl: &Controller) -> ErrorEntry {
    let answer = send(ctrl, &log_page(lid::ERROR, 64), &[]).ok();
    ErrorEntry::read_from_bytes(&answer.data).unwrap()
}

/// The command fails with `status`, and the error log says where.
#[track_caller]
fn refused(sqe: &Sqe, status: Status, location: Location) {
    let lab = Lab::new();
    let mut sqe = *sqe;
    sqe.cid = 0x1234.into();
    let answer = lab.send(&sqe);
    assert_eq!(answer.status, status.dnr().more(), "{:?}", answer.status);
    let entry = newest_error(&lab.ctrl);
    assert_eq!(entry.status().code(), status);
    assert_eq!(entry.parameter_location.get(), location.bits());
    assert_eq!((entry.sqid.get(), entry.cid.get()), (0, 0x1234));
    assert_eq!(entry.nsid.get(), sqe.nsid());
    assert_eq!((entry.error_count.get(), entry.trtype), (1, 3));
}

fn location(byte: u8, bit: u8) -> Location {
    Location::byte_bit(byte, bit)
}

#[test]
fn unknown_opcodes() {
    for opcode in [admin::DELETE_SQ, admin::CREATE_SQ, admin::DELETE_CQ, admin::CREATE_CQ] {
        refused(&Sqe::new(opcode, 0, 0), Status::INVALID_OPCODE, location(0, 0));
    }
    for opcode in [admin::FORMAT_NVM, admin::FIRMWARE_COMMIT, 0xc0, 0xff, nvm::COMPARE] {
        refused(&Sqe::new(opcode, 0, 0), Status::INVALID_OPCODE, location(0, 0));
    }
}

#[test]
fn fused_admin_commands() {
    for fuse in 1..=3 {
        let mut sqe = identify(0, cns::CONTROLLER);
        sqe.flags = fuse;
        refused(&sqe, Status::INVALID_FIELD, location(1, 0));
    }
}

#[test]
fn data_without_an_sgl() {
    for psdt in [0, 2, 3] {
        let lab = Lab::new();
        let mut sqe = identify(0, cns::CONTROLLER);
        sqe.flags = psdt << 6;
        sqe.dptr = Sgl::transport(4096);
        let answer = send_raw(&lab.ctrl, &sqe, &[], START_NS);
        assert_eq!(answer.status.code(), Status::INVALID_FIELD);
        let at = newest_error(&lab.ctrl).parameter_location.get();
        assert_eq!(at, location(1, 6).bits());
    }
}

#[test]
fn sgls_that_do_not_describe_the_data() {
    let mut sqe = identify(0, cns::CONTROLLER);
    for bytes in [0, 4092, 4100] {
        sqe.dptr = Sgl::transport(bytes);
        // An empty descriptor is told apart from none by its type.
        refused(&sqe, Status::INVALID_SGL_LENGTH, location(32, 0));
    }
    for sgl in [
        Sgl::in_capsule(0, 4096),
        Sgl::keyed(0, 4096, 1, false),
        Sgl { kind: 0x20, ..Sgl::transport(4096) },
        Sgl { kind: 0x10, ..Sgl::transport(4096) },
        Sgl { kind: 0xff, ..Sgl::transport(4096) },
        Sgl { kind: 0x00, ..Sgl::transport(4096) },
    ] {
        sqe.dptr = sgl;
        refused(&sqe, Status::INVALID_SGL_TYPE, location(39, 4));
    }
}

#[test]
fn commands_without_data_need_no_sgl() {
    let lab = Lab::new();
    let sqe = Sqe::new(admin::KEEP_ALIVE, 0, 0);
    assert_eq!(send_raw(&lab.ctrl, &sqe, &[], START_NS).status, Status::SUCCESS);
}

#[test]
fn commands_before_the_controller_is_ready() {
    let lab = Lab::new();
    let ctrl = connected(&lab.subsystem);
    for sqe in [identify(0, cns::CONTROLLER), Sqe::new(admin::KEEP_ALIVE, 0, 0)] {
        let answer = send(&ctrl, &sqe, &[]);
        assert_eq!(answer.status.code(), Status::SEQUENCE_ERROR);
    }
    enable(&ctrl);
    send(&ctrl, &identify(0, cns::CONTROLLER), &[]).ok();
    let shutdown = u64::from(Cc::ENABLE.with_normal_shutdown().0);
    ctrl.property_set(property::CC, false, shutdown, START_NS).unwrap();
    let answer = send(&ctrl, &identify(0, cns::CONTROLLER), &[]);
    assert_eq!(answer.status.code(), Status::SEQUENCE_ERROR);
}

#[test]
fn unknown_structures() {
    for structure in (0..=0xff).filter(|cns| !matches!(cns, 0..=3 | 5..=8 | 0x1c)) {
        refused(&identify(1, structure), Status::INVALID_FIELD, location(40, 0));
    }
}

#[test]
fn unknown_structures_of_discovery() {
    let lab = Lab::new();
    let ctrl = enabled(lab.registry.discovery());
    for structure in (0..=0xff).filter(|cns| *cns != cns::CONTROLLER) {
        let answer = send(&ctrl, &identify(0, structure), &[]);
        assert_eq!(answer.status, Status::INVALID_FIELD.dnr().more());
    }
}

#[test]
fn identify_of_no_namespace() {
    let wrong = [0, limits::NAMESPACES + 1, 0xffff_fffe, Sqe::NSID_ALL];
    let structures = [
        cns::NAMESPACE,
        cns::NAMESPACE_DESCRIPTORS,
        cns::CSI_NAMESPACE,
        cns::INDEPENDENT_NAMESPACE,
    ];
    for structure in structures {
        for nsid in wrong {
            refused(&identify(nsid, structure), Status::INVALID_NAMESPACE, location(4, 0));
        }
    }
    // Valid, and not in use.
    let sqe = identify(2, cns::NAMESPACE_DESCRIPTORS);
    refused(&sqe, Status::INVALID_FIELD, location(4, 0));
}

#[test]
fn lists_after_no_namespace() {
    for structure in [cns::ACTIVE_NAMESPACES, cns::CSI_ACTIVE_NAMESPACES] {
        for nsid in [0xffff_fffe, Sqe::NSID_ALL] {
            refused(&identify(nsid, structure), Status::INVALID_NAMESPACE, location(4, 0));
        }
    }
}

#[test]
fn unknown_command_sets() {
    for cns in [cns::CSI_NAMESPACE, cns::CSI_CONTROLLER, cns::CSI_ACTIVE_NAMESPACES] {
        for csi in [1, 2, 0xff] {
            let fields = Identify { cns, cntid: 0, cns_specific: 0, csi, uuid_index: 0 };
            refused(&identify_with(1, fields), Status::INVALID_FIELD, location(47, 0));
        }
    }
    let fields = GetLogPage { lid: lid::COMMAND_EFFECTS, csi: 2, ..Default::default() };
    refused(&log_page_with(fields), Status::INVALID_FIELD, location(59, 0));
}

#[test]
fn unknown_log_pages() {
    for lid in (0..=0xff).filter(|lid| !matches!(lid, 0..=5 | 0x0c | 0x12)) {
        refused(&log_page(lid, 4), Status::INVALID_LOG_PAGE, location(40, 0));
    }
}

#[test]
fn log_pages_larger_than_a_transfer() {
    let fits = GetLogPage { lid: lid::SMART, numd: (1 << 18) - 1, ..Default::default() };
    Lab::new().send(&log_page_with(fits)).ok();
    for numd in [1 << 18, u32::MAX] {
        let fields = GetLogPage { numd, ..fits };
        refused(&log_page_with(fields), Status::INVALID_FIELD, location(42, 0));
    }
}

#[test]
fn log_page_offsets() {
    for (lid, bytes) in [
        (lid::SUPPORTED_LOG_PAGES, 1024),
        (lid::ERROR, 64 * 128),
        (lid::SMART, 512),
        (lid::FIRMWARE_SLOT, 512),
        (lid::CHANGED_NAMESPACES, 4096),
        (lid::COMMAND_EFFECTS, 4096),
        (lid::FEATURE_EFFECTS, 1024),
        // As long as it can be: hosts read it in pieces without knowing how long it is now.
        (lid::ANA, 16 + 32 + 4 * 1024),
    ] {
        let at = |lpo| log_page_with(GetLogPage { lid, lpo, ..Default::default() });
        let answer = Lab::new().send(&at(bytes)).ok();
        assert_eq!(answer.data, [0; 4], "the end of page {lid:02x}h");
        for lpo in [bytes + 4, u64::MAX - 3, 2] {
            refused(&at(lpo), Status::INVALID_FIELD, location(48, 0));
        }
        let fields = GetLogPage { lid, index_offset: true, ..Default::default() };
        refused(&log_page_with(fields), Status::INVALID_FIELD, location(58, 7));
    }
}

#[test]
fn log_pages_of_a_namespace() {
    for lid in [lid::ERROR, lid::FIRMWARE_SLOT, lid::CHANGED_NAMESPACES, lid::ANA] {
        let mut sqe = log_page(lid, 4);
        sqe.nsid = 1.into();
        refused(&sqe, Status::INVALID_FIELD, location(4, 0));
    }
    let mut sqe = log_page(lid::SMART, 512);
    for nsid in [2, limits::NAMESPACES + 1] {
        sqe.nsid = nsid.into();
        refused(&sqe, Status::INVALID_NAMESPACE, location(4, 0));
    }
}

#[test]
fn discovery_takes_six_commands() {
    let lab = Lab::new();
    let ctrl = enabled(lab.registry.discovery());
    for opcode in 0..=0xff {
        let answer = send(&ctrl, &Sqe::new(opcode, 0, 0), &[]);
        let known = matches!(opcode, 0x02 | 0x06 | 0x09 | 0x0a | 0x0c | 0x18);
        assert_eq!(answer.status.code() != Status::INVALID_OPCODE, known, "{opcode:02x}h");
    }
}

#[test]
fn a_successful_command_leaves_no_error() {
    let lab = Lab::new();
    lab.send(&identify(0, cns::CONTROLLER)).ok();
    assert_eq!(newest_error(&lab.ctrl), ErrorEntry::default());
    assert_eq!(lab.ctrl.error_count(), 0);
}
