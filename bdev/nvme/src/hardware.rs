//! What the driver needs of a PCI function, and nothing more.

use bdev::dma::Region;
use std::io;
use std::os::fd::RawFd;

/// Granularity of bus addresses: a region's every 2 MiB are contiguous on the bus.
pub const BUS_PAGE_BYTES: usize = 2 << 20;

/// A PCI function with the NVMe properties in its first BAR, as VFIO (or a test) gives it.
///
/// Shared by reactors: each writes the doorbells of its own queue; everything else is called with
/// the controller's lock held. No call waits.
pub trait Hardware: Send + Sync {
    /// Reads 4 bytes of the properties. All ones when the function is gone.
    fn read32(&self, offset: usize) -> u32;

    /// Reads 8 bytes of the properties.
    fn read64(&self, offset: usize) -> u64;

    /// Writes 4 bytes, a doorbell among others. Whatever this thread wrote to memory before is
    /// visible to the function when the write arrives there.
    fn write32(&self, offset: usize, value: u32);

    /// Writes 8 bytes, ordered as [`Hardware::write32`].
    fn write64(&self, offset: usize, value: u64);

    /// Length of the properties with their doorbells, in bytes.
    fn register_bytes(&self) -> usize;

    /// Lets the function read and write `region`: the bus address of each of its pieces of
    /// [`BUS_PAGE_BYTES`].
    ///
    /// # Errors
    /// The kernel's, or that the pages cannot be reached by the function.
    fn map(&self, region: &Region) -> io::Result<Vec<u64>>;

    /// Takes back what [`Hardware::map`] gave for `bytes` bytes.
    fn unmap(&self, pages: &[u64], bytes: usize);

    /// Interrupt vectors that can be armed.
    fn vectors(&self) -> u16;

    /// Lets `vector` interrupt: the descriptor that becomes readable when it does, at once if it
    /// is due already. `None` where there is no such vector.
    fn arm(&self, vector: u16) -> Option<RawFd>;

    /// Stops `vector` from interrupting and makes its descriptor unreadable.
    fn disarm(&self, vector: u16);

    /// Lets the function be a bus master again after [`Hardware::isolate`].
    ///
    /// # Errors
    /// The kernel's.
    fn admit(&self) -> io::Result<()>;

    /// Makes it impossible that the function reads or writes memory, whatever it does: bus
    /// mastering off, a reset of the function, or its absence from the bus. Whether that is
    /// certain; if not, it is asked again.
    fn isolate(&self) -> bool;

    /// Whether the machine has asked for the function back since the last call, because it is being
    /// taken out: that waits for [`Hardware::let_go`].
    fn is_wanted_back(&self) -> bool {
        false
    }

    /// Gives the function up: it is isolated. Doorbells that a reactor still writes go nowhere,
    /// properties read as all ones, and nothing can be mapped, until it is there again.
    fn let_go(&self) {}
}
