//! Whether a file or block device gives back what is not needed, and does it well.

use crate::device::{Device, Kind};
use crate::sys;
use bdev::Discards;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is given back is seldom more than an extent of a pool in one piece: of a device that gives
/// back larger units nothing would come.
const LARGEST_UNIT_BYTES: u64 = 1 << 20;

/// Bytes of the unit in which `stat` counts what a file takes.
const STAT_BYTES: u64 = 512;

/// Whether Deallocate gives space back.
pub(crate) fn can_deallocate(device: &Device, size: u64) -> bool {
    match device.kind {
        Kind::File => sys::punches_holes(&device.file, size),
        Kind::Block => queue_of(device).is_some_and(|queue| takes_discards(&queue)),
    }
}

/// What giving back does to an open device, of which it is known whether it deallocates.
pub(crate) fn of(device: &Device, deallocates: bool) -> Discards {
    match device.kind {
        _ if device.read_only => Discards::Never("it is read only".to_owned()),
        Kind::File if !deallocates => {
            Discards::Never("its file system cannot make holes in files".to_owned())
        }
        Kind::File => of_file(device.file.metadata().ok()),
        Kind::Block => match queue_of(device) {
            Some(queue) => of_queue(&queue),
            None => Discards::Never("the kernel does not tell whether it discards".to_owned()),
        },
    }
}

/// A loop device makes holes in its file, whatever that lies on.
fn is_loop(queue: &Path) -> bool {
    queue.join("../loop/backing_file").exists()
}

/// Whoever had the space of a file set aside (`fallocate`) means to keep it. One that was written
/// has holes all the same: a pool never writes everywhere.
fn of_file(meta: Option<Metadata>) -> Discards {
    match meta {
        Some(meta) if meta.blocks() * STAT_BYTES >= meta.len() => Discards::Badly(
            "all of its space was set aside, and would be anybody's when it is given back"
                .to_owned(),
        ),
        _ => Discards::Well("its file is sparse, and its file system makes holes".to_owned()),
    }
}

/// The folder in which the kernel says how it reaches a disk.
fn queue_of(device: &Device) -> Option<PathBuf> {
    let (major, minor) = sys::major_minor(device.file.metadata().ok()?.rdev());
    let disk = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    // A partition has none of its own: its parent has.
    [disk.join("queue"), disk.join("../queue")].into_iter().find(|queue| queue.is_dir())
}

fn number(queue: &Path, name: &str) -> u64 {
    let text = std::fs::read_to_string(queue.join(name)).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn takes_discards(queue: &Path) -> bool {
    number(queue, "discard_max_bytes") > 0
}

fn of_queue(queue: &Path) -> Discards {
    let unit = number(queue, "discard_granularity");
    if !takes_discards(queue) || unit == 0 {
        Discards::Never("the disk takes no discards".to_owned())
    } else if number(queue, "rotational") != 0 && !is_loop(queue) {
        Discards::Badly("it is a rotating disk, which has no use for it".to_owned())
    } else if unit > LARGEST_UNIT_BYTES {
        Discards::Badly(format!("the disk gives back no less than {unit} bytes at once"))
    } else {
        Discards::Well(format!("the disk takes discards of {unit} bytes and more"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(max: u64, unit: u64, rotational: u64) -> Discards {
        let folder = tempfile::tempdir().unwrap();
        let files =
            [("discard_max_bytes", max), ("discard_granularity", unit), ("rotational", rotational)];
        for (name, value) in files {
            std::fs::write(folder.path().join(name), format!("{value}\n")).unwrap();
        }
        of_queue(folder.path())
    }

    #[test]
    fn disks_say_what_they_do_well() {
        assert!(matches!(queue(1 << 32, 512, 0), Discards::Well(_)));
        assert!(matches!(queue(1 << 32, 1 << 20, 0), Discards::Well(_)));
        assert!(matches!(queue(1 << 32, 2 << 20, 0), Discards::Badly(_)));
        assert!(matches!(queue(1 << 32, 4096, 1), Discards::Badly(_)));
        assert!(matches!(queue(0, 4096, 0), Discards::Never(_)));
        assert!(matches!(queue(1 << 32, 0, 0), Discards::Never(_)));
        let nothing = tempfile::tempdir().unwrap();
        assert!(matches!(of_queue(nothing.path()), Discards::Never(_)));
    }
}
