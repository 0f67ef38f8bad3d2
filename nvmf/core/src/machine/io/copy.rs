//! Copy (NVM Command Set Specification, "Copy command"): blocks read into a buffer of the target and
//! written, piece after piece.
//!
//! A piece is a part of the destination. It is gathered from as many source ranges as it takes, and
//! written by one operation that ends on a boundary of its size, so that what is atomic in a Write
//! is atomic here ("Copy atomicity").

use super::Execution;
use super::command::{Command, Fault, Verb};
use super::execute::Submission;
use crate::export::controller::Location;
use crate::limits::{COPY_BYTES, NAMESPACES, copy_range_blocks};
use crate::machine::answer::{Answer, Next};
use crate::machine::request::{Request, Step};
use bdev::{Geometry, IoFlags, Op};
use nvme_spec::copy::SourceRange;
use nvme_spec::{Sqe, Status};
use zerocopy::{FromZeros, IntoBytes};

/// Why a Copy cannot go on: the fault, and the first source range that is not copied.
type Stop = (Fault, u32);

impl Execution<'_, '_> {
    /// Reads the next blocks of the piece under way, or writes the piece when it is whole. All
    /// ranges are checked before the first.
    #[inline(never)]
    pub(super) fn copy_next(&mut self, at: u32, command: Command) -> Next {
        let progress = self.requests[at].io_ref().progress;
        if progress.done | progress.filled == 0
            && let Err((fault, range)) = self.check_copy(at)
        {
            return Next::Ends(Answer { dw0: range, ..fault.into() });
        }
        let request = &self.requests[at];
        let block_bytes = self.spaces.get(request.io_ref().space).geometry.block_bytes;
        let piece = piece_blocks(request, block_bytes);
        if piece == 0 {
            return Next::ends(Status::SUCCESS);
        }
        if progress.filled < piece {
            return self.copy_read(at, piece, block_bytes);
        }
        let io = Submission {
            op: Op::Write,
            flags: command.flags,
            lba: command.lba + u64::from(progress.done),
            blocks: piece,
            data: request.scratch(piece * block_bytes),
        };
        // Where the gate stops it, it comes here again, with the piece as it is.
        self.step_write(at, Step::CopyWrite, io)
    }

    fn copy_read(&mut self, at: u32, piece: u32, block_bytes: u32) -> Next {
        let request = &mut self.requests[at];
        let (range, lba, blocks) = next_source(request, piece);
        let offset = (request.io_ref().progress.filled * block_bytes) as usize;
        let data = request.scratch(piece * block_bytes);
        let data = data.sub(offset, (blocks * block_bytes) as usize);
        let io = Submission { op: Op::Read, flags: IoFlags::NONE, lba, blocks, data };
        let nsid = range.snsid.get();
        if has_namespaces(request) && nsid != request.sqe().nsid() {
            let Some(source) = self.qpairs.io(request.qpair()).space(nsid, self.spaces) else {
                let fault = Fault::at(Status::INVALID_NAMESPACE, Location::DPTR);
                return self.copy_failed(at, fault.into());
            };
            self.spaces.get_mut(source).commands += 1;
            request.io().progress.source = Some(source);
        }
        self.step(at, Step::CopyRead, io)
    }

    /// A read has ended well.
    pub(super) fn copy_read_done(&mut self, at: u32) {
        self.leave_source(at);
        let request = &mut self.requests[at];
        let block_bytes = self.spaces.get(request.io_ref().space).geometry.block_bytes;
        let piece = piece_blocks(request, block_bytes);
        let (_, _, blocks) = next_source(request, piece);
        request.io().progress.filled += blocks;
    }

    /// The write of a piece has ended well. Whether it was the last.
    pub(super) fn copy_write_done(&mut self, at: u32) -> bool {
        let request = &mut self.requests[at];
        let progress = &mut request.io().progress;
        progress.done += std::mem::take(&mut progress.filled);
        let block_bytes = self.spaces.get(request.io_ref().space).geometry.block_bytes;
        piece_blocks(request, block_bytes) == 0
    }

    /// A step has failed, or the command is not to go on: the host is told how far it came.
    #[inline(never)]
    pub(super) fn copy_failed(&mut self, at: u32, answer: Answer) -> Next {
        self.leave_source(at);
        let dw0 = ranges_copied(&self.requests[at]);
        Next::Ends(Answer { dw0, ..answer })
    }

    /// The namespace of a source range is not read any more.
    fn leave_source(&mut self, at: u32) {
        if let Some(source) = self.requests[at].io().progress.source.take() {
            self.spaces.leave(source);
        }
    }

