//! The socket of the data directory: who gets in, and as whom.

use crate::access::{log_in, with_cookie};
use crate::appliance::Appliance;
use crate::client::{Answer, Puppet, Rig, config, exchange};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use webui_api::Server;
use webui_model::Role;
use webui_model::data_dir::SocketPath;

/// Connects to the server with this data directory.
fn connect(folder: &Path) -> UnixStream {
    UnixStream::connect(SocketPath::of(folder).unwrap().path()).unwrap()
}

/// Asks over the socket, showing what these headers show.
fn ask(rig: &Rig, headers: &[(&str, &str)], method: &str, path: &str, body: &Value) -> Answer {
    let mut all = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    all.extend(headers.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let stream = connect(rig.folder.path());
    exchange(stream, "localhost", method, path, &all, body.as_bytes())
}

#[test]
fn whoever_comes_over_the_socket_is_an_admin_with_a_name_of_its_own() {
    let rig = Rig::new(Appliance::furnished());
    let who = ask(&rig, &[], "GET", "/api/v1/session", &Value::Null);
    assert_eq!(who.json(), json!({"name": "local", "role": "admin"}));
    let volume = json!({"name": "new", "bytes": 4096});
    assert_eq!(ask(&rig, &[], "POST", "/api/v1/pools/tank/volumes", &volume).status, 201);
    let list = ask(&rig, &[], "GET", "/api/v1/audit?limit=1", &Value::Null).json();
    let last = &list["items"][0];
    assert_eq!((&last["who"], &last["role"]), (&json!("local"), &json!("admin")), "{last}");
    let user = rustix::process::geteuid().as_raw();
    let socket = format!("socket, user {user}, process {}", std::process::id());
    assert_eq!(last["address"], json!(socket));
    // Nobody else is called so.
    let request = json!({"name": "local", "role": "viewer"});
    let refused = ask(&rig, &[], "POST", "/api/v1/tokens", &request);
    assert_eq!(refused.refusal().0, "invalid", "{}", refused.text());
}

#[test]
fn a_code_of_the_socket_opens_a_session_in_a_browser() {
    let rig = Rig::new(Appliance::furnished());
    let made = ask(&rig, &[], "POST", "/api/v1/session/codes", &Value::Null);
    let code = made.json()["code"].as_str().unwrap().to_owned();
    let (answer, cookie) = log_in(&rig, &code);
    assert_eq!(answer.json(), json!({"name": "local", "role": "admin"}));
    assert_eq!(with_cookie(&rig, &cookie, "GET", "/api/v1/tokens", &[]).status, 200);
    assert_eq!(log_in(&rig, &code).0.status, 401);
}

#[test]
fn a_token_over_the_socket_has_its_own_role() {
    let rig = Rig::new(Appliance::furnished());
    let viewer = format!("Bearer {}", rig.token(Role::Viewer));
    let delete = |headers: &[(&str, &str)]| {
        ask(&rig, headers, "DELETE", "/api/v1/pools/tank", &Value::Null).status
    };
    assert_eq!(delete(&[("Authorization", &viewer)]), 403);
    assert_eq!(delete(&[("Authorization", "Bearer forebay_wrong")]), 401);
    assert_eq!(delete(&[("Authorization", "Basic eDp5")]), 401);
    assert_eq!(delete(&[("Authorization", "Bearer \u{fc}")]), 401);
    assert_eq!(delete(&[("Cookie", "forebay=ended")]), 401);
    // However often: nobody guesses who need not.
    for _ in 0..200 {
        assert_eq!(delete(&[("Authorization", "Bearer forebay_wrong")]), 401);
    }
    assert_eq!(rig.ask("GET", "/api/v1/pools", None).status, 200);
}

#[test]
fn a_stream_over_the_socket_goes_on() {
    let rig = Rig::new(Appliance::furnished());
    let mut stream = connect(rig.folder.path());
    let request = "GET /api/v1/events/stream HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut seen = String::new();
    let mut until = |what: &str| {
        while !seen.contains(what) {
            let mut part = [0; 4096];
            let length = stream.read(&mut part).unwrap();
            assert!(length > 0, "it ended: {seen}");
            seen.push_str(&String::from_utf8_lossy(&part[..length]));
        }
    };
    until(": events follow");
    ask(&rig, &[], "POST", "/api/v1/tokens", &json!({"name": "a", "role": "viewer"}));
    until("Token \\\"a\\\" is new");
}

#[test]
fn the_socket_is_private_replaced_and_taken_away() {
    let mut rig = Rig::new(Appliance::furnished());
    let path = rig.folder.path().join("api.sock");
    let found = std::fs::symlink_metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    rig.server.take().unwrap().stop();
    assert_eq!(std::fs::symlink_metadata(&path).unwrap_err().kind(), ErrorKind::NotFound);
    // What a process that was killed has left, or somebody has put there, makes room.
    let treasure = rig.folder.path().join("treasure");
    std::fs::write(&treasure, "gold").unwrap();
    std::os::unix::fs::symlink(&treasure, &path).unwrap();
    rig.server =
        Some(Server::start(config(&rig.folder), rig.appliance.clone(), rig.world.clone()).unwrap());
    assert_eq!(ask(&rig, &[], "GET", "/api/v1/pools", &Value::Null).status, 200);
    assert_eq!(std::fs::read_to_string(&treasure).unwrap(), "gold");
}

#[test]
fn without_an_address_the_socket_is_there_also_in_a_long_folder() {
    let folder = tempfile::TempDir::new().unwrap();
    let long = folder.path().join("x".repeat(200));
    std::fs::create_dir(&long).unwrap();
    let mut config = config(&folder);
    (config.address, config.folder) = (None, long.clone());
    let appliance = Arc::new(Appliance::furnished());
    let server = Server::start(config, appliance, Arc::new(Puppet::default())).unwrap();
    assert_eq!(server.address(), None);
    let answer = exchange(connect(&long), "localhost", "GET", "/api/v1/pools", &[], b"");
    assert_eq!(answer.status, 200);
}

#[test]
fn who_holds_every_connection_over_tcp_leaves_the_socket_to_others() {
    let rig = Rig::new(Appliance::furnished());
    let held: Vec<TcpStream> =
        (0..300).map(|_| TcpStream::connect(rig.address()).unwrap()).collect();
    assert_eq!(ask(&rig, &[], "GET", "/api/v1/pools", &Value::Null).status, 200);
    drop(held);
}

#[test]
fn another_user_is_not_answered() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can become another user.");
        return;
    }
    let rig = Rig::new(Appliance::furnished());
    // Somebody has opened both doors by mistake.
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let folder = rig.folder.path().to_owned();
    open(&folder, 0o755);
    open(&folder.join("api.sock"), 0o666);
    let as_user = |user: u32| {
        let folder = folder.clone();
        let ask = move || {
            let user = rustix::process::Uid::from_raw(user);
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            let mut stream = UnixStream::connect(folder.join("api.sock")).unwrap();
            let request =
                "GET /api/v1/pools HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            let mut answer = Vec::new();
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.read_to_end(&mut answer);
            String::from_utf8_lossy(&answer).into_owned()
        };
        std::thread::spawn(ask).join().unwrap()
    };
    assert_eq!(as_user(65534), "");
    assert!(as_user(0).starts_with("HTTP/1.1 200"));
}
