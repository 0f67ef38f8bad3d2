//! Features: values, defaults, capabilities and refusals.

use crate::lab::*;
use nvme_spec::aen::config;
use nvme_spec::feature::{HostBehavior, Queues, Select, SetFeatures, capability, fid};
use nvme_spec::{Sqe, Status};
use nvmf::controller::QueueRefusal;
use nvmf::limits;
use zerocopy::{FromBytes, IntoBytes};

impl Lab {
    fn current(&self, fid: u8) -> u32 {
        self.send(&get_feature(fid, Select::Current, 0)).ok().dw0
    }

    fn set(&self, fid: u8, value: u32) -> Answer {
        self.send(&set_feature(fid, value))
    }
}

#[track_caller]
fn refused(answer: Answer, status: Status) {
    assert_eq!(answer.status, status.dnr().more());
}

#[test]
fn values_are_kept() {
    let lab = Lab::new();
    for (fid, value) in [
        (fid::ARBITRATION, 0x0102_0304),
        (fid::POWER, 0x20),
        (fid::TEMPERATURE, 350),
        (fid::VOLATILE_WRITE_CACHE, 0),
        (fid::WRITE_ATOMICITY, 1),
        (fid::ASYNC_EVENTS, config::ANA | 0x1f),
        (fid::KEEP_ALIVE, 10_000),
    ] {
        let default = lab.send(&get_feature(fid, Select::Default, 0)).ok().dw0;
        assert_eq!(lab.current(fid), default, "{fid:02x}h");
        assert_ne!(default, value);
        lab.set(fid, value).ok();
        assert_eq!(lab.current(fid), value, "{fid:02x}h");
        assert_eq!(lab.send(&get_feature(fid, Select::Default, 0)).ok().dw0, default);
        assert_eq!(lab.send(&get_feature(fid, Select::Saved, 0)).ok().dw0, default);
    }
    // Another controller has its own.
    let other = enabled(&lab.subsystem);
    let sqe = get_feature(fid::POWER, Select::Current, 0);
    assert_eq!(send(&other, &sqe, &[]).ok().dw0, 0);
    assert!(!lab.ctrl.write_cache_enabled() && other.write_cache_enabled());
}

#[test]
fn capabilities() {
    let lab = Lab::new();
    for (fid, expected) in [
        (fid::POWER, capability::CHANGEABLE),
        (fid::ERROR_RECOVERY, capability::CHANGEABLE | capability::NAMESPACE),
        (fid::HOST_ID, 0),
    ] {
        let answer = lab.send(&get_feature(fid, Select::Capabilities, 0)).ok();
        assert_eq!((answer.dw0, answer.data.len()), (expected, 0), "{fid:02x}h");
    }
}

#[test]
fn wrong_selections_and_features() {
    let lab = Lab::new();
    refused(lab.send(&get_feature(fid::POWER, Select::Reserved, 0)), Status::INVALID_FIELD);
    for fid in [0x00, 0x03, 0x08, 0x09, 0x0e, 0x10, 0x19, 0x80, 0x82, 0x84, 0xff] {
        refused(lab.send(&get_feature(fid, Select::Current, 0)), Status::INVALID_FIELD);
        refused(lab.set(fid, 0), Status::INVALID_FIELD);
    }
}

#[test]
fn nothing_can_be_saved() {
    let lab = Lab::new();
    let mut sqe = set_feature(fid::POWER, 0);
    SetFeatures { fid: fid::POWER, save: true, value: 0 }.put(&mut sqe);
    refused(lab.send(&sqe), Status::FEATURE_NOT_SAVEABLE);
}

#[test]
fn features_of_the_controller_are_not_set_for_a_namespace() {
    let lab = Lab::new();
    let mut sqe = set_feature(fid::POWER, 0);
    sqe.nsid = 1.into();
    refused(lab.send(&sqe), Status::FEATURE_NOT_NAMESPACE);
    sqe.nsid = (limits::NAMESPACES + 1).into();
    refused(lab.send(&sqe), Status::INVALID_NAMESPACE);
    sqe.nsid = Sqe::NSID_ALL.into();
    lab.send(&sqe).ok();
}

#[test]
fn error_recovery_is_kept_by_namespace() {
    let lab = Lab::new();
    let set = |nsid: u32, value| {
        let mut sqe = set_feature(fid::ERROR_RECOVERY, value);
        sqe.nsid = nsid.into();
        lab.send(&sqe)
    };
    let get = |nsid: u32| {
        let mut sqe = get_feature(fid::ERROR_RECOVERY, Select::Current, 0);
        sqe.nsid = nsid.into();
        lab.send(&sqe)
    };
    set(1, 50).ok();
    assert_eq!((get(1).ok().dw0, get(3).ok().dw0), (50, 0));
    set(Sqe::NSID_ALL, 7).ok();
    assert_eq!((get(1).ok().dw0, get(3).ok().dw0), (7, 7));
    refused(set(1, 1 << 16), Status::INVALID_FIELD);
    refused(set(2, 1), Status::INVALID_FIELD);
    refused(set(0, 1), Status::INVALID_NAMESPACE);
    refused(get(0), Status::INVALID_NAMESPACE);
    refused(get(Sqe::NSID_ALL), Status::INVALID_NAMESPACE);
    refused(get(2), Status::INVALID_FIELD);
}

