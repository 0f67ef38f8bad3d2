//! Journals as mapped files, in a folder of shared memory.

use super::{JournalMemory, Journals, MOST_LINES, line_at};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
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
    fn make(&self, pool: Uuid, volume: u64, words: usize) -> io::Result<Box<dyn JournalMemory>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        self.checked()?;
        let path = self.folder.join(format!("{pool}-{volume}.{}", boot()?));
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

    fn left(&self, pool: Uuid) -> io::Result<Vec<Vec<u64>>> {
        let read = |path: PathBuf| -> io::Result<Vec<u64>> {
            let bytes = fs::read(path)?;
            let words = bytes.chunks_exact(WORD_BYTES);
            Ok(words.map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes"))).collect())
        };
        self.of(pool, &boot()?)?.into_iter().map(read).collect()
    }

    fn discard(&self, pool: Uuid) -> io::Result<()> {
        self.of(pool, "")?.into_iter().try_for_each(fs::remove_file)
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

    #[test]
    fn what_was_stored_is_found_when_its_writer_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let journals = SharedJournals::new(folder.path().join("journals"));
        let (pool, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(journals.left(pool).unwrap(), Vec::<Vec<u64>>::new());
        let mut memory = journals.make(pool, 7, 16).unwrap();
        memory.store(3, &[5, 6]);
        memory.grow(20).unwrap();
        memory.store(19, &[9]);
        drop(memory);
        let mut expected = vec![0; 20];
        (expected[3], expected[4], expected[19]) = (5, 6, 9);
        assert_eq!(journals.left(pool).unwrap(), [expected]);
        assert_eq!(journals.left(other).unwrap(), Vec::<Vec<u64>>::new());
        journals.make(pool, 8, 16).unwrap().discard();
        assert_eq!(journals.left(pool).unwrap().len(), 1);
        let here = fs::read_dir(folder.path().join("journals")).unwrap().next().unwrap().unwrap();
        let before = here.path().with_extension("another-boot");
        fs::rename(here.path(), &before).unwrap();
        assert_eq!(journals.left(pool).unwrap(), Vec::<Vec<u64>>::new());
        journals.discard(pool).unwrap();
        assert!(!before.exists());
        assert_eq!(journals.left(pool).unwrap(), Vec::<Vec<u64>>::new());
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journals");
        let journals = SharedJournals::new(&path);
        drop(journals.make(Uuid::from_u128(1), 7, 16).unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(journals.make(Uuid::from_u128(1), 7, 16).is_err());
        assert!(journals.left(Uuid::from_u128(1)).is_err());
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        let journals = SharedJournals::new(file.join("journals"));
        assert!(journals.make(Uuid::from_u128(1), 7, 16).is_err());
    }
}
