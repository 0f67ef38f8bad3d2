//! What a namespace shows.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// What a namespace shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// A volume, known by its UUID: names change.
    Volume {
        /// The pool.
        pool: String,
        /// The volume's UUID.
        uuid: Uuid,
        /// Its name when it was last seen, for people.
        name: String,
    },
    /// A snapshot.
    Snapshot {
        /// The pool.
        pool: String,
        /// The volume's UUID.
        uuid: Uuid,
        /// The volume's name when it was last seen, for people.
        name: String,
        /// The snapshot's name.
        snapshot: String,
    },
    /// A whole device.
    Device {
        /// Its name.
        name: String,
    },
}

/// What identifies a source: no name that changes. In this order what lies in one pool is together,
/// and in it what belongs to one volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SourceKey {
    Device(String),
    InPool { pool: String, volume: Uuid, snapshot: Option<String> },
}

impl Source {
    /// The pool it is in.
    pub fn pool(&self) -> Option<&str> {
        match self {
            Source::Volume { pool, .. } | Source::Snapshot { pool, .. } => Some(pool),
            Source::Device { .. } => None,
        }
    }

    pub(crate) fn key(&self) -> SourceKey {
        match self {
            Source::Volume { pool, uuid, .. } => {
                SourceKey::InPool { pool: pool.clone(), volume: *uuid, snapshot: None }
            }
            Source::Snapshot { pool, uuid, snapshot, .. } => SourceKey::InPool {
                pool: pool.clone(),
                volume: *uuid,
                snapshot: Some(snapshot.clone()),
            },
            Source::Device { name } => SourceKey::Device(name.clone()),
        }
    }

    /// Takes over the name that its volume has now, by UUID.
    pub fn named(&mut self, names: &BTreeMap<Uuid, String>) {
        if let Source::Volume { uuid, name, .. } | Source::Snapshot { uuid, name, .. } = self
            && let Some(now) = names.get(uuid)
        {
            name.clone_from(now);
        }
    }

    /// Whether both are the same thing, whatever names they had when they were written down.
    pub fn is(&self, other: &Source) -> bool {
        match (self, other) {
            (Source::Volume { pool, uuid, .. }, Source::Volume { pool: of, uuid: with, .. }) => {
                (pool, uuid) == (of, with)
            }
            (
                Source::Snapshot { pool, uuid, snapshot, .. },
                Source::Snapshot { pool: of, uuid: with, snapshot: named, .. },
            ) => (pool, uuid, snapshot) == (of, with, named),
            (Source::Device { name }, Source::Device { name: other }) => name == other,
            _ => false,
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Volume { pool, name, .. } => write!(f, "volume {pool}/{name}"),
            Source::Snapshot { pool, name, snapshot, .. } => {
                write!(f, "snapshot {pool}/{name}@{snapshot}")
            }
            Source::Device { name } => write!(f, "device {name}"),
        }
    }
}
