//! Journals as mapped files, in a folder of shared memory.
#![allow(unsafe_code)]

use super::{Identities, JournalMemory, Journals, MOST_LINES, PoolJournals, line_at};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

const WORD_BYTES: usize = 8;

/// Journals in a folder, one file for each volume. In a folder of a file system in memory they cost
/// memory only; in any other they serve as well, and cost its device what the kernel writes back.
/// Those of another boot are not found: the data that they speak of may be gone.
#[derive(Clone, Debug)]
pub struct SharedJournals {
    folder: PathBuf,
}

impl SharedJournals {
    /// Journals in `folder`, which is made, for its owner only, when it is needed.
    pub fn new(folder: impl Into<PathBuf>) -> SharedJournals {
        SharedJournals { folder: folder.into() }
    }

    /// The folder, if nobody else can have put anything there; none if there is none.
    fn checked(&self) -> io::Result<Option<&Path>> {
        let found = match fs::symlink_metadata(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        let user = fs::metadata("/proc/self")?.uid();
        if found.is_dir() && found.uid() == user && found.mode() & 0o077 == 0 {
            return Ok(Some(&self.folder));
        }
        Err(io::Error::other(format!(
            "{} is not a folder that only this user can write to: remove it",
            self.folder.display()
        )))
    }

    /// The lock of a pool, held: it ends with the process.
    fn lock(&self, pool: Uuid) -> io::Result<File> {
        let path = self.folder.join(format!("{pool}.lock"));
        loop {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
            let file = options.open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Its last owner may have removed it meanwhile: then the next one is not kept out.
            let own = file.metadata()?.ino();
            if fs::metadata(&path).is_ok_and(|there| there.ino() == own) {
                return Ok(file);
            }
        }
    }

    /// The files of a pool, those of this boot or all.
    fn of(&self, pool: Uuid, suffix: &str) -> io::Result<Vec<PathBuf>> {
        let Some(folder) = self.checked()? else { return Ok(Vec::new()) };
        let entries = fs::read_dir(folder)?;
        let prefix = format!("{pool}-");
        let paths = entries.map(|entry| Ok(entry?.path()));
        let is_of = |path: &io::Result<PathBuf>| {
            let name = path.as_ref().ok().and_then(|path| path.file_name()?.to_str());
            let fits = |name: &str| name.starts_with(&prefix) && name.ends_with(suffix);
            path.is_err() || name.is_some_and(fits)
        };
        paths.filter(is_of).collect()
    }
}

/// The number of this boot.
fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

impl Journals for SharedJournals {
    fn claim(&self, pool: Uuid) -> io::Result<Option<Arc<dyn PoolJournals>>> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        if self.checked()?.is_none() {
            let error = made.expect_err("it is not there");
            tracing::warn!(%error, folder = %self.folder.display(), "there is no place for journals");
            return Ok(None);
        }
        let lock = Mutex::new(Some(self.lock(pool)?));
        Ok(Some(Arc::new(Claimed { shared: self.clone(), pool, lock })))
    }
}

/// The journals of one pool in a folder, locked.
struct Claimed {
    shared: SharedJournals,
    pool: Uuid,
    /// `None`: they were given up.
    lock: Mutex<Option<File>>,
}

impl Claimed {
    /// The file that says which devices the journals speak of.
    fn devices_path(&self) -> io::Result<PathBuf> {
        Ok(self.shared.folder.join(format!("{}.devices.{}", self.pool, boot()?)))
    }

    /// The file that is there when a device was out.
    fn lost_path(&self) -> io::Result<PathBuf> {
        Ok(self.path(&format!("lost.{}", boot()?)))
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.shared.folder.join(format!("{}.{suffix}", self.pool))
    }
}

impl PoolJournals for Claimed {
    fn make(&self, volume: u64, words: usize) -> io::Result<Box<dyn JournalMemory>> {
        if self.lock.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return Err(io::Error::other("the journals were given up"));
        }
        let path = self.shared.folder.join(format!("{}-{volume}.{}", self.pool, boot()?));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true);
        let file = file.mode(0o600).open(&path)?;
        let made = MappedFile::new(file, path.clone(), words);
        if made.is_err() {
            // An empty file says nothing.
            let _ = fs::remove_file(&path);
        }
        Ok(Box::new(made?))
    }

    fn left(&self) -> io::Result<Vec<Vec<u64>>> {
        let read = |path: PathBuf| -> io::Result<Vec<u64>> {
            let bytes = fs::read(path)?;
            let words = bytes.chunks_exact(WORD_BYTES);
            Ok(words.map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes"))).collect())
        };
        self.shared.of(self.pool, &boot()?)?.into_iter().map(read).collect()
    }

    fn discard(&self) -> io::Result<()> {
        self.shared.of(self.pool, "")?.into_iter().try_for_each(fs::remove_file)
    }

    fn devices(&self) -> io::Result<Option<Identities>> {
        match fs::read(self.devices_path()?) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn set_devices(&self, devices: &Identities) -> io::Result<()> {
        let next = self.path("devices.new");
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        file.write_all_at(&serde_json::to_vec(devices)?, 0)?;
        fs::rename(next, self.devices_path()?)
    }

    fn set_lost(&self, lost: bool) -> io::Result<()> {
        let path = self.lost_path()?;
        if lost {
            let mut options = OpenOptions::new();
            let options = options.write(true).create(true).truncate(false).mode(0o600);
            return options.open(path).map(drop);
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn lost(&self) -> io::Result<bool> {
        self.lost_path()?.try_exists()
    }

    fn release(&self) {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = lock.take() else { return };
        if self.shared.of(self.pool, "").is_ok_and(|left| left.is_empty()) {
            // Nothing is left that they would have to be told apart for; a file more does no harm.
            let _ = self.devices_path().and_then(fs::remove_file);
            let _ = fs::remove_file(self.path("lock"));
        }
        // Also where a child process that is being started has the descriptor for a moment.
        let _ = file.unlock();
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        self.release();
    }
}

/// A file whose words are written by way of memory.
struct MappedFile {
    file: File,
    path: PathBuf,
    /// As long as a journal can become; the file behind it is `words` long.
    map: MmapRaw,
    words: usize,
}

impl std::fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} words in {}", self.words, Path::display(&self.path))
    }
}

