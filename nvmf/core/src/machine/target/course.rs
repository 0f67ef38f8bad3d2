//! The course of a command: it is let in, gets its buffers and the host's data, executes, and is
//! answered.

use super::Target;
use crate::export::controller::Location;
use crate::limits;
use crate::machine::admission::{Way, admit_first, way};
use crate::machine::answer::{Answer, Next};
use crate::machine::cid::CidError;
use crate::machine::connect;
use crate::machine::io::command::Fault;
use crate::machine::io::direct::{Direct, Taken};
use crate::machine::io::fused::{leader, second};
use crate::machine::io::{Execution, Here, account, plan};
use crate::machine::job::{HostData, Job, Pair};
use crate::machine::place::NONE;
use crate::machine::qpair::Qpair;
use crate::machine::request::{Aborter, Ended, Request, Requests, Stage};
use crate::machine::share::{Lack, Purse};
use crate::machine::transport::{
    CloseReason, InCapsule, PullTo, QpairId, ReqId, Response, Transport,
};
use crate::machine::wait::FairQueue;
use bdev::{DmaPool, DmaSlice, EdgeCx};
use nvme_spec::{Cqe, Fuse, Sqe, Status};
use zerocopy::little_endian::{U16, U32};

/// Data that came in a capsule: the slice, or what is wrong with it.
fn capsule_data(in_capsule: InCapsule) -> Result<Option<DmaSlice>, Status> {
    match in_capsule {
        InCapsule::None => Ok(None),
        InCapsule::Data(slice) => Ok(Some(slice)),
        InCapsule::Damaged => Err(Status::TRANSIENT_TRANSPORT),
    }
}

impl<T: Transport> Target<T> {
    fn direct(&mut self) -> (Direct<'_>, &mut T) {
        let Target { transport, requests, qpairs, spaces, landings, .. } = self;
        let (reactor, now_ns) = (self.reactor, self.now_ns);
        (Direct { requests, qpairs, spaces, landings, reactor, now_ns }, transport)
    }

    /// A command came.
    #[inline]
    pub(super) fn command(
        &mut self,
        id: QpairId,
        req: ReqId,
        sqe: &Sqe,
        in_capsule: InCapsule,
        cx: &mut EdgeCx<'_>,
    ) {
        self.counters.commands.add(1);
        let Some(key) = self.qpairs.key(id) else {
            self.requests[req.0].begin(NONE, sqe, capsule_data(in_capsule), self.now_ns);
            return self.finish(req.0, Answer::status(Status::ABORTED_SQ_DELETION), cx);
        };
        let (mut direct, transport) = self.direct();
        match direct.take(key, req, sqe, in_capsule, cx) {
            Taken::Answered(response) => transport.respond(req, response),
            Taken::Lands => {}
            Taken::No => self.begin(key, req, sqe, in_capsule, cx),
        }
    }

    /// The writes to memory of a batch of events are executed and answered.
    #[inline]
    pub(super) fn land(&mut self) {
        if !self.landings.is_empty() {
            let (mut direct, transport) = self.direct();
            direct.land(|req, response| transport.respond(req, response));
        }
    }

    /// A command takes the way of all but the direct ones.
    fn begin(
        &mut self,
        key: u32,
        req: ReqId,
        sqe: &Sqe,
        in_capsule: InCapsule,
        cx: &mut EdgeCx<'_>,
    ) {
        self.requests[req.0].begin(key, sqe, capsule_data(in_capsule), self.now_ns);
        let qpair = self.qpairs.of(key);
        qpair.command_came();
        let way = way(qpair);
        if let Err(refusal) = self.enter(req.0) {
            return self.refuse(req.0, refusal, cx);
        }
        match way {
            Way::Io => self.start_io(req.0, cx),
            Way::Admin => self.start_admin(req.0, cx),
            Way::Connect => self.start_connect(req.0, cx),
            Way::Nowhere => self.finish(req.0, Answer::status(Status::ABORTED_SQ_DELETION), cx),
        }
    }

