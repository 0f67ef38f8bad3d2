//! How much space a log may take.

use std::io;
use std::path::Path;

/// What a log may take, in bytes and files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The largest file.
    pub segment_bytes: u64,
    /// Full files kept beside the one that is written.
    pub kept: u32,
    /// Space kept ahead of what is written, and again for the next file; at most a segment.
    pub reserve_bytes: u64,
}

impl Quota {
    /// All of its files, and what is kept for the next.
    pub fn bytes(&self) -> u64 {
        self.segment_bytes * (u64::from(self.kept) + 1) + self.reserve_bytes
    }
}

/// All logs take at most this share of their file system.
const SHARE: u64 = 4;
/// Files kept of changes, and of requests that changed nothing.
const KEPT: (u32, u32) = (4, 1);
/// The largest files of both.
const MOST_BYTES: (u64, u64) = (16 << 20, 4 << 20);
/// Enough for thousands of changes, whoever has filled the file system.
const RESERVE_BYTES: u64 = 2 << 20;
/// A line with its body has to fit, also where the file system is tiny.
const LEAST_BYTES: u64 = 64 << 10;

fn parts(total_bytes: u64) -> (Quota, Quota) {
    let quarter = total_bytes / SHARE;
    let quota = |bytes: u64, kept: u32, most: u64| {
        // One more for the reserve, which is at most a segment.
        let segment_bytes = (bytes / u64::from(kept + 2)).clamp(LEAST_BYTES, most);
        Quota { segment_bytes, kept, reserve_bytes: segment_bytes.min(RESERVE_BYTES) }
    };
    (
        quota(quarter / 4 * 3, KEPT.0, MOST_BYTES.0),
        Quota { reserve_bytes: 0, ..quota(quarter / 4, KEPT.1, MOST_BYTES.1) },
    )
}

/// What the log of changes, and that of requests that changed nothing, may take in this folder:
/// together a quarter of its file system, and 100 MiB where that is large.
///
/// # Errors
/// What the file system says.
pub fn of_file_system(folder: &Path) -> io::Result<(Quota, Quota)> {
    let told = rustix::fs::statvfs(folder)?;
    Ok(parts(told.f_blocks.saturating_mul(told.f_frsize)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_take_a_quarter_at_most() {
        for mib in [1, 2, 8, 64, 256, 1 << 20] {
            let (changes, access) = parts(mib << 20);
            let all = changes.bytes() + access.bytes();
            assert!(mib < 4 || all <= (mib << 20) / 4, "{mib}: {changes:?} {access:?}");
            assert!(all <= 100 << 20);
            assert!(changes.reserve_bytes <= changes.segment_bytes);
        }
        let (changes, access) = parts(64 << 20);
        assert_eq!((changes.segment_bytes, access.segment_bytes), (2 << 20, (4 << 20) / 3));
    }
}
