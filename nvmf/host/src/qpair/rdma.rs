//! One queue pair over RDMA: capsules sent, answers received, and data that the controller moves
//! itself, into and from the memory that is lent to the link (NVMe/RDMA Transport Specification).
//! No clock and no thread; the hardware is a trait.

use super::slot::{Slots, Stage};
use super::{Broken, Ended, Payload, finish_if_ended};
use bdev::{DmaSlice, Memory};
use nvme_spec::{Cqe, Sgl, Sqe};
use std::os::fd::RawFd;
use std::sync::Arc;
use verbs::initiator::{Cutter, Ending, Landing, Link, Lost, Send};
use verbs::{Outcome, meaning};
use zerocopy::{FromZeros, IntoBytes};

/// Room for one capsule in the ring: a command and sixteen bytes of data of our own behind it,
/// aligned.
const CAPSULE_BYTES: usize = 128;

/// A command.
const SQE_BYTES: usize = size_of::<Sqe>();

/// An answer.
const CQE_BYTES: usize = size_of::<Cqe>();

/// How often the deadlines of commands are looked at, in ns.
const DEADLINE_CHECK_NS: u64 = 100_000_000;

/// The queue's own memory: a capsule for each command and room for each answer.
pub struct Ring {
    at: DmaSlice,
    depth: u16,
    /// Keeps `at` mapped.
    _memory: Arc<Memory>,
}

impl Ring {
    /// Bytes of memory for `depth` commands.
    pub const fn bytes(depth: u16) -> usize {
        // A queue has one entry more than commands outstanding.
        (depth as usize + 1) * (CAPSULE_BYTES + CQE_BYTES)
    }

    /// A ring in `memory`, from byte `offset` of its first region.
    pub fn new(memory: Arc<Memory>, offset: usize, depth: u16) -> Ring {
        Ring { at: memory.slice(0, offset, Ring::bytes(depth)), depth, _memory: memory }
    }

    /// Where answers land.
    pub fn landings(&self) -> Vec<Landing> {
        (0..=self.depth).map(|slot| self.landing(slot)).collect()
    }

    fn landing(&self, slot: u16) -> Landing {
        let capsules = (usize::from(self.depth) + 1) * CAPSULE_BYTES;
        let cqe = self.at.sub(capsules + usize::from(slot) * CQE_BYTES, CQE_BYTES);
        Landing { slot, cqe }
    }

    /// The capsule of a slot, `bytes` long.
    fn capsule(&self, slot: u16, bytes: usize) -> DmaSlice {
        self.at.sub(usize::from(slot) * CAPSULE_BYTES, bytes)
    }
}

/// A queue pair over RDMA. `T` is the caller's name for a command.
pub struct RdmaQpair<T> {
    /// Before the ring: its queue pair is destroyed first.
    link: Box<dyn Link>,
    ring: Ring,
    slots: Slots<T>,
    in_capsule_bytes: u32,
    /// Commands that leave with the next poll.
    sends: Vec<Send>,
    /// Receives that were used and are to be posted again.
    landings: Vec<Landing>,
    endings: Vec<Ending>,
    next_check_ns: u64,
    now_ns: u64,
}

impl<T: Copy> RdmaQpair<T> {
    /// A queue pair over `link`, which has the receives of `ring`. At most `in_capsule_bytes` bytes
    /// of data go with a command.
    pub fn new(link: Box<dyn Link>, ring: Ring, in_capsule_bytes: u32) -> RdmaQpair<T> {
        let depth = usize::from(ring.depth);
        RdmaQpair {
            link,
            slots: Slots::new(ring.depth),
            ring,
            in_capsule_bytes,
            sends: Vec::with_capacity(depth),
            landings: Vec::with_capacity(depth + 1),
            endings: Vec::with_capacity(2 * depth + 1),
            next_check_ns: 0,
            now_ns: 0,
        }
    }

    /// Lets payloads lie in `memory`, in place of the ring's.
    ///
    /// # Errors
    /// The device's, as a sentence.
    ///
    /// # Panics
    /// If a command is under way.
    pub fn lend(&mut self, memory: &Arc<Memory>) -> Result<(), String> {
        assert!(self.slots.used() == 0, "payloads under way lie in other memory");
        self.link.lend(memory).map_err(|error| error.0)
    }

