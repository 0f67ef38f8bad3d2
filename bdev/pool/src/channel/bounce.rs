//! Parts of blocks, by way of memory of our own. A block is there as a whole or not at all: what
//! surrounds a part that is written is read first, and the whole of it is written from there. From
//! devices with blocks of 4096 bytes a part is read like that, too.

use super::write::Wait;
use super::{BLOCK, Part, Piece, Step, VolumeChannel, sectors, tag};
use crate::devices::{BLOCK_SECTORS, SECTOR_BYTES, address};
use crate::entry::Slot;
use crate::volume::Source;
use bdev::{Cx, DmaSlice, IoFlags, Op};
use nvme_spec::Status;
use std::ops::Range;

/// A block of which part is read or written.
pub(super) struct Bounce {
    memory: DmaSlice,
    /// Where the block goes, and where the part lies in it, in bytes.
    address: u64,
    part: Range<usize>,
    /// The part; zeros if there is none.
    data: Option<DmaSlice>,
    flags: IoFlags,
    extent: u64,
    block: usize,
}

impl Bounce {
    pub(super) fn memory(&self) -> DmaSlice {
        self.memory
    }
}

/// The blocks at the ends of `inside` that it covers in part: at most two.
fn edges(inside: &Range<u64>) -> impl Iterator<Item = u64> {
    let head = (!inside.start.is_multiple_of(BLOCK)).then_some(inside.start / BLOCK);
    let tail = (!inside.end.is_multiple_of(BLOCK)).then_some(inside.end / BLOCK);
    head.into_iter().chain(tail.filter(move |tail| head != Some(*tail)))
}

impl VolumeChannel {
    /// Whether part of one of these blocks is being written.
    pub(super) fn is_bouncing(&self, extent: u64, blocks: &Range<usize>) -> bool {
        if self.view.block_bytes as u64 == BLOCK {
            return false;
        }
        let writes = self.running.iter().filter(|(_, running)| running.is_write());
        let bounces = writes.flat_map(|(_, running)| running.bounces.iter());
        let mut here = bounces.filter(|bounce| bounce.extent == extent);
        here.any(|bounce| blocks.contains(&bounce.block))
    }

    /// Whether a write of `inside` goes by way of whole blocks at its ends.
    fn bounces(&self, part: &Part, inside: &Range<u64>) -> bool {
        edges(inside).next().is_some() && (!part.present || self.devices.wants_blocks())
    }

    /// Whether a write may begin, as far as parts of blocks go.
    pub(super) fn may_bounce(&mut self, part: &Part, inside: &Range<u64>) -> Result<(), Wait> {
        if !self.bounces(part, inside) {
            return Ok(());
        }
        let writing = |block: usize| {
            let mut running = self.running.iter().flat_map(|(_, running)| running.parts());
            running.any(|other| other.extent == part.extent && other.blocks.contains(&block))
        };
        if edges(inside).any(|block| writing(block as usize)) {
            return Err(Wait::Turn);
        }
        if self.has_bounces() { Ok(()) } else { Err(Wait::Bounce) }
    }

    /// Whether there is memory for one operation: it has two ends at most.
    fn has_bounces(&self) -> bool {
        let Some(one) = self.devices.take_bounce(self.reactor) else { return false };
        let other = self.devices.take_bounce(self.reactor);
        self.devices.give_bounce(self.reactor, one);
        other.map(|other| self.devices.give_bounce(self.reactor, other)).is_some()
    }

    /// Whether a read of `bytes` bytes may begin.
    pub(super) fn may_read(&self, at: u64, bytes: u64) -> bool {
        edges(&(at..at + bytes)).next().is_none()
            || !self.devices.wants_blocks()
            || self.has_bounces()
    }

