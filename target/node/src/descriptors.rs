//! File descriptors of the process: how many there may be, and are.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors that connections of hosts leave to everything else: devices, the API, listeners,
/// reactors.
const FOR_OTHERS: u64 = 256;

/// Raises the soft limit of descriptors to the hard one. Returns it.
pub(crate) fn raise() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of file descriptors cannot be raised");
        }
    }
    limit_now()
}

/// How many descriptors there may be now.
fn limit_now() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Connections of hosts that a process with so many descriptors can have: where these are few, half
/// of them.
pub(crate) fn for_connections(limit: u64) -> u32 {
    let room = limit - FOR_OTHERS.min(limit / 2);
    u32::try_from(room).unwrap_or(u32::MAX)
}

/// Descriptors in use, and how many there may be.
pub(crate) fn usage() -> (u64, u64) {
    let limit = limit_now();
    // Without a descriptor left the folder cannot be opened.
    let used = std::fs::read_dir("/proc/self/fd").map_or(limit, |entries| entries.count() as u64);
    (used, limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_others() {
        assert_eq!(for_connections(100), 50);
        assert_eq!(for_connections(1024), 768);
        assert_eq!(for_connections(u64::MAX), u32::MAX);
    }

    /// In a process of its own (nextest).
    #[test]
    fn all_descriptors_that_may_be_had_are_had() {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = Some(100);
        setrlimit(Resource::Nofile, limit).unwrap();
        assert_eq!(usage().1, 100);
        assert_eq!(raise(), limit.maximum.unwrap_or(u64::MAX));
        let before = usage().0;
        let _open = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(usage().0, before + 1);
    }
}
