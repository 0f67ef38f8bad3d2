//! Nodes and how they descend from each other, with the sums of what they take. A change costs what
//! changes: nothing here goes through all nodes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The nodes of a pool.
#[derive(Debug, Default)]
pub(crate) struct Family {
    nodes: BTreeMap<u64, Node>,
    sums: Sums,
}

/// A node among others.
#[derive(Debug)]
struct Node {
    parent: Option<u64>,
    children: BTreeSet<u64>,
    /// It is taken apart: it reads nothing.
    leaving: bool,
    /// What its map names; of a live node, what is not with its volume.
    slots: u64,
    /// Children below which one volume or snapshot reads, and below which several do.
    single: u32,
    several: u32,
    /// Nodes that ever read through each other have one number.
    tree: u64,
}

/// How many volumes and snapshots read a node: none, one, or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readers {
    None,
    One,
    Several,
}

impl Node {
    fn readers(&self) -> Readers {
        match u32::from(!self.leaving) + self.single + 2 * self.several {
            0 => Readers::None,
            1 => Readers::One,
            _ => Readers::Several,
        }
    }

    /// The count of children with so many readers.
    fn count(&mut self, readers: Readers) -> Option<&mut u32> {
        match readers {
            Readers::None => None,
            Readers::One => Some(&mut self.single),
            Readers::Several => Some(&mut self.several),
        }
    }

    /// Nothing is read through it by more than one child.
    fn is_ready(&self) -> bool {
        self.leaving && self.children.len() <= 1
    }
}

/// What all nodes take together, in slots.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    /// In nodes that more than one volume or snapshot reads.
    shared: u64,
    /// In nodes that leave.
    leaving: u64,
    /// Nodes that leave and have at most one child, and what is in them.
    ready: BTreeSet<u64>,
    ready_slots: u64,
}

impl Sums {
    fn add(&mut self, number: u64, node: &Node) {
        if node.readers() == Readers::Several {
            self.shared += node.slots;
        }
        if node.leaving {
            self.leaving += node.slots;
        }
        if node.is_ready() {
            self.ready.insert(number);
            self.ready_slots += node.slots;
        }
    }

    fn take(&mut self, number: u64, node: &Node) {
        if node.readers() == Readers::Several {
            self.shared -= node.slots;
        }
        if node.leaving {
            self.leaving -= node.slots;
        }
        if node.is_ready() {
            self.ready.remove(&number);
            self.ready_slots -= node.slots;
        }
    }
}

impl Family {
    /// A node is there, with this parent, which is known already.
    pub(crate) fn put(&mut self, number: u64, parent: Option<u64>, leaving: bool) {
        match self.nodes.get(&number) {
            Some(node) if (node.parent, node.leaving) == (parent, leaving) => return,
            Some(_) => {
                self.unlink(number);
                self.edit(number, |node| (node.parent, node.leaving) = (parent, leaving));
            }
            None => {
                let tree = parent.and_then(|parent| self.nodes.get(&parent));
                let tree = tree.map_or(number, |parent| parent.tree);
                let (children, slots, single, several) = (BTreeSet::new(), 0, 0, 0);
                let node = Node { parent, children, leaving, slots, single, several, tree };
                self.sums.add(number, &node);
                self.nodes.insert(number, node);
            }
        }
        self.link(number);
    }

    /// A node is gone; its children have another parent.
    pub(crate) fn remove(&mut self, number: u64) {
        self.unlink(number);
        if let Some(node) = self.nodes.remove(&number) {
            self.sums.take(number, &node);
        }
    }

    /// The map of a node names so many slots.
    pub(crate) fn set_slots(&mut self, number: u64, slots: u64) {
        self.edit(number, |node| node.slots = slots);
    }

    /// Changes a node, and the sums with it. Returns its readers before and after.
    fn edit(&mut self, number: u64, change: impl FnOnce(&mut Node)) -> (Readers, Readers) {
        let Some(node) = self.nodes.get_mut(&number) else {
            return (Readers::None, Readers::None);
        };
        let before = node.readers();
        self.sums.take(number, node);
        change(node);
        self.sums.add(number, node);
        (before, node.readers())
    }

    fn link(&mut self, number: u64) {
        let Some(node) = self.nodes.get(&number) else { return };
        let (parent, readers) = (node.parent, node.readers());
        let Some(parent) = parent else { return };
        let (before, after) = self.edit(parent, |parent| {
            parent.children.insert(number);
            parent.count(readers).into_iter().for_each(|count| *count += 1);
        });
        self.spread(parent, before, after);
    }

    fn unlink(&mut self, number: u64) {
        let Some(node) = self.nodes.get(&number) else { return };
        let (parent, readers) = (node.parent, node.readers());
        let Some(parent) = parent else { return };
        let (before, after) = self.edit(parent, |parent| {
            parent.children.remove(&number);
            parent.count(readers).into_iter().for_each(|count| *count -= 1);
        });
        self.spread(parent, before, after);
    }

    /// Those behind a node learn that its readers are others, as far as it makes a difference: mostly
    /// not far, since a snapshot reads itself.
    fn spread(&mut self, number: u64, mut before: Readers, mut after: Readers) {
        let mut at = self.nodes.get(&number).and_then(|node| node.parent);
        while let Some(number) = at.filter(|_| before != after) {
            let (was, is) = (before, after);
            (before, after) = self.edit(number, |node| {
                node.count(was).into_iter().for_each(|count| *count -= 1);
                node.count(is).into_iter().for_each(|count| *count += 1);
            });
            at = self.nodes.get(&number).and_then(|node| node.parent);
        }
    }

