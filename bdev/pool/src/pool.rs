//! A pool, as the rest of the process uses it.

use crate::devices::{BOUNCE_BLOCKS, Devices};
use crate::directory::{Directory, PoolStatus};
use crate::entry::BLOCKS_PER_EXTENT;
use crate::error::{Kind, PoolError};
use crate::journal::{Journals, PoolJournals, Source};
use crate::keeper::{
    DiscardMode, Keeper, Member, NewMember, NewVolume, Opened, Reactors, Request, may_take,
    new_superblock,
};
use crate::limits::Limits;
use crate::opening::{self, Opening, Who, complete, metadata_device, read_superblocks};
use crate::record::VolumeKind;
use crate::session::{self, store_error};
use crate::state::View;
use crate::store::{Contents, Store, StoreError, Update};
use crate::superblock::{EXTENT_BYTES, FORMAT_1, FORMAT_2, Superblock, SuperblockError};
use crate::volume_bdev::VolumeBdev;
use bdev::{AbortOnPanic, Bdev, DmaSlice};
use std::collections::BTreeMap;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use uuid::Uuid;

/// Memory of each reactor that a pool wants, in bytes: a slice that only it uses, aligned to 4096.
pub const MEMORY_BYTES: usize = BOUNCE_BLOCKS * (EXTENT_BYTES as usize / BLOCKS_PER_EXTENT);

/// What a pool runs on.
pub struct Host {
    /// Where its volumes live.
    pub reactors: Arc<dyn Reactors>,
    /// [`MEMORY_BYTES`] of each reactor, in their order.
    pub memory: Vec<DmaSlice>,
    /// Where what is not committed outlives the process. Without, first writes are answered when
    /// they are committed.
    pub journals: Option<Arc<dyn Journals>>,
    /// Whether devices are given back what nobody needs.
    pub discard: DiscardMode,
    /// Without a thread of its own: what goes on while the pool waits for a reactor. For
    /// simulations, which call [`Pool::step`].
    pub stepped: Option<Box<dyn FnMut() + Send>>,
}

enum Runner {
    Thread(Mutex<Option<JoinHandle<()>>>),
    Stepped(Box<Mutex<Keeper>>),
}

/// A pool that is open. Every call blocks: none is made on a reactor.
pub struct Pool {
    name: String,
    uuid: Uuid,
    devices: Arc<Devices>,
    devices_bdev: Arc<dyn Bdev>,
    directory: Arc<Directory>,
    runner: Runner,
    requests: Sender<Request>,
    /// Nobody else has the pool open while these are held.
    journals: Option<Arc<dyn PoolJournals>>,
}

/// A pool's journals, and whether its volumes write any: not where those that are there belong to
/// other devices.
struct Claimed {
    journals: Option<Arc<dyn PoolJournals>>,
    written: bool,
    who: Who,
}

/// What is on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Empty,
    /// Data that is not a pool's.
    Foreign,
    /// One of a pool's devices: the pool, its name, the device.
    Pool(Uuid, String, Uuid),
    /// One of a pool's, of a format that this version does not know.
    Newer(u32),
    /// It cannot be read, and why.
    Unreadable(String),
}

/// What is on a device.
pub fn probe(medium: &dyn bdev_redb::Medium) -> Found {
    match Superblock::read(medium) {
        Ok(block) => Found::Pool(block.pool, block.name, block.uuid),
        Err(SuperblockError::Empty) => Found::Empty,
        Err(SuperblockError::Foreign) => Found::Foreign,
        Err(SuperblockError::Format(format)) => Found::Newer(format),
        Err(SuperblockError::Device(error)) => Found::Unreadable(error.to_string()),
    }
}

impl Pool {
    /// Makes a pool of format 1 on `devices`, of nobody. Those that hold something are overwritten with
    /// `force` only. `uuid` gives a new number each time.
    ///
    /// # Errors
    /// What is wrong with which device. Nothing is written before each was looked at.
    pub fn create(
        name: &str,
        devices: Vec<NewMember>,
        force: bool,
        host: Host,
        uuid: impl FnMut() -> Uuid,
    ) -> Result<Pool, PoolError> {
        let opening = Opening { force, ..Opening::default() };
        Pool::make((name, FORMAT_1), devices, opening, host, uuid)
    }

