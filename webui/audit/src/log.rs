//! A log: appended to, and kept within its quota.

use crate::backward::Backward;
use crate::line::{Access, Intent, Line, Link, Read, What};
use crate::quota::Quota;
use crate::segment::{self, Places};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use webui_model::AuditRecord;

/// The longest path that is recorded, in bytes.
const PATH_BYTES: usize = 1024;

/// The file that is written, and what the next line is chained to.
struct Current {
    file: File,
    bytes: u64,
    /// Bytes for which there is space.
    reserved: u64,
    link: Link,
    /// The number of the next line.
    number: u64,
}

/// Where else lines go, once they are written; must not block.
pub type Forward = Box<dyn Fn(&[u8]) + Send + Sync>;

/// A log.
pub struct Log {
    places: Places,
    quota: Quota,
    forward: Option<Forward>,
    current: Mutex<Current>,
}

impl Log {
    /// Opens the log at `path`, or makes it, and keeps space for it. Lines go to `forward`, too.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path, quota: Quota, forward: Option<Forward>) -> io::Result<Self> {
        let places = Places { path: path.to_owned() };
        let (link, number) = segment::head(&places)?;
        let mut file = segment::open(path)?;
        let mut bytes = file.metadata()?.len();
        if !segment::is_whole(&file, bytes)? {
            // A power cut has torn the last line: the next one stays apart from it.
            file.write_all(b"\n")?;
            bytes += 1;
        }
        let mut current = Current { file, bytes, reserved: 0, link, number };
        current.reserve(quota);
        let log = Self { places, quota, forward, current: Mutex::new(current) };
        log.keep_within_quota()?;
        log.keep_spare();
        Ok(log)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.places.path
    }

    /// Writes down a change before it is carried out. On disk when this returns, with its number.
    ///
    /// # Errors
    /// What the file system says: the change must not be carried out.
    pub fn intend(&self, mut intent: Intent, at_ms: u64) -> io::Result<u64> {
        cut(&mut intent.path);
        self.append(What::Intent(intent), at_ms)
    }

    /// Writes down what became of the change with this number.
    ///
    /// # Errors
    /// What the file system says.
    pub fn result(&self, of: u64, status: u16, at_ms: u64) -> io::Result<u64> {
        self.append(What::Result { of, status }, at_ms)
    }

    /// Writes down requests that changed nothing.
    ///
    /// # Errors
    /// What the file system says.
    pub fn access(&self, mut access: Access, at_ms: u64) -> io::Result<u64> {
        cut(&mut access.request.path);
        self.append(What::Access(access), at_ms)
    }

    /// Appends a line. Returns its number.
    fn append(&self, what: What, at_ms: u64) -> io::Result<u64> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, previous) = (current.number, current.link.0.clone());
        let line = Line { previous, number, at_ms, what };
        let mut text = serde_json::to_vec(&line).map_err(io::Error::other)?;
        let link = Link::of(&text);
        text.push(b'\n');
        let length = text.len() as u64;
        if current.bytes > 0 && current.bytes + length > self.quota.segment_bytes {
            self.rotate(&mut current)?;
        }
        if let Err(full) = current.write(&text) {
            // Somebody else has filled the file system, and what was kept here is used up: the next
            // file has space of its own, or gets that of the oldest.
            if current.bytes == 0 {
                return Err(full);
            }
            self.rotate(&mut current)?;
            current.write(&text)?;
        }
        (current.link, current.number) = (link, number + 1);
        current.reserve(self.quota);
        current.file.sync_data()?;
        if let Some(forward) = &self.forward {
            text.pop();
            forward(&text);
        }
        Ok(number)
    }

    /// Begins the next file: the spare one, which has space, or a new one with the space of the oldest.
    fn rotate(&self, current: &mut Current) -> io::Result<()> {
        let places = &self.places;
        let numbers = places.numbers()?;
        for number in numbers.iter().rev() {
            let from = places.full(*number);
            match *number < self.quota.kept {
                true => std::fs::rename(from, places.full(number + 1))?,
                false => std::fs::remove_file(from)?,
            }
        }
        // Not there: a rotation before this one ended between the two.
        if_there(std::fs::rename(&places.path, places.full(1)))?;
        if_there(std::fs::rename(places.spare(), &places.path))?;
        current.file = segment::open(&places.path)?;
        (current.bytes, current.reserved) = (current.file.metadata()?.len(), 0);
        current.reserve(self.quota);
        if self.quota.reserve_bytes > 0 && current.reserved == 0 {
            // No spare, and no space: history gives way, the oldest first.
            if let Some(oldest) = places.numbers()?.last().filter(|number| **number > 1) {
                std::fs::remove_file(places.full(*oldest))?;
                current.reserve(self.quota);
            }
        }
        self.keep_within_quota()?;
        self.keep_spare();
        places.sync()
    }

    /// Removes the oldest files beyond the quota: the file system, or what it allows, was larger.
    fn keep_within_quota(&self) -> io::Result<()> {
        let full = self.quota.segment_bytes * u64::from(self.quota.kept);
        let mut taken = 0;
        for number in self.places.numbers()? {
            let path = self.places.full(number);
            taken += std::fs::metadata(&path)?.len();
            if taken > full || number > self.quota.kept {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Keeps space for the next file. It is made again at the next chance where it cannot be had now.
    fn keep_spare(&self) {
        if self.quota.reserve_bytes == 0 {
            return;
        }
        let path = self.places.spare();
        let _ = std::fs::remove_file(&path);
        if let Ok(file) = segment::open(&path)
            && !segment::reserve(&file, self.quota.reserve_bytes)
        {
            let _ = std::fs::remove_file(&path);
        }
    }

    /// The newest records, newest first: changes with what became of them, where that is known. A line
    /// that a power cut has torn is left out.
    ///
    /// # Errors
    /// What the file system says.
    pub fn newest(&self, limit: usize) -> io::Result<Vec<AuditRecord>> {
        let files = {
            // Opened at one moment, read without standing in anybody's way.
            let _no_rotation = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            self.places.open_all()?
        };
        let (mut found, mut results) = (Vec::new(), BTreeMap::new());
        for file in files {
            let mut lines = Backward::new(&file, file.metadata()?.len());
            while found.len() < limit
                && let Some(line) = lines.next()?
            {
                found.extend(record(Read::of(&line), &mut results));
            }
        }
        Ok(found)
    }

    /// Its files that are there, the newest first.
    ///
    /// # Errors
    /// What the file system says.
    pub fn files(&self) -> io::Result<Vec<PathBuf>> {
        let numbers = self.places.numbers()?;
        let full = numbers.into_iter().map(|number| self.places.full(number));
        Ok(std::iter::once(self.places.path.clone()).chain(full).collect())
    }
}

/// What a line shows of a change, lines being met from the newest on.
fn record(line: Read, results: &mut BTreeMap<u64, u16>) -> Option<AuditRecord> {
    match line {
        Read::Torn => None,
        Read::Unchained(record) => Some(record),
        Read::Chained(Line { number, at_ms, what, .. }) => match what {
            What::Intent(intent) => {
                let status = results.remove(&number);
                Some(intent.record(number, at_ms, status, 1))
            }
            What::Result { of, status } => {
                results.insert(of, status);
                None
            }
            What::Access(access) => {
                Some(access.request.record(number, at_ms, Some(access.status), access.count))
            }
        },
    }
}

fn if_there(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn cut(path: &mut String) {
    if path.len() > PATH_BYTES {
        path.truncate(path.floor_char_boundary(PATH_BYTES));
    }
}

impl Current {
    /// Writes a line as a whole, or not at all.
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(text) {
            // What was written of it would stand before the next line.
            self.file.set_len(self.bytes)?;
            self.reserved = 0;
            return Err(error);
        }
        self.bytes += text.len() as u64;
        Ok(())
    }

    /// Keeps space ahead of what is written.
    fn reserve(&mut self, quota: Quota) {
        let wanted = (self.bytes + quota.reserve_bytes).min(quota.segment_bytes);
        let enough = self.reserved >= (self.bytes + quota.reserve_bytes / 2).min(wanted);
        if quota.reserve_bytes > 0 && !enough && segment::reserve(&self.file, wanted) {
            self.reserved = wanted;
        }
    }
}
