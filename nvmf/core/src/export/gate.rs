//! What makes a fused Compare and Write atomic against every write to its blocks, on every
//! reactor.
//!
//! Writers announce themselves in a counter of their own reactor and look at one word; as long as
//! no fused pair is active that is all they do. A pair publishes its range and starts a new epoch;
//! the epoch's parity selects which of two counters a writer uses, so the pair can wait for the
//! writes that started before it, while later writes, which see its range, go on elsewhere.
//!
//! Why no write slips through. A writer raises the counter of epoch `e`, then reads the word; a
//! pair stores the word of epoch `e + 1`, then reads the counters of `e`. All four accesses are in
//! one total order (store buffering), so either the writer sees the new epoch and starts over, or
//! the pair sees the writer and waits. One pair at a time waits, so that when epoch `e + 1` starts,
//! no write of epoch `e - 1`, whose counters it takes over, is left. Checked with loom.

#[cfg(feature = "loom")]
use loom::sync::{
    Mutex,
    atomic::{AtomicU32, AtomicU64, Ordering, fence},
};
#[cfg(not(feature = "loom"))]
use std::sync::{
    Mutex,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

/// Fused pairs active at once in one namespace; more wait for their turn. They lie in a list that
/// is searched, so few.
const PAIRS: usize = 16;

/// The gate of one namespace.
pub(crate) struct Gate {
    /// Epoch in bits 63:8, pairs active in bits 7:0. Written under the lock of `table` only.
    word: AtomicU64,
    lanes: Box<[Lane]>,
    table: Mutex<Table>,
}

/// Writes under way on one reactor, by parity of the epoch they started in.
#[repr(align(128))]
struct Lane {
    writes: [AtomicU32; 2],
}

#[derive(Default)]
struct Table {
    ranges: Vec<Range>,
    next_id: u64,
    /// A pair waits for the writes before it.
    draining: bool,
}

struct Range {
    id: u64,
    first: u64,
    end: u64,
}

/// A write's permission: given back with [`Gate::leave`].
#[must_use = "a pass is given back"]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pass {
    parity: u8,
}

/// A fused pair's hold on its range: given back with [`Gate::unlock`].
#[must_use = "a lock is given back"]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lock {
    id: u64,
    parity: u8,
    drained: bool,
}

/// Raises a writer's counter, ordered before every later load: one locked instruction where a
/// store and a fence would be two.
fn raise(counter: &AtomicU32) {
    counter.fetch_add(1, Ordering::SeqCst);
    // loom takes SeqCst accesses for acquire and release; there, the fence says what is meant.
    #[cfg(feature = "loom")]
    fence(Ordering::SeqCst);
}

/// Lowers a counter that only this thread writes.
fn lower(counter: &AtomicU32) {
    counter.store(counter.load(Ordering::Relaxed) - 1, Ordering::Release);
}

impl Gate {
    /// A gate for writers on `reactors` reactors.
    pub(crate) fn new(reactors: usize) -> Gate {
        Gate {
            word: AtomicU64::new(0),
            lanes: (0..reactors)
                .map(|_| Lane { writes: [AtomicU32::new(0), AtomicU32::new(0)] })
                .collect(),
            table: Mutex::new(Table { ranges: Vec::with_capacity(PAIRS), ..Table::default() }),
        }
    }

    /// Lets a write of `blocks` blocks at `lba` on `reactor` through, or `None` when a fused pair
    /// holds one of them: then it tries again later.
    #[inline]
    pub(crate) fn enter(&self, reactor: usize, lba: u64, blocks: u64) -> Option<Pass> {
        self.enter_all(reactor, || std::iter::once((lba, blocks)))
    }

