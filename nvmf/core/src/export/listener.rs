//! The addresses that the target listens on.

use nvme_spec::Fabric;
use std::net::SocketAddr;

/// What is behind a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Serves {
    /// The discovery subsystem only.
    Discovery,
    /// Every subsystem.
    Everything,
}

/// An address that the target listens on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Listener {
    /// The fabric.
    pub fabric: Fabric,
    /// The address; an unspecified one (0.0.0.0 or ::) is reported as the address that the host
    /// reached us by.
    pub addr: SocketAddr,
    /// It is on `::`, and leaves IPv4 to another.
    pub only_ipv6: bool,
    /// Port identifier in the discovery log: another one for each listener.
    pub port_id: u16,
    /// What is behind it.
    pub serves: Serves,
}
