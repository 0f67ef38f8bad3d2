//! A pool that is imported: its devices, its memory, and the volumes that somebody has open.

mod medium;
mod owner;
mod reach;

pub(crate) use medium::BdevMedium;
use reach::{Lease, Reach};

use bdev::Bdev;
use bdev_pool::{
    BLOCK_BYTES, Condition, Directory, FORMAT_1, Host, Journals, Kind, NewMember, Pool, PoolError,
    PoolStatus, SharedJournals, VolumeBdev,
};
use reactor::Handle;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;
use wanted::Source;
use webui_model::{DiscardMode, Refusal, RefusalKind};

/// How long those may take that ask a pool for something while it is closed.
const LET_GO: Duration = Duration::from_secs(10);

/// A device that a pool is to be opened on: its name, and how it is reached.
pub(crate) struct Part {
    pub name: String,
    pub bdev: Arc<dyn Bdev>,
    pub medium: Arc<BdevMedium>,
}

impl Part {
    pub(crate) fn member(&self) -> NewMember {
        let (bdev, medium) = (self.bdev.clone(), self.medium.clone());
        NewMember { name: self.name.clone(), bdev, medium }
    }
}

/// See the module.
pub(crate) struct OpenPool {
    name: String,
    uuid: Uuid,
    /// `None`: it is let go of.
    pool: Mutex<Option<Arc<Pool>>>,
    lease: Mutex<Option<Lease>>,
    media: Mutex<BTreeMap<String, Arc<BdevMedium>>>,
    /// How often drives of it had come back when it was opened, all together.
    returns: AtomicU64,
    /// One bdev for each volume and snapshot that was asked for: channels are found by it.
    opened: Mutex<OpenedBdevs>,
    /// What it says of itself.
    directory: Arc<Directory>,
}

/// A volume, or one of its snapshots.
type Which = (Uuid, Option<String>);

/// Volumes and snapshots that were asked for.
#[derive(Default)]
struct OpenedBdevs {
    all: BTreeMap<Which, (Source, Arc<VolumeBdev>)>,
    /// By the addresses of their bdevs.
    by_bdev: BTreeMap<usize, Which>,
}

impl OpenedBdevs {
    fn remove(&mut self, which: &Which) -> Option<(Source, Arc<VolumeBdev>)> {
        let removed = self.all.remove(which)?;
        self.by_bdev.remove(&address(&removed.1));
        Some(removed)
    }

    fn insert(&mut self, which: Which, source: Source, bdev: Arc<VolumeBdev>) {
        self.by_bdev.insert(address(&bdev), which.clone());
        self.all.insert(which, (source, bdev));
    }
}

/// What tells a bdev from others, for as long as it is there.
fn address<B: ?Sized>(bdev: &Arc<B>) -> usize {
    Arc::as_ptr(bdev).cast::<()>().addr()
}

