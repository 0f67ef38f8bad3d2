//! Volumes over a pool: random writes, discards, flushes, snapshots and clones, snapshots deleted
//! and merged, and the power goes at every step. No flushed write is lost, nothing foreign is ever seen, snapshots do not change,
//! and space is exact.
//!
//! The map and the slots are the real ones; the devices and the store are a model with a volatile
//! cache, and transactions that happen or do not. `VOLUME_SEEDS=n` runs so many seeds.

mod support;

use bdev_pool::{
    Contents, Copy, DeviceRecord, DeviceState, Dirty, EXTENT_BYTES, Entry, NodeMap, NodeRecord,
    NodeState, Slot, Slots, Source, Target, Update, Volume, VolumeRecord, merge,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use support::chance::Chance;
use uuid::Uuid;

/// Extents of a volume, and blocks of each that are used.
const EXTENTS: u64 = 70;
const USED: [u64; 4] = [0, 1, 63, 69];
const BLOCKS: usize = 5;
/// So few slots that they are used again, and run out.
const SLOTS: [u64; 2] = [16, 13];

/// Something that lies on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Planted {
    /// The transaction is committed before the devices are flushed.
    CommitBeforeFlush,
    /// A slot is used again before the transaction that gives it up is durable.
    EarlyReuse,
    /// Blocks count as there when their write begins.
    EarlyBit,
    /// A snapshot is taken while a write is under way.
    WriteIntoThePast,
    /// A snapshot that is not deleted is merged into its child.
    MergeOfTheVisible,
}

/// What a block holds: 0 for zeros, else the number of the write.
type Value = u64;
type At = (u64, usize);

/// The devices: blocks by slot, a volatile cache in front.
#[derive(Clone, Default)]
struct Disk {
    durable: HashMap<(Slot, usize), Value>,
    cache: Vec<((Slot, usize), Value)>,
}

impl Disk {
    fn write(&mut self, slot: Slot, block: usize, value: Value) {
        self.cache.push(((slot, block), value));
    }

    fn read(&self, slot: Slot, block: usize) -> Value {
        let cached = self.cache.iter().rev().find(|(at, _)| *at == (slot, block));
        // What nobody wrote is what was there before.
        const BEFORE: Value = Value::MAX;
        cached.map_or_else(
            || self.durable.get(&(slot, block)).copied().unwrap_or(BEFORE),
            |(_, value)| *value,
        )
    }

    fn flush(&mut self) {
        self.durable.extend(self.cache.drain(..));
    }

    /// What may be left when the power goes.
    fn after_power_cut(&self, chance: &mut Chance) -> Disk {
        let mut disk = Disk { durable: self.durable.clone(), cache: Vec::new() };
        let odds = [0, 1, 1, 2][chance.below(4) as usize];
        disk.durable.extend(self.cache.iter().copied().filter(|_| chance.below(2) < odds));
        disk
    }
}

/// What a block of a volume may hold after a power cut, the latest last: what was there at the last
/// flush, and everything since.
#[derive(Clone, Debug)]
struct Expected {
    possible: Vec<Value>,
    /// Written by the write that is under way, if any.
    under_way: Option<Value>,
}

impl Expected {
    fn now(&self) -> Value {
        *self.possible.last().expect("never empty")
    }
}

struct Write {
    volume: usize,
    extent: u64,
    blocks: std::ops::Range<usize>,
    slot: Slot,
    present: bool,
    value: Value,
}

struct Live {
    number: u64,
    map: Volume,
    expected: BTreeMap<At, Expected>,
}

/// A snapshot that is durable, by its node: what it holds.
type Past = BTreeMap<u64, BTreeMap<At, Value>>;

/// A transaction that waits.
#[derive(Default)]
struct Queued {
    dirty: Dirty,
    /// Snapshots that are there, or no longer, when it is durable.
    taken: Past,
    deleted: Option<u64>,
}

