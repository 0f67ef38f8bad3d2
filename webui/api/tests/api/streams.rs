//! Events: listed, streamed, and streamed again from where a client was.

use crate::appliance::{Appliance, name};
use crate::client::{Rig, read_head};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;
use webui_model::{Control, EventKind, Object, ObjectKind, Role, Severity};

/// A stream that is open.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn open(rig: &Rig, token: &str, query: &str, last: Option<u64>) -> (u16, Self) {
        let mut socket = TcpStream::connect(rig.address()).unwrap();
        // A test that waits for an event that does not come fails, and does not hang.
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let last = last.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        write!(
            socket,
            "GET /api/v1/events/stream{query} HTTP/1.1\r\nHost: localhost\r\n\
             Authorization: Bearer {token}\r\n{last}\r\n"
        )
        .unwrap();
        let mut reader = BufReader::new(socket);
        let (status, _) = read_head(&mut reader);
        (status, Self(reader))
    }

    /// The next event: its number, kind and data; nothing when the stream ends.
    fn next(&mut self) -> Option<(Option<u64>, String, Value)> {
        let (mut id, mut kind) = (None, String::new());
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("id", text)) => id = Some(text.parse().unwrap()),
                Some(("event", text)) => kind = text.to_owned(),
                Some(("data", text)) => {
                    return Some((id, kind, serde_json::from_str(text).unwrap()));
                }
                // Comments, the sizes of chunks, and the lines between.
                _ if line.trim_end() == "0" => return None,
                _ => {}
            }
        }
    }
}

fn publish(rig: &Rig, count: u64) {
    for n in 0..count {
        let object = Object::new(ObjectKind::Pool, "tank");
        let log = rig.appliance.event_log();
        log.publish(n, EventKind::Notice, Severity::Info, object, format!("number {n}"));
    }
}

#[test]
fn changes_are_told_as_they_happen() {
    let rig = Rig::new(Appliance::furnished());
    let (status, mut stream) = Stream::open(&rig, &rig.admin, "", None);
    assert_eq!(status, 200);
    let volume = json!({"name": "new", "bytes": 4096});
    assert_eq!(rig.ask("POST", "/api/v1/pools/tank/volumes", Some(&volume)).status, 201);
    let (id, kind, event) = stream.next().unwrap();
    assert_eq!((kind.as_str(), event["object"]["name"].as_str()), ("created", Some("tank/new")));
    assert_eq!(event["id"].as_u64(), id);
    let page = rig.ask("GET", &format!("/api/v1/events?after={}", id.unwrap() - 1), None).json();
    assert_eq!(page["items"][0], event);
}

#[test]
fn a_client_that_stays_gets_each_event_once() {
    let rig = Rig::new(Appliance::furnished());
    let (_, mut stream) = Stream::open(&rig, &rig.admin, "", None);
    let first = rig.appliance.event_log().last_id() + 1;
    for round in 0..20 {
        publish(&rig, 3);
        for n in 0..3 {
            let (id, kind, _) = stream.next().unwrap();
            assert_eq!((id, kind.as_str()), (Some(first + 3 * round + n), "notice"));
        }
    }
}

#[test]
fn a_client_that_comes_back_misses_nothing() {
    let rig = Rig::new(Appliance::furnished());
    let (_, mut stream) = Stream::open(&rig, &rig.admin, "", None);
    publish(&rig, 40);
    let seen: Vec<u64> = (0..7).map(|_| stream.next().unwrap().0.unwrap()).collect();
    drop(stream);
    publish(&rig, 40);
    let (_, mut stream) = Stream::open(&rig, &rig.admin, "", seen.last().copied());
    let again: Vec<u64> = (0..73).map(|_| stream.next().unwrap().0.unwrap()).collect();
    let first = seen[0];
    let all: Vec<u64> = seen.into_iter().chain(again).collect();
    assert_eq!(all, (first..first + 80).collect::<Vec<u64>>());
}

#[test]
fn a_client_that_was_away_too_long_is_told() {
    let rig = Rig::new(Appliance::furnished());
    let known = rig.appliance.event_log().last_id();
    publish(&rig, 300);
    let (_, mut stream) = Stream::open(&rig, &rig.admin, "", Some(known));
    assert_eq!(stream.next().unwrap().1, "lost");
    let (id, ..) = stream.next().unwrap();
    assert_eq!(id, Some(known + 45), "the oldest of the 256 that are kept");
    let page = rig.ask("GET", &format!("/api/v1/events?after={known}"), None).json();
    assert_eq!(page["lost"], true);
}

#[test]
fn a_stream_ends_with_its_token_and_with_the_server() {
    let mut rig = Rig::new(Appliance::furnished());
    let viewer = rig.token(Role::Viewer);
    let tokens = rig.ask("GET", "/api/v1/tokens", None).json();
    let viewers = tokens["items"].as_array().unwrap().iter().find(|t| t["role"] == "viewer");
    let viewers = viewers.unwrap()["name"].as_str().unwrap().to_owned();
    let (status, mut stream) = Stream::open(&rig, &viewer, "", None);
    assert_eq!(status, 200);
    assert_eq!(rig.ask("DELETE", &format!("/api/v1/tokens/{viewers}"), None).status, 204);
    assert!(stream.next().is_none(), "nothing more for a token that was revoked");
    let (_, mut stream) = Stream::open(&rig, &rig.admin, "", None);
    rig.server.take().unwrap().stop();
    assert!(stream.next().is_none());
}

#[test]
fn streams_are_counted_and_their_start_is_checked() {
    let rig = Rig::new(Appliance::furnished());
    let open_all = |token: &str| {
        let opened = std::iter::from_fn(|| {
            let (status, stream) = Stream::open(&rig, token, "", None);
            assert!([200, 503].contains(&status), "{status}");
            (status == 200).then_some(stream)
        });
        opened.collect::<Vec<_>>()
    };
    // Half of those for all, and half of its role's.
    let viewer = rig.token(Role::Viewer);
    let open = open_all(&viewer);
    assert_eq!(open.len(), 24);
    let more: Vec<_> = (0..8).map(|_| open_all(&rig.token(Role::Viewer))).collect();
    assert!(more.iter().map(Vec::len).sum::<usize>() < 40);
    // However many viewers there are, the last ones of other roles are theirs.
    assert!(open_all(&rig.token(Role::Operator)).len() >= 4);
    assert!(open_all(&rig.admin).len() >= 4);
    assert_eq!(rig.ask("GET", "/api/v1/pools", None).status, 200, "the rest goes on");
    drop((open, more));
    assert_eq!(Stream::open(&rig, &rig.admin, "?after=x", None).0, 400);
    assert!(rig.appliance.pool(&name("tank")).is_ok());
}
