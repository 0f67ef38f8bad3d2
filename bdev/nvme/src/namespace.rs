//! A namespace as its channels see it.

use crate::identity::{Identity, NamespaceIdentity};
use bdev::Geometry;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// A namespace, for as long as its blocks mean the same.
pub(crate) struct Namespace {
    nsid: u32,
    /// Size in blocks; 0 once it is gone or was formatted.
    blocks: AtomicU64,
    told: Mutex<(NamespaceIdentity, Geometry)>,
}

impl Namespace {
    pub(crate) fn new(identity: NamespaceIdentity, controller: &Identity) -> Namespace {
        let geometry = identity.geometry(controller);
        Namespace {
            nsid: identity.nsid,
            blocks: AtomicU64::new(identity.blocks),
            told: Mutex::new((identity, geometry)),
        }
    }

    pub(crate) fn nsid(&self) -> u32 {
        self.nsid
    }

    /// Size in blocks, now.
    #[inline]
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    pub(crate) fn identity(&self) -> NamespaceIdentity {
        self.told.lock().expect("nothing panics with it locked").0.clone()
    }

    pub(crate) fn geometry(&self) -> Geometry {
        let geometry = self.told.lock().expect("nothing panics with it locked").1.clone();
        Geometry { blocks: self.blocks(), ..geometry }
    }

    /// Takes what the controller says now, if it is still the same namespace.
    pub(crate) fn update(&self, identity: &NamespaceIdentity, controller: &Identity) -> bool {
        let mut told = self.told.lock().expect("nothing panics with it locked");
        if !told.0.is_same(identity) {
            return false;
        }
        *told = (identity.clone(), identity.geometry(controller));
        self.blocks.store(identity.blocks, Ordering::Relaxed);
        true
    }

    /// It is gone: no operation reaches it any more.
    pub(crate) fn retire(&self) {
        self.blocks.store(0, Ordering::Relaxed);
    }
}
