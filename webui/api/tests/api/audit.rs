//! The audit log: each change before it is made, who was let in and refused, and no secret.

use crate::access::{log_in, with_cookie};
use crate::appliance::Appliance;
use crate::client::{Puppet, Rig, config, send};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;
use webui_api::Server;
use webui_model::{Control, Role, Severity};

const VOLUMES: &str = "/api/v1/pools/tank/volumes";
const MINUTE: u64 = 60_000_000_000;

fn log(rig: &Rig) -> PathBuf {
    rig.folder.path().join("audit.log")
}

/// The lines of a log.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A record as `who operation path status`.
fn shown(record: &Value) -> String {
    let text = |field: &str| record[field].as_str().unwrap_or("-").to_owned();
    format!("{} {} {} {}", text("who"), text("operation"), text("path"), record["status"])
}

fn records(rig: &Rig, query: &str) -> Vec<Value> {
    rig.ask("GET", &format!("/api/v1/audit{query}"), None).json()["items"]
        .as_array()
        .unwrap()
        .clone()
}

#[test]
fn who_changed_what_is_written_down() {
    let rig = Rig::new(Appliance::furnished());
    let viewer = rig.token(Role::Viewer);
    let (_, cookie) = log_in(&rig, &rig.admin);
    let volume = json!({"name": "new", "bytes": 4096});
    assert_eq!(rig.ask("POST", VOLUMES, Some(&volume)).status, 201);
    let own = format!("http://{}", rig.address());
    let in_session = |method, path| with_cookie(&rig, &cookie, method, path, &[("Origin", &own)]);
    assert_eq!(in_session("DELETE", "/api/v1/pools/tank/volumes/new").status, 204);
    assert_eq!(in_session("DELETE", "/api/v1/pools/tank/volumes/new").status, 404);
    assert_eq!(rig.ask("GET", VOLUMES, None).status, 200);
    assert_eq!(rig.ask_as(Some(&viewer), "DELETE", "/api/v1/pools/tank?x=%20", None).status, 403);
    let changes = records(&rig, "?limit=3");
    let texts: Vec<String> = changes.iter().map(shown).collect();
    assert_eq!(texts[0], "admin delete_volume /api/v1/pools/tank/volumes/new 404");
    assert_eq!(texts[1], "admin delete_volume /api/v1/pools/tank/volumes/new 204");
    assert_eq!(texts[2], "admin create_volume /api/v1/pools/tank/volumes 201");
    assert_eq!(changes[2]["body"], volume);
    assert_eq!((&changes[2]["session"], &changes[2]["role"]), (&Value::Null, &json!("admin")));
    let session = changes[0]["session"].as_str().unwrap();
    assert!(session.len() == 16 && !cookie.contains(session), "its number is not its value");
    assert_eq!(changes[0]["address"], "127.0.0.1");
    // The intent stands before the result, each with a number.
    let last = lines(&log(&rig));
    let last = &last[last.len() - 2..];
    assert_eq!((&last[0]["event"], &last[1]["event"]), (&json!("intent"), &json!("result")));
    assert_eq!((&last[1]["of"], &last[1]["status"]), (&last[0]["number"], &json!(404)));
    assert_eq!(webui_audit::verify(&log(&rig)).unwrap().faults, Vec::<String>::new());
    assert_eq!(rig.ask("GET", "/api/v1/audit?limit=0", None).status, 400);
    assert_eq!(rig.ask("GET", "/api/v1/events?limit=1001", None).status, 400);
}

#[test]
fn no_change_is_made_before_its_intent_is_on_disk() {
    let rig = Rig::new(Appliance::furnished());
    let (seen, path) = (Arc::new(AtomicUsize::new(0)), log(&rig));
    let counter = Arc::clone(&seen);
    *rig.appliance.before_change.lock().unwrap() = Some(Box::new(move || {
        // What kill -9 would leave at this moment.
        let last = lines(&path).pop().unwrap();
        assert_eq!(last["event"], "intent", "{last}");
        counter.fetch_add(1, Ordering::SeqCst);
    }));
    let declaration = rig.ask("GET", "/api/v1/config", None).json();
    for (method, path, body) in [
        ("POST", VOLUMES, json!({"name": "v", "bytes": 4096})),
        ("PUT", "/api/v1/pools/tank/volumes/v/limits", json!({"iops": 5})),
        ("POST", "/api/v1/pools/tank/volumes/v/snapshots", json!({"name": "s"})),
        ("POST", "/api/v1/pools/tank/volumes/v/roll-back", json!({"snapshot": "s"})),
        ("POST", "/api/v1/subsystems", json!({"nqn": "nqn.2026-01.org.example:n"})),
        ("POST", "/api/v1/devices", json!({"path": "/dev/null", "name": "n"})),
        ("POST", "/api/v1/listeners", json!({"address": "[::1]:4421"})),
        ("POST", "/api/v1/pools", json!({"name": "p", "devices": ["d2"]})),
        ("PUT", "/api/v1/config", declaration),
    ] {
        let before = seen.load(Ordering::SeqCst);
        let answer = rig.ask(method, path, Some(&body));
        assert!(answer.status < 500, "{path}: {}", answer.text());
        assert!(seen.load(Ordering::SeqCst) > before, "{path}: {}", answer.text());
    }
}

