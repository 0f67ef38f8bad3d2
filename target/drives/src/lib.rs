//! The NVMe drives of a machine: which there are and what is on them ([`Host`]), and which of the
//! kernel's drivers has them; and those that are driven here ([`Drives`]): taken, looked after, taken
//! again when they come back, formatted or sanitized, and given back.
//!
//! A drive is taken in two steps. [`Host::bind`] gives it to the kernel's driver for `vfio`, unless
//! somebody's data is on it; then it is opened, and the driver brings it up.

#![forbid(unsafe_code)]

mod bind;
mod contents;
mod drive;
mod erase;
mod erasure;
mod health;
mod host;
mod list;
mod place;
mod signature;
mod smart;
mod take;

pub use bind::{BindError, Consent};
pub use contents::Finding;
pub use drive::{Drive, DriveBdev, Wanted};
pub use erasure::{Erase, Progress};
pub use host::{Host, PciDrive};
pub use list::drives_of;
pub use place::DrivePlace;
pub use take::Drives;
pub use vfio::{Access, PciAddress};
