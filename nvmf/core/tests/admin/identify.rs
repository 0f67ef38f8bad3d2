//! Identify: what hosts are told, and that Linux takes it.

use crate::lab::*;
use bdev::Geometry;
use nvme_spec::Status;
use nvme_spec::identify::bits::{cmic, cntrltype, dctype, fuses, lpa, oncs, sgls, vwc};
use nvme_spec::identify::{
    CommandSets, Identify, IdentifyController, IdentifyNamespace, IdentifyNamespaceIndependent,
    NamespaceList, NsDescriptor, NsDescriptors, NvmController, ascii, cns, dlfeat, nsfeat, nstat,
};
use nvmf::controller::{Association, Controller, VERSION};
use nvmf::limits;
use zerocopy::FromBytes;

fn controller(ctrl: &Controller) -> IdentifyController {
    let answer = send(ctrl, &identify(0, cns::CONTROLLER), &[]).ok();
    IdentifyController::read_from_bytes(&answer.data).unwrap()
}

fn namespace(ctrl: &Controller, nsid: u32) -> IdentifyNamespace {
    let answer = send(ctrl, &identify(nsid, cns::NAMESPACE), &[]).ok();
    IdentifyNamespace::read_from_bytes(&answer.data).unwrap()
}

/// The checks of the Linux host before it uses a fabrics controller, each with the sentence that
/// it prints.
fn what_linux_refuses(id: &IdentifyController, cntlid: u16, discovery: bool) -> Vec<&'static str> {
    let mut refusals = Vec::new();
    let mut check = |good: bool, why| {
        if !good {
            refusals.push(why)
        }
    };
    check(id.cntlid.get() == cntlid, "Mismatching cntlid");
    check(id.maxcmd.get() != 0, "maxcmd is 0, using SQSIZE");
    if !discovery {
        check(id.kas.get() != 0, "keep-alive support is mandatory for fabrics");
        check(id.ioccsz.get() >= 4, "I/O queue command capsule supported size < 4");
        check(id.iorcsz.get() >= 1, "I/O queue response capsule supported size < 1");
    }
    check(id.cntrltype <= cntrltype::ADMIN && id.cntrltype != 0, "unknown controller type");
    refusals
}

#[test]
fn linux_takes_our_controllers() {
    let lab = Lab::new();
    let id = controller(&lab.ctrl);
    assert_eq!(what_linux_refuses(&id, lab.ctrl.cntlid(), false), [""; 0]);
    let discovery = enabled(lab.registry.discovery());
    let id = controller(&discovery);
    assert_eq!(what_linux_refuses(&id, discovery.cntlid(), true), [""; 0]);
}

#[test]
fn the_check_of_what_linux_refuses_sees_each_planted_fault() {
    let lab = Lab::new();
    let cntlid = lab.ctrl.cntlid();
    let good = controller(&lab.ctrl);
    let faults = [
        IdentifyController { cntlid: (cntlid + 1).into(), ..good },
        IdentifyController { maxcmd: 0.into(), ..good },
        IdentifyController { kas: 0.into(), ..good },
        IdentifyController { ioccsz: 3.into(), ..good },
        IdentifyController { iorcsz: 0.into(), ..good },
        IdentifyController { cntrltype: 0, ..good },
    ];
    for fault in faults {
        assert_eq!(what_linux_refuses(&fault, cntlid, false).len(), 1);
    }
}

