//! A function without an IOMMU, for labs: uio, and physical addresses from the page map.
//!
//! The drive can read and write any memory of the machine, and nothing stops a mistake.

use crate::config::Config;
use crate::window::Window;
use crate::{Access, PciAddress, Sysfs};
use bdev::dma::{Backing, Region};
use bdev_nvme::{BUS_PAGE_BYTES, Hardware};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// A page as the page map counts, in bytes.
const PAGE_BYTES: u64 = 4096;

/// An NVMe controller that uio gave us. It is polled: uio has no vectors.
pub struct UioFunction {
    registers: Window,
    config: Config,
    page_map: File,
    reset: PathBuf,
}

impl UioFunction {
    /// Opens the function at `address`, which uio has.
    ///
    /// # Errors
    /// A sentence.
    pub fn open(sysfs: &Sysfs, address: PciAddress) -> Result<UioFunction, String> {
        let driver = Access::UnsafeNoIommu.driver();
        if sysfs.driver(address).as_deref() != Some(driver) {
            return Err(format!("{address} is not with {driver}: give it to it first"));
        }
        let folder = sysfs.function(address);
        let open = |path: PathBuf, write: bool| {
            let file = OpenOptions::new().read(true).write(write).open(&path);
            file.map_err(|error| format!("{}: {error}", path.display()))
        };
        let config = Config::new(open(folder.join("config"), true)?, 0);
        let failed = |error: io::Error| format!("{address}: {error}");
        config.admit().map_err(failed)?;
        let bar = open(folder.join("resource0"), true)?;
        let bytes = bar.metadata().map_err(failed)?.len() as usize;
        let registers = Window::map(&bar, 0, bytes).map_err(failed)?;
        let page_map = open(sysfs.path("proc/self/pagemap"), false)?;
        Ok(UioFunction { registers, config, page_map, reset: folder.join("reset") })
    }
}

/// The physical address of the page whose entry in the page map is `entry`.
fn physical(entry: u64) -> io::Result<u64> {
    let (is_present, frame) = (entry >> 63 != 0, entry & ((1 << 55) - 1));
    match (is_present, frame) {
        (false, _) => Err(io::Error::other("the page is not in memory")),
        (true, 0) => Err(io::Error::other("the kernel hides physical addresses: run as root")),
        (true, frame) => Ok(frame * PAGE_BYTES),
    }
}

impl Hardware for UioFunction {
    fn read32(&self, offset: usize) -> u32 {
        self.registers.read32(offset)
    }

    fn read64(&self, offset: usize) -> u64 {
        self.registers.read64(offset)
    }

    fn write32(&self, offset: usize, value: u32) {
        self.registers.write32(offset, value);
    }

    fn write64(&self, offset: usize, value: u64) {
        self.registers.write64(offset, value);
    }

    fn register_bytes(&self) -> usize {
        self.registers.bytes()
    }

    fn map(&self, region: &Region) -> io::Result<Vec<u64>> {
        if region.backing() != Backing::Huge2M {
            return Err(io::Error::other(
                "without an IOMMU only hugepages stay where they are: reserve some (vm.nr_hugepages)",
            ));
        }
        let addresses = (0..region.len()).step_by(BUS_PAGE_BYTES).map(|offset| {
            let address = region.as_ptr() as u64 + offset as u64;
            let mut entry = [0; 8];
            self.page_map.read_exact_at(&mut entry, address / PAGE_BYTES * 8)?;
            physical(u64::from_ne_bytes(entry))
        });
        addresses.collect()
    }

    fn unmap(&self, _pages: &[u64], _bytes: usize) {}

    fn vectors(&self) -> u16 {
        0
    }

    fn arm(&self, _vector: u16) -> Option<RawFd> {
        None
    }

    fn disarm(&self, _vector: u16) {}

    fn admit(&self) -> io::Result<()> {
        self.config.admit()
    }

    fn isolate(&self) -> bool {
        if !self.config.stop() {
            return false;
        }
        // Not every function can be reset so; without mastering it reaches nothing either way.
        let _ = std::fs::write(&self.reset, "1");
        self.config.stop()
    }
}

impl Drop for UioFunction {
    fn drop(&mut self) {
        self.config.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::physical;

    #[test]
    fn entries_of_the_page_map() {
        assert_eq!(physical(1 << 63 | 0x1234).unwrap(), 0x123_4000);
        assert_eq!(physical(1 << 63 | 1 << 55 | 5).unwrap(), 0x5000);
        assert!(physical(0x1234).is_err() && physical(1 << 63).is_err());
    }
}
