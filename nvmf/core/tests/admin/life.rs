//! The life of a controller: properties, epochs, keep alive, the end.

use crate::lab::*;
use nvme_spec::Status;
use nvme_spec::feature::fid;
use nvme_spec::property::{self, Cap, Cc, Csts, ShutdownStatus, css};
use nvmf::controller::{Association, Controller, EndReason, PropertyEffect, QueueRefusal, VERSION};
use nvmf::limits;
use nvmf::limits::DISCOVERY_KATO_MS;

fn set_cc(ctrl: &Controller, cc: u32) -> PropertyEffect {
    ctrl.property_set(property::CC, false, u64::from(cc), START_NS).unwrap()
}

#[test]
fn properties_say_what_the_controller_can_do() {
    let lab = Lab::new();
    let cap = Cap::from_bits(lab.ctrl.property_get(property::CAP, true).unwrap());
    assert_eq!(cap.mqes + 1, limits::QUEUE_ENTRIES);
    assert_eq!(cap.css, css::NVM | css::IO_COMMAND_SETS);
    assert!(cap.cqr && cap.to > 0 && !cap.nssrs);
    assert_eq!((cap.mpsmin, cap.mpsmax, cap.dstrd, cap.crms), (0, 0, 0, 1));
    assert_eq!(lab.ctrl.property_get(property::VS, false), Ok(u64::from(VERSION)));
    assert_eq!(lab.ctrl.property_get(property::CC, false), Ok(u64::from(Cc::ENABLE.0)));
    assert_eq!(lab.ctrl.property_get(property::CSTS, false), Ok(1));
    // In the units of CAP.TO.
    assert_eq!(lab.ctrl.property_get(property::CRTO, false), Ok(u64::from(cap.to)));
    let discovery = enabled(lab.registry.discovery());
    let cap = Cap::from_bits(discovery.property_get(property::CAP, true).unwrap());
    assert_eq!(cap.css, css::NVM);
}

#[test]
fn wrong_properties() {
    let lab = Lab::new();
    let wrong = Err(Status::INVALID_FIELD.dnr());
    for (offset, wide) in [
        (property::CAP, false),
        (property::VS, true),
        (property::CC, true),
        (property::CSTS, true),
        (property::NSSR, false),
        (property::INTMS, false),
        (property::AQA, false),
        (0x1000, false),
        (u32::MAX, true),
        (2, false),
    ] {
        assert_eq!(lab.ctrl.property_get(offset, wide), wrong, "{offset:x}h");
    }
    for (offset, wide) in [
        (property::CAP, true),
        (property::VS, false),
        (property::CSTS, false),
        (property::CC, true),
        (property::NSSR, false),
        (u32::MAX, false),
    ] {
        let answer = lab.ctrl.property_set(offset, wide, 0, START_NS);
        assert_eq!(answer, Err(Status::INVALID_FIELD.dnr()), "{offset:x}h");
    }
    assert!(lab.ctrl.is_ready(), "nothing was changed");
}

#[test]
fn enabling_with_what_there_is_not_fails() {
    let lab = Lab::new();
    for wrong in [1 << 4, 7 << 4, 1 << 7, 1 << 11, 1 << 16, 1 << 20] {
        let ctrl = connected(&lab.subsystem);
        assert_eq!(set_cc(&ctrl, Cc::ENABLE.0 ^ wrong), PropertyEffect::None);
        assert!(ctrl.csts().fatal() && !ctrl.csts().ready() && !ctrl.is_ready());
        // The host starts over.
        assert_eq!(set_cc(&ctrl, 0), PropertyEffect::Reset);
        assert_eq!(ctrl.csts(), Csts(0));
        assert_eq!(set_cc(&ctrl, Cc::ENABLE.0), PropertyEffect::Enabled);
    }
    let ctrl = connected(&lab.subsystem);
    assert_eq!(set_cc(&ctrl, Cc::ENABLE.0 | 6 << 4), PropertyEffect::Enabled, "all command sets");
    let discovery = connected(lab.registry.discovery());
    assert_eq!(set_cc(&discovery, 1), PropertyEffect::Enabled, "no I/O queues, no entry sizes");
}

