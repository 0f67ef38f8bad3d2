//! The nodes behind a volume's live one, and which of them say something of an extent: a read of a
//! volume with a hundred snapshots looks at those few alone.

use crate::entry::{EXTENTS_PER_ROW, Entry};
use crate::sparse::Sparse;
use crate::volume::{LEAF_ROWS, Leaf, NodeMap, leaf_of};
use std::cell::{Cell, OnceCell};
use std::sync::Arc;

/// So many nodes are looked at one after the other.
const FEW: usize = 4;

/// Bits of the first word of a record that say how many nodes it knows; the others are its age.
const KNOWN_BITS: u32 = 24;

/// The nodes behind a live one.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    /// With their numbers, the oldest first: each keeps its place when another one is put before
    /// the live one.
    nodes: Vec<(u64, Arc<NodeMap>)>,
    index: Option<Index>,
}

/// Which nodes say something, learnt extent by extent as they are looked at. As large as what they
/// say, not as what they say it of.
#[derive(Debug)]
struct Index {
    leaves: Sparse<Box<IndexLeaf>>,
    /// Words of bits in a record.
    words: usize,
    /// Records of another age know nothing: places or what is in them changed.
    age: u64,
}

/// The rows of a leaf that some node has or had.
#[derive(Debug)]
struct IndexLeaf {
    /// A bit for each.
    rows: [u64; LEAF_ROWS / 64],
    /// A record for each extent of a row that was looked at: what is known, then a bit for each
    /// node.
    pages: [OnceCell<Box<[Cell<u64>]>>; LEAF_ROWS],
}

impl IndexLeaf {
    fn new() -> Box<IndexLeaf> {
        Box::new(IndexLeaf {
            rows: [0; LEAF_ROWS / 64],
            pages: [const { OnceCell::new() }; LEAF_ROWS],
        })
    }
}

impl Behind {
    /// `chain`: the nodes, the live one's parent first.
    pub(crate) fn new(mut chain: Vec<(u64, Arc<NodeMap>)>) -> Behind {
        chain.reverse();
        let mut behind = Behind { nodes: chain, index: None };
        behind.make_room(None);
        behind
    }

    /// The live node's parent.
    pub(crate) fn parent(&self) -> Option<&(u64, Arc<NodeMap>)> {
        self.nodes.last()
    }

    /// Its parent is another one, and what was that is behind it.
    pub(crate) fn push(&mut self, node: u64, map: Arc<NodeMap>) {
        self.nodes.push((node, map));
        self.make_room(Some((self.nodes.len() - 1, None)));
    }

    /// A node says something else from now on, or is gone.
    pub(crate) fn replace(&mut self, node: u64, map: Option<Arc<NodeMap>>) {
        let Some(at) = self.nodes.iter().position(|(other, _)| *other == node) else { return };
        let changed = match map {
            Some(map) => Some((at, Some(std::mem::replace(&mut self.nodes[at].1, map)))),
            None => {
                self.nodes.remove(at);
                None
            }
        };
        if let Some(index) = &mut self.index {
            index.age += 1;
        }
        self.make_room(changed);
    }

    /// What all of them say.
    pub(crate) fn maps(&self) -> impl Iterator<Item = &NodeMap> {
        self.nodes.iter().map(|(_, map)| &**map)
    }

    /// What they say of `extent`, the parent first. There may be [`Entry::Nothing`] in between.
    pub(crate) fn entries(&self, extent: u64) -> Entries<'_> {
        let record = self.index.as_ref().map(|index| index.record(extent, &self.nodes));
        let words = match record {
            Some([]) => 0,
            _ => self.nodes.len().div_ceil(64),
        };
        Entries { nodes: &self.nodes, extent, record, words, bits: 0 }
    }

    /// Has the index room for each node, and each row that one of them has. `changed`: a node that
    /// is new at its place, and what was there before it.
    fn make_room(&mut self, changed: Option<(usize, Option<Arc<NodeMap>>)>) {
        let words = self.nodes.len().div_ceil(64);
        if self.nodes.len() <= FEW {
            self.index = None;
            return;
        }
        match (&mut self.index, changed) {
            (Some(index), changed) if index.words >= words => {
                if let Some((at, before)) = changed {
                    index.speak_of(&self.nodes[at].1, before.as_deref());
                }
            }
            _ => {
                let mut index = Index { leaves: Sparse::default(), words, age: 1 };
                self.nodes.iter().for_each(|(_, map)| index.speak_of(map, None));
                self.index = Some(index);
            }
        }
    }
}

