//! What a volume is between operations, on its reactor or parked; and how the thread that keeps the
//! metadata reaches it in either place.

use crate::directory::Stock;
use crate::entry::Slot;
use crate::keeper::Request;
use crate::limits::Limits;
use crate::volume::{Dirty, Volume};
use crate::writers::Writers;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A volume asks for slots when it has fewer than this many.
const LOW_SLOTS: usize = 64;

/// And for this many.
const SLOTS_AT_ONCE: usize = 192;

/// A volume, or a snapshot that is looked at, by a number of its own.
pub(crate) type ViewId = u64;

/// What a volume is between operations.
pub(crate) struct VolumeState {
    pub id: ViewId,
    pub map: Volume,
    pub limits: Limits,
    /// The limits were changed: the channel looks at them.
    pub limits_changed: bool,
    keeper: Sender<Request>,
    /// Where the pool counts slots of stocks that are used.
    used: Arc<Stock>,
    /// Free slots, reserved ahead.
    stock: Vec<Slot>,
    /// More were asked for.
    asked: bool,
    /// Commits asked for, and those that have ended.
    sent: u64,
    ended: u64,
    /// Slots that each commit under way gives up.
    limbo: VecDeque<Vec<Slot>>,
    /// A commit has failed: what is not durable now will never be.
    pub failed: bool,
}

impl VolumeState {
    /// `keeper`: how it is asked, and where slots are counted.
    pub(crate) fn new(
        id: ViewId,
        map: Volume,
        limits: Limits,
        keeper: (Sender<Request>, Arc<Stock>),
    ) -> Self {
        let (keeper, used) = keeper;
        VolumeState {
            id,
            map,
            limits,
            limits_changed: true,
            keeper,
            used,
            stock: Vec::new(),
            asked: false,
            sent: 0,
            ended: 0,
            limbo: VecDeque::new(),
            failed: false,
        }
    }

    fn send(&self, request: Request) {
        // A keeper that is gone has ended with an error or on the way down: nothing more becomes
        // durable, and whoever waits for that is told by the failed mark or by the end of it all.
        let _ = self.keeper.send(request);
    }

    /// How many slots wait to be used.
    pub(crate) fn stock(&self) -> usize {
        self.stock.len()
    }

    /// Takes a slot; asks for more in time.
    pub(crate) fn take_slot(&mut self) -> Option<Slot> {
        let slot = self.stock.pop();
        slot.into_iter().for_each(|slot| self.used.used(slot));
        if self.stock.len() < LOW_SLOTS {
            self.want_slots(0);
        }
        slot
    }

    /// Asks for slots, if that is not under way: without `needed` of them a write cannot begin.
    pub(crate) fn want_slots(&mut self, needed: usize) {
        if !std::mem::replace(&mut self.asked, true) {
            self.send(Request::Slots { view: self.id, wanted: SLOTS_AT_ONCE, needed });
        }
    }

    /// A write was refused for want of a slot.
    pub(crate) fn found_full(&self) {
        self.send(Request::Full);
    }

    /// More slots; none if there are none.
    pub(crate) fn granted(&mut self, slots: Vec<Slot>) {
        self.asked = false;
        self.stock.extend(slots);
    }

    /// Gives the stock back.
    pub(crate) fn give_stock(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.stock)
    }

    /// Has everything that changed committed.
    pub(crate) fn commit(&mut self) {
        let dirty = self.map.take_dirty();
        self.send_commit(dirty);
    }

    /// Has `dirty`, just taken from the map, committed.
    pub(crate) fn send_commit(&mut self, mut dirty: Dirty) {
        self.sent += 1;
        self.limbo.push_back(std::mem::take(&mut dirty.given_up));
        let gone = self.limbo.back().map_or(0, Vec::len) as u64;
        self.send(Request::Commit { view: self.id, updates: dirty.updates, gone });
    }

    /// The oldest commit has ended. Returns slots that are free when every operation under way has
    /// ended.
    pub(crate) fn committed(&mut self, ok: bool) -> Vec<Slot> {
        self.ended += 1;
        self.failed |= !ok;
        self.map.committed(ok);
        let given_up = self.limbo.pop_front().expect("one for each commit");
        if ok { given_up } else { Vec::new() }
    }

    /// Every commit has ended, and nothing is under way: the slots that are free now.
    pub(crate) fn all_committed(&mut self) -> Vec<Slot> {
        self.ended = self.sent;
        self.limbo.drain(..).flatten().collect()
    }

    /// Whether a commit is under way.
    pub(crate) fn is_committing(&self) -> bool {
        self.sent != self.ended
    }

    /// The number of the commit that has to end before what has been written by now is durable;
    /// none if it is.
    pub(crate) fn wanted_commit(&self) -> Option<u64> {
        match (self.map.is_dirty(), self.is_committing()) {
            (true, _) => Some(self.sent + 1),
            (false, true) => Some(self.sent),
            (false, false) => None,
        }
    }

    /// Commits that have ended.
    pub(crate) fn ended(&self) -> u64 {
        self.ended
    }
}

/// Slots that are free once everybody who holds this has let go.
pub(crate) struct FreeLater {
    slots: Vec<Slot>,
    keeper: Sender<Request>,
}

impl FreeLater {
    pub(crate) fn new(slots: Vec<Slot>, keeper: Sender<Request>) -> Arc<FreeLater> {
        Arc::new(FreeLater { slots, keeper })
    }
}

impl Drop for FreeLater {
    fn drop(&mut self) {
        // Without a keeper nobody takes slots any more.
        let _ = self.keeper.send(Request::Free(std::mem::take(&mut self.slots)));
    }
}

/// Which writes wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All.
    Volume,
    /// Those of one extent.
    Extent(u64),
}

