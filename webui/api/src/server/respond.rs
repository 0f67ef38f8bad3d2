//! Answers as HTTP has them.

use super::http::Page;
use crate::operation::Reply;
use axum::body::Body;
use axum::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER,
    SET_COOKIE, STRICT_TRANSPORT_SECURITY, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use webui_model::{ErrorBody, Refusal, RefusalKind};

fn bare(status: u16, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(ANSWER_POLICY));
    response
}

/// An answer that goes on.
pub(super) fn stream(body: Body) -> Response<Body> {
    let mut response = bare(200, Vec::new()).map(|_| body);
    set(&mut response, CONTENT_TYPE, "text/event-stream");
    response
}

/// The same, with the word that the name is spoken to over TLS alone for a year (RFC 6797). Browsers
/// take it for every port of the name.
pub(super) fn strictly(mut response: Response<Body>, strict: bool) -> Response<Body> {
    if strict {
        set(&mut response, STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
    response
}

/// Sets a header; a value that is none is left out.
fn set(response: &mut Response<Body>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The answer to something that was done.
pub(super) fn success(reply: Reply) -> Response<Body> {
    let empty = reply.body.is_empty();
    let mut response = bare(reply.status, reply.body);
    if !empty {
        set(&mut response, CONTENT_TYPE, reply.content_type);
    }
    if let Some(cookie) = reply.cookie {
        set(&mut response, SET_COOKIE, &cookie);
    }
    response
}

/// The answer to something that was not.
pub(super) fn refusal(refusal: Refusal) -> Response<Body> {
    let kind = refusal.kind;
    let body = serde_json::to_vec(&ErrorBody { error: refusal }).expect("two texts");
    let mut response = bare(kind.http_status(), body);
    set(&mut response, CONTENT_TYPE, "application/json");
    match kind {
        RefusalKind::Unauthenticated => set(&mut response, WWW_AUTHENTICATE, "Bearer"),
        RefusalKind::Unavailable => set(&mut response, RETRY_AFTER, "1"),
        _ => {}
    }
    response
}

/// The answer to somebody who has to wait.
pub(super) fn wait(why: Refusal, seconds: u64) -> Response<Body> {
    let mut response = refusal(why);
    set(&mut response, RETRY_AFTER, &seconds.to_string());
    response
}

/// The answer to a method that a path does not take.
pub(super) fn method(allowed: &str) -> Response<Body> {
    let sentence = format!("This path takes {allowed} only.");
    let mut response = refusal(Refusal::new(RefusalKind::Method, sentence));
    set(&mut response, ALLOW, allowed);
    response
}

/// What the page may load: files that come from us. Nothing that stands in the page itself runs or
/// styles it, so that text which gets into it stays text.
const PAGE_POLICY: &str = "default-src 'self'; img-src 'self' data:; object-src 'none'; \
                           base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// An answer of the API is no page, whatever a browser takes it for.
const ANSWER_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// A file of the page.
pub(super) fn page(page: &Page, takes_gzip: bool) -> Response<Body> {
    let packed = page.gzip.filter(|_| takes_gzip);
    let mut response = bare(200, packed.unwrap_or(page.content));
    if packed.is_some() {
        set(&mut response, CONTENT_ENCODING, "gzip");
    }
    if page.gzip.is_some() {
        set(&mut response, VARY, "Accept-Encoding");
    }
    set(&mut response, CONTENT_TYPE, page.content_type);
    set(&mut response, CONTENT_SECURITY_POLICY, PAGE_POLICY);
    let kept = if page.lasting { "public, max-age=31536000, immutable" } else { "no-cache" };
    set(&mut response, CACHE_CONTROL, kept);
    response
}