#[test]
fn a_shutdown_completes() {
    let lab = Lab::new();
    let epoch = lab.ctrl.claim_queue(1, 128, 0).unwrap();
    let effect = set_cc(&lab.ctrl, Cc::ENABLE.with_normal_shutdown().0);
    assert_eq!(effect, PropertyEffect::ShutDown);
    assert_eq!(lab.ctrl.csts().shutdown(), ShutdownStatus::Occurring, "a queue is still there");
    assert!(!lab.ctrl.is_ready() && lab.ctrl.is_live());
    assert_ne!(lab.ctrl.epoch(), epoch, "its queues close");
    lab.ctrl.release_queue(1);
    assert_eq!(lab.ctrl.csts().shutdown(), ShutdownStatus::Complete);
    assert!(lab.ctrl.csts().ready());
    assert_eq!(lab.ctrl.claim_queue(2, 128, 0), Err(QueueRefusal::NotEnabled));
    // Once asked is enough.
    let again = set_cc(&lab.ctrl, Cc::ENABLE.with_normal_shutdown().0);
    assert_eq!(again, PropertyEffect::None);
    assert_eq!(set_cc(&lab.ctrl, 0), PropertyEffect::Reset);
    assert_eq!(set_cc(&lab.ctrl, Cc::ENABLE.0), PropertyEffect::Enabled);
    assert!(lab.ctrl.is_ready());
}

#[test]
fn a_reset_closes_queues_and_forgets_features() {
    let lab = Lab::new();
    lab.send(&set_feature(nvme_spec::feature::fid::POWER, 0x20)).ok();
    lab.send(&set_feature(nvme_spec::feature::fid::QUEUES, 0)).ok();
    lab.send(&set_feature(nvme_spec::feature::fid::KEEP_ALIVE, 0)).ok();
    let epoch = lab.ctrl.claim_queue(1, 128, 0).unwrap();
    assert_eq!(epoch, lab.ctrl.epoch());
    assert_eq!(set_cc(&lab.ctrl, 0), PropertyEffect::Reset);
    assert_ne!(epoch, lab.ctrl.epoch());
    assert!(lab.ctrl.csts().ready() && !lab.ctrl.is_ready(), "the reset is not complete");
    lab.ctrl.release_queue(1);
    assert_eq!(lab.ctrl.csts(), Csts(0));
    enable(&lab.ctrl);
    let sqe = get_feature(nvme_spec::feature::fid::POWER, nvme_spec::feature::Select::Current, 0);
    assert_eq!(lab.send(&sqe).ok().dw0, 0);
    assert_eq!(lab.ctrl.kato_ms(), 5000);
    assert_eq!(lab.ctrl.claim_queue(limits::IO_QUEUES, 128, 0), Ok(lab.ctrl.epoch()));
}

/// Ready means that every queue can be connected; until then the host is to try again.
#[test]
fn a_controller_is_ready_when_its_old_queues_are_gone() {
    let lab = Lab::new();
    lab.ctrl.claim_queue(1, 128, 0).unwrap();
    lab.ctrl.claim_queue(2, 128, 1).unwrap();
    set_cc(&lab.ctrl, 0);
    assert_eq!(lab.ctrl.claim_queue(1, 128, 0), Err(QueueRefusal::NotEnabled));
    assert_eq!(set_cc(&lab.ctrl, Cc::ENABLE.0), PropertyEffect::Enabled, "without waiting");
    assert!(!lab.ctrl.csts().ready());
    assert_eq!(lab.ctrl.claim_queue(3, 128, 0), Err(QueueRefusal::NotReady));
    lab.ctrl.release_queue(2);
    assert!(!lab.ctrl.csts().ready() && !lab.ctrl.is_ready());
    lab.ctrl.release_queue(1);
    assert!(lab.ctrl.csts().ready() && lab.ctrl.is_ready());
    assert!(lab.ctrl.claim_queue(1, 128, 0).is_ok());
    // A shutdown, and a reset within it.
    set_cc(&lab.ctrl, Cc::ENABLE.with_normal_shutdown().0);
    set_cc(&lab.ctrl, 0);
    assert!(lab.ctrl.csts().ready());
    lab.ctrl.release_queue(1);
    assert_eq!(lab.ctrl.csts(), Csts(0));
    // What cannot run has failed, whatever is still there.
    enable(&lab.ctrl);
    lab.ctrl.claim_queue(1, 128, 0).unwrap();
    set_cc(&lab.ctrl, 0);
    set_cc(&lab.ctrl, Cc::ENABLE.0 ^ 1 << 7);
    lab.ctrl.release_queue(1);
    assert!(lab.ctrl.csts().fatal() && !lab.ctrl.csts().ready());
}

