//! Slots that wait with volumes to be written to. The keeper counts those that it hands out, volumes
//! those that they take from their stock: two counters that only grow, each with writers of one kind,
//! so that the difference can be read at any time.

use crate::devices::DEVICES;
use crate::entry::Slot;
use std::sync::atomic::{AtomicU64, Ordering};

/// By device: slots that volumes have taken from their stock.
#[derive(Debug)]
pub(crate) struct Stock([AtomicU64; DEVICES as usize]);

impl Default for Stock {
    fn default() -> Stock {
        Stock(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Stock {
    /// A volume uses a slot of its stock: once for each extent that is written to for the first time.
    pub(crate) fn used(&self, slot: Slot) {
        if let Some(count) = self.0.get(usize::from(slot.device)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Slots of a device in stock, of those that were granted.
    pub(crate) fn of(&self, device: u16, granted: u64) -> u64 {
        let used = self.0.get(usize::from(device)).map_or(0, |used| used.load(Ordering::Relaxed));
        granted.saturating_sub(used)
    }
}
