//! The NVMe over Fabrics initiator, over TCP and RDMA: a remote namespace is just another bdev.
//!
//! - [`RemoteBdev`] connects to a namespace and keeps connected; its channels do the I/O.
//! - [`discover`] asks a discovery controller; [`Session`] is an admin queue for everything else.
//! - [`qpair`] is the protocol of one queue, without clock or thread, over any [`Socket`] or any
//!   [`verbs::initiator::Link`]; all that is above it is the same for both.
#![deny(unsafe_code)]

pub mod channel;
mod connector;
pub mod discovery;
pub mod error;
#[cfg(test)]
mod fake;
pub mod options;
pub mod pattern;
pub mod plan;
pub mod qpair;
pub mod queue;
pub mod queue_pair;
mod remote;
pub mod session;
pub mod socket;

pub use connector::LinkState;
pub use discovery::{Discovered, Found, discover};
pub use error::Error;
pub use options::{Host, Options, Transport, resolve};
pub use pattern::Pattern;
pub use queue::{Data, Queue};
pub use queue_pair::{AnyQueuePair, QueuePair};
pub use remote::RemoteBdev;
pub use session::{ControllerInfo, NamespaceInfo, Session};
pub use socket::{Socket, TcpSocket};
