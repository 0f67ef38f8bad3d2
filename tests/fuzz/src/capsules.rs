//! Commands, completions and the data of Connect.

use nvme_spec::feature::{GetFeatures, Queues, SetFeatures};
use nvme_spec::identify::Identify;
use nvme_spec::log::GetLogPage;
use nvme_spec::property::{Cap, Cc, Csts};
use nvme_spec::{Cqe, Sgl, SglKind, Sqe, Status, aen, dsm};
use nvmf_wire::connect::{
    Authentication, BadParameter, Connect, ConnectData, Connected, Disconnect,
};
use nvmf_wire::property::{PropertyGet, PropertySet, Width};
use nvmf_wire::{Nqn, property};
use zerocopy::{FromBytes, IntoBytes};

/// Reads a command through every view there is; `bytes` are a submission queue entry and,
/// behind it, a completion queue entry.
pub fn capsules(bytes: &[u8]) {
    let Ok((sqe, rest)) = Sqe::read_from_prefix(bytes) else { return };
    check_sqe(&sqe);
    check_admin_views(&sqe);
    check_fabrics_views(&sqe);
    if let Ok((cqe, _)) = Cqe::read_from_prefix(rest) {
        check_cqe(&cqe);
    }
}

fn check_sqe(sqe: &Sqe) {
    let _ = (sqe.fuse(), sqe.psdt(), sqe.fctype(), sqe.prinfo(), sqe.directive_type());
    let _ = (sqe.limited_retry(), sqe.stc(), sqe.abort_sqid(), sqe.abort_cid());
    assert!((1..=0x1_0000).contains(&sqe.blocks()));
    let mut again = *sqe;
    again.set_slba(sqe.slba());
    again.set_blocks(sqe.blocks());
    assert_eq!(again, *sqe);
    if sqe.fua() {
        again.set_fua();
    }
    if sqe.deac() {
        again.set_deac();
    }
    assert_eq!(again, *sqe);
    let sgl = &sqe.dptr;
    let rebuilt = match sgl.kind() {
        SglKind::InCapsule => Sgl { rsvd: sgl.rsvd, ..Sgl::in_capsule(sgl.addr(), sgl.len()) },
        SglKind::Transport => Sgl { rsvd: sgl.rsvd, addr: sgl.addr, ..Sgl::transport(sgl.len()) },
        SglKind::Keyed { invalidate } => {
            Sgl::keyed(sgl.addr(), sgl.keyed_len(), sgl.key(), invalidate)
        }
        _ => *sgl,
    };
    assert_eq!(rebuilt, *sgl);
}

fn check_admin_views(sqe: &Sqe) {
    let mut again = Sqe::default();
    Identify::of(sqe).put(&mut again);
    assert_eq!(Identify::of(&again), Identify::of(sqe));
    let log = GetLogPage::of(sqe);
    log.put(&mut again);
    assert_eq!(GetLogPage::of(&again), log);
    assert!(log.bytes() >= 4 && log.bytes().is_multiple_of(4));
    let set = SetFeatures::of(sqe);
    set.put(&mut again);
    assert_eq!(SetFeatures::of(&again), set);
    let queues = Queues::from_dword(set.value);
    assert_eq!(Queues::from_dword(queues.dword()), queues);
    let _ = GetFeatures::of(sqe);
    let deallocate = dsm::DatasetManagement::of(sqe);
    assert!((1..=dsm::MAX_RANGES).contains(&deallocate.ranges));
    assert_eq!(deallocate.bytes(), deallocate.ranges * 16);
}

fn check_fabrics_views(sqe: &Sqe) {
    let connect = Connect::of(sqe);
    assert_eq!(Connect::of(&connect.sqe(sqe.cid())), connect);
    let disconnect = Disconnect::of(sqe);
    assert_eq!(Disconnect::of(&disconnect.sqe(sqe.cid())), disconnect);
    let get = PropertyGet::of(sqe);
    assert_eq!(PropertyGet::of(&get.sqe(sqe.cid())), get);
    let set = PropertySet::of(sqe);
    assert_eq!(PropertySet::of(&set.sqe(sqe.cid())), set);
    assert!(set.width != Width::Four || set.value <= u64::from(u32::MAX));
    let (cap, cc) = (Cap::from_bits(set.value), Cc(set.value as u32));
    assert_eq!(Cap::from_bits(cap.bits()), cap);
    let _ = (cc.enabled(), cc.css(), cc.mps(), cc.ams(), cc.iosqes(), cc.iocqes());
    let _ = (cc.shutdown(), cc.with_normal_shutdown(), Csts(cc.0).shutdown());
    let _ = Authentication::of(sqe);
}

fn check_cqe(cqe: &Cqe) {
    let status = cqe.status();
    assert_eq!(Cqe::new(cqe.cid.get(), status).status(), status);
    assert_eq!(Status::new(status.sct(), status.sc()), status.code());
    assert_eq!(status.is_success(), status.code() == Status::SUCCESS);
    assert!(!format!("{status}").is_empty());
    let dword = cqe.dw0.get();
    let event = aen::Event::from_dword(dword);
    assert_eq!(aen::Event::from_dword(event.dword()), event);
    assert_eq!(BadParameter::from_dword(dword).dword(), dword & 0x1_ffff);
    let granted = Connected::from_dword(dword);
    assert_eq!(Connected::from_dword(granted.dword()), granted);
    let mut again = *cqe;
    property::put_value(&mut again, property::value(cqe));
    assert_eq!(again, *cqe);
}

/// Reads the data of a Connect; short input is the end of the data, so that the fuzzer reaches
/// the names at once: subsystem name, a byte FFh, host name.
pub fn connect_data(bytes: &[u8]) {
    let mut data = ConnectData::default();
    if let Ok((whole, _)) = ConnectData::ref_from_prefix(bytes) {
        data = *whole;
    } else {
        let mut names = bytes.splitn(2, |&b| b == 0xff);
        for field in [&mut data.subnqn, &mut data.hostnqn] {
            let name = names.next().unwrap_or_default();
            let len = name.len().min(field.len());
            field[..len].copy_from_slice(&name[..len]);
        }
    }
    let names = [data.subnqn(), data.hostnqn()];
    for (name, field) in names.into_iter().zip([&data.subnqn, &data.hostnqn]) {
        let Ok(name) = name else { continue };
        assert!((1..=223).contains(&name.as_str().len()));
        assert_eq!(field.iter().position(|&b| b == 0), Some(name.as_str().len()));
        assert_eq!(Nqn::from_field(&name.to_field()), Ok(name));
        assert_eq!(Nqn::lenient(name.as_str()), Ok(name));
        if let Ok(strict) = Nqn::new(name.as_str()) {
            assert_eq!(strict, name);
            assert!(name.as_str().starts_with("nqn."));
        }
        let _ = (name.is_discovery(), format!("{name} {name:?}"));
    }
    if let (Ok(subnqn), Ok(hostnqn)) = names.into() {
        let again = ConnectData::new(data.hostid, data.cntlid.get(), &subnqn, &hostnqn);
        assert_eq!((again.subnqn(), again.hostnqn()), (Ok(subnqn), Ok(hostnqn)));
        assert_eq!(again.as_bytes()[..18], data.as_bytes()[..18]);
    }
}
