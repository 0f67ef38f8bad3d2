//! The steps of an I/O command through the stack.

use crate::export::controller::Location;
use crate::machine::io::command::{Command, Fault, Verb, parse};
use crate::machine::qpair::Role;
use crate::machine::request::{Answer, Job, State, Step};
use crate::machine::target::Target;
use crate::machine::transport::Transport;
use bdev::{Addr, DmaSlice, EdgeCx, Io, IoFlags, Op, Tag};
use nvme_spec::opcode::{fabrics, nvm};
use nvme_spec::{Fuse, Sqe, Status};

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

impl<T: Transport> Target<T> {
    /// A command came on an I/O queue.
    pub(crate) fn start_io(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &self.requests[at as usize];
        let Some(qpair) = self.qpairs.get_mut(request.qpair) else { unreachable!("just found") };
        let Role::Io(queue) = &mut qpair.role else { unreachable!("an I/O queue") };
        queue.seen = true;
        if queue.first_of_pair.is_some() || request.sqe.fuse() != Fuse::None {
            return self.start_fused(at, cx);
        }
        self.start_single(at, cx);
    }

    /// A command that is no part of a fused pair.
    pub(super) fn start_single(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        if let Some(status) = self.requests[at as usize].doomed {
            return self.finish(at, Answer::status(status), cx);
        }
        match self.prepare(at) {
            Ok(()) => {
                self.plan_arrival(at, cx);
                self.need_buffers(at, cx)
            }
            Err(fault) => self.finish(at, fault.into(), cx),
        }
    }

    /// Finds the command's namespace and says what the command needs.
    pub(super) fn prepare(&mut self, at: u32) -> Result<(), Fault> {
        let request = &mut self.requests[at as usize];
        let Some(qpair) = self.qpairs.get_mut(request.qpair) else { unreachable!("just found") };
        let Role::Io(queue) = &mut qpair.role else { unreachable!("an I/O queue") };
        let nsid = request.sqe.nsid();
        match request.sqe.opcode {
            nvm::FLUSH if nsid == Sqe::NSID_ALL => {
                request.job = Job::FlushAll;
                return Ok(());
            }
            fabrics::FABRICS => return self.prepare_fabrics(at),
            _ => {}
        }
        let space = queue
            .space(nsid, &mut self.spaces)
            .ok_or(Fault::at(Status::INVALID_NAMESPACE, Location::NSID))?;
        let entry = self.spaces.get_mut(space);
        if request.sqe.opcode == nvm::FLUSH {
            request.job = Job::Flush;
        } else {
            let command = parse(&request.sqe, &entry.geometry)?;
            if command.verb == (Verb::Copy { with_namespaces: true })
                && !queue.ctrl.copies_between_namespaces()
            {
                return Err(Fault::at(Status::INVALID_FIELD, Location::dword_bit(12, 8)));
            }
            request.plan_io(command, &entry.geometry)?;
        }
        request.space = space;
        entry.commands += 1;
        Ok(())
    }

    /// What the command needs is there: the next step.
    pub(crate) fn execute(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &self.requests[at as usize];
        if let Some(status) = request.doomed {
            let answer = Answer::status(status);
            return match request.job {
                Job::Io(Command { verb: Verb::Copy { .. }, .. }) if request.progress > 0 => {
                    self.copy_failed(at, answer, cx)
                }
                _ => self.finish(at, answer, cx),
            };
        }
        match request.job {
            Job::Io(command) => self.execute_io(at, command, cx),
            Job::Flush => self.step(at, Step::Whole, Submission::FLUSH, cx),
            Job::FlushAll => self.flush_next(at, cx),
            Job::Admin => self.execute_admin(at, cx),
            Job::Connect => self.execute_connect(at, cx),
            Job::Disconnect => self.execute_disconnect(at, cx),
            Job::Unknown => unreachable!("a command executes once it is known"),
        }
    }

