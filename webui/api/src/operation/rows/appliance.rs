//! The appliance as a whole: how it is, what happens, what it counts.

use super::{ADMIN, ANYONE, JobPath, Limit, OPERATOR, VIEWER, get, post, put};

use crate::operation::{Call, Document, Gone, List, Metrics, NoPath, NoQuery, Shown, Table};
use serde::Deserialize;
use utoipa::ToSchema;
use webui_model::{
    Declaration, EventLog, EventPage, HistoryKind, HistoryQuery, Ready, Refusal, UpdateInstall,
    UpdatePiece,
};

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Recent {
    /// Those after this number, oldest first; 0: from the oldest that is kept. Nothing: the newest.
    #[serde(default)]
    #[schema(maximum = 18_446_744_073_709_551_615_u64)]
    after: Option<u64>,
    /// At most so many; 100 unless given.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
}

impl Recent {
    fn of(&self, log: &EventLog) -> EventPage {
        let limit = Limit::get(self.limit);
        match self.after {
            Some(after) => log.after(after, limit),
            None => log.newest(limit),
        }
    }
}

/// Of what, and of when.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Over {
    /// What it is.
    kind: HistoryKind,
    /// Its name as in the metrics, that of a volume behind its pool's, as in `tank/a`. The appliance has
    /// none.
    #[serde(default)]
    name: Option<String>,
    /// From then on, in milliseconds since 1970; an hour before the end unless given.
    #[serde(default)]
    #[schema(maximum = 18_446_744_073_709_551_615_u64)]
    from_ms: Option<u64>,
    /// Until then; until now unless given.
    #[serde(default)]
    #[schema(maximum = 18_446_744_073_709_551_615_u64)]
    to_ms: Option<u64>,
    /// Steps no shorter than so many seconds; the shortest that are kept for all of the time unless
    /// given.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 4_294_967_295_u64)]
    step_s: Option<u32>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Apply {
    /// Say what would be done, and do nothing.
    #[serde(default)]
    dry_run: bool,
}

pub(super) fn rows(table: &mut Table) {
    health(table);
    table.about("appliance");
    table.plain(
        get("/api/v1/appliance", "get_appliance", VIEWER, "Show the appliance."),
        |c: Call| c.control().appliance().map(Shown),
    );
    table.plain(
        get(
            "/api/v1/statistics",
            "get_statistics",
            VIEWER,
            "Show all statistics: volumes, hosts, devices, pools, reactors.",
        ),
        |c: Call| c.control().statistics().map(Shown),
    );
    table.plain(
        get(
            "/api/v1/history",
            "get_history",
            VIEWER,
            "Show how an object performed over time. Steps are seconds for an hour, minutes for a day \
             and hours for a month, and longer where there are many objects: the answer says how long.",
        ),
        |c: Call<'_, NoPath, Over>| {
            let Over { kind, from_ms, to_ms, step_s, .. } = c.query;
            let name = c.query.name.clone();
            c.control().history(&HistoryQuery { kind, name, from_ms, to_ms, step_s }).map(Shown)
        },
    );
    table.plain(
        get(
            "/api/v1/counters",
            "get_counters",
            VIEWER,
            "Show counters of reactors, transports and queues.",
        ),
        |c: Call| c.control().counters().map(Shown),
    );
    table.plain(
        get("/api/v1/alerts", "list_alerts", VIEWER, "List alerts: what somebody should look at."),
        |c: Call| c.control().alerts().map(List),
    );
    table.plain(
        get(
            "/api/v1/config",
            "get_config",
            VIEWER,
            "Show everything that was set up over the API, as a declaration.",
        ),
        |c: Call| c.control().declaration().map(Shown),
    );
    table.with_body(
        put("/api/v1/config", "apply_config", ADMIN, "Apply a declaration."),
        |c: Call<'_, NoPath, Apply, Declaration>| {
            let dry_run = c.query.dry_run;
            c.control().apply(c.body.clone(), dry_run).map(Shown)
        },
    );
    machine(table);
    happenings(table);
}

