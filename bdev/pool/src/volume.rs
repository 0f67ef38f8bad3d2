//! The map of one volume in memory, as its home reactor uses it (`FORMAT.md`). No I/O is done here:
//! it says where blocks are, and is told what has been written.

use crate::behind::Behind;
use crate::entry::{Blocks, EXTENTS_PER_ROW, Entry, Rest, Row, Slot};
use crate::journal::Journal;
use crate::merge::Merge;
use crate::sparse::Sparse;
use crate::store::Update;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows in a leaf of a [`NodeMap`]: 32 GiB of a volume.
pub(crate) const LEAF_ROWS: usize = 512;

pub(crate) type Leaf = [Option<Arc<Row>>; LEAF_ROWS];

/// What one node says: rows by chunk, in a tree of two levels. A copy shares all that neither
/// changes.
#[derive(Clone, Debug, Default)]
pub struct NodeMap {
    leaves: Sparse<Arc<Leaf>>,
    slots: u64,
}

/// The leaf that a row is in, and its place there.
pub(crate) fn leaf_of(chunk: u32) -> (u32, usize) {
    (chunk / LEAF_ROWS as u32, chunk as usize % LEAF_ROWS)
}

impl NodeMap {
    /// The map with these rows, by chunk.
    pub fn new(rows: impl IntoIterator<Item = (u32, Row)>) -> NodeMap {
        let mut map = NodeMap::default();
        for (chunk, row) in rows.into_iter().filter(|(_, row)| !row.is_empty()) {
            map.slots += row.entries().filter(|entry| entry.slot().is_some()).count() as u64;
            *map.row_mut(chunk) = row;
        }
        map
    }

    fn row_at(&self, chunk: u32) -> Option<&Row> {
        let (leaf, at) = leaf_of(chunk);
        self.leaves.get(leaf)?[at].as_deref()
    }

    fn row_mut(&mut self, chunk: u32) -> &mut Row {
        let (leaf, at) = leaf_of(chunk);
        let leaf = self.leaves.get_or_insert_with(leaf, || Arc::new([const { None }; LEAF_ROWS]));
        let row = &mut Arc::make_mut(leaf)[at];
        Arc::make_mut(row.get_or_insert_default())
    }

    /// What it says of `extent`.
    pub fn get(&self, extent: u64) -> Entry {
        let (chunk, at) = place(extent);
        self.row_at(chunk).map_or(Entry::Nothing, |row| row.get(at))
    }

    /// Has it say `entry` of `extent`.
    pub fn set(&mut self, extent: u64, entry: Entry) {
        let (chunk, at) = place(extent);
        let row = self.row_mut(chunk);
        let before = row.get(at).slot().is_some();
        row.set(at, entry);
        self.slots = self.slots + u64::from(entry.slot().is_some()) - u64::from(before);
    }

    /// Its leaves, by number.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = (u32, &Arc<Leaf>)> + '_ {
        self.leaves.from(0)
    }

    /// A leaf of it.
    pub(crate) fn leaf(&self, number: u32) -> Option<&Arc<Leaf>> {
        self.leaves.get(number)
    }

    /// How many slots it names.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// The row that `extent` is in, for the store: its chunk, and what it says.
    pub fn row_of(&self, extent: u64) -> (u32, Row) {
        let (chunk, _) = place(extent);
        (chunk, self.row(chunk))
    }

    /// Takes a row out of it.
    pub fn take_row(&mut self, chunk: u32) -> Row {
        let row = self.row(chunk);
        if !row.is_empty() {
            self.slots -= row.entries().filter(|entry| entry.slot().is_some()).count() as u64;
            *self.row_mut(chunk) = Row::default();
        }
        row
    }

    fn row(&self, chunk: u32) -> Row {
        self.row_at(chunk).cloned().unwrap_or_default()
    }

    /// The chunks of its rows, in their order.
    pub fn chunks(&self) -> impl Iterator<Item = u32> + '_ {
        self.rows().filter(|(_, row)| !row.is_empty()).map(|(chunk, _)| chunk)
    }

    fn rows(&self) -> impl Iterator<Item = (u32, &Row)> + '_ {
        self.rows_from(0)
    }

    fn rows_from(&self, chunk: u32) -> impl Iterator<Item = (u32, &Row)> + '_ {
        let leaves = self.leaves.from(leaf_of(chunk).0);
        let rows = leaves.flat_map(|(at, leaf)| (at * LEAF_ROWS as u32..).zip(leaf.iter()));
        let rows = rows.filter_map(|(at, row)| Some((at, row.as_deref()?)));
        rows.filter(move |(at, _)| *at >= chunk)
    }

    /// What it says, by extent, in their order.
    pub fn entries(&self) -> impl Iterator<Item = (u64, Entry)> + '_ {
        self.entries_from(0)
    }

    /// What it says from `extent` on.
    pub fn entries_from(&self, extent: u64) -> impl Iterator<Item = (u64, Entry)> + '_ {
        let (from, _) = place(extent);
        let rows = self.rows_from(from);
        let entries = rows.flat_map(|(chunk, row)| {
            let first = u64::from(chunk) * EXTENTS_PER_ROW as u64;
            (first..).zip(row.entries())
        });
        entries.filter(move |(at, entry)| *at >= extent && *entry != Entry::Nothing)
    }

    /// The first extent from `extent` on that may say something: what lies between says nothing.
    fn next_from(&self, extent: u64) -> Option<u64> {
        let (chunk, _) = place(extent);
        if self.row_at(chunk).is_some() {
            return Some(extent);
        }
        let next = self.rows_from(chunk + 1).next();
        next.map(|(chunk, _)| u64::from(chunk) * EXTENTS_PER_ROW as u64)
    }
}

