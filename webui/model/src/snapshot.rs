//! Snapshots.

use crate::{Export, Name, Status};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRef {
    /// The pool.
    pub pool: Name,
    /// The volume.
    pub volume: Name,
    /// The snapshot.
    pub snapshot: Name,
}

impl std::fmt::Display for SnapshotRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}@{}", self.pool, self.volume, self.snapshot)
    }
}

/// A snapshot of a volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The pool.
    pub pool: Name,
    /// The volume.
    pub volume: Name,
    /// Its name.
    pub name: Name,
    /// Size of the volume when it was taken.
    pub bytes: u64,
    /// When it was taken.
    pub created_at_ms: u64,
    /// Bytes that its deletion gives back.
    pub exclusive_bytes: u64,
    /// Volumes cloned from it.
    pub clones: Vec<Name>,
    /// How it is exported, read only.
    pub export: Option<Export>,
    /// How it is.
    pub status: Status,
    /// Why.
    pub reason: String,
}

/// Take a snapshot of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotCreate {
    /// Its name.
    pub name: Name,
}

/// Take a snapshot of many volumes of a pool at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupSnapshotCreate {
    /// The name that each of them gets.
    pub name: Name,
    /// The volumes, at least one.
    #[schema(min_items = 1, max_items = 1024)]
    pub volumes: Vec<Name>,
}

impl GroupSnapshotCreate {
    /// Checks that there are volumes, each named once.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.volumes.is_empty() {
            return Err("Name at least one volume in volumes.".into());
        }
        crate::name::once(&self.volumes, "volumes")
    }
}
