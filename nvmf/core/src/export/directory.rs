//! What the discovery subsystem tells of.

use crate::export::listener::Listener;
use crate::export::subsystem::Subsystem;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

/// What the discovery subsystem tells of: subsystems and listeners.
#[derive(Debug, Default)]
pub struct Directory {
    subsystems: RwLock<BTreeMap<String, Arc<Subsystem>>>,
    listeners: RwLock<BTreeSet<Listener>>,
    /// GENCTR of the discovery log: counts the changes.
    genctr: AtomicU64,
}

impl Directory {
    /// The subsystem `nqn`.
    pub fn subsystem(&self, nqn: &str) -> Option<Arc<Subsystem>> {
        self.subsystems.read().expect("no panic under this lock").get(nqn).cloned()
    }

    /// The subsystems in the order of their NQNs.
    pub fn subsystems(&self) -> Vec<Arc<Subsystem>> {
        self.subsystems.read().expect("no panic under this lock").values().cloned().collect()
    }

    /// The listeners.
    pub fn listeners(&self) -> Vec<Listener> {
        self.listeners.read().expect("no panic under this lock").iter().copied().collect()
    }

    /// Number of changes so far.
    pub fn genctr(&self) -> u64 {
        self.genctr.load(Ordering::Acquire)
    }

    /// Puts a subsystem in.
    pub(super) fn insert(&self, subsystem: Arc<Subsystem>) {
        let nqn = subsystem.nqn().to_owned();
        self.subsystems.write().expect("no panic under this lock").insert(nqn, subsystem);
    }

    /// Takes a subsystem out.
    pub(super) fn remove(&self, nqn: &str) -> Option<Arc<Subsystem>> {
        self.subsystems.write().expect("no panic under this lock").remove(nqn)
    }

    /// Puts a listener in; false when it is there.
    pub(super) fn add_listener(&self, listener: Listener) -> bool {
        self.listeners.write().expect("no panic under this lock").insert(listener)
    }

    /// Takes a listener out; false when it is not there.
    pub(super) fn remove_listener(&self, listener: &Listener) -> bool {
        self.listeners.write().expect("no panic under this lock").remove(listener)
    }

    /// Counts a change that the discovery log shows.
    pub(super) fn note_change(&self) {
        self.genctr.fetch_add(1, Ordering::AcqRel);
    }
}
