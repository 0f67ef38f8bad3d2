//! Requests: whose they are, whether they may, what they hold, and who answers them.

use super::origin::Target;
use super::{respond, stream};
use crate::app::{App, Credential, Denied};
use crate::limits;
use crate::operation::{Access, Action, After, Caller, Input, Operation};
use crate::peer::Peer;
use crate::security::{Identity, without_secrets};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Response};
use axum::routing::any;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};
use webui_model::{
    AuditRecord, EventKind, Name, Object, ObjectKind, Refusal, RefusalKind, Severity,
};

/// A file of the page.
pub struct Page {
    /// Its content type.
    pub content_type: &'static str,
    /// Its content.
    pub content: Vec<u8>,
}

/// The page, for browsers.
pub trait Pages: Send + Sync {
    /// The file at a path that starts with a slash.
    fn page(&self, path: &str) -> Option<Page>;
}

/// What the requests share.
pub(super) struct Shared {
    app: Arc<App>,
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

/// The operations of one path, by method.
type Methods = BTreeMap<String, Arc<Operation>>;

/// Routes for these paths.
pub(super) fn router(
    app: Arc<App>,
    paths: BTreeMap<&'static str, BTreeMap<String, Operation>>,
    pages: Option<Arc<dyn Pages>>,
    stopped: watch::Receiver<bool>,
) -> Router {
    let shared = Arc::new(Shared {
        app,
        calls: Arc::new(Semaphore::new(limits::CALLS)),
        streams: Arc::new(Semaphore::new(limits::STREAMS)),
        stopped,
    });
    let mut router = Router::new();
    for (path, methods) in paths {
        let methods: Methods =
            methods.into_iter().map(|(method, operation)| (method, Arc::new(operation))).collect();
        let (methods, shared) = (Arc::new(methods), Arc::clone(&shared));
        let answer = move |request: Request| {
            let (methods, shared) = (Arc::clone(&methods), Arc::clone(&shared));
            async move {
                match Target::of(&request, &shared.app.names) {
                    Ok(target) => answer(&shared, &methods, &target, request).await,
                    Err(refusal) => respond::refusal(refusal),
                }
            }
        };
        router = router.route(path, any(answer));
    }
    router.fallback(move |request: Request| {
        let (pages, shared) = (pages.clone(), Arc::clone(&shared));
        async move {
            match Target::of(&request, &shared.app.names) {
                Ok(_) => no_operation(pages.as_deref(), &request),
                Err(refusal) => respond::refusal(refusal),
            }
        }
    })
}

/// A path that no operation has: the page, or nothing.
fn no_operation(pages: Option<&dyn Pages>, request: &Request) -> Response<Body> {
    let path = request.uri().path();
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    let page = pages.filter(|_| looks && !path.starts_with("/api/")).and_then(|p| p.page(path));
    match page {
        Some(page) => respond::page(page),
        None => respond::refusal(Refusal::not_found(
            "There is nothing at this path: /api/v1/openapi.json lists those that are.",
        )),
    }
}

async fn answer(
    shared: &Arc<Shared>,
    methods: &Methods,
    target: &Target,
    request: Request,
) -> Response<Body> {
    let method = match request.method() {
        &Method::HEAD => Method::GET,
        method => method.clone(),
    };
    let Some(operation) = methods.get(method.as_str()) else {
        let mut allowed: Vec<&str> = methods.keys().map(String::as_str).collect();
        if methods.contains_key("GET") {
            allowed.push("HEAD");
        }
        return respond::method(&allowed.join(", "));
    };
    let (mut parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>().copied();
    let peer = peer.unwrap_or(Peer::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    let shown = shown(&shared.app, &parts.headers, peer);
    let from_own_page = target.is_origin_of(&parts.headers, shared.app.secure);
    let identity = match admit(&shared.app, operation, &shown, from_own_page, peer) {
        Ok(identity) => identity,
        Err(denied) => return deny(shared, operation, &parts, peer, denied).await,
    };
    if let Action::Stream = operation.action {
        return match start_of(&parts) {
            Ok(after) => {
                let (app, stopped) = (Arc::clone(&shared.app), shared.stopped.clone());
                let started = stream::events(app, shown, after, &shared.streams, stopped);
                started.unwrap_or_else(respond::refusal)
            }
            Err(refusal) => respond::refusal(refusal),
        };
    }
    let path = match RawPathParams::from_request_parts(&mut parts, &()).await {
        Ok(named) => named.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        Err(_) => return respond::refusal(malformed("The path is not encoded UTF-8.")),
    };
    let body = match read_body(operation, &parts.headers, body).await {
        Ok(body) => body,
        Err(refusal) => return respond::refusal(refusal),
    };
    let caller = Caller { identity, shown, peer };
    call(shared, Arc::clone(operation), Asked { caller, parts, path, body }).await
}

fn malformed(sentence: &str) -> Refusal {
    Refusal::new(RefusalKind::Malformed, sentence)
}

/// What a request shows of itself. A token comes before a session, and both before the socket that
/// it came over: whoever shows one wants its role.
fn shown(app: &App, headers: &HeaderMap, peer: Peer) -> Credential {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    if let Some(header) = text(AUTHORIZATION) {
        let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
        let token = token.trim();
        return match scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() {
            true => Credential::Token(token.to_owned()),
            false => Credential::Nothing,
        };
    }
    match text(COOKIE).and_then(|header| app.session_in(header)) {
        Some(session) => Credential::Session(session),
        None if matches!(peer, Peer::Socket { .. }) => Credential::Socket,
        None => Credential::Nothing,
    }
}

/// A request that is not let in; by whom, if that is known.
struct NotAdmitted {
    denied: Denied,
    identity: Option<Identity>,
}

fn admit(
    app: &App,
    operation: &Operation,
    shown: &Credential,
    from_own_page: bool,
    from: Peer,
) -> Result<Option<Identity>, NotAdmitted> {
    let Access::Role(role) = operation.access else { return Ok(None) };
    let identity =
        app.identify(shown, from).map_err(|denied| NotAdmitted { denied, identity: None })?;
    let forbidden = |sentence: String, identity: Identity| NotAdmitted {
        denied: Denied::Wrong(Refusal::new(RefusalKind::Forbidden, sentence)),
        identity: Some(identity),
    };
    if identity.role < role {
        let sentence = format!(
            "This needs the role {role}, and \"{}\" has the role {}.",
            identity.name, identity.role
        );
        return Err(forbidden(sentence, identity));
    }
    let cookie = matches!(shown, Credential::Session(_));
    if cookie && !operation.only_looks() && !from_own_page {
        // A browser sends the cookie along with whatever page asks; it also says which page.
        let sentence =
            "A change in a session has to come from a page of this appliance: its header \
                        Origin does not say so. Programs send a token instead."
                .to_owned();
        return Err(forbidden(sentence, identity));
    }
    Ok(Some(identity))
}

async fn deny(
    shared: &Arc<Shared>,
    operation: &Arc<Operation>,
    parts: &Parts,
    peer: Peer,
    not: NotAdmitted,
) -> Response<Body> {
    let refusal = match not.denied {
        // Whoever shows nothing costs nothing, and fills no log.
        Denied::Unknown(refusal) => return respond::refusal(refusal),
        Denied::TooMany(refusal) => {
            return respond::wait(refusal, shared.app.wait_seconds(peer));
        }
        Denied::Wrong(refusal) => refusal,
    };
    let status = refusal.kind.http_status();
    let caller = Caller { identity: not.identity, shown: Credential::Nothing, peer };
    let record = record(&shared.app, operation, &caller, parts, status);
    let app = Arc::clone(&shared.app);
    // The answer waits for the line: what is answered is on record.
    let _ = tokio::task::spawn_blocking(move || write_down(&app, record)).await;
    respond::refusal(refusal)
}

fn record(
    app: &App,
    operation: &Operation,
    caller: &Caller,
    parts: &Parts,
    status: u16,
) -> AuditRecord {
    AuditRecord {
        at_ms: app.world.unix_ms(),
        who: caller.identity.as_ref().map(|who| who.name.clone()),
        role: caller.identity.as_ref().map(|who| who.role),
        address: caller.peer.to_string(),
        operation: operation.id.to_owned(),
        method: parts.method.to_string(),
        path: without_secrets(parts.uri.path_and_query().map_or("", |path| path.as_str())),
        status,
    }
}

fn write_down(app: &App, record: AuditRecord) {
    if let Err(error) = app.audit.append(record.clone()) {
        tracing::error!(%error, ?record, "the audit log could not be written");
        // What was done cannot be taken back: everybody is told instead.
        let object = Object::new(ObjectKind::Appliance, "audit log");
        let message = format!(
            "The audit log cannot be written ({error}): {} of {} is not in it.",
            record.operation,
            record.who.as_ref().map_or("nobody", Name::as_str)
        );
        let (kind, severity) = (EventKind::Notice, Severity::Critical);
        app.control.event_log().publish(record.at_ms, kind, severity, object, message);
    }
}

/// Where a stream starts.
fn start_of(parts: &Parts) -> Result<Option<u64>, Refusal> {
    let query: After =
        Input { path: &[], query: parts.uri.query().unwrap_or(""), body: &[] }.query()?;
    match parts.headers.get("last-event-id") {
        None => Ok(query.after),
        Some(id) => id
            .to_str()
            .ok()
            .and_then(|id| id.parse().ok())
            .map(Some)
            .ok_or_else(|| malformed("Last-Event-ID is not the number of an event.")),
    }
}

async fn read_body(
    operation: &Operation,
    headers: &HeaderMap,
    body: Body,
) -> Result<Bytes, Refusal> {
    if operation.body.is_none() {
        return Ok(Bytes::new());
    }
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Refusal::new(
            RefusalKind::MediaType,
            "Send JSON, with the header Content-Type: application/json.",
        ));
    }
    let limit = match operation.access {
        Access::Anyone => limits::OPEN_BODY_BYTES,
        Access::Role(_) => limits::BODY_BYTES,
    };
    let whole = tokio::time::timeout(limits::BODY_TIME, axum::body::to_bytes(body, limit));
    match whole.await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(Refusal::new(
            RefusalKind::TooLarge,
            format!("The body is larger than {limit} bytes, or it broke off."),
        )),
        Err(_) => Err(Refusal::new(
            RefusalKind::Timeout,
            format!("The body did not come within {} s.", limits::BODY_TIME.as_secs()),
        )),
    }
}