/// What the keeper tells a volume.
pub(crate) enum Mail {
    /// New writes wait; answer when those under way have ended.
    Hold(Scope, Sender<()>),
    /// Writes go on.
    Release,
    /// Do this between operations.
    Run(Box<dyn FnOnce(&mut VolumeState) + Send>),
    /// Slots that were asked for; none if there are none.
    Granted(Vec<Slot>),
    /// The oldest commit has ended, well or not.
    Committed(bool),
    /// Let go when every operation under way has ended.
    Fence(Arc<FreeLater>),
}

enum Place {
    /// No reactor has it open.
    Parked(Box<VolumeState>),
    /// A reactor has it, and finds its mail here.
    Open(Vec<Mail>),
    /// It was deleted.
    Gone,
}

/// A volume as its reactor, the keeper and the rest of the process share it.
pub(crate) struct View {
    pub block_bytes: u32,
    /// Size in bytes.
    bytes: AtomicU64,
    pub read_only: bool,
    /// All of its blocks are there, and stay.
    pub filled: bool,
    /// The reactor that it lives on.
    pub home: usize,
    /// Hosts that have written to it.
    pub writers: Arc<Writers>,
    /// Slots that its live node names, as of its last step.
    own_slots: Arc<AtomicU64>,
    pub traffic: Traffic,
    place: Mutex<Place>,
    has_mail: AtomicBool,
    wake: Arc<dyn Fn(usize) + Send + Sync>,
}

/// What a volume has done since it was opened. One writer.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Reads.
    pub reads: AtomicU64,
    /// Bytes read.
    pub read_bytes: AtomicU64,
    /// Writes.
    pub writes: AtomicU64,
    /// Bytes written.
    pub written_bytes: AtomicU64,
    /// Operations that waited for [`Limits`].
    pub held_back: AtomicU64,
    /// Writes that found no space.
    pub found_full: AtomicU64,
}

impl Traffic {
    pub(crate) fn add(cell: &AtomicU64, amount: u64) {
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }
}

/// What a view is made of.
pub(crate) struct NewView {
    pub block_bytes: u32,
    pub bytes: u64,
    pub read_only: bool,
    pub filled: bool,
    pub home: usize,
    pub writers: Arc<Writers>,
}

impl View {
    pub(crate) fn new(
        new: NewView,
        state: VolumeState,
        wake: Arc<dyn Fn(usize) + Send + Sync>,
    ) -> View {
        let NewView { block_bytes, bytes, read_only, filled, home, writers } = new;
        let own_slots = state.map.shown();
        View {
            block_bytes,
            bytes: AtomicU64::new(bytes),
            read_only,
            filled,
            home,
            writers,
            own_slots,
            traffic: Traffic::default(),
            place: Mutex::new(Place::Parked(Box::new(state))),
            has_mail: AtomicBool::new(false),
            wake,
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        // Whoever panicked with it has changed nothing by halves: mail is pushed or taken whole.
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Slots that its live node names, as of its last step.
    pub(crate) fn own_slots(&self) -> u64 {
        self.own_slots.load(Ordering::Relaxed)
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    pub(crate) fn resize(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Release);
    }

    /// A reactor takes it; none if one has it.
    pub(crate) fn take(&self) -> Option<Box<VolumeState>> {
        let mut place = self.place();
        match std::mem::replace(&mut *place, Place::Open(Vec::new())) {
            Place::Parked(state) => Some(state),
            other => {
                *place = other;
                None
            }
        }
    }

    /// It is deleted: nobody can open it any more. None if somebody has it open.
    pub(crate) fn retire(&self) -> Option<Box<VolumeState>> {
        let mut place = self.place();
        match std::mem::replace(&mut *place, Place::Gone) {
            Place::Parked(state) => Some(state),
            other => {
                *place = other;
                None
            }
        }
    }

    /// The reactor gives it back, with nothing under way.
    pub(crate) fn park(&self, mut state: Box<VolumeState>) {
        let mut place = self.place();
        if let Place::Open(mails) = std::mem::replace(&mut *place, Place::Open(Vec::new())) {
            mails.into_iter().for_each(|mail| obey(&mut state, mail));
        }
        *place = Place::Parked(state);
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(*self.place(), Place::Open(_))
    }

    /// Tells it something: now if it is parked, else its reactor finds it.
    pub(crate) fn post(&self, mail: Mail) {
        match &mut *self.place() {
            Place::Parked(state) => return obey(state, mail),
            Place::Open(mails) => mails.push(mail),
            Place::Gone => return,
        }
        self.has_mail.store(true, Ordering::Release);
        (self.wake)(self.home);
    }

    pub(crate) fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Acquire)
    }

    /// The reactor takes its mail.
    pub(crate) fn mail(&self) -> Vec<Mail> {
        self.has_mail.store(false, Ordering::Release);
        match &mut *self.place() {
            Place::Open(mails) => std::mem::take(mails),
            Place::Parked(_) | Place::Gone => unreachable!("only whoever has it open asks"),
        }
    }
}

/// What mail does where nothing is under way.
fn obey(state: &mut VolumeState, mail: Mail) {
    match mail {
        // Whoever waited for the answer may be gone.
        Mail::Hold(_, reply) => drop(reply.send(())),
        Mail::Release | Mail::Fence(_) => {}
        Mail::Run(task) => task(state),
        Mail::Granted(slots) => state.granted(slots),
        Mail::Committed(ok) => {
            let free = state.committed(ok);
            drop(FreeLater::new(free, state.keeper.clone()));
        }
    }
}

impl VolumeState {
    /// Slots that this volume has given up, and that are free when nothing is under way on them.
    pub(crate) fn free_later(&self, slots: Vec<Slot>) -> Arc<FreeLater> {
        FreeLater::new(slots, self.keeper.clone())
    }
}
