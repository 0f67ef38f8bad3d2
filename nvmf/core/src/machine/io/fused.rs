//! Fused Compare and Write (NVM Command Set Specification, "Fused Operation").
//!
//! The two commands come next to each other on one queue. Both get their data, then the pair takes
//! hold of its blocks at the gate of the namespace, reads, compares and writes.

use super::execute::Submission;
use crate::export::controller::Location;
use crate::limits::COMPARE_AND_WRITE_BYTES;
use crate::machine::io::command::{Command, Fault, Verb};
use crate::machine::qpair::Role;
use crate::machine::request::{Answer, Job, Pair, State, Step};
use crate::machine::target::Target;
use crate::machine::transport::Transport;
use bdev::{EdgeCx, Op};
use nvme_spec::{Fuse, Status};

impl<T: Transport> Target<T> {
    /// A command that is part of a fused pair, or comes where the second of a pair should.
    #[cold]
    pub(super) fn start_fused(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &mut self.requests[at as usize];
        let Some(qpair) = self.qpairs.get_mut(request.qpair) else { unreachable!("just found") };
        let Role::Io(queue) = &mut qpair.role else { unreachable!("an I/O queue") };
        let first = queue.first_of_pair.take();
        let fuse = request.sqe.fuse();
        if let Some(first) = first {
            if fuse == Fuse::Second {
                return self.start_pair(first, at, cx);
            }
            self.finish(first, Answer::status(Status::ABORTED_MISSING_FUSED), cx);
        }
        match fuse {
            Fuse::None => self.start_single(at, cx),
            Fuse::First => self.hold_first(at),
            Fuse::Second => self.finish(at, Answer::status(Status::ABORTED_MISSING_FUSED), cx),
            Fuse::Reserved => {
                self.finish(at, Fault::at(Status::INVALID_FIELD, Location::FUSE).into(), cx)
            }
        }
    }

    fn hold_first(&mut self, at: u32) {
        let request = &mut self.requests[at as usize];
        request.state = State::FirstOfPair;
        let Some(qpair) = self.qpairs.get_mut(request.qpair) else { unreachable!("just found") };
        let Role::Io(queue) = &mut qpair.role else { unreachable!("an I/O queue") };
        queue.first_of_pair = Some(at);
    }

    fn start_pair(&mut self, first: u32, second: u32, cx: &mut EdgeCx<'_>) {
        match self.prepare_pair(first, second) {
            Ok(()) => {
                self.requests[first as usize].pair = Pair::First(second);
                self.requests[second as usize].pair = Pair::Second(first);
                self.need_buffers(first, cx);
            }
            Err((wrong, answer)) => {
                let other = Answer::status(Status::ABORTED_FAILED_FUSED);
                let (a, b) = if wrong == first { (answer, other) } else { (other, answer) };
                self.finish(first, a, cx);
                self.finish(second, b, cx);
            }
        }
    }

    /// Checks both halves. The error says which one is to blame.
    fn prepare_pair(&mut self, first: u32, second: u32) -> Result<(), (u32, Answer)> {
        for at in [first, second] {
            if let Some(status) = self.requests[at as usize].doomed {
                return Err((at, Answer::status(status)));
            }
            self.prepare(at).map_err(|fault| (at, fault.into()))?;
        }
        let blame = |at, location| Err((at, Fault::at(Status::INVALID_FIELD, location).into()));
        let of = |at: u32| match self.requests[at as usize].job {
            Job::Io(command) => Some((command, self.requests[at as usize].sqe.nsid())),
            _ => None,
        };
        let Some((compare, nsid)) = of(first).filter(|c| c.0.verb == Verb::Compare) else {
            return blame(first, Location::FUSE);
        };
        let Some((write, other_nsid)) = of(second).filter(|c| c.0.verb == Verb::Write) else {
            return blame(second, Location::FUSE);
        };
        if nsid != other_nsid {
            return blame(second, Location::NSID);
        }
        if (compare.lba, compare.blocks) != (write.lba, write.blocks) {
            return blame(second, Location::SLBA);
        }
        if compare.bytes > COMPARE_AND_WRITE_BYTES {
            let fault = Fault::at(Status::ATOMIC_WRITE_UNIT, Location::NLB);
            return Err((first, fault.into()));
        }
        Ok(())
    }