    /// Whether one more command may be submitted.
    pub fn has_room(&self) -> bool {
        self.slots.has_free()
    }

    /// Whether nothing is under way.
    pub fn is_quiet(&self) -> bool {
        self.slots.used() == 0
    }

    /// Takes a command; it leaves with the next [`RdmaQpair::poll`]. The command identifier is set
    /// here; so is the data pointer, unless `sqe` has one other than "in the capsule", and PSDT,
    /// unless it is nonzero.
    ///
    /// The memory of `payload`, which is lent to the queue pair or its own, belongs to the command
    /// until its ticket comes back, or until the connection was closed.
    ///
    /// # Panics
    /// If there is no room.
    #[inline]
    pub fn submit(&mut self, ticket: T, mut sqe: Sqe, payload: Payload, deadline_ns: u64) {
        let (index, slot) = self.slots.take().expect("the caller asks for room first");
        sqe.cid = slot.cid.into();
        if sqe.flags >> 6 == 0 {
            sqe.flags |= Sqe::FLAGS_SGL;
        }
        slot.ticket = Some(ticket);
        slot.payload = payload;
        slot.received = 0;
        slot.damaged = false;
        slot.deadline_ns = deadline_ns;
        slot.stage = Stage::Queued;
        // Its capsule is read until the SEND has ended, whenever the answer comes.
        slot.sending = 1;
        let mut capsule = self.ring.capsule(index, SQE_BYTES);
        let mut data = None;
        let unset = sqe.dptr.kind == 0 && sqe.dptr == Sgl::default();
        if unset || sqe.dptr.kind == Sgl::IN_CAPSULE {
            let (pointer, bytes) = self.describe(index, payload);
            sqe.dptr = pointer;
            match payload {
                Payload::ToController(memory) if bytes > 0 => data = Some(memory),
                Payload::Range(_) => capsule = self.ring.capsule(index, SQE_BYTES + bytes),
                _ => {}
            }
        }
        capsule.copy_in(0, sqe.as_bytes());
        self.sends.push(Send { slot: index, capsule, data });
    }

    /// Where a command's data is, and how much of it goes with the command.
    #[inline]
    fn describe(&self, index: u16, payload: Payload) -> (Sgl, usize) {
        let fits = |bytes: usize| bytes > 0 && bytes <= self.in_capsule_bytes as usize;
        let keyed = |memory: DmaSlice, key: u32| {
            // The key is good for as long as the connection: nobody invalidates it.
            Sgl::keyed(memory.as_ptr() as u64, memory.len() as u32, key, false)
        };
        match payload {
            Payload::None => (Sgl::keyed(0, 0, 0, false), 0),
            Payload::ToController(memory) if fits(memory.len()) => {
                (Sgl::in_capsule(0, memory.len() as u32), memory.len())
            }
            Payload::ToHost(memory) | Payload::ToController(memory) => {
                (keyed(memory, self.link.key(memory)), 0)
            }
            Payload::Range(range) => {
                let whole = self.ring.capsule(index, SQE_BYTES + range.len());
                whole.copy_in(SQE_BYTES, &range);
                if fits(range.len()) {
                    return (Sgl::in_capsule(0, range.len() as u32), range.len());
                }
                (keyed(whole.sub(SQE_BYTES, range.len()), self.link.own_key()), 0)
            }
        }
    }

    /// Sends what waits, all of it as one chain, and takes what has ended. `end` hears of each
    /// command that ended. Returns how much was done.
    ///
    /// # Errors
    /// Why the connection is lost. Commands that have not ended are still held, and their memory
    /// may still be used: see [`RdmaQpair::close`].
    pub fn poll(&mut self, now_ns: u64, mut end: impl FnMut(T, Ended)) -> Result<u32, Broken> {
        self.now_ns = now_ns;
        let mut work = self.post()?;
        let RdmaQpair { link, endings, .. } = self;
        let lost = link.poll(endings).err();
        let mut endings = std::mem::take(&mut self.endings);
        work += endings.len() as u32;
        let taken = endings.drain(..).try_for_each(|ending| self.ended(ending, &mut end));
        self.endings = endings;
        taken?;
        match lost {
            Some(Lost::Disconnected) => return Err(Broken::Ended),
            Some(Lost::Broken(why)) => return Err(Broken::Rdma(why)),
            None => {}
        }
        // Before the next commands leave: each finds a receive for its answer.
        self.link.receive(&self.landings).map_err(|error| Broken::Rdma(error.0))?;
        self.landings.clear();
        if now_ns >= self.next_check_ns {
            self.next_check_ns = now_ns.saturating_add(DEADLINE_CHECK_NS);
            if self.slots.earliest_deadline_ns().is_some_and(|deadline| deadline <= now_ns) {
                return Err(Broken::Timeout);
            }
        }
        Ok(work)
    }