#[test]
fn requests_that_are_refused_take_no_room_from_changes() {
    let rig = Rig::new(Appliance::furnished());
    let viewer = rig.token(Role::Viewer);
    let before = fs::read(log(&rig)).unwrap();
    let access = rig.folder.path().join("access.log");
    let started = lines(&access).len();
    for minute in 0..3 {
        for _ in 0..200 {
            let refused = rig.ask_as(Some(&viewer), "DELETE", "/api/v1/pools/tank", None);
            assert_eq!(refused.status, 403);
        }
        for _ in 0..20 {
            assert!(rig.ask_as(Some("forebay_wrong"), "GET", VOLUMES, None).status >= 401);
            let text = json!({"name": 5});
            assert_eq!(rig.ask("POST", VOLUMES, Some(&text)).status, 400);
        }
        assert_eq!(log_in(&rig, &viewer).0.status, 200);
        assert!(lines(&access).len() - started <= 4 * (minute + 1), "a line a minute for each");
        rig.world.now_ns.fetch_add(MINUTE, Ordering::SeqCst);
        // Whoever writes them looks every five seconds.
        let written = || lines(&access).len() - started >= 4 + 3 * minute;
        while !written() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    assert_eq!(fs::read(log(&rig)).unwrap(), before, "no change was made");
    let mut rig = rig;
    let found = records(&rig, "?access=true&limit=1000");
    rig.server.take().unwrap().stop();
    assert!(found.iter().any(|r| shown(r).ends_with("delete_pool /api/v1/pools/tank 403")));
    let mut counts = std::collections::BTreeMap::<String, u64>::new();
    for line in lines(&access) {
        *counts.entry(shown(&line)).or_default() += line["count"].as_u64().unwrap();
    }
    let count = |says: &str| {
        counts.iter().filter(|(text, _)| text.contains(says)).map(|(_, count)| count).sum::<u64>()
    };
    assert_eq!(count("delete_pool /api/v1/pools/tank 403"), 600);
    assert_eq!(count("- list_pool_volumes"), 60);
    assert_eq!(count("admin create_volume /api/v1/pools/tank/volumes 400"), 60);
    assert_eq!(count("open_session /api/v1/session 200"), 3);
}

#[test]
fn no_secret_is_written_down() {
    let rig = Rig::new(Appliance::furnished());
    let made = rig.ask("POST", "/api/v1/tokens", Some(&json!({"name": "x", "role": "viewer"})));
    let secret = made.json()["secret"].as_str().unwrap().to_owned();
    let (_, cookie) = log_in(&rig, &secret);
    let mistaken = format!("/api/v1/pools?token={secret}&x=1");
    assert_eq!(rig.ask("POST", &mistaken, Some(&json!({}))).status, 400);
    assert_eq!(rig.ask("DELETE", &format!("/api/v1/pools/none?token={secret}"), None).status, 400);
    let named = format!("/api/v1/subsystems/nqn.2026-01.org.example:{secret}");
    assert_eq!(rig.ask("DELETE", &named, None).status, 404);
    let nqn = json!({"nqn": format!("nqn.2026-01.org.example:{secret}")});
    assert_eq!(rig.ask("POST", "/api/v1/subsystems", Some(&nqn)).status, 201);
    let piece = json!({"offset": 0, "data": "QUFB".repeat(1000)});
    let staged = rig.ask("PUT", "/api/v1/appliance/update", Some(&piece));
    assert!(staged.status < 500, "{}", staged.text());
    let mut text = String::new();
    for name in ["audit.log", "access.log"] {
        text.push_str(&fs::read_to_string(rig.folder.path().join(name)).unwrap());
    }
    assert!(text.contains("\"nqn\":\"nqn.2026-01.org.example:forebay_***\""), "{text}");
    let value = cookie.split_once('=').unwrap().1;
    for hidden in [&secret[8..], &rig.admin[..], value, "QUFBQUFB"] {
        assert!(!text.contains(hidden), "{hidden} is in {text}");
    }
}

/// A full file system of its own, gone with this.
struct Full(TempDir);

impl Full {
    /// None where this user cannot mount.
    fn new() -> Option<Full> {
        let folder = TempDir::new().unwrap();
        let place = folder.path().to_str().unwrap().to_owned();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1m", "none", &place]);
        if !mount.output().is_ok_and(|output| output.status.success()) {
            println!("SKIPPED: this user cannot mount a file system");
            return None;
        }
        let mut file = fs::File::create(folder.path().join("ballast")).unwrap();
        while file.write_all(&[7; 4096]).is_ok() {}
        Some(Full(folder))
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn what_cannot_be_written_down_is_not_done() {
    let Some(full) = Full::new() else { return };
    let folder = TempDir::new().unwrap();
    let (appliance, world) = (Arc::new(Appliance::furnished()), Arc::new(Puppet::default()));
    let mut config = config(&folder);
    config.audit = full.0.path().join("audit.log");
    let mut server = Server::start(config, appliance.clone(), world).unwrap();
    let secret = server.take_first_token().unwrap().secret;
    let ask = |method: &str, path: &str| {
        let headers = [("Authorization".to_owned(), format!("Bearer {secret}"))];
        send(server.address().unwrap(), method, path, &headers, b"")
    };
    let change = "/api/v1/pools/tank/volumes/b";
    let refused = ask("DELETE", change);
    assert_eq!((refused.status, refused.refusal().0.as_str()), (503, "unavailable"));
    assert!(refused.refusal().1.contains("No space left"), "{}", refused.refusal().1);
    assert_eq!(ask("GET", change).status, 200, "it is still there, and who looks is answered");
    let last = appliance.event_log().newest(1).items.remove(0);
    assert_eq!(last.severity, Severity::Critical);
    assert!(last.message.contains("delete_volume of admin is not in it"), "{}", last.message);
    assert_eq!(ask("DELETE", change).status, 503);
    assert_eq!(appliance.event_log().newest(1).items.remove(0).id, last.id, "said once");
    fs::remove_file(full.0.path().join("ballast")).unwrap();
    assert!(ask("DELETE", change).status < 300);
}

#[test]
fn a_log_that_is_no_file_is_refused_at_the_start() {
    let folder = TempDir::new().unwrap();
    let mut config = config(&folder);
    config.audit = "/dev/full".into();
    let appliance = Arc::new(Appliance::new());
    let error = Server::start(config, appliance, Arc::new(Puppet::default())).err().unwrap();
    assert!(error.to_string().contains("The audit log /dev/full cannot be opened"), "{error}");
    assert!(!folder.path().join("tokens.json").exists());
}

#[test]
fn changes_at_once_have_their_own_results() {
    let rig = Rig::new(Appliance::furnished());
    std::thread::scope(|scope| {
        for n in 0..8 {
            let rig = &rig;
            scope.spawn(move || {
                for k in 0..5 {
                    let volume = json!({"name": format!("v{n}-{k}"), "bytes": 4096 + n % 2});
                    let wanted = if n % 2 == 0 { 201 } else { 422 };
                    assert_eq!(rig.ask("POST", VOLUMES, Some(&volume)).status, wanted);
                    let path = format!("{VOLUMES}/v{n}-{k}");
                    let wanted = if n % 2 == 0 { 204 } else { 404 };
                    assert_eq!(rig.ask("DELETE", &path, None).status, wanted);
                }
            });
        }
    });
    let found = records(&rig, "?limit=1000");
    for n in 0..8 {
        for k in 0..5 {
            let path = format!("{VOLUMES}/v{n}-{k}");
            let record = found.iter().find(|r| r["path"] == path.as_str()).unwrap();
            assert_eq!(record["status"], if n % 2 == 0 { 204 } else { 404 });
        }
    }
    assert_eq!(webui_audit::verify(&log(&rig)).unwrap().faults, Vec::<String>::new());
}
