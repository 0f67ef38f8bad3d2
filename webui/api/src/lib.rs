//! The REST API of the appliance: what it speaks of ([`model`]), and what stands behind it
//! ([`Control`]). It knows no other crate of the project: whoever runs the appliance implements
//! [`Control`] over it.

#![forbid(unsafe_code)]

mod control;
mod events;
pub mod model;
mod refusal;

pub use control::{Control, Made};
pub use events::{EventLog, EventPage};
pub use refusal::{Refusal, RefusalKind};
