//! Commands of several steps: Verify, Dataset Management, Flush of all namespaces.

use super::Execution;
use super::command::{Command, Fault};
use super::execute::Submission;
use crate::export::controller::Location;
use crate::limits::{DATASET_BLOCKS, DATASET_RANGE_BLOCKS, DEALLOCATE_PIECE_BYTES};
use crate::machine::answer::Next;
use crate::machine::job::{Job, Progress};
use crate::machine::request::{Request, Step};
use bdev::{DmaSlice, Geometry, IoFlags, Op};
use nvme_spec::Status;
use nvme_spec::dsm::Range;
use zerocopy::{FromZeros, IntoBytes};

impl Execution<'_, '_> {
    /// Reads the next piece of what is to be verified.
    #[inline(never)]
    pub(super) fn verify_next(&mut self, at: u32, command: Command) -> Next {
        let request = &mut self.requests[at];
        let done = request.io_ref().progress.done;
        let left = command.blocks - done;
        if left == 0 {
            return Next::ends(Status::SUCCESS);
        }
        let block_bytes = self.spaces.get(request.io_ref().space).geometry.block_bytes;
        let blocks = left.min(request.needs().scratch_bytes / block_bytes);
        let lba = command.lba + u64::from(done);
        let data = request.scratch(blocks * block_bytes);
        request.io().progress.done += blocks;
        let io = Submission { op: Op::Read, flags: IoFlags::NONE, lba, blocks, data };
        self.step(at, Step::VerifyRead, io)
    }

    /// Deallocates the next piece of a range. All ranges are checked before the first.
    #[inline(never)]
    pub(super) fn ranges_next(&mut self, at: u32, deallocate: bool) -> Next {
        let request = &mut self.requests[at];
        let Progress { done, filled, .. } = request.io_ref().progress;
        let geometry = &self.spaces.get(request.io_ref().space).geometry;
        if done | filled == 0
            && let Err(fault) = check_ranges(request, geometry)
        {
            return Next::Ends(fault.into());
        }
        let Some(number) = next_range(request).filter(|_| deallocate) else {
            return Next::ends(Status::SUCCESS);
        };
        let range = range(request, number);
        let lba = range.slba.get() + u64::from(filled);
        let most = DEALLOCATE_PIECE_BYTES / geometry.block_bytes;
        let to_boundary = most - (lba % u64::from(most)) as u32;
        let io = Submission {
            op: Op::Deallocate,
            flags: IoFlags::NONE,
            lba,
            blocks: (range.blocks.get() - filled).min(to_boundary),
            data: DmaSlice::EMPTY,
        };
        // Where the gate stops it, it comes here again: the piece counts once it is done.
        request.io().progress.done = number;
        request.io().progress.piece = io.blocks;
        self.step_write(at, Step::Range, io)
    }

    /// A piece of a range is deallocated. Whether it was the last.
    pub(super) fn range_done(&mut self, at: u32) -> bool {
        let request = &mut self.requests[at];
        let whole = range(request, request.io_ref().progress.done).blocks.get();
        let progress = &mut request.io().progress;
        progress.filled += progress.piece;
        if progress.filled == whole {
            (progress.done, progress.filled) = (progress.done + 1, 0);
        }
        next_range(request).is_none()
    }

    /// Flushes the next namespace of the subsystem that hosts see.
    #[inline(never)]
    pub(super) fn flush_next(&mut self, at: u32) -> Next {
        let request = &mut self.requests[at];
        let queue = self.qpairs.io(request.qpair());
        let Job::FlushAll { nsid: last, space } = request.job_mut() else {
            unreachable!("a flush of all namespaces")
        };
        if let Some(space) = space.take() {
            self.spaces.leave(space);
        }
        while let Some(nsid) = queue.subsystem().next_namespace(*last) {
            *last = nsid;
            if let Some(found) = queue.space(nsid, self.spaces)
                && self.spaces.get(found).namespace.is_active()
            {
                *space = Some(found);
                self.spaces.get_mut(found).commands += 1;
                if let Some(lost) = self.tell_loss(at) {
                    return Next::Ends(lost);
                }
                return self.step(at, Step::FlushOne, Submission::FLUSH);
            }
        }
        Next::ends(Status::SUCCESS)
    }
}

fn range_count(request: &Request) -> u32 {
    request.io_ref().command.bytes / size_of::<Range>() as u32
}

/// Range number `number` of a Dataset Management command.
fn range(request: &Request, number: u32) -> Range {
    let mut range = Range::new_zeroed();
    let data = request.data(request.io_ref().command.bytes);
    data.copy_out(number as usize * size_of::<Range>(), range.as_mut_bytes());
    range
}

/// The range that is deallocated next: the first one with blocks that is not done.
fn next_range(request: &Request) -> Option<u32> {
    let done = request.io_ref().progress.done;
    (done..range_count(request)).find(|number| range(request, *number).blocks.get() > 0)
}

fn check_ranges(request: &Request, geometry: &Geometry) -> Result<(), Fault> {
    let mut total = 0;
    for number in 0..range_count(request) {
        let range = range(request, number);
        let blocks = u64::from(range.blocks.get());
        total += blocks;
        if blocks > u64::from(DATASET_RANGE_BLOCKS) || total > DATASET_BLOCKS {
            return Err(Fault::at(Status::COMMAND_SIZE_LIMIT, Location::DPTR));
        }
        if !geometry.contains(range.slba.get(), blocks) {
            return Err(Fault::at(Status::LBA_OUT_OF_RANGE, Location::DPTR));
        }
    }
    Ok(())
}
