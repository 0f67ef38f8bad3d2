//! What the journals of a process that was killed say beyond what is durable (`FORMAT.md`, "The
//! journal").

use super::{ENTRY_WORDS, HEAD_WORDS, LINE_HEAD_WORDS, LINE_WORDS, MAGIC};
use crate::entry::{EXTENTS_PER_ROW, Entry, NotARow, Row};
use crate::record::{NodeRecord, NodeState, VolumeRecord};
use crate::store::{Contents, RowKey, StoreError, Update};
use std::collections::BTreeMap;

/// A row as a journal has it.
struct Line {
    order: u64,
    parent: Option<u64>,
    row: Row,
}

fn damaged(what: String) -> StoreError {
    StoreError::Damaged("journal", what)
}

/// The lines of a journal, by row: of two for one row the later.
fn lines(words: &[u64]) -> Result<BTreeMap<RowKey, Line>, StoreError> {
    let mut rows: BTreeMap<RowKey, Line> = BTreeMap::new();
    for line in words.get(HEAD_WORDS..).unwrap_or(&[]).chunks_exact(LINE_WORDS) {
        let (head, entries) = line.split_at(LINE_HEAD_WORDS);
        let [order, node, parent, chunk, ..] = *head else { unreachable!("as long as a head") };
        if order == 0 {
            continue;
        }
        let chunk = u32::try_from(chunk).map_err(|_| damaged(format!("chunk {chunk}")))?;
        let row = row(entries).map_err(|_| damaged(format!("row {:?}", (node, chunk))))?;
        let parent = parent.checked_sub(1);
        if rows.get(&(node, chunk)).is_none_or(|other| other.order < order) {
            rows.insert((node, chunk), Line { order, parent, row });
        }
    }
    Ok(rows)
}

/// Whether a journal says anything, of whatever session.
pub(crate) fn speaks(words: &[u64]) -> bool {
    let lines = words.get(HEAD_WORDS..).unwrap_or(&[]).chunks_exact(LINE_WORDS);
    words.first() == Some(&MAGIC) && lines.into_iter().any(|line| line[0] != 0)
}

fn row(entries: &[u64]) -> Result<Row, NotARow> {
    let mut row = Row::default();
    for (at, words) in entries.chunks_exact(ENTRY_WORDS).enumerate() {
        row.set(at, Entry::from_words(words)?);
    }
    Ok(row)
}

/// What has to be committed so that `durable` is what the process knew that left these journals.
/// Nothing of journals of other sessions.
///
/// # Errors
/// What a journal says cannot be.
pub(crate) fn replay(durable: &Contents, journals: &[Vec<u64>]) -> Result<Vec<Update>, StoreError> {
    let mut updates = Vec::new();
    for words in journals {
        match words[..] {
            [MAGIC, session, volume, ..] if session == durable.session => {
                // Of a volume that is gone, whatever was written is gone with it.
                if let Some(record) = durable.volumes.get(&volume) {
                    replay_volume(durable, (volume, record), lines(words)?, &mut updates)?;
                }
            }
            // Its making was cut off, or the pool has been opened elsewhere since.
            _ => tracing::warn!("a journal that is not of the pool's last session is left out"),
        }
    }
    if updates.is_empty() {
        return Ok(updates);
    }
    let mut after = durable.clone();
    updates.iter().for_each(|update| after.apply(update));
    after.check()?;
    Ok(updates)
}

fn replay_volume(
    durable: &Contents,
    (volume, record): (u64, &VolumeRecord),
    lines: BTreeMap<RowKey, Line>,
    updates: &mut Vec<Update>,
) -> Result<(), StoreError> {
    let live = record.node;
    let mut went_on = None;
    for ((node, chunk), Line { parent, row, .. }) in lines {
        // What is said of a node that is past was durable before it was.
        let is_next = node > live && !durable.nodes.contains_key(&node);
        if node != live && !is_next {
            continue;
        }
        if is_next && went_on.replace(node).is_none() {
            go_on(durable, (volume, record), (node, parent), updates)?;
        }
        if went_on.is_some_and(|other| is_next && other != node) {
            return Err(damaged(format!("volume {volume} has two nodes that were not durable")));
        }
        let behind = if is_next { parent } else { durable.nodes[&live].parent };
        take_over(durable, behind, (chunk, &row), updates);
        if durable.rows.get(&(node, chunk)) != Some(&row) {
            updates.push(Update::Row((node, chunk), Box::new(row)));
        }
    }
    Ok(())
}

/// The volume had gone on as a child of `parent`, and what it was before was about to be a snapshot
/// or to be left behind. That was not durable, and nobody was told: what the volume was before
/// leaves.
fn go_on(
    durable: &Contents,
    (volume, record): (u64, &VolumeRecord),
    (node, parent): (u64, Option<u64>),
    updates: &mut Vec<Update>,
) -> Result<(), StoreError> {
    let behind = parent.and_then(|parent| durable.nodes.get(&parent));
    let behind = behind.ok_or_else(|| damaged(format!("node {node} has no parent {parent:?}")))?;
    let live = NodeRecord { parent, bytes: behind.bytes, state: NodeState::Live };
    let past = durable.nodes[&record.node].clone();
    updates.extend([
        Update::Node(record.node, Some(NodeRecord { state: NodeState::Leaving, ..past })),
        Update::Node(node, Some(live)),
        Update::Volume(volume, Some(VolumeRecord { node, ..record.clone() })),
    ]);
    Ok(())
}

/// Slots that a row has from nodes behind it, which were merging into it, are theirs no more.
fn take_over(
    durable: &Contents,
    behind: Option<u64>,
    (chunk, row): (u32, &Row),
    updates: &mut Vec<Update>,
) {
    let parent = |node: &u64| durable.nodes.get(node)?.parent;
    for node in std::iter::successors(behind, parent) {
        let Some(theirs) = durable.rows.get(&(node, chunk)) else { continue };
        let mut left = theirs.clone();
        for at in 0..EXTENTS_PER_ROW {
            let slot = theirs.get(at).slot();
            if slot.is_some() && slot == row.get(at).slot() {
                left.set(at, Entry::Nothing);
            }
        }
        if left != *theirs {
            updates.push(Update::Row((node, chunk), Box::new(left)));
        }
    }
}
