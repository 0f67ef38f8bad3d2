//! The store of one node: a log in its data directory. See `FORMAT.md`.

use super::files::{Files, FolderFiles};
use super::lines::{self, Digest, FORMAT, Head, Record};
use super::state_json;
use super::{Revision, Store, StoreError};
use crate::Wanted;
use crate::change::{Change, Item, Key};
use crate::item::{Declared, DeclaredBy};
use std::io;
use std::path::Path;

/// The log may grow so far before it is written anew, in bytes.
const GROWTH_BYTES: usize = 64 << 10;

/// What a log says.
#[derive(Debug)]
struct Log {
    head: Head,
    revision: Revision,
    /// What is kept, without what the configuration declares.
    items: Wanted,
    /// Bytes of the line with everything, and of all lines.
    whole_bytes: usize,
    bytes: usize,
}

/// The store of one node. The data directory's lock is its user's matter.
#[derive(Debug)]
pub struct FileStore<F: Files = FolderFiles> {
    files: F,
    log: Option<Log>,
    /// The file may not be what was said: it is written anew before anything is added.
    in_doubt: bool,
    /// What was found out at the start, for the log of the program.
    notes: Vec<String>,
}

/// What an operator can do.
const ADVICE: &str = "Put a copy of it back; or move it away to start with what the configuration \
                      declares, and import the pools again: what is in them is not lost.";

impl FileStore {
    /// The store in a data directory.
    pub fn new(folder: &Path) -> FileStore {
        FileStore::over(FolderFiles::new(folder))
    }
}

impl<F: Files> FileStore<F> {
    /// The name of the log.
    pub const NAME: &str = "wanted.log";
    /// The name of the file of earlier versions.
    pub const OLD: &str = super::STATE_JSON;
    /// The log that an older program has overtaken.
    const BEFORE: &str = "wanted.log.before";

    /// The store on such files.
    pub fn over(files: F) -> FileStore<F> {
        FileStore { files, log: None, in_doubt: false, notes: Vec::new() }
    }

