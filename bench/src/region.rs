//! Populated anonymous memory on huge pages where the machine has them.
#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;

use serde::{Deserialize, Serialize};

const HUGE_PAGE: usize = 2 << 20;

/// Which pages a region lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pages {
    /// Reserved 2 MiB pages (`MAP_HUGETLB`).
    Hugetlb,
    /// Ordinary mapping with `madvise(MADV_HUGEPAGE)`: the kernel gives 2 MiB pages where it can.
    Transparent,
}

/// A populated, zeroed, private mapping, returned to the kernel on drop.
pub struct Region {
    base: NonNull<u8>,
    len: usize,
    mapped: usize,
    origin: NonNull<u8>,
    pages: Pages,
}

impl Region {
    /// Maps and populates `len` bytes, 2 MiB aligned: reserved huge pages first, else transparent ones.
    ///
    /// # Errors
    /// Returns the kernel's error where neither mapping is possible.
    pub fn new(len: usize) -> io::Result<Self> {
        let rounded = len.next_multiple_of(HUGE_PAGE);
        let huge = libc::MAP_HUGETLB | libc::MAP_POPULATE;
        if let Ok(origin) = map(rounded, huge) {
            return Ok(Self { base: origin, len, mapped: rounded, origin, pages: Pages::Hugetlb });
        }
        let mapped = rounded + HUGE_PAGE;
        let origin = map(mapped, 0)?;
        let skip = origin.align_offset(HUGE_PAGE);
        // SAFETY: `skip` is below HUGE_PAGE, by which the mapping is longer than `rounded`.
        let base = unsafe { origin.add(skip) };
        // SAFETY: `base .. base + rounded` lies inside the mapping made above. The advice may be
        // refused by a kernel without huge pages; the memory is usable all the same.
        unsafe { libc::madvise(base.as_ptr().cast(), rounded, libc::MADV_HUGEPAGE) };
        let mut region = Self { base, len, mapped, origin, pages: Pages::Transparent };
        for page in region.bytes_mut().chunks_mut(4096) {
            page[0] = 0;
        }
        Ok(region)
    }

    /// Which pages the region lies on.
    #[must_use]
    pub fn pages(&self) -> Pages {
        self.pages
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable, `len` long and lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }

    /// The bytes, to write to.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` is the only way to it.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what was mapped; no borrow of the bytes can outlive `self`.
        unsafe { libc::munmap(self.origin.as_ptr().cast(), self.mapped) };
    }
}

/// Asks for the first two cache lines of `bytes`; the hardware's own prefetch follows from there.
pub fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(64).take(2) {
        // SAFETY: a prefetch reads nothing that the program can see, whatever the address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}

fn map(len: usize, flags: libc::c_int) -> io::Result<NonNull<u8>> {
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no other memory.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), len, access, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(at.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::{HUGE_PAGE, Region};

    #[test]
    fn is_aligned_zeroed_and_writable_to_its_last_byte() {
        let mut region = Region::new(3 * HUGE_PAGE + 5).expect("memory");
        assert_eq!(region.bytes().as_ptr().align_offset(HUGE_PAGE), 0);
        assert_eq!(region.bytes().len(), 3 * HUGE_PAGE + 5);
        assert!(region.bytes().iter().all(|&byte| byte == 0));
        *region.bytes_mut().last_mut().expect("not empty") = 7;
        assert_eq!(region.bytes().last(), Some(&7));
    }
}
