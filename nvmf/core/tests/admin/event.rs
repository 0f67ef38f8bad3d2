//! Asynchronous events: told once, masked until the log page is read.

use crate::lab::*;
use bdev::Geometry;
use nvme_spec::aen::{Event, config, kind};
use nvme_spec::feature::{Select, fid};
use nvme_spec::identify::NamespaceList;
use nvme_spec::log::{AnaState, GetLogPage, SmartLog, critical_warning, lid};
use nvme_spec::opcode::admin;
use nvme_spec::property::{self};
use nvme_spec::{Fabric, Sqe, Status};
use nvmf::admin::{AdminOutcome, execute};
use nvmf::controller::Controller;
use nvmf::limits;
use nvmf::registry::{Listener, Serves};
use proptest::prelude::*;
use std::collections::BTreeSet;
use zerocopy::FromBytes;

fn request(ctrl: &Controller) -> AdminOutcome {
    let sqe = Sqe::new(admin::ASYNC_EVENT, 9, 0);
    execute(ctrl, &sqe, &[], &mut [], START_NS)
}

fn hold(ctrl: &Controller) {
    assert_eq!(request(ctrl), AdminOutcome::HoldEvent);
}

fn changed(ctrl: &Controller, rae: bool) -> Vec<u32> {
    let fields = GetLogPage { lid: lid::CHANGED_NAMESPACES, numd: 1023, rae, ..Default::default() };
    let data = send(ctrl, &log_page_with(fields), &[]).ok().data;
    NamespaceList::read_from_bytes(&data).unwrap().iter().collect()
}

fn resize(lab: &Lab) {
    lab.small.0.lock().unwrap().blocks += 1;
    lab.registry.refresh_namespace(NQN, 1).unwrap();
}

#[test]
fn a_change_completes_a_held_request() {
    let lab = Lab::new();
    hold(&lab.ctrl);
    assert!(!lab.ctrl.has_event());
    resize(&lab);
    assert!(lab.ctrl.has_event());
    assert_eq!(lab.ctrl.take_event(), Some(Event::NAMESPACE_CHANGED));
    assert_eq!(Event::NAMESPACE_CHANGED.dword(), 0x0004_0002);
    assert!(!lab.ctrl.has_event());
    assert_eq!(lab.ctrl.take_event(), None);
    assert_eq!(changed(&lab.ctrl, false), [1]);
    assert_eq!(changed(&lab.ctrl, false), [0; 0]);
}

#[test]
fn a_change_waits_for_a_request() {
    let lab = Lab::new();
    resize(&lab);
    assert!(!lab.ctrl.has_event());
    hold(&lab.ctrl);
    assert!(lab.ctrl.has_event());
    assert_eq!(lab.ctrl.take_event(), Some(Event::NAMESPACE_CHANGED));
}

#[test]
fn an_event_is_masked_until_its_log_is_read() {
    let lab = Lab::new();
    hold(&lab.ctrl);
    hold(&lab.ctrl);
    resize(&lab);
    assert!(lab.ctrl.take_event().is_some());
    resize(&lab);
    assert_eq!(lab.ctrl.take_event(), None, "told, and not read yet");
    assert_eq!(changed(&lab.ctrl, true), [1], "retained");
    resize(&lab);
    assert_eq!(lab.ctrl.take_event(), None, "still not read");
    assert_eq!(changed(&lab.ctrl, false), [1]);
    assert_eq!(lab.ctrl.take_event(), None, "the log had all of it");
    lab.registry.remove_namespace(NQN, 3).unwrap();
    assert_eq!(lab.ctrl.take_event(), Some(Event::NAMESPACE_CHANGED));
    assert_eq!(changed(&lab.ctrl, false), [3]);
}

#[test]
fn events_of_different_kinds_do_not_mask_each_other() {
    let lab = Lab::new();
    (0..3).for_each(|_| hold(&lab.ctrl));
    resize(&lab);
    assert_eq!(lab.ctrl.take_event(), Some(Event::NAMESPACE_CHANGED));
    lab.registry.set_ana_state(NQN, AnaState::NonOptimized).unwrap();
    assert_eq!(lab.ctrl.take_event(), Some(Event::ANA_CHANGED));
    lab.registry.set_ana_state(NQN, AnaState::NonOptimized).unwrap();
    lab.registry.set_ana_state(NQN, AnaState::Optimized).unwrap();
    assert_eq!(lab.ctrl.take_event(), None);
    send(&lab.ctrl, &log_page(lid::ANA, 64), &[]).ok();
    lab.registry.set_ana_state(NQN, AnaState::Inaccessible).unwrap();
    assert_eq!(lab.ctrl.take_event(), Some(Event::ANA_CHANGED));
}

