//! DMA memory of the reactors: what they get unless told, and what the machine has.

use std::path::Path;
use webui_model::Size;

/// The most that a reactor gets unless told.
const MOST_BYTES: u64 = 128 << 20;
/// The least that a reactor gets unless told: a pool of several devices works with that.
const LEAST_BYTES: u64 = 32 << 20;
/// The most that all reactors together get unless told: a machine of many cores has better uses.
const ALL_BYTES: u64 = 4 << 30;
/// Sizes are multiples of a hugepage.
const PAGE_BYTES: u64 = 2 << 20;

/// The memory of each of so many reactors, of a machine with `available` bytes to spare, if that is
/// known: as told, or a size that fits.
///
/// # Errors
/// A sentence: the machine does not have that much.
pub(crate) fn of_each(
    told: Option<Size>,
    reactors: usize,
    available: Option<u64>,
) -> Result<Size, String> {
    let reactors = reactors as u64;
    let room = available.map_or(u64::MAX, |bytes| bytes - bytes / 16);
    let each = match told {
        Some(size) => size.0,
        None => {
            let share = ALL_BYTES.min(room / 4) / reactors;
            share.clamp(LEAST_BYTES, MOST_BYTES) / PAGE_BYTES * PAGE_BYTES
        }
    };
    if each.saturating_mul(reactors) <= room {
        return Ok(Size(each));
    }
    let most = Size((room / reactors) >> 20 << 20);
    Err(format!(
        "{} of memory for each of {reactors} reactors is more than this machine has to spare, \
         {}: give at most {most} with --memory or reactors.memory, or fewer cores.",
        Size(each),
        Size(room >> 20 << 20)
    ))
}

/// Bytes of memory that may still be used, by the kernel's estimate and the limit of our control
/// group; nothing if that cannot be told.
pub(crate) fn available() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let machine = available_of(&meminfo)?;
    Some(group_room().map_or(machine, |room| room.min(machine)))
}

/// What `/proc/meminfo` says: memory that can be had, and hugepages that nobody uses.
fn available_of(meminfo: &str) -> Option<u64> {
    let number = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let huge_pages = number("HugePages_Free").unwrap_or(0);
    let huge_kib = number("Hugepagesize").unwrap_or(0);
    let kib = number("MemAvailable")?.checked_add(huge_pages.checked_mul(huge_kib)?)?;
    kib.checked_mul(1024)
}

/// Bytes that our control group (version 2) may still use, if it has a limit.
fn group_room() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let folder = Path::new("/sys/fs/cgroup").join(own);
    let number =
        |name: &str| std::fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    Some(number("memory.max")?.saturating_sub(number("memory.current")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    #[test]
    fn the_default_fits_machines_of_all_sizes() {
        let default = |reactors, available| of_each(None, reactors, available).map(|size| size.0);
        assert_eq!(default(2, Some(16 * GIB)), Ok(128 * MIB));
        assert_eq!(default(4, None), Ok(128 * MIB));
        let many = default(96, Some(512 * GIB)).unwrap();
        assert!((LEAST_BYTES..64 * MIB).contains(&many) && 96 * many <= ALL_BYTES, "{many}");
        assert_eq!(default(2, Some(320 * MIB)), Ok(36 * MIB));
        assert!(default(4, Some(64 * MIB)).unwrap_err().contains("fewer cores"));
    }

    #[test]
    fn what_the_machine_does_not_have_is_refused() {
        let told = |bytes, reactors| of_each(Some(Size(bytes)), reactors, Some(23 * GIB));
        assert_eq!(told(GIB, 2), Ok(Size(GIB)));
        for (bytes, reactors) in [(64 * GIB, 1), (12 * GIB, 2), (u64::MAX, 3)] {
            let why = told(bytes, reactors).unwrap_err();
            assert!(
                why.contains("more than this machine has to spare") && why.contains("--memory")
            );
        }
        let most = told(64 * GIB, 2).unwrap_err();
        let most = most.split("at most ").nth(1).unwrap().split(' ').next().unwrap();
        assert!(told(most.parse::<Size>().unwrap().0, 2).is_ok(), "{most} is as good as promised");
    }

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let text = "MemTotal:       24000000 kB\nMemAvailable:   20000000 kB\nHugePages_Free:      3\n\
                    Hugepagesize:       2048 kB\n";
        assert_eq!(available_of(text), Some((20_000_000 + 3 * 2048) * 1024));
        assert_eq!(available_of("MemTotal: 1 kB\n"), None);
        assert!(available().is_some_and(|bytes| bytes > 0));
    }
}