#[test]
fn wrong_values() {
    let lab = Lab::new();
    for (fid, value) in [
        (fid::POWER, 1),
        (fid::POWER, 1 << 8),
        (fid::TEMPERATURE, 1 << 16 | 300),
        (fid::TEMPERATURE, 2 << 20 | 300),
        (fid::VOLATILE_WRITE_CACHE, 2),
        (fid::WRITE_ATOMICITY, 2),
        (fid::ASYNC_EVENTS, config::FIRMWARE),
        (fid::ASYNC_EVENTS, config::DISCOVERY),
        (fid::QUEUES, 0x0000_ffff),
        (fid::QUEUES, 0xffff_0000),
    ] {
        refused(lab.set(fid, value), Status::INVALID_FIELD);
    }
    let sensor = get_feature(fid::TEMPERATURE, Select::Current, 0xf << 16);
    refused(lab.send(&sensor), Status::INVALID_FIELD);
    lab.set(fid::TEMPERATURE, 0xf << 16 | 300).ok();
    assert_eq!(lab.current(fid::TEMPERATURE), 300);
}

#[test]
fn queues_are_granted_before_they_are_connected() {
    let lab = Lab::new();
    let ask = |submission, completion| {
        let dword = Queues { submission, completion }.dword();
        lab.set(fid::QUEUES, dword).ok().dw0
    };
    assert_eq!(Queues::from_dword(ask(8, 8)), Queues { submission: 8, completion: 8 });
    assert_eq!(Queues::from_dword(ask(8, 4)).submission, 4, "they come in pairs");
    let most = u32::from(limits::IO_QUEUES);
    assert_eq!(Queues::from_dword(ask(60_000, 60_000)).submission, most);
    assert_eq!(Queues::from_dword(ask(2, 2)).completion, 2);
    assert_eq!(Queues::from_dword(lab.current(fid::QUEUES)).submission, 2);

    assert_eq!(lab.ctrl.claim_queue(3, 128, 1), Err(QueueRefusal::NoSuchQueue));
    assert_eq!(lab.ctrl.claim_queue(0, 128, 1), Err(QueueRefusal::NoSuchQueue));
    lab.ctrl.claim_queue(2, 128, 1).unwrap();
    assert_eq!(lab.ctrl.claim_queue(2, 128, 2), Err(QueueRefusal::InUse));
    refused(lab.set(fid::QUEUES, 0), Status::SEQUENCE_ERROR);
    lab.ctrl.release_queue(2);
    lab.ctrl.claim_queue(2, 128, 2).unwrap();
}

#[test]
fn keep_alive_is_rounded_up() {
    let lab = Lab::new();
    assert_eq!(lab.current(fid::KEEP_ALIVE), 5000);
    lab.set(fid::KEEP_ALIVE, 4901).ok();
    assert_eq!(lab.current(fid::KEEP_ALIVE), 5000);
    lab.set(fid::KEEP_ALIVE, 0).ok();
    assert!(!lab.ctrl.keep_alive_expired(u64::MAX));
    lab.set(fid::KEEP_ALIVE, u32::MAX).ok();
    assert!(lab.ctrl.kato_ms() > u32::MAX - 100);
}

#[test]
fn host_behavior_is_kept() {
    let lab = Lab::new();
    let sqe = set_feature(fid::HOST_BEHAVIOR, 0);
    let wanted = HostBehavior { acre: 1, lbafee: 1, ..Default::default() };
    send(&lab.ctrl, &sqe, wanted.as_bytes()).ok();
    let mut get = get_feature(fid::HOST_BEHAVIOR, Select::Current, 0);
    get.dptr = nvme_spec::Sgl::transport(512);
    let read = HostBehavior::read_from_bytes(&lab.send(&get).ok().data).unwrap();
    assert_eq!(read, wanted);
    for wrong in [
        HostBehavior { acre: 2, ..Default::default() },
        HostBehavior { etdas: 2, ..Default::default() },
        HostBehavior { lbafee: 0xff, ..Default::default() },
    ] {
        refused(send(&lab.ctrl, &sqe, wrong.as_bytes()), Status::INVALID_FIELD);
    }
    refused(send(&lab.ctrl, &sqe, &[0; 511]), Status::INVALID_SGL_LENGTH);
    assert_eq!(lab.send(&get).ok().data, wanted.as_bytes());
}

#[test]
fn the_host_identifier_is_read_only() {
    let lab = Lab::new();
    let mut get = get_feature(fid::HOST_ID, Select::Current, 1);
    get.dptr = nvme_spec::Sgl::transport(16);
    assert_eq!(lab.send(&get).ok().data, [0x11; 16]);
    get.cdw11 = 0.into();
    refused(lab.send(&get), Status::INVALID_FIELD);
    refused(lab.set(fid::HOST_ID, 1), Status::SEQUENCE_ERROR);
}

#[test]
fn no_write_cache_feature_without_a_cache() {
    let lab = Lab::new();
    lab.registry.remove_namespace(NQN, 1).unwrap();
    let ctrl = enabled(&lab.subsystem);
    let get = get_feature(fid::VOLATILE_WRITE_CACHE, Select::Current, 0);
    refused(send(&ctrl, &get, &[]), Status::INVALID_FIELD);
    refused(send(&ctrl, &set_feature(fid::VOLATILE_WRITE_CACHE, 1), &[]), Status::INVALID_FIELD);
}

#[test]
fn discovery_has_two_features() {
    let lab = Lab::new();
    let ctrl = enabled(lab.registry.discovery());
    for fid in 0..=0xff {
        let answer = send(&ctrl, &get_feature(fid, Select::Capabilities, 0), &[]);
        assert_eq!(answer.status.is_success(), matches!(fid, 0x0b | 0x0f), "{fid:02x}h");
    }
    send(&ctrl, &set_feature(fid::ASYNC_EVENTS, config::DISCOVERY), &[]).ok();
    let wrong = set_feature(fid::ASYNC_EVENTS, config::NAMESPACE);
    refused(send(&ctrl, &wrong, &[]), Status::INVALID_FIELD);
}
