//! The target on one reactor: its queue pairs, its commands and their steps through the stack.

mod admission;
mod answer;
mod cid;
mod connect;
pub mod elsewhere;
mod io;
mod job;
mod place;
mod qpair;
mod qpairs;
mod request;
mod share;
mod space;
mod target;
pub mod transport;
mod wait;

pub use target::Target;
