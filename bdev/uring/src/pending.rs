//! An operation on its way through the kernel.

use crate::device::{Learned, ZEROS_BYTES};
use crate::ring::Step;
use bdev::{Addr, DmaSlice, Io, IoFlags, Memory, Op, Tag};
use std::sync::atomic::{AtomicBool, Ordering};

/// What the operation does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Data between memory and device.
    Transfer,
    /// The blocks are given back, and read as zeros.
    Punch,
    /// The blocks are zeroed by the file system or device.
    ZeroRange,
    /// Zeros are written, a piece at a time.
    WriteZeros,
    /// What was written becomes durable.
    Sync,
}

/// An operation that was taken and is not completed.
pub(crate) struct Pending {
    pub(crate) reply_to: Addr,
    pub(crate) reply_tag: Tag,
    pub(crate) op: Op,
    pub(crate) stage: Stage,
    /// The kernel was short of something so often.
    pub(crate) retries: u8,
    may_deallocate: bool,
    /// Nothing is written in place of what cannot be given back.
    any_content: bool,
    /// Asked for with FUA, and not done by the write itself.
    sync_after: bool,
    /// The write itself carries FUA.
    durable: bool,
    /// Where it goes on, in bytes.
    at: u64,
    /// What is left, in bytes.
    bytes: u64,
    /// The memory that is left.
    data: DmaSlice,
}

/// Whether `flag` is up.
fn is(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed)
}

impl Pending {
    /// Takes `io` over.
    pub(crate) fn new(io: Io, block_bytes: u32, learned: &Learned) -> Pending {
        let Io { op, flags, lba, blocks, data, .. } = io;
        let (reply_to, reply_tag) = io.into_parts();
        let fua = flags.has(IoFlags::FUA);
        let durable = fua && op == Op::Write && !is(&learned.no_dsync);
        let changes = !matches!(op, Op::Read | Op::Flush);
        let mut pending = Pending {
            reply_to,
            reply_tag,
            op,
            stage: Stage::Transfer,
            retries: 0,
            any_content: flags.has(IoFlags::ANY_CONTENT),
            may_deallocate: op == Op::Deallocate || flags.has(IoFlags::MAY_DEALLOCATE),
            sync_after: fua && changes && !durable,
            durable,
            at: lba * u64::from(block_bytes),
            bytes: u64::from(blocks) * u64::from(block_bytes),
            data,
        };
        pending.stage = match op {
            Op::Read | Op::Write => Stage::Transfer,
            Op::WriteZeroes | Op::Deallocate => pending.zeroing(learned),
            Op::Flush => Stage::Sync,
        };
        pending
    }

    /// The best way to zeros that is not known to be refused.
    fn zeroing(&self, learned: &Learned) -> Stage {
        if self.any_content || self.may_deallocate && !is(&learned.no_punch) {
            Stage::Punch
        } else if !is(&learned.no_zero_range) {
            Stage::ZeroRange
        } else {
            Stage::WriteZeros
        }
    }

    /// What the kernel is asked to do next.
    pub(crate) fn step(&self, zeros: &Memory) -> Step {
        let keep = libc::FALLOC_FL_KEEP_SIZE;
        let (at, bytes) = (self.at, self.bytes);
        match self.stage {
            Stage::Transfer if self.op == Op::Read => Step::Read { at, data: self.data },
            Stage::Transfer => Step::Write { at, data: self.data, durable: self.durable },
            Stage::Punch => Step::Fallocate { at, bytes, mode: keep | libc::FALLOC_FL_PUNCH_HOLE },
            Stage::ZeroRange => {
                Step::Fallocate { at, bytes, mode: keep | libc::FALLOC_FL_ZERO_RANGE }
            }
            Stage::WriteZeros => {
                let piece = bytes.min(ZEROS_BYTES as u64) as usize;
                Step::Write { at, data: zeros.slice(0, 0, piece), durable: false }
            }
            Stage::Sync => Step::Sync,
        }
    }

    /// The kernel did `done` bytes of a transfer, in whole blocks. True when nothing is left.
    pub(crate) fn advance(&mut self, done: u64) -> bool {
        let done = done.min(self.bytes);
        self.at += done;
        self.bytes -= done;
        if self.stage == Stage::Transfer {
            self.data = self.data.sub(done as usize, self.data.len() - done as usize);
        }
        self.bytes == 0
    }

    /// Whether the present stage is about making data durable.
    pub(crate) fn syncs(&self) -> bool {
        self.stage == Stage::Sync || self.durable
    }

    /// The present stage is done. The next one, if there is one.
    pub(crate) fn after(&mut self) -> Option<Stage> {
        std::mem::take(&mut self.sync_after).then_some(Stage::Sync)
    }

    /// The kernel cannot do the present stage at all: remembers that, and names another way, if
    /// there is one.
    pub(crate) fn instead(&mut self, learned: &Learned) -> Option<Stage> {
        match self.stage {
            Stage::Punch if self.any_content => return None,
            Stage::Punch => learned.no_punch.store(true, Ordering::Relaxed),
            Stage::ZeroRange => learned.no_zero_range.store(true, Ordering::Relaxed),
            Stage::Transfer if self.durable => {
                learned.no_dsync.store(true, Ordering::Relaxed);
                self.durable = false;
                self.sync_after = true;
                return Some(Stage::Transfer);
            }
            Stage::Transfer | Stage::WriteZeros | Stage::Sync => return None,
        }
        Some(self.zeroing(learned))
    }
}
