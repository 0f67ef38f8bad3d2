//! How a program reaches a drive without the kernel's driver of drives.

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// VFIO: the drive reaches the memory that it was given, and no other.
    Vfio,
    /// uio and physical addresses: a drive or a bug can overwrite any memory. For labs.
    UnsafeNoIommu,
}

impl Access {
    /// The kernel's driver for it.
    pub fn driver(self) -> &'static str {
        match self {
            Access::Vfio => "vfio-pci",
            Access::UnsafeNoIommu => "uio_pci_generic",
        }
    }
}
