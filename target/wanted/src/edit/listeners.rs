//! Listeners.

use super::draft::Edit;
use crate::item::{ListenAt, Listener};
use crate::seen::Listening;
use crate::{leaves_ipv4, takes_in};
use std::net::SocketAddr;
use webui_model::{Address, Fabric, ListenerCreate, Refusal};

/// The listeners over a fabric that are open or wanted. One that is open is as it was opened.
fn over(edit: &Edit<'_>, fabric: Fabric) -> Vec<Listening> {
    let mut all = edit.seen.listening();
    all.retain(|open| open.transport == fabric);
    let wanted = edit.wanted.listeners().map(|wanted| wanted.at());
    let closed: Vec<SocketAddr> = wanted
        .filter(|at| at.transport == fabric && !all.iter().any(|open| open.address == at.address))
        .map(|at| at.address)
        .collect();
    let addresses: Vec<SocketAddr> =
        all.iter().map(|open| open.address).chain(closed.iter().copied()).collect();
    all.extend(closed.into_iter().map(|address| {
        let only_ipv6 = leaves_ipv4(address, addresses.iter().copied());
        Listening {
            transport: fabric,
            address,
            only_ipv6,
            discovery_only: false,
            is_configured: false,
        }
    }));
    all
}

/// The listener that is open there.
fn open(edit: &Edit<'_>, at: ListenAt) -> Option<Listening> {
    let mut all = edit.seen.listening().into_iter();
    all.find(|open| (open.transport, open.address) == (at.transport, at.address))
}

/// Refuses a place that one of our own stands in the way of.
fn check_beside(edit: &Edit<'_>, at: ListenAt) -> Result<(), Refusal> {
    let ListenAt { transport, address } = at;
    let others = over(edit, transport);
    let leaves = leaves_ipv4(address, others.iter().map(|other| other.address));
    for other in others {
        let ours = other.address;
        if takes_in(ours, other.only_ipv6, address) {
            return Err(Refusal::in_use(format!(
                "{ours}, where this appliance listens already, takes in what comes to {address}: \
                 there is nothing to add. For a listener of its own choose another port."
            )));
        }
        if takes_in(address, leaves, ours) {
            return Err(Refusal::in_use(format!(
                "This appliance listens on {ours} already, which is one of the addresses of \
                 {address}: delete that listener first, or choose another port."
            )));
        }
    }
    match edit.seen.api() {
        Some(api)
            if transport.is_tcp()
                && (api == address
                    || takes_in(api, false, address)
                    || takes_in(address, leaves, api)) =>
        {
            Err(Refusal::in_use(format!(
                "{api} is where the API of this appliance is: choose another port."
            )))
        }
        _ => Ok(()),
    }
}

pub(super) fn create(edit: &mut Edit<'_>, create: &ListenerCreate) -> Result<(), Refusal> {
    let ListenerCreate { transport, address: Address(address), discovery_only } = *create;
    if let Some(why) = edit.seen.unusable(address.ip()) {
        return Err(Refusal::invalid(why));
    }
    let at = ListenAt { transport, address };
    let known = edit.wanted.listener(at).map(|known| known.discovery_only);
    if let Some(only) = known.or_else(|| Some(open(edit, at)?.discovery_only)) {
        if only == discovery_only {
            return Ok(());
        }
        return Err(Refusal::exists(format!(
            "{address} listens already, and serves {}: delete that listener first.",
            if only { "discovery alone" } else { "every subsystem" }
        )));
    }
    if let Some(why) = edit.seen.rdma_off().filter(|_| transport == Fabric::Rdma) {
        return Err(Refusal::refused(format!("RDMA is off: {why}")));
    }
    check_beside(edit, at)?;
    edit.set_listener(None, Some(Listener { address, discovery_only, transport }));
    Ok(())
}

pub(super) fn delete(
    edit: &mut Edit<'_>,
    transport: Fabric,
    Address(address): Address,
) -> Result<(), Refusal> {
    let at = ListenAt { transport, address };
    let known = edit.wanted.listener(at).cloned();
    let is_open = open(edit, at).is_some_and(|open| open.is_configured);
    if is_open || known.as_ref().is_some_and(|known| known.is_configured()) {
        return Err(Refusal::refused(format!(
            "{address} comes from the configuration file or the command line: take it out there."
        )));
    }
    let Some(known) = known else {
        return Err(Refusal::not_found(format!("Nothing listens on {transport} {address}.")));
    };
    edit.set_listener(Some(known.item), None);
    Ok(())
}
