//! What is written down of requests, and when.

use super::fault;
use crate::app::App;
use crate::limits;
use crate::operation::{Caller, Operation, Prepared, Reply};
use crate::security::{Unwritten, recorded_body, without_secrets};
use axum::http::request::Parts;
use std::sync::Arc;
use tokio::sync::watch;
use webui_audit::{Access, Intent};
use webui_model::{EventKind, Name, Object, ObjectKind, Refusal, Severity};

/// A change: written down, carried out, and what became of it written down. One that cannot be written
/// down is not carried out.
pub(super) fn change(
    app: &App,
    operation: &Operation,
    caller: &Caller,
    (parts, body): (&Parts, &[u8]),
    prepared: Prepared,
) -> Result<Reply, Refusal> {
    let mut intent = asked_for(operation, caller, parts);
    if operation.body.is_some() {
        intent.body = recorded_body(body);
    }
    let number = app.audit.intend(intent, app.world.unix_ms()).map_err(|unwritten| {
        let error = &unwritten.error;
        let sentence = format!(
            "Nothing was done, because it cannot be written into the audit log first: {error}. Free \
             some space in the data directory of the appliance, and try again."
        );
        tell(app, operation, caller, &unwritten);
        Refusal::unavailable(sentence)
    })?;
    let result = fault::carry_out(app, operation, caller, prepared);
    if let Err(unwritten) = app.audit.result(number, status_of(&result), app.world.unix_ms()) {
        tell(app, operation, caller, &unwritten);
    }
    result
}

/// The HTTP status of a result.
pub(super) fn status_of(result: &Result<Reply, Refusal>) -> u16 {
    match result {
        Ok(reply) => reply.status,
        Err(refusal) => refusal.kind.http_status(),
    }
}

/// Counts a request that changed nothing, and writes it down if its turn has come. May block.
pub(super) fn access(
    app: &App,
    operation: &Operation,
    caller: &Caller,
    parts: &Parts,
    status: u16,
) {
    if let Some(line) = counted(app, operation, caller, parts, status) {
        write(app, line);
    }
}

/// As [`access`], for a request that was refused before it had a thread.
pub(super) async fn refused(
    app: &Arc<App>,
    operation: &Operation,
    caller: &Caller,
    parts: &Parts,
    refusal: &Refusal,
) {
    let status = refusal.kind.http_status();
    if let Some(line) = counted(app, operation, caller, parts, status) {
        let app = Arc::clone(app);
        // The answer waits for the line: what is answered is on record.
        let written = move || fault::caught(|| write(&app, line));
        if let Ok(Err(fault)) = tokio::task::spawn_blocking(written).await {
            tracing::error!(said = fault.0, "a refusal is not in the audit log");
        }
    }
}

/// Writes down what was counted, when its minute is over, until the server stops.
pub(super) async fn write_counted(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(limits::AUDIT_LOOK) => {}
        }
        let app = Arc::clone(&app);
        let _ = tokio::task::spawn_blocking(move || write_due(&app, false)).await;
    }
}

/// Writes down what was counted: what is due, or all of it.
pub(super) fn write_due(app: &App, all: bool) {
    app.audit.due(app.world.now_ns(), all).into_iter().for_each(|line| write(app, line));
}

fn counted(
    app: &App,
    operation: &Operation,
    caller: &Caller,
    parts: &Parts,
    status: u16,
) -> Option<Access> {
    let request = asked_for(operation, caller, parts);
    app.audit.count(Access { request, status, count: 1 }, app.world.now_ns())
}

fn asked_for(operation: &Operation, caller: &Caller, parts: &Parts) -> Intent {
    let who = caller.identity.as_ref().or(caller.became.get());
    Intent {
        who: who.map(|who| who.name.clone()),
        role: who.map(|who| who.role),
        address: caller.peer.to_string(),
        session: who.and_then(|who| who.session.as_ref()).map(|session| session.0.clone()),
        operation: operation.id.to_owned(),
        method: parts.method.to_string(),
        path: without_secrets(parts.uri.path_and_query().map_or("", |path| path.as_str())),
        body: None,
    }
}

fn write(app: &App, line: Access) {
    let what = format!("{} of {}", line.request.operation, line.request.address);
    if let Err(unwritten) = app.audit.access(line, app.world.unix_ms()) {
        warn(app, &what, &unwritten);
    }
}

fn tell(app: &App, operation: &Operation, caller: &Caller, unwritten: &Unwritten) {
    let who = caller.identity.as_ref().map_or("nobody", |who| Name::as_str(&who.name));
    warn(app, &format!("{} of {who}", operation.id), unwritten);
}

/// What was done cannot be taken back: everybody is told instead, once until a line is written again.
fn warn(app: &App, what: &str, unwritten: &Unwritten) {
    let error = &unwritten.error;
    tracing::error!(%error, what, "the audit log could not be written");
    if unwritten.first {
        let object = Object::new(ObjectKind::Appliance, "audit log");
        let message = format!("The audit log cannot be written ({error}): {what} is not in it.");
        let at_ms = app.world.unix_ms();
        let (kind, severity) = (EventKind::Notice, Severity::Critical);
        app.control.event_log().publish(at_ms, kind, severity, object, message);
    }
}
