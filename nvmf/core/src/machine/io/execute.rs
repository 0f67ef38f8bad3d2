//! The steps of an I/O command through the stack.

use super::Execution;
use super::command::{Command, Fault, Verb};
use crate::export::gate::Pass;
use crate::machine::admission::admit_step;
use crate::machine::answer::{Answer, Next};
use crate::machine::job::{Job, Pair};
use crate::machine::request::{Stage, Step};
use bdev::{DmaSlice, Io, IoFlags, Noted, Op, Tag};
use nvme_spec::Status;

/// What goes to a channel.
#[derive(Clone, Copy)]
pub(super) struct Submission {
    pub(super) op: Op,
    pub(super) flags: IoFlags,
    pub(super) lba: u64,
    pub(super) blocks: u32,
    pub(super) data: DmaSlice,
}

impl Submission {
    pub(super) const FLUSH: Submission = Submission {
        op: Op::Flush,
        flags: IoFlags::NONE,
        lba: 0,
        blocks: 0,
        data: DmaSlice::EMPTY,
    };
}

impl Execution<'_, '_> {
    /// A command has what it needs, and ends early if it is to: the next step.
    #[inline(always)]
    pub(crate) fn go_on(&mut self, at: u32) -> Next {
        match self.requests[at].pair() {
            Pair::First { .. } => self.try_pair(at),
            _ => self.take_step(at),
        }
    }

    /// The step after one that has ended.
    #[inline(never)]
    pub(super) fn execute(&mut self, at: u32) -> Next {
        self.take_step(at)
    }

    /// What the command needs is there: the first step, or the next one. (In one piece with what it
    /// calls: this is the way of most commands.)
    #[inline(always)]
    fn take_step(&mut self, at: u32) -> Next {
        let request = &self.requests[at];
        if let Some(status) = request.doomed() {
            return self.end_early(at, status);
        }
        match request.job() {
            Job::Io(io) => {
                let (command, space, begins) = (io.command, io.space, io.progress.done == 0);
                // A forced read is of what is on the medium: what is in a volatile cache goes there
                // first.
                if command.flags.has(IoFlags::FUA)
                    && begins
                    && command.verb.reads()
                    && self.spaces.get(space).geometry.volatile_cache
                {
                    return self.step(at, Step::CommitFirst, Submission::FLUSH);
                }
                self.execute_verb(at, command)
            }
            Job::Flush { .. } => match self.tell_loss(at) {
                Some(lost) => Next::Ends(lost),
                None => self.step(at, Step::Whole, Submission::FLUSH),
            },
            Job::FlushAll { .. } => self.flush_next(at),
            other => unreachable!("{other:?} has no steps in the stack"),
        }
    }

    /// A command that was to end early has got as far as its next step.
    #[cold]
    fn end_early(&mut self, at: u32, status: Status) -> Next {
        let answer = Answer::status(status);
        match self.requests[at].job() {
            Job::Io(io) if matches!(io.command.verb, Verb::Copy { .. }) => {
                self.copy_failed(at, answer)
            }
            _ => Next::Ends(answer),
        }
    }

    #[inline(always)]
    fn execute_verb(&mut self, at: u32, command: Command) -> Next {
        let request = &self.requests[at];
        let Command { lba, blocks, bytes, flags, .. } = command;
        let io = |op, data| Submission { op, flags, lba, blocks, data };
        match command.verb {
            Verb::Read => {
                let io = io(Op::Read, request.data(bytes));
                self.begin_step(at, Step::Whole, io)
            }
            Verb::Write => {
                let io = io(Op::Write, request.data(bytes));
                self.step_write(at, Step::Whole, io)
            }
            Verb::WriteZeroes => {
                self.step_write(at, Step::Whole, io(Op::WriteZeroes, DmaSlice::EMPTY))
            }
            Verb::Compare => {
                let io = io(Op::Read, request.scratch(bytes));
                self.step(at, Step::CompareRead, io)
            }
            Verb::Verify => self.verify_next(at, command),
            Verb::Copy { .. } => self.copy_next(at, command),
            Verb::Ranges { deallocate } => self.ranges_next(at, deallocate),
        }
    }

