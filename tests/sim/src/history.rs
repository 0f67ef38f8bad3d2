//! What each block may hold, from what hosts were told.
//!
//! Every write to a block is a candidate for its content. A candidate leaves when something else
//! is known to have come after it:
//! - a write was acknowledged that began after the candidate's write had ended;
//! - a read returned something else, and the candidate's write had ended before the read began.
//!
//! It is then gone for every read that begins later, though not for the time after a power cut:
//! it leaves for good only when what came after it is durable, which a Flush says that begins
//! later, or FUA. A write without a good end (an error, a lost connection) is a candidate that
//! acknowledges nothing.

use crate::block::{Value, ZEROS};
use crate::{Failure, Kind};
use std::collections::BTreeMap;

/// A point in the order of all events of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

const NEVER: Moment = Moment(u64::MAX);

/// A write to one block.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    write: u64,
    value: Value,
    began: Moment,
    /// After this it changes nothing any more.
    ended: Moment,
    /// Reads that begin after this do not return it.
    gone: Moment,
    /// Not even a power cut brings it back.
    gone_for_good: bool,
    /// When the power went last, it was there or not, and that has not changed since.
    on_medium: bool,
    /// It was gone for good when the power went.
    gone_before_cut: bool,
}

/// A write that a host was told the end of, or not yet.
struct Write {
    lba: u64,
    blocks: u32,
    durable: bool,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteEnd {
    /// With success.
    Acknowledged,
    /// It may have happened or not, and will not happen later.
    Unknown,
}

/// The history of a drive as its hosts know it.
pub struct History {
    blocks: Vec<Vec<Candidate>>,
    writes: BTreeMap<u64, Write>,
    /// Value that a Compare and Write found: by whom.
    swapped: BTreeMap<(u64, Value), u64>,
    now: u64,
    next_write: u64,
}

impl History {
    /// All zeros.
    pub fn new(blocks: u64) -> History {
        let zeros = Candidate {
            write: 0,
            value: ZEROS,
            began: Moment(0),
            ended: Moment(0),
            gone: NEVER,
            gone_for_good: false,
            on_medium: true,
            gone_before_cut: false,
        };
        History {
            blocks: (0..blocks).map(|_| vec![zeros]).collect(),
            writes: BTreeMap::new(),
            swapped: BTreeMap::new(),
            now: 1,
            next_write: 1,
        }
    }

    /// Now; the next call is later.
    pub fn moment(&mut self) -> Moment {
        self.now += 1;
        Moment(self.now)
    }

    /// A host writes; `zeros` if it writes zeros. Returns the write's number, which is also the
    /// value to write.
    pub fn begin_write(&mut self, lba: u64, blocks: u32, zeros: bool, durable: bool) -> u64 {
        let write = self.next_write;
        self.next_write += 1;
        let began = self.moment();
        let value = if zeros { ZEROS } else { Value(write) };
        for block in self.range(lba, blocks) {
            block.push(Candidate {
                write,
                value,
                began,
                ended: NEVER,
                gone: NEVER,
                gone_for_good: false,
                on_medium: false,
                gone_before_cut: false,
            });
        }
        self.writes.insert(write, Write { lba, blocks, durable });
        write
    }

    fn range(&mut self, lba: u64, blocks: u32) -> &mut [Vec<Candidate>] {
        &mut self.blocks[lba as usize..lba as usize + blocks as usize]
    }

    /// A host learns how its write ended.
    pub fn end_write(&mut self, write: u64, end: WriteEnd) {
        let now = self.moment();
        let Write { lba, blocks, durable } = self.writes.remove(&write).expect("ends once");
        for block in self.range(lba, blocks) {
            let own = block.iter().position(|c| c.write == write);
            let own = own.expect("a write that has not ended is a candidate");
            block[own].ended = block[own].ended.min(now);
            if end == WriteEnd::Unknown {
                continue;
            }
            let began = block[own].began;
            for before in block.iter_mut().filter(|c| c.ended < began) {
                before.gone = before.gone.min(now);
                before.gone_for_good |= durable;
            }
        }
    }

