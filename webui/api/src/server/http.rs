//! Requests: whose they are, whether they may, what they hold, and who answers them.

use super::origin::Target;
use super::places::Places;
use super::{fault, ledger, respond, stream};
use crate::app::{App, Credential, Denied};
use crate::limits;
use crate::operation::{Access, Action, After, Caller, Input, Operation, Prepared, Recorded};
use crate::peer::Peer;
use crate::security::Identity;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, Response};
use axum::routing::any;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use webui_model::{Name, Refusal, RefusalKind, Role};

/// A file of the page.
pub struct Page {
    /// Its content type.
    pub content_type: &'static str,
    /// Its content.
    pub content: &'static [u8],
    /// The same as gzip packs it, for browsers that take it so: all do.
    pub gzip: Option<&'static [u8]>,
    /// Whether what is at this path never changes: its name says what is in it.
    pub lasting: bool,
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
    /// Calls that operators and admins have for themselves.
    operators_calls: Arc<Semaphore>,
    streams: Arc<Places<Name>>,
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
        calls: Arc::new(Semaphore::new(limits::CALLS - limits::CALLS_OF_OPERATORS)),
        operators_calls: Arc::new(Semaphore::new(limits::CALLS_OF_OPERATORS)),
        streams: stream::places(),
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
                    Ok(target) => {
                        let answer = answer(&shared, &methods, &target, request);
                        let answer = fault::caught_in(answer).await.unwrap_or_else(|fault| {
                            respond::refusal(fault::tell(&shared.app, path, &fault))
                        });
                        respond::strictly(answer, is_strict(&shared.app, &target))
                    }
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
                Ok(target) => {
                    let answer = no_operation(pages.as_deref(), &request);
                    respond::strictly(answer, is_strict(&shared.app, &target))
                }
                Err(refusal) => respond::refusal(refusal),
            }
        }
    })
}

/// Whether a browser shall speak to this name over TLS alone. Not where we made the certificate: who
/// trusts that has to be able to look at the next one.
fn is_strict(app: &App, target: &Target) -> bool {
    app.strict && target.is_named(&app.names)
}

/// A path that no operation has: the page, or nothing.
fn no_operation(pages: Option<&dyn Pages>, request: &Request) -> Response<Body> {
    let path = request.uri().path();
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    let page = pages.filter(|_| looks && !path.starts_with("/api/")).and_then(|p| p.page(path));
    match page {
        Some(page) => respond::page(&page, takes_gzip(request.headers())),
        None => respond::refusal(Refusal::not_found(
            "There is nothing at this path: /api/v1/openapi.json lists those that are.",
        )),
    }
}

/// Whether an answer may be packed (RFC 9110, 12.5.3). Who ranks what it takes is rare, and gets it as
/// it is.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepts = headers.get(ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or("");
    accepts.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("gzip"))
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
                let place = identity.as_ref().and_then(|who| stream::place(&shared.streams, who));
                let started = stream::events(app, shown, after, place, stopped);
                started.unwrap_or_else(respond::refusal)
            }
            Err(refusal) => respond::refusal(refusal),
        };
    }
    let path = match RawPathParams::from_request_parts(&mut parts, &()).await {
        Ok(named) => named.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        Err(_) => return respond::refusal(malformed("The path is not encoded UTF-8.")),
    };
    let caller = Caller::new(identity, shown, peer);
    let body = match read_body(operation, &parts.headers, body).await {
        Ok(body) => body,
        Err(refusal) => {
            if caller.identity.is_some() {
                ledger::refused(&shared.app, operation, &caller, &parts, &refusal).await;
            }
            return respond::refusal(refusal);
        }
    };
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
            let caller = Caller::new(None, Credential::Nothing, peer);
            ledger::refused(&shared.app, operation, &caller, parts, &refusal).await;
            return respond::wait(refusal, shared.app.wait_seconds(peer));
        }
        Denied::Wrong(refusal) => refusal,
    };
    let caller = Caller::new(not.identity, Credential::Nothing, peer);
    ledger::refused(&shared.app, operation, &caller, parts, &refusal).await;
    respond::refusal(refusal)
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

/// Waits for a place for a call. Those who only look do not keep others from changing something.
async fn room(shared: &Shared, caller: &Caller) -> Option<OwnedSemaphorePermit> {
    let all = Arc::clone(&shared.calls).acquire_owned();
    let place = match caller.identity.as_ref().is_some_and(|who| who.role >= Role::Operator) {
        true => tokio::select! {
            place = all => place,
            place = Arc::clone(&shared.operators_calls).acquire_owned() => place,
        },
        false => all.await,
    };
    place.ok()
}

async fn call(shared: &Arc<Shared>, operation: Arc<Operation>, asked: Asked) -> Response<Body> {
    let slow = |what: &str| {
        respond::refusal(Refusal::unavailable(format!(
            "The appliance has not answered for {} s{what}.",
            limits::CALL_TIME.as_secs()
        )))
    };
    let room = room(shared, &asked.caller);
    let Ok(Some(place)) = tokio::time::timeout(limits::CALL_TIME, room).await else {
        return slow(": it is busy, try again");
    };
    let app = Arc::clone(&shared.app);
    let called = tokio::task::spawn_blocking(move || {
        let response = fault::caught(|| carry_out(&app, &operation, &asked));
        drop(place);
        response.unwrap_or_else(|fault| respond::refusal(fault::tell(&app, operation.id, &fault)))
    });
    match tokio::time::timeout(limits::CALL_TIME, called).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => respond::refusal(Refusal::unavailable("The API stops.")),
        Err(_) => slow("; what was asked for goes on"),
    }
}

/// Carries out a request, and writes it down. Runs to its end, also when the client has gone.
fn carry_out(app: &App, operation: &Operation, asked: &Asked) -> Response<Body> {
    let Asked { caller, parts, body, .. } = asked;
    let result = match prepare(app, operation, asked) {
        Ok(prepared) if operation.recorded() == Recorded::Change => {
            ledger::change(app, operation, caller, (parts, body), prepared)
        }
        Ok(prepared) => {
            let result = fault::carry_out(app, operation, caller, prepared);
            if operation.recorded() == Recorded::Access {
                ledger::access(app, operation, caller, parts, ledger::status_of(&result));
            }
            result
        }
        Err(refusal) => {
            let result = Err(operation.documented(refusal));
            if !operation.only_looks() {
                ledger::access(app, operation, caller, parts, ledger::status_of(&result));
            }
            result
        }
    };
    match result {
        Ok(reply) => respond::success(reply),
        Err(refusal) if refusal.kind == RefusalKind::TooMany => {
            respond::wait(refusal, app.wait_seconds(caller.peer))
        }
        Err(refusal) => respond::refusal(refusal),
    }
}

/// Reads a request.
fn prepare(app: &App, operation: &Operation, asked: &Asked) -> Result<Prepared, Refusal> {
    let Action::Call(prepare) = &operation.action else {
        unreachable!("streams are answered before")
    };
    // It may have waited for its body and for its turn: a token that was revoked meanwhile does
    // nothing any more.
    if asked.caller.identity.is_some() && !app.still(&asked.caller.shown) {
        return Err(Refusal::new(
            RefusalKind::Unauthenticated,
            "The token was revoked, or the session has ended, while the request waited.",
        ));
    }
    let query = asked.parts.uri.query().unwrap_or("");
    prepare(&asked.caller, Input { path: &asked.path, query, body: &asked.body })
}