    /// What has to be on the medium before a read is there.
    #[cold]
    fn committed(&mut self, at: u32, command: Command) -> Next {
        self.execute_verb(at, command)
    }

    /// Whether the host of a command is noted as one that writes there, so that it can be told of a
    /// loss. Where nobody keeps account it need not be.
    pub(super) fn note_writer(&mut self, at: u32) -> Noted {
        let request = &self.requests[at];
        let space = request.io_ref().space;
        let Some(witness) = self.spaces.get(space).namespace.witness() else {
            return Noted::Needless;
        };
        let nsid = request.sqe().nsid();
        let queue = self.qpairs.io(request.qpair());
        if queue.is_noted(nsid) {
            return Noted::Yes;
        }
        let host = queue.ctrl().association();
        let noted = witness.note(u128::from_be_bytes(host.host_id), &host.host_nqn);
        if noted == Noted::Yes {
            queue.set_noted(nsid, space);
        }
        noted
    }

    /// The answer to a Flush of a host that has something to hear first: what it wrote may be lost. A
    /// host tries again by itself what may be retried, and nobody would hear.
    pub(super) fn tell_loss(&mut self, at: u32) -> Option<Answer> {
        let request = &self.requests[at];
        let space = request.job().space()?;
        let witness = self.spaces.get(space).namespace.witness()?;
        let host = self.qpairs.io(request.qpair()).ctrl().association().host_id;
        let lost = witness.take_loss(u128::from_be_bytes(host));
        lost.then(|| Answer::status(Status::INTERNAL_ERROR.dnr()))
    }

    /// A command comes by again.
    pub(super) fn wait_at_gate(&mut self, at: u32) -> Next {
        self.requests[at].set_stage(Stage::Gated);
        self.gated.push_back(at);
        Next::Waits
    }

    /// Submits a step that writes, once its host is noted and no fused pair holds its blocks. Until
    /// then the command comes by again.
    pub(super) fn step_write(&mut self, at: u32, step: Step, io: Submission) -> Next {
        match self.note_writer(at) {
            Noted::Yes | Noted::Needless => {}
            Noted::Pending => return self.wait_at_gate(at),
            Noted::No => {
                return self.step_failed(at, step, Answer::status(Status::INTERNAL_ERROR));
            }
        }
        let request = &self.requests[at];
        let gate = self.spaces.get(request.io_ref().space).namespace.gate();
        match gate.enter(self.reactor, io.lba, u64::from(io.blocks)) {
            Some(pass) => self.submit(at, step, Some(pass), io),
            None => self.wait_at_gate(at),
        }
    }

    /// Submits a step to the command's namespace, or ends the command if that is not possible.
    #[inline(never)]
    pub(super) fn step(&mut self, at: u32, step: Step, io: Submission) -> Next {
        self.begin_step(at, step, io)
    }

    #[inline(always)]
    fn begin_step(&mut self, at: u32, step: Step, io: Submission) -> Next {
        self.submit(at, step, None, io)
    }

    #[inline(always)]
    fn submit(&mut self, at: u32, step: Step, pass: Option<Pass>, io: Submission) -> Next {
        let request = &mut self.requests[at];
        request.set_stage(Stage::Executing { step, pass });
        let space = request.job().space().expect("a step is of a namespace");
        let queue = self.qpairs.io(request.qpair());
        match admit_step(queue, space, (io.lba, u64::from(io.blocks)), self.spaces) {
            Ok((to, write_through)) => {
                let Submission { op, mut flags, lba, blocks, data } = io;
                if write_through && matches!(op, Op::Write | Op::WriteZeroes) {
                    flags = flags.with(IoFlags::FUA);
                }
                let (reply_to, reply_tag) = (self.cx.me, Tag(u64::from(at)));
                self.cx.submit(to, Io { op, flags, lba, blocks, data, reply_to, reply_tag });
                Next::Waits
            }
            Err(fault) => self.refused(at, step, fault),
        }
    }

