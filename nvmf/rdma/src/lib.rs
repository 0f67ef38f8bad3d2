//! NVMe/RDMA (NVMe/RDMA Transport Specification): the transport of the target.
//!
//! [`RdmaTransport`] is the state machine of connections and commands on one reactor. It reaches
//! hardware through the narrow trait [`verbs::Nic`].
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

#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod capsule;
mod conn;
mod limits;
mod receives;
mod request;
mod stats;
mod transport;

pub use limits::{CAPACITY, IN_CAPSULE_BYTES, QUEUES, RECEIVES};
pub use stats::Stats;
pub use transport::{Config, RdmaTransport};
