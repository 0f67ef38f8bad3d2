//! Every operation, by whoever may ask, through every door, against the table of who may do what.

use crate::appliance::Appliance;
use crate::client::{Answer, Puppet, Rig, config, exchange, now_ms, over_tls};
use crate::document::{document, operations};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tempfile::TempDir;
use webui_api::{Server, TlsConfig, TlsFiles, self_signed};
use webui_model::Role;
use webui_model::data_dir::SocketPath;

/// Who may do what. It says again what the rows say, so that a role is changed in two places or not
/// at all.
const TABLE: [(Option<Role>, &[&str]); 4] = [
    // What needs no token: nothing else does.
    (None, &["healthz", "open_session", "openapi", "readyz"]),
    (
        Some(Role::Viewer),
        &[
            // Of changes the end of the own session, and another one, alone.
            "close_session",
            "create_session_code",
            "get_appliance",
            "get_config",
            "get_connect_info",
            "get_controller",
            "get_counters",
            "get_device",
            "get_device_health",
            "get_history",
            "get_host",
            "get_job",
            "get_listener",
            "get_pool",
            "get_pool_device",
            "get_session",
            "get_slots",
            "get_snapshot",
            "get_snapshot_connect_info",
            "get_statistics",
            "get_subsystem",
            "get_subsystem_statistics",
            "get_volume",
            "list_alerts",
            "list_certificates",
            "list_controllers",
            "list_devices",
            "list_drives",
            "list_events",
            "list_hosts",
            "list_importable_pools",
            "list_interfaces",
            "list_jobs",
            "list_listeners",
            "list_pool_snapshots",
            "list_pool_volumes",
            "list_pools",
            "list_snapshots",
            "list_subsystems",
            "list_volumes",
            "metrics",
            "stream_events",
        ],
    ),
    (
        Some(Role::Operator),
        &[
            "add_host",
            "cancel_job",
            "clone_snapshot",
            "create_group_snapshot",
            "create_snapshot",
            "create_subsystem",
            "create_volume",
            "delete_snapshot",
            "delete_subsystem",
            "delete_volume",
            "export_snapshot",
            "export_volume",
            "promote_volume",
            "remove_host",
            "rename_volume",
            "resize_volume",
            "roll_back_volume",
            "set_limits",
            "unexport_snapshot",
            "unexport_volume",
        ],
    ),
    // What is below volumes, the machine itself, and who may get in.
    (
        Some(Role::Admin),
        &[
            "add_device",
            "add_namespace",
            "apply_config",
            "attach_device",
            "create_listener",
            "create_pool",
            "create_token",
            "delete_listener",
            "delete_pool",
            "detach_device",
            "drain_device",
            "export_pool",
            "format_drive",
            "grow_device",
            "import_pool",
            "install_update",
            "list_audit",
            "list_tokens",
            "power_off",
            "reload",
            "remove_device",
            "remove_namespace",
            "rescan_device",
            "restart_machine",
            "revoke_token",
            "sanitize_drive",
            "set_discard",
            "stage_update",
            "upgrade_pool",
        ],
    ),
];

/// A path with names that nothing has.
fn filled(path: &str) -> String {
    let values = [
        ("{nqn}", "nqn.2026-01.org.example:none"),
        ("{host}", "nqn.2014-08.org.example:none"),
        ("{transport}", "rdma"),
        ("{address}", "192.0.2.1:9"),
        ("{number}", "77"),
        ("{nsid}", "77"),
        ("{cntlid}", "77"),
        ("{id}", "77"),
    ];
    let path = values.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value));
    path.split('/')
        .map(|p| if p.starts_with('{') { "none" } else { p })
        .collect::<Vec<_>>()
        .join("/")
}

#[test]
fn the_rows_say_what_the_table_says() {
    let listed: BTreeMap<&str, Option<Role>> =
        TABLE.iter().flat_map(|(role, ids)| ids.iter().map(|id| (*id, *role))).collect();
    let document = document();
    let operations = operations(&document);
    for (.., operation) in &operations {
        let id = operation["operationId"].as_str().unwrap();
        let role: Option<Role> = serde_json::from_value(operation["x-role"].clone()).ok();
        assert_eq!(listed.get(id), Some(&role), "{id}");
    }
    assert_eq!(operations.len(), listed.len(), "an operation of the table is not there");
}

/// Where an appliance is asked.
enum Door {
    Tcp(SocketAddr),
    Tls(SocketAddr, PathBuf),
    Socket(PathBuf),
}

impl Door {
    fn ask(&self, method: &str, path: &str, headers: &[(String, String)], body: &Value) -> Answer {
        let mut headers = headers.to_vec();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        if !body.is_empty() {
            headers.push(("Content-Type".into(), "application/json".into()));
        }
        let (host, body) = (self.host(), body.as_bytes());
        match self {
            Self::Tcp(to) => {
                exchange(TcpStream::connect(to).unwrap(), &host, method, path, &headers, body)
            }
            Self::Tls(to, certificate) => {
                exchange(over_tls(*to, certificate), &host, method, path, &headers, body)
            }
            Self::Socket(folder) => {
                let place = SocketPath::of(folder).unwrap();
                let stream = UnixStream::connect(place.path()).unwrap();
                exchange(stream, &host, method, path, &headers, body)
            }
        }
    }

    fn host(&self) -> String {
        match self {
            Self::Tcp(to) | Self::Tls(to, _) => to.to_string(),
            Self::Socket(_) => "localhost".into(),
        }
    }

    /// The origin of a page of the appliance's own.
    fn origin(&self, secure: bool) -> String {
        format!("{}://{}", if secure { "https" } else { "http" }, self.host())
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq)]
enum Who {
    Nobody,
    WrongToken,
    RevokedToken,
    Token(Role),
    Session(Role),
    /// In a session, from a page of somebody else's.
    ForeignSession(Role),
}

