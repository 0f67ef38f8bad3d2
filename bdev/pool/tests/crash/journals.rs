//! Journals that are on the tape of everything, or were left by a process that was killed.

use crate::disk::{Action, Entry, Rack};
use bdev_pool::{Identities, JournalMemory, Journals, PoolJournals};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use uuid::Uuid;

/// The journals that were left, all of them.
pub const LEFT: u64 = u64::MAX;

#[derive(Clone, Default)]
pub struct TapeJournals {
    rack: Arc<Mutex<Rack>>,
    left: Arc<Mutex<Vec<Vec<u64>>>>,
    /// There is no memory now.
    pub is_full: Arc<AtomicBool>,
    lost: Arc<AtomicBool>,
}

impl TapeJournals {
    pub fn new(rack: Arc<Mutex<Rack>>, left: Vec<Vec<u64>>) -> TapeJournals {
        let left = Arc::new(Mutex::new(left));
        TapeJournals { rack, left, ..TapeJournals::default() }
    }
}

impl Journals for TapeJournals {
    fn claim(&self, _pool: Uuid) -> io::Result<Option<Arc<dyn PoolJournals>>> {
        Ok(Some(Arc::new(self.clone())))
    }
}

impl PoolJournals for TapeJournals {
    fn make(&self, volume: u64, words: usize) -> io::Result<Box<dyn JournalMemory>> {
        let (rack, is_full) = (self.rack.clone(), self.is_full.clone());
        let mut memory = TapeMemory { rack, is_full, volume };
        memory.grow(words)?;
        Ok(Box::new(memory))
    }

    fn left(&self) -> io::Result<Vec<Vec<u64>>> {
        Ok(self.left.lock().unwrap().clone())
    }

    fn discard(&self) -> io::Result<()> {
        self.rack.lock().unwrap().act(0, Action::Journal(LEFT, Entry::Discarded));
        self.left.lock().unwrap().clear();
        Ok(())
    }

    fn devices(&self) -> io::Result<Option<Identities>> {
        Ok(None)
    }

    fn set_devices(&self, _devices: &Identities) -> io::Result<()> {
        Ok(())
    }

    fn set_lost(&self, lost: bool) -> io::Result<()> {
        self.lost.store(lost, Ordering::Relaxed);
        Ok(())
    }

    fn lost(&self) -> io::Result<bool> {
        Ok(self.lost.load(Ordering::Relaxed))
    }

    fn release(&self) {}
}

struct TapeMemory {
    rack: Arc<Mutex<Rack>>,
    is_full: Arc<AtomicBool>,
    volume: u64,
}

impl std::fmt::Debug for TapeMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the journal of volume {}", self.volume)
    }
}

impl TapeMemory {
    fn act(&self, entry: Entry) {
        self.rack.lock().unwrap().act(0, Action::Journal(self.volume, entry));
    }
}

impl JournalMemory for TapeMemory {
    fn store(&mut self, at: usize, words: &[u64]) {
        self.act(Entry::Stored(at, words.to_vec()));
    }

    fn grow(&mut self, words: usize) -> io::Result<()> {
        if self.is_full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.act(Entry::Sized(words));
        Ok(())
    }

    fn discard(self: Box<Self>) {
        self.act(Entry::Discarded);
    }
}
