//! NVMe structures: commands, completions, status, identify data, log pages, features.
//!
//! Layouts follow the NVM Express Base Specification, revision 2.0, and the NVM Command Set
//! Specification, revision 1.0. Shared by the driver, the target and the initiator.
#![no_std]
#![forbid(unsafe_code)]

pub mod cqe;
pub mod sqe;
pub mod status;

pub use cqe::Cqe;
pub use sqe::{Sgl, Sqe};
pub use status::Status;
