//! How many connections there may be, and how many there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The connections of the process: how many there may be, are, and were turned away.
#[derive(Debug)]
pub struct ConnectionLimit {
    limit: u32,
    open: AtomicU32,
    refused: AtomicU64,
}

impl ConnectionLimit {
    /// At most `limit` connections at a time.
    pub fn new(limit: u32) -> Arc<ConnectionLimit> {
        Arc::new(ConnectionLimit { limit, open: AtomicU32::new(0), refused: AtomicU64::new(0) })
    }

    /// A place for one more connection, or a refusal, which is counted.
    pub fn admit(self: &Arc<Self>) -> Option<Admission> {
        let more = |open: u32| (open < self.limit).then_some(open + 1);
        match self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Some(Admission { limit: self.clone(), load: None }),
            Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }

    /// Connections that there may be.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Connections open now.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a connection that is turned away for another reason than the limit.
    pub(crate) fn turn_away(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections turned away so far.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// One connection's place below a [`ConnectionLimit`], given back when dropped.
#[derive(Debug)]
pub struct Admission {
    limit: Arc<ConnectionLimit>,
    load: Option<Arc<AtomicU32>>,
}

impl Admission {
    /// Counts the connection in `load`, too, as long as it is open.
    pub(crate) fn count_in(&mut self, load: &Arc<AtomicU32>) {
        load.fetch_add(1, Ordering::Relaxed);
        self.load = Some(load.clone());
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.limit.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(load) = &self.load {
            load.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
