//! Whoever listens where an appliance could be is told no secret.

use crate::appliance::{Appliance, NQN};
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Something that takes what it is told for a while, and says nothing.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    fn take(&self, mut stream: impl Read) {
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = stream.read(&mut part) {
            self.0.lock().unwrap().extend_from_slice(&part[..length]);
            if part[..length].ends_with(b"\r\n\r\n") {
                return;
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

/// Listens at `address`; nothing where somebody else does.
fn listen(address: &str) -> Option<(SocketAddr, Heard)> {
    let listener = TcpListener::bind(address).ok()?;
    let (at, heard) = (listener.local_addr().unwrap(), Heard::default());
    let hears = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            hears.take(stream);
        }
    });
    Some((at, heard))
}

/// A data directory as an appliance has left it that does not run any more.
fn left_behind(folder: &Path, address: SocketAddr) {
    std::fs::write(folder.join("admin.token"), "forebay_secret\n").unwrap();
    std::fs::write(folder.join("api.url"), format!("http://{address}\n")).unwrap();
}

fn refused(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    said
}

#[test]
fn who_listens_where_an_appliance_was_gets_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let (address, heard) = listen("127.0.0.1:0").unwrap();
    left_behind(folder.path(), address);
    let url = format!("http://{address}");
    for args in [&["status"][..], &["status", "--api", &url]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(args).env("FOREBAY_DATA_DIR", folder.path());
        refused(&command.output().unwrap());
        assert!(!heard.text().contains("forebay_secret"), "{args:?}: {}", heard.text());
    }
}

#[test]
fn who_listens_on_the_port_of_the_api_gets_no_token() {
    let Some((address, heard)) = listen("127.0.0.1:4480") else {
        println!("SKIPPED: port 4480 of 127.0.0.1 is in use");
        return;
    };
    // Where root's data directory is, for this command alone.
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("forebay")).unwrap();
    left_behind(&folder.path().join("forebay"), address);
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", "mount --bind \"$1\" /var/lib; exec \"$0\" status"]);
    command.arg(env!("CARGO_BIN_EXE_forebay")).arg(folder.path());
    let output = command.env_remove("FOREBAY_DATA_DIR").output().unwrap();
    let said = refused(&output);
    if !said.starts_with("forebay: ") {
        println!("SKIPPED: this user cannot mount: {said}");
        return;
    }
    assert_eq!(heard.text(), "", "nobody is asked but by the socket");
    assert!(said.contains("/var/lib/forebay"), "{said}");
}

#[test]
fn who_listens_on_a_socket_and_owns_neither_folder_nor_machine_is_not_asked() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can become another user.");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let (path, heard) = (folder.path().join("api.sock"), Heard::default());
    let hears = heard.clone();
    let stranger = std::thread::spawn(move || {
        let user = rustix::process::Uid::from_raw(65534);
        rustix::thread::set_thread_res_uid(user, user, user).unwrap();
        let listener = UnixListener::bind(path).unwrap();
        move || hears.take(listener.accept().unwrap().0)
    });
    let hear = stranger.join().unwrap();
    let hears = std::thread::spawn(hear);
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.arg("status").env("FOREBAY_DATA_DIR", folder.path());
    let said = refused(&command.env("FOREBAY_TOKEN", "forebay_secret").output().unwrap());
    hears.join().unwrap();
    assert_eq!(heard.text(), "");
    assert!(said.contains("user 65534 answers there"), "{said}");
}

#[test]
fn the_command_line_of_the_machine_needs_neither_token_nor_port() {
    let node = Appliance::start(&["--ram", "16MiB", "--api", "off"]);
    assert!(!node.dir.path().join("api.url").exists());
    let said = node.ask(&["subsystem", "list"]);
    assert!(String::from_utf8_lossy(&said.stdout).contains(NQN), "{said:?}");
    let audit = {
        assert!(node.ask(&["token", "create", "eye", "--role", "viewer"]).status.success());
        node.ask(&["audit"])
    };
    let audit = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert!(audit.contains("local") && audit.contains("create token"), "{audit}");
}