#[test]
fn adding_and_removing_are_told_to_every_controller() {
    let lab = Lab::new();
    let other = enabled(&lab.subsystem);
    add(&lab.registry, 2, Sized::new(Geometry::plain(512, 8)));
    lab.registry.remove_namespace(NQN, 1).unwrap();
    for ctrl in [&lab.ctrl, &other] {
        hold(ctrl);
        assert!(ctrl.take_event().is_some());
        assert_eq!(changed(ctrl, false), [1, 2]);
    }
}

#[test]
fn an_event_that_is_not_wanted_is_not_told() {
    let lab = Lab::new();
    hold(&lab.ctrl);
    lab.send(&set_feature(fid::ASYNC_EVENTS, config::ANA)).ok();
    resize(&lab);
    assert_eq!(lab.ctrl.take_event(), None);
    lab.send(&set_feature(fid::ASYNC_EVENTS, config::NAMESPACE)).ok();
    assert_eq!(lab.ctrl.take_event(), None);
    resize(&lab);
    lab.send(&set_feature(fid::ASYNC_EVENTS, 0)).ok();
    assert_eq!(lab.ctrl.take_event(), None, "not wanted any more");
    assert_eq!(changed(&lab.ctrl, false), [1], "the list is kept all the same");
}

#[test]
fn as_many_requests_are_held_as_was_said() {
    let lab = Lab::new();
    (0..limits::ASYNC_EVENTS).for_each(|_| hold(&lab.ctrl));
    let AdminOutcome::Done { status, .. } = request(&lab.ctrl) else { panic!("held") };
    assert_eq!(status.code(), Status::AER_LIMIT);
    lab.ctrl.event_request_dropped();
    hold(&lab.ctrl);
    resize(&lab);
    assert!(lab.ctrl.take_event().is_some());
    hold(&lab.ctrl);
}

#[test]
fn too_many_changes_are_one_entry() {
    let lab = Lab::new();
    for nsid in 1..=1024 {
        lab.ctrl.namespace_changed(nsid);
    }
    assert_eq!(changed(&lab.ctrl, true).len(), 1024);
    lab.ctrl.namespace_changed(1024);
    assert_eq!(changed(&lab.ctrl, true).len(), 1024);
    lab.ctrl.namespace_changed(1025);
    assert_eq!(changed(&lab.ctrl, false), [0xffff_ffff]);
    assert_eq!(changed(&lab.ctrl, false), [0; 0]);
}

#[test]
fn a_reset_drops_requests_and_events() {
    let lab = Lab::new();
    (0..limits::ASYNC_EVENTS).for_each(|_| hold(&lab.ctrl));
    lab.send(&set_feature(fid::ASYNC_EVENTS, 0)).ok();
    resize(&lab);
    lab.ctrl.property_set(property::CC, false, 0, START_NS).unwrap();
    enable(&lab.ctrl);
    assert_eq!(changed(&lab.ctrl, true), [0; 0]);
    resize(&lab);
    hold(&lab.ctrl);
    assert_eq!(lab.ctrl.take_event(), Some(Event::NAMESPACE_CHANGED), "wanted by default");
}

#[test]
fn a_temperature_beyond_its_threshold_is_told() {
    let lab = Lab::new();
    hold(&lab.ctrl);
    hold(&lab.ctrl);
    let warning = || {
        let data = lab.send(&log_page(lid::SMART, 512)).ok().data;
        SmartLog::read_from_bytes(&data).unwrap().critical_warning
    };
    lab.send(&set_feature(fid::ASYNC_EVENTS, 1 << 1)).ok();
    lab.send(&set_feature(fid::TEMPERATURE, 1 << 20 | 280)).ok();
    assert_eq!((lab.ctrl.take_event(), warning()), (None, 0), "no temperature is measured");
    lab.subsystem.set_temperature_kelvin(320);
    assert_eq!((lab.ctrl.take_event(), warning()), (None, 0));
    lab.send(&set_feature(fid::TEMPERATURE, 320)).ok();
    let event = Event { kind: kind::SMART, info: 1, log: lid::SMART };
    assert_eq!(lab.ctrl.take_event(), Some(event));
    assert_eq!(warning(), critical_warning::TEMPERATURE);
    let read = lab.send(&get_feature(fid::TEMPERATURE, Select::Current, 0)).ok();
    assert_eq!(read.dw0, 320);
    lab.subsystem.set_temperature_kelvin(279);
    assert_eq!(lab.ctrl.take_event(), Some(event), "too cold");
}

