//! What is served, and what is refused, in the one shape of errors.

use crate::appliance::Appliance;
use crate::client::{Puppet, Rig, config, connect_from, send};
use serde_json::json;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use webui_api::{Page, Pages, Server};
use webui_model::{Control, Severity};

fn rig() -> Rig {
    Rig::new(Appliance::furnished())
}

#[test]
fn creates_are_idempotent_and_say_what_is_in_the_way() {
    let rig = rig();
    let path = "/api/v1/pools/tank/volumes";
    let mut volume = json!({"name": "new", "bytes": 1 << 20});
    assert_eq!(rig.ask("POST", path, Some(&volume)).status, 201);
    let again = rig.ask("POST", path, Some(&volume));
    assert_eq!((again.status, again.json()["name"].as_str()), (200, Some("new")));
    volume["bytes"] = json!(2 << 20);
    let other = rig.ask("POST", path, Some(&volume));
    assert_eq!(other.status, 409);
    let (kind, message) = other.refusal();
    assert_eq!(kind, "exists");
    assert!(message.contains("it has 1048576 bytes, not 2097152"), "{message}");
}

#[test]
fn what_cannot_be_read_is_refused_in_one_shape() {
    let rig = rig();
    let volumes = "/api/v1/pools/tank/volumes";
    let ask = |method: &str, path: &str, body: serde_json::Value| {
        let answer = rig.ask(method, path, Some(&body));
        let (kind, message) = answer.refusal();
        assert!(message.ends_with('.'), "{message}");
        (answer.status, kind, message)
    };
    let (status, kind, message) =
        ask("POST", volumes, json!({"name": "x", "bytes": 4096, "size": 1}));
    assert_eq!((status, kind.as_str()), (400, "malformed"));
    assert!(message.contains("unknown field `size`"), "{message}");
    let (status, _, message) = ask("POST", volumes, json!({"name": "x", "bytes": "many"}));
    assert!(status == 400 && message.contains("at bytes"), "{message}");
    let (status, _, message) = ask("POST", volumes, json!({"name": "x", "bytes": 4096.5}));
    assert!(status == 400 && message.contains("floating point"), "{message}");
    let (status, _, message) = ask("POST", volumes, json!(["x", 4096]));
    assert!(status == 400 && message.contains("expected an object"), "{message}");
    let array = json!({"name": "x", "bytes": 4096, "limits": [null, null]});
    let (status, _, message) = ask("POST", volumes, array);
    assert!(
        status == 400 && message.contains("at limits") && message.contains("an array"),
        "{message}"
    );
    let namespaces = "/api/v1/subsystems/nqn.2026-01.org.example:shared/namespaces";
    for source in
        [json!({"device": "d3", "x": 1}), json!({"volume": ["tank", "a"]}), json!("device")]
    {
        assert_eq!(ask("POST", namespaces, json!({"source": source})).0, 400);
    }
    let device = json!({"source": {"device": "d3"}, "nsid": null});
    assert_eq!(rig.ask("POST", namespaces, Some(&device)).status, 201);
    let whole = json!({"name": "whole", "bytes": 4096.0});
    assert_eq!(rig.ask("POST", volumes, Some(&whole)).status, 201, "to JSON Schema it is 4096");
    let (status, kind, _) = ask("POST", volumes, json!({"name": "x", "bytes": 4097}));
    assert_eq!((status, kind.as_str()), (422, "invalid"));
    let (status, _, message) = ask("GET", "/api/v1/pools/a%20b", json!(null));
    assert!(status == 400 && message.contains("is no name"), "{message}");
    let (status, _, message) = ask("GET", "/api/v1/pools?page=1", json!(null));
    assert!(status == 400 && message.contains("unknown field `page`"), "{message}");
    assert_eq!(ask("GET", "/api/v1/pools/none", json!(null)).0, 404);
    assert_eq!(ask("GET", "/api/v1/pool", json!(null)).0, 404);
    assert_eq!(ask("GET", "/api/v1/pools/%FF", json!(null)).0, 400);
    assert_eq!(ask("PATCH", "/api/v1/pools", json!({})).0, 405);
    assert_eq!(rig.ask("PATCH", "/api/v1/pools", None).header("allow"), Some("GET, POST, HEAD"));
}

#[test]
fn bodies_have_limits() {
    let rig = rig();
    let path = "/api/v1/pools/tank/volumes";
    let headers = |kind: &str| {
        vec![
            ("Authorization".to_owned(), format!("Bearer {}", rig.admin)),
            ("Content-Type".to_owned(), kind.to_owned()),
        ]
    };
    let answer = send(rig.address(), "POST", path, &headers("text/plain"), b"{}");
    assert_eq!((answer.status, answer.refusal().0.as_str()), (415, "media_type"));
    let broken = send(rig.address(), "POST", path, &headers("application/json"), b"{\"name\": ");
    assert_eq!(broken.status, 400);
    let two =
        send(rig.address(), "POST", path, &headers("application/json; charset=utf-8"), b"{} {}");
    assert_eq!(two.status, 400);
    let login =
        send(rig.address(), "POST", "/api/v1/session", &headers("application/json"), &[b' '; 5000]);
    assert_eq!((login.status, login.refusal().0.as_str()), (413, "too_large"));
    let long = vec![b' '; (4 << 20) + 1];
    let answer = send(rig.address(), "POST", path, &headers("application/json"), &long);
    assert_eq!((answer.status, answer.refusal().0.as_str()), (413, "too_large"));
}