    /// As [`Pool::create`], of a format, for an owner.
    ///
    /// # Errors
    /// As there.
    pub fn make(
        (name, format): (&str, u32),
        devices: Vec<NewMember>,
        opening: Opening,
        host: Host,
        mut uuid: impl FnMut() -> Uuid,
    ) -> Result<Pool, PoolError> {
        check_name(name)?;
        if devices.is_empty() || devices.len() > crate::devices::DEVICES as usize {
            let most = crate::devices::DEVICES;
            let why = format!("A pool is made of 1 to {most} devices.");
            return Err(PoolError::new(Kind::Invalid, why));
        }
        if ![FORMAT_1, FORMAT_2].contains(&format) {
            let why = format!("Pools are made of format {FORMAT_1} or {FORMAT_2}, not {format}.");
            return Err(PoolError::new(Kind::Invalid, why));
        }
        devices.iter().try_for_each(|device| may_take(device, opening.force))?;
        let pool = uuid();
        let mut members = BTreeMap::new();
        for (number, new) in (0u16..).zip(devices) {
            let superblock = new_superblock(&new, (pool, name, format), number, uuid())?;
            members.insert(number, Member::new(new, superblock));
        }
        let mut first = vec![Update::Session(1)];
        for (number, member) in &mut members {
            member.superblock.write_both(&*member.medium).map_err(|error| {
                let why = format!("Device {} cannot be written: {error}.", member.name);
                PoolError::new(Kind::Device, why)
            })?;
            first.push(Update::Device(u32::from(*number), Some(member.record())));
        }
        let journals = session::claim(host.journals.as_deref(), (pool, name))?;
        if let Some(journals) = &journals {
            session::take_over(&**journals, &members).map_err(session::unusable)?;
        }
        let member = members.get_mut(&0).expect("there is one at least");
        member.superblock.metadata_generation = 1;
        if format != FORMAT_1 {
            member.superblock.tenure = opening.first_tenure(journals.is_some());
        }
        let store = Store::create(member.medium.clone(), &member.superblock, &first);
        let store = store.map_err(|error| store_error(&error))?;
        member.superblock = store.superblock();
        let mut contents = Contents::default();
        first.iter().for_each(|update| contents.apply(update));
        let who = opening.who();
        Pool::start(store, members, contents, host, Claimed { journals, written: true, who })
    }

    /// Opens the pool that `devices` are all of, for nobody.
    ///
    /// # Errors
    /// What is missing, does not belong, or is damaged; that it is open already; or that what its
    /// process knew when it was killed belongs to other devices.
    pub fn import(devices: Vec<NewMember>, host: Host) -> Result<Pool, PoolError> {
        Pool::open(devices, Opening::default(), host)
    }

    /// As [`Pool::import`], for an owner.
    ///
    /// # Errors
    /// As there; and that another machine has it, unless the opening is forced.
    pub fn open(devices: Vec<NewMember>, opening: Opening, host: Host) -> Result<Pool, PoolError> {
        if let Some(name) = &opening.name {
            check_name(name)?;
        }
        let (uuid, with, mut found) = read_superblocks(devices)?;
        // Before anything is written: whoever has the pool open may be writing.
        let name = found[with].superblock.name.clone();
        let journals = session::claim(host.journals.as_deref(), (uuid, &name))?;
        let claim = opening::claim(&mut found[with], &opening, journals.as_deref())?;
        let claimant = found[with].again();
        let opened = Pool::open_claimed((with, found), opening, host, journals, &claim);
        if opened.is_err() {
            opening::give_back(claimant, &claim);
        }
        opened
    }

    fn open_claimed(
        (with, found): (usize, Vec<Member>),
        opening: Opening,
        host: Host,
        journals: Option<Arc<dyn PoolJournals>>,
        claim: &opening::Claim,
    ) -> Result<Pool, PoolError> {
        let with = &found[with];
        let store = Store::open(with.medium.clone(), with.superblock.clone());
        let mut store = store.map_err(|error| match error {
            StoreError::None => PoolError::new(
                Kind::Device,
                "None of these devices has the pool's metadata: name all devices of the pool. If \
                 making it was interrupted, make it again with --force.",
            ),
            error => store_error(&error),
        })?;
        let mut contents = store.load().map_err(|error| store_error(&error))?;
        let mut members = complete(found, &contents)?;
        let written = session::begin(
            &members,
            &mut store,
            &mut contents,
            journals.as_deref(),
            (&opening, claim),
        )?;
        if let Some(name) = &opening.name {
            opening::rename(&mut members, &store, name)?;
        }
        if let Some(with) = metadata_device(&members).and_then(|with| members.get_mut(&with)) {
            with.superblock = store.superblock();
        }
        let who = opening.who();
        Pool::start(store, members, contents, host, Claimed { journals, written, who })
    }

