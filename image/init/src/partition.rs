//! Partitions of the image's disk, by their names in the partition table.

use crate::{kmsg, mounts};
use rustix::fs::{FlockOperation, flock};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The EFI system partition.
pub const ESP: &str = "forebay-esp";
/// The configuration partition.
pub const CONFIG: &str = "forebay-config";

/// The block device of the partition of this name, and whether there are more of them.
pub fn find(name: &str) -> Option<(PathBuf, bool)> {
    let mut found: Vec<String> = std::fs::read_dir("/sys/class/block")
        .ok()?
        .flatten()
        .filter(|entry| {
            let text = std::fs::read_to_string(entry.path().join("uevent")).unwrap_or_default();
            text.lines().any(|line| line.strip_prefix("PARTNAME=") == Some(name))
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    let several = found.len() > 1;
    found.first().map(|first| (Path::new("/dev").join(first), several))
}

/// Mounts the configuration partition, waited for a while, or memory in its place. Returns a
/// sentence if something is wrong with it.
pub fn mount_config(patience: Duration) -> Option<String> {
    let until = Instant::now() + patience;
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let (trouble, several) = loop {
        match find(CONFIG) {
            Some((device, several)) => {
                let flags = strict | MountFlags::NOATIME;
                match mount(&device, mounts::CONFIG, "ext4", flags, Some(c"errors=remount-ro")) {
                    Ok(()) => break (None, several),
                    Err(error) => {
                        break (
                            Some(format!("{} cannot be mounted: {error}", device.display())),
                            false,
                        );
                    }
                }
            }
            None if Instant::now() < until => std::thread::sleep(Duration::from_millis(100)),
            None => break (Some(format!("There is no partition {CONFIG}")), false),
        }
    };
    match trouble {
        Some(why) => {
            let memory = mount("tmpfs", mounts::CONFIG, "tmpfs", strict, None);
            let memory = memory.err().map_or(String::new(), |error| format!(" ({error})"));
            Some(format!("{why}: nothing of what is configured outlives this start{memory}."))
        }
        None if several => {
            Some(format!("Several disks have a partition {CONFIG}: the first one is used."))
        }
        None => None,
    }
}

/// The EFI system partition while it is mounted, by one at a time; unmounted, and with it on the
/// disk, when dropped.
pub struct Esp {
    /// Held before it is mounted and until after.
    _one_at_a_time: File,
}

impl Esp {
    /// Mounts it.
    ///
    /// # Errors
    /// A sentence: there is none, or somebody else has it mounted.
    pub fn open() -> Result<Esp, String> {
        let lock = File::create("/run/esp.lock").map_err(|e| format!("/run/esp.lock: {e}."))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|e| format!("/run/esp.lock: {e}."))?;
        let (device, _) = find(ESP).ok_or_else(|| format!("There is no partition {ESP}."))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount(&device, mounts::ESP, "vfat", flags, Some(c"errors=remount-ro,umask=077"))
            .map_err(|error| format!("{} cannot be mounted: {error}.", device.display()))?;
        Ok(Esp { _one_at_a_time: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        Path::new(mounts::ESP)
    }
}

impl Drop for Esp {
    fn drop(&mut self) {
        if let Err(error) = unmount(mounts::ESP, UnmountFlags::empty()) {
            kmsg::write(kmsg::ERROR, &format!("the EFI system partition stays mounted: {error}"));
        }
    }
}
