//! One reactor's queue pair.

use crate::command::{Cutter, Sizes, Work};
use crate::controller::Inner;
use crate::limits::IO_COMMANDS;
use crate::memory::Mapping;
use crate::namespace::Namespace;
use crate::places::Places;
use crate::queues::Opened;
use crate::ring::Ring;
use crate::shared::{CUT_SHORT, Counters, Failure, Link, NO_CONTROLLER};
use bdev::{Addr, Channel, Cx, Io, Op, OpenCx, Tag};
use nvme_spec::{Cqe, Status};
use std::cell::Cell;
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;

/// How often a channel that cannot work looks whether it can, in ns.
const RETRY_NS: u64 = 1_000_000;

/// A command in the controller's hands.
struct Flight {
    reply_to: Addr,
    reply_tag: Tag,
    /// When it has taken too long.
    due_ns: u64,
    /// An Abort was asked for.
    aborting: bool,
    /// More of its operation follows; see [`NvmeChannel::rests`].
    has_rest: bool,
}

/// Whether the channel may use its rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The controller has them.
    Live,
    /// They are set back and wait to be given to the controller.
    Parked,
    /// The controller may still write to them, and to the memory of the commands in them.
    Stopped,
}

/// A queue pair and the operations in it.
pub(crate) struct NvmeChannel {
    inner: Arc<Inner>,
    namespace: Arc<Namespace>,
    ring: Ring,
    link: Arc<Link>,
    mode: Mode,
    /// The epoch of the controller that the rings belong to.
    epoch: u32,
    flights: Places<Flight>,
    /// By place: what follows the command there.
    rests: Vec<Work>,
    cutter: Cutter,
    /// Operations that wait for a place, or for the controller.
    waiting: VecDeque<Io>,
    limit: usize,
    io_timeout_ns: u64,
    /// When the controller and the time-outs are looked at next.
    care_ns: u64,
    vector: Option<u16>,
    /// The vector may interrupt.
    is_armed: Cell<bool>,
    /// How often the drive was out when a Flush last told of it, or the channel was opened.
    losses: u32,
    /// The data of operations is in these, by number.
    mappings: Vec<Arc<Mapping>>,
}

impl NvmeChannel {
    pub(crate) fn new(
        inner: Arc<Inner>,
        namespace: Arc<Namespace>,
        opened: Opened,
        sizes: Sizes,
        cx: &OpenCx<'_>,
    ) -> NvmeChannel {
        let Opened { ring, link, block, mappings, vector, epoch } = opened;
        let places = IO_COMMANDS.min(ring.entries() - 1);
        let cutter = Cutter::new(&block, &namespace, sizes);
        NvmeChannel {
            mode: Mode::Parked,
            epoch,
            flights: Places::new(places),
            rests: vec![Work::NOTHING; places as usize],
            cutter,
            waiting: VecDeque::with_capacity(cx.limit as usize),
            limit: cx.limit as usize,
            io_timeout_ns: inner.options.io_timeout_ns,
            care_ns: cx.now_ns,
            vector,
            is_armed: Cell::new(false),
            losses: inner.shared.losses(),
            inner,
            namespace,
            ring,
            link,
            mappings,
        }
    }

