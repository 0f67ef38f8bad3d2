//! Volumes and snapshots that are there.

use super::draft::Edit;
use crate::seen::SeenVolume;
use crate::source::Source;
use uuid::Uuid;
use webui_model::{Name, Refusal, RefusalKind, SnapshotRef, VolumeRef};

/// A name that was checked when it came in.
pub(super) fn name(text: &str) -> Result<Name, Refusal> {
    text.parse().map_err(|error| Refusal::new(RefusalKind::Internal, format!("{error}")))
}

/// The volume of a snapshot.
pub(super) fn volume_of(snapshot: &SnapshotRef) -> VolumeRef {
    VolumeRef { pool: snapshot.pool.clone(), volume: snapshot.volume.clone() }
}

/// The source that is a volume.
pub(super) fn source_of(volume: &VolumeRef, uuid: Uuid) -> Source {
    Source::Volume { pool: volume.pool.to_string(), uuid, name: volume.volume.to_string() }
}

/// A volume, if it is there; the pool is.
pub(super) fn find(edit: &Edit<'_>, volume: &VolumeRef) -> Result<SeenVolume, Refusal> {
    let (pool, volume) = (volume.pool.as_str(), volume.volume.as_str());
    edit.open_pool(pool)?;
    let found = edit.seen.volume(pool, volume);
    found.ok_or_else(|| Refusal::not_found(format!("Pool {pool} has no volume {volume}.")))
}

/// The source that is a snapshot, if that is there.
pub(super) fn find_snapshot(edit: &Edit<'_>, at: &SnapshotRef) -> Result<Source, Refusal> {
    let SnapshotRef { pool, volume, snapshot } = at;
    let uuid = find(edit, &volume_of(at))?.uuid;
    if !edit.seen.has_snapshot(pool.as_str(), volume.as_str(), snapshot.as_str()) {
        return Err(Refusal::not_found(format!(
            "Volume {pool}/{volume} has no snapshot {snapshot}."
        )));
    }
    let (pool, name) = (pool.to_string(), volume.to_string());
    Ok(Source::Snapshot { pool, uuid, name, snapshot: snapshot.to_string() })
}
