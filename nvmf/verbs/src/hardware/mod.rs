//! The hardware itself, by the verbs and connection manager libraries. All unsafe code is below
//! here; what it points to lives as long as [`Hardware`], which everything holds.

mod accept;
mod cm;
mod completions;
mod devices;
mod dial;
mod port;
mod registered;
mod sys;
mod verbs_link;
mod verbs_nic;

pub use accept::{Acceptor, Admit, Inbox, Listened};
pub use devices::Hardware;
pub use dial::Initiator;
pub use verbs_nic::VerbsNic;