    fn execute_io(&mut self, at: u32, command: Command, cx: &mut EdgeCx<'_>) {
        let space = self.spaces.get(self.requests[at as usize].space);
        let reads = matches!(command.verb, Verb::Read | Verb::Compare | Verb::Verify);
        // A forced read is of what is on the medium: what is in a volatile cache goes there first.
        if reads && command.flags.has(IoFlags::FUA) && space.geometry.volatile_cache {
            return self.step(at, Step::CommitFirst, Submission::FLUSH, cx);
        }
        self.execute_verb(at, command, cx);
    }

    fn execute_verb(&mut self, at: u32, command: Command, cx: &mut EdgeCx<'_>) {
        let request = &self.requests[at as usize];
        let Command { lba, blocks, bytes, flags, .. } = command;
        let io = |op, data| Submission { op, flags, lba, blocks, data };
        match command.verb {
            Verb::Read => {
                let io = io(Op::Read, request.data(bytes));
                self.step(at, Step::Whole, io, cx)
            }
            Verb::Write => {
                let io = io(Op::Write, request.data(bytes));
                self.step_write(at, Step::Whole, io, cx);
            }
            Verb::WriteZeroes => {
                self.step_write(at, Step::Whole, io(Op::WriteZeroes, DmaSlice::EMPTY), cx);
            }
            Verb::Compare => {
                let io = io(Op::Read, request.scratch(bytes));
                self.step(at, Step::CompareRead, io, cx)
            }
            Verb::Verify => self.verify_next(at, command, cx),
            Verb::Copy { .. } => self.copy_next(at, command, cx),
            Verb::Ranges { deallocate } => self.ranges_next(at, deallocate, cx),
        }
    }

    /// Submits a step that writes, once no fused pair holds its blocks. False if one does: then
    /// the command comes by again.
    pub(super) fn step_write(
        &mut self,
        at: u32,
        step: Step,
        io: Submission,
        cx: &mut EdgeCx<'_>,
    ) -> bool {
        let request = &mut self.requests[at as usize];
        let gate = self.spaces.get(request.space).namespace.gate();
        match gate.enter(self.reactor, io.lba, u64::from(io.blocks)) {
            Some(pass) => {
                request.pass = Some(pass);
                self.step(at, step, io, cx);
                true
            }
            None => {
                request.state = State::Gated;
                self.gated.push_back(at);
                false
            }
        }
    }

    /// Submits a step to the command's namespace, or ends the command if that is not possible.
    pub(super) fn step(&mut self, at: u32, step: Step, mut io: Submission, cx: &mut EdgeCx<'_>) {
        match self.channel(at, &io) {
            Ok((to, write_through)) => {
                if write_through && matches!(io.op, Op::Write | Op::WriteZeroes) {
                    io.flags = io.flags.with(IoFlags::FUA);
                }
                self.requests[at as usize].state = State::Executing(step);
                let Submission { op, flags, lba, blocks, data } = io;
                let (reply_to, reply_tag) = (cx.me, Tag(u64::from(at)));
                cx.submit(to, Io { op, flags, lba, blocks, data, reply_to, reply_tag });
            }
            Err(fault) => {
                self.leave_ended(at);
                self.step_failed(at, step, fault.into(), cx)
            }
        }
    }

    /// Closes the queue pair of a command before the command is answered, if its controller has
    /// ended: a host that hears of the end by an answer tries again at once, on the same queue, and
    /// after a few times gives up. One that loses the connection waits for the next.
    fn leave_ended(&mut self, at: u32) {
        let key = self.requests[at as usize].qpair;
        if let Some(qpair) = self.qpairs.get(key)
            && let Role::Io(queue) = &qpair.role
            && !queue.ctrl.is_live()
        {
            self.close_orphan(key);
        }
    }

