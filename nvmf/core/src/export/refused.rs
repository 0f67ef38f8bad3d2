//! Hosts that were refused or given up: who, from where, and why, for whoever is asked about it.

use crate::export::places::Peer;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Refusals that are kept, by host, address and reason.
const KEPT: usize = 256;

/// And of one address: whoever changes its name each time pushes out its own.
const KEPT_EACH: usize = 16;

/// Why a host was refused, or given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// There is no such subsystem.
    NoSubsystem,
    /// The subsystem does not list the host.
    NotListed,
    /// The host came to a listener for discovery only.
    DiscoveryOnly,
    /// A field of its Connect is wrong.
    BadConnect,
    /// The subsystem has as many controllers as it may have, in all or of the host's address.
    TooManyControllers,
    /// It brought no Connect in time, or its place was needed before.
    NoConnect,
    /// It broke the protocol of the fabric.
    Protocol,
    /// Nothing was heard from it for longer than its keep alive timeout.
    KeepAlive,
    /// It neither took its answers nor sent the data that it was asked for, while others waited for
    /// the buffers that this held.
    Stalled,
}

impl RefusalReason {
    /// The end of a sentence that begins with the host.
    pub const fn text(self) -> &'static str {
        match self {
            RefusalReason::NoSubsystem => "asked for a subsystem that is not there",
            RefusalReason::NotListed => "was refused: it is not among the hosts that may connect",
            RefusalReason::DiscoveryOnly => "was refused: it came to a listener for discovery only",
            RefusalReason::BadConnect => "was refused: a field of its Connect is wrong",
            RefusalReason::TooManyControllers => {
                "was refused: there are as many controllers as there may be"
            }
            RefusalReason::NoConnect => "was given up: it brought no Connect in time",
            RefusalReason::Protocol => "was given up: it broke the protocol",
            RefusalReason::KeepAlive => "was given up: it was not heard of for too long",
            RefusalReason::Stalled => {
                "was given up: it took and sent nothing for too long, and others waited"
            }
        }
    }
}

/// What happened to a host, how often, and when last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedHost {
    /// Its NQN, if it has told one.
    pub host: Option<String>,
    /// Its address.
    pub address: IpAddr,
    /// The NQN of the subsystem that it asked for, if it did, as it wrote it.
    pub subsystem: Option<String>,
    /// Why.
    pub reason: RefusalReason,
    /// More of it, where there is any.
    pub detail: Option<String>,
    /// When last, in ns of the reactors' clock.
    pub last_ns: u64,
    /// How often.
    pub count: u64,
}

/// What refusals are told apart by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    peer: Peer,
    host: Option<String>,
    reason: RefusalReason,
}

#[derive(Debug)]
struct Entry {
    last: RefusedHost,
    /// How often since it was told, and when that was.
    untold: u64,
    told_ns: Option<u64>,
}

/// The hosts that were refused lately.
#[derive(Debug, Default)]
pub struct RefusedHosts {
    entries: Mutex<BTreeMap<Key, Entry>>,
}

impl RefusedHosts {
    /// Notes a refusal; the count of `refused` is of no account.
    pub(crate) fn note(&self, refused: RefusedHost) {
        let peer = Peer::of(refused.address);
        let key = Key { peer, host: refused.host.clone(), reason: refused.reason };
        let mut entries = self.entries();
        if !entries.contains_key(&key) {
            let of_peer = entries.keys().filter(|other| other.peer == peer).count();
            if of_peer >= KEPT_EACH {
                forget_oldest(&mut entries, |other| other.peer == peer);
            } else if entries.len() >= KEPT {
                forget_oldest(&mut entries, |_| true);
            }
        }
        let nothing = RefusedHost { count: 0, ..refused.clone() };
        let fresh = || Entry { last: nothing, untold: 0, told_ns: None };
        let entry = entries.entry(key).or_insert_with(fresh);
        entry.last = RefusedHost { count: entry.last.count + 1, ..refused };
        entry.untold += 1;
    }

    /// All that are kept.
    pub fn list(&self) -> Vec<RefusedHost> {
        self.entries().values().map(|entry| entry.last.clone()).collect()
    }

    /// What is new, with how often since it was told last: each host and reason at once the first time, and
    /// then once in `every_ns`.
    pub fn news(&self, now_ns: u64, every_ns: u64) -> Vec<RefusedHost> {
        let mut news = Vec::new();
        for entry in self.entries().values_mut() {
            let is_due = entry.told_ns.is_none_or(|at| now_ns >= at.saturating_add(every_ns));
            if entry.untold > 0 && is_due {
                let count = std::mem::take(&mut entry.untold);
                entry.told_ns = Some(now_ns);
                news.push(RefusedHost { count, ..entry.last.clone() });
            }
        }
        news
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn forget_oldest(entries: &mut BTreeMap<Key, Entry>, is_one: impl Fn(&Key) -> bool) {
    let candidates = entries.iter().filter(|(key, _)| is_one(key));
    if let Some(key) = candidates.min_by_key(|(_, e)| e.last.last_ns).map(|(key, _)| key.clone()) {
        entries.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(host: &str, last: u8, now_ns: u64) -> RefusedHost {
        RefusedHost {
            host: Some(host.to_owned()),
            address: ([192, 0, 2, last]).into(),
            subsystem: Some("nqn.2026-01.example:one".to_owned()),
            reason: RefusalReason::NotListed,
            detail: None,
            last_ns: now_ns,
            count: 0,
        }
    }

    #[test]
    fn the_same_is_told_once_in_a_while_with_a_count() {
        let hosts = RefusedHosts::default();
        (0..3).for_each(|at| hosts.note(refused("a", 1, at)));
        hosts.note(refused("b", 1, 4));
        let counts = |news: &[RefusedHost]| -> Vec<(String, u64)> {
            news.iter().map(|n| (n.host.clone().unwrap(), n.count)).collect()
        };
        assert_eq!(counts(&hosts.news(10, 100)), [("a".to_owned(), 3), ("b".to_owned(), 1)]);
        (0..5).for_each(|at| hosts.note(refused("a", 1, 20 + at)));
        assert_eq!(hosts.news(109, 100), []);
        assert_eq!(counts(&hosts.news(110, 100)), [("a".to_owned(), 5)]);
        assert_eq!(hosts.news(1000, 100), []);
        let list = hosts.list();
        assert_eq!(counts(&list), [("a".to_owned(), 8), ("b".to_owned(), 1)]);
        assert_eq!(list[0].last_ns, 24);
    }

    #[test]
    fn an_address_pushes_out_its_own_and_there_is_an_end() {
        let hosts = RefusedHosts::default();
        hosts.note(refused("honest", 1, 0));
        (0..1000).for_each(|at| hosts.note(refused(&format!("name{at}"), 2, 1 + at)));
        assert_eq!(hosts.list().len(), 1 + KEPT_EACH);
        assert!(hosts.list().iter().any(|one| one.host.as_deref() == Some("honest")));
        assert!(hosts.list().iter().any(|one| one.host.as_deref() == Some("name999")));
        for last in 3..200 {
            (0..4).for_each(|at| hosts.note(refused(&format!("x{at}"), last, 10_000)));
        }
        assert_eq!(hosts.list().len(), KEPT);
    }
}
