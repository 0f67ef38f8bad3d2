//! The redo log: small commits, one after the other, until a transaction of the database takes them
//! all over. What they say is their owner's: bytes here.

use crate::label::{Label, OWNER_BYTES};
use crate::medium::BLOCK_BYTES;
use crate::region::{LOG_BYTES, Region};
use crc_fast::{CrcAlgorithm, checksum};
use std::io;
use std::sync::Arc;

/// A larger record belongs to the database at once: there its contents are written once.
pub const RECORD_BYTES: usize = 64 << 10;

const MAGIC: [u8; 8] = *b"FBREDO01";

/// Bytes before what a record says.
const HEAD_BYTES: usize = 56;

const _: () = assert!(HEAD_BYTES == 16 + OWNER_BYTES + 16);

/// The log behind a database.
#[derive(Debug)]
pub struct RedoLog<L: Label> {
    region: Arc<Region<L>>,
    /// The number of the next record.
    next: u64,
    /// Where it goes, in the log.
    at: u64,
}

/// The first bytes of a record, but for its checksum: what the log belongs to, and its number.
fn head(label: &impl Label, number: u64, entries: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK_BYTES);
    bytes.extend(MAGIC);
    bytes.extend([0; 8]);
    bytes.extend(label.owner());
    bytes.extend(number.to_le_bytes());
    bytes.extend(entries.to_le_bytes());
    bytes.extend([0; 4]);
    bytes
}

fn crc(record: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, &record[16..]) as u32
}

/// The record that says `body`; none if it is too large for one.
fn record(label: &impl Label, number: u64, entries: u32, body: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = head(label, number, entries);
    bytes.extend(body);
    if bytes.len() > RECORD_BYTES {
        return None;
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

/// The length of the record that begins with `block`, if it is the one with this number.
fn length_of(label: &impl Label, number: u64, block: &[u8]) -> Option<usize> {
    let expected = head(label, number, u32_at(block, 48)?);
    let is_ours = block[..8] == expected[..8] && block[16..HEAD_BYTES] == expected[16..];
    let length = u32_at(block, 12)? as usize;
    (is_ours && length >= HEAD_BYTES).then_some(length)
}

impl<L: Label> RedoLog<L> {
    /// An empty log, whose next record follows number `last`, which the database has.
    pub fn new(region: Arc<Region<L>>, last: u64) -> RedoLog<L> {
        RedoLog { region, next: last + 1, at: 0 }
    }

    /// What is in the log behind number `last`, which the database has: `take` is given the number
    /// of entries of each record and what it says, and tells whether it is whole. The log ends
    /// before the first that is not.
    ///
    /// # Errors
    /// The device's.
    pub fn open(
        region: Arc<Region<L>>,
        last: u64,
        mut take: impl FnMut(u32, &[u8]) -> bool,
    ) -> io::Result<RedoLog<L>> {
        let label = region.label();
        let mut log = RedoLog::new(region, last);
        while log.at < LOG_BYTES {
            // Mostly there is one block, or none.
            let mut bytes = vec![0; BLOCK_BYTES];
            log.region.read_log(log.at, &mut bytes)?;
            let length = length_of(&label, log.next, &bytes);
            let Some(length) = length.filter(|length| *length as u64 <= LOG_BYTES - log.at) else {
                break;
            };
            bytes.resize(length.next_multiple_of(BLOCK_BYTES), 0);
            if bytes.len() > BLOCK_BYTES {
                log.region.read_log(log.at, &mut bytes)?;
            }
            let record = &bytes[..length];
            let entries = u32_at(record, 48).expect("it has a head");
            if u32_at(record, 8) != Some(crc(record)) || !take(entries, &record[HEAD_BYTES..]) {
                break;
            }
            log.went_on(length);
        }
        Ok(log)
    }

    fn went_on(&mut self, length: usize) {
        self.next += 1;
        self.at += length.next_multiple_of(BLOCK_BYTES) as u64;
    }

    /// Makes durable what `body` says, in so many entries. False if it does not fit: nothing is
    /// done.
    ///
    /// # Errors
    /// The device's.
    pub fn append(&mut self, entries: u32, body: &[u8]) -> io::Result<bool> {
        let label = self.region.label();
        let Some(mut bytes) = record(&label, self.next, entries, body) else { return Ok(false) };
        let length = bytes.len();
        bytes.resize(length.next_multiple_of(BLOCK_BYTES), 0);
        if self.at + bytes.len() as u64 > LOG_BYTES {
            return Ok(false);
        }
        self.region.write_log(self.at, &bytes)?;
        self.went_on(length);
        Ok(true)
    }

    /// The number of the last record.
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// The database has everything that is here, durably.
    pub fn clear(&mut self) {
        self.at = 0;
    }
}
