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
        get("/api/v1/devices", "list_devices", VIEWER, "Devices that are attached."),
        |c: Call| c.control().devices().map(List),
    );
    table.with_body(
        post("/api/v1/devices", "attach_device", ADMIN, "Attach a device."),
        |c: Call<'_, NoPath, NoQuery, DeviceAttach>| c.control().attach_device(c.body.clone()),
    );
    table.plain(
        get("/api/v1/devices/{device}", "get_device", VIEWER, "One device."),
        |c: Call<'_, DevicePath>| c.control().device(&c.path.device).map(Shown),
    );
    table.plain(
        delete("/api/v1/devices/{device}", "detach_device", ADMIN, "Let go of a free device."),
        |c: Call<'_, DevicePath>| c.control().detach_device(&c.path.device).map(|()| Gone),
    );
    table.plain(
        post("/api/v1/devices/{device}/rescan", "rescan_device", ADMIN, "Look at its size again."),
        |c: Call<'_, DevicePath>| c.control().rescan_device(&c.path.device).map(Shown),
    );
    table.plain(
        get(
            "/api/v1/devices/{device}/health",
            "get_device_health",
            VIEWER,
            "What its NVMe drive says of its health.",
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
        get("/api/v1/drives", "list_drives", VIEWER, "NVMe drives of the machine."),
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
    table.plain(
        get("/api/v1/pools", "list_pools", VIEWER, "Pools that are imported."),
        |c: Call| c.control().pools().map(List),
    );
    table.with_body(
        post("/api/v1/pools", "create_pool", ADMIN, "Make a pool."),
        |c: Call<'_, NoPath, NoQuery, PoolCreate>| c.control().create_pool(c.body.clone()),
    );
    table.plain(
        get(
            "/api/v1/pool-imports",
            "list_importable_pools",
            VIEWER,
            "Pools on attached devices that could be imported.",
        ),
        |c: Call| c.control().importable_pools().map(List),
    );
    table.with_body(
        post("/api/v1/pool-imports", "import_pool", ADMIN, "Bring in a pool that is on devices."),
        |c: Call<'_, NoPath, NoQuery, PoolImport>| c.control().import_pool(c.body.clone()),
    );
    table.plain(
        get("/api/v1/pools/{pool}", "get_pool", VIEWER, "One pool."),
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
            "Let go of a pool, for another machine.",
        ),
        |c: Call<'_, PoolPath, Force>| {
            c.control().export_pool(&c.path.pool, c.query.force).map(|()| Gone)
        },
    );
}

fn members(table: &mut Table) {
    table.with_body(
        put(
            "/api/v1/pools/{pool}/discard",
            "set_discard",
            ADMIN,
            "Say whether its devices are given back what nobody needs.",
        ),
        |c: Call<'_, PoolPath, NoQuery, DiscardSet>| {
            c.control().set_discard(&c.path.pool, c.body).map(Shown)
        },
    );
    table.with_body(
        post("/api/v1/pools/{pool}/devices", "add_device", ADMIN, "Add a device."),
        |c: Call<'_, PoolPath, NoQuery, DeviceAdd>| {
            c.control().add_device(&c.path.pool, c.body.clone())
        },
    );
    table.plain(
        get(
            "/api/v1/pools/{pool}/devices/{number}",
            "get_pool_device",
            VIEWER,
            "One device of a pool.",
        ),
        |c: Call<'_, MemberPath>| c.control().pool_device(&c.path.pool, c.path.number).map(Shown),
    );
    table.plain(
        delete(
            "/api/v1/pools/{pool}/devices/{number}",
            "remove_device",
            ADMIN,
            "Take out a device that holds nothing.",
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
            "Take in what a device has grown.",
        ),
        |c: Call<'_, MemberPath>| c.control().grow_device(&c.path.pool, c.path.number).map(Shown),
    );
    table.plain(
        post(
            "/api/v1/pools/{pool}/devices/{number}/drain",
            "drain_device",
            ADMIN,
            "Move its data to the other devices.",
        ),
        |c: Call<'_, MemberPath>| {
            c.control().drain_device(&c.path.pool, c.path.number).map(Started)
        },
    );
}