fn machine(table: &mut Table) {
    table.plain(
        get(
            "/api/v1/appliance/certificates",
            "list_certificates",
            VIEWER,
            "List the certificates of the API: one, or none where it is served without TLS, as on \
             loopback.",
        ),
        |c: Call| Ok(List(c.app.shown_certificate().into_iter().collect::<Vec<_>>())),
    );
    table.plain(
        get(
            "/api/v1/appliance/interfaces",
            "list_interfaces",
            VIEWER,
            "List the network interfaces of the machine.",
        ),
        |c: Call| c.control().interfaces().map(List),
    );
    table.plain(
        get("/api/v1/appliance/slots", "get_slots", VIEWER, "Show the slots of the image."),
        |c: Call| c.control().slots().map(Shown),
    );
    table.with_body(
        put(
            "/api/v1/appliance/update",
            "stage_update",
            ADMIN,
            "Send a piece of an update. Pieces come in order, and nothing is installed yet.",
        ),
        |c: Call<'_, NoPath, NoQuery, UpdatePiece>| {
            c.control().stage_update(c.body.clone()).map(Shown)
        },
    );
    table.with_body(
        post(
            "/api/v1/appliance/update",
            "install_update",
            ADMIN,
            "Install the update that was sent into the slot that does not run. The update is \
             signed, and no older than what runs unless that is allowed; the next start tries \
             the slot, and keeps it once it works.",
        ),
        |c: Call<'_, NoPath, NoQuery, UpdateInstall>| {
            c.control().install_update(c.body.clone()).map(Shown)
        },
    );
    table.plain(
        post(
            "/api/v1/appliance/reload",
            "reload",
            ADMIN,
            "Reload the configuration file and the API's certificate, as SIGHUP does.",
        ),
        |c: Call| c.control().reload().map(Shown),
    );
    table.plain(
        post("/api/v1/appliance/restart", "restart_machine", ADMIN, "Restart the machine."),
        |c: Call| c.control().end_machine(true).map(|()| Gone),
    );
    table.plain(
        post("/api/v1/appliance/power-off", "power_off", ADMIN, "Switch the machine off."),
        |c: Call| c.control().end_machine(false).map(|()| Gone),
    );
}

fn health(table: &mut Table) {
    table.about("health");
    table.plain(
        get("/healthz", "healthz", ANYONE, "Show whether the process answers."),
        |_: Call| Ok(Shown(Ready { ready: true, reason: "The process answers.".into() })),
    );
    table.plain(
        get("/readyz", "readyz", ANYONE, "Show whether the appliance serves; 503 if not."),
        |c: Call| match c.control().ready() {
            ready if ready.ready => Ok(Shown(ready)),
            ready => Err(Refusal::unavailable(ready.reason)),
        },
    );
    table.plain(get("/metrics", "metrics", VIEWER, "Show metrics for Prometheus."), |c: Call| {
        let statistics = c.control().statistics()?;
        Ok(Metrics(webui_model::render_metrics(&statistics, &c.control().event_log().counts())))
    });
    table
        .plain(get("/api/v1/openapi.json", "openapi", ANYONE, "Show this document."), |c: Call| {
            Ok(Document(c.app.document.clone()))
        });
}

fn happenings(table: &mut Table) {
    table.about("events");
    table.plain(
        get("/api/v1/events", "list_events", VIEWER, "List recent events, oldest first."),
        |c: Call<'_, NoPath, Recent>| Ok(Shown(c.query.of(c.control().event_log()))),
    );
    table.stream(get(
        "/api/v1/events/stream",
        "stream_events",
        VIEWER,
        "Stream events from now on, or after `Last-Event-ID` or `after`, as server-sent events.",
    ));
    table.about("jobs");
    table.plain(
        get(
            "/api/v1/jobs",
            "list_jobs",
            VIEWER,
            "List jobs that run, and jobs that ended recently.",
        ),
        |c: Call| c.control().jobs().map(List),
    );
    table.plain(
        get("/api/v1/jobs/{id}", "get_job", VIEWER, "Show a job."),
        |c: Call<'_, JobPath>| c.control().job(c.path.id).map(Shown),
    );
    table.plain(
        post(
            "/api/v1/jobs/{id}/cancel",
            "cancel_job",
            OPERATOR,
            "Cancel a job that drains a device: the device stays in the pool, and data that has \
             moved stays where it is. Jobs that reclaim space cannot be cancelled, nor can jobs \
             of drives that erase themselves.",
        ),
        |c: Call<'_, JobPath>| c.control().cancel_job(c.path.id).map(Shown),
    );
}