    /// Enters a command into its queue pair's table. One with the identifier of a held Asynchronous
    /// Event Request takes its place.
    fn enter(&mut self, at: u32) -> Result<(), CidError> {
        let request = &self.requests[at];
        let (key, cid) = (request.qpair(), request.sqe().cid());
        let qpair = self.qpairs.of(key);
        let mut entered = qpair.enter(cid, at);
        if entered == Err(CidError::Conflict)
            && let Some(held) = qpair.find(cid)
            && self.requests[held].is_event_held()
        {
            self.displace_held_event(held);
            entered = self.qpairs.of(key).enter(cid, at);
        }
        self.requests[at].set_entered(entered.is_ok());
        entered
    }

    /// Ends a command that could not be entered into its queue pair.
    #[cold]
    fn refuse(&mut self, at: u32, refusal: CidError, cx: &mut EdgeCx<'_>) {
        let key = self.requests[at].qpair();
        match refusal {
            CidError::Conflict => {
                self.finish(at, Fault::at(Status::CID_CONFLICT, Location::CID).into(), cx)
            }
            CidError::Full => {
                self.finish(at, Answer::status(Status::SEQUENCE_ERROR.dnr()), cx);
                let why = "more commands than the queue has entries";
                self.close_qpair(key, CloseReason::Protocol(why.into()));
            }
        }
    }

    /// A command came on a queue pair that is not connected.
    fn start_connect(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &mut self.requests[at];
        if let Some(status) = request.doomed() {
            return self.finish(at, Answer::status(status), cx);
        }
        match admit_first(request.sqe()).and_then(|()| connect::plan(request)) {
            Ok(()) => self.need_buffers(at, cx),
            Err(fault) => self.finish(at, fault.into(), cx),
        }
    }

    /// A command came on an I/O queue.
    fn start_io(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &mut self.requests[at];
        let queue = self.qpairs.io(request.qpair());
        queue.note_command();
        let fuse = request.sqe().fuse();
        if let Some(first) = queue.take_first() {
            if fuse == Fuse::Second {
                return self.start_pair(first, at, cx);
            }
            self.finish(first, Answer::status(Status::ABORTED_MISSING_FUSED), cx);
        }
        match fuse {
            Fuse::None => self.start_single(at, cx),
            Fuse::First => {
                let request = &mut self.requests[at];
                request.hold_as_first();
                self.qpairs.io(request.qpair()).hold_first(at);
            }
            Fuse::Second => self.finish(at, Answer::status(Status::ABORTED_MISSING_FUSED), cx),
            Fuse::Reserved => {
                self.finish(at, Fault::at(Status::INVALID_FIELD, Location::FUSE).into(), cx)
            }
        }
    }

    /// A command that is no part of a fused pair.
    fn start_single(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &mut self.requests[at];
        if let Some(status) = request.doomed() {
            return self.finish(at, Answer::status(status), cx);
        }
        let qpair = self.qpairs.of(request.qpair());
        let is_direct = qpair.is_direct();
        let queue = qpair.io().expect("an I/O queue stays one");
        match plan(request, queue, &mut self.spaces) {
            Ok(()) => {
                if is_direct {
                    self.arrivals.plan(at, request, &self.spaces, cx);
                }
                self.need_buffers(at, cx)
            }
            Err(fault) => {
                self.leave_ended(at);
                self.finish(at, fault.into(), cx)
            }
        }
    }

    fn start_pair(&mut self, first: u32, second: u32, cx: &mut EdgeCx<'_>) {
        let planned = self.run(first, cx, |execution| {
            execution.plan_pair(first, second).err().unwrap_or(Next::Waits)
        });
        if planned {
            self.need_buffers(first, cx);
        }
    }

    /// The command at `at` knows what it needs: takes it, or gets in line.
    #[inline]
    pub(super) fn need_buffers(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let has_them = !self.requests[at].takes_buffers()
            || self.waiting.is_empty() && self.take_buffers(at, cx.pool).is_ok()
            || self.finds_buffers(at, cx);
        if has_them {
            self.fetch(at, cx);
        }
    }

