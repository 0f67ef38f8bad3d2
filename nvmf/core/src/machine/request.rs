//! The life of a command at the target, the only request state machine:
//!
//! ```text
//! New --> Working: Waiting --> Pulling --> Fetched --> Executing --> Responding
//!     \--> FirstOfPair, EventHeld, Aborting ----------------------/
//! ```
//!
//! A command waits before it holds anything, and takes all it needs at once, so that no two
//! commands ever wait for each other.

use crate::export::gate::Pass;
use crate::machine::io::command::Fault;
use crate::machine::job::{HostData, IoJob, Job, Needs, Pair};
use crate::machine::share::{Lack, Loan, Purse};
use bdev::DmaSlice;
use nvme_spec::{Sqe, Status};
use std::ops::{Index, IndexMut};

/// The commands of a reactor, by their places in the transport.
pub(crate) struct Requests {
    places: Box<[Request]>,
}

impl Requests {
    /// Places for `limit` commands, none used.
    pub(crate) fn new(limit: u32) -> Requests {
        Requests { places: (0..limit).map(|_| Request::free()).collect() }
    }

    /// Commands that have come and whose answer has not left.
    pub(crate) fn busy(&self) -> usize {
        self.places.iter().filter(|request| !matches!(request.life, Life::Free)).count()
    }

    /// The places of commands that work on a namespace now, with its place in the reactor's table.
    pub(crate) fn on_namespaces(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let busy = self.places.iter().enumerate();
        busy.filter_map(|(at, request)| Some((at as u32, request.working()?.job.space()?)))
    }
}

impl Index<u32> for Requests {
    type Output = Request;

    #[inline]
    fn index(&self, at: u32) -> &Request {
        &self.places[at as usize]
    }
}

impl IndexMut<u32> for Requests {
    #[inline]
    fn index_mut(&mut self, at: u32) -> &mut Request {
        &mut self.places[at as usize]
    }
}

/// Where a command is in its life.
#[derive(Debug)]
enum Life {
    /// The place is not used.
    Free,
    /// It came, and is being looked at.
    New,
    /// First half of a fused pair; the second has not come.
    FirstOfPair,
    /// An Asynchronous Event Request that waits for an event.
    EventHeld,
    /// An Abort that waits for the end of the command it aborts.
    Aborting,
    /// It is known what it does, and it is done.
    Working(Work),
    /// Answered; the transport still reads what goes to the host.
    Responding {
        /// Data of the answer.
        buf: Option<Loan>,
        /// The namespace whose blocks are lent.
        lent: Option<u32>,
    },
}

/// What is done for a command.
#[derive(Debug)]
pub(crate) struct Work {
    /// What the command is, and how far.
    pub(crate) job: Job,
    /// What it takes.
    needs: Needs,
    /// What of that it holds: nothing while it waits.
    held: Held,
    /// Where it is.
    stage: Stage,
}

/// Where the work of a command is.
#[derive(Debug)]
pub(crate) enum Stage {
    /// In line for buffers; holds none.
    Waiting,
    /// The transport fetches the host's data.
    Pulling,
    /// Everything it needs is here: it executes, or waits for the other half of its pair.
    Fetched,
    /// Held back by a fused pair that is active, or by writes that a fused pair waits for.
    Gated,
    /// It has asked something that is answered elsewhere, later.
    Elsewhere,
    /// Under way in the stack.
    Executing {
        /// What of it.
        step: Step,
        /// Permission to write, while the write is under way.
        pass: Option<Pass>,
    },
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

/// Buffers of a command.
#[derive(Debug, Default)]
struct Held {
    buf: Option<Loan>,
    scratch: Option<Loan>,
}

impl Held {
    /// Takes all that is needed, or nothing.
    #[inline(always)]
    fn take(&mut self, needs: &Needs, purse: &mut Purse<'_>) -> Result<(), Lack> {
        if needs.data_bytes > 0 {
            self.buf = Some(purse.take(needs.data_bytes)?);
        }
        match needs.scratch_bytes {
            0 => Ok(()),
            bytes => self.take_scratch(bytes, purse),
        }
    }

