//! Configuration, life cycle of bdevs, subsystems and listeners; messages to reactors.
#![forbid(unsafe_code)]

mod bdevs;
mod channels;
pub mod config;
mod descriptors;
mod drain;
mod executor;
mod lock;
mod node;
mod plane;
mod pool;
mod published;
pub mod unit;

pub use node::Node;
pub use plane::ControlPlane;
