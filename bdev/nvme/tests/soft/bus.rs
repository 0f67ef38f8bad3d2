//! The bus: addresses that have nothing to do with the process's own.

use bdev_nvme::BUS_PAGE_BYTES;
use std::collections::BTreeMap;

/// What the controller can reach.
#[derive(Default)]
pub struct Bus {
    /// By bus address of each 2 MiB: where that is in the process.
    pages: BTreeMap<u64, usize>,
    next: u64,
}

impl Bus {
    /// Puts memory on the bus, no two of its pages next to each other.
    pub fn map(&mut self, start: usize, bytes: usize) -> Vec<u64> {
        let mut given = Vec::new();
        for piece in (0..bytes).step_by(BUS_PAGE_BYTES) {
            self.next += 3;
            let address = self.next * BUS_PAGE_BYTES as u64;
            self.pages.insert(address, start + piece);
            given.push(address);
        }
        given
    }

    /// Takes memory off the bus.
    pub fn unmap(&mut self, pages: &[u64]) {
        for page in pages {
            assert!(self.pages.remove(page).is_some(), "unmapped once, after it was mapped");
        }
    }

    /// Where `bytes` bytes at bus address `address` are in the process, if they are on the bus.
    pub fn find(&self, address: u64, bytes: usize) -> Option<usize> {
        let (base, start) = self.pages.range(..=address).next_back()?;
        let offset = usize::try_from(address - base).ok()?;
        (offset + bytes <= BUS_PAGE_BYTES).then_some(start + offset)
    }

    /// Reads from the bus.
    pub fn read(&self, address: u64, into: &mut [u8]) -> bool {
        let Some(at) = self.find(address, into.len()) else { return false };
        // SAFETY: the driver mapped a region of at least this length there and unmaps it before it
        // is given back; nothing else runs meanwhile.
        unsafe { std::ptr::copy_nonoverlapping(at as *const u8, into.as_mut_ptr(), into.len()) };
        true
    }

    /// Writes to the bus.
    pub fn write(&self, address: u64, from: &[u8]) -> bool {
        let Some(at) = self.find(address, from.len()) else { return false };
        // SAFETY: as in `read`.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), at as *mut u8, from.len()) };
        true
    }

    /// Pages on the bus.
    pub fn len(&self) -> usize {
        self.pages.len()
    }
}