    /// A node and those behind it, the parent first.
    pub(crate) fn lineage(&self, number: u64) -> impl Iterator<Item = u64> + '_ {
        std::iter::successors(Some(number), |number| self.nodes.get(number)?.parent)
    }

    /// Those whose parent it is.
    pub(crate) fn children(&self, number: u64) -> impl Iterator<Item = u64> + '_ {
        self.nodes.get(&number).into_iter().flat_map(|node| node.children.iter().copied())
    }

    /// A number that a node has in common with all that ever read through it or that it reads.
    pub(crate) fn tree(&self, number: u64) -> Option<u64> {
        self.nodes.get(&number).map(|node| node.tree)
    }

    /// What is in a node's map, in slots.
    pub(crate) fn slots(&self, number: u64) -> u64 {
        self.nodes.get(&number).map_or(0, |node| node.slots)
    }

    /// Slots in nodes that more than one volume or snapshot reads.
    pub(crate) fn shared(&self) -> u64 {
        self.sums.shared
    }

    /// Slots in nodes that leave.
    pub(crate) fn leaving(&self) -> u64 {
        self.sums.leaving
    }

    /// The first node that can be taken apart.
    pub(crate) fn first_ready(&self) -> Option<u64> {
        self.sums.ready.first().copied()
    }

    /// Nodes that can be taken apart, and the slots in them.
    pub(crate) fn ready(&self) -> (usize, u64) {
        (self.sums.ready.len(), self.sums.ready_slots)
    }

    /// Slots behind a node. What is found on the way stays in `known`: all nodes together cost one
    /// pass.
    pub(crate) fn behind(&self, number: u64, known: &mut HashMap<u64, u64>) -> u64 {
        let mut way = Vec::new();
        let mut at = Some(number);
        while let Some(here) = at.filter(|here| !known.contains_key(here)) {
            way.push(here);
            at = self.nodes.get(&here).and_then(|node| node.parent);
        }
        let mut behind = at.map_or(0, |here| known[&here] + self.slots(here));
        for here in way.into_iter().rev() {
            known.insert(here, behind);
            behind += self.slots(here);
        }
        known[&number]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What everything is when it is counted anew.
    fn counted(family: &Family) -> Sums {
        let mut readers: BTreeMap<u64, u32> = BTreeMap::new();
        for (number, _) in family.nodes.iter().filter(|(_, node)| !node.leaving) {
            for ancestor in family.lineage(*number) {
                *readers.entry(ancestor).or_default() += 1;
            }
        }
        let mut sums = Sums::default();
        for (number, node) in &family.nodes {
            if readers.get(number).is_some_and(|count| *count > 1) {
                sums.shared += node.slots;
            }
            if node.leaving {
                sums.leaving += node.slots;
                let children = family.nodes.values().filter(|n| n.parent == Some(*number)).count();
                if children <= 1 {
                    sums.ready.insert(*number);
                    sums.ready_slots += node.slots;
                }
            }
        }
        sums
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A child of that one, or of nobody.
        New(Option<usize>, bool),
        Leave(usize),
        Slots(usize, u64),
        /// Taken out, with its only child put in its place.
        Remove(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        let which = 0..64usize;
        prop_oneof![
            4 => (proptest::option::weighted(0.9, which.clone()), any::<bool>())
                .prop_map(|(parent, leaving)| Step::New(parent, leaving)),
            2 => which.clone().prop_map(Step::Leave),
            3 => (which.clone(), 0..9u64).prop_map(|(at, slots)| Step::Slots(at, slots)),
            2 => which.prop_map(Step::Remove),
        ]
    }

    fn take(family: &mut Family, step: Step, next: &mut u64) {
        let numbers: Vec<u64> = family.nodes.keys().copied().collect();
        let some = |at: usize| numbers.get(at % numbers.len().max(1)).copied();
        match step {
            Step::New(parent, leaving) => {
                *next += 1;
                family.put(*next, parent.and_then(some), leaving);
            }
            Step::Leave(at) => {
                let Some(number) = some(at) else { return };
                family.put(number, family.nodes[&number].parent, true);
            }
            Step::Slots(at, slots) => {
                some(at).into_iter().for_each(|number| family.set_slots(number, slots));
            }
            Step::Remove(at) => {
                let Some(number) = some(at) else { return };
                let node = &family.nodes[&number];
                let (parent, children) = (node.parent, node.children.clone());
                if children.len() > 1 {
                    return;
                }
                for child in children {
                    family.put(child, parent, family.nodes[&child].leaving);
                }
                family.remove(number);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn sums_are_what_counting_gives(steps in proptest::collection::vec(step(), 1..120)) {
            let (mut family, mut next) = (Family::default(), 0);
            for step in steps {
                take(&mut family, step, &mut next);
                prop_assert_eq!(&family.sums, &counted(&family));
                let mut known = HashMap::new();
                for number in family.nodes.keys().rev() {
                    let walk = family.lineage(*number).skip(1).map(|node| family.slots(node));
                    prop_assert_eq!(family.behind(*number, &mut known), walk.sum::<u64>());
                }
            }
        }
    }

    #[test]
    fn nodes_of_one_tree_know_each_other_and_no_other() {
        let mut family = Family::default();
        family.put(1, None, false);
        family.put(2, Some(1), false);
        family.put(3, Some(2), false);
        family.put(4, None, false);
        family.put(2, Some(1), true);
        family.put(3, Some(1), false);
        family.remove(2);
        assert_eq!([1, 3, 4].map(|node| family.tree(node)), [Some(1), Some(1), Some(4)]);
    }
}
