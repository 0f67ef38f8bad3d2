//! A disk that keeps nothing.

use crate::blocks_of;
use bdev::{Bdev, Channel, Cx, Geometry, Io, Op, OpenCx, OpenError};
use nvme_spec::Status;

/// A disk of any size that discards writes and reads as zeros. It clears the buffer of a read
/// instead of leaving it as it is, because buffers pass from host to host.
pub struct Null {
    geometry: Geometry,
}

impl Null {
    /// A disk of `bytes` bytes, rounded down to blocks of `block_bytes` (512 or 4096).
    ///
    /// # Errors
    /// A size that makes no block.
    pub fn new(bytes: u64, block_bytes: u32) -> Result<Null, OpenError> {
        let blocks = blocks_of(bytes, block_bytes)?;
        Ok(Null { geometry: Geometry::plain(block_bytes, blocks) })
    }
}

impl Bdev for Null {
    fn geometry(&self) -> Geometry {
        self.geometry.clone()
    }

    fn open(&self, _cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        Ok(Box::new(NullChannel { geometry: self.geometry.clone() }))
    }
}

struct NullChannel {
    geometry: Geometry,
}

impl Channel for NullChannel {
    fn submit(&mut self, io: Io, cx: &mut Cx<'_>) {
        if io.op != Op::Flush && !self.geometry.contains(io.lba, u64::from(io.blocks)) {
            return cx.complete(io, Status::LBA_OUT_OF_RANGE.dnr());
        }
        if io.op == Op::Read {
            io.data.zero();
        }
        cx.complete(io, Status::SUCCESS);
    }

    fn outstanding(&self) -> u32 {
        0
    }
}