    /// How an operation ends that the controller is not asked for, if it is so.
    fn verdict(&self, io: &Io) -> Option<Status> {
        let is_inside = self.is_inside(io);
        match io.op {
            _ if self.namespace.blocks() == 0 => Some(Status::INVALID_NAMESPACE.dnr()),
            Op::Flush if self.namespace.geometry().volatile_cache => None,
            Op::Flush => Some(Status::SUCCESS),
            _ if !is_inside => Some(Status::LBA_OUT_OF_RANGE.dnr()),
            _ if io.blocks == 0 => Some(Status::SUCCESS),
            _ if self.cutter.is_beyond_it(io) => Some(Status::INVALID_OPCODE.dnr()),
            Op::Read | Op::Write if !io.data.is_aligned(4) => {
                Some(Status::INVALID_PRP_OFFSET.dnr())
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn is_inside(&self, io: &Io) -> bool {
        let end = io.lba.checked_add(u64::from(io.blocks));
        end.is_some_and(|end| end <= self.namespace.blocks())
    }

    /// Whether an operation needs no more than one transfer, and can start now.
    #[inline(always)]
    fn is_plain(&self, io: &Io) -> bool {
        self.mode == Mode::Live
            && self.waiting.is_empty()
            && !self.flights.is_full()
            && self.cutter.is_one_transfer(io)
            && self.is_inside(io)
            && io.data.is_aligned(4)
    }

    /// Whether an operation is the first Flush since the drive was out: what its volatile cache held
    /// may be lost, and whoever relies on the Flush has to know.
    fn tells_of_loss(&mut self, io: &Io) -> bool {
        if io.op != Op::Flush || !self.namespace.geometry().volatile_cache {
            return false;
        }
        let losses = self.inner.shared.losses();
        std::mem::replace(&mut self.losses, losses) != losses
    }

    /// Takes an operation that is not plain.
    #[inline(never)]
    fn submit_unusual(&mut self, io: Io, cx: &mut Cx<'_>) {
        if let Some(status) = self.verdict(&io) {
            return cx.complete(io, status);
        }
        let is_hopeless = self.mode == Mode::Parked && self.is_hopeless();
        if self.tells_of_loss(&io) || is_hopeless {
            return cx.complete(io, NO_CONTROLLER);
        }
        if self.mode == Mode::Live && self.waiting.is_empty() && !self.flights.is_full() {
            return self.start(io, cx.now_ns());
        }
        assert!(self.waiting.len() < self.limit, "more operations than the channel's limit");
        self.waiting.push_back(io);
    }

    #[inline(always)]
    fn flight(&self, io: Io, now_ns: u64) -> Flight {
        let (reply_to, reply_tag) = io.into_parts();
        let due_ns = now_ns + self.io_timeout_ns;
        Flight { reply_to, reply_tag, due_ns, aborting: false, has_rest: false }
    }

    /// Puts an operation into the queue, or its first piece. There is a place.
    fn start(&mut self, io: Io, now_ns: u64) {
        let mut work = Work::of(&io);
        let piece = self.cutter.cut(&mut work);
        let mut flight = self.flight(io, now_ns);
        flight.has_rest = work.blocks > 0;
        self.send(flight, &piece, work);
    }

    /// Puts a piece of an operation into the queue, of which `rest` follows.
    fn send(&mut self, flight: Flight, piece: &Work, rest: Work) {
        let cid = self.flights.insert(flight);
        self.rests[Places::<Flight>::number(cid)] = rest;
        self.ring.push(self.cutter.sqe(piece, cid, &self.mappings));
    }

    /// Starts what waits, as far as there is place.
    fn start_waiting(&mut self, cx: &mut Cx<'_>) {
        while !self.flights.is_full()
            && let Some(io) = self.waiting.pop_front()
        {
            match self.tells_of_loss(&io) {
                true => cx.complete(io, NO_CONTROLLER),
                false => self.start(io, cx.now_ns()),
            }
        }
    }

    /// Takes what the controller completed.
    fn harvest(&mut self, cx: &mut Cx<'_>) -> u32 {
        let mut taken = 0;
        while taken < self.ring.entries()
            && let Some(cqe) = self.ring.next()
        {
            taken += 1;
            self.finish(&cqe, cx);
        }
        if taken > 0 {
            self.ring.release(&*self.inner.hw);
        }
        taken
    }

    #[inline(always)]
    fn finish(&mut self, cqe: &Cqe, cx: &mut Cx<'_>) {
        let (cid, is_ours) = (cqe.cid.get(), cqe.sqid.get() == self.ring.qid());
        let flight = if is_ours { self.flights.remove(cid) } else { None };
        let Some(flight) = flight else {
            return Counters::add(&self.inner.shared.counters.spurious);
        };
        let mut status = cqe.status();
        if status.bits() != 0 {
            status = self.failed(status);
        }
        if flight.has_rest && status.is_success() {
            return self.go_on(flight, cid, cx.now_ns());
        }
        cx.complete_parts(flight.reply_to, flight.reply_tag, status);
    }

    /// What an operation hears of a status: retry delays and the error log are between the drive
    /// and us.
    #[cold]
    fn failed(&self, status: Status) -> Status {
        if status.is_success() {
            return Status::SUCCESS;
        }
        Counters::add(&self.inner.shared.counters.errors);
        let code = status.code();
        if status.is_dnr() { code.dnr() } else { code }
    }

    /// Sends the next piece of the operation of command `cid`, which is over.
    fn go_on(&mut self, flight: Flight, cid: u16, now_ns: u64) {
        let mut rest = self.rests[Places::<Flight>::number(cid)];
        let piece = self.cutter.cut(&mut rest);
        let due_ns = now_ns.saturating_add(self.io_timeout_ns);
        let has_rest = rest.blocks > 0;
        self.send(Flight { due_ns, aborting: false, has_rest, ..flight }, &piece, rest);
    }

    /// Goes on towards being live. Returns how much was done.
    #[cold]
    fn recover(&mut self, cx: &mut Cx<'_>) -> u32 {
        let shared = self.inner.shared.clone();
        if self.mode != Mode::Stopped && shared.epoch() != self.epoch {
            self.mode = Mode::Stopped;
            self.care_ns = self.care_ns.min(cx.now_ns().saturating_add(RETRY_NS));
        }
        let mut work = 0;
        if self.mode == Mode::Stopped && shared.is_safe(self.epoch) {
            let status = if shared.is_dead() { NO_CONTROLLER } else { CUT_SHORT };
            for flight in self.flights.drain() {
                cx.complete_parts(flight.reply_to, flight.reply_tag, status);
                work += 1;
            }
            self.ring.restart();
            self.epoch = shared.epoch();
            self.link.park(self.epoch);
            self.mode = Mode::Parked;
        }
        if self.mode == Mode::Parked && self.link.is_live(self.epoch) {
            self.ring.go_live(self.link.is_shadowed());
            self.mode = Mode::Live;
        }
        if self.mode == Mode::Parked && self.is_hopeless() {
            while let Some(io) = self.waiting.pop_front() {
                cx.complete(io, NO_CONTROLLER);
                work += 1;
            }
        }
        work
    }

    /// Whether a parked channel will not become live by itself.
    fn is_hopeless(&self) -> bool {
        self.inner.shared.is_dead() || self.link.is_refused()
    }

    /// Looks after the controller, and for commands that take too long.
    #[cold]
    fn care(&mut self, now_ns: u64) -> u32 {
        let inner = self.inner.clone();
        let Some(mut admin) = inner.try_admin() else {
            // Another reactor cares; late commands wait for the next time.
            self.care_ns = now_ns.saturating_add(RETRY_NS);
            return 0;
        };
        if self.mode == Mode::Live {
            let qid = self.ring.qid();
            for (cid, flight) in self.flights.iter_mut().filter(|(_, f)| f.due_ns <= now_ns) {
                if flight.aborting {
                    let why = Failure::Hung("an I/O command does not complete");
                    admin.reset(why, now_ns);
                    break;
                }
                Counters::add(&inner.shared.counters.timeouts);
                flight.aborting = true;
                flight.due_ns = now_ns.saturating_add(inner.options.abort_grace_ns);
                admin.abort(qid, cid, now_ns);
            }
        }
        let work = admin.poll(now_ns);
        self.care_ns = now_ns.saturating_add(match self.mode {
            _ if admin.is_busy() => RETRY_NS,
            Mode::Live if self.flights.len() > 0 => inner.options.watch_ns,
            Mode::Live => inner.options.idle_watch_ns,
            _ if self.is_hopeless() => inner.options.idle_watch_ns,
            _ => RETRY_NS,
        });
        work
    }
}

impl Channel for NvmeChannel {
    fn submit(&mut self, io: Io, cx: &mut Cx<'_>) {
        if !self.is_plain(&io) {
            return self.submit_unusual(io, cx);
        }
        let work = Work::of(&io);
        let cid = self.flights.insert(self.flight(io, cx.now_ns()));
        self.ring.push(self.cutter.transfer(work, cid, &self.mappings));
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> u32 {
        let mut work = 0;
        if self.is_armed.get() {
            self.is_armed.set(false);
            self.vector.iter().for_each(|vector| self.inner.hw.disarm(*vector));
        }
        if self.mode != Mode::Live || self.inner.shared.epoch() != self.epoch {
            work += self.recover(cx);
        }
        if self.mode == Mode::Live {
            if !self.waiting.is_empty() {
                self.start_waiting(cx);
            }
            self.ring.ring(&*self.inner.hw);
            work += self.harvest(cx);
        }
        if cx.now_ns() >= self.care_ns {
            work += self.care(cx.now_ns());
        }
        work
    }

    fn polled(&self) -> bool {
        true
    }

    fn wake_fd(&self) -> Option<RawFd> {
        let fd = self.inner.hw.arm(self.vector?)?;
        self.is_armed.set(true);
        Some(fd)
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        let can_start = !self.waiting.is_empty() && !self.flights.is_full();
        let is_due = can_start || self.ring.has_news();
        let must_poll = self.flights.len() > 0 && self.vector.is_none();
        let is_now = self.mode == Mode::Live && (is_due || must_poll);
        // With something under way, the idle interval that may have been chosen before is too long.
        Some(if is_now { 0 } else { self.care_ns })
    }

    fn outstanding(&self) -> u32 {
        self.flights.len() + self.waiting.len() as u32
    }
}

impl Drop for NvmeChannel {
    fn drop(&mut self) {
        self.link.close();
        // The rings go when the controller has let go of them. The operations are over, so nothing
        // reaches their memory, and it can be taken off the bus at once.
    }
}
