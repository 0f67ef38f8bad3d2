//! The files of one kind of steps.

use crate::Key;
use crate::frame::{FRAME_BYTES, Frame, Frames, MAGIC, object_bytes};
use crate::step::Step;
use rustix::fs::OFlags;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The smallest space that is of any use, in bytes.
pub const MIN_BYTES: u64 = 1 << 20;

/// Files of a kind.
const FILES: u64 = 8;

/// The folder of the history cannot be used: a sentence.
#[derive(Debug)]
pub struct FilesError(pub String);

impl std::fmt::Display for FilesError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FilesError {}

fn failed(path: &Path, error: &io::Error) -> FilesError {
    FilesError(format!("The history in {} cannot be kept: {error}.", path.display()))
}

/// Where the files of a kind are: `minutes` or `hours` in a folder.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub(crate) folder: PathBuf,
    pub(crate) kind: &'static str,
}

impl Places {
    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{}-{number:016x}", self.kind))
    }

    /// Numbers of the files that are there, the oldest first.
    fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let number =
                name.to_str().and_then(|name| name.strip_prefix(self.kind)?.strip_prefix('-'));
            let number = number.filter(|digits| digits.len() == 16);
            numbers.extend(number.and_then(|digits| u64::from_str_radix(digits, 16).ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A file, no more than `limit` of it; nothing where there is none any more.
    fn read(&self, number: u64, limit: u64) -> io::Result<Vec<u8>> {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(self.path(number));
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Hands on every frame, with what the identifiers of its file stand for.
    fn frames(
        &self,
        limit: u64,
        mut each: impl FnMut(&Frame, &BTreeMap<u64, Key>),
    ) -> io::Result<()> {
        for number in self.numbers()? {
            let bytes = self.read(number, limit)?;
            let mut named = BTreeMap::new();
            for frame in Frames::of(&bytes) {
                turn(&mut named, &frame);
                each(&frame, &named);
            }
        }
        Ok(())
    }

    /// Steps of an object from a time on, oldest first, of frames that reach beyond one moment and not
    /// beyond another, in milliseconds; and until when there are such frames. Nothing if it was never
    /// there.
    pub(crate) fn steps(
        &self,
        limit: u64,
        key: &Key,
        from_s: u64,
        (after_ms, to_ms): (u64, u64),
    ) -> io::Result<(Option<Vec<Step>>, u64)> {
        let (mut steps, mut until_ms) = (None::<Vec<Step>>, 0);
        for number in self.numbers()? {
            let bytes = self.read(number, limit)?;
            let mut known: Option<u64> = None;
            for frame in Frames::of(&bytes) {
                if known.is_some_and(|id| frame.gone.contains(&id)) {
                    known = None;
                }
                let named = frame.new.iter().find(|(_, new)| new == key);
                known = named.map(|(id, _)| *id).or(known);
                if frame.until_ms <= to_ms {
                    until_ms = until_ms.max(frame.until_ms);
                }
                let Some(id) = known else { continue };
                let steps = steps.get_or_insert_default();
                let is_asked = frame.until_ms > after_ms && frame.until_ms <= to_ms;
                if !is_asked || frame.at_s.saturating_add(frame.step_s.into()) <= from_s {
                    continue;
                }
                let idle = Step { at_s: frame.at_s, seconds: frame.step_s, ..Step::default() };
                let sample = frame.samples.iter().find(|(of, _)| *of == id);
                steps.push(sample.map_or(idle, |(_, step)| *step));
            }
        }
        Ok((steps, until_ms))
    }

    /// Until when there are frames, in milliseconds since 1970.
    pub(crate) fn until_ms(&self, limit: u64) -> io::Result<u64> {
        let mut until_ms = 0;
        self.frames(limit, |frame, _| until_ms = until_ms.max(frame.until_ms))?;
        Ok(until_ms)
    }

    /// What objects did in frames that reach beyond a moment: what is there, by frame.
    pub(crate) fn since(&self, limit: u64, moment_ms: u64) -> io::Result<Vec<Written>> {
        let mut all = Vec::new();
        self.frames(limit, |frame, named| {
            if frame.until_ms > moment_ms {
                let sample = |(id, step): &(u64, Step)| Some((named.get(id)?.clone(), *step));
                let steps = frame.samples.iter().filter_map(sample).collect();
                let there = named.values().cloned().collect();
                all.push(Written { at_s: frame.at_s, until_ms: frame.until_ms, there, steps });
            }
        })?;
        Ok(all)
    }
}

/// One frame with names in place of identifiers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    pub(crate) at_s: u64,
    pub(crate) until_ms: u64,
    /// Objects that are there.
    pub(crate) there: BTreeSet<Key>,
    /// Of those that did something.
    pub(crate) steps: BTreeMap<Key, Step>,
}

/// What identifiers stand for after a frame.
fn turn(named: &mut BTreeMap<u64, Key>, frame: &Frame) {
    frame.gone.iter().for_each(|id| drop(named.remove(id)));
    named.extend(frame.new.iter().cloned());
}

/// The file that is written, and those before.
#[derive(Debug)]
pub(crate) struct Files {
    places: Places,
    /// Bytes of a file at most.
    limit: u64,
    number: u64,
    /// Nothing: the next frame begins a file.
    file: Option<File>,
    /// Bytes of it that are whole.
    whole: u64,
    /// What is there, as the file has it.
    named: BTreeMap<Key, u64>,
    next: u64,
    /// Objects that did not fit.
    left_out: usize,
}

impl Files {
    /// Opens what is there, to go on behind its last whole frame.
    ///
    /// # Errors
    /// A sentence: the folder cannot be made, read or written. No content of a file is an error.
    pub(crate) fn open(places: Places, bytes: u64) -> Result<Files, FilesError> {
        let said = |error: io::Error| failed(&places.folder, &error);
        let limit = bytes / FILES;
        let numbers = places.numbers().map_err(said)?;
        let number = numbers.last().copied().unwrap_or(0);
        let mut files = Files {
            places: places.clone(),
            limit,
            number,
            file: None,
            whole: 0,
            named: BTreeMap::new(),
            next: 0,
            left_out: 0,
        };
        files.delete_old(FILES).map_err(said)?;
        if !numbers.is_empty() {
            files.go_on().map_err(said)?;
        }
        Ok(files)
    }

    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Bytes of a file at most.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Objects that did not fit into the last frame.
    pub(crate) fn left_out(&self) -> usize {
        self.left_out
    }

    /// Goes on with the newest file, cut after its last whole frame.
    fn go_on(&mut self) -> io::Result<()> {
        let bytes = self.places.read(self.number, self.limit)?;
        let mut frames = Frames::of(&bytes);
        let mut named = BTreeMap::new();
        frames.by_ref().for_each(|frame| turn(&mut named, &frame));
        let whole = frames.whole() as u64;
        if whole == 0 {
            // A power cut took its beginning: the next frame begins another.
            return Ok(());
        }
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let path = self.places.path(self.number);
        let file = OpenOptions::new().append(true).custom_flags(flags).open(path)?;
        file.set_len(whole)?;
        self.next = named.keys().last().map_or(0, |id| id.saturating_add(1));
        self.named = named.into_iter().map(|(id, key)| (key, id)).collect();
        (self.file, self.whole) = (Some(file), whole);
        Ok(())
    }

    /// Deletes the oldest files, so that there are `keep` at most. Files that are larger than they may
    /// be go first: their size was another.
    fn delete_old(&self, keep: u64) -> io::Result<()> {
        let mut numbers = self.places.numbers()?;
        let mut kept = Vec::new();
        for number in numbers.drain(..) {
            let path = self.places.path(number);
            if std::fs::symlink_metadata(&path)?.len() > self.limit {
                std::fs::remove_file(path)?;
            } else {
                kept.push(number);
            }
        }
        let old = kept.len().saturating_sub(keep as usize);
        kept[..old].iter().try_for_each(|number| std::fs::remove_file(self.places.path(*number)))
    }

    /// Begins a file.
    fn begin(&mut self) -> io::Result<()> {
        self.file = None;
        self.delete_old(FILES - 1)?;
        let none = || io::Error::other("the last of its files has the last number");
        let number = self.number.checked_add(1).ok_or_else(none)?;
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let mut options = OpenOptions::new();
        options.append(true).create_new(true).mode(0o600).custom_flags(flags);
        let mut file = options.open(self.places.path(number))?;
        self.number = number;
        file.write_all(MAGIC)?;
        (self.file, self.whole) = (Some(file), MAGIC.len() as u64);
        (self.named, self.next) = (BTreeMap::new(), 0);
        Ok(())
    }

    /// As many of these objects as the first frame of a file can name.
    fn fitting(&self, there: &BTreeSet<Key>) -> BTreeSet<Key> {
        let mut left = (self.limit as usize).saturating_sub(MAGIC.len() + FRAME_BYTES);
        let fits = |key: &&Key| match left.checked_sub(object_bytes(key)) {
            Some(rest) => {
                left = rest;
                true
            }
            None => false,
        };
        there.iter().take_while(fits).cloned().collect()
    }

    /// The frame, and what is named after it.
    fn frame(
        &self,
        step_s: u32,
        what: &Written,
        there: &BTreeSet<Key>,
    ) -> (Frame, BTreeMap<Key, u64>) {
        let mut named = self.named.clone();
        let gone: Vec<Key> = named.keys().filter(|key| !there.contains(*key)).cloned().collect();
        let gone = gone.iter().filter_map(|key| named.remove(key)).collect();
        let new = there.iter().filter(|key| !named.contains_key(*key)).cloned();
        let new: Vec<(u64, Key)> = (self.next..).zip(new).collect();
        named.extend(new.iter().map(|(id, key)| (key.clone(), *id)));
        let sample = |(key, step): (&Key, &Step)| Some((*named.get(key)?, *step));
        let samples = what.steps.iter().filter(|(_, step)| !step.is_idle()).filter_map(sample);
        let samples = samples.collect();
        let (at_s, until_ms) = (what.at_s, what.until_ms);
        (Frame { step_s, at_s, until_ms, gone, new, samples }, named)
    }

    /// Writes a frame, with one call.
    ///
    /// # Errors
    /// A sentence. The file is as it was before.
    pub(crate) fn write(&mut self, step_s: u32, what: &Written) -> Result<(), FilesError> {
        let folder = self.places.folder.clone();
        let said = |error: io::Error| failed(&folder, &error);
        let there = self.fitting(&what.there);
        self.left_out = what.there.len() - there.len();
        let (mut frame, mut named) = self.frame(step_s, what, &there);
        let mut bytes = frame.bytes();
        if self.file.is_none() || self.whole + bytes.len() as u64 > self.limit {
            self.begin().map_err(said)?;
            (frame, named) = self.frame(step_s, what, &there);
            bytes = frame.bytes();
        }
        self.append(&bytes).map_err(said)?;
        self.next += frame.new.len() as u64;
        self.named = named;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = file.write_all(bytes);
        match written {
            Ok(()) => self.whole += bytes.len() as u64,
            // What cannot even be cut is no more written to: another file is begun.
            Err(_) if file.set_len(self.whole).is_err() => self.file = None,
            Err(_) => {}
        }
        written
    }
}
