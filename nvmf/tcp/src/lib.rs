//! The NVMe/TCP target transport (NVM Express TCP Transport Specification, revision 1.0).
//!
//! ```text
//! acceptor thread --> Inbox --> TcpTransport (one a reactor) --> Event
//!                                 | Poller: epoll, or the simulator's
//!                                 | Conn: PDUs out of a Socket, and into it
//!                                 | receive buffers (shared), commands, what is to be sent
//! ```
//!
//! One receive a turn takes what is there, one send a turn all answers. In-capsule data stays
//! where it was received, the data of an R2T goes straight to where it belongs, and the data of a
//! read is sent from where it lies.
#![deny(unsafe_code)]

mod accept;
mod arena;
mod config;
mod conn;
mod inbox;
pub mod limits;
mod load;
mod poller;
mod request;
mod socket;
mod stats;
mod sys;
mod transport;

pub use accept::Acceptor;
pub use config::Config;
pub use inbox::Inbox;
pub use poller::{EpollPoller, Interest, Poller, Ready};
pub use socket::{Arrival, Moved, Socket, SocketOptions, TcpSocket, congestion};
pub use stats::{Counters, Stats};
pub use transport::TcpTransport;
