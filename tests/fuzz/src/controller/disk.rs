//! A small disk that ends its operations when the script says so, and how.

use bdev::{Bdev, Channel, Cx, DmaSlice, Geometry, Io, Op, OpenCx, OpenError};
use nvme_spec::Status;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Blocks of the disk when it is new.
pub const BLOCKS: u64 = 64;

/// Region of the memory that disks lie in, and bytes of it that each has.
pub const REGION: u16 = 2;
const BYTES: usize = BLOCKS as usize * 512;

/// What the script changes of a disk.
#[derive(Debug)]
pub struct Knobs {
    /// Blocks it has now.
    pub blocks: AtomicU64,
    /// Operations that it may end before it holds the next ones back.
    pub let_go: AtomicU32,
    /// The next operation that ends does so with this status.
    pub next_status: AtomicU16,
}

/// A disk of up to [`BLOCKS`] blocks of 512 bytes.
pub struct Disk {
    /// What the script changes.
    pub knobs: Arc<Knobs>,
    /// Which disk it is.
    number: usize,
    /// Its blocks are memory that the target may reach.
    direct: bool,
}

impl Disk {
    /// Disk number `number`, which ends everything at once.
    pub fn new(number: usize, direct: bool) -> Disk {
        let knobs = Knobs {
            blocks: AtomicU64::new(BLOCKS),
            let_go: AtomicU32::new(u32::MAX),
            next_status: AtomicU16::new(0),
        };
        Disk { knobs: Arc::new(knobs), number, direct }
    }
}

impl Bdev for Disk {
    fn geometry(&self) -> Geometry {
        Geometry {
            volatile_cache: !self.direct,
            direct_access: self.direct,
            deallocates: true,
            ..Geometry::plain(512, self.knobs.blocks.load(Ordering::Relaxed))
        }
    }

    fn open(&self, cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        let bytes = cx.memory.slice(REGION, self.number * BYTES, BYTES);
        bytes.zero();
        Ok(Box::new(DiskChannel { knobs: self.knobs.clone(), bytes, held: VecDeque::new() }))
    }
}

struct DiskChannel {
    knobs: Arc<Knobs>,
    bytes: DmaSlice,
    held: VecDeque<Io>,
}

impl DiskChannel {
    /// Does an operation that is about to end well.
    fn execute(&self, io: &Io) -> Status {
        if io.op == Op::Flush {
            return Status::SUCCESS;
        }
        let end = io.lba.checked_add(io.blocks.into()).filter(|end| *end <= BLOCKS);
        let Some(end) = end else { return Status::LBA_OUT_OF_RANGE.dnr() };
        let range = self.bytes.sub(io.lba as usize * 512, (end - io.lba) as usize * 512);
        match io.op {
            Op::Read => io.data.copy_from(range),
            Op::Write => range.copy_from(io.data),
            Op::WriteZeroes | Op::Deallocate => range.zero(),
            Op::Flush => {}
        }
        Status::SUCCESS
    }
}

impl Channel for DiskChannel {
    fn direct_access(&mut self, lba: u64, blocks: u32) -> Option<DmaSlice> {
        lba.checked_add(blocks.into()).filter(|end| *end <= BLOCKS)?;
        Some(self.bytes.sub(lba as usize * 512, blocks as usize * 512))
    }

    fn submit(&mut self, io: Io, _cx: &mut Cx<'_>) {
        let moves = matches!(io.op, Op::Read | Op::Write);
        assert_eq!(io.data.len(), if moves { io.blocks as usize * 512 } else { 0 });
        assert_eq!(io.blocks == 0, io.op == Op::Flush, "{io:?}");
        self.held.push_back(io);
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> u32 {
        let mut work = 0;
        while self.knobs.let_go.load(Ordering::Relaxed) > 0
            && let Some(io) = self.held.pop_front()
        {
            if self.knobs.let_go.load(Ordering::Relaxed) != u32::MAX {
                self.knobs.let_go.fetch_sub(1, Ordering::Relaxed);
            }
            let fault = Status::from_bits(self.knobs.next_status.swap(0, Ordering::Relaxed));
            let status = if fault.is_success() { self.execute(&io) } else { fault };
            cx.complete(io, status);
            work += 1;
        }
        work
    }

    fn polled(&self) -> bool {
        true
    }

    fn outstanding(&self) -> u32 {
        self.held.len() as u32
    }
}
