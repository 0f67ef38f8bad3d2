//! Who changed what: one JSON object a line, appended, and rotated by size.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use webui_model::AuditRecord;

/// Rotated files kept beside the one that is written.
const KEPT: u32 = 4;
/// The longest path that is recorded, in bytes.
const PATH_BYTES: usize = 1024;

struct Current {
    file: File,
    bytes: u64,
}

/// The log.
pub struct AuditLog {
    path: PathBuf,
    limit_bytes: u64,
    current: Mutex<Current>,
}

fn open(path: &Path) -> io::Result<Current> {
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    let mut bytes = file.metadata()?.len();
    if bytes > 0 {
        let mut last = [0];
        file.read_exact_at(&mut last, bytes - 1)?;
        if last != *b"\n" {
            // A power cut has torn the last line: the next one stays apart from it.
            file.write_all(b"\n")?;
            bytes += 1;
        }
    }
    Ok(Current { file, bytes })
}

impl AuditLog {
    /// Opens the log at `path`, which is rotated when it is larger than `limit_bytes`.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path, limit_bytes: u64) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), limit_bytes, current: Mutex::new(open(path)?) })
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{number}"));
        self.path.with_file_name(name)
    }

    fn rotate(&self) -> io::Result<Current> {
        for number in (1..KEPT).rev() {
            match std::fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&self.path, self.numbered(1))?;
        open(&self.path)
    }

    /// Appends a record; it is on disk when this returns.
    ///
    /// # Errors
    /// What the file system says.
    pub fn append(&self, mut record: AuditRecord) -> io::Result<()> {
        if record.path.len() > PATH_BYTES {
            let end = (0..=PATH_BYTES).rev().find(|end| record.path.is_char_boundary(*end));
            record.path.truncate(end.unwrap_or(0));
        }
        let mut line = serde_json::to_vec(&record).map_err(io::Error::other)?;
        line.push(b'\n');
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.bytes > 0 && current.bytes + line.len() as u64 > self.limit_bytes {
            *current = self.rotate()?;
        }
        current.file.write_all(&line)?;
        current.bytes += line.len() as u64;
        current.file.sync_data()
    }

    /// The newest records, newest first. A line that a power cut has torn is left out.
    ///
    /// # Errors
    /// What the file system says.
    pub fn newest(&self, limit: usize) -> io::Result<Vec<AuditRecord>> {
        let _no_rotation = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let files = std::iter::once(self.path.clone()).chain((1..=KEPT).map(|n| self.numbered(n)));
        let mut found = Vec::new();
        for file in files {
            if found.len() >= limit {
                break;
            }
            let bytes = match std::fs::read(&file) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            let records = bytes.split(|b| *b == b'\n').rev();
            let records = records.filter_map(|line| serde_json::from_slice(line).ok());
            found.extend(records.take(limit - found.len()));
        }
        Ok(found)
    }
}
