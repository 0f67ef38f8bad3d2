//! The thread that keeps a pool's metadata: it commits what volumes say, hands out slots, and does
//! one thing after the other of what changes volumes, snapshots and devices.

mod discard;
mod drain;
mod holdings;
mod members;
mod publish;
mod reclaim;
mod snapshots;
mod space;
mod views;
mod volumes;

use crate::devices::Devices;
use crate::directory::Directory;
use crate::entry::Slot;
use crate::error::{Kind, PoolError};
use crate::journal::Source;
use crate::opening::{Uuids, Who};
use crate::record::NodeRecord;
use crate::slots::Slots;
use crate::state::{FreeLater, Mail, Scope, View, ViewId, VolumeState};
use crate::store::{Contents, Store, Update};
use crate::superblock::Superblock;
use crate::tenure::Owner;
use crate::volume::NodeMap;
use crate::writers::{Ledger, settled};
use bdev::Bdev;
use bdev_redb::Medium;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};

pub use discard::{DiscardMode, DiscardStatus};
pub use members::NewMember;
pub(crate) use members::{may_take, new_superblock};
use views::Views;
pub use volumes::{NewVolume, is_name};

/// What is asked of the keeper.
pub(crate) enum Request {
    /// A volume wants slots, and has no use for fewer than it needs.
    Slots { view: ViewId, wanted: usize, needed: usize },
    /// A volume's map has changed, and gives up `gone` slots.
    Commit { view: ViewId, updates: Vec<Update>, gone: u64 },
    /// A host is about to write to a volume: its name is the NQN.
    Writer { volume: u64, host: u128, name: String },
    /// A host was told of so many losses.
    Told { volume: u64, host: u128, losses: u64 },
    /// A write was refused for want of a slot.
    Full,
    /// Nothing is under way on these any more.
    Free(Vec<Slot>),
    /// A piece has been discarded, or not.
    Discarded,
    /// Discarding goes on.
    Rested,
    /// An operator's wish.
    Call(Box<dyn FnOnce(&mut Keeper) + Send>),
    /// Nothing more will come.
    End,
}

/// The reactors that volumes live on.
pub trait Reactors: Send + Sync {
    /// How many there are.
    fn count(&self) -> usize;

    /// Has reactor `reactor` look at its volumes' mail.
    fn wake(&self, reactor: usize);

    /// Opens `child` below the channel of `parent` on each reactor that has one
    /// ([`bdev::Stack::add_child`]).
    ///
    /// # Errors
    /// A sentence.
    fn add_child(&self, parent: &Arc<dyn Bdev>, child: &Arc<dyn Bdev>) -> Result<(), String>;

    /// Closes `child` below the channel of `parent` on each reactor that has one, once nothing is
    /// under way on it ([`bdev::Stack::remove_child`]).
    fn remove_child(&self, parent: &Arc<dyn Bdev>, child: &Arc<dyn Bdev>);
}

/// A device that is part of a pool.
pub(crate) struct Member {
    /// As the operator calls it.
    pub name: String,
    pub bdev: Arc<dyn Bdev>,
    pub medium: Arc<dyn Medium>,
    pub superblock: Superblock,
}

/// How far something long has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it does, in words.
    pub what: String,
    /// The device that is drained; nothing: deleted data is reclaimed.
    pub device: Option<String>,
    /// Slots dealt with, of how many.
    pub done: u64,
    /// All of them, as far as is known.
    pub total: u64,
}

/// See the module.
pub(crate) struct Keeper {
    requests: Receiver<Request>,
    own: Sender<Request>,
    store: Option<Store>,
    pub members: BTreeMap<u16, Member>,
    pub devices: Arc<Devices>,
    pub devices_bdev: Arc<dyn Bdev>,
    pub reactors: Arc<dyn Reactors>,
    wake: Arc<dyn Fn(usize) + Send + Sync>,
    pub slots: Slots,
    /// Without rows: those of live nodes are with their volumes, the others in `maps`.
    pub records: Contents,
    /// By node: what those say that are not live.
    pub maps: BTreeMap<u64, Arc<NodeMap>>,
    /// Volumes by their number, snapshots that were looked at by their node's.
    pub views: Views,
    holdings: holdings::Holdings,
    /// By device: slots handed out to volumes since the pool was opened, less those that came back
    /// unused.
    granted: BTreeMap<u16, u64>,
    pub directory: Arc<Directory>,
    /// Commits of volumes that wait for the next transaction, in their order.
    batch: Vec<(ViewId, Vec<Update>, u64)>,
    /// Transactions of the store since the pool was opened.
    pub commits: u64,
    pub failed: Option<String>,
    /// Volumes that may have slots in stock.
    stocked: BTreeSet<ViewId>,
    /// A write found no space, and no slot was handed out since.
    pub full: bool,
    /// Numbers of volumes and nodes.
    next: u64,
    next_home: usize,
    drain: Option<drain::Drain>,
    /// Why what goes on by itself has stopped, until an operator does something.
    pub stopped: Option<String>,
    reclaimed: reclaim::Reclaimed,
    discarding: discard::Discarding,
    /// In a test: what goes on while an answer is waited for.
    pump: Option<Box<dyn FnMut() + Send>>,
    journals: Option<Source>,
    /// Who has the pool, and since when it is open, in seconds since 1970.
    owner: Owner,
    opened_s: u64,
    /// Where snapshots get their UUIDs from.
    uuids: Option<Uuids>,
    /// What volumes know of the pool's losses.
    ledger: Arc<Ledger>,
    /// Hosts that are about to write, and those that were told of losses.
    writers: Vec<(u64, u128, String)>,
    told: Vec<(u64, u128, u64)>,
    ended: bool,
}

