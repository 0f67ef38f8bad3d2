//! The target on one reactor: its queue pairs, its commands and their steps through the stack.

mod abort;
mod admin_queue;
mod cid;
mod connect;
mod io;
mod place;
mod qpair;
mod request;
mod space;
mod target;
mod teardown;
mod timer;
pub mod transport;
mod wait;

pub use target::Target;
