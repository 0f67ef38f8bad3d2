//! A device as the thread of the metadata store uses it.

use rustix::fs::FallocateFlags;
use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes in a block of a pool, the unit of every read and write here.
pub const BLOCK_BYTES: usize = 4096;

/// Blocking reads and writes of whole blocks: offsets and lengths are multiples of
/// [`BLOCK_BYTES`]. Each aligned 512 bytes are written atomically; nothing is durable before
/// `flush`.
pub trait Medium: Debug + Send + Sync {
    /// Size in bytes.
    fn bytes(&self) -> u64;

    /// Reads blocks from byte `at` on.
    ///
    /// # Errors
    /// The device's.
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes blocks, each list of them at its byte offset, in any order.
    ///
    /// # Errors
    /// The device's: any of them may have been written.
    fn write(&self, pieces: &[(u64, &[u8])]) -> io::Result<()>;

    /// Makes everything durable that was written before.
    ///
    /// # Errors
    /// The device's: nothing is known of what was written since the last flush.
    fn flush(&self) -> io::Result<()>;

    /// Gives bytes back whose content nobody needs: it is undefined afterwards. Nobody reads or writes
    /// them meanwhile; everything else goes on beside it.
    ///
    /// # Errors
    /// The device's.
    fn discard(&self, at: u64, bytes: u64) -> io::Result<()>;
}

/// A file or a block device of the kernel, through its page cache: the cache writes at depth what a
/// flush asks for.
#[derive(Debug)]
pub struct FileMedium {
    file: File,
    bytes: u64,
}

impl FileMedium {
    /// `file`, opened to read and write, with `bytes` bytes.
    pub fn new(file: File, bytes: u64) -> FileMedium {
        FileMedium { file, bytes }
    }
}

impl Medium for FileMedium {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, at)
    }

    fn write(&self, pieces: &[(u64, &[u8])]) -> io::Result<()> {
        pieces.iter().try_for_each(|(at, bytes)| self.file.write_all_at(bytes, *at))
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn discard(&self, at: u64, bytes: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&self.file, flags, at, bytes)?)
    }
}