    /// As [`Gate::enter`], for several writes at once: their blocks as (LBA, number).
    #[inline]
    pub(crate) fn enter_all<W: Iterator<Item = (u64, u64)>>(
        &self,
        reactor: usize,
        writes: impl Fn() -> W,
    ) -> Option<Pass> {
        let lane = &self.lanes[reactor];
        loop {
            let word = self.word.load(Ordering::Relaxed);
            let parity = (word >> 8 & 1) as u8;
            let counter = &lane.writes[usize::from(parity)];
            raise(counter);
            if self.word.load(Ordering::SeqCst) != word {
                lower(counter);
                continue;
            }
            if word & 0xff == 0 || !self.is_any_held(writes()) {
                return Some(Pass { parity });
            }
            lower(counter);
            return None;
        }
    }

    #[cold]
    fn is_any_held(&self, mut writes: impl Iterator<Item = (u64, u64)>) -> bool {
        let table = self.table.lock().expect("no panic under this lock");
        writes.any(|(lba, blocks)| table.overlaps(lba, lba + blocks))
    }

    /// A write that was let through on `reactor` has ended.
    #[inline]
    pub(crate) fn leave(&self, reactor: usize, pass: Pass) {
        lower(&self.lanes[reactor].writes[usize::from(pass.parity)]);
    }

    /// Takes hold of a range for a fused pair, or `None` when another pair is in the way: then it
    /// tries again later. The range is the pair's own once [`Gate::is_drained`] says so.
    pub(crate) fn lock(&self, lba: u64, blocks: u64) -> Option<Lock> {
        let mut table = self.table.lock().expect("no panic under this lock");
        let end = lba + blocks;
        if table.draining || table.ranges.len() == PAIRS || table.overlaps(lba, end) {
            return None;
        }
        let id = table.next_id;
        table.next_id += 1;
        table.draining = true;
        table.ranges.push(Range { id, first: lba, end });
        let word = self.word.load(Ordering::Relaxed);
        self.word.store(word + (1 << 8) + 1, Ordering::SeqCst);
        #[cfg(feature = "loom")]
        fence(Ordering::SeqCst);
        Some(Lock { id, parity: (word >> 8 & 1) as u8, drained: false })
    }

    /// Whether every write that started before `lock` was taken has ended.
    pub(crate) fn is_drained(&self, lock: &mut Lock) -> bool {
        if !lock.drained {
            let parity = usize::from(lock.parity);
            // Acquire, within SeqCst: what those writes did is seen by what the pair does.
            lock.drained =
                self.lanes.iter().all(|lane| lane.writes[parity].load(Ordering::SeqCst) == 0);
            if lock.drained {
                self.table.lock().expect("no panic under this lock").draining = false;
            }
        }
        lock.drained
    }

    /// Gives a range back, used or not.
    pub(crate) fn unlock(&self, lock: Lock) {
        let mut table = self.table.lock().expect("no panic under this lock");
        assert!(lock.drained, "a pair waits for the writes before it, then ends");
        table.ranges.retain(|range| range.id != lock.id);
        let word = self.word.load(Ordering::Relaxed);
        self.word.store(word - 1, Ordering::SeqCst);
    }
}

