//! Who opens pools here: this process, on this boot of this machine.

use bdev_pool::{Opening, Owner};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// Files that say which machine this is, the same after each start.
const MACHINE: [&str; 2] = ["/etc/machine-id", "/sys/class/dmi/id/product_uuid"];

fn first_line(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

fn uuid_in(path: &str) -> Option<Uuid> {
    Uuid::parse_str(&first_line(path)?).ok().filter(|uuid| !uuid.is_nil())
}

fn owner() -> &'static Owner {
    static OWNER: OnceLock<Owner> = OnceLock::new();
    OWNER.get_or_init(|| Owner {
        // One that has no number is any that has none.
        machine: MACHINE.into_iter().find_map(uuid_in).unwrap_or_default(),
        name: first_line("/proc/sys/kernel/hostname").unwrap_or_default(),
        boot: uuid_in("/proc/sys/kernel/random/boot_id").unwrap_or_default(),
        process: Uuid::new_v4(),
    })
}

/// A pool is opened or made by this process, now.
pub(super) fn opening(force: bool) -> Opening {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    Opening {
        owner: owner().clone(),
        now_s: now.map_or(0, |now| now.as_secs()),
        force,
        uuids: Some(Box::new(Uuid::new_v4)),
        ..Opening::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_one_owner_on_one_boot() {
        let (one, other) = (opening(false), opening(true));
        assert_eq!(one.owner, other.owner);
        assert!(!one.owner.boot.is_nil() && !one.owner.process.is_nil());
        assert!(one.now_s > 1_700_000_000 && other.force);
    }
}
