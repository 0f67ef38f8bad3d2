//! Reactors: one pinned thread per core, turn(), mailboxes between cores, idle policy.
//!
//! A [`Reactor`] is a pure step, [`Reactor::turn`], over a stack of channels and the edges above
//! it; [`thread`] gives it a core, a clock and a way to sleep, and the simulator gives it others.
//! Other threads reach a reactor through its [`Handle`]; other reactors reach a bdev that lives on
//! it through a [`hop`]. Who does I/O and is no host is a [`client`].
#![forbid(unsafe_code)]

pub mod client;
mod cores;
pub mod handle;
pub mod hop;
mod reactor;
mod stats;
pub mod thread;

pub use handle::{Handle, Task};
pub use reactor::Reactor;
pub use stats::{ReactorStats, StatsReading};
pub use thread::{Poll, spawn};
