//! Listeners: where hosts connect.

use super::ControlPlane;
use super::view::View;
use crate::node::{ListenAt, check_listened};
use crate::state::KnownListener;
use nvmf::registry::Serves;
use std::cmp::Reverse;
use webui_model::{
    Address, EventKind, Fabric, Listener, ListenerCreate, Made, ObjectKind, Refusal, Status,
};

/// Where a listener is, as the node knows it.
fn place(transport: Fabric, address: Address) -> ListenAt {
    ListenAt { transport, address: address.0 }
}

fn none(transport: Fabric, address: Address) -> Refusal {
    Refusal::not_found(format!("Nothing listens on {transport} {address}."))
}

impl View<'_> {
    pub(super) fn listeners(&self) -> Vec<Listener> {
        let open = self.listeners.iter().map(|open| {
            let discovery_only = open.listener.serves == Serves::Discovery;
            Listener {
                transport: open.place().transport,
                address: Address(open.listener.addr),
                discovery_only,
                status: Status::Ok,
                reason: match discovery_only {
                    true => "listens, and serves discovery alone".to_owned(),
                    false => "listens".to_owned(),
                },
            }
        });
        let declared = self.config.listeners.iter();
        let declared = declared.map(|listener| (listener.place(), listener.discovery_only));
        let known = self.state.listeners.iter();
        let known = known.map(|listener| (listener.place(), listener.discovery_only));
        let closed = known.chain(declared).filter_map(|(place, discovery_only)| {
            let why = self.missing.listeners.get(&place)?;
            Some(Listener {
                transport: place.transport,
                address: Address(place.address),
                discovery_only,
                status: Status::Failed,
                reason: why.clone(),
            })
        });
        let mut all: Vec<Listener> = open.chain(closed).collect();
        all.sort_by_key(|listener| (listener.address, Reverse(listener.transport)));
        all
    }

    pub(super) fn listener(
        &self,
        transport: Fabric,
        address: Address,
    ) -> Result<Listener, Refusal> {
        let mut all = self.listeners().into_iter();
        let found = all.find(|l| (l.transport, l.address) == (transport, address));
        found.ok_or_else(|| none(transport, address))
    }
}

/// Listeners, as operators change them.
#[derive(Clone, Copy)]
pub(super) struct Listeners<'a>(pub &'a ControlPlane);

impl Listeners<'_> {
    pub(super) fn create(self, request: ListenerCreate) -> Result<Made<Listener>, Refusal> {
        let ListenerCreate { transport, address, discovery_only } = request;
        let place = place(transport, address);
        check_listened(address.0.ip()).map_err(Refusal::invalid)?;
        self.0.change(format!("listening on {place}"), vec![place.claim()], move |plane| {
            let node = &*plane.node;
            if let Ok(there) = View::of(node).listener(transport, address) {
                if there.discovery_only == discovery_only {
                    return Ok(Made::Existing(there));
                }
                return Err(Refusal::exists(format!(
                    "{address} listens already, and serves {}: delete that listener first.",
                    if there.discovery_only { "discovery alone" } else { "every subsystem" }
                )));
            }
            if let (Fabric::Rdma, Err(why)) = (transport, &node.rdma) {
                return Err(Refusal::refused(format!("RDMA is off: {why}")));
            }
            let opened = node.listeners().listen_on(place, discovery_only, false);
            opened.map_err(Refusal::in_use)?;
            let known = KnownListener { address: address.0, discovery_only, transport };
            node.change_state(|state| state.listeners.push(known)).inspect_err(|_| {
                node.listeners().close(place);
            })?;
            let message = format!("Hosts can connect to {address}.");
            plane.done(EventKind::Created, (ObjectKind::Listener, address), message);
            View::of(node).listener(transport, address).map(Made::New)
        })
    }

    pub(super) fn delete(self, transport: Fabric, address: Address) -> Result<(), Refusal> {
        let place = place(transport, address);
        self.0.change(format!("closing listener {place}"), vec![place.claim()], move |plane| {
            let node = &*plane.node;
            View::of(node).listener(transport, address)?;
            let config = node.config();
            let mut declared = config.listeners.iter();
            if node.listeners.get().iter().any(|open| open.configured && open.place() == place)
                || declared.any(|listener| listener.place() == place)
            {
                return Err(Refusal::refused(format!(
                    "{address} comes from the configuration file or the command line: take it out \
                     there."
                )));
            }
            node.change_state(|state| state.listeners.retain(|l| l.place() != place))?;
            node.listeners().close(place);
            node.supervisor().step();
            let message = format!("Nothing listens on {address} any more.");
            plane.done(EventKind::Deleted, (ObjectKind::Listener, address), message);
            Ok(())
        })
    }
}
