//! Everything that the binary makes is for the user that it runs as, whatever the shell's umask.

use crate::appliance::{Appliance, refusal};
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn good(node: &Appliance, args: &[&str]) -> String {
    let output = node.ask(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A folder and everything below it.
fn all_below(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    if fs::symlink_metadata(path).unwrap().is_dir() {
        let entries = path.read_dir().unwrap();
        found.extend(entries.flat_map(|entry| all_below(&entry.unwrap().path())));
    }
    found
}

/// Files in shared memory that hold what volumes of a pool have not committed.
fn journals(pool: &str) -> Vec<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let folder = PathBuf::from(format!("/dev/shm/forebay-{user}"));
    let is_of = |path: &PathBuf| path.to_str().is_some_and(|path| path.contains(pool));
    let files = all_below(&folder).into_iter().filter(is_of);
    std::iter::once(folder.clone()).chain(files).collect()
}

#[test]
fn all_that_is_made_is_for_one_user() {
    let outside = tempfile::tempdir().unwrap();
    let volume = outside.path().join("volume.img");
    let file = format!("{}=16MiB", volume.display());
    let node = Appliance::start_under("umask 022", &["--file", &file, "--api", "0.0.0.0:0"]);
    let device = node.dir.path().join("device.img");
    let device = device.to_str().unwrap();
    good(&node, &["device", "attach", device, "--size", "512MiB"]);
    good(&node, &["pool", "create", "tank", "device.img"]);
    good(&node, &["volume", "create", "tank/v", "16MiB", "--allow-any-host"]);
    good(&node, &["token", "create", "eye", "--role", "viewer"]);
    let address = node.address();
    let to = ["--nqn", "nqn.2026-01.io.forebay:tank:v", "--length", "1MiB"];
    let written = crate::appliance::forebay(&[&["io", "write", &address][..], &to].concat());
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));

    let pool: serde_json::Value =
        serde_json::from_str(&good(&node, &["pool", "show", "tank", "--json"])).unwrap();
    let journals = journals(pool["uuid"].as_str().unwrap());
    assert!(journals.len() >= 4, "lock, devices, the volume's, and their folder: {journals:?}");
    let mut made = all_below(node.dir.path());
    made.push(volume);
    made.extend(journals);
    for path in &made {
        let found = fs::symlink_metadata(path).unwrap();
        let mode = found.mode() & 0o7777;
        let wanted = if found.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, wanted, "{} has mode {mode:o}", path.display());
        assert!(!found.is_symlink(), "{path:?}");
    }
    let names: BTreeSet<String> = all_below(node.dir.path())
        .iter()
        .skip(1)
        .map(|p| p.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    let expected = "access.log admin.token api.crt api.key api.names api.sock api.url audit.log audit.log.spare device.img \
                    history lock \
                    tokens.json wanted.log";
    assert_eq!(names, expected.split_whitespace().map(str::to_owned).collect());
    assert!(fs::metadata(node.dir.path().join("api.sock")).unwrap().file_type().is_socket());
}

#[test]
fn what_was_open_to_others_is_closed_and_said() {
    let node = Appliance::start(&["--ram", "1MiB"]);
    let (_, _, dir) = node.terminate();
    let set = |name: &str, mode| {
        fs::set_permissions(dir.path().join(name), Permissions::from_mode(mode)).unwrap();
    };
    set("", 0o755);
    for name in ["tokens.json", "audit.log", "lock"] {
        set(name, 0o644);
    }
    let node = Appliance::start_in(dir, "127.0.0.1:0", &["--ram", "1MiB"]);
    for path in all_below(node.dir.path()) {
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o077, 0, "{path:?}");
    }
    let (ended_well, log, _) = node.terminate();
    assert!(ended_well, "{log}");
    for part in ["was open to others (mode 755)", "tokens.json was open to others (mode 644)"] {
        assert!(log.contains(part), "{log}");
    }
}

#[test]
fn links_and_what_belongs_to_others_are_refused() {
    let outside = tempfile::tempdir().unwrap();
    let (data, treasure) = (outside.path().join("data"), outside.path().join("treasure"));
    fs::create_dir(&data).unwrap();
    fs::write(&treasure, "gold").unwrap();
    fs::set_permissions(&treasure, Permissions::from_mode(0o644)).unwrap();
    let serve = |folder: &Path| {
        let place = ["serve", "--data-dir", folder.to_str().unwrap(), "--ram", "1MiB"];
        let ports = ["--listen", "127.0.0.1:0", "--api", "127.0.0.1:0", "--memory", "32MiB"];
        refusal(&[&place[..], &ports].concat())
    };
    for name in
        ["state.json", "wanted.log", "tokens.json", "audit.log", "api.url", "lock", "admin.token"]
    {
        std::os::unix::fs::symlink(&treasure, data.join(name)).unwrap();
        let why = serve(&data);
        assert!(why.contains(name) && why.contains("is a link"), "{why}");
        fs::remove_file(data.join(name)).unwrap();
    }
    let link = outside.path().join("link");
    std::os::unix::fs::symlink(&data, &link).unwrap();
    assert!(serve(&link).contains("is a link"));
    assert_eq!(fs::read_to_string(&treasure).unwrap(), "gold");
    assert_eq!(fs::metadata(&treasure).unwrap().mode() & 0o777, 0o644);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&data, Some(65534), None).unwrap();
        assert!(serve(&data).contains("belongs to user 65534"));
    } else {
        println!("SKIPPED: only root can give a folder away.");
    }
}

/// The greeting of a first start, through this command, and the secret that was made.
fn greeting(through: &[&str]) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let serve = format!(
        "'{}' serve --data-dir '{data}' --ram 1MiB --listen 127.0.0.1:0 --api 127.0.0.1:0 --memory \
         32MiB",
        env!("CARGO_BIN_EXE_forebay")
    );
    let mut command = Command::new(through[0]);
    command.args(&through[1..]).arg(&serve).stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command
        .args(if through[0] == "script" { &["/dev/null"][..] } else { &[] })
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut said = String::new();
    while !said.contains("Token of admin") {
        said.push_str(&lines.next().expect("a greeting"));
    }
    let secret = fs::read_to_string(dir.path().join("admin.token")).unwrap();
    let lock = fs::read_to_string(dir.path().join("lock")).unwrap();
    assert!(Command::new("kill").arg(lock.trim()).status().unwrap().success());
    child.wait().unwrap();
    (said, secret.trim().to_owned())
}

#[test]
fn the_administrators_token_is_shown_on_a_terminal_only() {
    let (said, secret) = greeting(&["sh", "-c"]);
    assert!(!said.contains(&secret) && said.contains("admin.token"), "{said}");
    let (said, secret) = greeting(&["script", "--quiet", "--return", "--command"]);
    assert!(said.contains(&secret), "{said}");
}