/// The row of an extent, and its place in it.
fn place(extent: u64) -> (u32, usize) {
    let chunk = u32::try_from(extent / EXTENTS_PER_ROW as u64).expect("within the largest volume");
    (chunk, (extent % EXTENTS_PER_ROW as u64) as usize)
}

/// Where blocks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: they are zeros.
    Zeros,
    /// At their own place in a slot.
    Slot(Slot),
}

/// Where blocks of an extent may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// In this slot. `present`: all of them are there already, so that nothing has to be said when
    /// they have been written.
    Slot {
        /// The slot.
        slot: Slot,
        /// See above.
        present: bool,
    },
    /// The extent needs a slot first: [`Volume::adopt`].
    NeedsSlot,
}

/// What has changed since the last commit.
#[derive(Debug, Default)]
pub struct Dirty {
    /// Rows, for the store.
    pub updates: Vec<Update>,
    /// Slots that the rows before named and these do not: free when the commit is durable and what
    /// was under way on them has ended.
    pub given_up: Vec<Slot>,
}

/// A volume's live node, and the nodes behind it.
#[derive(Debug)]
pub struct Volume {
    node: u64,
    own: NodeMap,
    behind: Behind,
    dirty: BTreeSet<u32>,
    given_up: Vec<Slot>,
    journal: Option<Journal>,
    /// Slots that its own node names, for others to read.
    shown: Arc<AtomicU64>,
    /// Something changed that only a commit keeps.
    unkept: bool,
}

impl Volume {
    /// The volume whose live node is `node`, with what it says and what the nodes behind it say,
    /// its parent first.
    pub fn new(node: u64, own: NodeMap, chain: Vec<(u64, Arc<NodeMap>)>) -> Volume {
        let (dirty, given_up) = (BTreeSet::new(), Vec::new());
        let behind = Behind::new(chain);
        let shown = Arc::new(AtomicU64::new(own.slots()));
        Volume { node, own, behind, dirty, given_up, journal: None, shown, unkept: false }
    }

    /// The same, with a journal of what it changes.
    pub(crate) fn with_journal(self, journal: Option<Journal>) -> Volume {
        Volume { journal, ..self }
    }

    /// Where others read how many slots its own node names.
    pub(crate) fn shown(&self) -> Arc<AtomicU64> {
        self.shown.clone()
    }

    /// The same, shown in another one's place.
    pub(crate) fn with_shown(self, shown: Arc<AtomicU64>) -> Volume {
        shown.store(self.own.slots(), Ordering::Relaxed);
        Volume { shown, ..self }
    }

    /// Its journal, for what takes its place.
    pub(crate) fn take_journal(&mut self) -> Option<Journal> {
        self.journal.take()
    }

    /// Whether something has changed since this was last asked that is lost with the process until
    /// a commit is durable: whoever is told of it has to wait for that.
    pub fn take_unkept(&mut self) -> bool {
        std::mem::take(&mut self.unkept)
    }

    /// Whether it is time for a commit, so that changes stay kept.
    pub(crate) fn is_filling(&self) -> bool {
        self.journal.as_ref().is_some_and(Journal::is_filling)
    }

    /// The oldest commit has ended, well or not.
    pub(crate) fn committed(&mut self, ok: bool) {
        if let Some(journal) = &mut self.journal {
            journal.committed(ok);
        }
    }

