//! The life of a command at the target, the only request state machine:
//!
//! ```text
//! NeedBuffer -> Pulling -> Executing -> Responding
//! ```
//!
//! A command waits before it holds anything, and takes all it needs at once, so that no two
//! commands ever wait for each other.

use crate::export::controller::Location;
use crate::export::gate::{Lock, Pass};
use crate::machine::io::command::{Command, Fault, VERIFY_BYTES, Verb};
use crate::machine::io::copy::piece_bytes;
use crate::machine::place::NONE;
use crate::machine::target::Target;
use crate::machine::transport::{InCapsule, PullTo, ReqId, Response, Transport};
use crate::machine::wait::BufferQueue;
use bdev::{DmaBuf, DmaPool, DmaSlice, EdgeCx, Geometry};
use nvme_spec::{Cqe, SglKind, Sqe, Status};
use zerocopy::little_endian::{U16, U32};

/// Where a command is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The place is not used.
    Free,
    /// First half of a fused pair; the second has not come.
    FirstOfPair,
    /// In line for buffers; holds none.
    NeedBuffer,
    /// The transport fetches the host's data.
    Pulling,
    /// Half of a fused pair whose data is here; the other half's is not.
    Fetched,
    /// Held back by a fused pair that is active, or by writes that a fused pair waits for.
    Gated,
    /// Under way in the stack.
    Executing(Step),
    /// An Asynchronous Event Request that waits for an event.
    EventHeld,
    /// An Abort that waits for the end of the command it aborts.
    Aborting,
    /// Answered; the transport still reads the buffer.
    Responding,
}

/// What of a command is under way in the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The whole command.
    Whole,
    /// The flush before a read that has to come from the medium.
    CommitFirst,
    /// The read of a Compare.
    CompareRead,
    /// A piece of a Verify.
    VerifyRead,
    /// Deallocation of one range.
    Range,
    /// The read of blocks of a Copy.
    CopyRead,
    /// The write of a piece of a Copy.
    CopyWrite,
    /// The flush of one namespace of all.
    FlushOne,
    /// The read of a fused Compare.
    PairRead,
    /// The write of a fused pair.
    PairWrite,
}

/// What a command is, once that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Nothing yet.
    Unknown,
    /// Connect, with its data.
    Connect,
    /// Disconnect.
    Disconnect,
    /// A command for the admin queue.
    Admin,
    /// A data command on blocks.
    Io(Command),
    /// Flush of one namespace.
    Flush,
    /// Flush of every namespace.
    FlushAll,
}

/// A command's part in a fused pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pair {
    /// None.
    Alone,
    /// The compare; the write is there.
    First(u32),
    /// The write; the compare is there.
    Second(u32),
}

/// The Abort command that waits for the end of another command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aborter {
    /// On this reactor: its request.
    Here(u32),
    /// On another reactor: the controller carries the answer.
    Elsewhere(u32),
}

/// A place for a command.
pub(crate) struct Request {
    pub(crate) state: State,
    pub(crate) job: Job,
    pub(crate) pair: Pair,
    /// Its queue pair, or [`NONE`] when that was gone before it came.
    pub(crate) qpair: u32,
    /// Its namespace in the reactor's table, or [`NONE`].
    pub(crate) space: u32,
    /// Its identifier is entered in the queue pair's table.
    pub(crate) entered: bool,
    /// How far a command of several steps is: blocks verified or copied, ranges deallocated, or the
    /// last namespace flushed.
    pub(crate) progress: u32,
    /// Blocks of the piece under way that a Copy has read.
    pub(crate) filled: u32,
    /// While a Copy reads another namespace, which `space` is then: its own. [`NONE`] otherwise.
    pub(crate) home: u32,
    /// The turn that took it in, in ns of the reactor's clock.
    pub(crate) began_ns: u64,
    /// It ends with this status as soon as it can.
    pub(crate) doomed: Option<Status>,
    /// The Abort command that waits for its end.
    pub(crate) aborter: Option<Aborter>,
    pub(crate) sqe: Sqe,
    /// Data that came in the capsule.
    pub(crate) in_capsule: DmaSlice,
    /// Bytes for `buf`: the host's data, or data for the host.
    pub(crate) data_bytes: u32,
    /// Bytes for `scratch`: blocks to compare or to verify.
    pub(crate) scratch_bytes: u32,
    /// Bytes of `buf` that the host still has to send.
    pub(crate) pull_bytes: u32,
    /// The blocks of a device, where the host's data goes to them and not to `buf`.
    pub(crate) arrives: Option<DmaSlice>,
    /// Bytes of the host's data that an admin command takes.
    pub(crate) admin_bytes: u32,
    pub(crate) buf: Option<DmaBuf>,
    pub(crate) scratch: Option<DmaBuf>,
    /// Permission to write, while the write is under way.
    pub(crate) pass: Option<Pass>,
    /// A fused pair's hold on its blocks.
    pub(crate) lock: Option<Lock>,
}

