//! Where hosts connect: listeners, added and removed while the appliance runs.

use super::{Node, addresses};
use crate::config::{Config, ListenerConfig};
use crate::unit::schedule::{Claim, Key};
use nvme_spec::Fabric;
use nvmf::registry::{Listener, Serves};
use nvmf_tcp::{Acceptor, SocketOptions};
use socket2::{Domain, SockRef, Socket, Type};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use verbs::Listened;
use wanted::{ListenAt, Wanted, leaves_ipv4};

/// Connections that wait for the acceptor, at most: the hosts of a rack that come back at once.
const BACKLOG: i32 = 1024;

/// A listener that is open.
pub(crate) struct OpenListener {
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

/// What opening or closing a listener needs.
pub(crate) fn listener_claim(at: ListenAt) -> Claim {
    Claim::sole(Key::Listener(at.to_string()))
}

impl OpenListener {
    /// The addresses by which hosts reach it.
    pub(crate) fn reachable(&self) -> Vec<SocketAddr> {
        addresses::reachable(self.listener.addr, self.listener.only_ipv6)
    }

    /// Where it is.
    pub(crate) fn at(&self) -> ListenAt {
        ListenAt { transport: self.listener.fabric, address: self.listener.addr }
    }
}

/// Where hosts connect.
#[derive(Clone, Copy)]
pub(crate) struct Listeners<'a> {
    pub(super) node: &'a Node,
}

impl Listeners<'_> {
    /// Accepts connections on a socket that is bound.
    pub(super) fn open_tcp(
        self,
        socket: TcpListener,
        discovery_only: bool,
        configured: bool,
    ) -> Result<(), String> {
        let local = socket.local_addr().map_err(|error| format!("{error}."))?;
        let only_ipv6 = local.is_ipv6() && SockRef::from(&socket).only_v6().unwrap_or(false);
        let congestion =
            Some(self.node.config().tcp.congestion.clone()).filter(|name| !name.is_empty());
        let options = SocketOptions { congestion: congestion.clone(), ..Default::default() };
        let (inboxes, places) = (self.node.inboxes.clone(), self.node.connections.clone());
        let serves = behind(discovery_only);
        let acceptor =
            Acceptor::start(socket, serves, inboxes, places, &options).map_err(|error| {
                let name = congestion.as_deref().unwrap_or("the system's");
                format!(
                    "Connections cannot be accepted: {error}. If congestion control {name} is not \
                 there, choose one of /proc/sys/net/ipv4/tcp_available_congestion_control."
                )
            })?;
        let address = acceptor.address();
        let acceptor = AnyAcceptor::Tcp { _acceptor: acceptor };
        let listener = self.list(Fabric::Tcp, address, only_ipv6, serves);
        self.add(OpenListener { listener, configured, _acceptor: acceptor });
        Ok(())
    }

    /// Tells hosts of a listener, under a number of its own.
    fn list(self, fabric: Fabric, addr: SocketAddr, only_ipv6: bool, serves: Serves) -> Listener {
        let open = self.node.listeners.get();
        let taken = |port_id: &u16| open.iter().any(|other| other.listener.port_id == *port_id);
        let port_id = (1..).find(|port_id| !taken(port_id)).expect("fewer listeners than numbers");
        let listener = Listener { fabric, addr, only_ipv6, port_id, serves };
        self.node.registry.add_listener(listener);
        listener
    }

    /// Listens on an address.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn listen_on(
        self,
        at: ListenAt,
        alone: bool,
        configured: bool,
    ) -> Result<(), String> {
        match at.transport {
            Fabric::Tcp => {
                let socket = bind(at.address, self.leaves_ipv4(at)).map_err(|not| not.why)?;
                self.open_tcp(socket, alone, configured)
            }
            Fabric::Rdma => self.open_rdma(at, alone, configured),
        }
    }

    fn add(self, listener: OpenListener) {
        self.node.listeners.change(|all| all.push(Arc::new(listener)));
    }

    /// Whether a listener leaves IPv4 to another one, that is open or wanted.
    fn leaves_ipv4(self, at: ListenAt) -> bool {
        let (open, wanted) = (self.node.listeners.get(), self.node.wanted());
        let open = open.iter().map(|listener| listener.at());
        let all = open.chain(wanted.listeners().map(|listener| listener.at()));
        let over = all.filter(|other| other.transport == at.transport);
        leaves_ipv4(at.address, over.map(|other| other.address))
    }

    /// Listens for NVMe/RDMA.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn open_rdma(
        self,
        at: ListenAt,
        alone: bool,
        configured: bool,
    ) -> Result<(), String> {
        let address = at.address;
        let rdma = self.node.rdma.as_ref().map_err(|why| format!("RDMA is off: {why}"))?;
        if address.port() == 0 {
            return Err("A listener for RDMA needs a port: choose one, such as 4420.".into());
        }
        addresses::check_listened(address.ip())?;
        let serves = behind(alone);
        let (inboxes, admit) = (rdma.inboxes.clone(), self.node.rdma_admission(serves));
        let only_ipv6 = self.leaves_ipv4(at);
        let (on, queues) = (Listened { at: address, only_ipv6 }, nvmf_rdma::QUEUES);
        let started = verbs::Acceptor::start(&rdma.hardware, on, inboxes, admit, queues);
        let acceptor = started.map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("{address} is in use by another program over RDMA: choose another port.")
            }
            _ => format!(
                "{address} cannot be listened on over RDMA: {error}. The address has to be that of \
                 a network interface with RDMA ({}), or 0.0.0.0.",
                self.node.rdma_in_words()
            ),
        })?;
        let acceptor = AnyAcceptor::Rdma { _acceptor: acceptor };
        let listener = self.list(Fabric::Rdma, address, only_ipv6, serves);
        self.add(OpenListener { listener, configured, _acceptor: acceptor });
        Ok(())
    }

    /// Listens on an address no more. Connections that are open stay.
    pub(crate) fn close(self, at: ListenAt) {
        let closed = self.node.listeners.change(|all| {
            let place = all.iter().position(|listener| listener.at() == at)?;
            Some(all.remove(place))
        });
        if let Some(closed) = closed {
            self.node.registry.remove_listener(&closed.listener);
        }
    }

    /// Whether something listens there.
    pub(super) fn is_open(self, at: ListenAt) -> bool {
        self.node.listeners.get().iter().any(|listener| listener.at() == at)
    }
}