struct World {
    chance: Chance,
    planted: Option<Planted>,
    contents: Contents,
    disk: Disk,
    slots: Slots,
    volumes: Vec<Live>,
    past: Past,
    /// Transactions that were begun and wait for the next commit.
    queued: Vec<Queued>,
    under_way: Vec<Write>,
    next: u64,
    tally: Tally,
}

/// What happened.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Power cuts.
    images: u64,
    /// Writes that found no slot.
    full: u64,
    snapshots: u64,
    /// Extents merged, blocks copied for it, and nodes that are gone.
    merged: u64,
    copied: u64,
    gone: u64,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.images += other.images;
        self.full += other.full;
        self.snapshots += other.snapshots;
        self.merged += other.merged;
        self.copied += other.copied;
        self.gone += other.gone;
    }
}

fn blocks() -> impl Iterator<Item = At> {
    USED.into_iter().flat_map(|extent| (0..BLOCKS).map(move |block| (extent, block)))
}

fn node(parent: Option<u64>, state: NodeState) -> NodeRecord {
    NodeRecord { parent, bytes: EXTENTS * EXTENT_BYTES, state }
}

fn record(number: u64, node: u64) -> VolumeRecord {
    let name = format!("volume-{number}");
    VolumeRecord {
        name,
        uuid: Uuid::from_u128(number.into()),
        node,
        block_bytes: 4096,
        thick: false,
        limits: Default::default(),
        made_s: 0,
        kind: Default::default(),
    }
}

fn all_slots() -> Slots {
    let mut slots = Slots::default();
    SLOTS.iter().enumerate().for_each(|(number, count)| slots.add_device(number as u16, *count));
    slots
}

impl World {
    fn new(seed: u64, planted: Option<Planted>) -> World {
        let mut contents = Contents::default();
        for (number, slots) in SLOTS.into_iter().enumerate() {
            let uuid = Uuid::from_u128(number as u128);
            let device = DeviceRecord { uuid, slots, power: 0, state: DeviceState::Member };
            contents.devices.insert(number as u32, device);
        }
        let mut world = World {
            chance: Chance::new(seed),
            planted,
            contents,
            disk: Disk::default(),
            slots: all_slots(),
            volumes: Vec::new(),
            past: Past::new(),
            queued: Vec::new(),
            under_way: Vec::new(),
            next: 1,
            tally: Tally::default(),
        };
        world.add_volume(None);
        world
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.chance.below(n) == 0
    }

    /// A new volume: empty, or a clone of a durable snapshot.
    fn add_volume(&mut self, of: Option<u64>) {
        let (number, live) = (self.number(), self.number());
        let chain = of.map_or(Vec::new(), |node| chain(&self.contents, node));
        let held = |at| of.map_or(0, |node| self.past[&node][&at]);
        let expected = |at| (at, Expected { possible: vec![held(at)], under_way: None });
        self.volumes.push(Live {
            number,
            map: Volume::new(live, NodeMap::default(), chain),
            expected: blocks().map(expected).collect(),
        });
        let updates = vec![
            Update::Node(live, Some(node(of, NodeState::Live))),
            Update::Volume(number, Some(record(number, live))),
        ];
        self.queue(updates, Vec::new());
        self.flush();
    }

    fn queue(&mut self, updates: Vec<Update>, given_up: Vec<Slot>) {
        self.queued.push(Queued { dirty: Dirty { updates, given_up }, ..Queued::default() });
    }

    fn step(&mut self) {
        let volume = self.chance.below(self.volumes.len() as u64) as usize;
        match self.chance.below(100) {
            0..45 => self.begin_write(volume),
            45..75 => self.end_write(),
            75..80 => self.discard(volume),
            80..84 => self.clear(volume),
            84..91 => self.flush(),
            91..94 => self.reclaim(),
            94..95 => self.delete(),
            95..97 if self.past.len() + self.queued.len() < 6 => self.snapshot(volume),
            97..98 if self.volumes.len() < 4 && !self.past.is_empty() => {
                let which = self.chance.below(self.past.len() as u64) as usize;
                let of = *self.past.keys().nth(which).expect("below their number");
                self.add_volume(Some(of));
            }
            _ => self.check_now(volume),
        }
    }

