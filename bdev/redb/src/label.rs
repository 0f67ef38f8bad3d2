//! What a device says of the region that is on it.

use crate::medium::Medium;
use std::fmt::Debug;
use std::io;

/// Bytes that say whose a record of the redo log is.
pub const OWNER_BYTES: usize = 24;

/// A superblock, or whatever else stands on the device beside the region and says how it is.
pub trait Label: Clone + Debug + Send + 'static {
    /// Where the region begins on its device, in bytes.
    fn offset(&self) -> u64;

    /// Size of the region in bytes, the redo log with it.
    fn bytes(&self) -> u64;

    /// What the database believes its file to be long, in bytes.
    fn length(&self) -> u64;

    /// Changes the length.
    fn set_length(&mut self, length: u64);

    /// What every record of the redo log carries: it differs between owners, and between places
    /// that one owner had its database in.
    fn owner(&self) -> [u8; OWNER_BYTES];

    /// Writes it durably, so that a torn write leaves the one before.
    ///
    /// # Errors
    /// The device's.
    fn write_next(&mut self, medium: &dyn Medium) -> io::Result<()>;
}