#[test]
fn health_is_open_and_tells_the_truth() {
    let rig = rig();
    assert_eq!(rig.ask_as(None, "GET", "/healthz", None).status, 200);
    assert_eq!(rig.ask_as(None, "GET", "/readyz", None).status, 200);
    let mut ready = rig.appliance.ready.lock().unwrap();
    ready.ready = false;
    ready.reason = "Pool tank is being imported.".into();
    drop(ready);
    let answer = rig.ask_as(None, "GET", "/readyz", None);
    assert_eq!(answer.status, 503);
    assert_eq!(answer.refusal().1, "Pool tank is being imported.");
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let rig = rig();
    let answer = rig.ask("GET", "/metrics", None);
    let text = answer.text();
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    for line in [
        "forebay_volume_reads_total{pool=\"tank\",volume=\"a\"} 3",
        "forebay_device_read_bytes_total{device=\"d0\"} 20480",
        "forebay_volume_read_latency_seconds_bucket{pool=\"tank\",volume=\"a\",le=\"0.0001\"} 5",
        "forebay_volume_read_latency_seconds_bucket{pool=\"tank\",volume=\"a\",le=\"+Inf\"} 6",
        "forebay_volume_read_latency_seconds_count{pool=\"tank\",volume=\"a\"} 6",
        "forebay_reactor_busy_ratio{reactor=\"0\"} 0.25",
        "forebay_pool_reserved_bytes{pool=\"tank\"} 33554432",
        "# TYPE forebay_events_total counter",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
    let mut families = std::collections::BTreeSet::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap().to_owned();
            assert!(families.insert(family.clone()), "{family} twice");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&family), "{line} in {family}");
            let value = line.rsplit(' ').next().unwrap();
            assert!(value.parse::<f64>().is_ok(), "{line}");
        }
    }
}

#[test]
fn a_name_that_is_not_ours_is_not_answered() {
    let rig = rig();
    let ask = |host: &str, path: &str| {
        let headers = [
            ("Host".to_owned(), host.to_owned()),
            ("Authorization".to_owned(), format!("Bearer {}", rig.admin)),
        ];
        send(rig.address(), "GET", path, &headers, b"")
    };
    for path in ["/api/v1/pools", "/healthz", "/", "/none"] {
        let answer = ask("evil.example:4480", path);
        assert_eq!((answer.status, answer.refusal().0.as_str()), (400, "malformed"), "{path}");
        assert!(answer.refusal().1.contains("not known by the name \"evil.example\""), "{path}");
    }
    for host in ["localhost", "10.1.2.3:9", "[2001:db8::1]:4480"] {
        assert_eq!(ask(host, "/api/v1/pools").status, 200, "{host}");
    }
}

struct OnePage;

impl Pages for OnePage {
    fn page(&self, path: &str) -> Option<Page> {
        let gzip = (path == "/packed").then_some(&b"packed"[..]);
        let page =
            Page { content_type: "text/html", content: b"<p>x", gzip, lasting: gzip.is_some() };
        ["/", "/packed"].contains(&path).then_some(page)
    }
}

#[test]
fn a_page_runs_and_styles_nothing_that_stands_in_it() {
    let folder = tempfile::TempDir::new().unwrap();
    let mut config = config(&folder);
    config.pages = Some(Arc::new(OnePage));
    let world = Arc::new(Puppet::default());
    let server = Server::start(config, Arc::new(Appliance::furnished()), world).unwrap();
    let answer = send(server.address().unwrap(), "GET", "/", &[], b"");
    assert_eq!((answer.status, answer.text().as_str()), (200, "<p>x"));
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(answer.header("cache-control"), Some("no-cache"));
    let ask = |path, accepts: &str| {
        let headers = [("Accept-Encoding".to_owned(), String::from(accepts))];
        send(server.address().unwrap(), "GET", path, &headers, b"")
    };
    for (accepts, packed) in [("br, GZIP", true), ("identity", false), ("gzip;q=0", false)] {
        let answer = ask("/packed", accepts);
        let coding = answer.header("content-encoding");
        assert_eq!(
            (coding, &*answer.text()),
            if packed { (Some("gzip"), "packed") } else { (None, "<p>x") }
        );
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
        assert!(answer.header("cache-control").unwrap().contains("immutable"));
        assert_eq!(ask("/", accepts).header("content-encoding"), None);
    }
}