    fn check_copy(&mut self, at: u32) -> Result<(), Stop> {
        let request = &self.requests[at];
        let command = request.io_ref().command;
        let (own, with_namespaces) = (request.sqe().nsid(), has_namespaces(request));
        let geometry = self.spaces.get(request.io_ref().space).geometry.clone();
        let limit = COPY_BYTES / geometry.block_bytes;
        let mut total: u32 = 0;
        for number in 0..source_count(request) {
            let range = source(&self.requests[at], number);
            let stop = |status| (Fault::at(status, Location::DPTR), number);
            let blocks = range.blocks();
            if blocks > u32::from(copy_range_blocks(geometry.block_bytes)) {
                return Err(stop(Status::COMMAND_SIZE_LIMIT));
            }
            total += blocks;
            let (slba, many) = (range.slba.get(), u64::from(blocks));
            let nsid = if with_namespaces { range.snsid.get() } else { own };
            if nsid == own {
                if !geometry.contains(slba, many) {
                    return Err(stop(Status::LBA_OUT_OF_RANGE));
                }
                continue;
            }
            let of = self.source_geometry(at, nsid).map_err(stop)?;
            if of.block_bytes != geometry.block_bytes {
                return Err(stop(Status::INCOMPATIBLE_NAMESPACE));
            }
            if !of.contains(slba, many) {
                return Err(stop(Status::LBA_OUT_OF_RANGE));
            }
        }
        let stop = |status, location| (Fault::at(status, location), 0);
        if total > limit {
            return Err(stop(Status::COMMAND_SIZE_LIMIT, Location::DPTR));
        }
        if !geometry.contains(command.lba, u64::from(total)) {
            return Err(stop(Status::LBA_OUT_OF_RANGE, Location::SLBA));
        }
        if with_namespaces {
            check_options(&self.requests[at], own, command.lba, total)?;
        }
        Ok(())
    }

    /// The geometry of the namespace of a source range.
    fn source_geometry(&mut self, at: u32, nsid: u32) -> Result<Geometry, Status> {
        if nsid == 0 || nsid == Sqe::NSID_ALL || nsid > NAMESPACES {
            return Err(Status::INVALID_NAMESPACE);
        }
        let queue = self.qpairs.io(self.requests[at].qpair());
        let space = queue.space(nsid, self.spaces).ok_or(Status::INVALID_FIELD)?;
        Ok(self.spaces.get(space).geometry.clone())
    }
}

/// What only ranges with namespaces have: Fast Copy Only, and no overlap with the destination.
fn check_options(request: &Request, own: u32, lba: u64, total: u32) -> Result<(), Stop> {
    for (range, number) in sources(request).zip(0..) {
        let stop = |status| Err((Fault::at(status, Location::DPTR), number));
        if range.fast_only() {
            return stop(Status::FAST_COPY_NOT_POSSIBLE);
        }
        let (slba, blocks) = (range.slba.get(), u64::from(range.blocks()));
        if range.snsid.get() == own && slba < lba + u64::from(total) && lba < slba + blocks {
            return stop(Status::OVERLAPPING_RANGE);
        }
    }
    Ok(())
}

/// Whether the ranges name their namespaces (format 2h).
fn has_namespaces(request: &Request) -> bool {
    request.io_ref().command.verb == (Verb::Copy { with_namespaces: true })
}

fn source_count(request: &Request) -> u32 {
    request.io_ref().command.bytes / size_of::<SourceRange>() as u32
}

/// Source range number `number`.
fn source(request: &Request, number: u32) -> SourceRange {
    let mut range = SourceRange::new_zeroed();
    let data = request.data(request.io_ref().command.bytes);
    data.copy_out(number as usize * size_of::<SourceRange>(), range.as_mut_bytes());
    range
}

/// The source ranges, in their order.
fn sources(request: &Request) -> impl Iterator<Item = SourceRange> + '_ {
    (0..source_count(request)).map(|number| source(request, number))
}

/// Blocks of the piece under way; 0 when all are written.
fn piece_blocks(request: &Request, block_bytes: u32) -> u32 {
    let total: u32 = sources(request).map(|range| range.blocks()).sum();
    let most = request.needs().scratch_bytes / block_bytes;
    let io = request.io_ref();
    let from = io.command.lba + u64::from(io.progress.done);
    let to_boundary = most - (from % u64::from(most)) as u32;
    (total - io.progress.done).min(to_boundary)
}

/// Where the next blocks of a piece of `piece` blocks are: their range, first block and number.
fn next_source(request: &Request, piece: u32) -> (SourceRange, u64, u32) {
    let progress = request.io_ref().progress;
    let mut skip = progress.done + progress.filled;
    for range in sources(request) {
        let blocks = range.blocks();
        if skip < blocks {
            let lba = range.slba.get() + u64::from(skip);
            return (range, lba, (blocks - skip).min(piece - progress.filled));
        }
        skip -= blocks;
    }
    unreachable!("a piece is of blocks that the ranges have")
}

/// How many ranges, from the first, are copied as a whole.
fn ranges_copied(request: &Request) -> u32 {
    let mut end = 0;
    let whole = sources(request).take_while(|range| {
        end += range.blocks();
        end <= request.io_ref().progress.done
    });
    whole.count() as u32
}
