//! The hardware of the NVMe driver: PCI functions, registers, the IOMMU, interrupts.
//!
//! [`VfioFunction::open`] takes a function that the kernel's driver `vfio-pci` has: it maps its
//! registers, gives it an address space of its own behind the IOMMU, and is what the driver calls
//! [`bdev_nvme::Hardware`]. Where the kernel has iommufd and a device file for the function, that
//! way is used, else groups and a container. [`UioFunction`] is the same without an IOMMU.
#![deny(unsafe_code)]

mod access;
mod address;
mod config;
mod function;
#[allow(unsafe_code)]
mod ioctl;
mod iommu;
pub mod sysfs;
mod uio;
#[allow(unsafe_code)]
mod window;

pub use access::Access;
pub use address::PciAddress;
pub use function::VfioFunction;
pub use ioctl::get_log;
pub use sysfs::Sysfs;
pub use uio::UioFunction;
