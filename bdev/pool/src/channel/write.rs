//! Writing: to the block's place in the extent's own slot; what was not there counts when it has
//! been written.

use super::{
    BLOCK, Owner, Part, Piece, Running, Step, VolumeChannel, blocks_of, cut, sectors, tag,
};
use crate::devices::{SECTOR_BYTES, address};
use crate::volume::Target;
use bdev::{Cx, DmaSlice, Io, IoFlags, Op};
use nvme_spec::Status;
use std::collections::VecDeque;
use std::ops::Range;

/// Why a write cannot begin yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// It is held, or another one writes part of a block that it touches.
    Turn,
    /// There is no slot in stock.
    Slot,
    /// There is no memory for part of a block.
    Bounce,
}

impl VolumeChannel {
    /// Begins a write, or has it wait.
    pub(super) fn write(&mut self, io: Io, cx: &mut Cx<'_>) {
        let (at, bytes) = self.span(&io);
        match self.prepare(at, bytes) {
            Ok(parts) => {
                let (data, fua) = (io.data, io.flags.has(IoFlags::FUA));
                let (to, tag) = io.into_parts();
                let running = self.begin(Owner::Host(to, tag), fua, parts);
                self.send_parts(running, at, bytes, Some(data), cx);
            }
            Err(wait) => {
                self.lacks_bounce |= wait == Wait::Bounce;
                self.waiting.push_back(io);
            }
        }
    }

    /// The parts of a write of `bytes` bytes, each with a slot.
    pub(super) fn prepare(&mut self, at: u64, bytes: u64) -> Result<[Option<Part>; 2], Wait> {
        let mut spans = [None, None];
        let mut missing = 0;
        for (place, (extent, inside, _)) in spans.iter_mut().zip(cut(at, bytes)) {
            let blocks = blocks_of(&inside);
            if self.is_held(extent) || self.is_bouncing(extent, &blocks) {
                return Err(Wait::Turn);
            }
            let target = self.state().map.target(extent, blocks.clone());
            missing += usize::from(target == Target::NeedsSlot);
            *place = Some((extent, blocks, inside));
        }
        // Taking less than what is wanted would leave an extent with an empty slot.
        let stock = self.state().stock();
        if stock < missing {
            self.state().want_slots(missing - stock);
            return Err(Wait::Slot);
        }
        let mut parts = [None, None];
        for (place, (extent, blocks, inside)) in parts.iter_mut().zip(spans.into_iter().flatten()) {
            let mut target = self.state().map.target(extent, blocks.clone());
            if target == Target::NeedsSlot {
                let slot = self.state().take_slot().expect("counted before");
                self.state().map.adopt(extent, slot);
                target = self.state().map.target(extent, blocks.clone());
            }
            let Target::Slot { slot, present } = target else { unreachable!("it has one now") };
            let part = Part { extent, slot, blocks, present };
            self.may_bounce(&part, &inside)?;
            *place = Some(part);
        }
        Ok(parts)
    }

    /// Sends the parts of a write: the data, or zeros where there is none.
    pub(super) fn send_parts(
        &mut self,
        running: u32,
        at: u64,
        bytes: u64,
        data: Option<DmaSlice>,
        cx: &mut Cx<'_>,
    ) {
        let parts = self.at(running).parts.clone();
        for (part, (_, inside, of_data)) in parts.iter().flatten().zip(cut(at, bytes)) {
            let data = data.map(|data| data.sub(of_data.start, of_data.len()));
            let whole = self.send_edges(running, part, &inside, data, cx);
            if whole.start < whole.end {
                let skip = (whole.start - inside.start) as usize;
                let data = data.map(|data| data.sub(skip, (whole.end - whole.start) as usize));
                self.send_whole(running, part, whole, data, cx);
            }
        }
        self.step(running, Status::SUCCESS, cx);
    }

    /// Sends what is written in place, or covers whole blocks.
    fn send_whole(
        &mut self,
        running: u32,
        part: &Part,
        bytes: Range<u64>,
        data: Option<DmaSlice>,
        cx: &mut Cx<'_>,
    ) {
        // What is not there yet becomes durable with a commit, which flushes.
        let fua = self.at(running).fua && part.present;
        let piece = Piece {
            op: if data.is_some() { Op::Write } else { Op::WriteZeroes },
            flags: if fua { IoFlags::FUA } else { IoFlags::NONE },
            address: address(part.slot, bytes.start / u64::from(SECTOR_BYTES)),
            sectors: sectors(bytes.end - bytes.start),
            data: data.unwrap_or(DmaSlice::EMPTY),
            tag: tag(running, Step::Data),
        };
        self.send(piece, cx);
    }

    /// What a write has done counts. Of one that failed nothing does that was not there before.
    /// Returns whether it outlives the process as it is.
    pub(super) fn end_write(&mut self, running: &Running) -> bool {
        if running.status.is_success() {
            for part in running.parts().filter(|part| !part.present) {
                self.state().map.written(part.extent, part.slot, part.blocks.clone());
            }
        }
        !self.state().map.take_unkept()
    }

    /// Whether a write to `extent` is under way.
    pub(super) fn is_writing(&self, extent: u64) -> bool {
        let mut running = self.running.iter();
        running.any(|(_, running)| running.parts().any(|part| part.extent == extent))
    }

    /// Tries what waits, in its order.
    pub(super) fn retry_waiting(&mut self, cx: &mut Cx<'_>) {
        let mut waiting: VecDeque<Io> = std::mem::take(&mut self.waiting);
        while let Some(io) = waiting.pop_front() {
            let before = self.waiting.len();
            let (at, bytes) = self.span(&io);
            match io.op {
                Op::Read => self.read(io, cx),
                _ => self.write(io, cx),
            }
            // What waits for a slot or for memory is met by all that come after it; another's
            // turn is not.
            let lacks = self.waiting.len() > before && !self.waits_for_turn(at, bytes);
            if lacks {
                break;
            }
        }
        self.waiting.append(&mut waiting);
    }

    fn waits_for_turn(&self, at: u64, bytes: u64) -> bool {
        cut(at, bytes).any(|(extent, inside, _)| {
            self.is_held(extent) || self.is_bouncing(extent, &blocks_of(&inside))
        })
    }
}

const _: () = assert!(BLOCK.is_multiple_of(SECTOR_BYTES as u64));