    /// A step may not go on.
    #[cold]
    fn refused(&mut self, at: u32, step: Step, fault: Fault) -> Next {
        self.refused = true;
        self.step_ends(at);
        self.step_failed(at, step, fault.into())
    }

    /// A step is over: writes that wait for it may go on.
    #[inline]
    fn step_ends(&mut self, at: u32) -> Step {
        let request = &mut self.requests[at];
        let (step, pass) = request.step_ends();
        if let Some(pass) = pass {
            let space = request.io_ref().space;
            self.spaces.get(space).namespace.gate().leave(self.reactor, pass);
        }
        step
    }

    /// A step has ended in the stack.
    #[inline]
    pub(crate) fn step_done(&mut self, at: u32, status: Status) -> Next {
        let step = self.step_ends(at);
        if !status.is_success() {
            return self.step_failed(at, step, Answer::status(status));
        }
        match step {
            Step::Whole => {
                let reads = self.requests[at].job().command().filter(|c| c.verb == Verb::Read);
                let data_bytes = reads.map_or(0, |command| command.bytes);
                Next::Ends(Answer { data_bytes, ..Answer::status(status) })
            }
            Step::CompareRead => {
                let bytes = self.requests[at].io_ref().command.bytes;
                Next::ends(self.compare(at, bytes))
            }
            Step::CommitFirst => {
                let request = &self.requests[at];
                match (request.doomed(), request.io_ref().command) {
                    (Some(status), _) => Next::ends(status),
                    (None, command) => self.committed(at, command),
                }
            }
            Step::Range => {
                let last = self.range_done(at);
                self.more(at, last)
            }
            Step::VerifyRead => {
                let io = self.requests[at].io_ref();
                let last = io.progress.done == io.command.blocks;
                self.more(at, last)
            }
            Step::CopyWrite => {
                let last = self.copy_write_done(at);
                self.more(at, last)
            }
            Step::CopyRead => {
                self.copy_read_done(at);
                self.execute(at)
            }
            Step::FlushOne => self.execute(at),
            Step::PairRead => self.pair_read(at),
            Step::PairWrite => self.pair_written(at, Answer::status(status)),
        }
    }

    /// A step of several has ended, the `last` one or not: the next one is taken when others have had
    /// their turn.
    fn more(&mut self, at: u32, last: bool) -> Next {
        match last || self.requests[at].doomed().is_some() {
            true => self.execute(at),
            false => Next::Later,
        }
    }

    fn step_failed(&mut self, at: u32, step: Step, answer: Answer) -> Next {
        match step {
            Step::PairRead => self.pair_failed(at, answer),
            Step::PairWrite => self.pair_written(at, answer),
            Step::CopyRead | Step::CopyWrite => self.copy_failed(at, answer),
            _ => Next::Ends(answer),
        }
    }

    /// Whether what a Compare read is what the host sent.
    pub(super) fn compare(&self, at: u32, bytes: u32) -> Status {
        let request = &self.requests[at];
        match equal(request.data(bytes), request.scratch(bytes)) {
            true => Status::SUCCESS,
            false => Status::COMPARE_FAILURE,
        }
    }
}

/// Compares two pieces of DMA memory of the same length.
fn equal(a: DmaSlice, b: DmaSlice) -> bool {
    const PIECE: usize = 4096;
    let (mut left, mut right) = ([0; PIECE], [0; PIECE]);
    (0..a.len()).step_by(PIECE).all(|offset| {
        let bytes = PIECE.min(a.len() - offset);
        a.copy_out(offset, &mut left[..bytes]);
        b.copy_out(offset, &mut right[..bytes]);
        left[..bytes] == right[..bytes]
    })
}
