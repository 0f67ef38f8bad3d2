//! NVMe/RDMA (NVMe/RDMA Transport Specification): the transport of the target, and what an
//! initiator needs of the hardware ([`initiator`]).
//!
//! [`RdmaTransport`] is the state machine of connections and commands on one reactor. It reaches
//! hardware through the narrow trait [`Nic`], whose real form, [`VerbsNic`], stands on the verbs
//! and connection manager libraries, which are loaded while the program runs: [`Hardware::open`]
//! says in a sentence why there is no RDMA where there is none.
//!
//! ```text
//!  host                                      this side
//!  SEND capsule ------------> receive queue shared by all queue pairs of a port -> Event::Command
//!  <------------ RDMA READ    pull: straight into the DMA buffer                -> Event::Pulled
//!  <- RDMA WRITE + SEND (INV) respond: straight from the DMA buffer, one chain  -> Event::Sent
//! ```
//!
//! A queue pair that ends is destroyed first, so that no hardware touches memory any more; then its
//! commands end, and then `Closed` is said.

#![deny(missing_docs, unsafe_code)]

mod capsule;
mod conn;
pub mod initiator;
mod limits;
mod nic;
mod private_data;
mod receives;
mod request;
mod stats;
mod transport;
#[allow(unsafe_code)]
mod verbs;

pub use limits::{IN_CAPSULE_BYTES, RECEIVES};
pub use nic::{
    Accepted, Completion, ConnectionEvent, Gone, Nic, NicError, Outcome, PortId, Receive, Remote,
    Sizes, What, Work,
};
pub use private_data::{Ask, accept_data};
pub use stats::Stats;
pub use transport::{Config, RdmaTransport};
pub use verbs::{Acceptor, Admit, Hardware, Inbox, Initiator, VerbsNic};
