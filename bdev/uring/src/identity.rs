//! What tells a file or block device from a copy of what is in it.

use crate::device::Kind;
use crate::sys;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// Where sysfs has the name that a disk gives itself: NVMe and SCSI, then virtio and others, then
/// the kernel's own layers.
const NAMES: [&str; 7] =
    ["wwid", "device/wwid", "serial", "device/serial", "dm/uuid", "md/uuid", "nguid"];

/// The identity of what `file` is open on; none where the kernel does not tell.
pub(crate) fn of(file: &File, kind: Kind) -> Option<String> {
    let meta = file.metadata().ok()?;
    match kind {
        Kind::File => Some(of_file(&meta)),
        Kind::Block => {
            let (major, minor) = sys::major_minor(meta.rdev());
            let folder = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
            let sequence = || Some(format!("disk number {}", sys::disk_sequence(file).ok()?));
            of_disk(&folder).or_else(sequence)
        }
    }
}

/// Device, inode, and when it was made: the number of a file that is gone is given to the next.
fn of_file(meta: &Metadata) -> String {
    let made = meta.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
    let made = made.map_or(0, |made| made.as_nanos());
    let (major, minor) = sys::major_minor(meta.dev());
    format!("file {} of device {major}:{minor} made at {made}", meta.ino())
}

/// The name that a disk gives itself, with the partition; of a loop device its file's.
fn of_disk(folder: &Path) -> Option<String> {
    let read = |name: &str| {
        let text = std::fs::read_to_string(folder.join(name)).ok()?;
        Some(text.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|text| !text.is_empty())
    };
    if let Some(partition) = read("partition") {
        let start = read("start")?;
        return Some(format!("{} partition {partition} at {start}", of_disk(&folder.join(".."))?));
    }
    if let Some(path) = read("loop/backing_file") {
        let meta = std::fs::metadata(path).ok()?;
        let offset = read("loop/offset").unwrap_or_default();
        return Some(format!("loop at {offset} of {}", of_file(&meta)));
    }
    NAMES.iter().find_map(|name| read(name)).map(|name| format!("disk {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: PathBuf, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn a_file_that_moves_is_the_same_and_a_copy_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
        std::fs::write(&a, "contents").unwrap();
        let identity = |path: &Path| of(&File::open(path).unwrap(), Kind::File).unwrap();
        let first = identity(&a);
        std::fs::rename(&a, &b).unwrap();
        std::fs::hard_link(&b, &c).unwrap();
        assert_eq!([identity(&b), identity(&c)], [first.clone(), first.clone()]);
        std::fs::copy(&b, &a).unwrap();
        assert_ne!(identity(&a), first);
    }

    #[test]
    fn a_disk_is_known_by_its_own_name() {
        let folder = tempfile::tempdir().unwrap();
        let disk = folder.path().join("sda");
        assert_eq!(of_disk(&disk), None);
        put(disk.join("device/wwid"), "t10.ATA   a disk\n");
        assert_eq!(of_disk(&disk).unwrap(), "disk t10.ATA a disk");
        put(disk.join("sda2/partition"), "2\n");
        put(disk.join("sda2/start"), "2048\n");
        let partition = of_disk(&disk.join("sda2")).unwrap();
        assert_eq!(partition, "disk t10.ATA a disk partition 2 at 2048");
    }
}
