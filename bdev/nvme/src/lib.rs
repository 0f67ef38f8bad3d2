//! The user-space NVMe driver: registers, admin queue, queue pairs, PRPs, recovery.
//!
//! It drives a PCI function through the narrow [`Hardware`] trait, which `vfio` implements for real
//! drives and the tests for one made of software. No call waits and none reads a clock: the time
//! comes in. Each reactor has a queue pair of its own; the admin queue is behind a lock that
//! channels only try, a few times a second.
//!
//! What is promised:
//! - every operation ends: a command that takes too long is aborted, then the controller is reset;
//!   one that reports a fatal error is reset; one that hangs or is gone is cut off;
//! - an operation ends only when the controller can no longer touch its memory: it completed the
//!   command, or was seen disabled, or was isolated, or is gone;
//! - completions that name no command under way are counted and otherwise ignored.
#![deny(unsafe_code)]

mod admin;
mod channel;
mod command;
mod controller;
mod device;
mod hardware;
mod identity;
mod lifecycle;
pub mod limits;
#[allow(unsafe_code)]
mod memory;
mod namespace;
mod options;
mod places;
mod prp;
mod queues;
mod request;
mod ring;
mod shared;
mod survey;

pub use controller::{Controller, Health};
pub use device::NvmeBdev;
pub use hardware::{BUS_PAGE_BYTES, Hardware};
pub use identity::{Format, Identity, NamespaceIdentity};
pub use options::Options;
pub use request::{Answer, Request, RequestError, Ticket};
pub use shared::{Counts, Failure};