#[test]
fn a_controller_says_what_it_is() {
    let lab = Lab::new();
    let id = controller(&lab.ctrl);
    assert_eq!(&id.sn, b"FB0001              ");
    assert_eq!(ascii(&id.mn), "Forebay");
    assert_eq!(id.mn[7..], [b' '; 33]);
    assert_eq!(&id.fr, b"0.1.0   ");
    assert_eq!((id.ver.get(), id.cntrltype), (VERSION, cntrltype::IO));
    assert_eq!(VERSION, 0x0002_0000);
    assert_eq!(&id.subnqn[..NQN.len()], NQN.as_bytes());
    assert!(id.subnqn[NQN.len()..].iter().all(|b| *b == 0));
    assert_eq!(4096 << id.mdts, 1 << 20);
    assert_eq!((id.ioccsz.get(), id.iorcsz.get(), id.icdoff.get()), ((64 + 8192) / 16, 1, 0));
    assert_eq!((id.sqes, id.cqes, id.msdbd, id.fcatt), (0x66, 0x44, 1, 0));
    assert_eq!(id.nn.get(), limits::NAMESPACES);
    assert!(id.mnan.get() <= id.nn.get());
    assert_eq!(id.aerl + 1, limits::ASYNC_EVENTS);
    assert!(id.acl >= 3);
    assert_eq!(id.fuses.get(), fuses::COMPARE_AND_WRITE);
    let commands = oncs::COMPARE | oncs::DATASET_MANAGEMENT | oncs::WRITE_ZEROES | oncs::VERIFY;
    let copies = oncs::COPY | oncs::COPY_SINGLE_ATOMICITY;
    assert_eq!(id.oncs.get(), commands | copies | oncs::SAVE_SELECT);
    assert_eq!(id.cmic & cmic::ANA, cmic::ANA);
    assert_eq!((id.anagrpmax.get(), id.nanagrpid.get()), (1, 1));
    assert!(id.anatt > 0 && id.anacap != 0);
    assert_eq!(usize::from(id.elpe) + 1, limits::ERROR_ENTRIES);
    assert_eq!(id.lpa & lpa::TELEMETRY, 0);
    assert_eq!(id.oacs.get(), 0);
}

#[test]
fn sgl_support_and_capsules_follow_the_transport() {
    let lab = Lab::new();
    let sgl = controller(&lab.ctrl).sgls.get();
    assert_eq!(sgl, sgls::SUPPORTED | sgls::OFFSET | sgls::TRANSPORT);
    let rdma =
        Association { fabric: nvme_spec::Fabric::Rdma, in_capsule_bytes: 0, ..association(HOST) };
    let ctrl = connected_as(&lab.subsystem, rdma).unwrap();
    enable(&ctrl);
    let mut sqe = identify(0, cns::CONTROLLER);
    sqe.dptr = nvme_spec::Sgl::keyed(0x1000, 4096, 7, false);
    let answer = send(&ctrl, &sqe, &[]).ok();
    let id = IdentifyController::read_from_bytes(&answer.data).unwrap();
    assert_eq!(id.sgls.get(), sgls::SUPPORTED | sgls::OFFSET | sgls::KEYED);
    assert_eq!((id.ioccsz.get(), id.icdoff.get()), (4, 0));
}

#[test]
fn the_write_cache_is_told_as_it_is() {
    let lab = Lab::new();
    assert_eq!(controller(&lab.ctrl).vwc, vwc::PRESENT | vwc::FLUSH_ALL_YES);
    assert!(lab.ctrl.write_cache_enabled());
    lab.registry.remove_namespace(NQN, 1).unwrap();
    let without = enabled(&lab.subsystem);
    assert_eq!(controller(&without).vwc, vwc::FLUSH_ALL_YES);
    // A cache that comes later was not told of: writes go through it.
    add(&lab.registry, 1, lab.small.clone());
    assert_eq!(controller(&without).vwc, vwc::FLUSH_ALL_YES);
    assert!(!without.write_cache_enabled());
    assert_eq!(controller(&enabled(&lab.subsystem)).vwc & vwc::PRESENT, vwc::PRESENT);
}