    /// The channel for a submission, and whether the host wants writes on the medium; nothing
    /// may have changed since the command was checked, or it is checked again.
    fn channel(&mut self, at: u32, io: &Submission) -> Result<(Addr, bool), Fault> {
        let request = &self.requests[at as usize];
        let Some(qpair) = self.qpairs.get(request.qpair) else { unreachable!("kept") };
        let Role::Io(queue) = &qpair.role else { unreachable!("an I/O queue") };
        if queue.ctrl.epoch() != queue.epoch {
            return Err(Fault { status: Status::ABORTED_SQ_DELETION, location: Location::NONE });
        }
        let mut space = self.spaces.get(request.space);
        if space.generation != queue.subsystem.generation() {
            self.spaces.refresh(request.space);
            space = self.spaces.get(request.space);
            if !space.geometry.contains(io.lba, u64::from(io.blocks)) {
                return Err(Fault::at(Status::LBA_OUT_OF_RANGE, Location::SLBA));
            }
        }
        let none = |status| Fault { status, location: Location::NSID };
        let write_through = space.geometry.volatile_cache && !queue.ctrl.write_cache_enabled();
        Ok((space.channel.map_err(none)?, write_through))
    }

    /// A step has ended in the stack.
    pub(crate) fn step_done(&mut self, at: u32, status: Status, cx: &mut EdgeCx<'_>) {
        let State::Executing(step) = self.requests[at as usize].state else {
            unreachable!("a completion without a submission")
        };
        self.leave_gate(at);
        if !status.is_success() {
            return self.step_failed(at, step, Answer::status(status), cx);
        }
        let job = self.requests[at as usize].job;
        match (step, job) {
            (Step::Whole, Job::Io(Command { verb: Verb::Read, bytes, .. })) => {
                self.finish(at, Answer { data_bytes: bytes, ..Answer::status(status) }, cx)
            }
            (Step::Whole, _) => self.finish(at, Answer::status(status), cx),
            (Step::CompareRead, Job::Io(command)) => {
                let answer = Answer::status(self.compare(at, command.bytes));
                self.finish(at, answer, cx)
            }
            (Step::CommitFirst | Step::VerifyRead | Step::Range | Step::FlushOne, _) => {
                self.execute_on(at, cx)
            }
            (Step::CopyRead, _) => {
                self.copy_read_done(at);
                self.execute_on(at, cx)
            }
            (Step::CopyWrite, _) => {
                self.copy_write_done(at);
                self.execute_on(at, cx)
            }
            (Step::PairRead, Job::Io(command)) => self.pair_read(at, command, cx),
            (Step::PairWrite, _) => self.pair_written(at, Answer::status(status), cx),
            (step, job) => unreachable!("{step:?} is no step of {job:?}"),
        }
    }

    fn step_failed(&mut self, at: u32, step: Step, answer: Answer, cx: &mut EdgeCx<'_>) {
        self.leave_gate(at);
        match step {
            Step::PairRead => self.pair_failed(at, answer, cx),
            Step::PairWrite => self.pair_written(at, answer, cx),
            Step::CopyRead | Step::CopyWrite => self.copy_failed(at, answer, cx),
            _ => self.finish(at, answer, cx),
        }
    }

    /// The next step of a command that has begun.
    fn execute_on(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &self.requests[at as usize];
        match (request.doomed, request.job) {
            (None, Job::Io(command)) => self.execute_verb(at, command, cx),
            _ => self.execute(at, cx),
        }
    }

    fn leave_gate(&mut self, at: u32) {
        let request = &mut self.requests[at as usize];
        if let Some(pass) = request.pass.take() {
            self.spaces.get(request.space).namespace.gate().leave(self.reactor, pass);
        }
    }

    /// Whether what a Compare read is what the host sent.
    pub(super) fn compare(&self, at: u32, bytes: u32) -> Status {
        let request = &self.requests[at as usize];
        if equal(request.data(bytes), request.scratch(bytes)) {
            Status::SUCCESS
        } else {
            Status::COMPARE_FAILURE
        }
    }

    /// Lets those try again that the gate held back. Returns how many got on.
    pub(crate) fn retry_gated(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        let mut moved = 0;
        for _ in 0..self.gated.len() {
            let Some(at) = self.gated.pop_front() else { break };
            if self.leads_pair(at) {
                self.try_pair(at, cx);
            } else {
                self.execute_on(at, cx);
            }
            moved += u32::from(self.requests[at as usize].state != State::Gated);
        }
        moved
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