    #[inline(never)]
    fn take_scratch(&mut self, bytes: u32, purse: &mut Purse<'_>) -> Result<(), Lack> {
        match purse.take(bytes) {
            Ok(loan) => self.scratch = Some(loan),
            Err(lack) => {
                self.put_back(purse);
                return Err(lack);
            }
        }
        Ok(())
    }

    #[inline(never)]
    fn give(&mut self, purse: &mut Purse<'_>) {
        if let Some(loan) = self.buf.take() {
            purse.give(loan);
        }
        if let Some(loan) = self.scratch.take() {
            purse.give(loan);
        }
    }

    /// Gives back what it has not used.
    fn put_back(&mut self, purse: &mut Purse<'_>) {
        for loan in [self.buf.take(), self.scratch.take()].into_iter().flatten() {
            purse.put_back(loan);
        }
    }
}

/// The Abort command that waits for the end of another command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aborter {
    /// On this reactor: its request.
    Here(u32),
    /// On another reactor: the controller carries the answer.
    Elsewhere(u32),
}

/// What is known of every command that is taken in, until it is answered.
#[derive(Debug, Default)]
struct Taken {
    sqe: Sqe,
    /// Data that came in the capsule.
    in_capsule: Option<DmaSlice>,
    /// Its identifier is entered in the queue pair's table.
    entered: bool,
    /// The turn that took it in, in ns of the reactor's clock.
    began_ns: u64,
    /// It ends with this status as soon as it can.
    doomed: Option<Status>,
    /// The Abort command that waits for its end.
    aborter: Option<Aborter>,
}

/// A place for a command.
#[derive(Debug)]
pub(crate) struct Request {
    /// Its queue pair, or [`super::place::NONE`] when that was gone before it came.
    qpair: u32,
    /// Questions that its commands have asked elsewhere, so that no answer is taken for another's.
    questions: u32,
    taken: Taken,
    life: Life,
}

/// What has to be done for a command that is to end early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doom {
    /// It cannot be stopped: the whole of it is in the stack, or it has ended.
    Futile,
    /// It ends by itself: after the pull or the step it is in, with the other half, or at the next
    /// look at the gate.
    Ends,
    /// It is in line for buffers: to be taken out.
    Waits,
    /// It waits for an event.
    EventHeld,
    /// It waits for the second half of its pair.
    FirstOfPair,
}

/// What is left of a command when its answer is given.
pub(crate) struct Ended {
    /// The data of the answer.
    pub(crate) data: Option<DmaSlice>,
    /// The Abort command that waited for its end.
    pub(crate) aborter: Option<Aborter>,
}

impl Request {
    fn free() -> Request {
        Request {
            qpair: super::place::NONE,
            questions: 0,
            taken: Taken::default(),
            life: Life::Free,
        }
    }

    /// Makes the place that of a new command. One whose capsule is damaged ends with that status.
    #[inline]
    pub(crate) fn begin(
        &mut self,
        qpair: u32,
        sqe: &Sqe,
        in_capsule: Result<Option<DmaSlice>, Status>,
        now_ns: u64,
    ) {
        assert!(matches!(self.life, Life::Free), "the transport used a request's place twice");
        self.life = Life::New;
        self.qpair = qpair;
        self.taken = Taken {
            sqe: *sqe,
            in_capsule: in_capsule.unwrap_or_default(),
            entered: false,
            began_ns: now_ns,
            doomed: in_capsule.err(),
            aborter: None,
        };
    }

    /// Makes the place that of a command that goes to memory, and is answered with no state between.
    #[inline]
    pub(crate) fn begin_direct(&mut self, qpair: u32, space: u32) {
        assert!(matches!(self.life, Life::Free), "the transport used a request's place twice");
        self.life = Life::Responding { buf: None, lent: Some(space) };
        self.qpair = qpair;
    }

