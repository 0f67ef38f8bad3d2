//! A view of DMA memory.
#![allow(unsafe_code)]

use std::ptr::NonNull;

/// A page of the processor, in bytes.
const PAGE_BYTES: usize = 4096;

/// What a copy asks for of the next page while it copies one, in bytes.
const AHEAD_BYTES: usize = 512;

/// A piece of a [`super::Region`]. Copying it copies the view, not the data.
///
/// This is device memory: whoever holds a slice may read and write it, as a drive or a network
/// card does. That no two do so at once is the protocol of [`crate::Io`]: the submitter leaves the
/// memory alone until the completion. Accesses go through raw copies, so a peer that breaks the
/// protocol spoils data, never the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaSlice {
    ptr: NonNull<u8>,
    bytes: u32,
    region: u16,
}

// SAFETY: a slice is a view without ownership; the protocol of Io says who may use the memory,
// and the region outlives every slice of it (Memory is held by each pool, stack and transport).
unsafe impl Send for DmaSlice {}
// SAFETY: as above: sharing the view gives no access that copying it would not.
unsafe impl Sync for DmaSlice {}

impl DmaSlice {
    /// No memory, for operations without data.
    pub const EMPTY: DmaSlice = DmaSlice { ptr: NonNull::dangling(), bytes: 0, region: 0 };

    /// A view of `bytes` bytes at `ptr`, which lies in region number `region`.
    ///
    /// # Safety
    /// The memory is mapped, readable and writable for as long as any copy of the slice is used.
    pub const unsafe fn from_raw(ptr: NonNull<u8>, bytes: u32, region: u16) -> DmaSlice {
        DmaSlice { ptr, bytes, region }
    }

    /// Length in bytes.
    pub const fn len(self) -> usize {
        self.bytes as usize
    }

    /// Whether there is no memory.
    pub const fn is_empty(self) -> bool {
        self.bytes == 0
    }

    /// The number of the region it lies in, for the keys of a registration.
    pub const fn region(self) -> u16 {
        self.region
    }

    /// Its first byte.
    pub const fn as_ptr(self) -> *mut u8 {
        self.ptr.as_ptr()
    }

    /// Whether it starts at a multiple of `align_bytes`, a power of two.
    pub fn is_aligned(self, align_bytes: u32) -> bool {
        self.ptr.as_ptr() as usize & (align_bytes as usize - 1) == 0
    }

    /// The piece of `bytes` bytes at `offset`.
    ///
    /// # Panics
    /// If it does not lie inside.
    pub fn sub(self, offset: usize, bytes: usize) -> DmaSlice {
        assert!(offset <= self.len() && bytes <= self.len() - offset, "outside of the slice");
        // SAFETY: offset lies inside the mapping that self views, as just checked.
        let ptr = unsafe { self.ptr.add(offset) };
        DmaSlice { ptr, bytes: bytes as u32, region: self.region }
    }

    /// Copies `from` to `offset`.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn copy_in(self, offset: usize, from: &[u8]) {
        let to = self.sub(offset, from.len());
        // SAFETY: `to` is from.len() mapped bytes; a reference into DMA memory is never handed to
        // code that also copies into it, so the two do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_ptr(), from.len()) }
    }

    /// Copies from `offset` into `to`.
    ///
    /// # Panics
    /// If there is not as much.
    pub fn copy_out(self, offset: usize, to: &mut [u8]) {
        let from = self.sub(offset, to.len());
        // SAFETY: as in copy_in.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to.as_mut_ptr(), to.len()) }
    }

    /// Copies the whole of `from`, which may overlap, to the start of this slice.
    ///
    /// # Panics
    /// If it does not fit.
    pub fn copy_from(self, from: DmaSlice) {
        let to = self.sub(0, from.len());
        let apart = (to.as_ptr() as usize).abs_diff(from.as_ptr() as usize) >= from.len();
        // The processor's own prefetching ends with each page: it is helped into the next one,
        // which takes a third off the time of a copy to memory that is not cached.
        let step = if apart { PAGE_BYTES } else { from.len().max(1) };
        for at in (0..from.len()).step_by(step) {
            let bytes = step.min(from.len() - at);
            let after = to.sub(at + bytes, to.len() - at - bytes);
            after.prefetch(AHEAD_BYTES);
            // SAFETY: both pieces lie inside the slices; `copy` allows overlap.
            unsafe {
                std::ptr::copy(from.as_ptr().add(at), to.as_ptr().add(at), bytes);
            }
        }
    }

    /// Asks for its first `bytes` bytes to be brought into the cache; once they are used, the
    /// processor goes on with the rest of their page by itself.
    #[inline]
    pub fn prefetch(self, bytes: usize) {
        #[cfg(not(target_arch = "x86_64"))]
        let _ = bytes;
        #[cfg(target_arch = "x86_64")]
        for line in (0..self.len().min(bytes)).step_by(64) {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: inside the slice, and a hint, without effect on any memory.
            unsafe { _mm_prefetch(self.as_ptr().add(line).cast(), _MM_HINT_T0) };
        }
    }

    /// Fills it with zeros.
    pub fn zero(self) {
        // SAFETY: the memory is mapped for len() bytes.
        unsafe { std::ptr::write_bytes(self.as_ptr(), 0, self.len()) }
    }

    /// Its bytes, to look at.
    ///
    /// # Safety
    /// Nobody writes the memory while the reference lives.
    pub unsafe fn as_bytes<'a>(self) -> &'a [u8] {
        // SAFETY: mapped for len() bytes; the caller vouches that it stays unchanged.
        unsafe { std::slice::from_raw_parts(self.as_ptr(), self.len()) }
    }

    /// Its bytes, to change.
    ///
    /// # Safety
    /// Nobody else reads or writes the memory while the reference lives.
    pub unsafe fn as_bytes_mut<'a>(self) -> &'a mut [u8] {
        // SAFETY: mapped for len() bytes; the caller vouches for exclusive use.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr(), self.len()) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Memory;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_copy_is_that_of_a_slice(
            from in 0usize..20_000,
            to in 0usize..20_000,
            bytes in 0usize..20_000,
        ) {
            let memory = Memory::map(1, 40_000).unwrap();
            let whole = memory.slice(0, 0, 40_000);
            let mut model: Vec<u8> = (0..40_000u32).map(|at| (at / 7) as u8).collect();
            whole.copy_in(0, &model);
            memory.slice(0, to, bytes).copy_from(memory.slice(0, from, bytes));
            model.copy_within(from..from + bytes, to);
            let mut after = vec![0; 40_000];
            whole.copy_out(0, &mut after);
            prop_assert!(after == model);
        }
    }
}
