//! System calls for opening and asking, none of them on the data path.

use rustix::fs::FallocateFlags;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// `BLKGETSIZE64`: _IOR(0x12, 114, size_t).
const BLKGETSIZE64: libc::c_ulong = 0x8008_1272;

/// `BLKGETDISKSEQ`: _IOR(0x12, 128, __u64).
const BLKGETDISKSEQ: libc::c_ulong = 0x8008_1280;

/// `BLKDISCARD`: _IO(0x12, 119).
const BLKDISCARD: libc::c_ulong = 0x1277;

/// `BLKPBSZGET`: _IO(0x12, 123).
const BLKPBSZGET: libc::c_ulong = 0x127b;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Opens for reading and, unless `read_only`, writing, with further `flags`.
pub(crate) fn open(path: &Path, read_only: bool, flags: libc::c_int) -> io::Result<File> {
    OpenOptions::new().read(true).write(!read_only).custom_flags(flags).open(path)
}

/// Takes the lock that keeps other openers out, for as long as the descriptor is open.
pub(crate) fn lock(file: &File) -> io::Result<()> {
    // SAFETY: a call on our own descriptor that touches no memory.
    check(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }).map(drop)
}

/// Gives the lock back now, whoever else still has the descriptor open.
pub(crate) fn unlock(file: &File) {
    // SAFETY: as above.
    unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_UN) };
}

/// Turns direct I/O on or off. Fails with EINVAL where the file system has none.
pub(crate) fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    // SAFETY: calls on our own descriptor that touch no memory.
    unsafe {
        let flags = check(libc::fcntl(file.as_raw_fd(), libc::F_GETFL))?;
        let flags = if direct { flags | libc::O_DIRECT } else { flags & !libc::O_DIRECT };
        check(libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags)).map(drop)
    }
}

/// Length of a block device, in bytes.
pub(crate) fn device_bytes(file: &File) -> io::Result<u64> {
    let mut bytes = 0u64;
    // SAFETY: BLKGETSIZE64 stores one u64 to where it is told.
    check(unsafe { libc::ioctl(file.as_raw_fd(), BLKGETSIZE64 as _, &mut bytes) })?;
    Ok(bytes)
}

/// Logical block size of a block device, in bytes.
pub(crate) fn logical_block_bytes(file: &File) -> io::Result<u32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: BLKSSZGET stores one int to where it is told.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::BLKSSZGET as _, &mut bytes) })?;
    u32::try_from(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// The number of a disk among all that this boot has seen (since Linux 5.15): one that is taken out and
/// put back gets another.
pub(crate) fn disk_sequence(file: &File) -> io::Result<u64> {
    let mut sequence = 0u64;
    // SAFETY: BLKGETDISKSEQ stores one u64 to where it is told.
    check(unsafe { libc::ioctl(file.as_raw_fd(), BLKGETDISKSEQ as _, &mut sequence) })?;
    Ok(sequence)
}

/// What a block device writes atomically, in bytes: the kernel's physical block size.
pub(crate) fn physical_block_bytes(file: &File) -> io::Result<u32> {
    let mut bytes: libc::c_uint = 0;
    // SAFETY: BLKPBSZGET stores one unsigned int to where it is told.
    check(unsafe { libc::ioctl(file.as_raw_fd(), BLKPBSZGET as _, &mut bytes) })?;
    Ok(bytes)
}

/// What direct I/O needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DirectNeeds {
    /// Alignment of the memory, in bytes; 0 when direct I/O is not possible.
    pub(crate) memory_bytes: u32,
    /// Alignment of offset and length in the file, in bytes.
    pub(crate) offset_bytes: u32,
}

/// What the kernel says that direct I/O needs; `None` where it cannot tell (before Linux 6.1, or
/// a file system that does not answer).
pub(crate) fn direct_needs(path: &Path) -> Option<DirectNeeds> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    let mask = libc::STATX_DIOALIGN;
    // SAFETY: a zeroed statx is a valid one, the path ends in 0, and the kernel fills the former.
    let told = unsafe {
        let mut told: libc::statx = std::mem::zeroed();
        check(libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, mask, &mut told)).ok()?;
        told
    };
    (told.stx_mask & mask != 0).then_some(DirectNeeds {
        memory_bytes: told.stx_dio_mem_align,
        offset_bytes: told.stx_dio_offset_align,
    })
}

/// Whether the file is on tmpfs, which takes O_DIRECT since Linux 6.6 and then ignores it.
pub(crate) fn is_on_tmpfs(file: &File) -> bool {
    // SAFETY: a zeroed statfs is a valid one, and the kernel fills it.
    unsafe {
        let mut told: libc::statfs = std::mem::zeroed();
        libc::fstatfs(file.as_raw_fd(), &mut told) == 0 && told.f_type == libc::TMPFS_MAGIC
    }
}

/// Bytes that are left in the file system that a file is on; none where it does not tell.
pub(crate) fn left_bytes(file: &File) -> Option<u64> {
    // SAFETY: a zeroed statvfs is a valid one, and the kernel fills it.
    unsafe {
        let mut told: libc::statvfs = std::mem::zeroed();
        let is_told = libc::fstatvfs(file.as_raw_fd(), &mut told) == 0;
        is_told.then(|| told.f_bavail.saturating_mul(told.f_frsize))
    }
}

/// A page of the alignment that any direct I/O accepts.
#[repr(align(4096))]
struct Page([u8; 4096]);

/// Reads the first `bytes` bytes, at most 4096, to see whether the descriptor can.
pub(crate) fn try_read(file: &File, bytes: u32) -> io::Result<()> {
    let mut page = Page([0; 4096]);
    let bytes = (bytes as usize).min(page.0.len());
    // SAFETY: the page is ours and holds at least as many bytes.
    let got = unsafe { libc::pread(file.as_raw_fd(), page.0.as_mut_ptr().cast(), bytes, 0) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives bytes of a file back: they read as zeros.
pub(crate) fn punch(file: &File, at: u64, bytes: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let punched = || rustix::fs::fallocate(file, flags, at, bytes);
    Ok(rustix::io::retry_on_intr(punched)?)
}

/// Gives bytes of a block device back: what they read as is the device's matter.
pub(crate) fn discard(file: &File, at: u64, bytes: u64) -> io::Result<()> {
    let range = [at, bytes];
    // SAFETY: BLKDISCARD reads two u64 from where it is told.
    check(unsafe { libc::ioctl(file.as_raw_fd(), BLKDISCARD as _, &range) }).map(drop)
}

/// Whether holes can be punched, found out behind the end of the file, where it changes nothing.
pub(crate) fn punches_holes(file: &File, behind: u64) -> bool {
    punch(file, behind.next_multiple_of(4096), 4096).is_ok()
}

/// Major and minor number in `/sys/dev/block` of a device number.
pub(crate) fn major_minor(device: u64) -> (u32, u32) {
    (libc::major(device), libc::minor(device))
}

/// The raw descriptor, for registration with a ring.
pub(crate) fn raw(file: &File) -> RawFd {
    file.as_raw_fd()
}
