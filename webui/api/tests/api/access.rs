//! Tokens, failed log-ins, sessions.

use crate::appliance::Appliance;
use crate::client::{Answer, Puppet, Rig, config, connect_from, exchange, read_head, send};
use crate::document::{document, operations};
use serde_json::json;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use webui_api::security::Tokens;
use webui_api::{Machine, Server, StartError};
use webui_model::{Role, TokenCreate};

const SECOND: u64 = 1_000_000_000;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn tokens_are_kept_hashed_and_outlive_a_restart() {
    let mut rig = Rig::new(Appliance::furnished());
    let operator = rig.token(Role::Operator);
    let file = rig.folder.path().join("tokens.json");
    let text = std::fs::read_to_string(&file).unwrap();
    for secret in [&rig.admin, &operator] {
        let digits = secret.strip_prefix("forebay_").unwrap();
        assert!(digits.len() == 64 && !text.contains(digits));
    }
    assert_eq!(mode(&file), 0o600);
    rig.server.take().unwrap().stop();
    let mut server =
        Server::start(config(&rig.folder), rig.appliance.clone(), rig.world.clone()).unwrap();
    assert!(server.take_first_token().is_none(), "only the first start makes one");
    rig.server = Some(server);
    assert_eq!(rig.ask_as(Some(&operator), "GET", "/api/v1/pools", None).status, 200);
    assert_eq!(rig.ask("GET", "/api/v1/tokens", None).status, 200);
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let rig = Rig::new(Appliance::furnished());
    let request = json!({"name": "ci", "role": "viewer"});
    let made = rig.ask("POST", "/api/v1/tokens", Some(&request)).json();
    let secret = made["secret"].as_str().unwrap().to_owned();
    let twice = rig.ask("POST", "/api/v1/tokens", Some(&request));
    assert_eq!((twice.status, twice.refusal().0.as_str()), (409, "exists"));
    let list = rig.ask("GET", "/api/v1/tokens", None);
    assert!(list.text().contains("\"ci\"") && !list.text().contains("forebay_"));
    assert_eq!(rig.ask_as(Some(&secret), "GET", "/api/v1/pools", None).status, 200);
    assert_eq!(rig.ask("DELETE", "/api/v1/tokens/ci", None).status, 204);
    assert_eq!(rig.ask_as(Some(&secret), "GET", "/api/v1/pools", None).status, 401);
    assert_eq!(rig.ask("DELETE", "/api/v1/tokens/ci", None).status, 404);
    let last = rig.ask("DELETE", "/api/v1/tokens/admin", None);
    assert_eq!((last.status, last.refusal().0.as_str()), (409, "refused"));
}

/// A folder with a first token, and the file that its secret is in.
fn first_start() -> (tempfile::TempDir, Tokens, std::path::PathBuf) {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("admin.token");
    // From a start before, whose tokens somebody has moved away.
    std::fs::write(&path, "of others").unwrap();
    let tokens = folder.path().join("tokens.json");
    let (tokens, first) = Tokens::open(&tokens, &Puppet::default()).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), first.unwrap().secret);
    assert_eq!(mode(&path), 0o600);
    (folder, tokens, path)
}

#[test]
fn the_first_secret_is_kept_until_another_administrator_has_one() {
    let (folder, tokens, path) = first_start();
    let again = || Tokens::open(&folder.path().join("tokens.json"), &Puppet::default()).unwrap().1;
    let create = |name: &str, role| {
        let request = TokenCreate { name: name.parse().unwrap(), role };
        tokens.create(request, &Machine::new()).unwrap()
    };
    create("eye", Role::Viewer);
    tokens.revoke(&"eye".parse().unwrap()).unwrap();
    assert!(again().is_none() && path.exists(), "nobody else is an administrator");
    let secret = create("root", Role::Admin).secret;
    assert!(!path.exists());
    // What a crash has left, or another start.
    for left in ["forebay_of_nobody", &secret] {
        std::fs::write(&path, left).unwrap();
        assert!(again().is_none() && !path.exists(), "{left}");
    }
}

#[test]
fn the_first_secret_goes_with_its_token() {
    let (folder, tokens, path) = first_start();
    let request = TokenCreate { name: "root".parse().unwrap(), role: Role::Admin };
    tokens.create(request, &Machine::new()).unwrap();
    // As of a version that kept it.
    std::fs::write(&path, "forebay_secret").unwrap();
    tokens.revoke(&"admin".parse().unwrap()).unwrap();
    assert!(!path.exists());
    drop(folder);
}

