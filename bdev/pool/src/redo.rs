//! Rows of the map as the redo log has them, and those that only it has (`FORMAT.md`, "The redo
//! log").

use crate::entry::{NotARow, Row};
use crate::superblock::Superblock;
use crate::update::{RowKey, Update};
use bdev_redb::{RECORD_BYTES, RedoLog, Region};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Bytes before a row: its node, its chunk, its length.
const ROW_HEAD_BYTES: usize = 16;

/// The redo log of a pool's metadata store.
#[derive(Debug)]
pub(crate) struct RowLog {
    log: RedoLog<Superblock>,
    /// Rows that the store does not have yet.
    rows: BTreeMap<RowKey, Box<Row>>,
}

/// What a record says: rows only, and not many. None if they are anything else.
fn encode(updates: &[Update]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for update in updates {
        let Update::Row((node, chunk), row) = update else { return None };
        let row = if row.is_empty() { Vec::new() } else { row.encode() };
        bytes.extend(node.to_le_bytes());
        bytes.extend(chunk.to_le_bytes());
        bytes.extend((row.len() as u32).to_le_bytes());
        bytes.extend(row);
        if bytes.len() > RECORD_BYTES {
            return None;
        }
    }
    Some(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The rows of a record; none if it is damaged.
fn rows_of(entries: u32, bytes: &[u8]) -> Option<Vec<(RowKey, Row)>> {
    let (mut rows, mut at) = (Vec::new(), 0);
    for _ in 0..entries {
        let key = (u64_at(bytes, at)?, u32_at(bytes, at + 8)?);
        let row_length = u32_at(bytes, at + 12)? as usize;
        at += ROW_HEAD_BYTES;
        let row = bytes.get(at..at + row_length)?;
        at += row_length;
        rows.push((key, decode(row).ok()?));
    }
    Some(rows)
}

fn decode(row: &[u8]) -> Result<Row, NotARow> {
    if row.is_empty() { Ok(Row::default()) } else { Row::decode(row) }
}

impl RowLog {
    /// An empty log, whose next record follows number `last`, which the store has.
    pub(crate) fn new(region: Arc<Region<Superblock>>, last: u64) -> RowLog {
        RowLog { log: RedoLog::new(region, last), rows: BTreeMap::new() }
    }

    /// What is in the log behind number `last`, which the store has.
    ///
    /// # Errors
    /// The device's.
    pub(crate) fn open(region: Arc<Region<Superblock>>, last: u64) -> io::Result<RowLog> {
        let mut rows = BTreeMap::new();
        let log = RedoLog::open(region, last, |entries, bytes| {
            let Some(found) = rows_of(entries, bytes) else { return false };
            rows.extend(found.into_iter().map(|(key, row)| (key, Box::new(row))));
            true
        })?;
        Ok(RowLog { log, rows })
    }

    /// Makes `updates` durable. False if they do not belong here, or do not fit: nothing is done.
    ///
    /// # Errors
    /// The device's.
    pub(crate) fn append(&mut self, updates: &[Update]) -> io::Result<bool> {
        let Some(bytes) = encode(updates) else { return Ok(false) };
        if !self.log.append(updates.len() as u32, &bytes)? {
            return Ok(false);
        }
        for update in updates {
            if let Update::Row(key, row) = update {
                self.rows.insert(*key, row.clone());
            }
        }
        Ok(true)
    }

    /// Rows that the store does not have yet.
    pub(crate) fn rows(&self) -> &BTreeMap<RowKey, Box<Row>> {
        &self.rows
    }

    /// The number of the last record.
    pub(crate) fn last(&self) -> u64 {
        self.log.last()
    }

    /// The store has everything that is here, durably.
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.log.clear();
    }
}
