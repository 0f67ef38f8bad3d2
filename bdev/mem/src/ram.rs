//! A disk in memory.

use crate::blocks_of;
use bdev::dma::{Backing, Region};
use bdev::{Addr, Bdev, Channel, Cx, DmaSlice, Geometry, Io, Memory, Op, OpenCx, OpenError, Tag};
use nvme_spec::Status;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is cleared within one call. A longer Write Zeroes or Deallocate goes on in later polls, so
/// that clearing a terabyte holds nobody up.
const CLEAR_BYTES_PER_POLL: u64 = 256 << 10;

/// What is known to be zeros is known by pieces of so many bytes.
const PIECE_BYTES: u64 = 64 << 10;

/// Pieces that a Deallocate looks at within one call.
const PIECES_PER_POLL: u64 = 64 << 10;

/// Which pieces somebody may have written since they were zeros: a Deallocate costs only what it
/// clears. Whoever gets at the memory of a piece marks it first. One that is written while it is
/// cleared may be taken for zeros afterwards; then the next Deallocate leaves it as it is, as it may.
struct Touched(Box<[AtomicU64]>);

impl Touched {
    fn new(bytes: u64) -> Touched {
        let words = bytes.div_ceil(64 * PIECE_BYTES);
        Touched((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    fn place(&self, piece: u64) -> (&AtomicU64, u64) {
        (&self.0[(piece / 64) as usize], 1 << (piece % 64))
    }

    /// Somebody may write bytes `at..end`.
    #[inline]
    fn mark(&self, at: u64, end: u64) {
        for piece in at / PIECE_BYTES..end.div_ceil(PIECE_BYTES) {
            let (word, bit) = self.place(piece);
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// Whether bytes of a piece may be other than zero. If it is cleared as a `whole`, it is zeros
    /// from now on.
    fn is_marked(&self, piece: u64, whole: bool) -> bool {
        let (word, bit) = self.place(piece);
        let before = match whole {
            true => word.fetch_and(!bit, Ordering::Relaxed),
            false => word.load(Ordering::Relaxed),
        };
        before & bit != 0
    }
}

/// A disk in memory that all reactors share: one copy for each read and write, ended within
/// `submit`. Contents last as long as the value.
pub struct Ram {
    memory: Arc<Memory>,
    touched: Arc<Touched>,
    geometry: Geometry,
}

impl Ram {
    /// A disk of `bytes` bytes, rounded down to blocks of `block_bytes` (512 or 4096), all zeros,
    /// populated: from hugepages when enough are free, else from normal pages.
    ///
    /// # Errors
    /// A size that makes no block, or that does not fit into the free memory.
    pub fn new(bytes: u64, block_bytes: u32) -> Result<Ram, OpenError> {
        let blocks = blocks_of(bytes, block_bytes)?;
        let bytes = blocks * u64::from(block_bytes);
        if let Some(free) = free_memory_bytes()
            && bytes > free
        {
            let mib = |bytes: u64| bytes >> 20;
            return Err(OpenError(format!(
                "a ram disk of {} MiB does not fit: {} MiB of memory are free",
                mib(bytes),
                mib(free)
            )));
        }
        let region = usize::try_from(bytes)
            .map_err(|_| "more than can be addressed".to_owned())
            .and_then(|bytes| Region::map(bytes).map_err(|error| error.to_string()))
            .map_err(|why| OpenError(format!("a ram disk of {bytes} bytes: {why}")))?;
        Ok(Ram {
            memory: Arc::new(Memory::new(vec![region])),
            touched: Arc::new(Touched::new(bytes)),
            geometry: Geometry { direct_access: true, ..Geometry::plain(block_bytes, blocks) },
        })
    }

    /// What its pages are.
    pub fn backing(&self) -> Backing {
        self.memory.regions()[0].backing()
    }
}

/// Memory that could be had without swapping, plus free hugepages, in bytes; `None` where the
/// kernel does not tell.
fn free_memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        text.lines().find_map(|l| l.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
    };
    let kib = field("MemAvailable:")?;
    let huge_kib = field("HugePages_Free:").unwrap_or(0) * field("Hugepagesize:").unwrap_or(0);
    Some(kib.saturating_add(huge_kib).saturating_mul(1024))
}

impl Bdev for Ram {
    fn geometry(&self) -> Geometry {
        self.geometry.clone()
    }

    fn open(&self, cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        Ok(Box::new(RamChannel {
            memory: self.memory.clone(),
            touched: self.touched.clone(),
            block_bytes: self.geometry.block_bytes,
            blocks: self.geometry.blocks,
            clearing: VecDeque::with_capacity(cx.limit as usize),
            limit: cx.limit as usize,
        }))
    }
}

/// A range that is being cleared in pieces.
struct Clearing {
    at: u64,
    end: u64,
    /// Only what was touched has to be cleared.
    deallocates: bool,
    reply_to: Addr,
    reply_tag: Tag,
}

struct RamChannel {
    memory: Arc<Memory>,
    touched: Arc<Touched>,
    block_bytes: u32,
    blocks: u64,
    clearing: VecDeque<Clearing>,
    limit: usize,
}

impl RamChannel {
    /// The byte range of an operation, if it lies inside the device.
    fn range(&self, io: &Io) -> Option<(u64, u64)> {
        let end = io.lba.checked_add(u64::from(io.blocks)).filter(|end| *end <= self.blocks)?;
        let block_bytes = u64::from(self.block_bytes);
        Some((io.lba * block_bytes, end * block_bytes))
    }

    fn clear(&self, at: u64, bytes: u64) {
        self.memory.slice(0, at as usize, bytes as usize).zero();
    }

    /// Clears some of `at..end`, as much as one call may. Returns where it came to.
    fn clear_some(&self, at: u64, end: u64, deallocates: bool) -> u64 {
        if !deallocates {
            let bytes = (end - at).min(CLEAR_BYTES_PER_POLL);
            self.clear(at, bytes);
            return at + bytes;
        }
        let (mut here, mut cleared) = (at, 0);
        for piece in (at / PIECE_BYTES..).take(PIECES_PER_POLL as usize) {
            if here >= end || cleared >= CLEAR_BYTES_PER_POLL {
                break;
            }
            let next = ((piece + 1) * PIECE_BYTES).min(end);
            let whole = here == piece * PIECE_BYTES && next == here + PIECE_BYTES;
            if self.touched.is_marked(piece, whole) {
                self.clear(here, next - here);
                cleared += next - here;
            }
            here = next;
        }
        here
    }

    fn start_clearing(&mut self, io: Io, at: u64, end: u64, cx: &mut Cx<'_>) {
        let deallocates = io.op == Op::Deallocate;
        let at = self.clear_some(at, end, deallocates);
        if at == end {
            return cx.complete(io, Status::SUCCESS);
        }
        assert!(
            self.clearing.len() < self.limit,
            "more operations than the channel was opened for"
        );
        let (reply_to, reply_tag) = io.into_parts();
        self.clearing.push_back(Clearing { at, end, deallocates, reply_to, reply_tag });
    }
}

impl Channel for RamChannel {
    fn direct_access(&mut self, lba: u64, blocks: u32) -> Option<DmaSlice> {
        let end = lba.checked_add(u64::from(blocks)).filter(|end| *end <= self.blocks)?;
        let block_bytes = self.block_bytes as usize;
        self.touched.mark(lba * block_bytes as u64, end * block_bytes as u64);
        Some(self.memory.slice(0, lba as usize * block_bytes, blocks as usize * block_bytes))
    }

    fn submit(&mut self, io: Io, cx: &mut Cx<'_>) {
        if io.op == Op::Flush {
            return cx.complete(io, Status::SUCCESS);
        }
        let Some((at, end)) = self.range(&io) else {
            return cx.complete(io, Status::LBA_OUT_OF_RANGE.dnr());
        };
        match io.op {
            Op::Read => io.data.copy_from(self.memory.slice(0, at as usize, (end - at) as usize)),
            Op::Write => {
                self.touched.mark(at, end);
                self.memory.slice(0, at as usize, (end - at) as usize).copy_from(io.data);
            }
            Op::WriteZeroes | Op::Deallocate => return self.start_clearing(io, at, end, cx),
            Op::Flush => {}
        }
        cx.complete(io, Status::SUCCESS);
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> u32 {
        let Some(mut first) = self.clearing.pop_front() else { return 0 };
        first.at = self.clear_some(first.at, first.end, first.deallocates);
        if first.at == first.end {
            cx.complete_parts(first.reply_to, first.reply_tag, Status::SUCCESS);
        } else {
            self.clearing.push_front(first);
        }
        1
    }

    fn polled(&self) -> bool {
        true
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        // Something to clear is due at once.
        (!self.clearing.is_empty()).then_some(0)
    }

    fn outstanding(&self) -> u32 {
        self.clearing.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_make_no_disk_are_refused_in_a_sentence() {
        let say = |bytes, block| Ram::new(bytes, block).err().expect("refused").0;
        assert_eq!(say(1 << 20, 1024), "blocks of 1024 bytes: only 512 and 4096 exist");
        assert_eq!(say(4095, 4096), "4095 bytes hold no block of 4096 bytes");
        assert!(say(1 << 60, 4096).contains("does not fit"));
    }

    #[test]
    fn only_what_was_touched_is_cleared() {
        let touched = Touched::new(256 * PIECE_BYTES);
        touched.mark(PIECE_BYTES - 1, PIECE_BYTES + 1);
        touched.mark(70 * PIECE_BYTES, 71 * PIECE_BYTES);
        let marked = |whole| -> Vec<u64> {
            (0..256).filter(|piece| touched.is_marked(*piece, whole)).collect()
        };
        assert_eq!(marked(false), [0, 1, 70]);
        assert_eq!(marked(true), [0, 1, 70]);
        assert_eq!(marked(false), [0; 0]);
    }

    #[test]
    fn geometry_is_rounded_down_and_promises_nothing_it_lacks() {
        let ram = Ram::new(10_000, 4096).unwrap();
        let geometry = Geometry { direct_access: true, ..Geometry::plain(4096, 2) };
        assert_eq!(ram.geometry(), geometry);
    }
}
