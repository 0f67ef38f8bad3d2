//! A pool that is imported: its devices, its memory, and the volumes that somebody has open.

mod medium;
mod reach;

pub(crate) use medium::BdevMedium;
use reach::{Lease, Reach};

use crate::state::Source;
use bdev::Bdev;
use bdev_pool::{
    BLOCK_BYTES, Host, Journals, Kind, Medium, NewMember, Pool, PoolError, PoolStatus,
    SharedJournals, Traffic, VolumeBdev,
};
use reactor::Handle;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;
use webui_model::{DiscardMode, Refusal, RefusalKind};

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
    pub pool: Pool,
    lease: Lease,
    media: BTreeMap<String, Arc<BdevMedium>>,
    /// How often drives of it had come back when it was opened, all together.
    pub returns: u64,
    /// One bdev for each volume and snapshot that was asked for: channels are found by it.
    opened: Vec<(Source, Arc<VolumeBdev>)>,
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
            Pool::create(name, members, force, host, Uuid::new_v4)
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
        OpenPool::start(
            parts,
            discard,
            reactors,
            if force { Pool::import_copy } else { Pool::import },
        )
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
                Ok(OpenPool { pool, lease, media: media.collect(), returns: 0, opened: Vec::new() })
            }
            Err(error) => {
                lease.give_back();
                Err(refusal(error))
            }
        }
    }

    /// Everything there is to say.
    pub(crate) fn status(&self) -> Result<PoolStatus, Refusal> {
        self.pool.status().map_err(refusal)
    }

    /// The bdev of a volume or snapshot, the same one each time.
    pub(crate) fn bdev(&mut self, source: &Source) -> Result<Arc<VolumeBdev>, Refusal> {
        if let Some((_, bdev)) = self.opened.iter().find(|(known, _)| known.is(source)) {
            return Ok(bdev.clone());
        }
        let bdev = match source {
            Source::Volume { uuid, .. } => {
                let name = self.name_of(*uuid)?;
                self.pool.volume(&name)
            }
            Source::Snapshot { uuid, snapshot, .. } => {
                let name = self.name_of(*uuid)?;
                self.pool.snapshot_of(&name, snapshot)
            }
            Source::Device { name } => unreachable!("device {name} is not in a pool"),
        };
        let bdev = bdev.map_err(refusal)?;
        self.opened.push((source.clone(), bdev.clone()));
        Ok(bdev)
    }

    /// The bdev of a volume or snapshot, if it was asked for before.
    pub(crate) fn opened(&self, source: &Source) -> Option<&Arc<VolumeBdev>> {
        self.opened.iter().find(|(known, _)| known.is(source)).map(|(_, bdev)| bdev)
    }

    /// What each volume and snapshot that was asked for has done.
    pub(crate) fn traffics(&self) -> impl Iterator<Item = &Traffic> {
        self.opened.iter().map(|(_, bdev)| bdev.traffic())
    }

    /// A volume or snapshot is gone, or is another's from now on: its bdev is made anew when it is
    /// asked for.
    pub(crate) fn forget(&mut self, source: &Source) {
        self.opened.retain(|(known, _)| !known.is(source));
    }

    /// Volumes have these names now.
    pub(crate) fn named(&mut self, names: &BTreeMap<Uuid, String>) {
        self.opened.iter_mut().for_each(|(source, _)| source.named(names));
    }

    /// A snapshot is another volume's from now on.
    pub(crate) fn moved(&mut self, source: &Source, to: &Source) {
        for (known, _) in self.opened.iter_mut().filter(|(known, _)| known.is(source)) {
            *known = to.clone();
        }
    }

    /// What a bdev of this pool shows.
    pub(crate) fn source_of(&self, bdev: &Arc<dyn Bdev>) -> Option<&Source> {
        let is_it = |own: &Arc<VolumeBdev>| {
            let own: Arc<dyn Bdev> = own.clone();
            Arc::ptr_eq(&own, bdev)
        };
        self.opened.iter().find(|(_, own)| is_it(own)).map(|(source, _)| source)
    }

    /// The name that a volume has now.
    pub(crate) fn name_of(&self, uuid: Uuid) -> Result<String, Refusal> {
        let status = self.status()?;
        let volume = status.volumes.into_iter().find(|volume| volume.uuid == uuid);
        volume.map(|volume| volume.name).ok_or_else(|| {
            Refusal::not_found(format!("Pool {} has no volume {uuid}.", self.pool.name()))
        })
    }

    /// The devices that it was opened on and added since.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &str> {
        self.media.keys().map(String::as_str)
    }

    /// Whether a device of it takes writes: zeros to where the superblock's sectors have zeros
    /// behind them (`FORMAT.md`, "A device").
    pub(crate) fn takes_writes(&self, device: &str) -> bool {
        let at = 2 * BLOCK_BYTES as u64;
        self.media[device].write(&[(at, &[0; BLOCK_BYTES])]).is_ok()
    }

    /// Whether a device may have lost what it had answered.
    pub(crate) fn has_lost(&self) -> bool {
        self.media.values().any(|medium| medium.has_lost())
    }

    /// A device was added.
    pub(crate) fn added(&mut self, part: &Part) {
        self.media.insert(part.name.clone(), part.medium.clone());
    }

    /// Lets go of a device that is no part of it any more.
    pub(crate) fn drop_device(&mut self, name: &str) {
        if let Some(medium) = self.media.remove(name) {
            medium.close();
        }
    }

    /// Commits everything and lets go of the devices, which are returned. No volume is open.
    ///
    /// # Errors
    /// With the pool, which is still open, what is still open; or that something could not be made
    /// durable.
    pub(crate) fn close(self) -> Result<Vec<String>, Box<(OpenPool, Refusal)>> {
        if let Err(error) = self.pool.close() {
            return Err(Box::new((self, refusal(error))));
        }
        Ok(self.let_go())
    }

    /// Gives back what it has of the reactors: nothing is under way.
    pub(crate) fn let_go(self) -> Vec<String> {
        let OpenPool { pool, lease, media, opened, .. } = self;
        drop((pool, opened));
        media.values().for_each(|medium| medium.close());
        lease.give_back();
        media.into_keys().collect()
    }
}