/// What is behind a listener.
fn behind(discovery_only: bool) -> Serves {
    if discovery_only { Serves::Discovery } else { Serves::Everything }
}

/// Opens a socket. One on `[::]` takes IPv4, too, unless it is to be for IPv6 alone, because
/// another has the port for IPv4.
fn bind(address: SocketAddr, only_ipv6: bool) -> Result<TcpListener, NotBound> {
    let refused = |why| NotBound { is_absent: false, why };
    addresses::check_listened(address.ip()).map_err(refused)?;
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(only_ipv6)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    open().map_err(|error: std::io::Error| {
        let is_absent = error.kind() == std::io::ErrorKind::AddrNotAvailable;
        let why = match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!("{address} is in use by another program: stop it, or choose another port.")
            }
            std::io::ErrorKind::PermissionDenied => {
                format!("{address} may not be listened on by this user: choose a port from 1024.")
            }
            _ if is_absent => format!("{} is no address of this machine.", address.ip()),
            _ => format!("{address} cannot be listened on: {error}."),
        };
        NotBound { is_absent, why }
    })
}

/// Why an address cannot be listened on.
struct NotBound {
    /// The machine does not have it, and may get it.
    is_absent: bool,
    why: String,
}

/// Listeners of the configuration, with their sockets.
pub(super) type Bound = Vec<(ListenerConfig, TcpListener)>;

/// Opens the sockets of the listeners for TCP that the configuration declares, but those on addresses
/// that the machine does not have yet.
///
/// # Errors
/// A sentence.
pub(super) fn bind_all(config: &Config, wanted: &Wanted) -> Result<Bound, String> {
    let all = config.listeners.iter().map(ListenerConfig::at);
    let all = all.chain(wanted.listeners().map(|listener| listener.at()));
    let over_tcp = all.filter(|at| at.transport.is_tcp());
    let all: Vec<SocketAddr> = over_tcp.map(|at| at.address).collect();
    let mut bound = Vec::new();
    for listener in config.listeners.iter().filter(|listener| listener.transport.is_tcp()) {
        let address = listener.address;
        match bind(address, leaves_ipv4(address, all.iter().copied())) {
            Ok(socket) => bound.push((listener.clone(), socket)),
            Err(NotBound { is_absent: true, why }) => tracing::warn!("{why} It is tried again."),
            Err(NotBound { why, .. }) => return Err(why),
        }
    }
    Ok(bound)
}
