//! Snapshots.

use super::{OPERATOR, PoolPath, SnapshotPath, VIEWER, VolumePath, delete, get, post, put};
use crate::operation::{Call, Gone, List, NoQuery, Shown, Table};
use webui_model::{
    ExportSet, GroupSnapshotCreate, Refusal, Snapshot, SnapshotCreate, SnapshotRef, VolumeClone,
};

pub(super) fn rows(table: &mut Table) {
    table.about("snapshots");
    table.plain(
        get(
            "/api/v1/pools/{pool}/snapshots",
            "list_pool_snapshots",
            VIEWER,
            "List snapshots of a pool.",
        ),
        |c: Call<'_, PoolPath>| c.control().snapshots(&c.path.pool, None).map(List),
    );
    table.with_body(
        post(
            "/api/v1/pools/{pool}/snapshots",
            "create_group_snapshot",
            OPERATOR,
            "Take a snapshot of several volumes at one instant.",
        ),
        |c: Call<'_, PoolPath, NoQuery, GroupSnapshotCreate>| {
            c.control().create_group_snapshot(&c.path.pool, c.body.clone()).map(List::<Snapshot>)
        },
    );
    table.plain(
        get(
            "/api/v1/pools/{pool}/volumes/{volume}/snapshots",
            "list_snapshots",
            VIEWER,
            "List snapshots of a volume.",
        ),
        |c: Call<'_, VolumePath>| {
            c.control().snapshots(&c.path.pool, Some(&c.path.volume)).map(List)
        },
    );
    table.with_body(
        post(
            "/api/v1/pools/{pool}/volumes/{volume}/snapshots",
            "create_snapshot",
            OPERATOR,
            "Take a snapshot of a volume.",
        ),
        |c: Call<'_, VolumePath, NoQuery, SnapshotCreate>| {
            c.app.control.create_snapshot(&c.path.into(), c.body)
        },
    );
    table.plain(
        get(ONE, "get_snapshot", VIEWER, "Show a snapshot."),
        |c: Call<'_, SnapshotPath>| c.app.control.snapshot(&c.path.into()).map(Shown),
    );
    table.plain(
        delete(ONE, "delete_snapshot", OPERATOR, "Delete a snapshot. Clones of the snapshot stay."),
        |c: Call<'_, SnapshotPath>| c.app.control.delete_snapshot(&c.path.into()).map(|()| Gone),
    );
    uses(table);
}

const ONE: &str = "/api/v1/pools/{pool}/volumes/{volume}/snapshots/{snapshot}";

fn uses(table: &mut Table) {
    table.with_body(
        post(
            "/api/v1/pools/{pool}/volumes/{volume}/snapshots/{snapshot}/clone",
            "clone_snapshot",
            OPERATOR,
            "Clone a snapshot to a new volume, and export the volume.",
        ),
        |c: Call<'_, SnapshotPath, NoQuery, VolumeClone>| {
            c.app.control.clone_snapshot(&c.path.into(), c.body)
        },
    );
    table.with_body(
        put(
            "/api/v1/pools/{pool}/volumes/{volume}/snapshots/{snapshot}/export",
            "export_snapshot",
            OPERATOR,
            "Export a snapshot, read only.",
        ),
        |c: Call<'_, SnapshotPath, NoQuery, ExportSet>| {
            c.app.control.export_snapshot(&c.path.into(), c.body).map(Shown)
        },
    );
    table.plain(
        delete(
            "/api/v1/pools/{pool}/volumes/{volume}/snapshots/{snapshot}/export",
            "unexport_snapshot",
            OPERATOR,
            "Unexport a snapshot.",
        ),
        |c: Call<'_, SnapshotPath>| -> Result<Gone, Refusal> {
            c.app.control.unexport_snapshot(&c.path.into()).map(|()| Gone)
        },
    );
    table.plain(
        get(
            "/api/v1/pools/{pool}/volumes/{volume}/snapshots/{snapshot}/connect-info",
            "get_snapshot_connect_info",
            VIEWER,
            "Show how hosts connect to a snapshot.",
        ),
        |c: Call<'_, SnapshotPath>| {
            let snapshot: SnapshotRef = c.path.into();
            c.app.control.snapshot_connect_info(&snapshot).map(Shown)
        },
    );
}
