//! Hosts, their controllers, and where they connect.

use super::{ADMIN, ControllerPath, HostPath, ListenerPath, VIEWER, delete, get, post};
use crate::operation::{Call, Gone, List, NoPath, NoQuery, Shown, Table};
use webui_model::ListenerCreate;

pub(super) fn rows(table: &mut Table) {
    table.about("hosts");
    table.plain(
        get(
            "/api/v1/hosts",
            "list_hosts",
            VIEWER,
            "List hosts that are allowed, connected, or were refused recently.",
        ),
        |c: Call| c.control().hosts().map(List),
    );
    table.plain(
        get("/api/v1/hosts/{host}", "get_host", VIEWER, "Show a host."),
        |c: Call<'_, HostPath>| c.control().host(&c.path.host).map(Shown),
    );
    table.plain(
        get(
            "/api/v1/controllers",
            "list_controllers",
            VIEWER,
            "List controllers that are connected.",
        ),
        |c: Call| c.control().controllers().map(List),
    );
    table.plain(
        get(
            "/api/v1/subsystems/{nqn}/controllers/{cntlid}",
            "get_controller",
            VIEWER,
            "Show a controller.",
        ),
        |c: Call<'_, ControllerPath>| c.control().controller(&c.path.nqn, c.path.cntlid).map(Shown),
    );
    table.about("listeners");
    table
        .plain(get("/api/v1/listeners", "list_listeners", VIEWER, "List listeners."), |c: Call| {
            c.control().listeners().map(List)
        });
    table.with_body(
        post("/api/v1/listeners", "create_listener", ADMIN, "Create a listener."),
        |c: Call<'_, NoPath, NoQuery, ListenerCreate>| c.control().create_listener(c.body),
    );
    table.plain(
        get("/api/v1/listeners/{transport}/{address}", "get_listener", VIEWER, "Show a listener."),
        |c: Call<'_, ListenerPath>| {
            c.control().listener(c.path.transport, c.path.address).map(Shown)
        },
    );
    table.plain(
        delete(
            "/api/v1/listeners/{transport}/{address}",
            "delete_listener",
            ADMIN,
            "Delete a listener. Connections stay.",
        ),
        |c: Call<'_, ListenerPath>| {
            c.control().delete_listener(c.path.transport, c.path.address).map(|()| Gone)
        },
    );
}
