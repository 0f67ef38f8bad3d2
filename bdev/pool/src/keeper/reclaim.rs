//! Nodes that leave are taken apart, a step at a time (`FORMAT.md`, "Snapshots, clones and the
//! rest").

use super::{Keeper, Progress};
use crate::entry::{Entry, Slot};
use crate::error::{Kind, PoolError};
use crate::merge::{Copy, merge};
use crate::record::NodeRecord;
use crate::state::{Mail, Scope, VolumeState};
use crate::store::Update;
use crate::superblock::EXTENT_BYTES;
use crate::volume::NodeMap;
use bdev_redb::BLOCK_BYTES;
use std::sync::Arc;

/// Rows of a node without children that one transaction takes away.
const ROWS_AT_ONCE: usize = 256;

/// Extents that are merged in one transaction.
const EXTENTS_AT_ONCE: usize = 32;

/// What has been reclaimed since there was last nothing to reclaim.
#[derive(Debug, Default)]
pub(super) struct Reclaimed {
    slots: u64,
}

impl Keeper {
    /// A node that can be taken apart, and its only child.
    fn next_leaving(&self) -> Option<(u64, Option<u64>)> {
        let tables = self.directory.tables();
        let node = tables.family.first_ready()?;
        Some((node, tables.family.children(node).next()))
    }

    pub(super) fn can_reclaim(&self) -> bool {
        self.directory.tables().family.first_ready().is_some()
    }

    /// How far the reclaiming has come, if there is anything to reclaim.
    pub(super) fn reclaiming(&self) -> Option<Progress> {
        let (nodes, left) = self.directory.tables().family.ready();
        nodes.checked_sub(1)?;
        let (what, done) = ("reclaiming what was deleted".to_owned(), self.reclaimed.slots);
        Some(Progress { what, device: None, done, total: done + left })
    }

    pub(super) fn step_reclaim(&mut self) -> Result<(), PoolError> {
        let Some((node, child)) = self.next_leaving() else { return Ok(()) };
        let before = self.maps[&node].slots();
        match child {
            None => self.take_apart(node)?,
            Some(child) => self.merge_into(node, child)?,
        }
        let left = self.maps.get(&node).map_or(0, |map| map.slots());
        self.reclaimed.slots += before.saturating_sub(left);
        if !self.can_reclaim() {
            self.reclaimed = Reclaimed::default();
        }
        Ok(())
    }

    /// A node that nobody reads.
    fn take_apart(&mut self, node: u64) -> Result<(), PoolError> {
        let mut map = NodeMap::clone(&self.maps[&node]);
        let chunks: Vec<u32> = map.chunks().take(ROWS_AT_ONCE + 1).collect();
        let last = chunks.len() <= ROWS_AT_ONCE;
        let (mut updates, mut given_up) = (Vec::new(), Vec::new());
        for chunk in chunks.into_iter().take(ROWS_AT_ONCE) {
            given_up.extend(map.take_row(chunk).entries().filter_map(|entry| entry.slot()));
            updates.push(Update::Row((node, chunk), Box::default()));
        }
        if last {
            updates.push(Update::Node(node, None));
        }
        let tree = self.tree(node);
        self.commit(updates)?;
        self.keep_or_drop(node, Arc::new(map), last);
        // Reads that began before it was left behind may be under way.
        self.free_after_operations(given_up, tree);
        Ok(())
    }

    /// A node that is read through its only child goes over into it.
    fn merge_into(&mut self, node: u64, child: u64) -> Result<(), PoolError> {
        let parent = self.maps[&node].clone();
        let extents: Vec<(u64, Entry)> = parent.entries().take(EXTENTS_AT_ONCE).collect();
        let volume = self.directory.tables().owner(child);
        match volume {
            Some(volume) => self.merge_into_live(node, volume, extents),
            None => self.merge_into_past(node, child, extents),
        }
    }

    fn merge_into_live(
        &mut self,
        node: u64,
        volume: u64,
        extents: Vec<(u64, Entry)>,
    ) -> Result<(), PoolError> {
        let mut parent = NodeMap::clone(&self.maps[&node]);
        let mut updates = Vec::new();
        let mut failed = None;
        for (extent, below) in extents {
            let merged = self.hold(&[volume], Scope::Extent(extent));
            let merged =
                merged.and_then(|()| self.merge_extent(node, volume, &mut parent, (extent, below)));
            self.release(&[volume]);
            if let Err(error) = merged {
                // Those before it are said in one transaction with what the volume said.
                failed = Some(error);
                break;
            }
            let (chunk, row) = parent.row_of(extent);
            updates.push(Update::Row((node, chunk), Box::new(row)));
        }
        let child = self.records.volumes[&volume].node;
        let parent = Arc::new(parent);
        let done = parent.entries().next().is_none();
        if done {
            updates.extend(self.bypass(node, child));
            self.with(volume, move |state| state.map.replace(node, None))?;
        }
        self.commit(updates)?;
        self.keep_or_drop(node, parent, done);
        failed.map_or(Ok(()), Err)
    }