/// A request, ready to be carried out.
struct Asked {
    caller: Caller,
    parts: Parts,
    path: Vec<(String, String)>,
    body: Bytes,
}

async fn call(shared: &Arc<Shared>, operation: Arc<Operation>, asked: Asked) -> Response<Body> {
    let slow = |what: &str| {
        respond::refusal(Refusal::unavailable(format!(
            "The appliance has not answered for {} s{what}.",
            limits::CALL_TIME.as_secs()
        )))
    };
    let room = Arc::clone(&shared.calls).acquire_owned();
    let Ok(Ok(place)) = tokio::time::timeout(limits::CALL_TIME, room).await else {
        return slow(": it is busy, try again");
    };
    let app = Arc::clone(&shared.app);
    let called = tokio::task::spawn_blocking(move || {
        let response = carry_out(&app, &operation, &asked);
        drop(place);
        response
    });
    match tokio::time::timeout(limits::CALL_TIME, called).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            tracing::error!(%error, "an operation of the API panicked");
            let sentence = "The appliance has a fault: its log says more.";
            respond::refusal(Refusal::new(RefusalKind::Internal, sentence))
        }
        Err(_) => slow("; what was asked for goes on"),
    }
}

/// Carries out a request, and writes it down if it changes anything. Runs to its end, also when the
/// client has gone.
fn carry_out(app: &App, operation: &Operation, asked: &Asked) -> Response<Body> {
    let Action::Call(run) = &operation.action else { unreachable!("streams are answered before") };
    let query = asked.parts.uri.query().unwrap_or("");
    let input = Input { path: &asked.path, query, body: &asked.body };
    // It may have waited for its body and for its turn: a token that was revoked meanwhile does
    // nothing any more.
    let result = match asked.caller.identity.is_none() || app.still(&asked.caller.shown) {
        true => run(app, &asked.caller, input),
        false => Err(Refusal::new(
            RefusalKind::Unauthenticated,
            "The token was revoked, or the session has ended, while the request waited.",
        )),
    };
    let result = result.map_err(|refusal| operation.documented(refusal));
    let status = match &result {
        Ok(reply) => reply.status,
        Err(refusal) => refusal.kind.http_status(),
    };
    if !operation.only_looks() && status != RefusalKind::TooMany.http_status() {
        write_down(app, record(app, operation, &asked.caller, &asked.parts, status));
    }
    match result {
        Ok(reply) => respond::success(reply),
        Err(refusal) if refusal.kind == RefusalKind::TooMany => {
            respond::wait(refusal, app.wait_seconds(asked.caller.peer))
        }
        Err(refusal) => respond::refusal(refusal),
    }
}
