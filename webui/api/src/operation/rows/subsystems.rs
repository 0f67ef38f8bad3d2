//! Subsystems: what hosts connect to.

use super::{
    ADMIN, NamespacePath, OPERATOR, SubsystemHostPath, SubsystemPath, VIEWER, delete, get, post,
};
use crate::operation::{Call, Gone, List, NoPath, NoQuery, Shown, Table};
use webui_model::{HostAdd, NamespaceAdd, SubsystemCreate};

pub(super) fn rows(table: &mut Table) {
    table.about("subsystems");
    table.plain(
        get("/api/v1/subsystems", "list_subsystems", VIEWER, "List subsystems."),
        |c: Call| c.control().subsystems().map(List),
    );
    table.with_body(
        post("/api/v1/subsystems", "create_subsystem", OPERATOR, "Create a subsystem."),
        |c: Call<'_, NoPath, NoQuery, SubsystemCreate>| {
            c.control().create_subsystem(c.body.clone())
        },
    );
    table.plain(
        get("/api/v1/subsystems/{nqn}", "get_subsystem", VIEWER, "Show a subsystem."),
        |c: Call<'_, SubsystemPath>| c.control().subsystem(&c.path.nqn).map(Shown),
    );
    table.plain(
        delete(
            "/api/v1/subsystems/{nqn}",
            "delete_subsystem",
            OPERATOR,
            "Delete a subsystem without namespaces.",
        ),
        |c: Call<'_, SubsystemPath>| c.control().delete_subsystem(&c.path.nqn).map(|()| Gone),
    );
    hosts(table);
    namespaces(table);
}

fn hosts(table: &mut Table) {
    table.plain(
        get(
            "/api/v1/subsystems/{nqn}/statistics",
            "get_subsystem_statistics",
            VIEWER,
            "Show what each host did in a subsystem since it connected.",
        ),
        |c: Call<'_, SubsystemPath>| c.control().subsystem_statistics(&c.path.nqn).map(List),
    );
    table.with_body(
        post(
            "/api/v1/subsystems/{nqn}/hosts",
            "add_host",
            OPERATOR,
            "Add a host to a subsystem: the host may connect.",
        ),
        |c: Call<'_, SubsystemPath, NoQuery, HostAdd>| {
            c.control().add_host(&c.path.nqn, c.body.clone()).map(Shown)
        },
    );
    table.plain(
        delete(
            "/api/v1/subsystems/{nqn}/hosts/{host}",
            "remove_host",
            OPERATOR,
            "Remove a host from a subsystem, and disconnect the host.",
        ),
        |c: Call<'_, SubsystemHostPath>| {
            c.control().remove_host(&c.path.nqn, &c.path.host).map(Shown)
        },
    );
}

fn namespaces(table: &mut Table) {
    // Admin's, because a namespace may show a whole device.
    table.with_body(
        post(
            "/api/v1/subsystems/{nqn}/namespaces",
            "add_namespace",
            ADMIN,
            "Add a namespace to a subsystem.",
        ),
        |c: Call<'_, SubsystemPath, NoQuery, NamespaceAdd>| {
            c.control().add_namespace(&c.path.nqn, c.body.clone())
        },
    );
    table.plain(
        delete(
            "/api/v1/subsystems/{nqn}/namespaces/{nsid}",
            "remove_namespace",
            ADMIN,
            "Remove a namespace from a subsystem.",
        ),
        |c: Call<'_, NamespacePath>| {
            c.control().remove_namespace(&c.path.nqn, c.path.nsid).map(|()| Gone)
        },
    );
}
