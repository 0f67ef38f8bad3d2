//! A drive that hangs, a remote target that never answers, a namespace that does not drain: everything
//! else goes on, and each of them says why it waits. Nothing here ends by itself while a test runs.

use crate::appliance::{Appliance, PATIENCE, eventually};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;

const SLOW: &str = "nqn.2026-01.org.example:slow";
const FAR: &str = "nqn.2026-01.org.example:far";

/// Two files, each to be a pool's device, and one that is memory.
fn healthy(dir: &Path) -> String {
    let file = |name: &str| {
        let path = dir.join(name);
        format!(
            "[[bdev]]\nname = \"{name}\"\nkind = \"file\"\npath = {path:?}\nsize = \"128MiB\"\n"
        )
    };
    format!(
        "[reactors]\nmemory = \"32MiB\"\n{}{}[[bdev]]\nname = \"ram\"\nkind = \"ram\"\nsize = \"1MiB\"\n\
         [[subsystem]]\nnqn = \"nqn.2026-01.org.example:test\"\nallow_any_host = true\n\
         [[subsystem.namespace]]\nbdev = \"ram\"\n",
        file("a"),
        file("b")
    )
}

/// The same with a layer over the first that takes an hour for a write, a device that does too, and a namespace of a remote target that nobody will hear of.
fn hung(dir: &Path, black_hole: &TcpListener) -> String {
    let address = black_hole.local_addr().unwrap();
    format!(
        "{}[[bdev]]\nname = \"hangs\"\nkind = \"delay\"\nbase = \"a\"\nwrite_us = 3600000000\n\
         [[bdev]]\nname = \"below\"\nkind = \"ram\"\nsize = \"1MiB\"\n\
         [[bdev]]\nname = \"slow\"\nkind = \"delay\"\nbase = \"below\"\nwrite_us = 3600000000\n\
         [[bdev]]\nname = \"far\"\nkind = \"remote\"\naddress = \"{address}\"\nsubsystem = \"{FAR}\"\n\
         [[subsystem]]\nnqn = \"{FAR}\"\nallow_any_host = true\n\
         [[subsystem.namespace]]\nbdev = \"far\"\n",
        healthy(dir)
    )
}