#[test]
fn a_namespace_says_what_it_is() {
    let lab = Lab::new();
    let id = namespace(&lab.ctrl, 1);
    assert_eq!((id.nsze.get(), id.ncap.get(), id.nuse.get()), (2048, 2048, 2048));
    assert_eq!((id.nlbaf, id.flbas), (0, 0));
    assert_eq!(id.format().map(|f| (f.lbads, f.ms.get())), Some((9, 0)));
    assert_eq!(id.nsfeat, nsfeat::ATOMICITY | nsfeat::OPTIMAL_IO);
    assert_eq!((id.npwg.get(), id.nows.get(), id.nawupf.get()), (7, 7, 7));
    assert!(id.nawun.get() >= id.nawupf.get());
    assert_eq!(id.dlfeat, dlfeat::READ_ZEROES | dlfeat::WRITE_ZEROES_DEALLOCATES);
    assert_eq!((id.nmic, id.anagrpid.get(), id.nsattr), (1, 1, 0));
    assert_eq!(id.nvmcap.get(), 2048 * 512);

    let id = namespace(&lab.ctrl, 3);
    assert_eq!(id.nsze.get(), 1 << 33);
    assert_eq!(id.format().map(|f| f.lbads), Some(12));
    assert_eq!(id.nsfeat, nsfeat::OPTIMAL_IO);
    assert_eq!((id.dlfeat, id.nsattr), (dlfeat::READ_ZEROES, 1));
    // The whole controller's unit is not larger than any namespace's, in bytes.
    let acwu = u32::from(controller(&lab.ctrl).acwu.get()) + 1;
    assert!(acwu <= u32::from(id.nacwu.get()) + 1);
}

#[test]
fn a_resize_is_told() {
    let lab = Lab::new();
    lab.small.0.lock().unwrap().blocks = 4096;
    assert_eq!(namespace(&lab.ctrl, 1).nsze.get(), 2048, "until it is announced");
    assert!(lab.registry.refresh_namespace(NQN, 1).unwrap());
    assert_eq!(namespace(&lab.ctrl, 1).nsze.get(), 4096);
    assert!(!lab.registry.refresh_namespace(NQN, 1).unwrap());
}

#[test]
fn an_inactive_namespace_is_all_zeroes() {
    let lab = Lab::new();
    for structure in [cns::NAMESPACE, cns::CSI_NAMESPACE, cns::INDEPENDENT_NAMESPACE] {
        for nsid in [2, limits::NAMESPACES] {
            let answer = lab.send(&identify(nsid, structure)).ok();
            assert_eq!(answer.data, [0; 4096]);
        }
    }
}

#[test]
fn a_namespace_is_listed_once_every_reactor_serves_it() {
    let lab = Lab::new();
    let list = || {
        let answer = lab.send(&identify(0, cns::ACTIVE_NAMESPACES)).ok();
        NamespaceList::read_from_bytes(&answer.data).unwrap().iter().collect::<Vec<_>>()
    };
    let bdev = Sized::new(Geometry::plain(512, 64));
    let config =
        nvmf::namespace::NamespaceConfig { nsid: 2, uuid: None, nguid: None, eui64: None, bdev };
    let namespace = lab.registry.add_namespace(NQN, config).unwrap();
    for reactor in 0..REACTORS {
        assert_eq!(list(), [1, 3], "reactor {reactor} is not there yet");
        namespace.set_channel(reactor, Some(bdev::Addr::channel(9)));
    }
    assert_eq!(list(), [1, 2, 3]);
    lab.registry.remove_namespace(NQN, 2).unwrap();
    assert_eq!(list(), [1, 3]);
    assert_eq!(namespace.channel(0), None);
}

#[test]
fn lists_start_after_the_identifier() {
    let lab = Lab::new();
    for structure in [cns::ACTIVE_NAMESPACES, cns::CSI_ACTIVE_NAMESPACES] {
        for (after, expected) in [(0, vec![1, 3]), (1, vec![3]), (2, vec![3]), (3, vec![])] {
            let answer = lab.send(&identify(after, structure)).ok();
            let list = NamespaceList::read_from_bytes(&answer.data).unwrap();
            assert_eq!(list.iter().collect::<Vec<_>>(), expected, "after {after}");
        }
    }
}

#[test]
fn descriptors_name_a_namespace() {
    let lab = Lab::new();
    let answer = lab.send(&identify(1, cns::NAMESPACE_DESCRIPTORS)).ok();
    let found: Vec<NsDescriptor> = NsDescriptors::new(&answer.data).collect();
    let ids = *lab.subsystem.namespace(1).unwrap().ids();
    let expected =
        [NsDescriptor::Nguid(ids.nguid), NsDescriptor::Uuid(ids.uuid), NsDescriptor::Csi(0)];
    assert_eq!(found, expected);
    assert_eq!(namespace(&lab.ctrl, 1).nguid, ids.nguid);
    assert_ne!(ids.nguid, [0; 16]);
    assert_ne!(ids, *lab.subsystem.namespace(3).unwrap().ids());
}

