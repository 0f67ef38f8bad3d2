//! Devices and the pools that are made of them.

use super::{ADMIN, DevicePath, DrivePath, Force, MemberPath, PoolPath, VIEWER};
use super::{delete, get, post, put};
use crate::operation::{Call, Gone, List, NoPath, NoQuery, Shown, Started, Table};
use webui_model::{
    DeviceAdd, DeviceAttach, DiscardSet, DriveFormat, DriveSanitize, PoolCreate, PoolImport,
};

pub(super) fn rows(table: &mut Table) {
    table.about("devices");
    table.plain(
        get("/api/v1/devices", "list_devices", VIEWER, "List devices that are attached."),
        |c: Call| c.control().devices().map(List),
    );
    table.with_body(
        post("/api/v1/devices", "attach_device", ADMIN, "Attach a device."),
        |c: Call<'_, NoPath, NoQuery, DeviceAttach>| c.control().attach_device(c.body.clone()),
    );
    table.plain(
        get("/api/v1/devices/{device}", "get_device", VIEWER, "Show a device."),
        |c: Call<'_, DevicePath>| c.control().device(&c.path.device).map(Shown),
    );
    table.plain(
        delete(
            "/api/v1/devices/{device}",
            "detach_device",
            ADMIN,
            "Detach a device that nothing uses.",
        ),
        |c: Call<'_, DevicePath>| c.control().detach_device(&c.path.device).map(|()| Gone),
    );
    table.plain(
        post(
            "/api/v1/devices/{device}/rescan",
            "rescan_device",
            ADMIN,
            "Rescan a device: whether the device is there, and its size.",
        ),
        |c: Call<'_, DevicePath>| c.control().rescan_device(&c.path.device).map(Shown),
    );
    table.plain(
        get(
            "/api/v1/devices/{device}/health",
            "get_device_health",
            VIEWER,
            "Show the health of a device's NVMe drive.",
        ),
        |c: Call<'_, DevicePath>| c.control().device_health(&c.path.device).map(Shown),
    );
    drives(table);
    pools(table);
    members(table);
}

fn drives(table: &mut Table) {
    table.about("drives");
    table.plain(
        get("/api/v1/drives", "list_drives", VIEWER, "List NVMe drives of the machine."),
        |c: Call| c.control().drives().map(List),
    );
    table.with_body(
        post(
            "/api/v1/drives/{drive}/format",
            "format_drive",
            ADMIN,
            "Format a namespace of a drive that is not attached.",
        ),
        |c: Call<'_, DrivePath, NoQuery, DriveFormat>| {
            c.control().format_drive(&c.path.drive, c.body.clone()).map(Started)
        },
    );
    table.with_body(
        post(
            "/api/v1/drives/{drive}/sanitize",
            "sanitize_drive",
            ADMIN,
            "Sanitize a drive that is not attached.",
        ),
        |c: Call<'_, DrivePath, NoQuery, DriveSanitize>| {
            c.control().sanitize_drive(&c.path.drive, c.body.clone()).map(Started)
        },
    );
}

fn pools(table: &mut Table) {
    table.about("pools");
    table.plain(get("/api/v1/pools", "list_pools", VIEWER, "List pools."), |c: Call| {
        c.control().pools().map(List)
    });
    table.with_body(
        post("/api/v1/pools", "create_pool", ADMIN, "Create a pool."),
        |c: Call<'_, NoPath, NoQuery, PoolCreate>| c.control().create_pool(c.body.clone()),
    );
    table.plain(
        get(
            "/api/v1/pool-imports",
            "list_importable_pools",
            VIEWER,
            "List pools on attached devices that can be imported.",
        ),
        |c: Call| c.control().importable_pools().map(List),
    );
    table.with_body(
        post("/api/v1/pool-imports", "import_pool", ADMIN, "Import a pool."),
        |c: Call<'_, NoPath, NoQuery, PoolImport>| c.control().import_pool(c.body.clone()),
    );
    table.plain(
        get("/api/v1/pools/{pool}", "get_pool", VIEWER, "Show a pool."),
        |c: Call<'_, PoolPath>| c.control().pool(&c.path.pool).map(Shown),
    );
    table.plain(
        delete("/api/v1/pools/{pool}", "delete_pool", ADMIN, "Delete a pool without volumes."),
        |c: Call<'_, PoolPath>| c.control().delete_pool(&c.path.pool).map(|()| Gone),
    );
    table.plain(
        post(
            "/api/v1/pools/{pool}/export",
            "export_pool",
            ADMIN,
            "Export a pool, so that another machine can import the pool.",
        ),
        |c: Call<'_, PoolPath, Force>| {
            c.control().export_pool(&c.path.pool, c.query.force).map(|()| Gone)
        },
    );
}

fn members(table: &mut Table) {
    table.plain(
        post(
            "/api/v1/pools/{pool}/upgrade",
            "upgrade_pool",
            ADMIN,
            "Upgrade a pool to the newest format.",
        ),
        |c: Call<'_, PoolPath>| c.control().upgrade_pool(&c.path.pool).map(Shown),
    );
    table.with_body(
        put(
            "/api/v1/pools/{pool}/discard",
            "set_discard",
            ADMIN,
            "Set whether a pool discards free space on its devices.",
        ),
        |c: Call<'_, PoolPath, NoQuery, DiscardSet>| {
            c.control().set_discard(&c.path.pool, c.body).map(Shown)
        },
    );
    table.with_body(
        post("/api/v1/pools/{pool}/devices", "add_device", ADMIN, "Add a device to a pool."),
        |c: Call<'_, PoolPath, NoQuery, DeviceAdd>| {
            c.control().add_device(&c.path.pool, c.body.clone())
        },
    );
    table.plain(
        get(
            "/api/v1/pools/{pool}/devices/{number}",
            "get_pool_device",
            VIEWER,
            "Show a device of a pool.",
        ),
        |c: Call<'_, MemberPath>| c.control().pool_device(&c.path.pool, c.path.number).map(Shown),
    );
    table.plain(
        delete(
            "/api/v1/pools/{pool}/devices/{number}",
            "remove_device",
            ADMIN,
            "Remove an empty device from a pool.",
        ),
        |c: Call<'_, MemberPath>| {
            c.control().remove_device(&c.path.pool, c.path.number).map(|()| Gone)
        },
    );
    table.plain(
        post(
            "/api/v1/pools/{pool}/devices/{number}/grow",
            "grow_device",
            ADMIN,
            "Extend a device of a pool to the device's new size.",
        ),
        |c: Call<'_, MemberPath>| c.control().grow_device(&c.path.pool, c.path.number).map(Shown),
    );
    table.plain(
        post(
            "/api/v1/pools/{pool}/devices/{number}/drain",
            "drain_device",
            ADMIN,
            "Drain a device of a pool: its data moves to the other devices.",
        ),
        |c: Call<'_, MemberPath>| {
            c.control().drain_device(&c.path.pool, c.path.number).map(Started)
        },
    );
}