    fn some_blocks(&mut self) -> (u64, std::ops::Range<usize>) {
        let extent = USED[self.chance.below(USED.len() as u64) as usize];
        let first = self.chance.below(BLOCKS as u64) as usize;
        let count = 1 + self.chance.below((BLOCKS - first) as u64) as usize;
        (extent, first..first + count)
    }

    fn is_busy(&self, volume: usize, extent: u64) -> bool {
        self.under_way.iter().any(|write| (write.volume, write.extent) == (volume, extent))
    }

    fn begin_write(&mut self, volume: usize) {
        let (extent, blocks) = self.some_blocks();
        if self.is_busy(volume, extent) {
            return;
        }
        let map = &mut self.volumes[volume].map;
        if map.target(extent, blocks.clone()) == Target::NeedsSlot {
            let Some(slot) = self.slots.take() else {
                self.tally.full += 1;
                return;
            };
            map.adopt(extent, slot);
        }
        let Target::Slot { slot, present } = map.target(extent, blocks.clone()) else {
            unreachable!("it has one now")
        };
        let value = self.number();
        for block in blocks.clone() {
            let at = (extent, block);
            self.volumes[volume].expected.get_mut(&at).expect("used").under_way = Some(value);
        }
        if self.planted == Some(Planted::EarlyBit) {
            self.volumes[volume].map.written(extent, slot, blocks.clone());
        }
        self.under_way.push(Write { volume, extent, blocks, slot, present, value });
    }

    fn end_write(&mut self) {
        if !self.under_way.is_empty() {
            let which = self.chance.below(self.under_way.len() as u64) as usize;
            self.end(which);
        }
    }

    /// A write ends, block by block at the device.
    fn end(&mut self, which: usize) {
        let Write { volume, extent, blocks, slot, present, value } =
            self.under_way.swap_remove(which);
        for block in blocks.clone() {
            self.disk.write(slot, block, value);
            if self.one_in(4) {
                self.cut();
            }
        }
        let live = &mut self.volumes[volume];
        if !present {
            live.map.written(extent, slot, blocks.clone());
        }
        for block in blocks {
            let expected = live.expected.get_mut(&(extent, block)).expect("used");
            expected.possible.push(value);
            expected.under_way = None;
        }
        self.cut();
    }

    fn discard(&mut self, volume: usize) {
        let (extent, _) = self.some_blocks();
        if !self.is_busy(volume, extent) {
            self.volumes[volume].map.clear(extent);
            self.zeros(volume, extent, 0..BLOCKS);
        }
    }

    fn clear(&mut self, volume: usize) {
        let (extent, blocks) = self.some_blocks();
        if !self.is_busy(volume, extent)
            && self.volumes[volume].map.clear_blocks(extent, blocks.clone(), false)
        {
            self.zeros(volume, extent, blocks);
        }
    }

    fn zeros(&mut self, volume: usize, extent: u64, blocks: std::ops::Range<usize>) {
        for block in blocks {
            self.volumes[volume].expected.get_mut(&(extent, block)).expect("used").possible.push(0);
        }
        self.check_now(volume);
        self.cut();
        if self.planted == Some(Planted::EarlyReuse) {
            let Dirty { updates, given_up } = self.volumes[volume].map.take_dirty();
            given_up.into_iter().for_each(|slot| self.slots.give(slot));
            self.queue(updates, Vec::new());
        }
    }