    /// Takes them where nobody waits for some of that size. If it gets none it is in line, or ends where
    /// it would wait for ever.
    #[cold]
    fn finds_buffers(&mut self, at: u32, cx: &mut EdgeCx<'_>) -> bool {
        let (bytes, buffers) = self.wanted(at);
        let class = FairQueue::class(bytes);
        if self.waiting.may_pass(class) && self.take_buffers(at, cx.pool).is_ok() {
            return true;
        }
        if !cx.pool.could_take(bytes as usize, buffers) {
            // It would wait for ever: the pool was made too small for what is promised to hosts.
            self.requests[at].doom(Status::INTERNAL_ERROR.dnr());
            self.run(at, cx, |execution| execution.end_doomed(at));
            return false;
        }
        let key = self.requests[at].qpair();
        self.waiting.push(class, key, at);
        self.shares.waits(key);
        self.counters.buffer_waits.add(1);
        false
    }

    /// The largest buffer that a command, with its other half, needs, and how many.
    fn wanted(&self, at: u32) -> (u32, u32) {
        let of = |at: u32| {
            let needs = self.requests[at].needs();
            [needs.data_bytes, needs.scratch_bytes]
        };
        let other = second(&self.requests, at).map_or([0; 2], of);
        let all = of(at).into_iter().chain(other);
        all.fold((0, 0), |(most, count), bytes| (most.max(bytes), count + u32::from(bytes > 0)))
    }

    /// Takes the buffers of a command and of its other half, or none.
    #[inline(always)]
    fn take_buffers(&mut self, at: u32, pool: &mut DmaPool) -> Result<(), Lack> {
        let Target { requests, shares, .. } = self;
        let request = &mut requests[at];
        let mut purse = shares.purse(request.qpair(), pool, self.now_ns);
        request.take_buffers(&mut purse)?;
        match request.pair() {
            Pair::First { second, .. } => {
                let second = *second;
                take_both(requests, at, second, &mut purse)
            }
            _ => Ok(()),
        }
    }

    /// Lets those go on that wait for buffers, as far as there are any: connection after connection,
    /// and none that holds its share. Returns how many did.
    pub(super) fn serve_waiting(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        let mut served = 0;
        if self.waiting.is_empty() {
            return served;
        }
        for class in FairQueue::by_size() {
            let mut turns = self.waiting.connections(class);
            while turns > 0
                && let Some(at) = self.waiting.front(class)
            {
                match self.take_buffers(at, cx.pool) {
                    Ok(()) => {
                        self.waiting.pop(class);
                        self.shares.served(self.requests[at].qpair());
                        self.fetch(at, cx);
                        served += 1;
                        turns = self.waiting.connections(class);
                    }
                    Err(Lack::Share) => {
                        self.waiting.pass_on(class);
                        turns -= 1;
                    }
                    Err(Lack::Buffers) => break,
                }
            }
        }
        served
    }

    /// The buffers are there: gets the host's data into them.
    #[inline(always)]
    fn fetch(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let waits = match self.requests[at].pair() {
            Pair::First { second, .. } => {
                let second = *second;
                self.fetch_one(at) | self.fetch_one(second)
            }
            _ => self.fetch_one(at),
        };
        if !waits {
            self.execute(at, cx);
        }
    }

    /// Starts the pull of one command, or copies what came in the capsule. True if it has to wait.
    #[inline(always)]
    fn fetch_one(&mut self, at: u32) -> bool {
        let request = &mut self.requests[at];
        let to = match request.fetch() {
            HostData::None | HostData::InCapsule | HostData::Copied => return false,
            HostData::Pulled => PullTo::Buffer(request.data(request.needs().data_bytes)),
            HostData::Landing(blocks) => PullTo::Device(blocks),
        };
        self.pull(at, to);
        true
    }

    #[inline(never)]
    fn pull(&mut self, at: u32, to: PullTo) {
        let key = self.requests[at].qpair();
        self.qpairs.of(key).host_owes(self.now_ns);
        self.transport.pull(ReqId(at), to);
    }

