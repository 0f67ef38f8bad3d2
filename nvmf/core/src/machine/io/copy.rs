//! Copy (NVM Command Set Specification, "Copy command"): blocks read into a buffer of the target and
//! written, piece after piece.
//!
//! A piece is a part of the destination. It is gathered from as many source ranges as it takes, and
//! written by one operation that ends on a boundary of its size, so that what is atomic in a Write
//! is atomic here ("Copy atomicity").

use super::execute::Submission;
use crate::export::controller::Location;
use crate::limits::{COPY_BYTES, COPY_PIECE_BYTES, NAMESPACES, copy_range_blocks};
use crate::machine::io::command::{Command, Fault, Verb};
use crate::machine::place::NONE;
use crate::machine::qpair::Role;
use crate::machine::request::{Answer, Job, Request, Step};
use crate::machine::target::Target;
use crate::machine::transport::Transport;
use bdev::limits::MAX_TRANSFER_BYTES;
use bdev::{EdgeCx, Geometry, IoFlags, Op};
use nvme_spec::copy::SourceRange;
use nvme_spec::{Sqe, Status};
use zerocopy::{FromZeros, IntoBytes};

/// Why a Copy cannot go on: the fault, and the first source range that is not copied.
type Stop = (Fault, u32);

impl<T: Transport> Target<T> {
    /// Reads the next blocks of the piece under way, or writes the piece when it is whole. All
    /// ranges are checked before the first.
    pub(super) fn copy_next(&mut self, at: u32, command: Command, cx: &mut EdgeCx<'_>) {
        let request = &self.requests[at as usize];
        if request.progress | request.filled == 0
            && let Err((fault, range)) = self.check_copy(at)
        {
            return self.finish(at, Answer { dw0: range, ..fault.into() }, cx);
        }
        let request = &self.requests[at as usize];
        let block_bytes = self.spaces.get(request.space).geometry.block_bytes;
        let piece = piece_blocks(request, block_bytes);
        if piece == 0 {
            return self.finish(at, Answer::status(Status::SUCCESS), cx);
        }
        if request.filled < piece {
            return self.copy_read(at, piece, block_bytes, cx);
        }
        let io = Submission {
            op: Op::Write,
            flags: command.flags,
            lba: command.lba + u64::from(request.progress),
            blocks: piece,
            data: request.scratch(piece * block_bytes),
        };
        // Where the gate stops it, it comes here again, with the piece as it is.
        self.step_write(at, Step::CopyWrite, io, cx);
    }

    fn copy_read(&mut self, at: u32, piece: u32, block_bytes: u32, cx: &mut EdgeCx<'_>) {
        let request = &mut self.requests[at as usize];
        let (range, lba, blocks) = next_source(request, piece);
        let offset = (request.filled * block_bytes) as usize;
        let data = request.scratch(piece * block_bytes);
        let data = data.sub(offset, (blocks * block_bytes) as usize);
        let io = Submission { op: Op::Read, flags: IoFlags::NONE, lba, blocks, data };
        let nsid = range.snsid.get();
        if has_namespaces(request) && nsid != request.sqe.nsid() {
            let Some(qpair) = self.qpairs.get_mut(request.qpair) else { unreachable!("kept") };
            let Role::Io(queue) = &mut qpair.role else { unreachable!("an I/O queue") };
            let Some(source) = queue.space(nsid, &mut self.spaces) else {
                let fault = Fault::at(Status::INVALID_NAMESPACE, Location::DPTR);
                return self.copy_failed(at, fault.into(), cx);
            };
            self.spaces.get_mut(source).commands += 1;
            request.home = std::mem::replace(&mut request.space, source);
        }
        self.step(at, Step::CopyRead, io, cx);
    }

    /// A read has ended well.
    pub(super) fn copy_read_done(&mut self, at: u32) {
        self.leave_source(at);
        let request = &mut self.requests[at as usize];
        let block_bytes = self.spaces.get(request.space).geometry.block_bytes;
        let piece = piece_blocks(request, block_bytes);
        let (_, _, blocks) = next_source(request, piece);
        request.filled += blocks;
    }

