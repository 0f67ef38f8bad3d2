//! Configuration, life cycle of bdevs, subsystems and listeners; messages to reactors.

mod bdevs;
pub mod config;
mod drain;
mod exports;
mod node;
mod report;
mod socket;

pub use node::Node;
pub use report::{Counts, Report};
pub use socket::{Answer, ControlSocket, Request, ask};
