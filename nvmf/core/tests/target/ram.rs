//! A bdev in memory whose operations end when, and how, the test likes.

use crate::chance::Chance;
use bdev::{Addr, Bdev, Channel, Cx, DmaSlice, Geometry, Io, IoFlags, Memory, Op, OpenCx};
use bdev::{OpenError, Tag, Witness};
use nvme_spec::Status;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex};

/// A bug to plant in the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RamBug {
    /// A write is acknowledged and not done.
    LosesWrite,
    /// A read brings the block before the one that was asked for.
    WrongBlock,
    /// An operation never ends.
    NeverEnds,
}

/// The blocks: DMA memory, so that they can be reached directly.
pub struct Blocks {
    memory: Memory,
    len: usize,
}

impl Blocks {
    fn slice(&self, at: usize, bytes: usize) -> DmaSlice {
        self.memory.slice(0, at, bytes)
    }
}

impl Deref for Blocks {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: node, host and test are one thread, which holds no reference while a node runs.
        unsafe { self.slice(0, self.len).as_bytes() }
    }
}

impl DerefMut for Blocks {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { self.slice(0, self.len).as_bytes_mut() }
    }
}

/// What the test and all channels share.
pub struct Disk {
    pub bytes: Blocks,
    pub chance: Chance,
    /// Percent of the chances an operation has to end at a poll.
    pub end: u64,
    /// Percent of the operations that fail.
    pub errors: u64,
    /// Percent of the operations that are recalled in time.
    pub recalled: u64,
    /// Percent of the times that blocks of a device that is memory are not in one piece.
    pub apart: u64,
    pub bug: Option<RamBug>,
    /// Every operation that was done, with its flags.
    pub log: Vec<(Op, IoFlags, u64, u32)>,
    pub geometry: Geometry,
}

/// The bdev.
pub struct Ram(pub Arc<Mutex<Disk>>, pub Mutex<Option<Arc<dyn Witness>>>);

impl Ram {
    pub fn new(geometry: Geometry) -> Arc<Ram> {
        let len = geometry.bytes() as usize;
        let bytes = Blocks { memory: Memory::map(1, len).unwrap(), len };
        let chance = Chance::new(2);
        let log = Vec::new();
        let (end, errors, recalled, apart, bug) = (100, 0, 0, 0, None);
        let disk = Disk { bytes, chance, end, errors, recalled, apart, bug, log, geometry };
        Arc::new(Ram(Arc::new(Mutex::new(disk)), Mutex::new(None)))
    }

    pub fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }
}

impl Bdev for Ram {
    fn geometry(&self) -> Geometry {
        self.disk().geometry.clone()
    }

    fn witness(&self) -> Option<Arc<dyn Witness>> {
        self.1.lock().unwrap().clone()
    }

    fn open(&self, _cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        Ok(Box::new(RamChannel { disk: self.0.clone(), held: Vec::new() }))
    }
}

struct RamChannel {
    disk: Arc<Mutex<Disk>>,
    held: Vec<Io>,
}

impl Channel for RamChannel {
    fn direct_access(&mut self, lba: u64, blocks: u32) -> Option<DmaSlice> {
        let mut disk = self.disk.lock().unwrap();
        assert!(disk.geometry.direct_access, "nobody asks a device that is not memory");
        let apart = disk.apart;
        if disk.chance.percent(apart) {
            return None;
        }
        let block = disk.geometry.block_bytes as usize;
        Some(disk.bytes.slice(lba as usize * block, blocks as usize * block))
    }

    fn submit(&mut self, io: Io, _cx: &mut Cx<'_>) {
        let geometry = self.disk.lock().unwrap().geometry.clone();
        assert!(geometry.contains(io.lba, u64::from(io.blocks)), "checked above: {io:?}");
        if matches!(io.op, Op::Read | Op::Write) {
            assert_eq!(io.data.len(), io.blocks as usize * geometry.block_bytes as usize);
            assert!(io.data.is_aligned(geometry.align_bytes), "checked above: {io:?}");
        }
        self.held.push(io);
    }

    fn recall(&mut self, reply_to: Addr, reply_tag: Tag, cx: &mut Cx<'_>) {
        let mut disk = self.disk.lock().unwrap();
        let recalled = disk.recalled;
        let is_it = |io: &Io| (io.reply_to, io.reply_tag) == (reply_to, reply_tag);
        if disk.chance.percent(recalled)
            && let Some(at) = self.held.iter().position(is_it)
        {
            cx.complete(self.held.swap_remove(at), Status::ABORT_REQUESTED);
        }
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> u32 {
        let mut disk = self.disk.lock().unwrap();
        let mut done = 0;
        let mut index = 0;
        while index < self.held.len() {
            let ends = disk.bug != Some(RamBug::NeverEnds);
            let end = disk.end;
            if !ends || !disk.chance.percent(end) {
                index += 1;
                continue;
            }
            let io = self.held.swap_remove(index);
            let errors = disk.errors;
            let status = if disk.chance.percent(errors) {
                if io.op == Op::Read { Status::UNRECOVERED_READ } else { Status::WRITE_FAULT }
            } else {
                disk.execute(&io);
                Status::SUCCESS
            };
            done += 1;
            cx.complete(io, status);
        }
        done
    }

    fn polled(&self) -> bool {
        true
    }

    fn outstanding(&self) -> u32 {
        self.held.len() as u32
    }
}

/// A test that failed leaves operations behind; they are not what it failed for.
impl Drop for RamChannel {
    fn drop(&mut self) {
        for io in self.held.drain(..) {
            let _ = io.into_parts();
        }
    }
}

impl Disk {
    fn execute(&mut self, io: &Io) {
        self.log.push((io.op, io.flags, io.lba, io.blocks));
        let block = self.geometry.block_bytes as usize;
        let (at, bytes) = (io.lba as usize * block, io.blocks as usize * block);
        let data: DmaSlice = io.data;
        match io.op {
            Op::Read if self.bug == Some(RamBug::WrongBlock) && at > 0 => {
                data.copy_in(0, &self.bytes[at - block..at - block + bytes]);
            }
            Op::Read => data.copy_in(0, &self.bytes[at..at + bytes]),
            Op::Write if self.bug == Some(RamBug::LosesWrite) => {}
            Op::Write => data.copy_out(0, &mut self.bytes[at..at + bytes]),
            Op::WriteZeroes | Op::Deallocate => self.bytes[at..at + bytes].fill(0),
            Op::Flush => {}
        }
    }
}
