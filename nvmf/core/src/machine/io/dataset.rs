//! Commands of several steps: Verify, Dataset Management, Flush of all namespaces.

use super::execute::Submission;
use crate::export::controller::Location;
use crate::machine::io::command::{Command, Fault};
use crate::machine::place::NONE;
use crate::machine::qpair::Role;
use crate::machine::request::{Answer, Request, Step};
use crate::machine::target::Target;
use crate::machine::transport::Transport;
use bdev::{DmaSlice, EdgeCx, Geometry, IoFlags, Op};
use nvme_spec::Status;
use nvme_spec::dsm::Range;
use zerocopy::{FromZeros, IntoBytes};

impl<T: Transport> Target<T> {
    /// Reads the next piece of what is to be verified.
    pub(super) fn verify_next(&mut self, at: u32, command: Command, cx: &mut EdgeCx<'_>) {
        let request = &mut self.requests[at as usize];
        let left = command.blocks - request.progress;
        if left == 0 {
            return self.finish(at, Answer::status(Status::SUCCESS), cx);
        }
        let block_bytes = self.spaces.get(request.space).geometry.block_bytes;
        let blocks = left.min(request.scratch_bytes / block_bytes);
        let lba = command.lba + u64::from(request.progress);
        let data = request.scratch(blocks * block_bytes);
        request.progress += blocks;
        let io = Submission { op: Op::Read, flags: IoFlags::NONE, lba, blocks, data };
        self.step(at, Step::VerifyRead, io, cx);
    }

    /// Deallocates the next range. All are checked before the first.
    pub(super) fn ranges_next(&mut self, at: u32, deallocate: bool, cx: &mut EdgeCx<'_>) {
        let request = &self.requests[at as usize];
        if request.progress == 0
            && let Err(fault) = check_ranges(request, &self.spaces.get(request.space).geometry)
        {
            return self.finish(at, fault.into(), cx);
        }
        let total = range_count(request);
        let next =
            (request.progress..total).find(|number| range(request, *number).blocks.get() > 0);
        let Some(number) = next.filter(|_| deallocate) else {
            return self.finish(at, Answer::status(Status::SUCCESS), cx);
        };
        let range = range(request, number);
        let io = Submission {
            op: Op::Deallocate,
            flags: IoFlags::NONE,
            lba: range.slba.get(),
            blocks: range.blocks.get(),
            data: DmaSlice::EMPTY,
        };
        // Where the gate stops it, it comes here again: the range counts once it is let through.
        self.requests[at as usize].progress = number;
        if self.step_write(at, Step::Range, io, cx) {
            self.requests[at as usize].progress = number + 1;
        }
    }

    /// Flushes the next namespace of the subsystem that hosts see.
    pub(super) fn flush_next(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &mut self.requests[at as usize];
        if request.space != NONE {
            self.spaces.leave(request.space);
            request.space = NONE;
        }
        let Some(qpair) = self.qpairs.get_mut(request.qpair) else { unreachable!("kept") };
        let Role::Io(queue) = &mut qpair.role else { unreachable!("an I/O queue") };
        while let Some(nsid) = queue.subsystem.next_namespace(request.progress) {
            request.progress = nsid;
            if let Some(space) = queue.space(nsid, &mut self.spaces)
                && self.spaces.get(space).namespace.is_active()
            {
                request.space = space;
                self.spaces.get_mut(space).commands += 1;
                return self.step(at, Step::FlushOne, Submission::FLUSH, cx);
            }
        }
        self.finish(at, Answer::status(Status::SUCCESS), cx);
    }
}

fn range_count(request: &Request) -> u32 {
    request.command().bytes / size_of::<Range>() as u32
}

/// Range number `number` of a Dataset Management command.
fn range(request: &Request, number: u32) -> Range {
    let mut range = Range::new_zeroed();
    let data = request.data(request.command().bytes);
    data.copy_out(number as usize * size_of::<Range>(), range.as_mut_bytes());
    range
}

fn check_ranges(request: &Request, geometry: &Geometry) -> Result<(), Fault> {
    for number in 0..range_count(request) {
        let range = range(request, number);
        if !geometry.contains(range.slba.get(), u64::from(range.blocks.get())) {
            return Err(Fault::at(Status::LBA_OUT_OF_RANGE, Location::DPTR));
        }
    }
    Ok(())
}