/// What a keeper is made of.
pub(crate) struct Opened {
    pub store: Store,
    pub members: BTreeMap<u16, Member>,
    pub devices: Arc<Devices>,
    pub reactors: Arc<dyn Reactors>,
    pub contents: Contents,
    pub journals: Option<Source>,
    pub discard: DiscardMode,
    pub pump: Option<Box<dyn FnMut() + Send>>,
    pub who: Who,
}

impl Keeper {
    /// The keeper of a pool that has been opened, and how it is asked.
    ///
    /// # Errors
    /// What is stored cannot be.
    pub(crate) fn new(opened: Opened) -> Result<(Keeper, Sender<Request>), PoolError> {
        let Opened { store, members, devices, reactors, mut contents, .. } = opened;
        let Opened { journals, discard, pump, who, .. } = opened;
        let Who { owner, opened_s, uuids } = who;
        let (own, requests) = mpsc::channel();
        let rows = std::mem::take(&mut contents.rows);
        let numbers = contents.volumes.keys().chain(contents.nodes.keys());
        let next = numbers.max().map_or(1, |last| last + 1);
        let waker = reactors.clone();
        let mut keeper = Keeper {
            requests,
            own: own.clone(),
            store: Some(store),
            members,
            devices_bdev: Arc::new(crate::devices::DevicesBdev(devices.clone())),
            devices,
            reactors,
            wake: Arc::new(move |reactor| waker.wake(reactor)),
            slots: Slots::default(),
            records: contents,
            maps: BTreeMap::new(),
            views: Views::default(),
            holdings: holdings::Holdings::default(),
            granted: BTreeMap::new(),
            directory: Arc::default(),
            batch: Vec::new(),
            commits: 0,
            failed: None,
            stocked: BTreeSet::new(),
            full: false,
            next,
            next_home: 0,
            drain: None,
            stopped: None,
            reclaimed: reclaim::Reclaimed::default(),
            discarding: discard::Discarding::new(discard, pump.is_some()),
            pump,
            journals,
            owner,
            opened_s,
            uuids,
            ledger: Arc::default(),
            writers: Vec::new(),
            told: Vec::new(),
            ended: false,
        };
        keeper.claim(&rows)?;
        keeper
            .directory
            .change(|tables| keeper.records.records().for_each(|record| tables.apply(&record)));
        keeper.read_maps(rows);
        keeper.publish_tenure();
        let volumes: Vec<u64> = keeper.records.volumes.keys().copied().collect();
        volumes.into_iter().for_each(|volume| keeper.view_volume(volume));
        keeper.next_drain();
        keeper.describe_devices();
        keeper.publish();
        Ok((keeper, own))
    }

    /// Serves until nobody asks any more.
    pub(crate) fn run(mut self) {
        while !self.ended {
            self.begin_discard();
            if self.has_notes() {
                self.serve();
            } else if self.has_jobs() {
                self.serve();
                self.step_jobs();
                self.publish();
            } else {
                match self.requests.recv() {
                    Ok(request) => self.take(request),
                    Err(_) => return,
                }
                self.serve();
            }
        }
    }

    /// Serves what has been asked by now.
    pub(crate) fn serve(&mut self) {
        self.take_all();
        while self.has_notes() {
            self.note_writers();
        }
        if !self.batch.is_empty() {
            // Its volumes are told; what went wrong is kept in `failed`.
            let _ = self.commit(Vec::new());
        }
        self.publish();
    }

    /// Whether hosts wait to be noted, as those do that came while something else was committed.
    fn has_notes(&self) -> bool {
        !self.writers.is_empty() || !self.told.is_empty()
    }