fn which(source: &Source) -> Which {
    match source {
        Source::Volume { uuid, .. } => (*uuid, None),
        Source::Snapshot { uuid, snapshot, .. } => (*uuid, Some(snapshot.clone())),
        Source::Device { name } => unreachable!("device {name} is not in a pool"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pool's error in the words of the API.
pub(crate) fn refusal(error: PoolError) -> Refusal {
    let kind = match error.kind {
        Kind::NotFound => RefusalKind::NotFound,
        Kind::Exists => RefusalKind::Exists,
        Kind::InUse => RefusalKind::InUse,
        Kind::Invalid => RefusalKind::Invalid,
        Kind::Refused => RefusalKind::Refused,
        Kind::Full => RefusalKind::Full,
        Kind::Device => RefusalKind::Device,
    };
    Refusal::new(kind, error.message)
}

/// [`DiscardMode`] in a pool's words.
pub(crate) fn in_pool(mode: DiscardMode) -> bdev_pool::DiscardMode {
    match mode {
        DiscardMode::Auto => bdev_pool::DiscardMode::Auto,
        DiscardMode::On => bdev_pool::DiscardMode::On,
        DiscardMode::Off => bdev_pool::DiscardMode::Off,
    }
}

/// Where journals are: in memory, so that they cost no device anything, and each user's apart.
fn journal_folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let user = std::fs::metadata("/proc/self").map_or(0, |process| process.uid());
    folder.join(format!("forebay-{user}"))
}

impl OpenPool {
    /// Makes a pool.
    pub(crate) fn create(
        name: &str,
        parts: &[Part],
        force: bool,
        discard: DiscardMode,
        reactors: &[Handle],
    ) -> Result<OpenPool, Refusal> {
        OpenPool::start(parts, discard, reactors, |members, host| {
            // Older releases can open it until somebody upgrades it.
            let opening = owner::opening(force);
            Pool::make((name, FORMAT_1), members, opening, host, Uuid::new_v4)
        })
    }

    /// Opens the pool that is on `parts`. With `force` also where a killed process knew more, of
    /// other devices that say that they are the same.
    pub(crate) fn import(
        parts: &[Part],
        force: bool,
        discard: DiscardMode,
        reactors: &[Handle],
    ) -> Result<OpenPool, Refusal> {
        OpenPool::start(parts, discard, reactors, |members, host| {
            Pool::open(members, owner::opening(force), host)
        })
    }

    fn start(
        parts: &[Part],
        discard: DiscardMode,
        reactors: &[Handle],
        open: impl FnOnce(Vec<NewMember>, Host) -> Result<Pool, PoolError>,
    ) -> Result<OpenPool, Refusal> {
        let lease = Lease::take(reactors).map_err(Refusal::full)?;
        let reach = Arc::new(Reach(reactors.to_vec()));
        let journals: Arc<dyn Journals> = Arc::new(SharedJournals::new(journal_folder()));
        let (memory, journals) = (lease.slices(), Some(journals));
        let discard = in_pool(discard);
        let host = Host { reactors: reach, memory, journals, discard, stepped: None };
        let members = parts.iter().map(Part::member).collect();
        match open(members, host) {
            Ok(pool) => {
                let media = parts.iter().map(|part| (part.name.clone(), part.medium.clone()));
                let directory = pool.directory().clone();
                Ok(OpenPool {
                    name: pool.name().to_owned(),
                    uuid: pool.uuid(),
                    pool: Mutex::new(Some(Arc::new(pool))),
                    lease: Mutex::new(Some(lease)),
                    media: Mutex::new(media.collect()),
                    returns: AtomicU64::new(0),
                    opened: Mutex::default(),
                    directory,
                })
            }
            Err(error) => {
                lease.give_back();
                Err(refusal(error))
            }
        }
    }

    /// As people call it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its own, for ever.
    pub(crate) fn uuid(&self) -> Uuid {
        self.uuid
    }

    fn pool(&self) -> Result<Arc<Pool>, Refusal> {
        let gone = || Refusal::unavailable(format!("Pool {} is on its way out.", self.name));
        lock(&self.pool).clone().ok_or_else(gone)
    }

    /// Asks the pool for something, and waits for it.
    pub(crate) fn ask<R>(
        &self,
        f: impl FnOnce(&Pool) -> Result<R, PoolError>,
    ) -> Result<R, Refusal> {
        f(&*self.pool()?).map_err(refusal)
    }

    /// Takes a device in as one more.
    pub(crate) fn add_device(&self, part: &Part, force: bool) -> Result<(), Refusal> {
        self.ask(|pool| pool.add_device(part.member(), Uuid::new_v4(), force).map(drop))?;
        lock(&self.media).insert(part.name.clone(), part.medium.clone());
        Ok(())
    }

    /// What was answered and is not on the devices counts no more.
    pub(crate) fn discard_journals(&self) -> Result<(), String> {
        let pool = self.pool().map_err(|refusal| refusal.message)?;
        pool.discard_journals().map_err(|error| error.to_string())
    }

    /// What it says of itself, for any thread to read.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// What it says of itself, but its volumes and snapshots.
    pub(crate) fn status(&self) -> PoolStatus {
        let Condition { failed, stopped, full, discard, commits } = self.directory.condition();
        PoolStatus {
            space: self.directory.space(),
            devices: self.directory.devices(),
            volumes: Vec::new(),
            snapshots: Vec::new(),
            commits,
            jobs: self.directory.jobs(),
            stopped,
            discard,
            full,
            failed,
        }
    }

    /// The bdev of a volume or snapshot, the same one each time.
    pub(crate) fn bdev(&self, source: &Source) -> Result<Arc<VolumeBdev>, Refusal> {
        if let Some(bdev) = self.opened(source) {
            return Ok(bdev);
        }
        let pool = self.pool()?;
        let bdev = match source {
            Source::Volume { uuid, .. } => {
                let name = self.name_of(*uuid)?;
                pool.volume(&name)
            }
            Source::Snapshot { uuid, snapshot, .. } => {
                let name = self.name_of(*uuid)?;
                pool.snapshot_of(&name, snapshot)
            }
            Source::Device { name } => unreachable!("device {name} is not in a pool"),
        };
        let bdev = bdev.map_err(refusal)?;
        lock(&self.opened).insert(which(source), source.clone(), bdev.clone());
        Ok(bdev)
    }

    /// The bdev of a volume or snapshot, if it was asked for before.
    pub(crate) fn opened(&self, source: &Source) -> Option<Arc<VolumeBdev>> {
        lock(&self.opened).all.get(&which(source)).map(|(_, bdev)| bdev.clone())
    }

    /// How many operations found the pool full, on volumes and snapshots that were asked for.
    pub(crate) fn found_full(&self) -> u64 {
        let opened = lock(&self.opened);
        let full = opened.all.values().map(|(_, bdev)| &bdev.traffic().found_full);
        full.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// A volume or snapshot is gone, or is another's from now on: its bdev is made anew when it is
    /// asked for.
    pub(crate) fn forget(&self, source: &Source) {
        lock(&self.opened).remove(&which(source));
    }

    /// Volumes have these names now.
    pub(crate) fn named(&self, names: &BTreeMap<Uuid, String>) {
        let mut opened = lock(&self.opened);
        for uuid in names.keys() {
            let of_it = opened.all.range_mut((*uuid, None)..);
            let of_it = of_it.take_while(|((of, _), _)| of == uuid);
            of_it.for_each(|(_, (source, _))| source.named(names));
        }
    }

    /// A snapshot is another volume's from now on.
    pub(crate) fn moved(&self, source: &Source, to: &Source) {
        let mut opened = lock(&self.opened);
        if let Some((_, bdev)) = opened.remove(&which(source)) {
            opened.insert(which(to), to.clone(), bdev);
        }
    }

    /// What a bdev of this pool shows.
    pub(crate) fn source_of(&self, bdev: &Arc<dyn Bdev>) -> Option<Source> {
        let opened = lock(&self.opened);
        let which = opened.by_bdev.get(&address(bdev))?;
        opened.all.get(which).map(|(source, _)| source.clone())
    }

    /// The name that a volume has now.
    pub(crate) fn name_of(&self, uuid: Uuid) -> Result<String, Refusal> {
        let volume = self.directory.volume_by_uuid(uuid);
        volume
            .map(|volume| volume.name)
            .ok_or_else(|| Refusal::not_found(format!("Pool {} has no volume {uuid}.", self.name)))
    }

    /// The devices that it was opened on and added since.
    pub(crate) fn devices(&self) -> Vec<String> {
        lock(&self.media).keys().cloned().collect()
    }

    /// How often drives of it had come back when it was opened, all together.
    pub(crate) fn returns(&self) -> u64 {
        self.returns.load(Ordering::Relaxed)
    }

    /// Notes that.
    pub(crate) fn set_returns(&self, returns: u64) {
        self.returns.store(returns, Ordering::Relaxed);
    }

    /// Whether a device of it takes writes: zeros to where the superblock's sectors have zeros
    /// behind them (`FORMAT.md`, "A device").
    pub(crate) fn takes_writes(&self, device: &str) -> bool {
        let medium = lock(&self.media).get(device).cloned();
        medium.is_some_and(|medium| medium.takes_zeros(2 * BLOCK_BYTES as u64))
    }

    /// Whether a device has not answered yet what the pool's thread asked of it. Waits for nobody.
    pub(crate) fn waits_for(&self, device: &str) -> bool {
        lock(&self.media).get(device).is_some_and(|medium| medium.silence().is_some())
    }

    /// Whether a device may have lost what it had answered.
    pub(crate) fn has_lost(&self) -> bool {
        lock(&self.media).values().any(|medium| medium.has_lost())
    }

    /// Lets go of a device that is no part of it any more.
    pub(crate) fn drop_device(&self, name: &str) {
        let medium = lock(&self.media).remove(name);
        if let Some(medium) = medium {
            medium.close();
        }
    }

    /// Commits everything and lets go of the devices, which are returned. No volume is open.
    ///
    /// # Errors
    /// It is open as it was: what is still open; or that something could not be made durable.
    pub(crate) fn close(&self) -> Result<Vec<String>, Refusal> {
        self.pool()?.close().map_err(refusal)?;
        Ok(self.let_go())
    }

    /// Gives back what it has of the reactors: nothing is under way.
    pub(crate) fn let_go(&self) -> Vec<String> {
        let pool = lock(&self.pool).take();
        let opened = std::mem::take(&mut *lock(&self.opened));
        drop(opened);
        if let Some(mut pool) = pool {
            let until = Instant::now() + LET_GO;
            // Somebody may be asking it how it is.
            while let Err(others) = Arc::try_unwrap(pool) {
                if Instant::now() >= until {
                    tracing::error!(pool = self.name, "somebody still asks it for something");
                    break;
                }
                pool = others;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let media = std::mem::take(&mut *lock(&self.media));
        media.values().for_each(|medium| medium.close());
        if let Some(lease) = lock(&self.lease).take() {
            lease.give_back();
        }
        media.into_keys().collect()
    }
}