    /// The write of a piece has ended well.
    pub(super) fn copy_write_done(&mut self, at: u32) {
        let request = &mut self.requests[at as usize];
        request.progress += std::mem::take(&mut request.filled);
    }

    /// A step has failed, or the command is not to go on: the host is told how far it came.
    pub(super) fn copy_failed(&mut self, at: u32, answer: Answer, cx: &mut EdgeCx<'_>) {
        self.leave_source(at);
        let dw0 = ranges_copied(&self.requests[at as usize]);
        self.finish(at, Answer { dw0, ..answer }, cx);
    }

    /// The namespace of a source range is not read any more.
    fn leave_source(&mut self, at: u32) {
        let request = &mut self.requests[at as usize];
        let home = std::mem::replace(&mut request.home, NONE);
        if home != NONE {
            self.spaces.leave(std::mem::replace(&mut request.space, home));
        }
    }

    fn check_copy(&mut self, at: u32) -> Result<(), Stop> {
        let request = &self.requests[at as usize];
        let command = request.command();
        let (own, with_namespaces) = (request.sqe.nsid(), has_namespaces(request));
        let geometry = self.spaces.get(request.space).geometry.clone();
        let limit = COPY_BYTES / geometry.block_bytes;
        let mut total: u32 = 0;
        for number in 0..source_count(request) {
            let range = source(&self.requests[at as usize], number);
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
            check_options(&self.requests[at as usize], own, command.lba, total)?;
        }
        Ok(())
    }

    /// The geometry of the namespace of a source range.
    fn source_geometry(&mut self, at: u32, nsid: u32) -> Result<Geometry, Status> {
        if nsid == 0 || nsid == Sqe::NSID_ALL || nsid > NAMESPACES {
            return Err(Status::INVALID_NAMESPACE);
        }
        let Some(qpair) = self.qpairs.get_mut(self.requests[at as usize].qpair) else {
            unreachable!("kept")
        };
        let Role::Io(queue) = &mut qpair.role else { unreachable!("an I/O queue") };
        let space = queue.space(nsid, &mut self.spaces).ok_or(Status::INVALID_FIELD)?;
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

/// Bytes of a piece: more than one atomic write of the destination, as far as a transfer goes.
pub(crate) fn piece_bytes(geometry: &Geometry) -> u32 {
    let atomic = geometry.atomic_blocks.saturating_mul(geometry.block_bytes);
    atomic.clamp(COPY_PIECE_BYTES, MAX_TRANSFER_BYTES).next_power_of_two()
}

/// Whether the ranges name their namespaces (format 2h).
fn has_namespaces(request: &Request) -> bool {
    matches!(request.job, Job::Io(Command { verb: Verb::Copy { with_namespaces: true }, .. }))
}

fn source_count(request: &Request) -> u32 {
    request.command().bytes / size_of::<SourceRange>() as u32
}

/// Source range number `number`.
fn source(request: &Request, number: u32) -> SourceRange {
    let mut range = SourceRange::new_zeroed();
    let data = request.data(request.command().bytes);
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
    let most = request.scratch_bytes / block_bytes;
    let from = request.command().lba + u64::from(request.progress);
    let to_boundary = most - (from % u64::from(most)) as u32;
    (total - request.progress).min(to_boundary)
}

/// Where the next blocks of a piece of `piece` blocks are: their range, first block and number.
fn next_source(request: &Request, piece: u32) -> (SourceRange, u64, u32) {
    let mut skip = request.progress + request.filled;
    for range in sources(request) {
        let blocks = range.blocks();
        if skip < blocks {
            let lba = range.slba.get() + u64::from(skip);
            return (range, lba, (blocks - skip).min(piece - request.filled));
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
        end <= request.progress
    });
    whole.count() as u32
}
