//! The hardware itself, by the verbs and connection manager libraries. All unsafe code is below
//! here; what it points to lives as long as [`Hardware`], which everything holds.

mod accept;
mod cm;
mod completions;
mod dial;
mod hardware;
mod link;
mod nic;
mod port;
mod sys;

pub use accept::{Acceptor, Admit, Inbox};
pub use dial::Initiator;
pub use hardware::Hardware;
pub use nic::VerbsNic;