/// How a command ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) dw0: u32,
    pub(crate) dw1: u32,
    /// This much of `buf` goes to the host.
    pub(crate) data_bytes: u32,
    /// What the error log names as the field to blame.
    pub(crate) location: Location,
}

impl Answer {
    /// `status`, without a result.
    pub(crate) fn status(status: Status) -> Answer {
        Answer { status, dw0: 0, dw1: 0, data_bytes: 0, location: Location::NONE }
    }

    /// Success with a result.
    pub(crate) fn result(dw0: u32) -> Answer {
        Answer { dw0, ..Answer::status(Status::SUCCESS) }
    }
}

impl From<Fault> for Answer {
    fn from(fault: Fault) -> Answer {
        Answer { location: fault.location, ..Answer::status(fault.status) }
    }
}

impl Request {
    /// A place that is not used.
    pub(crate) fn free() -> Request {
        Request {
            state: State::Free,
            job: Job::Unknown,
            pair: Pair::Alone,
            qpair: NONE,
            space: NONE,
            entered: false,
            progress: 0,
            filled: 0,
            home: NONE,
            began_ns: 0,
            doomed: None,
            aborter: None,
            sqe: Sqe::default(),
            in_capsule: DmaSlice::EMPTY,
            data_bytes: 0,
            scratch_bytes: 0,
            pull_bytes: 0,
            arrives: None,
            admin_bytes: 0,
            buf: None,
            scratch: None,
            pass: None,
            lock: None,
        }
    }

    /// Makes the place that of a new command.
    pub(crate) fn begin(&mut self, qpair: u32, sqe: &Sqe, in_capsule: DmaSlice, now_ns: u64) {
        assert_eq!(self.state, State::Free, "the transport used a request's place twice");
        self.state = State::NeedBuffer;
        self.job = Job::Unknown;
        self.pair = Pair::Alone;
        self.qpair = qpair;
        self.space = NONE;
        self.entered = false;
        (self.progress, self.filled) = (0, 0);
        self.began_ns = now_ns;
        self.doomed = None;
        self.aborter = None;
        self.sqe = *sqe;
        self.in_capsule = in_capsule;
        (self.data_bytes, self.scratch_bytes, self.pull_bytes) = (0, 0, 0);
        self.admin_bytes = 0;
    }

    /// Makes the place that of a command that goes to memory, and is answered with no state between.
    pub(crate) fn begin_direct(&mut self, qpair: u32, space: u32) {
        assert_eq!(self.state, State::Free, "the transport used a request's place twice");
        self.state = State::Responding;
        self.qpair = qpair;
        self.space = space;
    }

    /// Says what a data command on a namespace of this geometry needs before it can execute.
    ///
    /// # Errors
    /// When less came in the capsule than the command needs.
    pub(crate) fn plan_io(&mut self, command: Command, geometry: &Geometry) -> Result<(), Fault> {
        self.job = Job::Io(command);
        if command.verb.takes_data() {
            self.plan_host_data(command.bytes)?;
        }
        match command.verb {
            Verb::Read => self.plan_data_for_host(command.bytes),
            Verb::Write if !self.in_capsule.is_aligned(geometry.align_bytes) => {
                self.data_bytes = command.bytes;
            }
            Verb::Compare => self.scratch_bytes = command.bytes,
            Verb::Verify => {
                let bytes = u64::from(command.blocks) * u64::from(geometry.block_bytes);
                self.scratch_bytes = bytes.min(u64::from(VERIFY_BYTES)) as u32;
            }
            Verb::Copy { .. } => self.scratch_bytes = piece_bytes(geometry),
            Verb::Write | Verb::Ranges { .. } | Verb::WriteZeroes => {}
        }
        Ok(())
    }

    /// Says that the command needs room for `bytes` that go to the host. Data that came in its
    /// capsule all the same is nobody's.
    pub(crate) fn plan_data_for_host(&mut self, bytes: u32) {
        self.data_bytes = bytes;
        self.in_capsule = DmaSlice::EMPTY;
    }

