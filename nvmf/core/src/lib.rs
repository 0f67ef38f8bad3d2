//! NVMe over Fabrics target: subsystem, controller, namespace, queue pair, request, discovery.
//!
//! Sans-I/O: a [`transport::Transport`] brings commands and carries answers, a stack of channels
//! executes them, and time comes in as an argument.
#![forbid(unsafe_code)]

mod abort;
pub mod admin;
mod admin_queue;
mod cid;
mod connect;
pub mod controller;
pub mod counters;
pub mod discovery;
mod io;
pub mod limits;
pub mod namespace;
mod qpair;
pub mod registry;
mod request;
mod space;
pub mod stats;
pub mod subsystem;
mod target;
mod teardown;
mod timer;
pub mod transport;
mod wait;

pub use target::Target;
