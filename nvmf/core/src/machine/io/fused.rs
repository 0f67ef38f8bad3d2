//! Fused Compare and Write (NVM Command Set Specification, "Fused Operation").
//!
//! The two commands come next to each other on one queue. Both get their data, then the pair takes
//! hold of its blocks at the gate of the namespace, reads, compares and writes.

use super::Execution;
use super::command::{Command, Fault, Verb};
use super::execute::Submission;
use super::plan::plan;
use crate::export::controller::Location;
use crate::limits::COMPARE_AND_WRITE_BYTES;
use crate::machine::answer::{Answer, Next};
use crate::machine::job::Pair;
use crate::machine::request::{Requests, Stage, Step};
use bdev::{IoFlags, Noted, Op};
use nvme_spec::Status;

/// The request that acts for a pair: its first half; a command on its own acts for itself.
pub(crate) fn leader(requests: &Requests, at: u32) -> u32 {
    match requests[at].pair() {
        Pair::Second { first } => *first,
        _ => at,
    }
}

/// The second half of the pair that `at` leads, if it leads one.
#[inline]
pub(crate) fn second(requests: &Requests, at: u32) -> Option<u32> {
    match requests[at].pair() {
        Pair::First { second, .. } => Some(*second),
        _ => None,
    }
}

impl Execution<'_, '_> {
    /// Both halves of a pair are there: checks and joins them. If that cannot be, both end.
    pub(crate) fn plan_pair(&mut self, first: u32, second: u32) -> Result<(), Next> {
        match self.check_pair(first, second) {
            Ok(()) => {
                self.requests[first].io().pair = Pair::First { second, lock: None };
                self.requests[second].io().pair = Pair::Second { first };
                Ok(())
            }
            Err((wrong, answer)) => {
                let other = Answer::status(Status::ABORTED_FAILED_FUSED);
                let (a, b) = if wrong == first { (answer, other) } else { (other, answer) };
                Err(Next::PairEnds { first: (first, a), second: (second, b) })
            }
        }
    }

    /// Checks both halves. The error says which one is to blame.
    fn check_pair(&mut self, first: u32, second: u32) -> Result<(), (u32, Answer)> {
        for at in [first, second] {
            let request = &mut self.requests[at];
            if let Some(status) = request.doomed() {
                return Err((at, Answer::status(status)));
            }
            let queue = self.qpairs.io(request.qpair());
            plan(request, queue, self.spaces).map_err(|fault| {
                self.refused = true;
                (at, fault.into())
            })?;
        }
        let blame = |at, location| Err((at, Fault::at(Status::INVALID_FIELD, location).into()));
        let of = |at: u32| {
            let command = self.requests[at].job().command();
            command.map(|command| (command, self.requests[at].sqe().nsid()))
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

    #[inline]
    fn second(&self, first: u32) -> u32 {
        second(self.requests, first).expect("the first of a pair has a second")
    }

    /// A doomed command ends, with its other half.
    pub(crate) fn end_doomed(&mut self, leader: u32) -> Next {
        let other = Status::ABORTED_FAILED_FUSED;
        let status = |at: u32| Answer::status(self.requests[at].doomed().unwrap_or(other));
        match second(self.requests, leader) {
            None => Next::Ends(status(leader)),
            Some(second) => {
                let (a, b) = (status(leader), status(second));
                self.end_pair(leader, a, b)
            }
        }
    }

    fn is_pair_doomed(&self, first: u32) -> bool {
        let second = self.second(first);
        [first, second].iter().any(|at| self.requests[*at].doomed().is_some())
    }

    /// Both halves have their data: takes hold of the pair's blocks and reads them, or gets in line
    /// at the gate.
    #[inline(never)]
    pub(super) fn try_pair(&mut self, first: u32) -> Next {
        let doomed = self.is_pair_doomed(first);
        let second = self.second(first);
        let is_locked = matches!(self.requests[first].pair(), Pair::First { lock: Some(_), .. });
        if !doomed && !is_locked {
            match self.note_writer(second) {
                Noted::Yes | Noted::Needless => {}
                Noted::Pending => {
                    self.requests[second].set_stage(Stage::Gated);
                    return self.wait_at_gate(first);
                }
                Noted::No => {
                    return self.pair_failed(first, Answer::status(Status::INTERNAL_ERROR));
                }
            }
        }
        let request = &mut self.requests[first];
        let io = request.io();
        let Command { lba, blocks, bytes, .. } = io.command;
        let gate = self.spaces.get(io.space).namespace.gate();
        let Pair::First { lock, .. } = &mut io.pair else { unreachable!("it has a second") };
        if lock.is_none() {
            if doomed {
                return self.end_doomed(first);
            }
            *lock = gate.lock(lba, u64::from(blocks));
        }
        if !lock.as_mut().is_some_and(|lock| gate.is_drained(lock)) {
            request.set_stage(Stage::Gated);
            self.requests[second].set_stage(Stage::Gated);
            self.gated.push_back(first);
            return Next::Waits;
        }
        if doomed {
            return self.end_doomed(first);
        }
        let data = request.scratch(bytes);
        // Neither half can be stopped alone: both are where the pair is.
        self.requests[second].set_stage(Stage::Executing { step: Step::PairRead, pass: None });
        let io = Submission { op: Op::Read, flags: IoFlags::NONE, lba, blocks, data };
        self.step(first, Step::PairRead, io)
    }

    /// The blocks of a pair have been read: compares, and writes if they are as expected.
    pub(super) fn pair_read(&mut self, first: u32) -> Next {
        let second = self.second(first);
        if self.is_pair_doomed(first) {
            return self.end_doomed(first);
        }
        let bytes = self.requests[first].io_ref().command.bytes;
        let compared = self.compare(first, bytes);
        if !compared.is_success() {
            return self.pair_failed(first, Answer::status(compared));
        }
        let request = &self.requests[second];
        let Command { lba, blocks, bytes, flags, .. } = request.io_ref().command;
        let io = Submission { op: Op::Write, flags, lba, blocks, data: request.data(bytes) };
        self.requests[first].set_stage(Stage::Executing { step: Step::PairWrite, pass: None });
        self.step(second, Step::PairWrite, io)
    }

    /// The compare has failed, in whatever way: nothing is written.
    pub(super) fn pair_failed(&mut self, first: u32, answer: Answer) -> Next {
        self.end_pair(first, answer, Answer::status(Status::ABORTED_FAILED_FUSED))
    }

    /// The write of a pair has ended.
    pub(super) fn pair_written(&mut self, second: u32, answer: Answer) -> Next {
        let first = leader(self.requests, second);
        self.end_pair(first, Answer::status(Status::SUCCESS), answer)
    }

    fn end_pair(&mut self, first: u32, a: Answer, b: Answer) -> Next {
        let second = self.second(first);
        let io = self.requests[first].io();
        if let Pair::First { lock, .. } = &mut io.pair
            && let Some(lock) = lock.take()
        {
            self.spaces.get(io.space).namespace.gate().unlock(lock);
        }
        Next::PairEnds { first: (first, a), second: (second, b) }
    }
}
