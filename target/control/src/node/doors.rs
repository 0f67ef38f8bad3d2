//! Where hosts connect: listeners, added and removed while the appliance runs.

use super::Node;
use crate::config::ListenerConfig;
use nvmf::registry::{Fabric, Listener, Serves};
use nvmf_tcp::{Acceptor, SocketOptions};
use std::net::{SocketAddr, TcpListener};

/// A listener that is open.
pub(crate) struct Door {
    /// As hosts are told of it.
    pub listener: Listener,
    /// The configuration declares it.
    pub configured: bool,
    /// Accepts its connections, until it is dropped.
    _acceptor: Acceptor,
}

impl Node {
    /// Accepts connections on a socket that is bound.
    pub(super) fn open_door(
        &mut self,
        socket: TcpListener,
        discovery_only: bool,
        configured: bool,
    ) -> Result<Listener, String> {
        let congestion = Some(self.config.tcp.congestion.clone()).filter(|name| !name.is_empty());
        let options = SocketOptions { congestion: congestion.clone(), ..Default::default() };
        let (inboxes, limit) = (self.inboxes.clone(), self.connections.clone());
        let acceptor =
            Acceptor::start(vec![socket], inboxes, limit, &options).map_err(|error| {
                let name = congestion.as_deref().unwrap_or("the system's");
                format!(
                    "Connections cannot be accepted: {error}. If congestion control {name} is not \
                 there, choose one of /proc/sys/net/ipv4/tcp_available_congestion_control."
                )
            })?;
        let serves = if discovery_only { Serves::Discovery } else { Serves::Everything };
        let taken = |port_id: &u16| self.doors.iter().any(|door| door.listener.port_id == *port_id);
        let port_id = (1..).find(|port_id| !taken(port_id)).expect("fewer doors than numbers");
        let addr = acceptor.addresses()[0];
        let listener = Listener { fabric: Fabric::Tcp, addr, port_id, serves };
        self.registry.add_listener(listener);
        self.doors.push(Door { listener, configured, _acceptor: acceptor });
        Ok(listener)
    }

    /// Listens on an address.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn listen_on(&mut self, address: SocketAddr, alone: bool) -> Result<(), String> {
        let socket = bind(&ListenerConfig { address, discovery_only: alone })?;
        self.open_door(socket, alone, false).map(drop)
    }

    /// Listens on an address no more. Connections that are open stay.
    pub(crate) fn close_door(&mut self, address: SocketAddr) {
        let Some(at) = self.doors.iter().position(|door| door.listener.addr == address) else {
            return;
        };
        let door = self.doors.remove(at);
        self.registry.remove_listener(&door.listener);
    }

    /// The addresses listened on, with the ports that the kernel chose, discovery-only ones marked.
    pub fn listeners(&self) -> impl Iterator<Item = (SocketAddr, bool)> + '_ {
        self.doors.iter().map(|door| {
            let Listener { addr, serves, .. } = door.listener;
            (addr, serves == Serves::Discovery)
        })
    }
}

/// Opens a socket.
pub(super) fn bind(listener: &ListenerConfig) -> Result<TcpListener, String> {
    let address = listener.address;
    TcpListener::bind(address).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("{address} is in use by another program: stop it, or choose another port.")
        }
        std::io::ErrorKind::PermissionDenied => {
            format!("{address} may not be listened on by this user: choose a port from 1024.")
        }
        std::io::ErrorKind::AddrNotAvailable => {
            format!("{} is no address of this machine.", address.ip())
        }
        _ => format!("{address} cannot be listened on: {error}."),
    })
}
