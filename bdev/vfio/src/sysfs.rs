//! What the kernel says of PCI functions, in sysfs and proc.

use crate::PciAddress;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A machine's `/sys`, `/proc` and `/dev`, below a root.
#[derive(Clone, Debug)]
pub struct Sysfs {
    root: PathBuf,
}

impl Default for Sysfs {
    fn default() -> Sysfs {
        Sysfs::below(PathBuf::from("/"))
    }
}

impl Sysfs {
    /// Those of a machine whose files lie below `root`.
    pub fn below(root: PathBuf) -> Sysfs {
        Sysfs { root }
    }

    /// A path below the root.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The folder of a PCI function.
    pub fn function(&self, address: PciAddress) -> PathBuf {
        self.path(&format!("sys/bus/pci/devices/{address}"))
    }

    /// The driver that has a function.
    pub fn driver(&self, address: PciAddress) -> Option<String> {
        link_name(&self.function(address).join("driver"))
    }

    /// The IOMMU group of a function; `None` without an IOMMU.
    pub fn iommu_group(&self, address: PciAddress) -> Option<u32> {
        link_name(&self.function(address).join("iommu_group")).and_then(|name| name.parse().ok())
    }

    /// Other functions in the same IOMMU group, which VFIO takes together.
    pub(crate) fn neighbours(&self, group: u32, address: PciAddress) -> Vec<(PciAddress, String)> {
        let folder = self.path(&format!("sys/kernel/iommu_groups/{group}/devices"));
        let others = names(&folder).unwrap_or_default().into_iter().filter_map(|n| n.parse().ok());
        others
            .filter(|other| *other != address)
            .filter_map(|other| Some((other, self.driver(other)?)))
            .collect()
    }
}

/// The names in a folder, in order.
///
/// # Errors
/// The folder cannot be read.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?;
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn link_name(path: &Path) -> Option<String> {
    fs::read_link(path).ok()?.file_name()?.to_str().map(str::to_owned)
}
