//! A remote namespace under operations whose results are known.

use bdev::{Addr, Bdev, DmaSlice, Done, Io, IoFlags, Memory, Op, Stack, Tag};
use bdev_mem::Ram;
use nvme_spec::Status;
use nvmf_host::Pattern;
use reactor::thread::clock_ns;
use std::sync::Arc;
use std::time::Duration;

pub const BLOCK: usize = 512;
pub const DISK: u64 = 32 << 20;

pub fn ram() -> Arc<dyn Bdev> {
    Arc::new(Ram::new(DISK, BLOCK as u32).unwrap())
}

/// A reactor's stack with one remote namespace.
pub struct Rig {
    pub stack: Stack,
    pub addr: Addr,
    pub memory: Arc<Memory>,
    done: Vec<Done>,
    /// First block that it writes.
    pub base: u64,
}

impl Rig {
    pub fn new(bdev: Arc<dyn Bdev>) -> Rig {
        let memory = Arc::new(Memory::map(1, 16 << 20).unwrap());
        let mut stack = Stack::new(0, memory.clone());
        let addr = stack.open(&bdev, clock_ns()).unwrap();
        Rig { stack, addr, memory, done: Vec::new(), base: 0 }
    }

    fn submit(&mut self, op: Op, flags: IoFlags, lba: u64, data: DmaSlice, blocks: u32, tag: u64) {
        let (reply_to, reply_tag) = (Addr::edge(0), Tag(tag));
        let io = Io { op, flags, lba, blocks, data, reply_to, reply_tag };
        self.stack.submit(self.addr, io, clock_ns());
    }

    fn settle(&mut self) -> Vec<Done> {
        while self.stack.outstanding(self.addr) > 0 || self.stack.has_dones() {
            let now = clock_ns();
            if self.stack.poll(now) + self.stack.deliver(now, &mut self.done) == 0 {
                std::thread::sleep(Duration::from_micros(20));
            }
        }
        std::mem::take(&mut self.done)
    }

    pub fn one(&mut self, op: Op, flags: IoFlags, lba: u64, data: DmaSlice, blocks: u32) -> Status {
        self.submit(op, flags, lba, data, blocks, 0);
        self.settle()[0].status
    }

    /// Writes `count` pieces of `blocks` blocks at once, calls `meanwhile`, reads them back and
    /// checks them.
    pub fn write_and_check(
        &mut self,
        seed: u64,
        blocks: usize,
        count: usize,
        meanwhile: impl FnOnce(),
    ) {
        let pattern = Pattern::new(seed);
        let bytes = blocks * BLOCK;
        let pieces: Vec<DmaSlice> =
            (0..count).map(|n| self.memory.slice(0, n * bytes, bytes)).collect();
        let mut data = vec![0; bytes];
        let base = self.base;
        let lba = |n: usize| base + (n * blocks) as u64;
        for (n, piece) in pieces.iter().enumerate() {
            let lba = lba(n);
            pattern.fill(lba, BLOCK, &mut data);
            piece.copy_in(0, &data);
            self.submit(Op::Write, IoFlags::FUA, lba, *piece, blocks as u32, n as u64);
        }
        self.stack.poll(clock_ns());
        meanwhile();
        let written = self.settle();
        for (n, piece) in pieces.iter().enumerate() {
            piece.zero();
            self.submit(Op::Read, IoFlags::NONE, lba(n), *piece, blocks as u32, n as u64);
        }
        for done in [written, self.settle()] {
            assert_eq!(done.len(), count);
            assert!(done.iter().all(|done| done.status == Status::SUCCESS), "{done:?}");
        }
        for (n, piece) in pieces.iter().enumerate() {
            piece.copy_out(0, &mut data);
            assert_eq!(pattern.check(lba(n), BLOCK, &data), Ok(()));
        }
    }

    /// Writes, reads and clears, in all sizes.
    pub fn every_operation(&mut self) {
        for (blocks, count) in [(1, 200), (8, 200), (17, 100), (256, 40), (2048, 16)] {
            self.write_and_check(blocks as u64, blocks, count, || {});
        }
        let data = self.memory.slice(0, 0, 64 * BLOCK);
        let flags = [IoFlags::NONE, IoFlags::MAY_DEALLOCATE];
        for (op, flags) in
            [(Op::WriteZeroes, flags[0]), (Op::WriteZeroes, flags[1]), (Op::Deallocate, flags[0])]
        {
            self.write_and_check(9, 64, 2, || {});
            assert_eq!(self.one(op, flags, 0, DmaSlice::EMPTY, 64), Status::SUCCESS);
            assert_eq!(self.one(Op::Read, IoFlags::NONE, 0, data, 64), Status::SUCCESS);
            let mut bytes = vec![1; 64 * BLOCK];
            data.copy_out(0, &mut bytes);
            assert!(bytes.iter().all(|byte| *byte == 0), "{op:?}");
        }
        assert_eq!(self.one(Op::Flush, IoFlags::NONE, 0, DmaSlice::EMPTY, 0), Status::SUCCESS);
        let end = DISK / BLOCK as u64;
        let beyond = self.one(Op::Read, IoFlags::NONE, end - 1, data, 64);
        assert_eq!(beyond.code(), Status::LBA_OUT_OF_RANGE);
    }
}
