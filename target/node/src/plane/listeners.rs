//! Listeners: where hosts connect.

use super::ControlPlane;
use super::view::View;
use crate::node::{check_listened, listener_claim};
use nvmf::registry::Serves;
use std::cmp::Reverse;
use wanted::{ListenAt, Request};
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
                transport: open.at().transport,
                address: Address(open.listener.addr),
                discovery_only,
                status: Status::Ok,
                reason: match discovery_only {
                    true => "listens, and serves discovery alone".to_owned(),
                    false => "listens".to_owned(),
                },
            }
        });
        let closed = self.wanted.listeners().filter_map(|wanted| {
            let why = self.missing.listeners.get(&wanted.at())?;
            Some(Listener {
                transport: wanted.transport,
                address: Address(wanted.address),
                discovery_only: wanted.discovery_only,
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
        let claims = vec![listener_claim(place)];
        self.0.change(format!("listening on {place}"), claims, move |plane| {
            let node = &*plane.node;
            let edited = node.edit(&Request::CreateListener(request))?;
            if edited.is_as_before() {
                return View::of(node).listener(transport, address).map(Made::Existing);
            }
            let opened = node.listeners().listen_on(place, discovery_only, false);
            opened.map_err(Refusal::in_use).inspect_err(|_| node.undo(&edited))?;
            let message = format!("Hosts can connect to {address}.");
            plane.done(EventKind::Created, (ObjectKind::Listener, address), message);
            View::of(node).listener(transport, address).map(Made::New)
        })
    }

    pub(super) fn delete(self, transport: Fabric, address: Address) -> Result<(), Refusal> {
        let place = place(transport, address);
        let claims = vec![listener_claim(place)];
        self.0.change(format!("closing listener {place}"), claims, move |plane| {
            let node = &*plane.node;
            node.edit(&Request::DeleteListener { transport, address })?;
            node.listeners().close(place);
            node.supervisor().step();
            let message = format!("Nothing listens on {address} any more.");
            plane.done(EventKind::Deleted, (ObjectKind::Listener, address), message);
            Ok(())
        })
    }
}