    /// A host learns that a Flush that began at `began` succeeded.
    pub fn end_flush(&mut self, began: Moment) {
        for candidate in self.blocks.iter_mut().flatten() {
            candidate.gone_for_good |= candidate.gone < began;
        }
    }

    /// A host read `value` from `lba`, beginning at `began`.
    ///
    /// # Errors
    /// The block cannot hold that.
    pub fn read(&mut self, lba: u64, value: Value, began: Moment) -> Result<(), Failure> {
        let now = self.moment();
        let block = &mut self.blocks[lba as usize];
        let of_value = || block.iter().filter(|c| c.value == value);
        let possible = || of_value().filter(|c| c.gone >= began);
        if of_value().next().is_none() {
            let what = format!("block {lba} returned {value:?}, which was never written there");
            return Err(Failure::new(Kind::Garbage, what));
        }
        if possible().next().is_none() {
            let durable = of_value().all(|c| c.gone_before_cut);
            let kind = if durable { Kind::NotDurable } else { Kind::Stale };
            let what = format!("block {lba} returned {value:?}, though something later was known");
            return Err(Failure::new(kind, what));
        }
        let on_medium = possible().all(|c| c.on_medium);
        for other in block.iter_mut().filter(|c| c.value != value && c.ended < began) {
            other.gone = other.gone.min(now);
            // Both were settled when the power went: this one was not there.
            other.gone_for_good |= on_medium && other.on_medium;
        }
        Ok(())
    }

    /// A Compare of one block with `value`, beginning at `began`, found something else.
    ///
    /// # Errors
    /// The block can hold nothing else.
    pub fn differs(&mut self, lba: u64, value: Value, began: Moment) -> Result<(), Failure> {
        let mut possible = self.blocks[lba as usize].iter().filter(|c| c.gone >= began);
        if possible.any(|c| c.value != value) {
            return Ok(());
        }
        let what = format!("a compare of block {lba} with {value:?} failed, but it holds that");
        Err(Failure::new(Kind::Stale, what))
    }

    /// A fused Compare and Write, the write of which is number `write`, found `value` in `lba`.
    ///
    /// # Errors
    /// Another one found it, too, and both wrote.
    pub fn swapped(&mut self, lba: u64, value: Value, write: u64) -> Result<(), Failure> {
        // Zeros come back; every other value is written once.
        if value == ZEROS {
            return Ok(());
        }
        match self.swapped.insert((lba, value), write) {
            None => Ok(()),
            Some(other) => {
                let what = format!("writes {other} and {write} both replaced {value:?} at {lba}");
                Err(Failure::new(Kind::NotAtomic, what))
            }
        }
    }

    /// The target was killed: whatever had not ended has ended now, or never happens.
    pub fn target_died(&mut self) {
        let now = self.moment();
        for candidate in self.blocks.iter_mut().flatten() {
            candidate.ended = candidate.ended.min(now);
        }
    }

    /// The power went: each block holds one of the candidates that are not gone for good.
    pub fn power_cut(&mut self) {
        self.target_died();
        // What replaced a value may be lost, and the value be found again.
        self.swapped.clear();
        for candidate in self.blocks.iter_mut().flatten() {
            candidate.on_medium = true;
            if candidate.gone_for_good {
                candidate.gone_before_cut = true;
            } else {
                candidate.gone = NEVER;
            }
        }
    }