#[test]
fn a_file_of_tokens_that_is_broken_is_not_replaced() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("tokens.json");
    for content in ["", "{}", "{\"format\": 2, \"tokens\": []}", "[1"] {
        std::fs::write(&path, content).unwrap();
        assert!(Tokens::open(&path, &Puppet::default()).is_err(), "{content}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    }
}

#[test]
fn whoever_guesses_has_to_wait_and_a_right_token_does_not() {
    let rig = Rig::new(Appliance::furnished());
    let fresh = rig.token(Role::Viewer);
    let ask = |token: &str| rig.ask_as(Some(token), "GET", "/api/v1/pools", None);
    for n in 0..10 {
        assert_eq!(ask(&format!("forebay_{n}")).status, 401);
    }
    let answer = ask("forebay_x");
    assert_eq!((answer.status, answer.refusal().0.as_str()), (429, "too_many"));
    assert_eq!(answer.header("retry-after"), Some("6"));
    let wrong = json!({"token": "forebay_y"});
    let answer = rig.ask_as(None, "POST", "/api/v1/session", Some(&wrong));
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("6")));
    assert_eq!(ask(&fresh).status, 200, "it was never shown before, and is right");
    assert_eq!(log_in(&rig, &fresh).0.status, 200);
    rig.world.now_ns.fetch_add(6 * SECOND - 1, Ordering::SeqCst);
    assert_eq!(ask("forebay_x").status, 429);
    rig.world.now_ns.fetch_add(1, Ordering::SeqCst);
    assert_eq!(ask("forebay_x").status, 401);
}

#[test]
fn many_who_guess_hold_up_nobody_else() {
    let rig = Rig::new(Appliance::furnished());
    let ask = |from: u8, token: &str| {
        let stream = connect_from([127, 0, 1, from].into(), rig.address());
        let headers = [("Authorization".to_owned(), format!("Bearer {token}"))];
        exchange(stream, "localhost", "GET", "/api/v1/pools", &headers, b"").status
    };
    for from in 1..=15 {
        (0..10).for_each(|_| assert_eq!(ask(from, "forebay_x"), 401));
        assert_eq!(ask(from, "forebay_x"), 429);
    }
    assert_eq!(ask(16, "forebay_x"), 401, "each address is counted for itself");
    assert_eq!(ask(17, &rig.admin), 200, "as the first of all after a start");
}

