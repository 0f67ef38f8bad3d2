//! Deterministic simulation of one node.
//!
//! Real: the reactor's turn, the bdev stack, the request machine, the NVMe/TCP transport, and the
//! host's queue pair. Simulated: the clock, the [`disk`], the [`network`], and who runs when. One
//! seed gives one run, to the bit.
//!
//! ```text
//!  host (nvmf-host queue pairs)  <-- network: delay, cuts, resets -->  node (reactors, target)
//!        |                                                               |
//!     history: what each block may hold                             disk: latency, volatile
//!     ledger: one end for each command                              cache, torn writes, errors
//! ```
//!
//! [`run`] executes a [`Plan`]; what is wrong comes back as a [`Failure`]. A [`Planted`] bug makes
//! something lie, to show that the checkers see it.
#![forbid(unsafe_code)]

pub mod block;
pub mod disk;
pub mod elsewhere;
mod failure;
pub mod history;
pub mod host;
pub mod ledger;
pub mod media;
pub mod network;
pub mod node;
pub mod plan;
mod rng;
pub mod seeds;
pub mod world;

pub use failure::{Failure, Kind};
pub use plan::{Plan, Planted};
pub use rng::Rng;
pub use world::{Report, run};