    fn snapshot(&mut self, volume: usize) {
        while self.planted != Some(Planted::WriteIntoThePast)
            && let Some(which) = self.under_way.iter().position(|write| write.volume == volume)
        {
            self.end(which);
        }
        self.tally.snapshots += 1;
        let next = self.number();
        let live = &mut self.volumes[volume];
        let (number, past) = (live.number, live.map.node());
        let mut dirty = live.map.move_on(next);
        let name = format!("snapshot-{past}");
        let state = NodeState::Snapshot { volume: number, name, taken_s: 0, uuid: None };
        let parent = self.parent(past);
        dirty.updates.extend([
            Update::Node(past, Some(node(parent, state))),
            Update::Node(next, Some(node(Some(past), NodeState::Live))),
            Update::Volume(number, Some(record(number, next))),
        ]);
        let live = &self.volumes[volume];
        let held = live.expected.iter().map(|(at, expected)| (*at, expected.now())).collect();
        self.queued.push(Queued { dirty, taken: Past::from([(past, held)]), deleted: None });
        self.cut();
    }

    /// A snapshot is deleted: from then on it is taken apart.
    fn delete(&mut self) {
        let which = self.chance.below(self.past.len().max(1) as u64) as usize;
        let Some(deleted) = self.past.keys().nth(which).copied() else { return };
        let leaving = node(self.parent(deleted), NodeState::Leaving);
        let updates = vec![Update::Node(deleted, Some(leaving))];
        let dirty = Dirty { updates, given_up: Vec::new() };
        self.queued.push(Queued { dirty, taken: Past::new(), deleted: Some(deleted) });
        self.flush();
    }

    /// A step of taking a node apart that leaves.
    fn reclaim(&mut self) {
        self.flush();
        let visible = self.planted == Some(Planted::MergeOfTheVisible);
        let goes = |node: &NodeRecord| match node.state {
            NodeState::Leaving => true,
            NodeState::Snapshot { .. } => visible,
            NodeState::Live => false,
        };
        let nodes = self.contents.nodes.iter().filter(|(_, node)| goes(node));
        let nodes: Vec<u64> = nodes.map(|(number, _)| *number).collect();
        let which = self.chance.below(nodes.len().max(1) as u64) as usize;
        let Some(leaves) = nodes.get(which).copied() else { return };
        let children = self.contents.nodes.iter().filter(|(_, node)| node.parent == Some(leaves));
        let children: Vec<u64> = children.map(|(number, _)| *number).collect();
        match children[..] {
            [] => self.drop_node(leaves),
            [child] => self.merge_into(leaves, child),
            _ => return,
        }
        self.flush();
    }

    fn drop_node(&mut self, leaves: u64) {
        let map = node_map(&self.contents, leaves);
        let row = |(extent, _)| Update::Row((leaves, map.row_of(extent).0), Box::default());
        let mut updates: Vec<Update> = map.entries().map(row).collect();
        updates.push(Update::Node(leaves, None));
        self.tally.gone += 1;
        self.queue(updates, map.entries().filter_map(|(_, entry)| entry.slot()).collect());
    }