impl Index {
    /// The rows of a map, but for those that `before` had: what both share was seen with it.
    fn speak_of(&mut self, map: &NodeMap, before: Option<&NodeMap>) {
        let is_new = |number: u32, leaf: &Arc<Leaf>| {
            let old = before.and_then(|before| before.leaf(number));
            old.is_none_or(|old| !Arc::ptr_eq(old, leaf))
        };
        for (number, leaf) in map.leaves().filter(|(number, leaf)| is_new(*number, leaf)) {
            let index = self.leaves.get_or_insert_with(number, IndexLeaf::new);
            for at in (0..LEAF_ROWS).filter(|at| leaf[*at].is_some()) {
                index.rows[at / 64] |= 1 << (at % 64);
            }
        }
    }

    /// The record of `extent`, complete; empty if no node speaks of it.
    fn record(&self, extent: u64, nodes: &[(u64, Arc<NodeMap>)]) -> &[Cell<u64>] {
        let (chunk, inside) = (extent / EXTENTS_PER_ROW as u64, extent as usize % EXTENTS_PER_ROW);
        let Ok((leaf, at)) = u32::try_from(chunk).map(leaf_of) else { return &[] };
        let leaf = self.leaves.get(leaf).filter(|leaf| leaf.rows[at / 64] & 1 << (at % 64) != 0);
        let Some(leaf) = leaf else { return &[] };
        let stride = self.words + 1;
        let page =
            leaf.pages[at].get_or_init(|| vec![Cell::new(0); EXTENTS_PER_ROW * stride].into());
        let record = &page[inside * stride..(inside + 1) * stride];
        let (age, known) = (record[0].get() >> KNOWN_BITS, record[0].get() % (1 << KNOWN_BITS));
        let known = if age == self.age { known as usize } else { 0 };
        if known == nodes.len() {
            return &record[1..];
        }
        if known == 0 {
            record[1..].iter().for_each(|word| word.set(0));
        }
        for (at, (_, map)) in nodes.iter().enumerate().skip(known) {
            if map.get(extent) != Entry::Nothing {
                let word = &record[1 + at / 64];
                word.set(word.get() | 1 << (at % 64));
            }
        }
        record[0].set(self.age << KNOWN_BITS | nodes.len() as u64);
        &record[1..]
    }
}

