//! The redo log: small commits of rows, one after the other, until a transaction of the store takes
//! them all over (`FORMAT.md`, "The redo log").

use crate::backend::Region;
use crate::entry::{NotARow, Row};
use crate::medium::BLOCK_BYTES;
use crate::store::{RowKey, Update};
use crate::superblock::Superblock;
use crc_fast::{CrcAlgorithm, checksum};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Length of the log, at the end of the metadata region, in bytes.
pub(crate) const LOG_BYTES: u64 = 1 << 20;

/// A larger commit goes to the store at once: there its rows are written once.
const RECORD_BYTES: usize = 64 << 10;

const MAGIC: [u8; 8] = *b"FBREDO01";

/// Bytes before the rows of a record.
const HEAD_BYTES: usize = 56;

/// Bytes before a row: its node, its chunk, its length.
const ROW_HEAD_BYTES: usize = 16;

/// The log behind a store.
#[derive(Debug)]
pub(crate) struct RedoLog {
    region: Arc<Region>,
    /// The number of the next record.
    next: u64,
    /// Where it goes, in the log.
    at: u64,
    /// Rows that the store does not have yet.
    rows: BTreeMap<RowKey, Box<Row>>,
}

/// The first bytes of a record, but for its checksum: what the log belongs to, and its number.
fn head(superblock: &Superblock, number: u64, rows: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK_BYTES);
    bytes.extend(MAGIC);
    bytes.extend([0; 8]);
    bytes.extend(superblock.metadata_generation.to_le_bytes());
    bytes.extend(superblock.pool.as_bytes());
    bytes.extend(number.to_le_bytes());
    bytes.extend(rows.to_le_bytes());
    bytes.extend([0; 4]);
    bytes
}

fn crc(record: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, &record[16..]) as u32
}

/// The record of these updates: rows only, and not many. None if they are anything else.
fn record(superblock: &Superblock, number: u64, updates: &[Update]) -> Option<Vec<u8>> {
    let mut bytes = head(superblock, number, u32::try_from(updates.len()).ok()?);
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
    let length = bytes.len() as u32;
    bytes[12..16].copy_from_slice(&length.to_le_bytes());
    let crc = crc(&bytes);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    Some(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The length of the record that begins with `block`, if it is the one with this number.
fn length_of(superblock: &Superblock, number: u64, block: &[u8]) -> Option<usize> {
    let expected = head(superblock, number, u32_at(block, 48)?);
    let is_ours = block[..8] == expected[..8] && block[16..HEAD_BYTES] == expected[16..];
    let length = u32_at(block, 12)? as usize;
    (is_ours && length >= HEAD_BYTES).then_some(length)
}

/// The rows of a record; none if it is damaged, or was not written to its end.
fn rows_of(bytes: &[u8]) -> Option<Vec<(RowKey, Row)>> {
    if u32_at(bytes, 8)? != crc(bytes) {
        return None;
    }
    let (mut rows, mut at) = (Vec::new(), HEAD_BYTES);
    for _ in 0..u32_at(bytes, 48)? {
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

impl RedoLog {
    /// An empty log, whose next record follows number `last`, which the store has.
    pub(crate) fn new(region: Arc<Region>, last: u64) -> RedoLog {
        RedoLog { region, next: last + 1, at: 0, rows: BTreeMap::new() }
    }

    /// What is in the log behind number `last`, which the store has.
    ///
    /// # Errors
    /// The device's.
    pub(crate) fn open(region: Arc<Region>, last: u64) -> io::Result<RedoLog> {
        let superblock = region.superblock();
        let mut log = RedoLog::new(region, last);
        while log.at < LOG_BYTES {
            // Mostly there is one block, or none.
            let mut bytes = vec![0; BLOCK_BYTES];
            log.region.read_log(log.at, &mut bytes)?;
            let length = length_of(&superblock, log.next, &bytes);
            let Some(length) = length.filter(|length| *length as u64 <= LOG_BYTES - log.at) else {
                break;
            };
            bytes.resize(length.next_multiple_of(BLOCK_BYTES), 0);
            if bytes.len() > BLOCK_BYTES {
                log.region.read_log(log.at, &mut bytes)?;
            }
            let Some(rows) = rows_of(&bytes[..length]) else { break };
            log.rows.extend(rows.into_iter().map(|(key, row)| (key, Box::new(row))));
            log.went_on(length);
        }
        Ok(log)
    }

    fn went_on(&mut self, length: usize) {
        self.next += 1;
        self.at += length.next_multiple_of(BLOCK_BYTES) as u64;
    }

    /// Makes `updates` durable. False if they do not belong here, or do not fit: nothing is done.
    ///
    /// # Errors
    /// The device's.
    pub(crate) fn append(&mut self, updates: &[Update]) -> io::Result<bool> {
        let superblock = self.region.superblock();
        let Some(mut bytes) = record(&superblock, self.next, updates) else { return Ok(false) };
        let length = bytes.len();
        bytes.resize(length.next_multiple_of(BLOCK_BYTES), 0);
        if self.at + bytes.len() as u64 > LOG_BYTES {
            return Ok(false);
        }
        self.region.write_log(self.at, &bytes)?;
        self.went_on(length);
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
        self.next - 1
    }

    /// The store has everything that is here, durably.
    pub(crate) fn clear(&mut self) {
        self.rows.clear();
        self.at = 0;
    }
}
