//! Reading: each block from the first node that says something of it.

use super::{BLOCK, Owner, Piece, Step, VolumeChannel, blocks_of, cut, sectors, tag};
use crate::devices::{SECTOR_BYTES, address};
use crate::volume::Source;
use bdev::{Cx, Io, IoFlags, Op};
use nvme_spec::Status;

impl VolumeChannel {
    pub(super) fn read(&mut self, io: Io, cx: &mut Cx<'_>) {
        let (at, bytes) = self.span(&io);
        if !self.may_read(at, bytes) {
            self.lacks_bounce = true;
            return self.waiting.push_back(io);
        }
        let (flags, data) = (io.flags, io.data);
        let (to, host_tag) = io.into_parts();
        let running = self.begin(Owner::Host(to, host_tag), false, [None, None]);
        let mut found = std::mem::take(&mut self.found);
        for (extent, inside, part) in cut(at, bytes) {
            found.clear();
            let blocks = blocks_of(&inside);
            self.state().map.pieces(extent, blocks, |run, source| found.push((run, source)));
            for (run, source) in &found {
                // Of the first and the last block a part may be asked for.
                let from = (run.start as u64 * BLOCK).max(inside.start);
                let to = (run.end as u64 * BLOCK).min(inside.end);
                let place = part.start + (from - inside.start) as usize;
                let data = data.sub(place, (to - from) as usize);
                let Source::Slot(slot) = *source else {
                    data.zero();
                    continue;
                };
                let whole = self.read_edges(running, slot, &(from..to), data, cx);
                if whole.start >= whole.end {
                    continue;
                }
                let data =
                    data.sub((whole.start - from) as usize, (whole.end - whole.start) as usize);
                let (from, to) = (whole.start, whole.end);
                let piece = Piece {
                    op: Op::Read,
                    flags: if flags.has(IoFlags::FUA) { IoFlags::FUA } else { IoFlags::NONE },
                    address: address(slot, from / u64::from(SECTOR_BYTES)),
                    sectors: sectors(to - from),
                    data,
                    tag: tag(running, Step::Data),
                };
                self.send(piece, cx);
            }
        }
        self.found = found;
        self.step(running, Status::SUCCESS, cx);
    }
}