#[test]
fn discovery_controllers_are_told_of_changes() {
    let lab = Lab::new();
    let ctrl = enabled(lab.registry.discovery());
    (0..2).for_each(|_| hold(&ctrl));
    let listener = Listener {
        fabric: Fabric::Tcp,
        addr: "192.0.2.1:4420".parse().unwrap(),
        only_ipv6: false,
        port_id: 1,
        serves: Serves::Everything,
    };
    lab.registry.add_listener(listener);
    assert_eq!(ctrl.take_event().map(|e| e.dword()), Some(0x0070_f002));
    lab.registry.remove_listener(&listener);
    assert_eq!(ctrl.take_event(), None, "masked");
    send(&ctrl, &log_page(lid::DISCOVERY, 1024), &[]).ok();
    lab.registry.add_listener(listener);
    assert_eq!(ctrl.take_event(), Some(Event::DISCOVERY_CHANGED));
    assert_eq!(lab.ctrl.take_event(), None, "I/O controllers have nothing to do with it");
}

/// What a host and the world around it do.
#[derive(Clone, Debug)]
enum Step {
    Changed(u32),
    Ana(bool),
    Hold,
    Take,
    ReadNamespaces { rae: bool },
    ReadAna { rae: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..4u32).prop_map(Step::Changed),
        any::<bool>().prop_map(Step::Ana),
        Just(Step::Hold),
        Just(Step::Take),
        any::<bool>().prop_map(|rae| Step::ReadNamespaces { rae }),
        any::<bool>().prop_map(|rae| Step::ReadAna { rae }),
    ]
}

/// What a host is owed of one kind of event.
#[derive(Clone, Copy, Default, PartialEq)]
enum Owed {
    /// Nothing happened since it last read the log.
    #[default]
    Nothing,
    /// Something happened, and it has not been told.
    Event,
    /// It has been told, and has not read the log.
    Told,
}

impl Owed {
    fn happened(&mut self) {
        if *self == Owed::Nothing {
            *self = Owed::Event;
        }
    }
}

proptest! {
    /// No event is lost, none is told twice, and the list has exactly what changed.
    #[test]
    fn a_host_is_told_of_every_change_once(steps in prop::collection::vec(step(), 0..80)) {
        let lab = Lab::new();
        let (mut namespaces, mut ana, mut held) = (Owed::default(), Owed::default(), 0u8);
        let mut list = BTreeSet::new();
        let mut state = AnaState::Optimized;
        for step in steps {
            match step {
                Step::Changed(nsid) => {
                    lab.ctrl.namespace_changed(nsid);
                    list.insert(nsid);
                    namespaces.happened();
                }
                Step::Ana(optimized) => {
                    let to =
                        if optimized { AnaState::Optimized } else { AnaState::Inaccessible };
                    lab.registry.set_ana_state(NQN, to).unwrap();
                    if std::mem::replace(&mut state, to) != to {
                        ana.happened();
                    }
                }
                Step::Hold => match request(&lab.ctrl) {
                    AdminOutcome::HoldEvent => held += 1,
                    outcome => prop_assert_eq!(held, limits::ASYNC_EVENTS, "{:?}", outcome),
                },
                Step::Take => {
                    let owed = held > 0 && [namespaces, ana].contains(&Owed::Event);
                    prop_assert_eq!(lab.ctrl.has_event(), owed);
                    let told = lab.ctrl.take_event();
                    prop_assert_eq!(told.is_some(), owed);
                    let Some(event) = told else { continue };
                    held -= 1;
                    let kind =
                        if event == Event::ANA_CHANGED { &mut ana } else { &mut namespaces };
                    prop_assert!(std::mem::replace(kind, Owed::Told) == Owed::Event);
                }
                Step::ReadNamespaces { rae } => {
                    let read = changed(&lab.ctrl, rae);
                    prop_assert_eq!(read, list.iter().copied().collect::<Vec<_>>());
                    if !rae {
                        list.clear();
                        namespaces = Owed::Nothing;
                    }
                }
                Step::ReadAna { rae } => {
                    let fields = GetLogPage { lid: lid::ANA, numd: 9, rae, ..Default::default() };
                    send(&lab.ctrl, &log_page_with(fields), &[]).ok();
                    if !rae {
                        ana = Owed::Nothing;
                    }
                }
            }
        }
    }
}

#[test]
fn changes_from_other_threads_are_never_lost() {
    let lab = Lab::new();
    const CHANGES: u32 = 1000;
    let mut seen = BTreeSet::new();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let ctrl = &lab.ctrl;
            scope.spawn(move || {
                for n in 1..=CHANGES / 2 {
                    ctrl.namespace_changed(thread * CHANGES / 2 + n);
                    std::thread::yield_now();
                }
            });
        }
        // A host that reads the list only when it is told to.
        hold(&lab.ctrl);
        while seen.len() < CHANGES as usize {
            if lab.ctrl.has_event() {
                assert_eq!(lab.ctrl.take_event(), Some(Event::NAMESPACE_CHANGED));
                seen.extend(changed(&lab.ctrl, false));
                hold(&lab.ctrl);
            }
            std::thread::yield_now();
        }
    });
    assert_eq!(seen, (1..=CHANGES).collect());
}
