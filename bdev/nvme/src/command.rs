//! Operations cut into commands.

use crate::identity::Identity;
use crate::limits::{IO_ENTRIES, LIST_BYTES, LIST_ENTRIES, PAGE_BYTES};
use crate::memory::{Block, Mapping, Piece};
use crate::namespace::Namespace;
use crate::places::Places;
use crate::prp::prps;
use crate::queues::LISTS_AT;
use bdev::{DmaSlice, Io, IoFlags, Op};
use nvme_spec::Sqe;
use nvme_spec::dsm::DatasetManagement;
use nvme_spec::opcode::nvm;
use std::sync::Arc;

/// What is left to do of an operation, or a piece that one command does.
#[derive(Clone, Copy)]
pub(crate) struct Work {
    op: Op,
    flags: IoFlags,
    lba: u64,
    /// Blocks; of a flush 0.
    pub(crate) blocks: u32,
    data: DmaSlice,
}

impl Work {
    /// Nothing to do.
    pub(crate) const NOTHING: Work =
        Work { op: Op::Flush, flags: IoFlags::NONE, lba: 0, blocks: 0, data: DmaSlice::EMPTY };

    /// The whole of an operation.
    #[inline(always)]
    pub(crate) fn of(io: &Io) -> Work {
        Work { op: io.op, flags: io.flags, lba: io.lba, blocks: io.blocks, data: io.data }
    }
}

/// The quadwords of a command.
pub(crate) fn words(sqe: Sqe) -> [u64; 8] {
    let words: [u64; 8] = zerocopy::transmute!(sqe);
    words.map(u64::from_le)
}

/// Largest number of blocks that NLB can say.
const MOST_BLOCKS: u64 = 1 << 16;

/// What one command does at most.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    transfer_bytes: u32,
    zeroes_bytes: Option<u64>,
    discard_blocks: Option<u32>,
}

impl Sizes {
    /// Of a controller.
    pub(crate) fn of(controller: &Identity) -> Sizes {
        let Identity { transfer_bytes, zeroes_bytes, discard_blocks, .. } = *controller;
        Sizes { transfer_bytes, zeroes_bytes, discard_blocks }
    }
}

/// Makes commands of one namespace in one channel.
pub(crate) struct Cutter {
    nsid: u32,
    block_bytes: u32,
    /// Blocks of the largest Read or Write.
    transfer_blocks: u32,
    /// Blocks of the largest Write Zeroes; `None` where zeros are written.
    zeroes_blocks: Option<u32>,
    /// Blocks of the largest range of Dataset Management; `None` where there is no such command.
    discard_blocks: Option<u32>,
    /// Write Zeroes may give the space back.
    deallocates: bool,
    lists: Piece,
    list_bus: Vec<u64>,
    /// The bus address of a page of zeros.
    zeros: u64,
}

impl Cutter {
    /// For channels whose memory is `block`.
    pub(crate) fn new(block: &Arc<Block>, namespace: &Namespace, sizes: Sizes) -> Cutter {
        let Sizes { transfer_bytes, zeroes_bytes, discard_blocks } = sizes;
        let geometry = namespace.geometry();
        let in_blocks =
            |bytes: u64| (bytes / u64::from(geometry.block_bytes)).clamp(1, MOST_BLOCKS) as u32;
        let lists = IO_ENTRIES as usize * LIST_BYTES;
        Cutter {
            nsid: namespace.nsid(),
            block_bytes: geometry.block_bytes,
            transfer_blocks: in_blocks(u64::from(transfer_bytes)),
            zeroes_blocks: zeroes_bytes.map(in_blocks),
            discard_blocks,
            deallocates: geometry.deallocates,
            lists: block.piece(LISTS_AT, lists),
            list_bus: (0..IO_ENTRIES as usize)
                .map(|n| block.bus(LISTS_AT + n * LIST_BYTES))
                .collect(),
            zeros: block.bus(LISTS_AT + lists),
        }
    }

    /// Cuts off what one command can do, and leaves the rest.
    #[inline]
    pub(crate) fn cut(&self, work: &mut Work) -> Work {
        let most = match work.op {
            Op::Read | Op::Write => self.transfer_blocks,
            Op::WriteZeroes => self.largest_zeroes(),
            Op::Deallocate => self.discards(work.flags).unwrap_or(self.largest_zeroes()),
            Op::Flush => u32::MAX,
        };
        let mut piece = *work;
        if work.blocks <= most {
            work.blocks = 0;
            return piece;
        }
        piece.blocks = most;
        work.lba += u64::from(most);
        work.blocks -= most;
        if !work.data.is_empty() {
            let bytes = most as usize * self.block_bytes as usize;
            piece.data = work.data.sub(0, bytes);
            work.data = work.data.sub(bytes, work.data.len() - bytes);
        }
        piece
    }

    /// Whether one command does all of `io`, a Read or Write of at least one block.
    #[inline(always)]
    pub(crate) fn is_one_transfer(&self, io: &Io) -> bool {
        matches!(io.op, Op::Read | Op::Write) && io.blocks.wrapping_sub(1) < self.transfer_blocks
    }