    fn start(
        store: Store,
        members: BTreeMap<u16, Member>,
        contents: Contents,
        host: Host,
        claim: Claimed,
    ) -> Result<Pool, PoolError> {
        let Host { reactors, memory, journals: _, discard, stepped } = host;
        let superblock = store.superblock();
        let (name, uuid) = (superblock.name, superblock.pool);
        let children = members.values().map(Member::child).collect();
        let devices = Arc::new(Devices::new(children, &memory));
        let pump = stepped;
        let is_stepped = pump.is_some();
        let session = contents.session;
        let Claimed { journals: claimed, written, who } = claim;
        let journals = claimed.clone().filter(|_| written);
        let journals = journals.map(|journals| Source { journals, session });
        let devices_of = devices.clone();
        let opened = Opened {
            store,
            members,
            devices: devices_of,
            reactors,
            contents,
            journals,
            discard,
            pump,
            who,
        };
        let (keeper, requests) = Keeper::new(opened)?;
        let (devices_bdev, directory) = (keeper.devices_bdev.clone(), keeper.directory.clone());
        let runner = if is_stepped {
            Runner::Stepped(Box::new(Mutex::new(keeper)))
        } else {
            let thread = std::thread::Builder::new().name("pool".into());
            let run = move || {
                let _ends_the_process = AbortOnPanic;
                keeper.run();
            };
            let spawned = thread.spawn(run).map_err(|error| {
                PoolError::new(Kind::Device, format!("The pool's thread cannot start: {error}."))
            })?;
            Runner::Thread(Mutex::new(Some(spawned)))
        };
        let journals = claimed;
        Ok(Pool { name, uuid, devices, devices_bdev, directory, runner, requests, journals })
    }

    /// As people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own, for ever.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Has the keeper do something, and does not wait.
    pub(crate) fn send(&self, task: impl FnOnce(&mut Keeper) + Send + 'static) {
        let task = |keeper: &mut Keeper| {
            keeper.stopped = None;
            task(keeper);
            keeper.publish();
        };
        // A keeper that has ended drops it: whoever waits for its answer is told by that.
        let _ = self.requests.send(Request::Call(Box::new(task)));
    }

