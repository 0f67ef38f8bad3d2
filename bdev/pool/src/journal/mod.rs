//! What a volume has changed and not committed, in memory that outlives the process (`FORMAT.md`,
//! "The journal").

mod replay;
mod shared;

pub use shared::SharedJournals;

use crate::entry::{EXTENTS_PER_ROW, Entry, Row};
use crate::store::RowKey;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use uuid::Uuid;

pub(crate) use replay::{replay, speaks};

/// `FBJOURN1`: a journal begins with it.
const MAGIC: u64 = u64::from_le_bytes(*b"FBJOURN1");

/// Words before the first line: the magic number, the session, the volume.
const HEAD_WORDS: usize = 8;

/// Words of a line before its entries: the order, the node, its parent and one, the chunk.
const LINE_HEAD_WORDS: usize = 8;

/// Words of an entry: as in a row of the map, then its bitmap.
const ENTRY_WORDS: usize = Entry::WORDS;

const LINE_WORDS: usize = LINE_HEAD_WORDS + EXTENTS_PER_ROW * ENTRY_WORDS;

/// Lines of a new journal: 42 KiB.
const FIRST_LINES: usize = 16;

/// Lines that a journal grows by when it is large: 670 KiB.
const LINES_AT_ONCE: usize = 256;

/// And the most that it has: 43 MiB.
const MOST_LINES: usize = 16384;

/// The devices of a pool by their UUIDs, and what tells each from a copy of it
/// ([`bdev::Bdev::identity`]).
pub type Identities = BTreeMap<Uuid, Option<String>>;

/// Where journals are: memory that outlives the process. That it outlives a power cut is not
/// needed.
pub trait Journals: Send + Sync {
    /// Takes the journals of a pool: they have one owner at a time, until it releases them or its
    /// process ends. None if there is no place for any, and none was left.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if they have an owner; or they cannot be reached.
    fn claim(&self, pool: Uuid) -> io::Result<Option<Arc<dyn PoolJournals>>>;
}

/// The journals of one pool, for their owner.
pub trait PoolJournals: Send + Sync {
    /// Memory for the journal of a volume, of so many words of zeros, in place of what there is.
    ///
    /// # Errors
    /// There is none left.
    fn make(&self, volume: u64, words: usize) -> io::Result<Box<dyn JournalMemory>>;

    /// The words of each journal that was left.
    ///
    /// # Errors
    /// It cannot be read.
    fn left(&self) -> io::Result<Vec<Vec<u64>>>;

    /// Throws away what was left: it is durable, or will never be.
    ///
    /// # Errors
    /// It cannot.
    fn discard(&self) -> io::Result<()>;

    /// The devices that the journals speak of; none if nobody has said.
    ///
    /// # Errors
    /// It cannot be read.
    fn devices(&self) -> io::Result<Option<Identities>>;

    /// Says which devices the journals speak of, all at once.
    ///
    /// # Errors
    /// It cannot be written.
    fn set_devices(&self, devices: &Identities) -> io::Result<()>;

    /// Whether what was answered may be lost, for who opens the pool next in this boot of the machine: a
    /// device was out.
    ///
    /// # Errors
    /// It cannot be written.
    fn set_lost(&self, lost: bool) -> io::Result<()>;

    /// What was said of that.
    ///
    /// # Errors
    /// It cannot be read.
    fn lost(&self) -> io::Result<bool>;

    /// Gives them up. What is in them stays.
    fn release(&self);
}

/// Memory of one journal. Dropped, it stays as it is.
pub trait JournalMemory: Send + std::fmt::Debug {
    /// Writes words one after the other: whoever finds one finds those before it, and those of
    /// calls before this.
    fn store(&mut self, at: usize, words: &[u64]);

    /// Has so many words from now on, the new ones zeros.
    ///
    /// # Errors
    /// There is no memory left.
    fn grow(&mut self, words: usize) -> io::Result<()>;

    /// It is not needed any more.
    fn discard(self: Box<Self>);
}

/// Which journals a pool has.
#[derive(Clone)]
pub(crate) struct Source {
    pub journals: Arc<dyn PoolJournals>,
    /// Counts up each time the pool is opened: journals of another session are no one's.
    pub session: u64,
}

/// One row of the map in the journal.
#[derive(Debug)]
struct Line {
    place: usize,
    /// Changed since the last commit was asked for.
    dirty: bool,
    /// Commits under way that say it.
    commits: u32,
}

/// The journal of a volume: each row that is not durable as it is, as it is.
pub(crate) struct Journal {
    source: Source,
    volume: u64,
    memory: Option<Box<dyn JournalMemory>>,
    /// Lines that there is memory for.
    lines: usize,
    free: Vec<usize>,
    rows: BTreeMap<RowKey, Line>,
    /// Rows of each commit under way.
    said: VecDeque<Vec<RowKey>>,
    /// Of two lines for one row the later counts.
    order: u64,
    /// The log was told that there is no memory.
    complained: bool,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the journal of volume {} with {} rows", self.volume, self.rows.len())
    }
}

/// Whether `before` can become `after` word by word, each step being one or the other: the bitmap
/// is only looked at in a part.
fn is_gradual(before: &Entry, after: &Entry) -> bool {
    match (before, after) {
        (Entry::Part { slot: a, rest: r, .. }, Entry::Part { slot: b, rest: s, .. }) => {
            a == b && r == s
        }
        _ => true,
    }
}

