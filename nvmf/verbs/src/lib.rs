//! RDMA hardware, for NVMe/RDMA on either side: the narrow traits by which the target
//! ([`Nic`]) and the initiator ([`initiator::Link`]) reach it, and their real forms.
//!
//! The real forms stand on the verbs and connection manager libraries, which are loaded while the
//! program runs: [`Hardware::open`] says in a sentence why there is no RDMA where there is none.
//! Nothing here knows a target or an initiator.

#![deny(missing_docs, unsafe_code)]

#[allow(unsafe_code)]
mod hardware;
pub mod initiator;
pub mod limits;
mod nic;
mod private_data;

pub use hardware::{Acceptor, Admit, Hardware, Inbox, Initiator, Listened, VerbsNic};
pub use nic::{
    Accepted, Capacity, Completion, ConnectionEvent, Gone, Nic, NicError, Outcome, PortId, Receive,
    Remote, Sizes, What, Work, meaning,
};
pub use private_data::{Ask, Queues, accept_data};
