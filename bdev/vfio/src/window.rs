//! Registers of a function, mapped.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{Ordering, fence};

/// A mapped BAR.
#[derive(Debug)]
pub(crate) struct Window {
    ptr: NonNull<u8>,
    bytes: usize,
}

// SAFETY: registers are accessed with single volatile reads and writes; which thread writes which
// is the driver's affair.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    /// Maps `bytes` bytes at `offset` of a file that stands for registers.
    pub(crate) fn map(file: &File, offset: u64, bytes: usize) -> io::Result<Window> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let ptr = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                access,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                offset,
            )
        };
        if ptr == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let ptr = NonNull::new(ptr.cast()).expect("the kernel maps nothing at 0");
        Ok(Window { ptr, bytes })
    }

    /// Length in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    fn at<T>(&self, offset: usize) -> *mut T {
        let size = size_of::<T>();
        let is_inside = offset.checked_add(size).is_some_and(|end| end <= self.bytes);
        assert!(is_inside && offset.is_multiple_of(size), "register {offset:#x}");
        // SAFETY: inside the mapping, as just checked.
        unsafe { self.ptr.as_ptr().add(offset).cast() }
    }

    /// Reads 4 bytes.
    pub(crate) fn read32(&self, offset: usize) -> u32 {
        // SAFETY: an aligned register inside the mapping.
        u32::from_le(unsafe { self.at::<u32>(offset).read_volatile() })
    }

    /// Reads 8 bytes.
    pub(crate) fn read64(&self, offset: usize) -> u64 {
        // SAFETY: an aligned register inside the mapping.
        u64::from_le(unsafe { self.at::<u64>(offset).read_volatile() })
    }

    /// Writes 4 bytes, after everything that was written to memory before.
    #[inline]
    pub(crate) fn write32(&self, offset: usize, value: u32) {
        barrier();
        // SAFETY: an aligned register inside the mapping.
        unsafe { self.at::<u32>(offset).write_volatile(value.to_le()) }
    }

    /// Writes 8 bytes, likewise.
    pub(crate) fn write64(&self, offset: usize, value: u64) {
        barrier();
        // SAFETY: an aligned register inside the mapping.
        unsafe { self.at::<u64>(offset).write_volatile(value.to_le()) }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody else has its address.
        unsafe { libc::munmap(self.ptr.as_ptr().cast(), self.bytes) };
    }
}

/// Memory written before is seen by a device before a register that is written after.
#[inline]
fn barrier() {
    // On x86-64 stores leave the processor in order: the compiler alone has to keep it.
    fence(Ordering::Release);
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a barrier touches nothing.
    unsafe {
        std::arch::asm!("dmb oshst", options(nostack, preserves_flags));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_where_they_are_written() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let window = Window::map(&file, 4096, 4096).unwrap();
        window.write32(0x14, 0x1122_3344);
        window.write64(0x28, 0x5566_7788_99aa_bbcc);
        assert_eq!((window.read32(0x14), window.read32(0x2c)), (0x1122_3344, 0x5566_7788));
        assert_eq!((window.read64(0x28), window.bytes()), (0x5566_7788_99aa_bbcc, 4096));
        for (offset, bytes) in [(4096, 4), (4094, 4), (2, 4), (4, 8), (usize::MAX - 3, 4)] {
            let outside = std::panic::catch_unwind(|| match bytes {
                4 => u64::from(window.read32(offset)),
                _ => window.read64(offset),
            });
            assert!(outside.is_err(), "{offset:#x}");
        }
    }
}