    /// A pull has ended.
    pub(super) fn pulled(&mut self, req: ReqId, status: Status, cx: &mut EdgeCx<'_>) {
        let at = req.0;
        let request = &mut self.requests[at];
        self.qpairs.of(request.qpair()).host_did(self.now_ns);
        if request.pulled(status) {
            self.arrivals.arrived(at, request);
            let status = request.doomed().unwrap_or(Status::SUCCESS);
            return self.finish(at, Answer::status(status), cx);
        }
        let first = leader(&self.requests, at);
        let is_here = |at: u32| matches!(self.requests[at].stage(), Some(Stage::Fetched));
        let both = is_here(first) && second(&self.requests, first).is_none_or(is_here);
        if both {
            self.execute(first, cx);
        }
    }

    /// What the command needs is there: its first step.
    #[inline]
    fn execute(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &self.requests[at];
        match (request.job(), request.doomed()) {
            (Job::Io(io), None) if io.command.verb.takes_steps() => self.take_turns(at),
            (Job::Io(_) | Job::Flush { .. } | Job::FlushAll { .. }, _) => {
                self.run(at, cx, |execution| execution.go_on(at));
            }
            (_, Some(status)) => self.finish(at, Answer::status(status), cx),
            (Job::Admin { from_host }, None) => {
                let from_host = *from_host;
                self.execute_admin(at, from_host, cx)
            }
            (Job::Connect, None) => self.execute_connect(at, cx),
            (Job::Disconnect, None) => self.execute_disconnect(at, cx),
        }
    }

    /// A command goes on that has waited between its steps.
    #[inline(never)]
    fn go_on(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        self.run(at, cx, |execution| execution.go_on(at));
    }

    /// A command of several steps gets in line for its next one.
    fn take_turns(&mut self, at: u32) {
        self.steps.push(0, self.requests[at].qpair(), at);
    }

    /// Takes the next steps of those that have several, connection after connection, as far as one
    /// turn goes. Returns how many.
    pub(super) fn take_steps(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        let (mut taken, mut bytes) = (0, 0);
        while bytes < limits::STEP_BYTES_PER_TURN
            && let Some(at) = self.steps.pop(0)
        {
            let request = &self.requests[at];
            bytes += match request.needs().scratch_bytes {
                0 => limits::DEALLOCATE_STEP_BYTES,
                scratch => scratch.max(limits::STEP_BYTES_LEAST),
            };
            self.go_on(at, cx);
            taken += 1;
        }
        taken
    }

    /// A step has ended in the stack.
    #[inline]
    pub(super) fn step_done(&mut self, at: u32, status: Status, cx: &mut EdgeCx<'_>) {
        self.run(at, cx, |execution| execution.step_done(at, status));
    }

    /// Lets those try again that the gate held back. Returns how many got on.
    pub(super) fn retry_gated(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        let mut moved = 0;
        for _ in 0..self.gated.len() {
            let Some(at) = self.gated.pop_front() else { break };
            self.go_on(at, cx);
            let waits = matches!(self.requests[at].stage(), Some(Stage::Gated));
            moved += u32::from(!waits);
        }
        moved
    }

    /// Takes a step of the command at `at`, and does what becomes of it. True if it waits.
    #[inline]
    pub(super) fn run(
        &mut self,
        at: u32,
        cx: &mut EdgeCx<'_>,
        step: impl FnOnce(&mut Execution<'_, '_>) -> Next,
    ) -> bool {
        let Target { requests, qpairs, spaces, gated, reactor, .. } = self;
        let reactor = *reactor;
        let mut execution =
            Execution { requests, qpairs, spaces, gated, reactor, cx, refused: false };
        let next = step(&mut execution);
        if execution.refused {
            self.leave_ended(at);
        }
        match next {
            Next::Waits => return true,
            Next::Later => {
                self.take_turns(at);
                return true;
            }
            Next::Ends(answer) => self.finish(at, answer, cx),
            Next::PairEnds { first, second } => {
                self.finish(first.0, first.1, cx);
                self.finish(second.0, second.1, cx);
            }
        }
        false
    }

