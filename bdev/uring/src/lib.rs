//! Files and kernel block devices through io_uring.
//!
//! A [`UringBdev`] is one file or block device, open for this process alone. Each reactor opens a
//! channel with a ring of its own; operations gather during a turn and cross into the kernel once.
//!
//! What is promised:
//! - a completed write is in the device or the page cache; a Flush makes every write that
//!   completed before it durable, and a write with FUA is durable when it completes. The geometry
//!   therefore reports a volatile cache;
//! - deallocated blocks read as zeros, also where the file system cannot punch holes;
//! - no call of a channel waits for the device: what the kernel cannot do at once goes to its
//!   worker threads.
#![deny(unsafe_code)]

mod channel;
mod device;
mod discard;
mod errno;
mod identity;
mod options;
mod pending;
#[allow(unsafe_code)]
mod ring;
#[allow(unsafe_code)]
mod sys;

pub use device::{Fault, UringBdev};
pub use options::Options;