#[test]
fn given_names_are_reported() {
    let lab = Lab::new();
    let config = nvmf::namespace::NamespaceConfig {
        nsid: 7,
        uuid: Some([7; 16]),
        nguid: Some([8; 16]),
        eui64: Some([9; 8]),
        bdev: Sized::new(Geometry::plain(512, 64)),
    };
    let ns = lab.registry.add_namespace(NQN, config).unwrap();
    (0..REACTORS).for_each(|r| ns.set_channel(r, Some(bdev::Addr::channel(0))));
    let answer = lab.send(&identify(7, cns::NAMESPACE_DESCRIPTORS)).ok();
    let found: Vec<NsDescriptor> = NsDescriptors::new(&answer.data).collect();
    let given = [
        NsDescriptor::Eui64([9; 8]),
        NsDescriptor::Nguid([8; 16]),
        NsDescriptor::Uuid([7; 16]),
        NsDescriptor::Csi(0),
    ];
    assert_eq!(found, given);
    let id = namespace(&lab.ctrl, 7);
    assert_eq!((id.eui64, id.nguid), ([9; 8], [8; 16]));
}

#[test]
fn independent_namespace_agrees_with_the_other_structure() {
    let lab = Lab::new();
    for nsid in [1, 3] {
        let answer = lab.send(&identify(nsid, cns::INDEPENDENT_NAMESPACE)).ok();
        let id = IdentifyNamespaceIndependent::read_from_bytes(&answer.data).unwrap();
        let other = namespace(&lab.ctrl, nsid);
        assert_eq!(id.nstat, nstat::READY);
        assert_eq!((id.nmic, id.anagrpid), (other.nmic, other.anagrpid));
        assert_eq!((id.nsattr, id.rescap), (other.nsattr, other.rescap));
    }
}

#[test]
fn one_command_set_is_told() {
    let lab = Lab::new();
    let ask = |cntid| {
        let fields =
            Identify { cns: cns::COMMAND_SETS, cntid, cns_specific: 0, csi: 0, uuid_index: 0 };
        lab.send(&identify_with(0, fields))
    };
    for cntid in [0xffff, lab.ctrl.cntlid()] {
        let sets = CommandSets::read_from_bytes(&ask(cntid).ok().data).unwrap();
        assert_eq!(sets.vectors[0].get(), 1);
        assert!(sets.vectors[1..].iter().all(|v| v.get() == 0));
    }
    assert_eq!(ask(99).status.code(), Status::INVALID_FIELD);
}

#[test]
fn a_discovery_controller_says_what_it_is() {
    let lab = Lab::new();
    let ctrl = enabled(lab.registry.discovery());
    let id = controller(&ctrl);
    assert_eq!((id.cntrltype, id.dctype), (cntrltype::DISCOVERY, dctype::DIRECT));
    assert_eq!(id.oaes.get(), 1 << 31);
    assert_eq!((id.nn.get(), id.ioccsz.get()), (0, 0));
    assert_eq!(id.lpa & lpa::EXTENDED, lpa::EXTENDED);
    assert!(id.kas.get() > 0);
    assert_eq!(ascii(id.subnqn.split(|b| *b == 0).next().unwrap()), ctrl.subsystem().nqn());
}

#[test]
fn limits_of_dataset_management_are_told() {
    let registry = new_registry();
    let subsystem = registry.add_subsystem(subsystem_config(NQN, 1..=100), 0).unwrap();
    let ctrl = enabled(&subsystem);
    let answer = send(&ctrl, &identify(0, cns::CSI_CONTROLLER), &[]).ok();
    let data = NvmController::read_from_bytes(&answer.data).unwrap();
    let (ranges, blocks) = (u64::from(data.dmrl), u64::from(data.dmrsl.get()));
    assert!(ranges > 0 && blocks > 0);
    assert_eq!(data.dmsl.get(), ranges * blocks, "Linux keeps to the other two alone");
}
