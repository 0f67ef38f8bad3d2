//! The unsafe floor of the NVMe driver: PCI functions, registers, the IOMMU, interrupts; and which
//! drives there are, what is on them, and which of the kernel's drivers has them.
//!
//! A drive is taken in two steps. [`Host::bind`] gives it to the kernel's driver `vfio-pci`, unless
//! somebody's data is on it; [`VfioFunction::open`] maps its registers, gives it an address space of
//! its own behind the IOMMU and is what the driver calls [`bdev_nvme::Hardware`]. Where the kernel
//! has iommufd and a device file for the function, that way is used, else groups and a container.
#![deny(unsafe_code)]

mod address;
mod bind;
mod config;
mod contents;
mod function;
mod health;
mod host;
#[allow(unsafe_code)]
mod ioctl;
mod iommu;
mod signature;
mod uio;
#[allow(unsafe_code)]
mod window;

pub use address::PciAddress;
pub use bind::{Access, BindError, Consent};
pub use contents::Finding;
pub use function::VfioFunction;
pub use host::{Drive, Host};
pub use uio::UioFunction;