    /// One extent, while writes to it wait.
    fn merge_extent(
        &mut self,
        node: u64,
        volume: u64,
        parent: &mut NodeMap,
        (extent, below): (u64, Entry),
    ) -> Result<(), PoolError> {
        let above = self.with(volume, move |state| state.map.own(extent))?;
        let merged = merge(below, above);
        self.copy(merged.copy)?;
        parent.set(extent, Entry::Nothing);
        let map = Arc::new(parent.clone());
        // The parent's slot becomes one of the volume's.
        self.holdings.gain(volume, u64::from(below.slot().is_some()));
        self.with(volume, move |state| {
            state.map.replace(node, Some(map));
            state.map.absorb(extent, &merged);
            state.commit();
        })
    }

    fn merge_into_past(
        &mut self,
        node: u64,
        child: u64,
        extents: Vec<(u64, Entry)>,
    ) -> Result<(), PoolError> {
        let mut parent = NodeMap::clone(&self.maps[&node]);
        let mut frozen = NodeMap::clone(&self.maps[&child]);
        let (mut updates, mut given_up): (Vec<Update>, Vec<Slot>) = (Vec::new(), Vec::new());
        for (extent, below) in extents {
            let merged = merge(below, frozen.get(extent));
            self.copy(merged.copy)?;
            given_up.extend(merged.given_up);
            parent.set(extent, Entry::Nothing);
            frozen.set(extent, merged.entry);
            for (node, map) in [(node, &parent), (child, &frozen)] {
                let (chunk, row) = map.row_of(extent);
                updates.push(Update::Row((node, chunk), Box::new(row)));
            }
        }
        let (parent, frozen) = (Arc::new(parent), Arc::new(frozen));
        let done = parent.entries().next().is_none();
        if done {
            updates.extend(self.bypass(node, child));
        }
        let tree = self.tree(child);
        self.commit(updates)?;
        self.replace_everywhere(child, &frozen);
        self.set_map(child, frozen);
        match done {
            true => self.drop_everywhere(node, tree),
            false => self.replace_everywhere(node, &parent),
        }
        self.keep_or_drop(node, parent, done);
        self.free_after_operations(given_up, tree);
        Ok(())
    }

    /// The child of a node that is empty has the node's parent for its own.
    fn bypass(&self, node: u64, child: u64) -> [Update; 2] {
        let parent = self.node(node).parent;
        let record = NodeRecord { parent, ..self.node(child).clone() };
        [Update::Node(child, Some(record)), Update::Node(node, None)]
    }

    fn keep_or_drop(&mut self, node: u64, map: Arc<NodeMap>, done: bool) {
        match done {
            true => drop(self.take_map(node)),
            false => self.set_map(node, map),
        }
    }

    /// Everybody who reads through a node learns what it says from now on.
    pub(super) fn replace_everywhere(&self, node: u64, map: &Arc<NodeMap>) {
        for (_, view) in self.views.of_tree(self.tree(node)) {
            let map = map.clone();
            let replace = move |state: &mut VolumeState| state.map.replace(node, Some(map));
            view.post(Mail::Run(Box::new(replace)));
        }
    }

    fn drop_everywhere(&self, node: u64, tree: u64) {
        for (_, view) in self.views.of_tree(tree) {
            let drop = move |state: &mut VolumeState| state.map.replace(node, None);
            view.post(Mail::Run(Box::new(drop)));
        }
    }

    /// Copies blocks between slots. It is durable with the next commit.
    pub(super) fn copy(&mut self, copy: Option<Copy>) -> Result<(), PoolError> {
        let Some(Copy { from, to, blocks }) = copy else { return Ok(()) };
        for run in blocks.runs() {
            let mut bytes = vec![0; run.len() * BLOCK_BYTES];
            let at = |keeper: &Keeper, slot: Slot| {
                let member = &keeper.members[&slot.device];
                let offset = slot.number * EXTENT_BYTES + (run.start * BLOCK_BYTES) as u64;
                (member.medium.clone(), member.superblock.data_offset + offset, member.name.clone())
            };
            let failed = |name: String, error: std::io::Error| {
                let why = format!("Blocks on device {name} cannot be copied: {error}.");
                PoolError::new(Kind::Device, why)
            };
            let (medium, offset, name) = at(self, from);
            medium.read(offset, &mut bytes).map_err(|error| failed(name, error))?;
            let (medium, offset, name) = at(self, to);
            medium.write(&[(offset, &bytes)]).map_err(|error| failed(name, error))?;
        }
        Ok(())
    }
}
