//! Listeners: where hosts connect.

use super::ControlPlane;
use super::view::View;
use crate::state::KnownListener;
use nvmf::registry::Serves;
use webui_api::model::{
    Address, EventKind, Listener, ListenerCreate, ObjectKind, Status, Transport,
};
use webui_api::{Made, Refusal};

fn tcp_only(transport: Transport) -> Result<(), Refusal> {
    match transport {
        Transport::Tcp => Ok(()),
        Transport::Rdma => Err(Refusal::invalid("There is no RDMA here: listen on TCP.")),
    }
}

fn none(transport: Transport, address: Address) -> Refusal {
    Refusal::not_found(format!("Nothing listens on {transport} {address}."))
}

impl View<'_> {
    pub(super) fn listeners(&self) -> Vec<Listener> {
        let open = self.node.doors.iter().map(|door| {
            let discovery_only = door.listener.serves == Serves::Discovery;
            Listener {
                transport: Transport::Tcp,
                address: Address(door.listener.addr),
                discovery_only,
                status: Status::Ok,
                reason: match discovery_only {
                    true => "listens, and serves discovery alone".to_owned(),
                    false => "listens".to_owned(),
                },
            }
        });
        let closed = self.node.state().listeners.iter().filter_map(|known| {
            let why = self.node.troubles.listeners.get(&known.address)?;
            Some(Listener {
                transport: Transport::Tcp,
                address: Address(known.address),
                discovery_only: known.discovery_only,
                status: Status::Failed,
                reason: why.clone(),
            })
        });
        let mut all: Vec<Listener> = open.chain(closed).collect();
        all.sort_by_key(|listener| listener.address);
        all
    }

    pub(super) fn listener(
        &self,
        transport: Transport,
        address: Address,
    ) -> Result<Listener, Refusal> {
        let mut all = self.listeners().into_iter();
        let found = all.find(|l| (l.transport, l.address) == (transport, address));
        found.ok_or_else(|| none(transport, address))
    }
}

impl ControlPlane {
    pub(super) fn listen(&self, request: &ListenerCreate) -> Result<Made<Listener>, Refusal> {
        let ListenerCreate { transport, address, discovery_only } = *request;
        tcp_only(transport)?;
        let made = self.with(|node| {
            if let Ok(there) = View::of(node)?.listener(transport, address) {
                if there.discovery_only == discovery_only {
                    return Ok(Made::Existing(there));
                }
                return Err(Refusal::exists(format!(
                    "{address} listens already, and serves {}: delete that listener first.",
                    if there.discovery_only { "discovery alone" } else { "every subsystem" }
                )));
            }
            node.listen_on(address.0, discovery_only).map_err(Refusal::in_use)?;
            let known = KnownListener { address: address.0, discovery_only };
            node.change_state(|state| state.listeners.push(known)).inspect_err(|_| {
                node.close_door(address.0);
            })?;
            View::of(node)?.listener(transport, address).map(Made::New)
        })?;
        if let Made::New(_) = &made {
            let message = format!("Hosts can connect to {address}.");
            self.done(EventKind::Created, (ObjectKind::Listener, address), message);
        }
        Ok(made)
    }

    pub(super) fn listen_no_more(
        &self,
        transport: Transport,
        address: Address,
    ) -> Result<(), Refusal> {
        self.with(|node| {
            View::of(node)?.listener(transport, address)?;
            let mut doors = node.doors.iter();
            if doors.any(|door| door.configured && door.listener.addr == address.0) {
                return Err(Refusal::refused(format!(
                    "{address} comes from the configuration file or the command line: take it out \
                     there."
                )));
            }
            node.change_state(|state| state.listeners.retain(|l| l.address != address.0))?;
            node.troubles.listeners.remove(&address.0);
            node.close_door(address.0);
            Ok(())
        })?;
        let message = format!("Nothing listens on {address} any more.");
        self.done(EventKind::Deleted, (ObjectKind::Listener, address), message);
        Ok(())
    }
}
