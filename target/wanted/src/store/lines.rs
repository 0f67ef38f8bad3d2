//! The lines of the log: see `FORMAT.md`.

use super::Revision;
use crate::change::{Item, Key};
use crc_fast::CrcAlgorithm::{Crc32Iscsi, Crc64Nvme};
use serde::{Deserialize, Serialize};

/// The format that this version writes.
pub(crate) const FORMAT: u32 = 1;

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Head {
    pub format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub converted: Option<Digest>,
}

/// What every format has in its first line.
#[derive(Deserialize)]
struct AnyHead {
    format: u32,
}

/// What tells a file from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Digest {
    pub bytes: u64,
    pub crc64: String,
}

impl Digest {
    pub fn of(content: &[u8]) -> Digest {
        let crc64 = format!("{:016x}", crc_fast::checksum(Crc64Nvme, content));
        Digest { bytes: content.len() as u64, crc64 }
    }
}

/// Every other line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub revision: Revision,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unset: Vec<Key>,
    pub set: Vec<Item>,
}

fn crc(json: &[u8]) -> u32 {
    // 32 bits of a checksum of 32 bits.
    crc_fast::checksum(Crc32Iscsi, json) as u32
}

/// A line with its checksum and its newline.
pub(crate) fn line(value: &impl Serialize) -> Result<Vec<u8>, String> {
    let json = serde_json::to_vec(value).map_err(|error| error.to_string())?;
    let mut line = format!("{:08x} ", crc(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

/// The JSON of a line without its newline, if the line is good.
fn good(line: &[u8]) -> Option<&[u8]> {
    let (sum, json) = line.split_at_checked(9)?;
    let (digits, space) = sum.split_at(8);
    let is_hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    if space != b" " || !digits.iter().all(is_hex) {
        return None;
    }
    let said = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (said == crc(json)).then_some(json)
}

/// What was read of a log.
pub(crate) struct Read {
    pub head: Head,
    pub records: Vec<Record>,
    /// Bytes of the good lines; what is behind them never counted.
    pub good_bytes: usize,
    /// Bytes of the first two lines.
    pub whole_bytes: usize,
}

/// Reads a log.
///
/// # Errors
/// What is wrong, as the end of a sentence that begins with the file.
pub(crate) fn read(content: &[u8]) -> Result<Read, String> {
    let (mut jsons, mut good_bytes, mut whole_bytes) = (Vec::new(), 0, 0);
    let mut at = 0;
    let mut bad = None;
    for (number, line) in (1..).zip(content.split_inclusive(|byte| *byte == b'\n')) {
        at += line.len();
        match line.strip_suffix(b"\n").and_then(good) {
            Some(json) => {
                if let Some(bad) = bad {
                    return Err(format!("is damaged: line {bad} is not as it was written"));
                }
                jsons.push((number, json));
                good_bytes = at;
                if number == 2 {
                    whole_bytes = at;
                }
            }
            None => bad = bad.or(Some(number)),
        }
    }
    let mut jsons = jsons.into_iter();
    let (Some((_, head)), Some(first)) = (jsons.next(), jsons.next()) else {
        return Err("is damaged: its first two lines are not there".into());
    };
    let head = read_head(head)?;
    let mut records: Vec<Record> = Vec::new();
    for (number, json) in std::iter::once(first).chain(jsons) {
        let damaged = |why: String| format!("is damaged: line {number}: {why}");
        let record: Record =
            serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))?;
        let next = records.last().map(|last| last.revision.wrapping_add(1));
        if next.is_some_and(|next| next != record.revision) {
            return Err(damaged(format!("revision {} does not follow", record.revision)));
        }
        records.push(record);
    }
    Ok(Read { head, records, good_bytes, whole_bytes })
}

fn read_head(json: &[u8]) -> Result<Head, String> {
    let damaged = |error: serde_json::Error| format!("is damaged: line 1: {error}");
    let AnyHead { format } = serde_json::from_slice(json).map_err(damaged)?;
    if format != FORMAT {
        return Err(format!("is of format {format}, and this program knows {FORMAT}"));
    }
    serde_json::from_slice(json).map_err(damaged)
}