    /// Reads from `slot` what lies in blocks that are wanted in part. Returns what is left.
    pub(super) fn read_edges(
        &mut self,
        running: u32,
        slot: Slot,
        inside: &Range<u64>,
        data: DmaSlice,
        cx: &mut Cx<'_>,
    ) -> Range<u64> {
        if edges(inside).next().is_none() || !self.devices.wants_blocks() {
            return inside.clone();
        }
        for block in edges(inside) {
            let start = block * BLOCK;
            let (from, to) = (inside.start.max(start), inside.end.min(start + BLOCK));
            let memory = self.devices.take_bounce(self.reactor).expect("looked for before");
            let address = address(slot, start / u64::from(SECTOR_BYTES));
            let bounce = Bounce {
                memory,
                address,
                part: (from - start) as usize..(to - start) as usize,
                data: Some(data.sub((from - inside.start) as usize, (to - from) as usize)),
                flags: IoFlags::NONE,
                extent: 0,
                block: 0,
            };
            let bounces = &mut self.at(running).bounces;
            bounces.push(bounce);
            let tag = tag(running, Step::Filled((bounces.len() - 1) as u8));
            let (op, flags, sectors) = (Op::Read, IoFlags::NONE, sectors(BLOCK));
            self.send(Piece { op, flags, address, sectors, data: memory, tag }, cx);
        }
        inside.start.next_multiple_of(BLOCK)..inside.end / BLOCK * BLOCK
    }

    /// Begins with the blocks at the ends that are written in part. Returns what is left.
    pub(super) fn send_edges(
        &mut self,
        running: u32,
        part: &Part,
        inside: &Range<u64>,
        data: Option<DmaSlice>,
        cx: &mut Cx<'_>,
    ) -> Range<u64> {
        if !self.bounces(part, inside) {
            return inside.clone();
        }
        let fua = self.at(running).fua && part.present;
        for block in edges(inside) {
            let start = block * BLOCK;
            let (from, to) = (inside.start.max(start), inside.end.min(start + BLOCK));
            let memory = self.devices.take_bounce(self.reactor).expect("looked for before");
            let skip = (from - inside.start) as usize;
            let bounce = Bounce {
                memory,
                address: address(part.slot, start / u64::from(SECTOR_BYTES)),
                part: (from - start) as usize..(to - start) as usize,
                data: data.map(|data| data.sub(skip, (to - from) as usize)),
                flags: if fua { IoFlags::FUA } else { IoFlags::NONE },
                extent: part.extent,
                block: block as usize,
            };
            self.fill(running, bounce, cx);
        }
        let end = inside.end / BLOCK * BLOCK;
        inside.start.next_multiple_of(BLOCK)..end
    }

    /// Gets what surrounds the part.
    fn fill(&mut self, running: u32, bounce: Bounce, cx: &mut Cx<'_>) {
        let (extent, block, memory) = (bounce.extent, bounce.block, bounce.memory);
        let source = self.state().map.find(extent, block);
        let bounces = &mut self.at(running).bounces;
        bounces.push(bounce);
        let number = (bounces.len() - 1) as u8;
        let Source::Slot(slot) = source else {
            memory.zero();
            self.at(running).left += 1;
            return self.filled_with(running, number, cx);
        };
        let piece = Piece {
            op: Op::Read,
            flags: IoFlags::NONE,
            address: address(slot, block as u64 * u64::from(BLOCK_SECTORS)),
            sectors: sectors(BLOCK),
            data: memory,
            tag: tag(running, Step::Filled(number)),
        };
        self.send(piece, cx);
    }

    /// What surrounds the part was read.
    pub(super) fn filled(&mut self, running: u32, number: u8, status: Status, cx: &mut Cx<'_>) {
        match status.is_success() {
            true => self.filled_with(running, number, cx),
            false => self.step(running, status, cx),
        }
    }

    fn filled_with(&mut self, running: u32, number: u8, cx: &mut Cx<'_>) {
        let is_write = self.at(running).is_write();
        let bounce = &self.at(running).bounces[usize::from(number)];
        let part = bounce.memory.sub(bounce.part.start, bounce.part.len());
        if !is_write {
            bounce.data.expect("a read has a place for it").copy_from(part);
            return self.step(running, Status::SUCCESS, cx);
        }
        match bounce.data {
            Some(data) => part.copy_from(data),
            None => part.zero(),
        }
        let piece = Piece {
            op: Op::Write,
            flags: bounce.flags,
            address: bounce.address,
            sectors: sectors(BLOCK),
            data: bounce.memory,
            tag: tag(running, Step::Data),
        };
        self.send(piece, cx);
        // The reading of it has ended.
        self.step(running, Status::SUCCESS, cx);
    }
}
