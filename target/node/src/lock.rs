//! The data directory belongs to one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The lock of a data directory. It ends with this, or with the process.
#[derive(Debug)]
pub struct DirectoryLock {
    file: File,
}

impl DirectoryLock {
    /// The name of the file in the data directory.
    pub const NAME: &str = "lock";

    /// Takes the lock of `folder`.
    ///
    /// # Errors
    /// A sentence: another process has it, or the file cannot be made.
    pub fn take(folder: &Path) -> Result<DirectoryLock, String> {
        let path = folder.join(Self::NAME);
        let options = &mut OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let failed =
            |error: std::io::Error| format!("{} cannot be locked: {error}.", path.display());
        let mut file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                // For people only: without space there is no number.
                let noted = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
                if let Err(error) = noted {
                    tracing::warn!(path = %path.display(), %error, "a process number is not noted");
                }
                Ok(DirectoryLock { file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut number = String::new();
                // As above.
                let _ = file.rewind().and_then(|()| file.read_to_string(&mut number));
                let who = match number.trim() {
                    "" => String::new(),
                    number => format!(" (process {number})"),
                };
                Err(format!(
                    "The data directory {} is in use by another forebay{who}: stop that one, or \
                     give this one another with --data-dir.",
                    folder.display()
                ))
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Also where a child process that is being started has the descriptor for a moment.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = DirectoryLock::take(folder.path()).unwrap();
        let why = DirectoryLock::take(folder.path()).unwrap_err();
        let number = std::process::id().to_string();
        assert!(why.contains("in use by another forebay") && why.contains(&number), "{why}");
        drop(first);
        DirectoryLock::take(folder.path()).unwrap();
    }
}
