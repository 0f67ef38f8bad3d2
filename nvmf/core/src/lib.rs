//! NVMe over Fabrics target: subsystem, controller, namespace, queue pair, request, discovery.
//!
//! Sans-I/O: a [`transport::Transport`] brings commands and carries answers, a stack of channels
//! executes them, and time comes in as an argument.
//!
//! Two rooms: `export` is what all reactors share, with locks; `machine` is what one reactor does
//! with it, without. The machine knows the export, the export knows no machine.
#![forbid(unsafe_code)]

mod export;
pub mod limits;
mod machine;

pub use export::{
    admin, controller, counters, namespace, places, refused, registry, stats, subsystem,
};
pub use machine::{Target, elsewhere, transport};
