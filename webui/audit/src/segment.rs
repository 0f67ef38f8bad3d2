//! The files of a log.

use crate::backward::Backward;
use crate::line::Link;
use rustix::fs::{FallocateFlags, OFlags};
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where the files of a log are.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) path: PathBuf,
}

impl Places {
    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(ending);
        self.path.with_file_name(name)
    }

    /// A full file, the newest of which has the number 1.
    pub(crate) fn full(&self, number: u32) -> PathBuf {
        self.beside(&format!(".{number}"))
    }

    /// The empty file with space for the next.
    pub(crate) fn spare(&self) -> PathBuf {
        self.beside(".spare")
    }

    fn folder(&self) -> &Path {
        self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
    }

    /// Numbers of the full files that are there, the newest first. A power cut while they were
    /// renamed leaves a gap.
    pub(crate) fn numbers(&self) -> io::Result<Vec<u32>> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(self.folder())? {
            let entry = entry?.file_name();
            let ending = entry.to_str().and_then(|entry| entry.strip_prefix(&name));
            let number = ending.and_then(|ending| ending.strip_prefix('.')).map(str::parse::<u32>);
            numbers.extend(number.and_then(Result::ok));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Makes renamed files durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        File::open(self.folder())?.sync_all()
    }

    /// The files that are there, the newest first.
    pub(crate) fn open_all(&self) -> io::Result<Vec<File>> {
        let full = self.numbers()?.into_iter().map(|number| self.full(number));
        let mut files: Vec<File> = Vec::new();
        let mut seen = Vec::new();
        for path in std::iter::once(self.path.clone()).chain(full) {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // One that was renamed meanwhile is met twice.
            let inode = file.metadata()?.ino();
            if !seen.contains(&inode) {
                seen.push(inode);
                files.push(file);
            }
        }
        Ok(files)
    }
}

/// Opens a file to append to, for its owner only.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let no_link = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600).custom_flags(no_link);
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    if metadata.mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Keeps space for a file up to this length. Whether it could be had.
pub(crate) fn reserve(file: &File, bytes: u64) -> bool {
    rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, bytes).is_ok()
}

/// Whether a file ends with a whole line.
pub(crate) fn is_whole(file: &File, bytes: u64) -> io::Result<bool> {
    use std::os::unix::fs::FileExt;
    let mut last = [0];
    match bytes.checked_sub(1) {
        None => Ok(true),
        Some(at) => file.read_exact_at(&mut last, at).map(|()| last == *b"\n"),
    }
}

/// What the next line is chained to: the link of the last line, and the number after that of the last
/// chained one.
pub(crate) fn head(places: &Places) -> io::Result<(Link, u64)> {
    use crate::line::Read;
    let mut link = None;
    for file in places.open_all()? {
        let mut lines = Backward::new(&file, file.metadata()?.len());
        while let Some(line) = lines.next()? {
            let link = link.get_or_insert_with(|| Link::of(&line));
            match Read::of(&line) {
                Read::Chained(line) => return Ok((link.clone(), line.number + 1)),
                // No chained line is older than one that is not.
                Read::Unchained(_) => return Ok((link.clone(), 1)),
                Read::Torn => {}
            }
        }
    }
    Ok((link.unwrap_or_else(Link::none), 1))
}