    /// Closes the queue pair of a command before the command is answered, if its controller has
    /// ended: a host that hears of the end by an answer tries again at once, on the same queue, and
    /// after a few times gives up. One that loses the connection waits for the next.
    fn leave_ended(&mut self, at: u32) {
        let key = self.requests[at].qpair();
        if self.qpairs.of(key).io().is_some_and(|queue| !queue.ctrl().is_live()) {
            self.close_orphan(key);
        }
    }

    /// Ends a command: its one answer.
    #[inline]
    pub(super) fn finish(&mut self, at: u32, mut answer: Answer, cx: &mut EdgeCx<'_>) {
        let request = &mut self.requests[at];
        let key = request.qpair();
        let mut qpair = self.qpairs.get_mut(key);
        if request.is_aborting()
            && let Some(queue) = qpair.as_mut().and_then(|qpair| qpair.admin())
        {
            queue.abort_ends();
        }
        let here = Here { reactor: self.reactor, counters: &self.counters, now_ns: self.now_ns };
        account(request, qpair.as_deref(), &mut self.spaces, &here, &mut answer);
        let mut purse = self.shares.purse(key, cx.pool, self.now_ns);
        let Ended { data, aborter } = request.respond(answer.data_bytes, &mut purse);
        let response = response(request, qpair, answer, data, self.now_ns);
        self.transport.respond(ReqId(at), response);
        if let Some(aborter) = aborter {
            self.tell_aborter(key, aborter, cx);
        }
    }

    /// A command of queue pair `key` has ended that an Abort waited for.
    #[cold]
    fn tell_aborter(&mut self, key: u32, aborter: Aborter, cx: &mut EdgeCx<'_>) {
        match aborter {
            Aborter::Here(waiting) => self.aborted(waiting, cx),
            Aborter::Elsewhere(token) => {
                if let Some(ctrl) = self.qpairs.get(key).and_then(|qpair| qpair.ctrl()) {
                    ctrl.answer_abort(token, true);
                }
            }
        }
    }

    /// The answer has left: the place is free again.
    #[inline]
    pub(super) fn sent(&mut self, req: ReqId, cx: &mut EdgeCx<'_>) {
        let request = &mut self.requests[req.0];
        let key = request.qpair();
        let (loan, lent) = request.sent();
        if let Some(loan) = loan {
            self.shares.purse(key, cx.pool, self.now_ns).give(loan);
        }
        if let Some(lent) = lent {
            // What was lent is no longer read.
            self.spaces.leave(lent);
        }
        if key != NONE {
            self.forget_request(key);
        }
    }
}

/// The first half of a pair has its buffers: takes those of the second, or none.
#[cold]
fn take_both(
    requests: &mut Requests,
    first: u32,
    second: u32,
    purse: &mut Purse<'_>,
) -> Result<(), Lack> {
    let taken = requests[second].take_buffers(purse);
    if taken.is_err() {
        requests[first].put_back_buffers(purse);
    }
    taken
}

/// The answer to a command, for the transport.
#[inline(always)]
fn response(
    request: &Request,
    qpair: Option<&mut Qpair>,
    answer: Answer,
    data: Option<DmaSlice>,
    now_ns: u64,
) -> Response {
    let mut cqe = Cqe::new(request.sqe().cid(), answer.status);
    (cqe.dw0, cqe.dw1) = (U32::new(answer.dw0), U32::new(answer.dw1));
    let mut implied = false;
    if let Some(qpair) = qpair {
        cqe.sqhd = U16::new(qpair.retire(request.entered()));
        qpair.host_owes(now_ns);
        implied = !qpair.flow_control() && answer.dw0 | answer.dw1 == 0;
    }
    implied &= answer.status == Status::SUCCESS && data.is_some();
    Response { data, lent: false, cqe, cqe_may_be_implied: implied }
}