    /// Its queue pair, or [`super::place::NONE`].
    #[inline]
    pub(crate) fn qpair(&self) -> u32 {
        self.qpair
    }

    /// The command, until it is answered.
    #[inline]
    pub(crate) fn sqe(&self) -> &Sqe {
        &self.taken.sqe
    }

    /// The turn that took it in, in ns of the reactor's clock.
    pub(crate) fn began_ns(&self) -> u64 {
        self.taken.began_ns
    }

    /// Data that came in its capsule.
    pub(crate) fn in_capsule(&self) -> Option<DmaSlice> {
        self.taken.in_capsule
    }

    /// What it needs that takes `bytes` from the host.
    ///
    /// # Errors
    /// When less came in the capsule.
    pub(crate) fn needs_from_host(&self, bytes: u32) -> Result<Needs, Fault> {
        Needs::from_host(&self.taken.sqe, self.taken.in_capsule, bytes)
    }

    /// Notes whether its identifier is entered in the queue pair's table.
    pub(crate) fn set_entered(&mut self, entered: bool) {
        self.taken.entered = entered;
    }

    /// Its identifier, if it is entered in the queue pair's table.
    #[inline]
    pub(crate) fn entered(&self) -> Option<u16> {
        self.taken.entered.then(|| self.taken.sqe.cid())
    }

    /// The status that it ends with as soon as it can, if it is to end early.
    #[inline]
    pub(crate) fn doomed(&self) -> Option<Status> {
        self.taken.doomed
    }

    /// Whether an Abort waits for its end.
    pub(crate) fn has_aborter(&self) -> bool {
        self.taken.aborter.is_some()
    }

    /// An Abort waits for its end.
    pub(crate) fn set_aborter(&mut self, aborter: Aborter) {
        self.taken.aborter = Some(aborter);
    }

    /// Whether it waits for an event.
    pub(crate) fn is_event_held(&self) -> bool {
        matches!(self.life, Life::EventHeld)
    }

    /// Whether it is an Abort that waits.
    pub(crate) fn is_aborting(&self) -> bool {
        matches!(self.life, Life::Aborting)
    }

    /// Whether it has been answered.
    pub(crate) fn is_answered(&self) -> bool {
        matches!(self.life, Life::Responding { .. })
    }

    #[inline]
    fn working(&self) -> Option<&Work> {
        match &self.life {
            Life::Working(work) => Some(work),
            _ => None,
        }
    }

    /// What is done for it.
    ///
    /// # Panics
    /// If nothing is: whoever carries out a step of a command knows that it is planned.
    #[inline]
    fn work(&mut self) -> &mut Work {
        match &mut self.life {
            Life::Working(work) => work,
            other => unreachable!("a command that is planned works, not {other:?}"),
        }
    }

    /// What it is, and how far.
    #[inline]
    pub(crate) fn job(&self) -> &Job {
        match &self.life {
            Life::Working(work) => &work.job,
            other => unreachable!("a command that is planned works, not {other:?}"),
        }
    }

    /// The data command on blocks that it is.
    ///
    /// # Panics
    /// If it is none.
    #[inline]
    pub(crate) fn io(&mut self) -> &mut IoJob {
        match &mut self.work().job {
            Job::Io(io) => io,
            other => unreachable!("{other:?} is not a data command"),
        }
    }

    /// As [`Request::io`], to look at.
    #[inline]
    pub(crate) fn io_ref(&self) -> &IoJob {
        match self.job() {
            Job::Io(io) => io,
            other => unreachable!("{other:?} is not a data command"),
        }
    }

    /// What it is, if that is known.
    #[inline]
    pub(crate) fn job_if_known(&self) -> Option<&Job> {
        self.working().map(|work| &work.job)
    }

