//! Where a request says it is sent to, and which page it says it comes from.

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri};
use std::net::IpAddr;
use webui_model::{Refusal, RefusalKind};

/// What a request is sent to, in the words of whoever sends it: a name or address that is ours.
pub(super) struct Target(Authority);

/// The host of an authority, without the brackets of IPv6.
fn bare_host(authority: &Authority) -> &str {
    let host = authority.host();
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

fn malformed(sentence: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Malformed, sentence)
}

/// What stands in the request: its target if that names a host (RFC 9112, 3.2.2), else the header
/// Host.
fn written(request: &Request) -> Result<Authority, Refusal> {
    if let Some(authority) = request.uri().authority() {
        return Ok(authority.clone());
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes())
            .map_err(|_| malformed("The header Host is no name or address with a port.")),
        _ => Err(malformed("A request has one header Host.")),
    }
}

impl Target {
    /// Reads and checks what a request is sent to. A page elsewhere whose name is made to lead here
    /// (DNS rebinding) sends that name: it is none of ours.
    ///
    /// # Errors
    /// `Malformed`: there is none, or it is neither an address, nor `localhost`, nor one of `names`.
    pub(super) fn of(request: &Request, names: &[String]) -> Result<Self, Refusal> {
        let authority = written(request)?;
        let host = bare_host(&authority);
        let ours = host.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || names.iter().any(|name| name.eq_ignore_ascii_case(host));
        if !ours || authority.as_str().contains('@') {
            return Err(malformed(format!(
                "This appliance is not known by the name {host:?}: use its address, or give the name \
                 in names below [api] of its configuration, or with --api-name."
            )));
        }
        Ok(Self(authority))
    }

    /// Whether it is sent to one of these names, and not to an address or `localhost`.
    pub(super) fn is_named(&self, names: &[String]) -> bool {
        let host = bare_host(&self.0);
        let is_name = host.parse::<IpAddr>().is_err() && !host.eq_ignore_ascii_case("localhost");
        is_name && names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }

    /// Whether the page that asks is one of ours, as the browser says: scheme, host and port are
    /// those of the request itself (RFC 6454). What says nothing is none.
    pub(super) fn is_origin_of(&self, headers: &HeaderMap, secure: bool) -> bool {
        let mut origins = headers.get_all(ORIGIN).iter();
        let (Some(origin), None) = (origins.next(), origins.next()) else { return false };
        let Ok(origin) = Uri::try_from(origin.as_bytes()) else { return false };
        let (scheme, port) = if secure { ("https", 443) } else { ("http", 80) };
        let Some(page) = origin.authority() else { return false };
        origin.scheme_str() == Some(scheme)
            && page.host().eq_ignore_ascii_case(self.0.host())
            && page.port_u16().unwrap_or(port) == self.0.port_u16().unwrap_or(port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn target(uri: &str, hosts: &[&str]) -> Result<Target, Refusal> {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let names = ["node-a.example".to_owned()];
        Target::of(&request.body(Body::empty()).unwrap(), &names)
    }

    #[test]
    fn a_request_is_for_an_address_localhost_or_a_name_that_was_given() {
        for host in [
            "10.0.0.1",
            "10.0.0.1:4480",
            "[::1]:4480",
            "[2001:db8::5]",
            "localhost",
            "LOCALHOST:1",
            "node-a.example:4480",
            "Node-A.Example",
        ] {
            assert!(target("/x", &[host]).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "node-a.example.evil.example",
            "localhost.evil.example",
            "x@localhost",
            "10.0.0.1.evil.example",
            "",
            "a b",
        ] {
            assert!(target("/x", &[host]).is_err(), "{host}");
        }
        assert!(target("/x", &[]).is_err());
        assert!(target("/x", &["localhost", "localhost"]).is_err());
        assert!(target("http://evil.example/x", &["localhost"]).is_err(), "the target goes first");
        assert!(target("http://localhost/x", &["evil.example"]).is_ok());
        let named = |host: &str| {
            let names = ["node-a.example", "localhost", "10.0.0.1"].map(str::to_owned);
            target("/x", &[host]).unwrap().is_named(&names)
        };
        assert!(named("node-a.example:4480") && !named("localhost") && !named("10.0.0.1"));
    }

    #[test]
    fn an_origin_is_ours_with_scheme_host_and_port() {
        let own = |host: &str, origins: &[&str], secure: bool| {
            let mut headers = HeaderMap::new();
            for origin in origins {
                headers.append(ORIGIN, origin.parse().unwrap());
            }
            target("/x", &[host]).unwrap().is_origin_of(&headers, secure)
        };
        assert!(own("localhost:4480", &["http://localhost:4480"], false));
        assert!(own("localhost", &["http://localhost:80"], false));
        assert!(own("[::1]:4480", &["https://[::1]:4480"], true));
        assert!(own("node-a.example", &["https://NODE-A.example"], true));
        for (origins, secure) in [
            (&[][..], false),
            (&["null"], false),
            (&["https://localhost:4480"], false),
            (&["http://localhost:4480"], true),
            (&["http://localhost"], false),
            (&["http://localhost:4481"], false),
            (&["http://evil.example:4480"], false),
            (&["http://localhost:4480", "http://localhost:4480"], false),
        ] {
            assert!(!own("localhost:4480", origins, secure), "{origins:?} {secure}");
        }
    }
}