/// [`Behind::entries`].
pub(crate) struct Entries<'a> {
    nodes: &'a [(u64, Arc<NodeMap>)],
    extent: u64,
    /// Without one, all nodes are looked at.
    record: Option<&'a [Cell<u64>]>,
    /// Words that are left.
    words: usize,
    /// What is left of the one that was begun.
    bits: u64,
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        while self.bits == 0 {
            self.words = self.words.checked_sub(1)?;
            let nodes = (self.nodes.len() - self.words * 64).min(64);
            self.bits = match self.record {
                Some(record) => record[self.words].get(),
                None => u64::MAX >> (64 - nodes),
            };
        }
        let bit = self.bits.ilog2();
        self.bits ^= 1 << bit;
        Some(self.nodes[self.words * 64 + bit as usize].1.get(self.extent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Slot;
    use proptest::prelude::*;

    /// Extents far apart, so that maps end at different places.
    const EXTENTS: [u64; 5] = [0, 1, 70, 32_768, 70_000];

    fn map(said: u8) -> Arc<NodeMap> {
        let mut map = NodeMap::default();
        for (at, extent) in EXTENTS.into_iter().enumerate() {
            if said & 1 << at != 0 {
                let slot = Slot { device: 0, number: u64::from(said) };
                map.set(extent, Entry::Whole(slot));
            }
        }
        Arc::new(map)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        Replace(usize, Option<u8>),
        /// All but so many are gone.
        Leave(usize),
        /// No extent above this one is spoken of from now on.
        Below(usize),
        Look(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0..32u8).prop_map(Step::Push),
            1 => (0..200usize, proptest::option::of(0..32u8)).prop_map(|(a, b)| Step::Replace(a, b)),
            4 => (0..EXTENTS.len()).prop_map(Step::Look),
        ];
        // Long lines of snapshots, which end at once.
        let few = prop_oneof![
            (0..80usize).prop_map(Step::Leave),
            (0..=EXTENTS.len()).prop_map(Step::Below),
        ];
        let phase = (few, proptest::collection::vec(step, 0..200));
        let phases = proptest::collection::vec(phase, 0..8);
        phases.prop_map(|phases| {
            let phase = |(first, steps)| std::iter::once(first).chain(steps);
            phases.into_iter().flat_map(phase).collect()
        })
    }

    /// As many words as two extents' records for more nodes took.
    #[test]
    fn room_for_many_nodes_is_not_room_for_many_extents() {
        let mut behind = Behind::default();
        (0..70).for_each(|node| behind.push(node, map(1 << 3)));
        (6..70).for_each(|node| behind.replace(node, None));
        behind.push(70, map(1 << 4));
        assert_eq!(behind.entries(EXTENTS[4]).next(), Some(map(1 << 4).get(EXTENTS[4])));
    }

    /// A volume of 1 PiB with a write at its end: 70 snapshots of that take no more than of any
    /// other.
    #[test]
    fn it_is_as_large_as_what_is_said() {
        let last = (1 << 30) - 1;
        let slot = Slot { device: 0, number: 7 };
        let mut behind = Behind::default();
        for node in 0..70 {
            let mut map = NodeMap::default();
            map.set(last, Entry::Whole(slot));
            behind.push(node, Arc::new(map));
            assert_eq!(behind.entries(last).next(), Some(Entry::Whole(slot)));
            assert_eq!(behind.entries(1 << 29).find(|entry| *entry != Entry::Nothing), None);
        }
        let index = behind.index.as_ref().unwrap();
        let leaves: Vec<_> = index.leaves.from(0).collect();
        assert_eq!(leaves.len(), 1);
        assert_eq!(leaves[0].1.pages.iter().filter_map(OnceCell::get).count(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn the_index_says_what_a_walk_says(steps in steps()) {
            let mut behind = Behind::default();
            let (mut number, mut mask) = (0, u8::MAX);
            for step in steps {
                match step {
                    Step::Push(said) => {
                        behind.push(number, map(said & mask));
                        number += 1;
                    }
                    Step::Below(end) => mask = (1 << end) - 1,
                    Step::Leave(few) => {
                        let numbers: Vec<u64> = behind.nodes.iter().map(|(n, _)| *n).collect();
                        numbers.into_iter().skip(few).for_each(|n| behind.replace(n, None));
                    }
                    Step::Replace(at, said) if !behind.nodes.is_empty() => {
                        let node = behind.nodes[at % behind.nodes.len()].0;
                        behind.replace(node, said.map(|said| map(said & mask)));
                    }
                    Step::Replace(..) => {}
                    Step::Look(at) => {
                        let said = behind.entries(EXTENTS[at]).filter(|e| *e != Entry::Nothing);
                        let walk = behind.nodes.iter().rev().map(|(_, map)| map.get(EXTENTS[at]));
                        let walk = walk.filter(|entry| *entry != Entry::Nothing);
                        prop_assert_eq!(said.collect::<Vec<_>>(), walk.collect::<Vec<_>>());
                    }
                }
            }
        }
    }
}