fn good(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// What the API answers to a GET. One that does not end fails.
fn get(node: &Appliance, path: &str) -> String {
    let mut socket = UnixStream::connect(node.dir.path().join("api.sock")).unwrap();
    socket.set_read_timeout(Some(PATIENCE / 2)).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap_or_else(|error| panic!("{path}: {error}"));
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer of HTTP");
    assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {head} {body}");
    body.to_owned()
}

fn object(node: &Appliance, path: &str) -> Value {
    serde_json::from_str(&get(node, path)).expect("JSON")
}

fn reason(node: &Appliance, path: &str) -> String {
    object(node, path)["reason"].as_str().expect("a sentence").to_owned()
}

fn kept(dir: &Path, text: &str) -> std::path::PathBuf {
    let path = dir.join("forebay.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// Ends with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A target that accepts connections, and never says anything.
fn black_hole() -> (TcpListener, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let accepts = listener.try_clone().unwrap();
    let thread = std::thread::spawn(move || {
        let mut kept = Vec::new();
        for connection in accepts.incoming().take(1000) {
            kept.push(connection);
        }
    });
    (listener, thread)
}

/// An appliance that has everything which hangs, and a pool that does not; a host waits for a write to a
/// namespace that is removed meanwhile.
fn start(files: &Path, black_hole: &TcpListener) -> (Appliance, Killed, Killed) {
    let node = Appliance::start_config(&kept(files, &healthy(files)));
    good(&node.ask(&["pool", "create", "hung", "a"]));
    good(&node.ask(&["volume", "create", "hung/v", "8MiB", "--allow-any-host"]));
    good(&node.ask(&["pool", "create", "tank", "b"]));
    good(&node.ask(&["volume", "create", "tank/v", "8MiB", "--allow-any-host"]));
    let (ended_well, log, dir) = node.terminate();
    assert!(ended_well, "{log}");

    let node = Appliance::start_config_in(dir, &kept(files, &hung(files, black_hole)));
    good(&node.ask(&["subsystem", "create", SLOW, "--allow-any-host"]));
    good(&node.ask(&["namespace", "add", SLOW, "--device", "slow"]));
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(["io", "write", &node.address(), "--nqn", SLOW, "--size", "4KiB"]);
    let host = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let host = Killed(host);
    eventually("a command is under way", || {
        let controllers = object(&node, "/api/v1/controllers");
        let queues = controllers["items"].as_array().into_iter().flatten();
        let mut queues = queues.flat_map(|c| c["queues"].as_array().cloned().unwrap_or_default());
        queues.any(|queue| queue["qid"] != 0 && queue["outstanding"].as_u64() > Some(0))
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(["namespace", "remove", SLOW, "1", "--yes", "--data-dir"]).arg(node.dir.path());
    let remover = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    (node, host, Killed(remover))
}

#[test]
fn what_hangs_is_in_nobodys_way_and_says_why() {
    let files = tempfile::tempdir().unwrap();
    let (listener, _thread) = black_hole();
    let (node, _host, _remover) = start(files.path(), &listener);

    // A volume on another pool is made and deleted, and everything can be looked at.
    for round in 0..3 {
        let volume = format!("tank/new{round}");
        good(&node.ask(&["volume", "create", &volume, "8MiB", "--allow-any-host"]));
        for path in [
            "/api/v1/volumes",
            "/api/v1/pools/tank/volumes/v",
            "/metrics",
            "/api/v1/alerts",
            "/api/v1/statistics",
            "/api/v1/pools",
            "/api/v1/devices",
            "/api/v1/subsystems",
            "/api/v1/listeners",
            "/api/v1/jobs",
            "/api/v1/appliance",
            "/readyz",
        ] {
            get(&node, path);
        }
        good(&node.ask(&["volume", "delete", &volume, "--yes"]));
    }

    eventually("the device that hangs says so", || {
        reason(&node, "/api/v1/devices/hangs").contains("has not answered since")
    });
    eventually("its pool waits for it", || {
        let why = reason(&node, "/api/v1/pools/hung");
        why.contains("imported since") && why.contains("waiting for hangs")
    });
    eventually("the remote target does not answer", || {
        let why = reason(&node, "/api/v1/devices/far");
        why.contains("without an answer") || why.contains("missing")
    });
    eventually("its namespace waits for it", || {
        let far = object(&node, &format!("/api/v1/subsystems/{FAR}"));
        far["namespaces"][0]["reason"].as_str().is_some_and(|why| why.contains("Device far"))
    });
    eventually("the namespace drains", || {
        let why = reason(&node, "/api/v1/devices/slow");
        why.contains("was removed at") && why.contains("waits for commands")
    });
    eventually("there are alerts for all of them", || {
        let alerts = get(&node, "/api/v1/alerts");
        ["device-hangs:hangs", "device-missing:far", "namespace-draining:"]
            .iter()
            .all(|alert| alerts.contains(alert))
    });
    // What is asked of the pool that hangs is refused with what is in the way, and that is all.
    let refused = node.ask(&["volume", "create", "hung/w", "8MiB"]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("hung"), "{why}");
    good(&node.ask(&["volume", "list"]));
}

#[test]
fn a_remote_target_that_comes_back_is_served_again() {
    let target = Appliance::start(&["--ram", "4MiB"]);
    let (dir, address) = target.kill();
    let files = tempfile::tempdir().unwrap();
    let text = format!(
        "[reactors]\nmemory = \"32MiB\"\n[[bdev]]\nname = \"far\"\nkind = \"remote\"\n\
         address = \"{address}\"\nsubsystem = \"{}\"\n[[subsystem]]\nnqn = \"{FAR}\"\n\
         allow_any_host = true\n[[subsystem.namespace]]\nbdev = \"far\"\n",
        crate::appliance::NQN
    );
    let node = Appliance::start_config(&kept(files.path(), &text));
    let why = reason(&node, "/api/v1/devices/far");
    assert!(why.contains("missing"), "{why}");
    let alerts = || get(&node, "/api/v1/alerts");
    eventually("it is an alert", || alerts().contains("device-missing:far"));
    let _target = Appliance::start_in(dir, &address, &["--ram", "4MiB"]);
    let far = ["io", "read", &node.address(), "--nqn", FAR];
    eventually("it is served", || crate::appliance::forebay(&far).status.success());
    eventually("no alert is left", || !alerts().contains("far"));
    let events = get(&node, "/api/v1/events");
    assert!(events.contains("Device far is there, which was missing"), "{events}");
}

/// Stops a process, or lets it go on.
fn signal(node: &Appliance, signal: &str) {
    let sent = Command::new("kill").args([signal, &node.pid().to_string()]).status().unwrap();
    assert!(sent.success(), "{signal}");
}

/// A pool is open, and its device stops answering: here a remote target whose process is stopped.
#[test]
fn a_pool_that_waits_for_its_device_is_named_in_the_alert() {
    let target = Appliance::start(&["--ram", "128MiB"]);
    let files = tempfile::tempdir().unwrap();
    let text = format!(
        "[reactors]\nmemory = \"32MiB\"\n[[bdev]]\nname = \"far\"\nkind = \"remote\"\n\
         address = \"{}\"\nsubsystem = \"{}\"\n[[bdev]]\nname = \"ram\"\nkind = \"ram\"\n\
         size = \"64MiB\"\n",
        target.address(),
        crate::appliance::NQN
    );
    let node = Appliance::start_config(&kept(files.path(), &text));
    good(&node.ask(&["pool", "create", "tank", "far"]));
    good(&node.ask(&["pool", "create", "other", "ram"]));
    good(&node.ask(&["volume", "create", "tank/v", "8MiB", "--allow-any-host"]));
    assert!(!get(&node, "/api/v1/alerts").contains("device-hangs"));

    signal(&target, "-STOP");
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.args(["volume", "create", "tank/w", "8MiB", "--data-dir"]).arg(node.dir.path());
    let maker = Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    eventually("the alert names the pool", || {
        let alerts = object(&node, "/api/v1/alerts");
        let alerts = alerts["items"].as_array().cloned().unwrap_or_default();
        let hangs = alerts.iter().find(|alert| alert["id"] == "device-hangs:far");
        let message = hangs.and_then(|alert| alert["message"].as_str()).unwrap_or_default();
        assert!(!message.contains("pool other"), "{message}");
        message.contains("Device far hangs: it has not answered since")
            && message.contains("Nothing more of pool tank becomes durable until it answers.")
    });
    let why = reason(&node, "/api/v1/pools/tank");
    assert!(why.contains("it waits for device far: it has not answered since"), "{why}");
    good(&node.ask(&["volume", "create", "other/v", "8MiB"]));

    signal(&target, "-CONT");
    eventually("the volume is made after all", || get(&node, "/api/v1/volumes").contains("tank:w"));
    eventually("no alert is left", || !get(&node, "/api/v1/alerts").contains("device-hangs"));
    let events = get(&node, "/api/v1/events");
    assert!(events.contains("Device far answers again."), "{events}");
    drop(maker);
}

#[test]
fn an_address_that_is_not_there_yet_is_listened_on_when_it_is() {
    let Some(node) = Appliance::start_in_namespace(
        &[],
        "127.0.0.1:0",
        &["--ram", "1MiB", "--discovery", "192.0.2.1:8009"],
    ) else {
        return;
    };
    let listeners = || get(&node, "/api/v1/listeners");
    assert!(listeners().contains("is no address of this machine"), "{}", listeners());
    let pid = node.pid().to_string();
    let add = ["-t", &pid, "-n", "ip", "addr", "add", "192.0.2.1/32", "dev", "lo"];
    assert!(Command::new("nsenter").args(add).status().unwrap().success());
    eventually("it listens", || !listeners().contains("is no address"));
}
