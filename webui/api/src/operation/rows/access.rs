//! Who may use the API, and who did.

use super::{ADMIN, ANYONE, Limit, TokenPath, VIEWER, delete, get, post};
use crate::app::Credential;
use crate::operation::{Call, Check, Gone, List, NoPath, NoQuery, Shown, Table, WithCookie};
use serde::Deserialize;
use utoipa::ToSchema;
use webui_model::{
    AuditRecord, EventKind, Made, NewToken, Object, ObjectKind, Refusal, RefusalKind, Session,
    Severity, TokenCreate,
};

/// Open a session.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LogIn {
    /// The secret of a token, or a code of `create_session_code`.
    #[schema(min_length = 1, max_length = 256)]
    token: String,
}

impl Check for LogIn {}

/// Which records of the audit log.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Records {
    /// At most so many; 100 unless given.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<Limit>,
    /// Log-ins, and requests that were refused, instead of changes: a record a minute for each
    /// caller.
    #[serde(default)]
    access: bool,
}

pub(super) fn rows(table: &mut Table) {
    table.about("access");
    sessions(table);
    table.plain(
        get("/api/v1/tokens", "list_tokens", ADMIN, "List tokens, without their secrets."),
        |c: Call| Ok(List(c.app.tokens.list())),
    );
    table.with_body(
        post("/api/v1/tokens", "create_token", ADMIN, "Create a token. The secret is shown once."),
        |c: Call<'_, NoPath, NoQuery, TokenCreate>| create(&c).map(Made::New),
    );
    table.plain(
        delete(
            "/api/v1/tokens/{name}",
            "revoke_token",
            ADMIN,
            "Revoke a token, and end the token's sessions.",
        ),
        |c: Call<'_, TokenPath>| {
            c.app.tokens.revoke(&c.path.name)?;
            tell(&c, EventKind::Deleted, &c.path.name, "is revoked");
            Ok(Gone)
        },
    );
    table.plain(
        get(
            "/api/v1/audit",
            "list_audit",
            ADMIN,
            "List the audit log, newest first: who changed what, was let in, or was refused.",
        ),
        |c: Call<'_, NoPath, Records>| {
            let limit = Limit::get(c.query.limit);
            c.app.audit.newest(c.query.access, limit).map(List::<AuditRecord>).map_err(|error| {
                Refusal::new(
                    RefusalKind::Internal,
                    format!("The audit log cannot be read: {error}."),
                )
            })
        },
    );
}

fn create(c: &Call<'_, NoPath, NoQuery, TokenCreate>) -> Result<NewToken, Refusal> {
    let token = c.app.tokens.create(c.body.clone(), &*c.app.world)?;
    tell(c, EventKind::Created, &token.name, &format!("is new, with the role {}", token.role));
    Ok(token)
}

fn tell<P, Q, B>(c: &Call<'_, P, Q, B>, kind: EventKind, name: &webui_model::Name, what: &str) {
    let object = Object::new(ObjectKind::Token, name.as_str());
    let message = format!("Token \"{name}\" {what}.");
    c.control().event_log().publish(c.app.world.unix_ms(), kind, Severity::Info, object, message);
}

fn sessions(table: &mut Table) {
    table.with_body(
        post(
            "/api/v1/session",
            "open_session",
            ANYONE,
            "Log in, for browsers: a cookie takes the place of the token.",
        ),
        |c: Call<'_, NoPath, NoQuery, LogIn>| {
            let (identity, cookie) = c.app.log_in(&c.body.token, c.caller.peer)?;
            let session = Session { name: identity.name.clone(), role: identity.role };
            c.caller.became.get_or_init(|| identity);
            Ok(WithCookie(session, cookie))
        },
    );
    table.plain(
        post(
            "/api/v1/session/codes",
            "create_session_code",
            VIEWER,
            "Make a code that opens one session of whoever asks, for a link into a browser: it is shown \
             in place of a token, within five minutes and once.",
        ),
        |c: Call| c.app.make_code(&c.caller.shown).map(Shown),
    );
    table.plain(
        get("/api/v1/session", "get_session", VIEWER, "Show who is logged in."),
        |c: Call| match &c.caller.identity {
            Some(who) => Ok(Shown(Session { name: who.name.clone(), role: who.role })),
            None => Err(Refusal::new(RefusalKind::Unauthenticated, "Nobody is logged in.")),
        },
    );
    table.plain(delete("/api/v1/session", "close_session", VIEWER, "Log out."), |c: Call| {
        if let Credential::Session(value) = &c.caller.shown {
            c.app.tokens.log_out(value);
        }
        Ok(Gone)
    });
}