impl Table {
    fn overlaps(&self, first: u64, end: u64) -> bool {
        self.ranges.iter().any(|range| first < range.end && range.first < end)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn a_held_range_stops_only_the_writes_that_touch_it() {
        let gate = Gate::new(2);
        let mut lock = gate.lock(10, 4).unwrap();
        assert!(gate.is_drained(&mut lock));
        assert_eq!(gate.enter(0, 13, 1), None);
        assert_eq!(gate.enter(1, 0, 11), None);
        let pass = gate.enter(0, 14, 1).unwrap();
        let other = gate.enter(1, 9, 1).unwrap();
        gate.unlock(lock);
        let third = gate.enter(0, 13, 1).unwrap();
        gate.leave(0, pass);
        gate.leave(1, other);
        gate.leave(0, third);
    }

    #[test]
    fn a_pair_waits_for_the_writes_before_it_and_no_others() {
        let gate = Gate::new(2);
        let before = gate.enter(1, 100, 1).unwrap();
        let mut lock = gate.lock(10, 4).unwrap();
        assert!(!gate.is_drained(&mut lock));
        let after = gate.enter(0, 20, 1).unwrap();
        // Another pair, even elsewhere, waits until the first has drained.
        assert_eq!(gate.lock(50, 1), None);
        gate.leave(1, before);
        assert!(gate.is_drained(&mut lock));
        let mut second = gate.lock(50, 1).unwrap();
        assert!(!gate.is_drained(&mut second), "a write of the first pair's epoch is under way");
        gate.leave(0, after);
        assert!(gate.is_drained(&mut second));
        assert_eq!(gate.lock(12, 1), None, "overlaps the first pair");
        gate.unlock(lock);
        gate.unlock(second);
        assert!(gate.lanes.iter().all(|l| l.writes.iter().all(|w| w.load(Ordering::SeqCst) == 0)));
    }

    #[test]
    fn pairs_beyond_the_table_wait() {
        let gate = Gate::new(1);
        let mut locks: Vec<Lock> = (0..PAIRS as u64)
            .map(|at| {
                let mut lock = gate.lock(at, 1).unwrap();
                assert!(gate.is_drained(&mut lock));
                lock
            })
            .collect();
        assert_eq!(gate.lock(99, 1), None);
        gate.unlock(locks.pop().unwrap());
        assert!(gate.lock(99, 1).is_some());
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    /// The block that everyone wants. Its accesses are relaxed: they order nothing, so that two
    /// users at once, or one that does not see what the other did, lose a step.
    #[derive(Default)]
    struct Block {
        users: AtomicU32,
        value: AtomicU32,
        /// Not a part of the model: what a thread has seen.
        clash: std::sync::atomic::AtomicBool,
    }

    impl Block {
        fn write(&self) {
            if self.users.fetch_add(1, Ordering::Relaxed) != 0 {
                self.clash.store(true, std::sync::atomic::Ordering::Relaxed);
            }
            self.value.store(self.value.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            self.users.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn write(gate: &Gate, reactor: usize, block: &Block) {
        let pass = loop {
            match gate.enter(reactor, 5, 1) {
                Some(pass) => break pass,
                None => loom::thread::yield_now(),
            }
        };
        block.write();
        gate.leave(reactor, pass);
    }

    fn fused(gate: &Gate, block: &Block, planted_bug: bool) {
        let mut lock = loop {
            match gate.lock(5, 1) {
                Some(lock) => break lock,
                None => loom::thread::yield_now(),
            }
        };
        if planted_bug {
            lock.drained = true;
        }
        while !gate.is_drained(&mut lock) {
            loom::thread::yield_now();
        }
        block.write();
        gate.unlock(lock);
    }

    /// Every interleaving, or those with at most `bound` preemptions.
    fn writer_against_pairs(pairs: u32, bound: Option<usize>, planted_bug: bool) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = bound;
        model.check(move || {
            let gate = Arc::new(Gate::new(1));
            let block = Arc::new(Block::default());
            let writer = {
                let (gate, block) = (gate.clone(), block.clone());
                loom::thread::spawn(move || write(&gate, 0, &block))
            };
            for _ in 0..pairs {
                fused(&gate, &block, planted_bug);
            }
            writer.join().unwrap();
            let clash = block.clash.load(std::sync::atomic::Ordering::Relaxed);
            assert!(!clash, "two at the block at once");
            assert_eq!(block.value.load(Ordering::Relaxed), pairs + 1, "a step is lost");
        });
    }

    #[test]
    fn gate_keeps_a_write_and_a_pair_apart() {
        writer_against_pairs(1, None, false);
    }

    #[test]
    fn gate_keeps_a_write_and_two_pairs_apart() {
        writer_against_pairs(2, Some(3), false);
    }

    #[test]
    #[should_panic(expected = "a step is lost")]
    fn gate_checker_catches_a_pair_that_does_not_wait() {
        writer_against_pairs(1, None, true);
    }
}
