//! What the kernel says of the machine's drives, in sysfs and proc.

use nvme_spec::Shown;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use vfio::sysfs::names;
use vfio::{PciAddress, Sysfs};

/// Class code of NVM Express controllers: mass storage, non-volatile memory, NVMe.
const NVME_CLASS: u32 = 0x01_08_02;

/// Log page of health, and its length in bytes.
const SMART: (u8, usize) = (0x02, 512);

type Write = Box<dyn Fn(&Path, &str) -> io::Result<()> + Send + Sync>;

/// The machine: its `/sys`, `/proc` and `/dev`, and what the kernel does when they are written.
pub struct Host {
    sysfs: Sysfs,
    write: Write,
}

/// A drive as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciDrive {
    /// Where it is.
    pub address: PciAddress,
    /// PCI vendor identifier.
    pub vendor: u16,
    /// PCI device identifier.
    pub device: u16,
    /// NUMA node, where the machine has several.
    pub numa_node: Option<u32>,
    /// The driver that has it.
    pub driver: Option<String>,
    /// Its IOMMU group; `None` without an IOMMU.
    pub iommu_group: Option<u32>,
    /// The kernel's controller, while its own driver has it: `nvme0`.
    pub controller: Option<String>,
    /// Model number, while the kernel's driver has it.
    pub model: Option<String>,
    /// Serial number, likewise.
    pub serial: Option<String>,
    /// Firmware revision, likewise.
    pub firmware: Option<String>,
}

impl Default for Host {
    fn default() -> Host {
        Host::new()
    }
}

impl Host {
    /// This machine.
    pub fn new() -> Host {
        Host::fake(PathBuf::from("/"), Box::new(|path, text| fs::write(path, text)))
    }

    /// A machine made of files below `root`, in which `write` does what the kernel does when
    /// somebody writes to a file of sysfs.
    pub fn fake(root: PathBuf, write: Write) -> Host {
        Host { sysfs: Sysfs::below(root), write }
    }

    /// Where the files are.
    pub fn sysfs(&self) -> &Sysfs {
        &self.sysfs
    }

    pub(crate) fn write(&self, path: &Path, text: &str) -> Result<(), String> {
        (self.write)(path, text).map_err(|error| format!("writing to {}: {error}", path.display()))
    }

    /// Every NVMe controller, by address.
    ///
    /// # Errors
    /// There is no PCI bus.
    pub fn drives(&self) -> Result<Vec<PciDrive>, String> {
        let folder = self.sysfs.path("sys/bus/pci/devices");
        let names = names(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let addresses = names.iter().filter_map(|name| name.parse().ok());
        let mut drives: Vec<PciDrive> = addresses.filter_map(|a| self.drive(a).ok()).collect();
        drives.sort_by_key(|drive| drive.address);
        Ok(drives)
    }

    /// The NVMe controller at `address`.
    ///
    /// # Errors
    /// There is nothing, or something else.
    pub fn drive(&self, address: PciAddress) -> Result<PciDrive, String> {
        let folder = self.sysfs.function(address);
        let number = |name: &str| {
            let text = text(&folder.join(name))?;
            u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
        };
        let Some(class) = number("class") else {
            return Err(format!("there is no PCI function {address}"));
        };
        if class != NVME_CLASS {
            return Err(format!("{address} is no NVMe controller: its class is {class:06x}"));
        }
        let controller =
            names(&folder.join("nvme")).ok().and_then(|found| found.into_iter().next());
        let told = |name: &str| {
            let told = text(&folder.join("nvme").join(controller.as_ref()?).join(name))?;
            Some(Shown(&told).to_string())
        };
        Ok(PciDrive {
            address,
            vendor: number("vendor").unwrap_or(0) as u16,
            device: number("device").unwrap_or(0) as u16,
            numa_node: text(&folder.join("numa_node")).and_then(|node| node.parse().ok()),
            driver: self.sysfs.driver(address),
            iommu_group: self.sysfs.iommu_group(address),
            model: told("model"),
            serial: told("serial"),
            firmware: told("firmware_rev"),
            controller: controller.clone(),
        })
    }

    /// The block devices of the kernel's controller `nvme0`: of its own, and those that it shares
    /// with other controllers of its subsystem.
    pub(crate) fn blocks(&self, controller: &str) -> Vec<String> {
        let folder = self.sysfs.path("sys/block");
        // With several paths, those of the paths are hidden; nobody can open them.
        let is_hidden =
            |block: &String| text(&folder.join(block).join("hidden")).is_some_and(|h| h == "1");
        let owned = |block: &String| {
            let Ok(owner) = folder.join(block).join("device").canonicalize() else { return false };
            let is_own = owner.file_name().is_some_and(|name| name == controller);
            is_own || owner.join(controller).symlink_metadata().is_ok()
        };
        names(&folder)
            .unwrap_or_default()
            .into_iter()
            .filter(|b| owned(b) && !is_hidden(b))
            .collect()
    }

    /// The SMART / Health log of a drive, while the kernel's own driver has it: 512 bytes (Base
    /// Specification, "SMART / Health Information").
    ///
    /// # Errors
    /// A sentence: another driver has it, or the kernel refuses.
    pub fn smart_log(&self, drive: &PciDrive) -> Result<Vec<u8>, String> {
        let Some(controller) = &drive.controller else {
            return Err(format!("the kernel's driver does not have {}", drive.address));
        };
        let path = self.sysfs.path(&format!("dev/{controller}"));
        let say = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = File::open(&path).map_err(say)?;
        let mut data = vec![0; SMART.1];
        vfio::get_log(&file, SMART.0, &mut data).map_err(say)?;
        Ok(data)
    }
}

/// What a file of sysfs says.
pub(crate) fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}