#[test]
fn silence_longer_than_kato_expires() {
    let lab = Lab::new();
    let kato_ns = 5 * SECOND_NS;
    assert!(!lab.ctrl.keep_alive_expired(START_NS + kato_ns));
    assert!(lab.ctrl.keep_alive_expired(START_NS + kato_ns + 1));
    let sqe = nvme_spec::Sqe::new(nvme_spec::opcode::admin::KEEP_ALIVE, 0, 0);
    send_at(&lab.ctrl, &sqe, &[], START_NS + SECOND_NS).ok();
    assert!(!lab.ctrl.keep_alive_expired(START_NS + kato_ns + 1));
    // A reactor that is behind does not turn the clock back.
    lab.ctrl.seen(START_NS);
    assert!(!lab.ctrl.keep_alive_expired(START_NS + kato_ns + SECOND_NS));
    assert!(lab.ctrl.keep_alive_expired(START_NS + kato_ns + SECOND_NS + 1));
}

#[test]
fn discovery_without_a_timeout_gets_one() {
    let lab = Lab::new();
    let quiet = Association { kato_ms: 0, ..association(HOST) };
    let discovery = connected_as(lab.registry.discovery(), quiet.clone()).unwrap();
    assert_eq!(discovery.kato_ms(), DISCOVERY_KATO_MS);
    // Nor does a host turn it off later.
    enable(&discovery);
    for (asked_ms, granted_ms) in [(30_000, 30_000), (0, DISCOVERY_KATO_MS)] {
        send(&discovery, &set_feature(fid::KEEP_ALIVE, asked_ms), &[]).ok();
        assert_eq!(discovery.kato_ms(), granted_ms);
    }
    let io = connected_as(&lab.subsystem, quiet).unwrap();
    assert_eq!(io.kato_ms(), 0);
    assert!(!io.keep_alive_expired(u64::MAX));
}

#[test]
fn the_end_comes_once() {
    let lab = Lab::new();
    let epoch = lab.ctrl.claim_queue(1, 128, 0).unwrap();
    assert_eq!(lab.ctrl.ended(), None);
    lab.ctrl.end(EndReason::KeepAliveExpired);
    lab.ctrl.end(EndReason::AdminQueueClosed);
    assert_eq!(lab.ctrl.ended(), Some(EndReason::KeepAliveExpired));
    assert!(!lab.ctrl.is_live());
    assert_ne!(lab.ctrl.epoch(), epoch);
    assert_eq!(lab.ctrl.claim_queue(2, 128, 0), Err(QueueRefusal::NotEnabled));
    assert!(lab.subsystem.controller(lab.ctrl.cntlid()).is_none());
    let ended = lab.ctrl.epoch();
    set_cc(&lab.ctrl, 0);
    assert_eq!(lab.ctrl.epoch(), ended, "a reset does not bring it back");
}

#[test]
fn identifiers_are_not_used_again_soon() {
    let lab = Lab::new();
    let mut seen = vec![lab.ctrl.cntlid()];
    for _ in 0..99 {
        let ctrl = connected(&lab.subsystem);
        assert!(!seen.contains(&ctrl.cntlid()), "{} again", ctrl.cntlid());
        assert!((1..=100).contains(&ctrl.cntlid()));
        seen.push(ctrl.cntlid());
        ctrl.end(EndReason::AdminQueueClosed);
    }
    // Round the range, past the one in use.
    assert_eq!(connected(&lab.subsystem).cntlid(), 2);
}
