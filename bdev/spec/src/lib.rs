//! NVMe structures: commands, completions, status, identify data, log pages, features.
//!
//! Layouts follow the NVM Express Base Specification, revision 2.0, and the NVM Command Set
//! Specification, revision 1.0. Shared by the driver, the target and the initiator.
#![no_std]
#![forbid(unsafe_code)]

mod layout;

pub mod aen;
pub mod copy;
pub mod cqe;
pub mod dsm;
mod fabric;
pub mod feature;
pub mod identify;
pub mod log;
pub mod maintenance;
pub mod opcode;
pub mod property;
pub mod queue;
mod shown;
pub mod sqe;
pub mod status;

pub use cqe::Cqe;
pub use fabric::{Fabric, NoFabric};
pub use shown::Shown;
pub use sqe::{Fuse, Psdt, Sgl, SglKind, Sqe};
pub use status::Status;