    /// Nothing of it is to be kept any more, or all of it is durable.
    pub(crate) fn discard_journal(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.discard();
        }
    }

    /// Its live node.
    pub fn node(&self) -> u64 {
        self.node
    }

    /// Where block `block` of `extent` is.
    pub fn find(&self, extent: u64, block: usize) -> Source {
        let own = self.own.get(extent);
        for entry in std::iter::once(own).chain(self.behind.entries(extent)) {
            match entry {
                Entry::Nothing => {}
                Entry::Zeros => return Source::Zeros,
                Entry::Whole(slot) => return Source::Slot(slot),
                Entry::Part { slot, blocks, .. } if blocks.has(block) => return Source::Slot(slot),
                Entry::Part { rest: Rest::Zeros, .. } => return Source::Zeros,
                Entry::Part { .. } => {}
            }
        }
        Source::Zeros
    }

    /// Where `blocks` of `extent` are: hands each piece to `each`, in no order.
    pub fn pieces(
        &self,
        extent: u64,
        blocks: Range<usize>,
        mut each: impl FnMut(Range<usize>, Source),
    ) {
        let own = self.own.get(extent);
        if let Entry::Whole(slot) = own {
            return each(blocks, Source::Slot(slot));
        }
        let mut left = Blocks::range(blocks);
        for entry in std::iter::once(own).chain(self.behind.entries(extent)) {
            let (slot, here, rest) = match entry {
                Entry::Nothing => continue,
                Entry::Zeros => break,
                Entry::Whole(slot) => (slot, left, Rest::Zeros),
                Entry::Part { slot, blocks, rest } => (slot, left.both(blocks), rest),
            };
            here.runs().for_each(|run| each(run, Source::Slot(slot)));
            left = left.without(here);
            if left.is_empty() || rest == Rest::Zeros {
                break;
            }
        }
        left.runs().for_each(|run| each(run, Source::Zeros));
    }

    /// Where `blocks` of `extent` are to be written.
    pub fn target(&self, extent: u64, blocks: Range<usize>) -> Target {
        match self.own.get(extent) {
            Entry::Nothing | Entry::Zeros => Target::NeedsSlot,
            Entry::Whole(slot) => Target::Slot { slot, present: true },
            Entry::Part { slot, blocks: there, .. } => {
                let present = Blocks::range(blocks).without(there).is_empty();
                Target::Slot { slot, present }
            }
        }
    }

    /// The first extent from `extent` on that may read as anything but zeros.
    pub fn next_from(&self, extent: u64) -> Option<u64> {
        let maps = std::iter::once(&self.own).chain(self.behind.maps());
        maps.filter_map(|map| map.next_from(extent)).min()
    }

    /// How many slots its live node names.
    pub fn own_slots(&self) -> u64 {
        self.own.slots()
    }

    /// Whether something waits for a commit.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.given_up.is_empty()
    }

    /// Gives `extent`, which has no slot of its own, one.
    pub fn adopt(&mut self, extent: u64, slot: Slot) {
        let rest = match self.own.get(extent) {
            Entry::Nothing => Rest::Parent,
            Entry::Zeros => Rest::Zeros,
            other => unreachable!("{other:?} has a slot"),
        };
        self.change(extent, Entry::Part { slot, blocks: Blocks::NONE, rest });
    }

    /// `blocks` of `extent` have been written to `slot`, all of each. If the extent has given the
    /// slot up meanwhile, they are gone with it.
    pub fn written(&mut self, extent: u64, slot: Slot, blocks: Range<usize>) {
        if let Entry::Part { slot: own, blocks: mut there, rest } = self.own.get(extent)
            && own == slot
        {
            there = there.union(Blocks::range(blocks));
            self.change(extent, Entry::Part { slot, blocks: there, rest });
        }
    }

    /// Whether a node behind the live one says anything of `extent`.
    fn is_behind(&self, extent: u64) -> bool {
        self.behind.entries(extent).any(|entry| entry != Entry::Nothing)
    }

    fn are_zeros(&self, extent: u64, mut blocks: Range<usize>) -> bool {
        blocks.all(|block| self.find(extent, block) == Source::Zeros)
    }

    /// Makes all of `extent` zeros.
    pub fn clear(&mut self, extent: u64) {
        if let Some(slot) = self.own.get(extent).slot() {
            self.given_up.push(slot);
        }
        self.change(extent, if self.is_behind(extent) { Entry::Zeros } else { Entry::Nothing });
    }

    /// Makes `blocks` of `extent` zeros in the map alone. False where that cannot be said: then
    /// zeros are to be written. `writing`: a write to other blocks of the extent is under way, so
    /// that its slot stays even when no block of it is left.
    pub fn clear_blocks(&mut self, extent: u64, blocks: Range<usize>, writing: bool) -> bool {
        let entry = self.own.get(extent);
        let (slot, mut there, rest) = match entry {
            Entry::Zeros => return true,
            Entry::Nothing => return self.are_zeros(extent, blocks),
            Entry::Whole(slot) => (slot, Blocks::ALL, Rest::Parent),
            Entry::Part { slot, blocks, rest } => (slot, blocks, rest),
        };
        // All that is whole may lie over zeros as well: nothing of the parent is seen.
        let rest = if there == Blocks::ALL { Rest::Zeros } else { rest };
        if rest == Rest::Parent && self.is_behind(extent) {
            return self.are_zeros(extent, blocks);
        }
        there = there.without(Blocks::range(blocks));
        let rest = if self.is_behind(extent) { rest } else { Rest::Parent };
        if there.is_empty() && !writing {
            self.clear(extent);
        } else {
            self.change(extent, Entry::Part { slot, blocks: there, rest });
        }
        true
    }

    fn change(&mut self, extent: u64, entry: Entry) {
        let before = self.own.get(extent);
        if before == entry {
            return;
        }
        let (chunk, at) = place(extent);
        self.own.set(extent, entry);
        self.shown.store(self.own.slots(), Ordering::Relaxed);
        self.dirty.insert(chunk);
        let parent = self.behind.parent().map(|(parent, _)| *parent);
        let kept = self.journal.as_mut().is_some_and(|journal| {
            let row = self.own.row_at(chunk).expect("just set");
            journal.note((self.node, chunk), parent, (at, &before), row)
        });
        self.unkept |= !kept;
    }

    /// What a commit has to say, which ends with [`Volume::committed`]. Called when the writes that have ended are told of, and before the
    /// devices are flushed.
    pub fn take_dirty(&mut self) -> Dirty {
        let dirty = std::mem::take(&mut self.dirty);
        if let Some(journal) = &mut self.journal {
            journal.say(self.node, dirty.iter().copied());
        }
        let row = |chunk| Update::Row((self.node, chunk), Box::new(self.own.row(chunk)));
        Dirty {
            updates: dirty.into_iter().map(row).collect(),
            given_up: std::mem::take(&mut self.given_up),
        }
    }

    /// Goes on as `node`, a child of what the volume was until now: a snapshot. No write is under
    /// way. Returns what the snapshot's transaction has to say of the node that is past.
    pub fn move_on(&mut self, node: u64) -> Dirty {
        let dirty = self.take_dirty();
        self.behind.push(self.node, Arc::new(std::mem::take(&mut self.own)));
        self.node = node;
        self.shown.store(0, Ordering::Relaxed);
        dirty
    }

    /// What its own node says, when it is nobody's any more.
    pub fn into_own(self) -> NodeMap {
        self.own
    }

    /// What its own node says of `extent`.
    pub fn own(&self, extent: u64) -> Entry {
        self.own.get(extent)
    }

    /// What its own node says from `extent` on, in order.
    pub fn own_from(&self, extent: u64) -> impl Iterator<Item = (u64, Entry)> + '_ {
        self.own.entries_from(extent)
    }

    /// What it has of `extent` lies in `slot` from now on, where it was copied to. No write to the
    /// extent is under way.
    pub fn relocate(&mut self, extent: u64, slot: Slot) {
        let entry = self.own.get(extent);
        self.given_up.extend(entry.slot());
        self.change(extent, entry.moved_to(slot));
    }

    /// The live node's parent, with its number.
    pub fn parent(&self) -> Option<&(u64, Arc<NodeMap>)> {
        self.behind.parent()
    }

    /// A node behind the live one says something else from now on, or is gone.
    pub fn replace(&mut self, node: u64, map: Option<Arc<NodeMap>>) {
        self.behind.replace(node, map);
    }

    /// Its own node takes over what its parent says of `extent`: the copy of `merge` is made, the
    /// parent has been replaced by one that says nothing of it. No write to the extent is under
    /// way.
    pub fn absorb(&mut self, extent: u64, merge: &Merge) {
        self.given_up.extend(merge.given_up);
        self.change(extent, merge.entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::BLOCKS_PER_EXTENT;

    const A: Slot = Slot { device: 0, number: 1 };
    const B: Slot = Slot { device: 0, number: 2 };

    fn volume() -> Volume {
        Volume::new(1, NodeMap::default(), Vec::new())
    }

    fn rows(dirty: &Dirty) -> Vec<(u64, u32)> {
        let key = |update: &Update| match update {
            Update::Row(key, _) => *key,
            other => panic!("{other:?}"),
        };
        dirty.updates.iter().map(key).collect()
    }

    #[test]
    fn blocks_are_there_once_they_are_written() {
        let mut volume = volume();
        assert_eq!(volume.target(70, 0..4), Target::NeedsSlot);
        volume.adopt(70, A);
        assert_eq!(volume.target(70, 0..4), Target::Slot { slot: A, present: false });
        assert_eq!(volume.find(70, 2), Source::Zeros);
        volume.written(70, A, 2..4);
        assert_eq!(volume.target(70, 2..4), Target::Slot { slot: A, present: true });
        let expected = [(0..2, Source::Zeros), (2..4, Source::Slot(A)), (4..256, Source::Zeros)];
        let mut pieces = Vec::new();
        volume.pieces(70, 0..BLOCKS_PER_EXTENT, |blocks, source| pieces.push((blocks, source)));
        pieces.sort_by_key(|(blocks, _)| blocks.start);
        assert_eq!(pieces, expected);
        assert_eq!(rows(&volume.take_dirty()), [(1, 1)]);
        volume.written(70, A, 2..4);
        assert_eq!(rows(&volume.take_dirty()), [], "it was said already");
        volume.written(70, A, 0..BLOCKS_PER_EXTENT);
        assert_eq!(volume.own.get(70), Entry::Whole(A));
    }

    #[test]
    fn what_ends_after_its_extent_was_cleared_is_gone_with_it() {
        let mut volume = volume();
        volume.adopt(0, A);
        volume.clear(0);
        volume.written(0, A, 0..1);
        assert_eq!(volume.find(0, 0), Source::Zeros);
        volume.adopt(0, B);
        volume.written(0, A, 0..1);
        assert_eq!(volume.find(0, 0), Source::Zeros, "another slot's block");
        assert_eq!(volume.take_dirty().given_up, [A]);
    }

    #[test]
    fn a_snapshot_is_seen_through_what_comes_after_it() {
        let mut volume = volume();
        volume.adopt(0, A);
        volume.written(0, A, 0..4);
        let dirty = volume.move_on(2);
        assert_eq!(rows(&dirty), [(1, 0)]);
        assert_eq!(volume.target(0, 0..1), Target::NeedsSlot);
        volume.adopt(0, B);
        volume.written(0, B, 1..2);
        let at = |block| volume.find(0, block);
        assert_eq!([at(0), at(1), at(4)], [Source::Slot(A), Source::Slot(B), Source::Zeros]);
        let behind =
            volume.parent().expect("a snapshot").1.entries().filter_map(|(_, entry)| entry.slot());
        assert_eq!(behind.collect::<Vec<_>>(), [A]);
        assert_eq!(rows(&volume.take_dirty()), [(2, 0)]);
    }

    #[test]
    fn zeros_hide_what_is_behind() {
        let mut volume = volume();
        volume.adopt(0, A);
        volume.written(0, A, 0..4);
        volume.move_on(2);
        assert!(!volume.clear_blocks(0, 0..1, false), "the map cannot say that");
        assert!(volume.clear_blocks(0, 4..9, false), "they are zeros");
        volume.clear(0);
        assert_eq!(volume.find(0, 0), Source::Zeros);
        volume.adopt(0, B);
        volume.written(0, B, 1..3);
        assert_eq!([volume.find(0, 0), volume.find(0, 1)], [Source::Zeros, Source::Slot(B)]);
        assert!(volume.clear_blocks(0, 1..2, false));
        assert_eq!([volume.find(0, 1), volume.find(0, 2)], [Source::Zeros, Source::Slot(B)]);
        assert!(volume.clear_blocks(0, 2..3, false));
        assert_eq!(volume.own.get(0), Entry::Zeros, "an empty slot is given up");
        assert_eq!(volume.take_dirty().given_up, [B]);
    }

    #[test]
    fn a_whole_extent_can_lose_blocks_whatever_is_behind() {
        let mut volume = volume();
        volume.adopt(0, A);
        volume.written(0, A, 0..4);
        volume.move_on(2);
        volume.adopt(0, B);
        volume.written(0, B, 0..BLOCKS_PER_EXTENT);
        assert!(volume.clear_blocks(0, 0..1, false));
        assert_eq!([volume.find(0, 0), volume.find(0, 1)], [Source::Zeros, Source::Slot(B)]);
    }
}