    /// The request that acts for a pair: its first half; a command on its own acts for itself.
    pub(crate) fn leader(&self, at: u32) -> u32 {
        match self.requests[at as usize].pair {
            Pair::Second(first) => first,
            _ => at,
        }
    }

    pub(super) fn leads_pair(&self, at: u32) -> bool {
        matches!(self.requests[at as usize].pair, Pair::First(_))
    }

    fn second(&self, first: u32) -> u32 {
        match self.requests[first as usize].pair {
            Pair::First(second) => second,
            other => unreachable!("the first of a pair, not {other:?}"),
        }
    }

    /// Ends a doomed command, with its other half.
    pub(crate) fn end_doomed(&mut self, leader: u32, cx: &mut EdgeCx<'_>) {
        let other = Status::ABORTED_FAILED_FUSED;
        let status = |this: &Self, at: u32| this.requests[at as usize].doomed.unwrap_or(other);
        let first = Answer::status(status(self, leader));
        if !self.leads_pair(leader) {
            return self.finish(leader, first, cx);
        }
        let second = Answer::status(status(self, self.second(leader)));
        self.end_pair(leader, first, second, cx);
    }

    fn is_pair_doomed(&self, first: u32) -> bool {
        let second = self.second(first);
        [first, second].iter().any(|at| self.requests[*at as usize].doomed.is_some())
    }

    /// Both halves have their data.
    pub(crate) fn gate_pair(&mut self, first: u32, cx: &mut EdgeCx<'_>) {
        self.try_pair(first, cx);
    }

    /// Takes hold of the pair's blocks and reads them, or gets in line at the gate.
    pub(super) fn try_pair(&mut self, first: u32, cx: &mut EdgeCx<'_>) {
        let doomed = self.is_pair_doomed(first);
        let second = self.second(first);
        let request = &mut self.requests[first as usize];
        let Command { lba, blocks, bytes, .. } = request.command();
        let gate = self.spaces.get(request.space).namespace.gate();
        if request.lock.is_none() {
            if doomed {
                return self.end_doomed(first, cx);
            }
            request.lock = gate.lock(lba, u64::from(blocks));
        }
        if !request.lock.as_mut().is_some_and(|lock| gate.is_drained(lock)) {
            request.state = State::Gated;
            self.requests[second as usize].state = State::Gated;
            return self.gated.push_back(first);
        }
        if doomed {
            return self.end_doomed(first, cx);
        }
        let data = request.scratch(bytes);
        self.requests[second as usize].state = State::Executing(Step::PairRead);
        let flags = bdev::IoFlags::NONE;
        let io = Submission { op: Op::Read, flags, lba, blocks, data };
        self.step(first, Step::PairRead, io, cx);
    }

    /// The blocks of a pair have been read: compares, and writes if they are as expected.
    pub(super) fn pair_read(&mut self, first: u32, command: Command, cx: &mut EdgeCx<'_>) {
        let second = self.second(first);
        if self.is_pair_doomed(first) {
            return self.end_doomed(first, cx);
        }
        let compared = self.compare(first, command.bytes);
        if !compared.is_success() {
            return self.pair_failed(first, Answer::status(compared), cx);
        }
        let request = &self.requests[second as usize];
        let Command { lba, blocks, bytes, flags, .. } = request.command();
        let io = Submission { op: Op::Write, flags, lba, blocks, data: request.data(bytes) };
        self.requests[first as usize].state = State::Executing(Step::PairWrite);
        self.step(second, Step::PairWrite, io, cx);
    }

    /// The compare has failed, in whatever way: nothing is written.
    pub(super) fn pair_failed(&mut self, first: u32, answer: Answer, cx: &mut EdgeCx<'_>) {
        self.end_pair(first, answer, Answer::status(Status::ABORTED_FAILED_FUSED), cx);
    }

    /// The write of a pair has ended.
    pub(super) fn pair_written(&mut self, second: u32, answer: Answer, cx: &mut EdgeCx<'_>) {
        let first = self.leader(second);
        self.end_pair(first, Answer::status(Status::SUCCESS), answer, cx);
    }

    fn end_pair(&mut self, first: u32, a: Answer, b: Answer, cx: &mut EdgeCx<'_>) {
        let second = self.second(first);
        let request = &mut self.requests[first as usize];
        if let Some(lock) = request.lock.take() {
            self.spaces.get(request.space).namespace.gate().unlock(lock);
        }
        self.finish(first, a, cx);
        self.finish(second, b, cx);
    }
}