#[test]
fn no_answer_is_taken_for_a_page() {
    let rig = rig();
    for path in ["/api/v1/pools", "/api/v1/none", "/none", "/api/v1/events/stream"] {
        let answer = rig.ask("HEAD", path, None);
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
}

#[test]
fn a_declaration_is_applied_and_exported() {
    let rig = rig();
    let exported = rig.ask("GET", "/api/v1/config", None).json();
    let again = rig.ask("PUT", "/api/v1/config", Some(&exported));
    assert_eq!((again.status, again.json()["changes"].clone()), (200, json!([])));
    let mut wanted = exported.clone();
    wanted["pool"][0]["volume"][0]["bytes"] = json!("1GiB");
    let dry = rig.ask("PUT", "/api/v1/config?dry_run=true", Some(&wanted)).json();
    assert_eq!(dry["changes"].as_array().unwrap().len(), 1, "{dry}");
    assert_eq!(rig.ask("GET", "/api/v1/config", None).json(), exported);
    let done = rig.ask("PUT", "/api/v1/config", Some(&wanted)).json();
    assert_eq!(done["changes"], dry["changes"]);
    assert_eq!(rig.ask("GET", "/api/v1/config", None).json(), wanted);
}

#[test]
fn what_is_under_way_ends_before_the_server_stops() {
    let mut rig = rig();
    let address = rig.address();
    let appliance = Arc::clone(&rig.appliance);
    let held = appliance.ready.lock().unwrap();
    let asking = std::thread::spawn(move || send(address, "GET", "/readyz", &[], b""));
    while appliance.asked.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    let server = rig.server.take().unwrap();
    let stopping = std::thread::spawn(move || server.stop());
    // Nobody new is let in once it stops; who is in waits for the answer.
    while TcpStream::connect(address).is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(held);
    assert_eq!(asking.join().unwrap().status, 200);
    stopping.join().unwrap();
}

#[test]
fn a_fault_of_the_appliance_is_an_error_of_the_same_shape() {
    let rig = rig();
    let appliance = Arc::clone(&rig.appliance);
    let dies = std::thread::spawn(move || {
        let _held = appliance.ready.lock().unwrap();
        panic!("so that the next who asks panics too");
    });
    assert!(dies.join().is_err());
    let answer = rig.ask_as(None, "GET", "/readyz", None);
    assert_eq!((answer.status, answer.refusal().0.as_str()), (500, "internal"));
    assert_eq!(rig.ask_as(None, "GET", "/healthz", None).status, 200);
}

/// A connection that is held; nothing if it is closed without an answer.
fn hold(stream: TcpStream) -> Option<BufReader<TcpStream>> {
    let mut stream = stream;
    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let read = std::io::BufRead::read_line(&mut reader, &mut line);
    (read.is_ok() && line.starts_with("HTTP/1.1 200")).then_some(reader)
}

#[test]
fn loopback_has_places_of_its_own_and_is_one_caller() {
    let rig = rig();
    // 32 of its own, and half of the others; further addresses of it make no difference.
    let connect = |n: usize| {
        let from = [127, 0, 0, u8::try_from(1 + n % 200).unwrap()];
        hold(connect_from(from.into(), rig.address()))
    };
    let mut open: Vec<_> = (0..144).map(|n| connect(n).expect("a place")).collect();
    assert!(connect(7).is_none(), "one too many is closed without an answer");
    open.truncate(143);
    while connect(9).is_none() {
        std::thread::yield_now();
    }
}

#[test]
fn a_panic_ends_its_request_alone_and_everybody_is_told() {
    let rig = rig();
    let path = "/api/v1/pools/tank/volumes";
    let volume = json!({"name": "new", "bytes": 1 << 20});
    let plant =
        || *rig.appliance.before_change.lock().unwrap() = Some(Box::new(|| panic!("planted")));
    plant();
    let answer = rig.ask("POST", path, Some(&volume));
    let (kind, message) = answer.refusal();
    assert_eq!((answer.status, kind.as_str()), (500, "internal"), "{message}");
    assert!(message.contains("its log says more"), "{message}");
    assert!(!webui_api::handles_request(), "only threads of the API catch");
    let alerts = rig.appliance.api_alerts.lock().unwrap().clone();
    let [alert] = &alerts[..] else { panic!("{alerts:?}") };
    assert_eq!((alert.id.as_str(), alert.severity), ("panicked:API", Severity::Critical));
    assert!(alert.message.contains("create_volume"), "{alert:?}");
    let log = rig.appliance.event_log();
    let last = log.newest(3).items;
    assert!(last.iter().any(|event| event.message == alert.message), "{last:?}");
    // What was written down before is ended in the audit log, too.
    let audit = rig.ask("GET", "/api/v1/audit", None).json();
    let is_it =
        |line: &serde_json::Value| line["operation"] == "create_volume" && line["status"] == 500;
    assert!(audit["items"].as_array().unwrap().iter().any(is_it), "{audit}");
    // The lock that it held is this test's own.
    *rig.appliance.before_change.lock().unwrap_or_else(PoisonError::into_inner) = None;
    rig.appliance.before_change.clear_poison();
    assert_eq!(rig.ask("GET", path, None).status, 200);
    assert_eq!(rig.ask("POST", path, Some(&volume)).status, 201, "the server goes on");
}