impl Journal {
    pub(crate) fn new(source: Source, volume: u64) -> Journal {
        Journal {
            source,
            volume,
            memory: None,
            lines: 0,
            free: Vec::new(),
            rows: BTreeMap::new(),
            said: VecDeque::new(),
            order: 0,
            complained: false,
        }
    }

    /// Extent `at` of a row of the map was `before`, and `row` is how the row is now; `parent` is
    /// the parent of its node. False if there is no memory to say so: then only a commit keeps it.
    pub(crate) fn note(
        &mut self,
        key: RowKey,
        parent: Option<u64>,
        (at, before): (usize, &Entry),
        row: &Row,
    ) -> bool {
        let now = row.get(at);
        match self.rows.get_mut(&key) {
            Some(line) if is_gradual(before, &now) => {
                line.dirty = true;
                let place = line.place;
                self.write_entry(place, at, &now);
            }
            Some(line) => {
                line.dirty = true;
                let old = line.place;
                // One is kept free for this.
                line.place = self.free.pop().expect("one place is always free");
                let place = line.place;
                self.write_line(place, key, parent, row);
                self.erase(old);
            }
            None => {
                if !self.has_room() {
                    return false;
                }
                let place = self.free.pop().expect("just looked at");
                self.write_line(place, key, parent, row);
                self.rows.insert(key, Line { place, dirty: true, commits: 0 });
            }
        }
        true
    }

    /// A commit says these rows of `node`, as they are now.
    pub(crate) fn say(&mut self, node: u64, chunks: impl Iterator<Item = u32>) {
        let mut said = Vec::new();
        for key in chunks.map(|chunk| (node, chunk)) {
            if let Some(line) = self.rows.get_mut(&key) {
                line.dirty = false;
                line.commits += 1;
                said.push(key);
            }
        }
        self.said.push_back(said);
    }

    /// The oldest commit is durable, or has failed: then what it said is still needed.
    pub(crate) fn committed(&mut self, ok: bool) {
        let said = self.said.pop_front().expect("one for each commit");
        if !ok {
            return;
        }
        for key in said {
            let line = self.rows.get_mut(&key).expect("it stays while a commit says it");
            line.commits -= 1;
            if line.commits == 0 && !line.dirty {
                let place = line.place;
                self.rows.remove(&key);
                self.erase(place);
            }
        }
        if self.rows.is_empty() && self.lines > FIRST_LINES {
            self.discard();
        }
    }

    /// Whether it is time for a commit, so that it does not fill.
    pub(crate) fn is_filling(&self) -> bool {
        self.rows.len() > MOST_LINES / 4
    }

    /// Gives the memory back, with what it says.
    pub(crate) fn discard(&mut self) {
        if let Some(memory) = self.memory.take() {
            memory.discard();
        }
        (self.lines, self.order) = (0, 0);
        self.free.clear();
        self.rows.clear();
        self.said.iter_mut().for_each(Vec::clear);
    }

    /// Whether a row more fits, beside the place that stays free.
    fn has_room(&mut self) -> bool {
        if self.free.len() > 1 {
            return true;
        }
        let lines = match self.lines {
            0 => FIRST_LINES,
            lines => (2 * lines).min(lines + LINES_AT_ONCE),
        };
        if lines > MOST_LINES {
            return false;
        }
        match self.grow(lines) {
            Ok(()) => self.complained = false,
            Err(error) if self.complained => drop(error),
            Err(error) => {
                self.complained = true;
                let volume = self.volume;
                tracing::warn!(
                    volume,
                    %error,
                    "no memory for a volume's journal: first writes wait until they are committed"
                );
            }
        }
        self.free.len() > 1
    }

    fn grow(&mut self, lines: usize) -> io::Result<()> {
        let words = HEAD_WORDS + lines * LINE_WORDS;
        match &mut self.memory {
            Some(memory) => memory.grow(words)?,
            None => {
                let Source { journals, session } = &self.source;
                let mut memory = journals.make(self.volume, words)?;
                memory.store(1, &[*session, self.volume]);
                memory.store(0, &[MAGIC]);
                self.memory = Some(memory);
            }
        }
        self.free.extend((self.lines..lines).rev());
        self.lines = lines;
        Ok(())
    }

    fn memory(&mut self) -> &mut dyn JournalMemory {
        &mut **self.memory.as_mut().expect("a line is in it")
    }

    fn write_entry(&mut self, place: usize, at: usize, entry: &Entry) {
        let words = entry.words();
        let first = line_at(place) + LINE_HEAD_WORDS + at * ENTRY_WORDS;
        if matches!(entry, Entry::Part { .. }) {
            self.memory().store(first + 1, &words[1..]);
        }
        self.memory().store(first, &words[..1]);
    }

    /// Writes all of a line; it counts when its order is there.
    fn write_line(&mut self, place: usize, key: RowKey, parent: Option<u64>, row: &Row) {
        let mut words = [0; LINE_WORDS];
        let (head, entries) = words.split_at_mut(LINE_HEAD_WORDS);
        head[1..4].copy_from_slice(&[key.0, parent.map_or(0, |parent| parent + 1), key.1.into()]);
        for (words, entry) in entries.chunks_mut(ENTRY_WORDS).zip(row.entries()) {
            words.copy_from_slice(&entry.words());
        }
        self.order += 1;
        let order = self.order;
        let first = line_at(place);
        self.memory().store(first + 1, &words[1..]);
        self.memory().store(first, &[order]);
    }

    fn erase(&mut self, place: usize) {
        self.memory().store(line_at(place), &[0]);
        self.free.push(place);
    }
}

fn line_at(place: usize) -> usize {
    HEAD_WORDS + place * LINE_WORDS
}