    /// The quadwords of a Read or Write, named `cid`: what most commands are, without detours.
    #[inline(always)]
    pub(crate) fn transfer(&self, io: Work, cid: u16, mappings: &[Arc<Mapping>]) -> [u64; 8] {
        let is_write = io.op == Op::Write;
        let opcode = if is_write { nvm::WRITE } else { nvm::READ };
        let fua = is_write && io.flags.has(IoFlags::FUA);
        let mapping = &*mappings[usize::from(io.data.region())];
        let place = Places::<()>::number(cid);
        let (prp1, prp2) = prps(
            io.data.as_ptr() as usize,
            io.data.len(),
            || self.list_bus[place],
            |address| mapping.bus(address),
            |at, entry| self.lists.put_u64(place * LIST_ENTRIES + at, entry),
        );
        let name = u64::from(opcode) | u64::from(cid) << 16 | u64::from(self.nsid) << 32;
        let length = u64::from(io.blocks - 1) | u64::from(fua) << 30;
        [name, 0, 0, prp1, prp2, io.lba, length, 0]
    }

    /// The command that does `piece`, named `cid`.
    pub(crate) fn sqe(&self, piece: &Work, cid: u16, mappings: &[Arc<Mapping>]) -> [u64; 8] {
        let sqe = match piece.op {
            Op::Read | Op::Write => return self.transfer(*piece, cid, mappings),
            Op::Flush => Sqe::new(nvm::FLUSH, cid, self.nsid),
            Op::Deallocate if self.discards(piece.flags).is_some() => self.discard(piece, cid),
            Op::WriteZeroes | Op::Deallocate => self.zeroes(piece, cid),
        };
        words(sqe)
    }

    /// Blocks of the largest command that zeroes.
    fn largest_zeroes(&self) -> u32 {
        self.zeroes_blocks.unwrap_or(self.transfer_blocks)
    }

    /// Blocks of the largest Dataset Management, where that is what a Deallocate becomes.
    fn discards(&self, flags: IoFlags) -> Option<u32> {
        self.discard_blocks.filter(|_| flags.has(IoFlags::ANY_CONTENT))
    }

    /// Whether zeros would have to be written for an operation that is not worth that.
    pub(crate) fn is_beyond_it(&self, io: &Io) -> bool {
        let is_discard = io.op == Op::Deallocate && io.flags.has(IoFlags::ANY_CONTENT);
        is_discard && self.discard_blocks.is_none() && !self.deallocates
    }

    /// Blocks whose content nobody needs: Dataset Management, with its range where others have their
    /// list.
    fn discard(&self, piece: &Work, cid: u16) -> Sqe {
        let place = Places::<()>::number(cid);
        self.lists.put_u64(place * LIST_ENTRIES, u64::from(piece.blocks) << 32);
        self.lists.put_u64(place * LIST_ENTRIES + 1, piece.lba);
        let mut sqe = Sqe::new(nvm::DATASET_MANAGEMENT, cid, self.nsid);
        DatasetManagement { ranges: 1, deallocate: true }.put(&mut sqe);
        sqe.set_prps(self.list_bus[place], 0);
        sqe
    }

    /// Blocks that read as zeros afterwards: Write Zeroes, which promises it, or a Write of one
    /// page of zeros, over and over. Dataset Management promises nothing.
    fn zeroes(&self, piece: &Work, cid: u16) -> Sqe {
        let has_command = self.zeroes_blocks.is_some();
        let opcode = if has_command { nvm::WRITE_ZEROES } else { nvm::WRITE };
        let mut sqe = Sqe::new(opcode, cid, self.nsid);
        sqe.set_slba(piece.lba);
        sqe.set_blocks(piece.blocks);
        if piece.flags.has(IoFlags::FUA) {
            sqe.set_fua();
        }
        let may = piece.op == Op::Deallocate || piece.flags.has(IoFlags::MAY_DEALLOCATE);
        if has_command {
            if may && self.deallocates {
                sqe.set_deac();
            }
            return sqe;
        }
        let place = Places::<()>::number(cid);
        let bytes = piece.blocks as usize * self.block_bytes as usize;
        let (prp1, prp2) = prps(
            0,
            bytes,
            || self.list_bus[place],
            |address| self.zeros + (address % PAGE_BYTES) as u64,
            |at, entry| self.lists.put_u64(place * LIST_ENTRIES + at, entry),
        );
        sqe.set_prps(prp1, prp2);
        sqe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quadwords_are_those_of_the_structure() {
        let (cid, nsid, lba, blocks) = (0x8123u16, 0x0405_0607u32, 0x1122_3344_5566_7788u64, 9u32);
        for (opcode, fua) in [(nvm::READ, false), (nvm::WRITE, true)] {
            let mut sqe = Sqe::new(opcode, cid, nsid);
            sqe.set_slba(lba);
            sqe.set_blocks(blocks);
            sqe.set_prps(0x1000, 0x2000);
            if fua {
                sqe.set_fua();
            }
            let name = u64::from(opcode) | u64::from(cid) << 16 | u64::from(nsid) << 32;
            let length = u64::from(blocks - 1) | u64::from(fua) << 30;
            assert_eq!(words(sqe), [name, 0, 0, 0x1000, 0x2000, lba, length, 0]);
        }
    }
}
