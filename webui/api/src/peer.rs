//! Where a request comes from.

use std::fmt;
use std::net::IpAddr;

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// This address, over TCP.
    Address(IpAddr),
    /// The socket of the data directory: root, or the user that the appliance runs as.
    Socket {
        /// The number of the user.
        user: u32,
        /// The number of the process, where the kernel tells it.
        process: Option<i32>,
    },
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Socket { user, process: Some(process) } => {
                write!(f, "socket, user {user}, process {process}")
            }
            Self::Socket { user, process: None } => write!(f, "socket, user {user}"),
        }
    }
}
