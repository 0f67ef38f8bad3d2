//! Where hosts connect: listeners, added and removed while the appliance runs.

use super::Node;
use crate::config::{ListenerConfig, ListenerTransport};
use crate::state::KnownListener;
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
    _acceptor: AnyAcceptor,
}

/// Accepts connections until it is dropped.
enum AnyAcceptor {
    Tcp { _acceptor: Acceptor },
    Rdma { _acceptor: verbs::Acceptor },
}

/// Where a listener is: a fabric and an address there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DoorPlace {
    /// The fabric.
    pub transport: ListenerTransport,
    /// The address.
    pub address: SocketAddr,
}

impl std::fmt::Display for DoorPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.transport {
            ListenerTransport::Tcp => write!(f, "{}", self.address),
            ListenerTransport::Rdma => write!(f, "rdma {}", self.address),
        }
    }
}

impl ListenerConfig {
    /// Where it is.
    pub(crate) fn place(&self) -> DoorPlace {
        DoorPlace { transport: self.transport, address: self.address }
    }
}

impl KnownListener {
    /// Where it is.
    pub(crate) fn place(&self) -> DoorPlace {
        DoorPlace { transport: self.transport, address: self.address }
    }
}

impl Door {
    /// Where it is.
    pub(crate) fn place(&self) -> DoorPlace {
        let transport = match self.listener.fabric {
            Fabric::Tcp => ListenerTransport::Tcp,
            Fabric::Rdma => ListenerTransport::Rdma,
        };
        DoorPlace { transport, address: self.listener.addr }
    }
}

impl Node {
    /// Accepts connections on a socket that is bound.
    pub(super) fn open_door(
        &mut self,
        socket: TcpListener,
        discovery_only: bool,
        configured: bool,
    ) -> Result<(), String> {
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
        let address = acceptor.addresses()[0];
        let acceptor = AnyAcceptor::Tcp { _acceptor: acceptor };
        self.put_door(Fabric::Tcp, address, discovery_only, configured, acceptor);
        Ok(())
    }

    fn put_door(
        &mut self,
        fabric: Fabric,
        addr: SocketAddr,
        discovery_only: bool,
        configured: bool,
        acceptor: AnyAcceptor,
    ) {
        let serves = if discovery_only { Serves::Discovery } else { Serves::Everything };
        let taken = |port_id: &u16| self.doors.iter().any(|door| door.listener.port_id == *port_id);
        let port_id = (1..).find(|port_id| !taken(port_id)).expect("fewer doors than numbers");
        let listener = Listener { fabric, addr, port_id, serves };
        self.registry.add_listener(listener);
        self.doors.push(Door { listener, configured, _acceptor: acceptor });
    }

    /// Listens on an address.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn listen_on(&mut self, place: DoorPlace, alone: bool) -> Result<(), String> {
        match place.transport {
            ListenerTransport::Tcp => {
                let socket = bind(&ListenerConfig::tcp(place.address, alone))?;
                self.open_door(socket, alone, false)
            }
            ListenerTransport::Rdma => self.open_rdma_door(place.address, alone, false),
        }
    }

    /// Listens for NVMe/RDMA.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn open_rdma_door(
        &mut self,
        address: SocketAddr,
        alone: bool,
        configured: bool,
    ) -> Result<(), String> {
        let rdma = self.rdma.as_ref().map_err(|why| format!("RDMA is off: {why}"))?;
        if address.port() == 0 {
            return Err("A listener for RDMA needs a port: choose one, such as 4420.".into());
        }
        let (inboxes, admit) = (rdma.inboxes.clone(), self.rdma_admission());
        let queues = nvmf_rdma::QUEUES;
        let started = verbs::Acceptor::start(&rdma.hardware, address, inboxes, admit, queues);
        let acceptor = started.map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("{address} is in use by another program over RDMA: choose another port.")
            }
            _ => format!(
                "{address} cannot be listened on over RDMA: {error}. The address has to be that of \
                 a network interface with RDMA ({}), or 0.0.0.0.",
                self.rdma_in_words()
            ),
        })?;
        let acceptor = AnyAcceptor::Rdma { _acceptor: acceptor };
        self.put_door(Fabric::Rdma, address, alone, configured, acceptor);
        Ok(())
    }

    /// Listens on an address no more. Connections that are open stay.
    pub(crate) fn close_door(&mut self, place: DoorPlace) {
        let Some(at) = self.doors.iter().position(|door| door.place() == place) else {
            return;
        };
        let door = self.doors.remove(at);
        self.registry.remove_listener(&door.listener);
    }

    /// Whether something listens there.
    pub(super) fn is_open(&self, place: DoorPlace) -> bool {
        self.doors.iter().any(|door| door.place() == place)
    }

    /// The addresses listened on for NVMe/TCP, with the ports that the kernel chose,
    /// discovery-only ones marked.
    pub fn listeners(&self) -> impl Iterator<Item = (SocketAddr, bool)> + '_ {
        let over_tcp = self.doors.iter().filter(|door| door.listener.fabric == Fabric::Tcp);
        over_tcp.map(|door| {
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
