//! What volumes and snapshots may hold, now and after a power cut at any time.

use crate::disk::SECTOR;
use std::collections::BTreeMap;

/// When something was asked for, and when its end was told. Time is counted in ticks: everything
/// that happens to a device or is told to the host has one of its own.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub asked: u64,
    /// `u64::MAX` while it is under way.
    pub ended: u64,
}

impl Span {
    pub const ALWAYS: Span = Span { asked: 0, ended: 0 };

    pub fn from(asked: u64) -> Span {
        Span { asked, ended: u64::MAX }
    }

    /// Whether it has certainly happened at `tick`, or may have.
    pub fn at(&self, tick: u64) -> (bool, bool) {
        (self.ended <= tick, self.asked <= tick)
    }
}

/// What somebody did to a sector.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    pub value: u64,
    pub span: Span,
    /// Durable when it ended, flush or not.
    pub durable: bool,
    /// It failed: it may have happened or not.
    pub maybe: bool,
    /// The operation.
    pub by: u64,
}

/// One sector: changes in the order of their asking, which do not overlap.
#[derive(Clone, Debug, Default)]
pub struct Sector(pub Vec<Change>);

impl Sector {
    /// What it may hold at `tick`, if everything flushed by an operation asked for at `flushed` is
    /// durable.
    pub fn may_hold(&self, value: u64, tick: u64, flushed: u64) -> bool {
        for change in self.0.iter().rev().filter(|change| change.span.asked <= tick) {
            if change.value == value {
                return true;
            }
            let ended = change.span.ended;
            let durable = (change.durable && ended <= tick) || ended < flushed;
            if durable && !change.maybe {
                return false;
            }
        }
        value == 0
    }

    /// What a read between two times may see.
    pub fn may_show(&self, value: u64, read: Span) -> bool {
        for change in self.0.iter().rev().filter(|change| change.span.asked <= read.ended) {
            if change.value == value {
                return true;
            }
            if change.span.ended < read.asked && !change.maybe {
                return false;
            }
        }
        value == 0
    }
}

/// A size that a volume had.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub bytes: u64,
    pub span: Span,
}

/// A volume.
#[derive(Clone, Debug)]
pub struct Volume {
    /// Known by this; its name changes.
    pub uuid: u128,
    pub name: String,
    pub block_bytes: u32,
    pub made: Span,
    pub deleted: Option<Span>,
    pub sizes: Vec<Size>,
    /// By number: those that are ever looked at.
    pub sectors: BTreeMap<u64, Sector>,
    pub flushes: Vec<Span>,
}

impl Volume {
    pub fn bytes(&self) -> u64 {
        self.sizes.last().expect("it has one").bytes
    }

    /// When the last flush that has ended by `tick` was asked for.
    pub fn flushed(&self, tick: u64) -> u64 {
        let ended = self.flushes.iter().filter(|flush| flush.ended <= tick);
        ended.map(|flush| flush.asked).max().unwrap_or(0)
    }

    /// Whether it may have `bytes` bytes at `tick`.
    pub fn may_have(&self, bytes: u64, tick: u64) -> bool {
        for size in self.sizes.iter().rev() {
            let (certainly, maybe) = size.span.at(tick);
            if maybe && size.bytes == bytes {
                return true;
            }
            if certainly {
                return false;
            }
        }
        false
    }

    /// The sectors that are looked at within `sectors`.
    pub fn within(
        &mut self,
        sectors: std::ops::Range<u64>,
    ) -> impl Iterator<Item = (u64, &mut Sector)> {
        self.sectors.range_mut(sectors).map(|(number, sector)| (*number, sector))
    }

    pub fn end_sector(&self) -> u64 {
        self.bytes() / SECTOR as u64
    }
}

/// A snapshot: it holds the same for ever.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Known by this: no two have the same.
    pub name: String,
    /// The volume that it belongs to, by UUID.
    pub owner: u128,
    pub bytes: u64,
    pub made: Span,
    pub deleted: Option<Span>,
    pub holds: BTreeMap<u64, u64>,
}
