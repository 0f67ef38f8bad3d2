//! What one process exports, shared by all reactors: subsystems, namespaces, the controllers of
//! hosts, and the answers to their admin commands.

pub mod admin;
pub mod controller;
pub mod counters;
mod directory;
mod discovery;
pub(crate) mod gate;
pub(crate) mod listener;
pub mod namespace;
pub mod places;
pub mod refused;
pub mod registry;
pub mod stats;
pub mod subsystem;
