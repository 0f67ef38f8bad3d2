//! File systems of the first process, and where the image keeps things.

use rustix::mount::{MountFlags, mount};
use std::path::Path;

/// The key that updates are signed with.
pub const KEY: &str = "/etc/forebay/update.pub";
/// The version of the image.
pub const VERSION: &str = "/etc/forebay/version";
/// Modules that are loaded whatever the machine has.
pub const MODULES: &str = "/etc/forebay/modules";
/// Where the configuration partition is.
pub const CONFIG: &str = "/config";
/// Where the EFI system partition is while it is changed.
pub const ESP: &str = "/esp";

/// Mounts what every machine has.
///
/// # Errors
/// A sentence, which nobody may ever read.
pub fn early() -> Result<(), String> {
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let all = [
        ("proc", "/proc", strict),
        ("sysfs", "/sys", strict),
        ("devtmpfs", "/dev", MountFlags::NOSUID | MountFlags::NOEXEC),
        ("tmpfs", "/run", strict),
        ("tmpfs", "/tmp", strict),
        ("tmpfs", "/dev/shm", strict),
    ];
    for (kind, at, flags) in all {
        std::fs::create_dir_all(at).map_err(|error| format!("{at}: {error}."))?;
        mount(kind, at, kind, flags, None).map_err(|error| format!("{at}: {error}."))?;
    }
    Ok(())
}

/// Mounts what needs modules: the firmware's variables, and what the kernel kept of its last end.
pub fn late() {
    let strict = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for (kind, at) in [("efivarfs", "/sys/firmware/efi/efivars"), ("pstore", "/sys/fs/pstore")] {
        // A machine without is as good.
        if Path::new(at).exists() {
            let _ = mount(kind, at, kind, strict, None);
        }
    }
}