    /// A value that the block may hold, for a Compare that has a chance: the latest one that is
    /// not under way.
    pub fn likely(&self, lba: u64) -> Value {
        let mut settled = self.blocks[lba as usize].iter().rev().filter(|c| c.ended != NEVER);
        settled.find(|c| c.gone == NEVER).map_or(ZEROS, |c| c.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(result: Result<(), Failure>) -> Option<Kind> {
        result.err().map(|failure| failure.kind)
    }

    fn written(history: &mut History, durable: bool) -> Value {
        let write = history.begin_write(0, 1, false, durable);
        history.end_write(write, WriteEnd::Acknowledged);
        Value(write)
    }

    fn reads(history: &mut History, value: Value) -> Option<Kind> {
        let began = history.moment();
        kind(history.read(0, value, began))
    }

    #[test]
    fn an_acknowledged_write_replaces_what_was_before() {
        let mut history = History::new(1);
        let a = written(&mut history, false);
        assert_eq!(reads(&mut history, ZEROS), Some(Kind::Stale));
        assert_eq!(reads(&mut history, a), None);
        assert_eq!(reads(&mut history, Value(99)), Some(Kind::Garbage));
    }

    #[test]
    fn a_read_during_a_write_may_return_either_but_not_go_back() {
        let mut history = History::new(1);
        let a = written(&mut history, false);
        let early = history.moment();
        let b = history.begin_write(0, 1, false, false);
        assert_eq!(reads(&mut history, a), None);
        assert_eq!(reads(&mut history, Value(b)), None);
        assert_eq!(reads(&mut history, a), Some(Kind::Stale), "it was seen to be replaced");
        assert_eq!(kind(history.read(0, a, early)), None, "a read that began before may");
    }

    #[test]
    fn a_write_of_unknown_end_may_be_there_or_not_but_does_not_change_its_mind() {
        let mut history = History::new(1);
        let a = written(&mut history, false);
        let b = history.begin_write(0, 1, false, false);
        history.end_write(b, WriteEnd::Unknown);
        assert_eq!(reads(&mut history, a), None);
        assert_eq!(reads(&mut history, Value(b)), Some(Kind::Stale));
        assert_eq!(reads(&mut history, a), None);
    }

    #[test]
    fn a_power_cut_takes_back_what_was_not_flushed_and_nothing_else() {
        for durable in ["no", "flush", "fua"] {
            let mut history = History::new(1);
            let a = written(&mut history, durable == "fua");
            if durable == "flush" {
                let began = history.moment();
                history.end_flush(began);
            }
            let b = written(&mut history, false);
            history.power_cut();
            let zeros = reads(&mut history, ZEROS);
            assert_eq!(zeros, (durable != "no").then_some(Kind::NotDurable), "{durable}");
            if zeros.is_some() {
                assert_eq!(reads(&mut history, a), None, "{durable}");
            }
            assert_eq!(reads(&mut history, b), Some(Kind::Stale), "it was seen to be lost");
        }
    }

    #[test]
    fn a_flush_covers_only_what_had_ended_when_it_began() {
        for second_survives in [false, true] {
            let mut history = History::new(1);
            let a = written(&mut history, false);
            let began = history.moment();
            let b = written(&mut history, false);
            history.end_flush(began);
            history.power_cut();
            assert_eq!(reads(&mut history, if second_survives { b } else { a }), None);
            assert_eq!(reads(&mut history, ZEROS), Some(Kind::NotDurable));
        }
    }

    #[test]
    fn what_a_power_cut_left_stays_through_the_next() {
        let mut history = History::new(1);
        let a = written(&mut history, false);
        history.power_cut();
        assert_eq!(reads(&mut history, ZEROS), None);
        history.power_cut();
        assert!(reads(&mut history, a).is_some());
        assert_eq!(reads(&mut history, ZEROS), None);
    }

    #[test]
    fn two_swaps_of_one_value_are_seen() {
        let mut history = History::new(1);
        let a = written(&mut history, false);
        assert_eq!(kind(history.swapped(0, a, 10)), None);
        assert_eq!(kind(history.swapped(0, a, 11)), Some(Kind::NotAtomic));
    }

    #[test]
    fn a_compare_that_fails_for_no_reason_is_seen() {
        let mut history = History::new(1);
        let a = written(&mut history, false);
        let began = history.moment();
        assert_eq!(kind(history.differs(0, a, began)), Some(Kind::Stale));
        assert_eq!(kind(history.differs(0, ZEROS, began)), None);
    }
}
