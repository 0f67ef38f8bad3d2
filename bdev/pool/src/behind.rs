//! The nodes behind a volume's live one, and which of them say something of an extent: a read of a
//! volume with a hundred snapshots looks at those few alone.

use crate::entry::Entry;
use crate::volume::NodeMap;
use std::cell::Cell;
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

/// Which nodes say something, learnt extent by extent as they are looked at.
#[derive(Debug)]
struct Index {
    /// A record for each extent: what is known, then a bit for each node. No memory is touched
    /// before something is known.
    records: Vec<Cell<u64>>,
    /// Words of bits in a record.
    words: usize,
    /// Records of another age know nothing: places or what is in them changed.
    age: u64,
}

impl Behind {
    /// `chain`: the nodes, the live one's parent first.
    pub(crate) fn new(mut chain: Vec<(u64, Arc<NodeMap>)>) -> Behind {
        chain.reverse();
        let mut behind = Behind { nodes: chain, index: None };
        behind.make_room();
        behind
    }

    /// The live node's parent.
    pub(crate) fn parent(&self) -> Option<&(u64, Arc<NodeMap>)> {
        self.nodes.last()
    }

    /// Its parent is another one, and what was that is behind it.
    pub(crate) fn push(&mut self, node: u64, map: Arc<NodeMap>) {
        self.nodes.push((node, map));
        self.make_room();
    }

    /// A node says something else from now on, or is gone.
    pub(crate) fn replace(&mut self, node: u64, map: Option<Arc<NodeMap>>) {
        let Some(at) = self.nodes.iter().position(|(other, _)| *other == node) else { return };
        match map {
            Some(map) => self.nodes[at].1 = map,
            None => drop(self.nodes.remove(at)),
        }
        if let Some(index) = &mut self.index {
            index.age += 1;
        }
        self.make_room();
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

    /// Has the index room for each node, and each extent that one of them speaks of.
    fn make_room(&mut self) {
        let words = self.nodes.len().div_ceil(64);
        let extents = self.maps().map(NodeMap::end).max().unwrap_or(0) as usize;
        let has_room = |index: &Index| index.words >= words && index.extents() >= extents;
        if self.nodes.len() <= FEW {
            self.index = None;
        } else if !self.index.as_ref().is_some_and(has_room) {
            let records = vec![0; extents * (words + 1)].into_iter().map(Cell::new).collect();
            self.index = Some(Index { records, words, age: 1 });
        }
    }
}

impl Index {
    fn extents(&self) -> usize {
        self.records.len() / (self.words + 1)
    }

    /// The record of `extent`, complete; empty if no node speaks of it.
    fn record(&self, extent: u64, nodes: &[(u64, Arc<NodeMap>)]) -> &[Cell<u64>] {
        let stride = self.words + 1;
        let from = extent as usize * stride;
        let Some(record) = self.records.get(from..from + stride) else { return &[] };
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
