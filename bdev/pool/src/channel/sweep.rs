//! Write Zeroes and Deallocate: extent by extent, some in each turn, mostly in the map alone.

use super::{BLOCK, Owner, VolumeChannel};
use crate::entry::BLOCKS_PER_EXTENT;
use crate::state::Traffic;
use crate::superblock::EXTENT_BYTES;
use bdev::{Addr, Cx, Io, IoFlags, Op, Tag};
use nvme_spec::Status;
use std::ops::Range;

/// Extents that one turn gets through.
const EXTENTS_A_TURN: u32 = 256;

/// Zeros are written to so many extents of a sweep at once.
pub(super) const ZEROES_AT_ONCE: u32 = 1;

/// A range that becomes zeros.
pub(super) struct Sweep {
    owner: (Addr, Tag),
    /// Must read as zeros afterwards.
    zeroes: bool,
    fua: bool,
    /// What is left of it, in bytes.
    left: Range<u64>,
    /// Zeros are being written.
    writing: bool,
    /// What was done outlives the process.
    kept: bool,
    status: Status,
}

/// What came of one extent.
enum Swept {
    Done,
    /// It has to wait.
    Waits,
}

impl VolumeChannel {
    pub(super) fn start_sweep(&mut self, io: Io) {
        let (at, bytes) = self.span(&io);
        let (zeroes, fua) = (io.op == Op::WriteZeroes, io.flags.has(IoFlags::FUA));
        let (owner, status) = (io.into_parts(), Status::SUCCESS);
        let left = at..at + bytes;
        let (writing, kept) = (false, true);
        self.sweeps.push_back(Sweep { owner, zeroes, fua, left, writing, kept, status });
    }

    /// Goes on with the sweep that is in front.
    pub(super) fn sweep(&mut self, cx: &mut Cx<'_>) -> u32 {
        for step in 0..EXTENTS_A_TURN {
            let Some(front) = self.sweeps.front() else { return step };
            if front.writing {
                return step;
            }
            if front.left.is_empty() || !front.status.is_success() {
                self.end_sweep(cx);
                continue;
            }
            if let Swept::Waits = self.sweep_extent(cx) {
                return step;
            }
        }
        EXTENTS_A_TURN
    }

    fn end_sweep(&mut self, cx: &mut Cx<'_>) {
        let Sweep { owner: (to, tag), fua, kept, status, .. } =
            self.sweeps.pop_front().expect("just looked at");
        match status.is_success() {
            true if fua => self.make_durable(to, tag, cx),
            true if !kept => self.complete_durable(to, tag, cx),
            _ => self.finish(to, tag, status, cx),
        }
    }

    /// The next extent of the sweep that is in front.
    fn sweep_extent(&mut self, cx: &mut Cx<'_>) -> Swept {
        let left = self.sweeps[0].left.clone();
        let first = left.start / EXTENT_BYTES;
        let Some(extent) = self.state().map.next_from(first) else {
            self.sweeps[0].left = left.end..left.end;
            return Swept::Done;
        };
        // What lies between is zeros already.
        let start = left.start.max(extent * EXTENT_BYTES).min(left.end);
        let end = left.end.min((extent + 1) * EXTENT_BYTES);
        if start >= left.end {
            self.sweeps[0].left = left.end..left.end;
            return Swept::Done;
        }
        let all = 0..BLOCKS_PER_EXTENT;
        if self.is_held(extent) || self.is_bouncing(extent, &all) {
            return Swept::Waits;
        }
        let is_rest = end == self.view.bytes();
        let is_whole = start == extent * EXTENT_BYTES && (end == start + EXTENT_BYTES || is_rest);
        if is_whole && !self.view.filled {
            self.state().map.clear(extent);
            self.sweeps[0].kept &= !self.state().map.take_unkept();
            self.sweeps[0].left = end..left.end;
            return Swept::Done;
        }
        self.sweep_part(extent, start..end, cx)
    }

    /// Less than an extent: blocks in the map where it can say so, else zeros are written.
    fn sweep_part(&mut self, extent: u64, bytes: Range<u64>, cx: &mut Cx<'_>) -> Swept {
        let from = bytes.start.next_multiple_of(BLOCK);
        let to = bytes.end / BLOCK * BLOCK;
        let writing = self.is_writing(extent);
        let first = extent * EXTENT_BYTES;
        let clear = |channel: &mut VolumeChannel| {
            let blocks = ((from - first) / BLOCK) as usize..((to - first) / BLOCK) as usize;
            channel.state().map.clear_blocks(extent, blocks, writing)
        };
        let said = !self.view.filled && (from >= to || clear(self));
        self.sweeps[0].kept &= !self.state().map.take_unkept();
        let end = self.sweeps[0].left.end;
        let covers = from == bytes.start && to == bytes.end;
        if !self.sweeps[0].zeroes || (said && covers) {
            // A part that stays as it is: nobody has to give it back.
            self.sweeps[0].left = bytes.end..end;
            return Swept::Done;
        }
        let length = bytes.end - bytes.start;
        match self.prepare(bytes.start, length) {
            Ok(parts) => {
                self.sweeps[0].writing = true;
                self.sweeps[0].left = bytes.end..end;
                let fua = self.sweeps[0].fua;
                let running = self.begin(Owner::Sweep, fua, parts);
                self.send_parts(running, bytes.start, length, None, cx);
                Swept::Done
            }
            Err(_) => Swept::Waits,
        }
    }

    /// Zeros that a sweep wrote have ended.
    pub(super) fn sweep_wrote(&mut self, status: Status, kept: bool) {
        let front = self.sweeps.front_mut().expect("it waits for this");
        front.writing = false;
        front.kept &= kept;
        if !status.is_success() {
            front.status = status;
        }
    }

    /// There is no slot for zeros of the sweep that is in front, if it waits for one.
    pub(super) fn sweep_found_full(&mut self) {
        let Some(left) = self.sweeps.front().map(|front| front.left.clone()) else { return };
        let end = left.end.min((left.start / EXTENT_BYTES + 1) * EXTENT_BYTES);
        let zeroes = self.sweeps[0].zeroes && !self.sweeps[0].writing;
        if zeroes && left.start < end && self.needs_slot(left.start, end - left.start) {
            Traffic::add(&self.view.traffic.found_full, 1);
            self.state().found_full();
            self.sweeps[0].status = Status::CAPACITY_EXCEEDED;
        }
    }

    /// Whether a write of these bytes takes more slots than there are in stock.
    pub(super) fn needs_slot(&mut self, at: u64, bytes: u64) -> bool {
        use crate::volume::Target;
        let stock = self.state().stock();
        let map = &self.state().map;
        let missing = super::cut(at, bytes).filter(|(extent, inside, _)| {
            map.target(*extent, super::blocks_of(inside)) == Target::NeedsSlot
        });
        missing.count() > stock
    }
}