    /// Merges some extents of a node into its only child.
    fn merge_into(&mut self, leaves: u64, child: u64) {
        let mut parent = node_map(&self.contents, leaves);
        let mut frozen = node_map(&self.contents, child);
        let live = self.volumes.iter().position(|live| live.map.node() == child);
        let (mut updates, mut given_up) = (Vec::new(), Vec::new());
        let mut extents: Vec<(u64, Entry)> = parent.entries().collect();
        extents.sort_by_key(|(extent, _)| *extent);
        for (extent, below) in extents {
            let busy = live.is_some_and(|volume| self.is_busy(volume, extent));
            if busy || self.one_in(3) {
                continue;
            }
            let above = match live {
                Some(volume) => self.volumes[volume].map.own(extent),
                None => frozen.get(extent),
            };
            let merged = merge(below, above);
            self.tally.merged += 1;
            self.copy(merged.copy);
            parent.set(extent, Entry::Nothing);
            let (chunk, row) = parent.row_of(extent);
            updates.push(Update::Row((leaves, chunk), Box::new(row)));
            if let Some(volume) = live {
                self.volumes[volume].map.absorb(extent, &merged);
            } else {
                given_up.extend(merged.given_up);
                frozen.set(extent, merged.entry);
                let (chunk, row) = frozen.row_of(extent);
                updates.push(Update::Row((child, chunk), Box::new(row)));
            }
        }
        let done = parent.entries().next().is_none();
        if done {
            self.tally.gone += 1;
            let above = self.contents.nodes[&leaves].parent;
            let record = NodeRecord { parent: above, ..self.contents.nodes[&child].clone() };
            updates.extend([Update::Node(child, Some(record)), Update::Node(leaves, None)]);
        }
        let (parent, frozen) = (Arc::new(parent), Arc::new(frozen));
        for volume in &mut self.volumes {
            volume.map.replace(child, Some(frozen.clone()));
            volume.map.replace(leaves, (!done).then(|| parent.clone()));
        }
        self.queue(updates, given_up);
    }

    fn copy(&mut self, copy: Option<Copy>) {
        let Some(Copy { from, to, blocks }) = copy else { return };
        for block in (0..BLOCKS).filter(|block| blocks.has(*block)) {
            self.tally.copied += 1;
            let value = self.disk.read(from, block);
            self.disk.write(to, block, value);
            self.cut();
        }
    }

    /// The parent of a node whose record may wait for its commit.
    fn parent(&self, of: u64) -> Option<u64> {
        let queued = self.queued.iter().rev().flat_map(|queued| queued.dirty.updates.iter());
        let waiting = queued.filter_map(|update| match update {
            Update::Node(number, Some(record)) if *number == of => Some(record.parent),
            _ => None,
        });
        waiting.chain(self.contents.nodes.get(&of).map(|record| record.parent)).next().flatten()
    }

    /// One commit for all volumes, in the order of the page.
    fn flush(&mut self) {
        let mut all = std::mem::take(&mut self.queued);
        for live in &mut self.volumes {
            all.push(Queued { dirty: live.map.take_dirty(), ..Queued::default() });
        }
        // A Flush covers what has ended by now.
        let ended: Vec<BTreeMap<At, usize>> = self
            .volumes
            .iter()
            .map(|live| live.expected.iter().map(|(at, e)| (*at, e.possible.len() - 1)).collect())
            .collect();
        self.cut();
        let early = self.planted == Some(Planted::CommitBeforeFlush);
        if !early {
            self.disk.flush();
            self.cut();
        }
        let mut given_up = Vec::new();
        for Queued { dirty, taken, deleted } in all {
            dirty.updates.iter().for_each(|update| self.contents.apply(update));
            given_up.extend(dirty.given_up);
            self.past.extend(taken);
            self.past.retain(|node, _| Some(*node) != deleted);
        }
        self.cut();
        if early {
            self.disk.flush();
        }
        given_up.into_iter().for_each(|slot| self.slots.give(slot));
        for (live, ended) in self.volumes.iter_mut().zip(ended) {
            for (at, expected) in &mut live.expected {
                expected.possible.drain(..ended[at]);
            }
        }
        let named = self.contents.rows.values().flat_map(|row| row.entries());
        let named = named.filter(|entry| entry.slot().is_some()).count() as u64;
        assert_eq!(self.slots.total() - self.slots.free(), named, "space is exact");
        self.cut();
    }

    /// A volume reads as it should.
    fn check_now(&mut self, volume: usize) {
        let live = &self.volumes[volume];
        for ((extent, block), expected) in &live.expected {
            let value = read(&live.map, &self.disk, *extent, *block);
            assert_eq!(value, expected.now(), "block {block} of extent {extent} now");
        }
    }

