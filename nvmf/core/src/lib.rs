//! NVMe over Fabrics target: subsystem, controller, namespace, queue pair, request, discovery.
//!
//! Sans-I/O: a [`transport::Transport`] brings commands and carries answers, a stack of channels
//! executes them, and time comes in as an argument.

pub mod admin;
pub mod controller;
pub mod counters;
pub mod discovery;
pub mod limits;
pub mod namespace;
pub mod registry;
pub mod subsystem;
pub mod transport;
