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

    /// Puts memory that answers as nobody does, with ones, where the registers were, at once for
    /// every thread. The file is let go of; what is written goes nowhere.
    pub(crate) fn blank(&self) -> io::Result<()> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let ones = unsafe { libc::mmap(std::ptr::null_mut(), self.bytes, access, flags, -1, 0) };
        if ones == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as many bytes as were just mapped, which nobody else knows of.
        unsafe { ones.cast::<u8>().write_bytes(0xff, self.bytes) };
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: moves that mapping over ours, which is as long; whoever uses ours finds the one
        // or the other.
        let moved = unsafe { libc::mremap(ones, self.bytes, self.bytes, flags, self.ptr.as_ptr()) };
        if moved == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Maps registers at the same address again, at `offset` of a file that stands for them.
    pub(crate) fn refill(&self, file: &File, offset: u64) -> io::Result<()> {
        // Whether it can be mapped is seen elsewhere first: a mapping that fails leaves a hole.
        drop(Window::map(file, offset, self.bytes)?);
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let (access, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_FIXED);
        let at = self.ptr.as_ptr().cast();
        // SAFETY: over our own mapping, as long.
        let ptr = unsafe { libc::mmap(at, self.bytes, access, flags, file.as_raw_fd(), offset) };
        if ptr == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(()) }
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
    fn registers_that_are_let_go_read_as_ones_and_come_back() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        let window = Window::map(&file, 0, 8192).unwrap();
        window.write32(0x1c, 7);
        window.blank().unwrap();
        assert_eq!((window.read32(0x1c), window.read64(4096)), (u32::MAX, u64::MAX));
        window.write32(0x1000, 5);
        window.refill(&file, 0).unwrap();
        assert_eq!((window.read32(0x1c), window.read32(0x1000)), (7, 0));
        assert!(window.refill(&file, 1).is_err(), "no page begins there");
        assert_eq!(window.read32(0x1c), 7);
    }

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
