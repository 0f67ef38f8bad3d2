//! The discovery log: which subsystems a host may connect to, and where.

use crate::export::controller::Controller;
use crate::export::directory::Directory;
use crate::export::listener::{Listener, Serves};
use crate::export::subsystem::SubsystemKind;
use crate::limits;
use nvmf_wire::Nqn;
use nvmf_wire::connect::CNTLID_DYNAMIC;
use nvmf_wire::discovery::{self, AdrFam, Entry, Record, SubType, TrType, eflags, treq};
use std::net::{IpAddr, SocketAddr};

/// Fills `out` with the discovery log of the host of `ctrl` from `offset` bytes on.
///
/// # Panics
/// If `ctrl` is not a discovery controller.
pub(crate) fn read_log(ctrl: &Controller, offset: u64, out: &mut [u8]) {
    let SubsystemKind::Discovery(directory) = ctrl.subsystem().kind() else {
        panic!("only discovery controllers have a discovery log")
    };
    // Before the entries: a change in between is told by the next generation.
    let genctr = directory.genctr();
    let association = ctrl.association();
    let own_nqn = ctrl.subsystem().nqn();
    let entries = entries(directory, own_nqn, &association.host_nqn, association.local);
    discovery::read_log(genctr, &entries, offset, out);
}

/// The entries for the host `host`, which reached us at `local`: every subsystem it may connect
/// to at every listener that serves subsystems, then this discovery subsystem at every listener.
fn entries(directory: &Directory, own_nqn: &str, host: &str, local: SocketAddr) -> Vec<Entry> {
    let listeners = directory.listeners();
    let mut entries = Vec::new();
    for subsystem in directory.subsystems().iter().filter(|s| s.allows(host)) {
        for listener in listeners.iter().filter(|l| l.serves == Serves::Everything) {
            entries.extend(entry(listener, SubType::Nvm, 0, subsystem.nqn(), local));
        }
    }
    for listener in &listeners {
        let same = returns_the_same(listener, &listeners, local);
        let flags = eflags::PERSISTENT | if same { eflags::DUPLICATE } else { 0 };
        entries.extend(entry(listener, SubType::Current, flags, own_nqn, local));
    }
    entries
}

/// Whether a host that came to `listener` instead would read the same log: where it arrives at
/// another address, listeners on every address are told by that one.
fn returns_the_same(listener: &Listener, listeners: &[Listener], local: SocketAddr) -> bool {
    reachable(listener, local.ip()) == Some(local.ip().to_canonical())
        || !listeners.iter().any(|l| l.addr.ip().is_unspecified())
}

/// One entry; none where the host cannot reach the listener: it listens on every address of a
/// family that the host does not use.
fn entry(
    listener: &Listener,
    subtype: SubType,
    eflags: u16,
    nqn: &str,
    local: SocketAddr,
) -> Option<Entry> {
    let address = reachable(listener, local.ip())?;
    let record = Record {
        trtype: TrType::from_code(listener.fabric.trtype()),
        adrfam: if address.is_ipv4() { AdrFam::Ipv4 } else { AdrFam::Ipv6 },
        subtype,
        // "Not required" would have libnvme 1.3 ask for TLS and fail for want of a key.
        treq: treq::SECURE_NOT_SPECIFIED | treq::DISABLE_SQ_FLOW,
        portid: listener.port_id,
        cntlid: CNTLID_DYNAMIC,
        asqsz: limits::QUEUE_ENTRIES,
        eflags,
        trsvcid: &listener.addr.port().to_string(),
        subnqn: Nqn::lenient(nqn).expect("the registry takes valid names only"),
        traddr: &address.to_string(),
        sectype: discovery::TCP_SECTYPE_NONE,
    };
    Some(record.entry())
}

/// The address to tell a host that reached us at `local`.
fn reachable(listener: &Listener, local: IpAddr) -> Option<IpAddr> {
    let listening = listener.addr.ip();
    if !listening.is_unspecified() {
        return Some(listening);
    }
    // A socket for IPv6 takes IPv4, too, and reports it as a mapped address.
    let local = local.to_canonical();
    let takes_ipv4 = listening.is_ipv4() || !listener.only_ipv6;
    let is_taken = if local.is_ipv4() { takes_ipv4 } else { listening.is_ipv6() };
    is_taken.then_some(local)
}
