//! Hosts that have written to a volume, as reactors and the keeper share them (`FORMAT.md`, "A Flush that
//! does not lie").

use crate::keeper::Request;
use crate::record::WriterRecord;
use bdev::{Noted, Witness};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Hosts of a volume that have a record of their own. Those beyond share one.
pub(crate) const WRITERS: usize = 1024;

/// Whose record that is.
pub(crate) const OTHERS: u128 = 0;

/// What all volumes of a pool have in common.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// The pool keeps account: it is of format 2.
    kept: AtomicBool,
    /// How often something may have been lost.
    losses: AtomicU64,
}

impl Ledger {
    pub(crate) fn set(&self, kept: bool, losses: u64) {
        self.losses.store(losses, Ordering::Release);
        self.kept.store(kept, Ordering::Release);
    }

    pub(crate) fn losses(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }
}

/// What is known of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// The keeper has been asked to note it.
    Asked,
    /// It is noted, and knows of so many losses.
    Noted(u64),
    /// It could not be noted.
    Failed,
}

#[derive(Debug, Default)]
struct Hosts {
    known: HashMap<u128, Known>,
    /// Of those without a record of their own: who was told since the pool was opened.
    told: HashSet<u128>,
}

/// See the module.
pub(crate) struct Writers {
    volume: u64,
    ledger: Arc<Ledger>,
    hosts: RwLock<Hosts>,
    keeper: Sender<Request>,
}

impl Writers {
    /// Those of a volume that are recorded.
    pub(crate) fn new<'a>(
        volume: u64,
        ledger: Arc<Ledger>,
        recorded: impl Iterator<Item = (u128, &'a WriterRecord)>,
        keeper: Sender<Request>,
    ) -> Writers {
        let known = recorded.map(|(host, record)| (host, Known::Noted(record.knows)));
        let hosts = Hosts { known: known.collect(), told: HashSet::new() };
        Writers { volume, ledger, hosts: RwLock::new(hosts), keeper }
    }

    /// Nobody's: of what nobody writes to.
    pub(crate) fn none(keeper: Sender<Request>) -> Writers {
        Writers::new(u64::MAX, Arc::default(), std::iter::empty(), keeper)
    }

    fn hosts(&self) -> RwLockReadGuard<'_, Hosts> {
        self.hosts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, Hosts> {
        self.hosts.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keeper has noted a host, or could not.
    pub(crate) fn noted(&self, host: u128, ok: bool) {
        let known = if ok { Known::Noted(self.ledger.losses()) } else { Known::Failed };
        self.change().known.insert(host, known);
    }

    /// Whether those without a record of their own are recorded.
    pub(crate) fn has_others(&self) -> bool {
        self.hosts().known.contains_key(&OTHERS)
    }
}

impl Witness for Writers {
    fn note(&self, host: u128, name: &str) -> Noted {
        if !self.ledger.kept.load(Ordering::Acquire) {
            return Noted::Needless;
        }
        let known = self.hosts().known.get(&host).copied();
        match known {
            Some(Known::Noted(_)) => return Noted::Yes,
            Some(Known::Asked) => return Noted::Pending,
            Some(Known::Failed) => {
                // Tried again when it writes again.
                self.change().known.remove(&host);
                return Noted::No;
            }
            None => {}
        }
        match self.change().known.entry(host) {
            // Another reactor was quicker: what it asked for is answered for both.
            Entry::Occupied(_) => return Noted::Pending,
            Entry::Vacant(place) => drop(place.insert(Known::Asked)),
        }
        let request = Request::Writer { volume: self.volume, host, name: name.to_owned() };
        match self.keeper.send(request) {
            Ok(()) => Noted::Pending,
            Err(_) => Noted::No,
        }
    }

    fn take_loss(&self, host: u128) -> bool {
        let losses = self.ledger.losses();
        if losses == 0 {
            return false;
        }
        let owes = |hosts: &Hosts| match (hosts.known.get(&host), hosts.known.get(&OTHERS)) {
            (Some(Known::Noted(knows)), _) => *knows < losses,
            (_, Some(Known::Noted(knows))) => *knows < losses && !hosts.told.contains(&host),
            _ => false,
        };
        if !owes(&self.hosts()) {
            return false;
        }
        let mut hosts = self.change();
        if !owes(&hosts) {
            return false;
        }
        match hosts.known.get_mut(&host) {
            Some(known) => {
                *known = Known::Noted(losses);
                // A keeper that has ended leaves it to be told again.
                let _ = self.keeper.send(Request::Told { volume: self.volume, host, losses });
            }
            None => drop(hosts.told.insert(host)),
        }
        true
    }
}

/// What a pool that is closed in order keeps of its writers: those that have something to hear. Returns
/// the others.
pub(crate) fn settled(
    writers: &BTreeMap<(u64, u128), WriterRecord>,
    losses: u64,
) -> Vec<(u64, u128)> {
    let settled = writers.iter().filter(|(_, record)| record.knows >= losses);
    settled.map(|(key, _)| *key).collect()
}