/// Asks with a cookie.
pub fn with_cookie(
    rig: &Rig,
    cookie: &str,
    method: &str,
    path: &str,
    more: &[(&str, &str)],
) -> Answer {
    let mut headers = vec![("Cookie".to_owned(), format!("other=1; {cookie}"))];
    headers.extend(more.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
    send(rig.address(), method, path, &headers, b"")
}

pub fn log_in(rig: &Rig, token: &str) -> (Answer, String) {
    let answer = rig.ask_as(None, "POST", "/api/v1/session", Some(&json!({"token": token})));
    let cookie = answer.header("set-cookie").unwrap_or("").split(';').next().unwrap().to_owned();
    (answer, cookie)
}

#[test]
fn a_browser_logs_in_and_out() {
    let rig = Rig::new(Appliance::furnished());
    let (answer, cookie) = log_in(&rig, &rig.admin);
    assert_eq!(answer.json(), json!({"name": "admin", "role": "admin"}));
    let set = answer.header("set-cookie").unwrap();
    assert!(
        set.contains("HttpOnly") && set.contains("SameSite=Strict") && !set.contains(&rig.admin)
    );
    assert_eq!(with_cookie(&rig, &cookie, "GET", "/api/v1/session", &[]).status, 200);
    let cancel = "/api/v1/jobs/99/cancel";
    let own = format!("http://{}", rig.address());
    for (headers, status) in [
        (vec![("Origin", own.as_str())], 404),
        (vec![("Sec-Fetch-Site", "same-origin")], 403),
        (vec![], 403),
        (vec![("Origin", own.replace("http", "https").as_str())], 403),
        (vec![("Origin", "http://127.0.0.1")], 403),
        (vec![("Origin", "http://evil.example")], 403),
        (vec![("Origin", "null")], 403),
        (vec![("Sec-Fetch-Site", "cross-site")], 403),
    ] {
        assert_eq!(
            with_cookie(&rig, &cookie, "POST", cancel, &headers).status,
            status,
            "{headers:?}"
        );
    }
    let own = [("Origin", own.as_str())];
    assert_eq!(with_cookie(&rig, &cookie, "DELETE", "/api/v1/session", &own).status, 204);
    assert_eq!(with_cookie(&rig, &cookie, "GET", "/api/v1/session", &[]).status, 401);
}

#[test]
fn sessions_end_with_time_and_with_their_token() {
    let rig = Rig::new(Appliance::furnished());
    let viewer = rig.token(Role::Viewer);
    let (answer, cookie) = log_in(&rig, &viewer);
    let name = answer.json()["name"].as_str().unwrap().to_owned();
    let ask = |cookie: &str| with_cookie(&rig, cookie, "GET", "/api/v1/pools", &[]).status;
    assert_eq!(ask(&cookie), 200);
    rig.world.now_ns.fetch_add(12 * 3600 * SECOND, Ordering::SeqCst);
    assert_eq!(ask(&cookie), 401);
    let (_, cookie) = log_in(&rig, &viewer);
    assert_eq!(ask(&cookie), 200);
    assert_eq!(rig.ask("DELETE", &format!("/api/v1/tokens/{name}"), None).status, 204);
    assert_eq!(ask(&cookie), 401);
}

#[test]
fn no_session_outlives_its_token() {
    let rig = Rig::new(Appliance::furnished());
    let create = || {
        let request = json!({"name": "eve", "role": "operator"});
        let made = rig.ask("POST", "/api/v1/tokens", Some(&request));
        made.json()["secret"].as_str().unwrap().to_owned()
    };
    for _ in 0..20 {
        let secret = create();
        // Log-ins that race with the token's end.
        let cookies: Vec<String> = std::thread::scope(|scope| {
            let log_ins = || (0..8).map(|_| log_in(&rig, &secret).1).collect::<Vec<_>>();
            let racing: Vec<_> = (0..3).map(|_| scope.spawn(log_ins)).collect();
            assert_eq!(rig.ask("DELETE", "/api/v1/tokens/eve", None).status, 204);
            racing.into_iter().flat_map(|log_ins| log_ins.join().unwrap()).collect()
        });
        let _same_name = create();
        for cookie in cookies.iter().filter(|cookie| !cookie.is_empty()) {
            let answer = with_cookie(&rig, cookie, "GET", "/api/v1/session", &[]);
            assert_eq!(answer.status, 401, "{}", answer.text());
        }
        assert_eq!(rig.ask("DELETE", "/api/v1/tokens/eve", None).status, 204);
    }
}

#[test]
fn a_code_opens_one_session_of_its_maker() {
    let rig = Rig::new(Appliance::furnished());
    let viewer = rig.token(Role::Viewer);
    let make = |token: &str| {
        let made = rig.ask_as(Some(token), "POST", "/api/v1/session/codes", None);
        (made.status, made.json()["code"].as_str().unwrap_or("").to_owned())
    };
    let (status, code) = make(&viewer);
    assert_eq!(status, 200);
    let as_token = rig.ask_as(Some(&code), "GET", "/api/v1/pools", None);
    assert_eq!(as_token.status, 401, "it opens a session, and nothing else");
    let (answer, cookie) = log_in(&rig, &code);
    assert_eq!((answer.status, answer.json()["role"].as_str()), (200, Some("viewer")));
    assert_eq!(log_in(&rig, &code).0.status, 401, "once");
    let own = format!("http://{}", rig.address());
    let again = with_cookie(&rig, &cookie, "POST", "/api/v1/session/codes", &[("Origin", &own)]);
    assert_eq!((again.status, again.refusal().0.as_str()), (409, "refused"));

    let late = make(&viewer).1;
    rig.world.now_ns.fetch_add(5 * 60 * SECOND, Ordering::SeqCst);
    assert_eq!(log_in(&rig, &late).0.status, 401);

    let first = make(&viewer).1;
    rig.world.now_ns.fetch_add(SECOND, Ordering::SeqCst);
    let newer: Vec<String> = (0..8).map(|_| make(&viewer).1).collect();
    assert_eq!(log_in(&rig, &first).0.status, 401, "the oldest of many goes first");
    let name = answer.json()["name"].as_str().unwrap().to_owned();
    assert_eq!(rig.ask("DELETE", &format!("/api/v1/tokens/{name}"), None).status, 204);
    assert_eq!(log_in(&rig, &newer[0]).0.status, 401, "and all with their token");
    let asked = |cookie: &str| with_cookie(&rig, cookie, "GET", "/api/v1/session", &[]);
    assert_eq!(asked(&cookie).status, 401);
    assert_eq!(asked(&log_in(&rig, &make(&rig.admin).1).1).json()["name"], "admin");
}

#[test]
fn who_logs_in_often_ends_nobody_elses_session() {
    let rig = Rig::new(Appliance::furnished());
    let viewer = rig.token(Role::Viewer);
    let (_, admins) = log_in(&rig, &rig.admin);
    let (_, first) = log_in(&rig, &viewer);
    for _ in 0..1030 {
        assert_eq!(log_in(&rig, &viewer).0.status, 200);
    }
    let ask = |cookie: &str| with_cookie(&rig, cookie, "GET", "/api/v1/pools", &[]).status;
    assert_eq!((ask(&admins), ask(&first)), (200, 401));
}

#[test]
fn a_token_that_is_revoked_while_its_request_waits_does_nothing() {
    let rig = Rig::new(Appliance::furnished());
    let operator = rig.token(Role::Operator);
    let body = json!({"name": "late", "bytes": 4096}).to_string();
    let mut stream = TcpStream::connect(rig.address()).unwrap();
    write!(
        stream,
        "POST /api/v1/pools/tank/volumes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Authorization: Bearer {operator}\r\nContent-Type: application/json\r\n\
         Expect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    assert_eq!(read_head(&mut reader).0, 100, "it was let in, and the body is awaited");
    let tokens = rig.ask("GET", "/api/v1/tokens", None).json();
    let name = tokens["items"].as_array().unwrap().iter().find(|t| t["role"] == "operator");
    let path = format!("/api/v1/tokens/{}", name.unwrap()["name"].as_str().unwrap());
    assert_eq!(rig.ask("DELETE", &path, None).status, 204);
    stream.write_all(body.as_bytes()).unwrap();
    assert_eq!(read_head(&mut reader).0, 401);
    assert_eq!(rig.ask("GET", "/api/v1/pools/tank/volumes/late", None).status, 404);
}

#[test]
fn only_an_admin_lets_in_any_host() {
    let rig = Rig::new(Appliance::furnished());
    let operator = rig.token(Role::Operator);
    let a = "/api/v1/pools/tank/volumes/a";
    for (method, path, mut body) in [
        ("POST", "/api/v1/pools/tank/volumes".to_owned(), json!({"name": "n", "bytes": 4096})),
        ("PUT", format!("{a}/export"), json!({})),
        ("POST", format!("{a}/snapshots/s/clone"), json!({"name": "m"})),
        ("PUT", format!("{a}/snapshots/s/export"), json!({})),
        ("POST", "/api/v1/subsystems".to_owned(), json!({"nqn": "nqn.2026-01.org.example:n"})),
    ] {
        body["allow_any_host"] = json!(true);
        let refused = rig.ask_as(Some(&operator), method, &path, Some(&body));
        assert_eq!((refused.status, refused.refusal().0.as_str()), (403, "forbidden"), "{path}");
        assert!(refused.refusal().1.contains("any host needs the role admin"), "{path}");
        body["allow_any_host"] = json!(false);
        let named = rig.ask_as(Some(&operator), method, &path, Some(&body));
        assert!(named.status < 300, "{path}: {}", named.text());
        body["allow_any_host"] = json!(true);
        // What is there already has others listed, which is said to an admin.
        let allowed = rig.ask(method, &path, Some(&body)).status;
        assert!(allowed < 300 || (allowed == 409 && method == "POST"), "{path}: {allowed}");
    }
    // What has the field is in the list above: a new one is seen here.
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut bodies: Vec<String> = operations(&document)
        .iter()
        .filter_map(|(.., o)| {
            let body = &o["requestBody"]["content"]["application/json"]["schema"]["$ref"];
            let name = body.as_str()?.rsplit('/').next()?;
            let has = schemas[name]["properties"]["allow_any_host"].is_object();
            has.then(|| name.to_owned())
        })
        .collect();
    bodies.sort_unstable();
    let known = ["ExportSet", "ExportSet", "SubsystemCreate", "VolumeClone", "VolumeCreate"];
    assert_eq!(bodies, known);
}

#[test]
fn a_start_that_fails_makes_no_token_that_nobody_sees() {
    let rig = Rig::new(Appliance::furnished());
    let folder = tempfile::TempDir::new().unwrap();
    let mut config = config(&folder);
    config.address = Some(rig.address());
    let control = Arc::clone(&rig.appliance);
    let error = Server::start(config, control, rig.world.clone()).err().unwrap();
    assert!(
        matches!(&error, StartError::Address(why) if why.contains("cannot listen on 127.0.0.1")),
        "{error}"
    );
    assert!(!folder.path().join("tokens.json").exists());
}

#[test]
fn damaged_tokens_are_said_with_what_to_do() {
    let folder = tempfile::TempDir::new().unwrap();
    std::fs::write(folder.path().join("tokens.json"), "{\"format\": 1, \"tok").unwrap();
    let appliance = Arc::new(Appliance::furnished());
    let refused = Server::start(config(&folder), appliance, Arc::new(Puppet::default()));
    let error = refused.err().unwrap();
    assert!(matches!(error, StartError::Other(_)), "another address is no cure: {error}");
    let text = error.to_string();
    assert!(text.contains("tokens.json") && text.contains("move the file away"), "{text}");
}