    /// Says that the command needs `bytes` from the host, which may have come in the capsule.
    ///
    /// # Errors
    /// When less came in the capsule.
    pub(crate) fn plan_host_data(&mut self, bytes: u32) -> Result<(), Fault> {
        if self.sqe.dptr.kind() != SglKind::InCapsule && self.in_capsule.is_empty() {
            (self.data_bytes, self.pull_bytes) = (bytes, bytes);
        } else if self.in_capsule.len() < bytes as usize {
            return Err(Fault::at(Status::INVALID_SGL_LENGTH, Location::SGL_LENGTH));
        }
        Ok(())
    }

    /// The host's data, or the room for what it reads: `bytes` of it.
    pub(crate) fn data(&self, bytes: u32) -> DmaSlice {
        let whole = self.buf.as_ref().map_or(self.in_capsule, |buf| buf.slice());
        whole.sub(0, bytes as usize)
    }

    /// The room for blocks to compare or to verify: `bytes` of it.
    pub(crate) fn scratch(&self, bytes: u32) -> DmaSlice {
        let whole = self.scratch.as_ref().expect("taken with the buffers").slice();
        whole.sub(0, bytes as usize)
    }

    /// The data command.
    ///
    /// # Panics
    /// If it is not one.
    pub(crate) fn command(&self) -> Command {
        match self.job {
            Job::Io(command) => command,
            other => unreachable!("{other:?} is not a data command"),
        }
    }

    /// Takes all buffers it needs, or none.
    fn take(&mut self, pool: &mut DmaPool) -> bool {
        if self.data_bytes > 0 {
            self.buf = pool.take(self.data_bytes as usize);
            if self.buf.is_none() {
                return false;
            }
        }
        if self.scratch_bytes > 0 {
            self.scratch = pool.take(self.scratch_bytes as usize);
            if self.scratch.is_none() {
                self.give(pool);
                return false;
            }
        }
        true
    }

    /// Gives its buffers back.
    fn give(&mut self, pool: &mut DmaPool) {
        if let Some(buf) = self.buf.take() {
            pool.give(buf);
        }
        if let Some(buf) = self.scratch.take() {
            pool.give(buf);
        }
    }
}

impl<T: Transport> Target<T> {
    /// The command at `at` knows what it needs: takes it, or gets in line.
    pub(crate) fn need_buffers(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &self.requests[at as usize];
        if request.data_bytes | request.scratch_bytes == 0 && request.pair == Pair::Alone {
            return self.fetch(at, cx);
        }
        if self.waiting.is_empty() && self.take_buffers(at, cx.pool) {
            return self.fetch(at, cx);
        }
        self.wait_for_buffers(at, cx);
    }

    #[cold]
    fn wait_for_buffers(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let class = BufferQueue::class(self.wanted(at).0);
        if self.waiting.is_class_empty(class) && self.take_buffers(at, cx.pool) {
            return self.fetch(at, cx);
        }
        let (bytes, buffers) = self.wanted(at);
        if !cx.pool.could_take(bytes as usize, buffers) {
            // It would wait for ever: the pool was made too small for what is promised to hosts.
            self.requests[at as usize].doomed = Some(Status::INTERNAL_ERROR.dnr());
            return self.end_doomed(at, cx);
        }
        self.requests[at as usize].state = State::NeedBuffer;
        self.waiting.push(class, at);
        self.counters.buffer_waits.add(1);
    }

    /// The largest buffer that a command, with its other half, needs, and how many.
    fn wanted(&self, at: u32) -> (u32, u32) {
        let of = |at: u32| {
            let request = &self.requests[at as usize];
            [request.data_bytes, request.scratch_bytes]
        };
        let other = match self.requests[at as usize].pair {
            Pair::First(second) => of(second),
            _ => [0; 2],
        };
        let all = of(at).into_iter().chain(other);
        all.fold((0, 0), |(most, count), bytes| (most.max(bytes), count + u32::from(bytes > 0)))
    }

    /// Takes the buffers of a command and of its other half, or none.
    fn take_buffers(&mut self, at: u32, pool: &mut DmaPool) -> bool {
        if !self.requests[at as usize].take(pool) {
            return false;
        }
        if let Pair::First(second) = self.requests[at as usize].pair
            && !self.requests[second as usize].take(pool)
        {
            self.requests[at as usize].give(pool);
            return false;
        }
        true
    }

    /// Lets those go on that wait for buffers, as far as there are any. Returns how many did.
    pub(crate) fn serve_waiting(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        let mut served = 0;
        if self.waiting.is_empty() {
            return served;
        }
        for class in BufferQueue::by_size() {
            while let Some(at) = self.waiting.front(class)
                && self.take_buffers(at, cx.pool)
            {
                self.waiting.pop(class);
                self.fetch(at, cx);
                served += 1;
            }
        }
        served
    }

