//! Fabrics, and the addresses that the target listens on.

use std::net::SocketAddr;

/// A kind of fabric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fabric {
    /// NVMe/RDMA.
    Rdma,
    /// NVMe/TCP.
    Tcp,
}

impl Fabric {
    /// TRTYPE of the discovery and error logs.
    pub const fn trtype(self) -> u8 {
        match self {
            Fabric::Rdma => 1,
            Fabric::Tcp => 3,
        }
    }
}

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
    /// Port identifier in the discovery log: another one for each listener.
    pub port_id: u16,
    /// What is behind it.
    pub serves: Serves,
}
