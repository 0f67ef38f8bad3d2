//! Mapped regions.
#![allow(unsafe_code)]

use super::DmaSlice;
use std::io;
use std::ptr::NonNull;

/// What a region is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Pages of 2 MiB reserved by the kernel (`vm.nr_hugepages`).
    Huge2M,
    /// Pages of 4 KiB, merged by the kernel where it can.
    Normal,
}

impl std::fmt::Display for Backing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Backing::Huge2M => "2 MiB hugepages",
            Backing::Normal => "normal pages (no free hugepages; see vm.nr_hugepages)",
        })
    }
}

const HUGE_BYTES: usize = 2 << 20;

/// One mapping, populated when it is made, given back when it is dropped.
#[derive(Debug)]
pub struct Region {
    ptr: NonNull<u8>,
    bytes: usize,
    backing: Backing,
}

// SAFETY: a region owns its mapping; all access goes through DmaSlice, which says how.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Maps at least `bytes` bytes, from hugepages if enough are free, else from normal pages
    /// aligned to 2 MiB.
    ///
    /// # Errors
    /// The kernel's, when there is no memory.
    pub fn map(bytes: usize) -> io::Result<Region> {
        let too_large = || io::Error::new(io::ErrorKind::OutOfMemory, "no machine has so much");
        let bytes = bytes.max(1).checked_next_multiple_of(HUGE_BYTES).ok_or_else(too_large)?;
        let huge = libc::MAP_HUGETLB | libc::MAP_HUGE_2MB | libc::MAP_POPULATE;
        if let Ok(ptr) = map_anonymous(bytes, huge) {
            return Ok(Region { ptr, bytes, backing: Backing::Huge2M });
        }
        let mapped = bytes.checked_add(HUGE_BYTES).ok_or_else(too_large)?;
        let whole = map_anonymous(mapped, libc::MAP_NORESERVE)?;
        let ptr = trim(whole, bytes);
        // SAFETY: the range is our own mapping; advice and touching change no contents.
        unsafe {
            libc::madvise(ptr.as_ptr().cast(), bytes, libc::MADV_HUGEPAGE);
            libc::madvise(ptr.as_ptr().cast(), bytes, libc::MADV_POPULATE_WRITE);
        }
        Ok(Region { ptr, bytes, backing: Backing::Normal })
    }

    /// Length in bytes, a multiple of 2 MiB.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// A region is never empty.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Its first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// What it is made of.
    pub fn backing(&self) -> Backing {
        self.backing
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever holds slices of it holds the Memory too.
        unsafe { libc::munmap(self.ptr.as_ptr().cast(), self.bytes) };
    }
}

fn map_anonymous(bytes: usize, flags: libc::c_int) -> io::Result<NonNull<u8>> {
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice.
    let ptr = unsafe {
        libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
    };
    if ptr == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(NonNull::new(ptr.cast()).expect("the kernel maps nothing at 0"))
}

/// Cuts a mapping of `bytes` + 2 MiB down to `bytes` bytes that start at a multiple of 2 MiB.
fn trim(whole: NonNull<u8>, bytes: usize) -> NonNull<u8> {
    let start = whole.as_ptr() as usize;
    let head = start.next_multiple_of(HUGE_BYTES) - start;
    let tail = HUGE_BYTES - head;
    // SAFETY: head and tail lie inside the mapping just made, and nobody uses them.
    unsafe {
        if head > 0 {
            libc::munmap(whole.as_ptr().cast(), head);
        }
        if tail > 0 {
            libc::munmap(whole.as_ptr().add(head + bytes).cast(), tail);
        }
        whole.add(head)
    }
}

/// Every region of the process: made before the first I/O, so that each can be registered once.
#[derive(Debug)]
pub struct Memory {
    regions: Vec<Region>,
}

impl Memory {
    /// From regions; their places are their numbers.
    pub fn new(regions: Vec<Region>) -> Memory {
        assert!(regions.len() <= usize::from(u16::MAX), "regions are numbered with 16 bits");
        Memory { regions }
    }

    /// Maps one region of `bytes` for each of `count` users.
    ///
    /// # Errors
    /// The kernel's, when there is no memory.
    pub fn map(count: usize, bytes: usize) -> io::Result<Memory> {
        let regions: io::Result<Vec<Region>> = (0..count).map(|_| Region::map(bytes)).collect();
        Ok(Memory::new(regions?))
    }

    /// The regions, by number.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// A view of `bytes` bytes at `offset` of region `region`.
    ///
    /// # Panics
    /// If they do not lie inside it.
    pub fn slice(&self, region: u16, offset: usize, bytes: usize) -> DmaSlice {
        let from = &self.regions[usize::from(region)];
        assert!(offset <= from.bytes && bytes <= from.bytes - offset, "outside of the region");
        let bytes = u32::try_from(bytes).expect("a slice is shorter than 4 GiB");
        // SAFETY: inside the mapping, as just checked; slices live no longer than the Memory that
        // each holder of slices holds.
        unsafe { DmaSlice::from_raw(from.ptr.add(offset), bytes, region) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_machine_has_is_refused() {
        for bytes in [usize::MAX, usize::MAX - HUGE_BYTES] {
            let error = Region::map(bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory, "{error}");
        }
        assert_eq!(Region::map(1).unwrap().len(), HUGE_BYTES);
    }
}