    /// What it is, to change, for jobs that change what they work on.
    pub(crate) fn job_mut(&mut self) -> &mut Job {
        &mut self.work().job
    }

    /// Where its work is, if it works.
    #[inline]
    pub(crate) fn stage(&self) -> Option<&Stage> {
        self.working().map(|work| &work.stage)
    }

    /// It is known what it does and what it needs.
    pub(crate) fn plan(&mut self, job: Job, needs: Needs) {
        debug_assert!(matches!(self.life, Life::New | Life::FirstOfPair), "{:?}", self.life);
        let held = Held::default();
        self.life = Life::Working(Work { job, needs, held, stage: Stage::Waiting });
    }

    /// Its data goes straight to the blocks of a device.
    pub(crate) fn land_at(&mut self, blocks: DmaSlice) {
        let work = self.work();
        work.needs = Needs { data_bytes: 0, host_data: HostData::Landing(blocks), ..work.needs };
    }

    /// What it needs.
    #[inline]
    pub(crate) fn needs(&self) -> Needs {
        self.working().map_or(Needs::NOTHING, |work| work.needs)
    }

    /// Its part in a fused pair.
    #[inline]
    pub(crate) fn pair(&self) -> &Pair {
        match self.working().map(|work| &work.job) {
            Some(Job::Io(io)) => &io.pair,
            _ => &Pair::Alone,
        }
    }

    /// Whether it waits for buffers before it can go on.
    #[inline]
    pub(crate) fn takes_buffers(&self) -> bool {
        self.needs().takes_buffers() || !matches!(self.pair(), Pair::Alone)
    }

    /// Takes the buffers that it needs, or none.
    #[inline(always)]
    pub(crate) fn take_buffers(&mut self, purse: &mut Purse<'_>) -> Result<(), Lack> {
        let work = self.work();
        work.held.take(&work.needs, purse)
    }

    /// Gives its buffers back, which it has not used.
    pub(crate) fn put_back_buffers(&mut self, purse: &mut Purse<'_>) {
        self.work().held.put_back(purse);
    }

    /// Its buffers are there: what of the host's data has to be asked for, and where it goes.
    #[inline(always)]
    pub(crate) fn fetch(&mut self) -> HostData {
        let in_capsule = self.taken.in_capsule;
        let work = self.work();
        let host_data = work.needs.host_data;
        work.stage = match host_data {
            HostData::Pulled | HostData::Landing(_) => Stage::Pulling,
            HostData::None | HostData::InCapsule | HostData::Copied => Stage::Fetched,
        };
        if let (HostData::Copied, Some(buf), Some(from)) = (host_data, &work.held.buf, in_capsule) {
            buf.slice().copy_from(from.sub(0, work.needs.data_bytes as usize));
        }
        host_data
    }

    /// It asks something that is answered elsewhere. Returns the number of the question.
    pub(crate) fn ask(&mut self) -> u32 {
        self.questions = self.questions.wrapping_add(1);
        self.work().stage = Stage::Elsewhere;
        self.questions
    }

    /// The answer to question `number` has come.
    ///
    /// # Panics
    /// If it is not waited for: each question is answered once.
    pub(crate) fn answered_elsewhere(&mut self, number: u32) {
        let waits = matches!(self.stage(), Some(Stage::Elsewhere));
        assert!(waits && self.questions == number, "a question is answered once");
        self.work().stage = Stage::Fetched;
    }

    /// A pull has ended. True if its data went to the blocks of a device.
    pub(crate) fn pulled(&mut self, status: Status) -> bool {
        if !status.is_success() {
            self.taken.doomed.get_or_insert(status);
        }
        let work = self.work();
        assert!(matches!(work.stage, Stage::Pulling), "a pull ends once");
        work.stage = Stage::Fetched;
        matches!(work.needs.host_data, HostData::Landing(_))
    }