impl MappedFile {
    fn new(file: File, path: PathBuf, words: usize) -> io::Result<MappedFile> {
        let most = line_at(MOST_LINES) * WORD_BYTES;
        let map = MmapOptions::new().len(most).map_raw(&file)?;
        let mut mapped = MappedFile { file, path, map, words: 0 };
        mapped.grow(words)?;
        Ok(mapped)
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < self.words, "word {at} of {}", self.words);
        // SAFETY: the map is aligned to a page and longer than `words`; the file behind it is as
        // long as that, with its pages allocated; it stays mapped while `self` is borrowed, and is
        // only ever accessed as atomic words.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast::<u64>().add(at)) }
    }
}

impl JournalMemory for MappedFile {
    fn store(&mut self, at: usize, words: &[u64]) {
        for (at, word) in (at..).zip(words) {
            // Whoever finds it after the process has ended finds what was stored before.
            self.word(at).store(*word, Ordering::Release);
        }
    }

    fn grow(&mut self, words: usize) -> io::Result<()> {
        assert!(words <= self.map.len() / WORD_BYTES, "larger than a journal can be");
        // Written, not only made longer: a page that the file system has no memory for would end
        // the process when it is touched.
        let zeros = vec![0; (words - self.words) * WORD_BYTES];
        self.file.write_all_at(&zeros, (self.words * WORD_BYTES) as u64)?;
        self.words = words;
        Ok(())
    }

    fn discard(self: Box<Self>) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a journal cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journals() -> (tempfile::TempDir, SharedJournals) {
        let folder = tempfile::tempdir().unwrap();
        let journals = SharedJournals::new(folder.path().join("journals"));
        (folder, journals)
    }

    fn claim(journals: &SharedJournals, pool: u128) -> Arc<dyn PoolJournals> {
        journals.claim(Uuid::from_u128(pool)).unwrap().unwrap()
    }

    #[test]
    fn what_was_stored_is_found_when_its_writer_is_gone() {
        let (folder, journals) = journals();
        let (of_one, of_other) = (claim(&journals, 1), claim(&journals, 2));
        assert_eq!(of_one.left().unwrap(), Vec::<Vec<u64>>::new());
        let mut memory = of_one.make(7, 16).unwrap();
        memory.store(3, &[5, 6]);
        memory.grow(20).unwrap();
        memory.store(19, &[9]);
        drop((memory, of_one));
        let of_one = claim(&journals, 1);
        let mut expected = vec![0; 20];
        (expected[3], expected[4], expected[19]) = (5, 6, 9);
        assert_eq!(of_one.left().unwrap(), [expected]);
        assert_eq!(of_other.left().unwrap(), Vec::<Vec<u64>>::new());
        of_one.make(8, 16).unwrap().discard();
        assert_eq!(of_one.left().unwrap().len(), 1);
        let here = folder.path().join("journals").join(format!(
            "{}-7.{}",
            Uuid::from_u128(1),
            boot().unwrap()
        ));
        let before = here.with_extension("another-boot");
        fs::rename(here, &before).unwrap();
        assert_eq!(of_one.left().unwrap(), Vec::<Vec<u64>>::new());
        of_one.discard().unwrap();
        assert!(!before.exists());
    }

    #[test]
    fn they_have_one_owner_at_a_time_and_leave_nothing_behind() {
        let (folder, journals) = journals();
        let first = claim(&journals, 1);
        let second = journals.claim(Uuid::from_u128(1)).err().unwrap();
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        drop(claim(&journals, 2));
        let devices = Identities::from([(Uuid::from_u128(3), Some("a file".to_owned()))]);
        assert_eq!(first.devices().unwrap(), None);
        first.set_devices(&devices).unwrap();
        let memory = first.make(7, 16).unwrap();
        first.release();
        assert!(first.make(8, 16).is_err());
        let third = claim(&journals, 1);
        assert_eq!(third.devices().unwrap(), Some(devices));
        memory.discard();
        third.set_lost(true).unwrap();
        drop(third);
        let fourth = claim(&journals, 1);
        assert!(fourth.lost().unwrap(), "whoever opens it next is told");
        fourth.set_lost(false).unwrap();
        assert!(!fourth.lost().unwrap());
        fourth.set_lost(false).unwrap();
        drop(fourth);
        assert_eq!(folder.path().join("journals").read_dir().unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, journals) = journals();
        drop(claim(&journals, 1));
        let path = folder.path().join("journals");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(journals.claim(Uuid::from_u128(1)).is_err());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        let journals = SharedJournals::new(file.join("journals"));
        assert!(journals.claim(Uuid::from_u128(1)).is_err());
    }
}