/// A server, and what its callers show.
struct Case {
    door: Door,
    secure: bool,
    world: Arc<Puppet>,
    revoked: String,
    tokens: BTreeMap<Role, String>,
}

impl Case {
    fn new(door: Door, secure: bool, world: &Arc<Puppet>, admin: &str) -> Self {
        let headers = [("Authorization".to_owned(), format!("Bearer {admin}"))];
        let number = world.drawn.load(Ordering::SeqCst);
        let token = |name: &str, role: Role| {
            let request = json!({"name": format!("{name}-{role}-{number}"), "role": role});
            let made = door.ask("POST", "/api/v1/tokens", &headers, &request);
            assert_eq!(made.status, 201, "{}", made.text());
            (made.json()["secret"].as_str().unwrap().to_owned(), request["name"].clone())
        };
        let (revoked, name) = token("gone", Role::Admin);
        let path = format!("/api/v1/tokens/{}", name.as_str().unwrap());
        assert_eq!(door.ask("DELETE", &path, &headers, &Value::Null).status, 204);
        let tokens = Role::ALL.into_iter().map(|role| (role, token("a", role).0)).collect();
        Self { door, secure, world: Arc::clone(world), revoked, tokens }
    }

    /// The headers that show who asks. A session is new each time: one of the operations ends it.
    fn shows(&self, who: &Who) -> Vec<(String, String)> {
        let bearer = |secret: &str| vec![("Authorization".into(), format!("Bearer {secret}"))];
        let session = |role: &Role, origin: String| {
            let login = json!({"token": self.tokens[role]});
            let answer = self.door.ask("POST", "/api/v1/session", &[], &login);
            let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
            vec![("Cookie".to_owned(), cookie), ("Origin".to_owned(), origin)]
        };
        match who {
            Who::Nobody => Vec::new(),
            Who::WrongToken => bearer("forebay_wrong"),
            Who::RevokedToken => bearer(&self.revoked),
            Who::Token(role) => bearer(&self.tokens[role]),
            Who::Session(role) => session(role, self.door.origin(self.secure)),
            Who::ForeignSession(role) => session(role, "https://evil.example".into()),
        }
    }

    /// What must be answered: the status of a refusal; nothing: it is let in.
    fn wanted(&self, who: &Who, method: &str, needed: Option<Role>) -> Option<u16> {
        let needed = needed?;
        let by_role = |role: Role| (role < needed).then_some(403);
        match who {
            // Who reaches the socket is root or the appliance's own user.
            Who::Nobody if matches!(self.door, Door::Socket(_)) => None,
            Who::Nobody | Who::WrongToken | Who::RevokedToken => Some(401),
            Who::Token(role) | Who::Session(role) => by_role(*role),
            Who::ForeignSession(_) if method != "GET" => Some(403),
            Who::ForeignSession(role) => by_role(*role),
        }
    }

    /// Asks for everything; how often it asked.
    fn check(&self) -> usize {
        let mut callers = vec![Who::Nobody, Who::WrongToken, Who::RevokedToken];
        for role in Role::ALL {
            callers.extend([Who::Token(role), Who::Session(role), Who::ForeignSession(role)]);
        }
        let roles: BTreeMap<&str, Option<Role>> =
            TABLE.iter().flat_map(|(role, ids)| ids.iter().map(|id| (*id, *role))).collect();
        let mut tried = 0;
        for (method, path, operation) in operations(&document()) {
            let id = operation["operationId"].as_str().unwrap();
            let has_body = operation["requestBody"].is_object();
            let body = if has_body { json!({}) } else { Value::Null };
            let path = filled(&path);
            // A stream has no end: its head says who is let in.
            let asked = if id == "stream_events" { "HEAD" } else { method.as_str() };
            for who in &callers {
                // So that nobody waits for those who guess.
                self.world.now_ns.fetch_add(60_000_000_000, Ordering::SeqCst);
                let answer = self.door.ask(asked, &path, &self.shows(who), &body);
                let what = format!("{id} by {who:?} at {}: {}", self.door.host(), answer.text());
                match self.wanted(who, &method, roles[id]) {
                    Some(status) => assert_eq!(answer.status, status, "{what}"),
                    None => assert!(![401, 403, 429, 500].contains(&answer.status), "{what}"),
                }
                tried += 1;
            }
        }
        tried
    }
}

#[test]
fn each_caller_may_what_the_table_says_over_tcp() {
    let rig = Rig::new(Appliance::furnished());
    let case = Case::new(Door::Tcp(rig.address()), false, &rig.world, &rig.admin);
    assert!(case.check() > 1000);
}

#[test]
fn each_caller_may_what_the_table_says_over_the_socket() {
    let rig = Rig::new(Appliance::furnished());
    let door = Door::Socket(rig.folder.path().to_owned());
    let case = Case::new(door, false, &rig.world, &rig.admin);
    assert!(case.check() > 1000);
}

#[test]
fn each_caller_may_what_the_table_says_over_tls() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let files = TlsFiles { certificate: path("api.crt"), key: path("api.key") };
    self_signed(&files, &["localhost".into(), "127.0.0.1".into()], now_ms()).unwrap();
    let mut config = config(&folder);
    let certificate = files.certificate.clone();
    config.tls = Some(TlsConfig { files, made_for: None, client_ca: None, tls12: false });
    let world = Arc::new(Puppet::default());
    let appliance = Arc::new(Appliance::furnished());
    let mut server = Server::start(config, appliance, world.clone()).unwrap();
    let admin = server.take_first_token().unwrap().secret;
    let door = Door::Tls(server.address().unwrap(), certificate);
    assert!(Case::new(door, true, &world, &admin).check() > 1000);
}
