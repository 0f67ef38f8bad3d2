//! Where hosts connect: listeners, added and removed while the appliance runs.

use super::{Node, addresses};
use crate::config::{ApiAddress, Config, ListenerConfig, canonical};
use crate::state::{KnownListener, State};
use crate::unit::schedule::{Claim, Key};
use nvme_spec::Fabric;
use nvmf::registry::{Listener, Serves};
use nvmf_tcp::{Acceptor, SocketOptions};
use socket2::{Domain, SockRef, Socket, Type};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use verbs::Listened;

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

/// Where a listener is: a fabric and an address there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListenAt {
    /// The fabric.
    pub transport: Fabric,
    /// The address.
    pub address: SocketAddr,
}

impl std::fmt::Display for ListenAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.transport {
            Fabric::Tcp => write!(f, "{}", self.address),
            Fabric::Rdma => write!(f, "rdma {}", self.address),
        }
    }
}

impl ListenerConfig {
    /// Where it is.
    pub(crate) fn place(&self) -> ListenAt {
        ListenAt { transport: self.transport, address: self.address }
    }
}

impl KnownListener {
    /// Where it is.
    pub(crate) fn place(&self) -> ListenAt {
        ListenAt { transport: self.transport, address: canonical(self.address) }
    }
}

impl ListenAt {
    /// What opening or closing it needs.
    pub(crate) fn claim(self) -> Claim {
        Claim::sole(Key::Listener(self.to_string()))
    }
}

impl OpenListener {
    /// The addresses by which hosts reach it.
    pub(crate) fn reachable(&self) -> Vec<SocketAddr> {
        addresses::reachable(self.listener.addr, self.listener.only_ipv6)
    }

    /// Where it is.
    pub(crate) fn place(&self) -> ListenAt {
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
        place: ListenAt,
        alone: bool,
        configured: bool,
    ) -> Result<(), String> {
        match place.transport {
            Fabric::Tcp => {
                self.check_beside(place)?;
                let only_ipv6 =
                    leaves_ipv4(place.address, self.addresses_over(Fabric::Tcp).into_iter());
                let socket = bind(place.address, only_ipv6).map_err(|not| not.why)?;
                self.open_tcp(socket, alone, configured)
            }
            Fabric::Rdma => self.open_rdma(place.address, alone, configured),
        }
    }

    fn add(self, listener: OpenListener) {
        self.node.listeners.change(|all| all.push(Arc::new(listener)));
    }

    /// The addresses that are listened on over a fabric, or are to be.
    fn addresses_over(self, fabric: Fabric) -> Vec<SocketAddr> {
        let (open, state, config) =
            (self.node.listeners.get(), self.node.state(), self.node.config());
        let open = open.iter().map(|listener| listener.place());
        let known = state.listeners.iter().map(KnownListener::place);
        let declared = config.listeners.iter().map(ListenerConfig::place);
        let places = open.chain(known).chain(declared);
        places.filter(|place| place.transport == fabric).map(|place| place.address).collect()
    }

    /// Refuses a place that one of our own stands in the way of.
    fn check_beside(self, place: ListenAt) -> Result<(), String> {
        let ListenAt { address, transport } = place;
        let leaves = leaves_ipv4(address, self.addresses_over(transport).into_iter());
        let open = self.node.listeners.get();
        for open in open.iter().filter(|open| open.place().transport == transport) {
            let ours = open.listener.addr;
            if addresses::takes_in(ours, open.listener.only_ipv6, address) {
                return Err(format!(
                    "{ours}, where this appliance listens already, takes in what comes to \
                     {address}: there is nothing to add. For a listener of its own choose another \
                     port."
                ));
            }
            if addresses::takes_in(address, leaves, ours) {
                return Err(format!(
                    "This appliance listens on {ours} already, which is one of the addresses of \
                     {address}: delete that listener first, or choose another port."
                ));
            }
        }
        match self.node.config().api.address {
            ApiAddress::At(api)
                if transport.is_tcp()
                    && (api == address
                        || addresses::takes_in(api, false, address)
                        || addresses::takes_in(address, leaves, api)) =>
            {
                Err(format!("{api} is where the API of this appliance is: choose another port."))
            }
            _ => Ok(()),
        }
    }

    /// Listens for NVMe/RDMA.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn open_rdma(
        self,
        address: SocketAddr,
        alone: bool,
        configured: bool,
    ) -> Result<(), String> {
        let rdma = self.node.rdma.as_ref().map_err(|why| format!("RDMA is off: {why}"))?;
        if address.port() == 0 {
            return Err("A listener for RDMA needs a port: choose one, such as 4420.".into());
        }
        addresses::check_listened(address.ip())?;
        self.check_beside(ListenAt { transport: Fabric::Rdma, address })?;
        let serves = behind(alone);
        let (inboxes, admit) = (rdma.inboxes.clone(), self.node.rdma_admission(serves));
        let only_ipv6 = leaves_ipv4(address, self.addresses_over(Fabric::Rdma).into_iter());
        let (at, queues) = (Listened { at: address, only_ipv6 }, nvmf_rdma::QUEUES);
        let started = verbs::Acceptor::start(&rdma.hardware, at, inboxes, admit, queues);
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
    pub(crate) fn close(self, place: ListenAt) {
        let closed = self.node.listeners.change(|all| {
            let at = all.iter().position(|listener| listener.place() == place)?;
            Some(all.remove(at))
        });
        if let Some(closed) = closed {
            self.node.registry.remove_listener(&closed.listener);
        }
    }

    /// Whether something listens there.
    pub(super) fn is_open(self, place: ListenAt) -> bool {
        self.node.listeners.get().iter().any(|listener| listener.place() == place)
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
pub(super) fn bind_all(config: &Config, state: &State) -> Result<Bound, String> {
    let known = state.listeners.iter().map(KnownListener::place);
    let all = config.listeners.iter().map(ListenerConfig::place).chain(known);
    let over_tcp = all.filter(|place| place.transport.is_tcp());
    let all: Vec<SocketAddr> = over_tcp.map(|place| place.address).collect();
    let mut bound = Vec::new();
    for listener in config.listeners.iter().filter(|listener| listener.transport.is_tcp()) {
        let address = listener.place().address;
        match bind(address, leaves_ipv4(address, all.iter().copied())) {
            Ok(socket) => bound.push((listener.clone(), socket)),
            Err(NotBound { is_absent: true, why }) => tracing::warn!("{why} It is tried again."),
            Err(NotBound { why, .. }) => return Err(why),
        }
    }
    Ok(bound)
}

/// Whether a listener on `address` leaves IPv4 to one of `others`, by their addresses.
pub(super) fn leaves_ipv4(
    address: SocketAddr,
    mut others: impl Iterator<Item = SocketAddr>,
) -> bool {
    let beside = |other: SocketAddr| other.is_ipv4() && other.port() == address.port();
    address.is_ipv6() && others.any(beside)
}