    /// The host's data, or the room for what it reads: `bytes` of it.
    #[inline]
    pub(crate) fn data(&self, bytes: u32) -> DmaSlice {
        let buf = self.working().and_then(|work| work.held.buf.as_ref()).map(Loan::slice);
        let whole = buf.or(self.taken.in_capsule).unwrap_or(DmaSlice::EMPTY);
        whole.sub(0, bytes as usize)
    }

    /// The room for blocks to compare, to verify or to copy: `bytes` of it.
    pub(crate) fn scratch(&self, bytes: u32) -> DmaSlice {
        let scratch = self.working().and_then(|work| work.held.scratch.as_ref());
        scratch.expect("taken with the buffers").slice().sub(0, bytes as usize)
    }

    /// It waits at the gate, or for the step of the other half of its pair.
    #[inline]
    pub(crate) fn set_stage(&mut self, stage: Stage) {
        self.work().stage = stage;
    }

    /// A step has ended in the stack: which one, and the permission to write that it had.
    #[inline]
    pub(crate) fn step_ends(&mut self) -> (Step, Option<Pass>) {
        match std::mem::replace(&mut self.work().stage, Stage::Fetched) {
            Stage::Executing { step, pass } => (step, pass),
            other => unreachable!("a completion while {other:?}"),
        }
    }

    /// It is the first half of a fused pair.
    pub(crate) fn hold_as_first(&mut self) {
        self.life = Life::FirstOfPair;
    }

    /// It waits for an event.
    pub(crate) fn hold_for_event(&mut self) {
        self.life = Life::EventHeld;
    }

    /// It is an Abort, which waits.
    pub(crate) fn hold_as_abort(&mut self) {
        self.life = Life::Aborting;
    }

    /// It ends with `status` as soon as it can.
    pub(crate) fn doom(&mut self, status: Status) -> Doom {
        let doom = match &self.life {
            Life::Free | Life::Responding { .. } | Life::Aborting => return Doom::Futile,
            Life::Working(work) => match &work.stage {
                Stage::Executing {
                    step: Step::Whole | Step::CompareRead | Step::PairWrite,
                    ..
                } => {
                    return Doom::Futile;
                }
                Stage::Waiting => Doom::Waits,
                _ => Doom::Ends,
            },
            Life::EventHeld => Doom::EventHeld,
            Life::FirstOfPair => Doom::FirstOfPair,
            Life::New => Doom::Ends,
        };
        self.taken.doomed.get_or_insert(status);
        doom
    }

    /// Its answer is given, with `data_bytes` of its buffer; its other buffers go back.
    #[inline(always)]
    pub(crate) fn respond(&mut self, data_bytes: u32, purse: &mut Purse<'_>) -> Ended {
        let data = (data_bytes > 0).then(|| self.data(data_bytes));
        let buf = match &mut self.life {
            Life::Working(Work { held, .. }) => {
                let kept = if data.is_some() { held.buf.take() } else { None };
                if held.buf.is_some() || held.scratch.is_some() {
                    held.give(purse);
                }
                kept
            }
            Life::Free | Life::Responding { .. } => unreachable!("a command is answered once"),
            Life::New | Life::FirstOfPair | Life::EventHeld | Life::Aborting => None,
        };
        self.life = Life::Responding { buf, lent: None };
        Ended { data, aborter: self.taken.aborter.take() }
    }

    /// It ends without an answer.
    pub(crate) fn discard(&mut self) {
        self.life = Life::Responding { buf: None, lent: None };
    }

    /// The answer has left: the place is free again. Returns the buffer that it was in, and the
    /// namespace whose blocks were lent.
    #[inline]
    pub(crate) fn sent(&mut self) -> (Option<Loan>, Option<u32>) {
        match std::mem::replace(&mut self.life, Life::Free) {
            Life::Responding { buf, lent } => (buf, lent),
            other => panic!("an answer is sent once, not while {other:?}"),
        }
    }
}