    /// The power goes, and comes back: somewhere else, so that this run goes on.
    fn cut(&mut self) {
        self.tally.images += 1;
        let disk = self.disk.after_power_cut(&mut self.chance);
        self.contents.check().expect("every commit keeps it");
        let mut slots = all_slots();
        for row in self.contents.rows.values() {
            for slot in row.entries().filter_map(|entry| entry.slot()) {
                assert!(slots.claim(slot), "space is exact");
            }
        }
        for (number, volume) in &self.contents.volumes {
            let live = self.volumes.iter().find(|live| live.number == *number).expect("kept");
            let map = open(&self.contents, volume.node);
            for ((extent, block), expected) in &live.expected {
                let value = read(&map, &disk, *extent, *block);
                let possible =
                    expected.possible.contains(&value) || expected.under_way == Some(value);
                assert!(
                    possible,
                    "block {block} of extent {extent} holds {value} after a power cut, not one of \
                     {expected:?}"
                );
            }
        }
        for (node, held) in &self.past {
            let map = open(&self.contents, *node);
            for ((extent, block), value) in held {
                assert_eq!(read(&map, &disk, *extent, *block), *value, "a snapshot has changed");
            }
        }
    }
}

fn read(map: &Volume, disk: &Disk, extent: u64, block: usize) -> Value {
    match map.find(extent, block) {
        Source::Zeros => 0,
        Source::Slot(slot) => disk.read(slot, block),
    }
}

fn node_map(contents: &Contents, node: u64) -> NodeMap {
    let rows = contents.rows.range((node, 0)..=(node, u32::MAX));
    NodeMap::new(rows.map(|((_, chunk), row)| (*chunk, row.clone())))
}

/// A node and those behind it.
fn chain(contents: &Contents, node: u64) -> Vec<(u64, Arc<NodeMap>)> {
    let parent = |node: &u64| contents.nodes[node].parent;
    std::iter::successors(Some(node), parent)
        .map(|node| (node, Arc::new(node_map(contents, node))))
        .collect()
}

fn open(contents: &Contents, node: u64) -> Volume {
    let behind = contents.nodes[&node].parent.map_or(Vec::new(), |parent| chain(contents, parent));
    Volume::new(node, node_map(contents, node), behind)
}

fn run(seed: u64, planted: Option<Planted>) -> Tally {
    let mut world = World::new(seed, planted);
    for _ in 0..600 {
        world.step();
    }
    world.tally
}

fn env(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[test]
fn nothing_flushed_is_lost_and_nothing_foreign_is_seen() {
    let seeds = env("VOLUME_SEEDS", 200);
    let mut tally = Tally::default();
    (1..=seeds).for_each(|seed| tally.add(run(seed, None)));
    println!("{tally:?}");
    let Tally { images, full, snapshots, merged, copied, gone } = tally;
    assert!(images > seeds * 250 && full > 0 && snapshots > 0);
    assert!(merged > 0 && copied > 0 && gone > 0, "snapshots are taken apart");
}

/// Whether some run with the bug in it is noticed.
fn is_caught(planted: Planted) {
    let noticed = |seed| std::panic::catch_unwind(|| run(seed, Some(planted))).is_err();
    assert!((1..40).any(noticed), "nobody notices {planted:?}");
}

#[test]
fn the_checker_catches_a_commit_before_the_flush() {
    is_caught(Planted::CommitBeforeFlush);
}

#[test]
fn the_checker_catches_a_slot_that_is_used_again_too_early() {
    is_caught(Planted::EarlyReuse);
}

#[test]
fn the_checker_catches_blocks_that_count_before_they_are_written() {
    is_caught(Planted::EarlyBit);
}

#[test]
fn the_checker_catches_a_write_into_a_snapshot() {
    is_caught(Planted::WriteIntoThePast);
}

#[test]
fn the_checker_catches_a_snapshot_that_is_merged_while_it_is_there() {
    is_caught(Planted::MergeOfTheVisible);
}