    fn post(&mut self) -> Result<u32, Broken> {
        if self.sends.is_empty() {
            return Ok(0);
        }
        for send in &self.sends {
            self.slots.at(send.slot).stage = Stage::Sent;
        }
        self.link.send(&self.sends).map_err(|error| Broken::Rdma(error.0))?;
        let count = self.sends.len() as u32;
        self.sends.clear();
        Ok(count)
    }

    fn ended(&mut self, ending: Ending, end: &mut impl FnMut(T, Ended)) -> Result<(), Broken> {
        match ending {
            Ending::Sent { slot, outcome } => {
                succeeded("a command could not be sent", outcome)?;
                self.slots.at(slot).sending -= 1;
                finish_if_ended(&mut self.slots, slot, end);
                Ok(())
            }
            Ending::Received { slot, outcome, bytes, invalidated } => {
                succeeded("an answer could not be received", outcome)?;
                let landing = self.ring.landing(slot);
                self.landings.push(landing);
                if bytes as usize != CQE_BYTES {
                    return Err(Broken::Protocol("an answer is not as long as a completion"));
                }
                if invalidated.is_some() {
                    return Err(Broken::Protocol("it invalidates a key without being asked"));
                }
                let mut cqe = Cqe::new_zeroed();
                landing.cqe.copy_out(0, cqe.as_mut_bytes());
                self.answered(cqe, end)
            }
        }
    }

    /// An answer has come; data of the controller's is there, for it was written before.
    fn answered(&mut self, cqe: Cqe, end: &mut impl FnMut(T, Ended)) -> Result<(), Broken> {
        let Some((index, slot)) = self.slots.sent(cqe.cid.get()) else {
            return Err(Broken::Protocol("it answers a command that is not under way"));
        };
        if let (Payload::ToHost(memory), true) = (slot.payload, cqe.status().is_success()) {
            slot.received = memory.len() as u32;
        }
        slot.stage = Stage::Ended(slot.ended(cqe));
        finish_if_ended(&mut self.slots, index, end);
        Ok(())
    }

    /// Ends the connection, and takes back every command that has not ended: no memory of theirs
    /// is used any more.
    pub fn close(&mut self, each: impl FnMut(T)) {
        self.link.close();
        self.sends.clear();
        self.landings.clear();
        self.slots.drain(each);
    }

    /// With which another thread ends the connection.
    pub fn cutter(&self) -> Box<dyn Cutter> {
        self.link.cutter()
    }

    /// A descriptor that becomes readable when something has ended.
    pub fn fd(&self) -> Option<RawFd> {
        self.link.wake_fd()
    }

    /// When to poll even if nothing wakes the descriptor.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        if !self.sends.is_empty() || !self.link.may_sleep() {
            return Some(self.now_ns);
        }
        (self.slots.used() > 0).then_some(self.next_check_ns)
    }

    /// Whether whatever happens next makes the descriptor readable.
    pub fn may_sleep(&self) -> bool {
        self.sends.is_empty() && self.link.may_sleep()
    }
}

/// Whether a work request did what it should; else, what this says of the connection.
fn succeeded(what: &str, outcome: Outcome) -> Result<(), Broken> {
    match outcome {
        Outcome::Done => Ok(()),
        // Something before it failed, or the queue pair was ended.
        Outcome::Flushed => Err(Broken::Ended),
        Outcome::Failed(code) => {
            Err(Broken::Rdma(format!("{what}: {}, code {code}", meaning(code))))
        }
    }
}
