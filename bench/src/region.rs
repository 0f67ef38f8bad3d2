//! The memory payloads come from and go to: the same pages that Forebay's ram namespace lies on.
#![allow(unsafe_code)]

use std::io;

use bdev::dma::Backing;
use bdev::{DmaSlice, Memory};

/// Populated memory, on reserved huge pages where there are enough, else on pages that the
/// kernel merges.
pub struct Region {
    slice: DmaSlice,
    memory: Memory,
}

impl Region {
    /// Maps and populates `len` bytes, below 4 GiB.
    ///
    /// # Errors
    /// The kernel's, when there is no memory.
    pub fn new(len: usize) -> io::Result<Self> {
        let memory = Memory::map(1, len)?;
        Ok(Self { slice: memory.slice(0, 0, len), memory })
    }

    /// What the region is made of.
    #[must_use]
    pub fn backing(&self) -> Backing {
        self.memory.regions()[0].backing()
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `memory` keeps the slice mapped as long as `self`; only `bytes_mut`, which
        // needs `&mut self`, gives a way to write it.
        unsafe { self.slice.as_bytes() }
    }

    /// The bytes, to write to.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` is the only way to it.
        unsafe { self.slice.as_bytes_mut() }
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
