//! How a node that leaves is merged into its only child (`FORMAT.md`, "Delete").

use crate::entry::{Blocks, Entry, Rest, Slot};

/// Blocks that have to be copied, each to its own place in the other slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// From here.
    pub from: Slot,
    /// To here.
    pub to: Slot,
    /// Which.
    pub blocks: Blocks,
}

/// What becomes of one extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merge {
    /// What has to be durable before anything else.
    pub copy: Option<Copy>,
    /// What the child says from then on; the parent says nothing.
    pub entry: Entry,
    /// A slot that neither names any more.
    pub given_up: Option<Slot>,
}

/// Merges what `parent` says of an extent into what `child` says of it: whoever reads through the
/// child finds the same before and after, and while it happens.
pub fn merge(parent: Entry, child: Entry) -> Merge {
    let keep = Merge { copy: None, entry: child, given_up: parent.slot() };
    match child {
        Entry::Nothing => Merge { copy: None, entry: parent, given_up: None },
        Entry::Zeros | Entry::Whole(_) | Entry::Part { rest: Rest::Zeros, .. } => keep,
        Entry::Part { slot, blocks, rest: Rest::Parent } => match parent {
            Entry::Nothing => keep,
            Entry::Zeros => Merge { entry: Entry::of(slot, blocks, Rest::Zeros), ..keep },
            Entry::Whole(below) => join((below, Blocks::ALL), (slot, blocks), Rest::Parent),
            Entry::Part { slot: below, blocks: there, rest } => {
                join((below, there), (slot, blocks), rest)
            }
        },
    }
}

/// Both have blocks, and the child's count where both have one: the fewer are copied.
fn join(parent: (Slot, Blocks), child: (Slot, Blocks), rest: Rest) -> Merge {
    let union = child.1.union(parent.1);
    let seen = parent.1.without(child.1);
    let (copy, to, given_up) = if seen.is_empty() {
        (None, child.0, parent.0)
    } else if child.1.len() < seen.len() {
        let copy = Copy { from: child.0, to: parent.0, blocks: child.1 };
        (Some(copy), parent.0, child.0)
    } else {
        (Some(Copy { from: parent.0, to: child.0, blocks: seen }), child.0, parent.0)
    };
    let copy = copy.filter(|copy| !copy.blocks.is_empty());
    Merge { copy, entry: Entry::of(to, union, rest), given_up: Some(given_up) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const BLOCKS: usize = 4;
    const PARENT: Slot = Slot { device: 0, number: 1 };
    const CHILD: Slot = Slot { device: 0, number: 2 };

    fn entry(slot: Slot) -> impl Strategy<Value = Entry> {
        let rest = prop_oneof![Just(Rest::Parent), Just(Rest::Zeros)];
        prop_oneof![
            Just(Entry::Nothing),
            Just(Entry::Zeros),
            Just(Entry::Whole(slot)),
            (proptest::collection::vec(any::<bool>(), BLOCKS), rest).prop_map(
                move |(there, rest)| {
                    let mut blocks = Blocks::NONE;
                    let there = there.iter().enumerate().filter(|(_, there)| **there);
                    there.for_each(|(at, _)| blocks.add(at));
                    Entry::of(slot, blocks, rest)
                }
            ),
        ]
    }

    /// What a block reads as, by its slot; `None` where it is for the grandparent to say.
    fn read(entries: &[Entry], disk: &HashMap<(Slot, usize), u32>, block: usize) -> Option<u32> {
        for entry in entries {
            match entry {
                Entry::Whole(slot) => return Some(disk[&(*slot, block)]),
                Entry::Part { slot, blocks, .. } if blocks.has(block) => {
                    return Some(disk[&(*slot, block)]);
                }
                Entry::Zeros | Entry::Part { rest: Rest::Zeros, .. } => return Some(0),
                Entry::Nothing | Entry::Part { .. } => {}
            }
        }
        None
    }

    proptest! {
        #[test]
        fn the_child_reads_the_same(parent in entry(PARENT), child in entry(CHILD)) {
            let places = [PARENT, CHILD].into_iter().flat_map(|s| (0..BLOCKS).map(move |b| (s, b)));
            let mut disk: HashMap<(Slot, usize), u32> = places.zip(1..).collect();
            let before: Vec<_> = (0..BLOCKS).map(|b| read(&[child, parent], &disk, b)).collect();
            let Merge { copy, entry, given_up } = merge(parent, child);
            if let Some(Copy { from, to, blocks }) = copy {
                prop_assert!(!blocks.is_empty());
                for block in (0..BLOCKS).filter(|block| blocks.has(*block)) {
                    disk.insert((to, block), disk[&(from, block)]);
                    let during: Vec<_> =
                        (0..BLOCKS).map(|b| read(&[child, parent], &disk, b)).collect();
                    prop_assert_eq!(&during, &before, "while it is copied");
                }
            }
            let after: Vec<_> = (0..BLOCKS).map(|b| read(&[entry], &disk, b)).collect();
            prop_assert_eq!(after, before);
            let named = |entries: &[Entry]| {
                let mut slots: Vec<Slot> = entries.iter().filter_map(Entry::slot).collect();
                slots.sort();
                slots
            };
            let mut left = named(&[entry]);
            left.extend(given_up);
            left.sort();
            prop_assert_eq!(left, named(&[parent, child]), "each slot is kept or given up");
        }
    }

    #[test]
    fn the_fewer_blocks_are_copied() {
        let mut one = Blocks::NONE;
        one.add(0);
        let child = Entry::Part { slot: CHILD, blocks: one, rest: Rest::Parent };
        let merged = merge(Entry::Whole(PARENT), child);
        assert_eq!(merged.copy, Some(Copy { from: CHILD, to: PARENT, blocks: one }));
        assert_eq!((merged.entry, merged.given_up), (Entry::Whole(PARENT), Some(CHILD)));
        let most = Blocks::ALL.without(one);
        let child = Entry::Part { slot: CHILD, blocks: most, rest: Rest::Parent };
        let merged = merge(Entry::Whole(PARENT), child);
        assert_eq!(merged.copy, Some(Copy { from: PARENT, to: CHILD, blocks: one }));
        assert_eq!((merged.entry, merged.given_up), (Entry::Whole(CHILD), Some(PARENT)));
    }
}