    /// Sentences on what was found when it was loaded, each once.
    pub fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.files.read(name).map_err(|error| {
            let path = self.files.show(name);
            StoreError::Failed(format!("The state file {path} cannot be read: {error}."))
        })
    }

    fn damaged(&self, name: &str, why: &str) -> StoreError {
        StoreError::Failed(format!("The state file {} {why}. {ADVICE}", self.files.show(name)))
    }

    fn unwritten(&self, error: impl std::fmt::Display) -> StoreError {
        let path = self.files.show(Self::NAME);
        StoreError::Failed(format!("The state file {path} cannot be written: {error}."))
    }

    fn open(&mut self) -> Result<Log, StoreError> {
        let old = self.read(Self::OLD)?;
        let Some(content) = self.read(Self::NAME)? else {
            return self.begin(old.as_deref(), 1);
        };
        let read = lines::read(&content).map_err(|why| self.damaged(Self::NAME, &why))?;
        let last = read.records.last().map_or(1, |record| record.revision);
        let digest = old.as_deref().map(Digest::of);
        if digest.is_some() && digest != read.head.converted {
            self.notes.push(format!(
                "{} was changed by an older program, or by hand: what is wanted is read from it. \
                 What was wanted before is in {}.",
                self.files.show(Self::OLD),
                self.files.show(Self::BEFORE)
            ));
            self.files.replace(Self::BEFORE, &content).map_err(|error| self.unwritten(error))?;
            return self.begin(old.as_deref(), last.wrapping_add(1));
        }
        let mut items = Wanted::default();
        for record in &read.records {
            carry_out(&mut items, record);
        }
        if read.good_bytes < content.len() {
            self.notes.push(format!(
                "{} ends with a change that was never finished: it is left out.",
                self.files.show(Self::NAME)
            ));
            let good = &content[..read.good_bytes];
            self.files.replace(Self::NAME, good).map_err(|error| self.unwritten(error))?;
        }
        let (whole_bytes, bytes) = (read.whole_bytes, read.good_bytes);
        Ok(Log { head: read.head, revision: last, items, whole_bytes, bytes })
    }

    /// Begins a log, with what an older program has left.
    fn begin(&mut self, old: Option<&[u8]>, revision: Revision) -> Result<Log, StoreError> {
        let mut items = Wanted::default();
        if let Some(old) = old {
            let known = state_json::read(old).map_err(|why| self.damaged(Self::OLD, &why))?;
            for item in known {
                if !items.add(Declared::api(item.clone())) {
                    self.notes.push(format!("{:?} is there twice, and left out.", item.key()));
                }
            }
        }
        let head = Head { format: FORMAT, converted: old.map(Digest::of) };
        let mut log = Log { head, revision, items, whole_bytes: 0, bytes: 0 };
        self.write_anew(&mut log)?;
        Ok(log)
    }

    fn write_anew(&mut self, log: &mut Log) -> Result<(), StoreError> {
        let set = log.items.items().map(|declared| declared.item).collect();
        let record = Record { revision: log.revision, unset: Vec::new(), set };
        let mut content = lines::line(&log.head).map_err(|why| self.unwritten(why))?;
        content.extend(lines::line(&record).map_err(|why| self.unwritten(why))?);
        self.files.replace(Self::NAME, &content).map_err(|error| self.unwritten(error))?;
        (log.whole_bytes, log.bytes) = (content.len(), content.len());
        Ok(())
    }

    /// Keeps changes in a log that is open.
    fn keep(&mut self, log: &mut Log, changes: &[Change]) -> Result<(), StoreError> {
        if self.in_doubt {
            self.write_anew(log)?;
            self.in_doubt = false;
        }
        let record = record_of(changes, log.revision.wrapping_add(1));
        let line = lines::line(&record).map_err(|why| self.unwritten(why))?;
        if let Err(error) = self.append(&line) {
            self.in_doubt = true;
            if self.write_anew(log).is_ok() {
                self.in_doubt = false;
            }
            return Err(self.unwritten(error));
        }
        carry_out(&mut log.items, &record);
        log.revision = record.revision;
        log.bytes += line.len();
        let grown = log.bytes - log.whole_bytes;
        if grown > GROWTH_BYTES.max(log.whole_bytes)
            && let Err(error) = self.write_anew(log)
        {
            // What counts is in one file or the other; which one is found out before more is written.
            self.in_doubt = true;
            tracing::warn!(%error, "the log of what is wanted is not written anew");
        }
        Ok(())
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.files.append(Self::NAME, line)
    }
}

/// The line of changes, without those of the configuration.
fn record_of(changes: &[Change], revision: Revision) -> Record {
    // The last word on each item counts.
    let mut last: std::collections::BTreeMap<Key, Option<Item>> = Default::default();
    for change in changes.iter().filter(|change| change.by() == DeclaredBy::Api) {
        last.insert(change.key(), change.items().1);
    }
    let mut record = Record { revision, unset: Vec::new(), set: Vec::new() };
    for (key, item) in last {
        match item {
            Some(item) => record.set.push(item),
            None => record.unset.push(key),
        }
    }
    record
}

fn carry_out(items: &mut Wanted, record: &Record) {
    record.unset.iter().for_each(|key| items.remove(key));
    for item in &record.set {
        items.carry_out(&item.clone().appears(DeclaredBy::Api));
    }
}

impl<F: Files> Store for FileStore<F> {
    fn load(&mut self) -> Result<(Revision, Vec<Item>), StoreError> {
        let log = match self.log.take() {
            Some(log) => log,
            None => {
                let log = self.open()?;
                self.notes.iter().for_each(|note| tracing::warn!("{note}"));
                log
            }
        };
        let items = log.items.items().map(|declared| declared.item).collect();
        let revision = log.revision;
        self.log = Some(log);
        Ok((revision, items))
    }

    fn compare_and_swap(
        &mut self,
        revision: Revision,
        changes: &[Change],
    ) -> Result<Revision, StoreError> {
        let Some(mut log) = self.log.take() else { return Err(StoreError::Conflict) };
        let kept = match log.revision == revision {
            true => self.keep(&mut log, changes),
            false => Err(StoreError::Conflict),
        };
        let now = log.revision;
        self.log = Some(log);
        kept.map(|()| now)
    }

    fn forget_old(&mut self) -> Result<(), StoreError> {
        self.files.remove(Self::OLD).map_err(|error| self.unwritten(error))
    }
}
