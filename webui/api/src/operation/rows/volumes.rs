//! Volumes.

use super::{Force, OPERATOR, PoolPath, VIEWER, VolumePath, delete, get, post, put};
use crate::operation::{Call, Gone, List, NoQuery, Shown, Table};
use webui_model::{ExportSet, Limits, Rename, Resize, RollBack, VolumeCreate};

pub(super) fn rows(table: &mut Table) {
    table.about("volumes");
    table.plain(
        get("/api/v1/volumes", "list_volumes", VIEWER, "List volumes of all pools."),
        |c: Call| c.control().volumes(None).map(List),
    );
    table.plain(
        get("/api/v1/pools/{pool}/volumes", "list_pool_volumes", VIEWER, "List volumes of a pool."),
        |c: Call<'_, PoolPath>| c.control().volumes(Some(&c.path.pool)).map(List),
    );
    table.with_body(
        post(
            "/api/v1/pools/{pool}/volumes",
            "create_volume",
            OPERATOR,
            "Create a volume, and export the volume.",
        ),
        |c: Call<'_, PoolPath, NoQuery, VolumeCreate>| {
            c.control().create_volume(&c.path.pool, c.body.clone())
        },
    );
    table.plain(
        get("/api/v1/pools/{pool}/volumes/{volume}", "get_volume", VIEWER, "Show a volume."),
        |c: Call<'_, VolumePath>| c.app.control.volume(&c.path.into()).map(Shown),
    );
    table.plain(
        delete(
            "/api/v1/pools/{pool}/volumes/{volume}",
            "delete_volume",
            OPERATOR,
            "Delete a volume without snapshots.",
        ),
        |c: Call<'_, VolumePath, Force>| {
            c.app.control.delete_volume(&c.path.into(), c.query.force).map(|()| Gone)
        },
    );
    changes(table);
    exports(table);
}

fn changes(table: &mut Table) {
    table.with_body(
        post(
            "/api/v1/pools/{pool}/volumes/{volume}/rename",
            "rename_volume",
            OPERATOR,
            "Rename a volume.",
        ),
        |c: Call<'_, VolumePath, NoQuery, Rename>| {
            c.app.control.rename_volume(&c.path.into(), c.body).map(Shown)
        },
    );
    table.with_body(
        post(
            "/api/v1/pools/{pool}/volumes/{volume}/resize",
            "resize_volume",
            OPERATOR,
            "Resize a volume.",
        ),
        |c: Call<'_, VolumePath, NoQuery, Resize>| {
            c.app.control.resize_volume(&c.path.into(), c.body).map(Shown)
        },
    );
    table.with_body(
        put(
            "/api/v1/pools/{pool}/volumes/{volume}/limits",
            "set_limits",
            OPERATOR,
            "Set the limits of a volume, at once.",
        ),
        |c: Call<'_, VolumePath, NoQuery, Limits>| {
            c.app.control.set_limits(&c.path.into(), c.body).map(Shown)
        },
    );
    table.with_body(
        post(
            "/api/v1/pools/{pool}/volumes/{volume}/roll-back",
            "roll_back_volume",
            OPERATOR,
            "Roll a volume back to a snapshot. One transaction, done when this answers.",
        ),
        |c: Call<'_, VolumePath, NoQuery, RollBack>| {
            c.app.control.roll_back(&c.path.into(), c.body).map(Shown)
        },
    );
    table.plain(
        post(
            "/api/v1/pools/{pool}/volumes/{volume}/promote",
            "promote_volume",
            OPERATOR,
            "Promote a clone: the clone owns the snapshots that it was made from. One \
             transaction without copying, done when this answers.",
        ),
        |c: Call<'_, VolumePath>| c.app.control.promote(&c.path.into()).map(Shown),
    );
}

fn exports(table: &mut Table) {
    table.with_body(
        put(
            "/api/v1/pools/{pool}/volumes/{volume}/export",
            "export_volume",
            OPERATOR,
            "Export a volume, or change how the volume is exported.",
        ),
        |c: Call<'_, VolumePath, NoQuery, ExportSet>| {
            c.app.control.export_volume(&c.path.into(), c.body).map(Shown)
        },
    );
    table.plain(
        delete(
            "/api/v1/pools/{pool}/volumes/{volume}/export",
            "unexport_volume",
            OPERATOR,
            "Unexport a volume.",
        ),
        |c: Call<'_, VolumePath>| c.app.control.unexport_volume(&c.path.into()).map(|()| Gone),
    );
    table.plain(
        get(
            "/api/v1/pools/{pool}/volumes/{volume}/connect-info",
            "get_connect_info",
            VIEWER,
            "Show how hosts connect to a volume.",
        ),
        |c: Call<'_, VolumePath>| c.app.control.connect_info(&c.path.into()).map(Shown),
    );
}