    /// Has the keeper do something that an operator wants; what has stopped goes on after it.
    pub(crate) fn call<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Keeper) -> Result<R, PoolError> + Send + 'static,
    ) -> Result<R, PoolError> {
        self.ask(|keeper| {
            keeper.stopped = None;
            task(keeper)
        })
    }

    /// Has the keeper do something. What it has done can be read before it answers.
    pub(crate) fn ask<R: Send + 'static>(
        &self,
        task: impl FnOnce(&mut Keeper) -> Result<R, PoolError> + Send + 'static,
    ) -> Result<R, PoolError> {
        let task = |keeper: &mut Keeper| {
            let done = task(keeper);
            keeper.publish();
            done
        };
        match &self.runner {
            Runner::Stepped(keeper) => task(&mut lock(keeper)),
            Runner::Thread(_) => {
                let (reply, answer) = mpsc::channel();
                let call = move |keeper: &mut Keeper| {
                    // Whoever asked may have given up.
                    let _ = reply.send(task(keeper));
                };
                let call = Request::Call(Box::new(call));
                self.requests.send(call).map_err(|_| PoolError::gone())?;
                answer.recv().map_err(|_| PoolError::gone())?
            }
        }
    }

    /// Does what has been asked for by now, and a step of what goes on by itself, discards too. Returns whether
    /// there is more of that. Only of a pool that is stepped.
    ///
    /// # Panics
    /// If it has a thread.
    pub fn step(&self) -> bool {
        let Runner::Stepped(keeper) = &self.runner else { panic!("it has a thread") };
        let mut keeper = lock(keeper);
        keeper.serve();
        let more = keeper.has_jobs();
        if more {
            keeper.step_jobs();
        }
        let discards = keeper.step_discard();
        keeper.publish();
        discards || more
    }

    /// Commits everything and lets go of the devices.
    ///
    /// # Errors
    /// What is still open; or that something could not be made durable.
    pub fn close(&self) -> Result<(), PoolError> {
        self.call(|keeper| keeper.close())?;
        self.end();
        Ok(())
    }

    /// Ends the thread, and waits for that.
    fn end(&self) {
        let Runner::Thread(thread) = &self.runner else { return };
        // It may have ended already.
        let _ = self.requests.send(Request::End);
        let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A panic of it would have ended the process.
        let _ = thread.map(JoinHandle::join);
    }

    /// What was answered and is not on the devices counts no more: they have lost what they had
    /// answered, which whoever opens it next counts. Only of a pool that has failed.
    ///
    /// # Errors
    /// It cannot be thrown away.
    pub fn discard_journals(&self) -> std::io::Result<()> {
        let Some(journals) = &self.journals else { return Ok(()) };
        journals.set_lost(true)?;
        journals.discard()
    }

    /// Makes a pool of format 1 one of format 2, which older software does not open. Nothing for one that
    /// is. `uuid` gives a new number each time, for its snapshots; `now_s` is in seconds since 1970.
    ///
    /// # Errors
    /// A device fails: what was done is done, and the rest is done when this is asked for again.
    pub fn upgrade(
        &self,
        now_s: u64,
        uuid: impl FnMut() -> Uuid + Send + 'static,
    ) -> Result<(), PoolError> {
        self.call(move |keeper| keeper.upgrade(now_s, Box::new(uuid)))
    }

    /// Makes durable what was answered before, and notes that it was at `now_s`, in seconds since 1970:
    /// should the power go, nothing older is missing.
    ///
    /// # Errors
    /// A device fails.
    pub fn checkpoint(&self, now_s: u64) -> Result<(), PoolError> {
        self.ask(move |keeper| keeper.checkpoint(now_s))
    }

    /// What it says of itself, for any thread to read at any time: also when the pool is closed, as
    /// it was.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Everything there is to say: [`Directory::status`]. Waits for nobody.
    pub fn status(&self) -> PoolStatus {
        self.directory.status()
    }

    /// Makes a volume.
    ///
    /// # Errors
    /// A name that is taken or is none, a size or blocks that cannot be, no space for a thick one.
    pub fn create_volume(&self, new: NewVolume) -> Result<(), PoolError> {
        self.create_volume_of(new, VolumeKind::default())
    }

    /// Deletes a volume that is not open; with its snapshots if `snapshots`.
    ///
    /// # Errors
    /// It is not there, is open, or has snapshots.
    pub fn delete_volume(&self, name: &str, snapshots: bool) -> Result<(), PoolError> {
        let name = name.to_owned();
        self.call(move |keeper| keeper.delete_volume(&name, snapshots))
    }

    /// Gives a volume another name.
    ///
    /// # Errors
    /// It is not there, or the name is taken or is none.
    pub fn rename_volume(&self, name: &str, to: &str) -> Result<(), PoolError> {
        let (name, to) = (name.to_owned(), to.to_owned());
        self.call(move |keeper| keeper.rename_volume(&name, &to))
    }

    /// Makes a volume larger, or smaller if `may_shrink`. Returns its size in bytes.
    ///
    /// # Errors
    /// It is not there, the size cannot be, there is no space for a thick one, or it would shrink.
    pub fn resize_volume(
        &self,
        name: &str,
        bytes: u64,
        may_shrink: bool,
    ) -> Result<u64, PoolError> {
        let name = name.to_owned();
        self.call(move |keeper| keeper.resize_volume(&name, bytes, may_shrink))
    }

    /// Changes how fast a volume may be, at once.
    ///
    /// # Errors
    /// It is not there.
    pub fn set_limits(&self, name: &str, limits: Limits) -> Result<(), PoolError> {
        let name = name.to_owned();
        self.call(move |keeper| keeper.set_limits(&name, limits))
    }

    /// Takes a snapshot of each of `volumes`, all at one instant, at `now_s` seconds since 1970.
    ///
    /// # Errors
    /// A volume is not there or named twice, the name is taken or is none, or there is no space
    /// for thick ones.
    pub fn snapshot(&self, volumes: &[String], name: &str, now_s: u64) -> Result<(), PoolError> {
        let volumes: Vec<_> = volumes.iter().map(|volume| (volume.clone(), None)).collect();
        let name = name.to_owned();
        self.call(move |keeper| keeper.snapshot(&volumes, &name, now_s))
    }

    /// Deletes a snapshot that is not open, with any number of clones.
    ///
    /// # Errors
    /// It is not there, or is open.
    pub fn delete_snapshot(&self, volume: &str, name: &str) -> Result<(), PoolError> {
        let (volume, name) = (volume.to_owned(), name.to_owned());
        self.call(move |keeper| keeper.delete_snapshot(&volume, &name))
    }

    /// Makes a volume from a snapshot. Of `new`, size and blocks are the snapshot's.
    ///
    /// # Errors
    /// As of [`Pool::create_volume`], and that the snapshot is not there.
    pub fn clone_snapshot(
        &self,
        volume: &str,
        name: &str,
        new: NewVolume,
    ) -> Result<(), PoolError> {
        let (volume, name) = (volume.to_owned(), name.to_owned());
        self.call(move |keeper| keeper.clone_snapshot(&volume, &name, new).map(drop))
    }

    /// Makes a volume what one of its snapshots was.
    ///
    /// # Errors
    /// One of them is not there, or there is no space for a thick one.
    pub fn roll_back(&self, volume: &str, name: &str) -> Result<(), PoolError> {
        let (volume, name) = (volume.to_owned(), name.to_owned());
        self.call(move |keeper| keeper.roll_back(&volume, &name))
    }

    /// Makes a clone the owner of the snapshots that it was made from.
    ///
    /// # Errors
    /// It is no clone, or would have two snapshots of one name.
    pub fn promote(&self, volume: &str) -> Result<(), PoolError> {
        let volume = volume.to_owned();
        self.call(move |keeper| keeper.promote(&volume))
    }

    /// Adds a device with the number `uuid`.
    ///
    /// # Errors
    /// It is too small, holds something and `force` is not said, or fails.
    pub fn add_device(&self, new: NewMember, uuid: Uuid, force: bool) -> Result<(), PoolError> {
        self.call(move |keeper| keeper.add_device(new, uuid, force))
    }

    /// Uses what a device has grown by.
    ///
    /// # Errors
    /// It is not there, or fails.
    pub fn grow_device(&self, name: &str) -> Result<(), PoolError> {
        let name = name.to_owned();
        self.call(move |keeper| keeper.grow_device(&name).map(drop))
    }

    /// Begins to move everything that is on a device elsewhere; then it is no part of the pool.
    ///
    /// # Errors
    /// It is not there, or there is no space elsewhere.
    pub fn drain_device(&self, name: &str) -> Result<(), PoolError> {
        let name = name.to_owned();
        self.call(move |keeper| keeper.drain_device(&name))
    }

    /// Has a device that is being drained stay part of the pool; nothing for one that is not being
    /// drained. What has been moved stays where it is now.
    ///
    /// # Errors
    /// It is not there, or no part of the pool any more.
    pub fn keep_device(&self, name: &str) -> Result<(), PoolError> {
        let name = name.to_owned();
        self.call(move |keeper| keeper.keep_device(&name))
    }

    /// Changes whether devices are given back what nobody needs.
    ///
    /// # Errors
    /// The pool is on its way down.
    pub fn set_discard(&self, mode: DiscardMode) -> Result<(), PoolError> {
        self.ask(move |keeper| {
            keeper.set_discard(mode);
            Ok(())
        })
    }

    /// A volume to open.
    ///
    /// # Errors
    /// It is not there.
    pub fn volume(&self, name: &str) -> Result<Arc<VolumeBdev>, PoolError> {
        let view = self.directory.view_named(name).ok_or_else(|| PoolError::no_volume(name))?;
        Ok(self.bdev(view))
    }

    /// A snapshot to open and read.
    ///
    /// # Errors
    /// It is not there.
    pub fn snapshot_of(&self, volume: &str, name: &str) -> Result<Arc<VolumeBdev>, PoolError> {
        let (volume, name) = (volume.to_owned(), name.to_owned());
        let view = self.ask(move |keeper| keeper.view_snapshot(&volume, &name))?;
        Ok(self.bdev(view))
    }

    fn bdev(&self, view: Arc<View>) -> Arc<VolumeBdev> {
        let (devices, below) = (self.devices.clone(), self.devices_bdev.clone());
        Arc::new(VolumeBdev::new(view, devices, below))
    }
}

impl Drop for Pool {
    /// Its thread has ended afterwards, and with it everything that it does with the devices, the
    /// reactors' memory and the journals.
    fn drop(&mut self) {
        self.end();
        if let Some(journals) = &self.journals {
            journals.release();
        }
    }
}

fn check_name(name: &str) -> Result<(), PoolError> {
    if Superblock::is_name(name) {
        return Ok(());
    }
    let why = "A pool's name has 1 to 64 bytes and no control characters.";
    Err(PoolError::new(Kind::Invalid, why))
}

fn lock(keeper: &Mutex<Keeper>) -> MutexGuard<'_, Keeper> {
    keeper.lock().unwrap_or_else(PoisonError::into_inner)
}