    /// Whether something goes on by itself.
    pub(crate) fn has_jobs(&self) -> bool {
        self.failed.is_none() && self.stopped.is_none() && (self.can_drain() || self.can_reclaim())
    }

    /// A step of what goes on by itself.
    pub(crate) fn step_jobs(&mut self) {
        let stepped = match self.can_drain() {
            true => self.step_drain(),
            false => self.step_reclaim(),
        };
        if let Err(error) = stepped {
            tracing::error!(%error, "a job of the pool has stopped");
            self.stopped = Some(error.message);
        }
    }

    fn take_all(&mut self) {
        loop {
            match self.requests.try_recv() {
                Ok(request) => self.take(request),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Slots { view, wanted, needed } => {
                self.grant(view, wanted as u64, needed as u64);
            }
            Request::Commit { view, updates, gone } => self.batch.push((view, updates, gone)),
            Request::Full => self.found_full(),
            Request::Free(slots) => slots.into_iter().for_each(|slot| self.slots.give(slot)),
            Request::Discarded => self.discarded(),
            Request::Rested => self.rested(),
            Request::Writer { volume, host, name } => self.writers.push((volume, host, name)),
            Request::Told { volume, host, losses } => self.told.push((volume, host, losses)),
            Request::Call(call) => call(self),
            Request::End => self.ended = true,
        }
    }

    /// Takes what volumes have said by now, and leaves operators' wishes for later: one is served.
    fn take_volumes(&mut self) {
        let mut later = Vec::new();
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Call(_) | Request::End => later.push(request),
                request => self.take(request),
            }
        }
        for request in later {
            self.own.send(request).expect("the receiver is here");
        }
    }

    /// One transaction: all that volumes have said, and `own`, in that order (`FORMAT.md`,
    /// "Writing").
    pub(crate) fn commit(&mut self, own: Vec<Update>) -> Result<(), PoolError> {
        self.take_volumes();
        let batch = std::mem::take(&mut self.batch);
        let mut updates: Vec<Update> = Vec::with_capacity(batch.len() + own.len());
        let mut told = Vec::with_capacity(batch.len());
        for (view, said, gone) in batch {
            updates.extend(said);
            told.push((view, gone));
        }
        updates.extend(own);
        let committed = self.make_durable(&updates);
        for (view, gone) in told {
            self.holdings.lose(view, gone);
            if let Some(view) = self.views.get(view) {
                view.post(Mail::Committed(committed.is_ok()));
            }
        }
        if committed.is_ok() {
            self.commits += 1;
            self.apply(&updates);
        }
        self.publish();
        committed
    }

    /// What is durable is so from now on.
    fn apply(&mut self, updates: &[Update]) {
        let records = || updates.iter().filter(|update| !matches!(update, Update::Row(..)));
        if records().next().is_none() {
            return;
        }
        records().for_each(|update| self.records.apply(update));
        self.directory.change(|tables| records().for_each(|update| tables.apply(update)));
        if records().any(|update| matches!(update, Update::Device(..))) {
            self.describe_devices();
        }
    }

    fn make_durable(&mut self, updates: &[Update]) -> Result<(), PoolError> {
        if let Some(why) = &self.failed {
            return Err(PoolError::new(Kind::Device, why.clone()));
        }
        let done = self.flush_devices().and_then(|()| {
            let store = self.store.as_mut().expect("open while it is kept");
            store.commit(updates).map_err(|error| error.to_string())
        });
        done.map_err(|error| {
            let why = format!(
                "The pool's metadata could not be written: {error}. Nothing more becomes durable \
                 until its devices work: then it is opened again. It can be exported by force."
            );
            tracing::error!("{why}");
            self.failed = Some(why.clone());
            PoolError::new(Kind::Device, why)
        })
    }

    fn flush_devices(&self) -> Result<(), String> {
        let volatile = |member: &&Member| member.bdev.geometry().volatile_cache;
        let volatile: Vec<&Member> = self.members.values().filter(volatile).collect();
        let flush = |member: &Member| {
            let flushed = member.medium.flush();
            flushed.map_err(|error| format!("device {} cannot be flushed: {error}", member.name))
        };
        match &volatile[..] {
            [] => Ok(()),
            [one] => flush(one),
            all => std::thread::scope(|scope| {
                let flushes: Vec<_> =
                    all.iter().map(|member| scope.spawn(move || flush(member))).collect();
                flushes.into_iter().try_for_each(|flush| flush.join().expect("does not panic"))
            }),
        }
    }

    /// Waits for an answer; none if whoever had to give it is gone.
    fn wait<T>(&mut self, answer: &Receiver<T>) -> Option<T> {
        let Some(pump) = &mut self.pump else { return answer.recv().ok() };
        loop {
            match answer.try_recv() {
                Ok(answer) => return Some(answer),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => pump(),
            }
        }
    }

    fn view(&self, id: ViewId) -> Arc<View> {
        self.views.get(id).expect("a volume that is recorded can be opened").clone()
    }

    /// Has writes of each of these wait, and waits for those under way.
    fn hold(&mut self, views: &[ViewId], scope: Scope) -> Result<(), PoolError> {
        let mut held = Vec::new();
        for id in views {
            let (reply, answer) = mpsc::channel();
            self.view(*id).post(Mail::Hold(scope, reply));
            held.push(answer);
        }
        held.iter().try_for_each(|answer| self.wait(answer).ok_or_else(PoolError::gone))
    }

    fn release(&self, views: &[ViewId]) {
        views.iter().for_each(|id| self.view(*id).post(Mail::Release));
    }

    /// Does something with what a volume is, between its operations.
    fn with<R: Send + 'static>(
        &mut self,
        view: ViewId,
        task: impl FnOnce(&mut VolumeState) -> R + Send + 'static,
    ) -> Result<R, PoolError> {
        let answer = self.begin_with(view, task);
        self.wait(&answer).ok_or_else(PoolError::gone)
    }

    /// [`Keeper::with`], without waiting.
    fn begin_with<R: Send + 'static>(
        &self,
        view: ViewId,
        task: impl FnOnce(&mut VolumeState) -> R + Send + 'static,
    ) -> Receiver<R> {
        let (reply, answer) = mpsc::channel();
        let run = move |state: &mut VolumeState| {
            // Whoever asked may have given up.
            let _ = reply.send(task(state));
        };
        self.view(view).post(Mail::Run(Box::new(run)));
        answer
    }

    /// Slots that a node of `tree` named are free when no operation that is under way anywhere can be
    /// using them: only who reads nodes of that tree can.
    fn free_after_operations(&self, slots: Vec<Slot>, tree: u64) {
        if slots.is_empty() {
            return;
        }
        let later = FreeLater::new(slots, self.own.clone());
        for (_, view) in self.views.of_tree(tree) {
            view.post(Mail::Fence(later.clone()));
        }
    }

    /// What a node says from now on, that is nobody's present.
    fn set_map(&mut self, node: u64, map: Arc<NodeMap>) {
        self.directory.change(|tables| tables.family.set_slots(node, map.slots()));
        self.maps.insert(node, map);
    }

    /// The map of a node is elsewhere, or the node is gone.
    fn take_map(&mut self, node: u64) -> Option<Arc<NodeMap>> {
        self.directory.change(|tables| tables.family.set_slots(node, 0));
        self.maps.remove(&node)
    }

    /// What all nodes have in common that ever read `node` or that it reads.
    fn tree(&self, node: u64) -> u64 {
        self.directory.tables().family.tree(node).unwrap_or(node)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn node(&self, node: u64) -> &NodeRecord {
        &self.records.nodes[&node]
    }

    /// Commits everything and lets go of the devices.
    pub(crate) fn close(&mut self) -> Result<(), PoolError> {
        let views = self.views.all();
        for id in &views {
            if self.view(*id).is_open() {
                let name = self.name_of(*id);
                return Err(PoolError::new(
                    Kind::InUse,
                    format!("{name} is still open: close what uses it first."),
                ));
            }
        }
        for id in views {
            let stock = self.with(id, |state| {
                state.commit();
                state.give_stock()
            })?;
            self.take_back(stock);
        }
        self.await_discard();
        // What anybody wrote is durable with this.
        let settled = settled(&self.records.writers, self.superblock().tenure.losses);
        self.commit(settled.into_iter().map(|key| Update::Writer(key, None)).collect())?;
        for id in self.views.all() {
            self.with(id, |state| state.map.discard_journal())?;
        }
        let superblock = self.store.take().map(Store::end);
        if let (Some(superblock), Some(number)) = (superblock, self.metadata_device()) {
            self.members.get_mut(&number).expect("it has the metadata").superblock = superblock;
        }
        self.let_go();
        self.failed = Some("The pool is closed.".to_owned());
        self.ended = true;
        Ok(())
    }

    /// A volume or a snapshot in words.
    fn name_of(&self, view: ViewId) -> String {
        if let Some(volume) = self.records.volumes.get(&view) {
            return format!("Volume \"{}\"", volume.name);
        }
        match self.records.nodes.get(&view).map(|node| &node.state) {
            Some(crate::record::NodeState::Snapshot { name, .. }) => format!("Snapshot \"{name}\""),
            _ => "A volume".to_owned(),
        }
    }
}
