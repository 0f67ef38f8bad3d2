//! The queue pairs of a reactor.

use crate::export::controller::Controller;
use crate::machine::place::NONE;
use crate::machine::qpair::{AdminQueue, IoQueue, Qpair};
use crate::machine::transport::QpairId;
use bdev::Slab;
use std::sync::Arc;

/// The queue pairs of one reactor, those included whose connection is gone but whose commands have
/// not ended. A queue pair is named by a key as long as it is here.
pub(crate) struct Qpairs {
    places: Slab<Qpair>,
    /// By place in the transport: the queue pair that has it now, or [`NONE`].
    by_place: Box<[u32]>,
    /// The keys, in the order of their coming.
    keys: Vec<u32>,
}

impl Qpairs {
    /// For a transport of so many places for queue pairs and for commands. A queue pair that is
    /// closed keeps its key until its commands have ended, while the transport may use its own place
    /// again.
    pub(crate) fn new(places: u32, requests: u32) -> Qpairs {
        let keys = places + places.min(requests);
        Qpairs {
            places: Slab::new(keys),
            by_place: vec![NONE; places as usize].into(),
            keys: Vec::with_capacity(keys as usize),
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.places.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// How many keys there may be.
    pub(crate) fn limit(&self) -> u32 {
        self.keys.capacity() as u32
    }

    /// One more. Its key, if there is one for it.
    pub(crate) fn insert(&mut self, qpair: Qpair) -> Option<u32> {
        let place = usize::from(qpair.id().index);
        let key = self.places.insert(qpair).ok()?;
        self.by_place[place] = key;
        self.keys.push(key);
        Some(key)
    }

    /// The key of the queue pair that the transport means, if it is still there.
    #[inline]
    pub(crate) fn key(&self, id: QpairId) -> Option<u32> {
        let key = *self.by_place.get(usize::from(id.index))?;
        (self.places.get(key)?.id() == id).then_some(key)
    }

    /// The transport has closed queue pair `id`, and may use its place again. Returns its key.
    pub(crate) fn close(&mut self, id: QpairId) -> Option<u32> {
        let key = self.key(id)?;
        self.by_place[usize::from(id.index)] = NONE;
        Some(key)
    }

    /// All commands of a closed queue pair have ended.
    pub(crate) fn remove(&mut self, key: u32) -> Option<Qpair> {
        self.keys.retain(|other| *other != key);
        self.places.remove(key)
    }

    #[inline]
    pub(crate) fn get(&self, key: u32) -> Option<&Qpair> {
        self.places.get(key)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: u32) -> Option<&mut Qpair> {
        self.places.get_mut(key)
    }

    /// The queue pair of a command that is under way.
    ///
    /// # Panics
    /// If it is gone: it is kept until its last command has ended.
    #[inline(always)]
    pub(crate) fn of(&mut self, key: u32) -> &mut Qpair {
        self.places.get_mut(key).expect("kept until its last command has ended")
    }

    /// The I/O queue of a command that is under way on one.
    ///
    /// # Panics
    /// If it is none, as [`Qpairs::of`].
    #[inline(always)]
    pub(crate) fn io(&mut self, key: u32) -> &mut IoQueue {
        self.of(key).io().expect("an I/O queue stays one")
    }

    /// The admin queue `key`, if it is one and still there.
    pub(crate) fn admin(&mut self, key: u32) -> Option<&mut AdminQueue> {
        self.get_mut(key)?.admin()
    }

    /// Key number `number`, in the order of their coming.
    pub(crate) fn nth(&self, number: usize) -> Option<u32> {
        self.keys.get(number).copied()
    }

    /// Queue `qid` of a controller, if it is on this reactor.
    pub(crate) fn queue_of(&self, ctrl: &Arc<Controller>, qid: u16) -> Option<&Qpair> {
        let is_its = |qpair: &Qpair| qpair.ctrl().is_some_and(|other| Arc::ptr_eq(other, ctrl));
        let mut all = self.places.iter().map(|(_, qpair)| qpair);
        all.find(|qpair| qpair.qid() == qid && is_its(qpair))
    }

    /// The requests of a queue pair that are under way.
    pub(crate) fn requests(&self, key: u32) -> Vec<u32> {
        self.get(key).map(Qpair::requests).unwrap_or_default()
    }
}