    /// The buffers are there: gets the host's data into them.
    fn fetch(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let pair = self.requests[at as usize].pair;
        let waits = self.fetch_one(at);
        if let Pair::First(second) = pair {
            let also = self.fetch_one(second);
            if !waits && !also {
                self.gate_pair(at, cx);
            }
        } else if !waits {
            self.execute(at, cx);
        }
    }

    /// Starts the pull of one command, or copies what came in the capsule. True if it has to wait.
    fn fetch_one(&mut self, at: u32) -> bool {
        let request = &mut self.requests[at as usize];
        if request.pull_bytes > 0 {
            request.state = State::Pulling;
            let to = match request.arrives {
                Some(blocks) => PullTo::Device(blocks),
                None => PullTo::Buffer(request.data(request.pull_bytes)),
            };
            self.transport.pull(ReqId(at), to);
            return true;
        }
        if let Some(buf) = &request.buf
            && !request.in_capsule.is_empty()
        {
            buf.slice().copy_from(request.in_capsule.sub(0, request.data_bytes as usize));
        }
        request.state = State::Fetched;
        false
    }

    /// A pull has ended.
    pub(crate) fn pulled(&mut self, req: ReqId, status: Status, cx: &mut EdgeCx<'_>) {
        let request = &mut self.requests[req.0 as usize];
        assert_eq!(request.state, State::Pulling, "a pull ends once");
        request.state = State::Fetched;
        if !status.is_success() {
            request.doomed = request.doomed.or(Some(status));
        }
        match request.pair {
            Pair::Alone if request.arrives.is_some() => self.arrived(req.0, cx),
            Pair::Alone => self.execute(req.0, cx),
            Pair::First(other) | Pair::Second(other) => {
                let first = if matches!(request.pair, Pair::First(_)) { req.0 } else { other };
                if self.requests[other as usize].state == State::Fetched {
                    self.gate_pair(first, cx);
                }
            }
        }
    }

    /// Ends a command: its one answer.
    pub(crate) fn finish(&mut self, at: u32, mut answer: Answer, cx: &mut EdgeCx<'_>) {
        let request = &mut self.requests[at as usize];
        debug_assert_ne!(request.state, State::Responding, "a command is answered once");
        if request.state == State::Aborting {
            self.abort_ends(at);
        }
        let request = &mut self.requests[at as usize];
        request.state = State::Responding;
        if let Some(buf) = request.scratch.take() {
            cx.pool.give(buf);
        }
        let data = if answer.data_bytes > 0 {
            Some(request.data(answer.data_bytes))
        } else {
            if let Some(buf) = request.buf.take() {
                cx.pool.give(buf);
            }
            None
        };
        let aborter = request.aborter.take();
        self.account(at, &mut answer);
        let request = &self.requests[at as usize];
        let mut cqe = Cqe::new(request.sqe.cid(), answer.status);
        (cqe.dw0, cqe.dw1) = (U32::new(answer.dw0), U32::new(answer.dw1));
        let mut implied = false;
        if let Some(qpair) = self.qpairs.get_mut(request.qpair) {
            cqe.sqhd = U16::new(qpair.retire(request.entered.then(|| request.sqe.cid())));
            implied = !qpair.flow_control && answer.dw0 | answer.dw1 == 0;
        }
        implied &= answer.status == Status::SUCCESS && data.is_some();
        self.transport
            .respond(ReqId(at), Response { data, lent: false, cqe, cqe_may_be_implied: implied });
        if let Some(aborter) = aborter {
            self.tell_aborter(at, aborter, cx);
        }
    }

    /// The answer has left: the place is free again.
    pub(crate) fn sent(&mut self, req: ReqId, cx: &mut EdgeCx<'_>) {
        let request = &mut self.requests[req.0 as usize];
        assert_eq!(request.state, State::Responding, "an answer is sent once");
        if let Some(buf) = request.buf.take() {
            cx.pool.give(buf);
        }
        request.state = State::Free;
        if request.space != NONE {
            // What was lent is no longer read.
            self.spaces.leave(request.space);
        }
        let key = request.qpair;
        if key != NONE {
            self.forget_request(key);
        }
    }
}

/// Views of the in-capsule data of a command: the slice, or what is wrong.
pub(crate) fn capsule_data(in_capsule: InCapsule) -> Result<DmaSlice, Status> {
    match in_capsule {
        InCapsule::None => Ok(DmaSlice::EMPTY),
        InCapsule::Data(slice) => Ok(slice),
        InCapsule::Damaged => Err(Status::TRANSIENT_TRANSPORT),
    }
}
