//! A day of an operator: pools, volumes, snapshots and clones through the command line, with data
//! written and read by a host.

use crate::appliance::{Appliance, forebay};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Runs a command against the API that must succeed; its standard output.
fn good(node: &Appliance, args: &[&str]) -> String {
    let output = node.ask(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

/// What a host does with a volume as `forebay connect-info` says.
fn io(node: &Appliance, action: &str, volume: &str, seed: &str) -> bool {
    let lines = good(node, &["connect-info", volume]);
    let words: Vec<&str> = lines.lines().next().expect("a line").split_whitespace().collect();
    assert_eq!(words[..4], ["nvme", "connect", "-t", "tcp"], "{lines}");
    let after = |flag: &str| words[words.iter().position(|w| *w == flag).expect("a flag") + 1];
    let address = format!("{}:{}", after("-a"), after("-s"));
    let args = ["io", action, &address, "--nqn", after("-n"), "--length", "4MiB", "--seed", seed];
    forebay(&args).status.success()
}

/// A pool on a file beside the appliance, with a volume that any host may connect to.
fn furnish(node: &Appliance) -> String {
    let file = node.dir.path().join("disk.img");
    std::fs::File::create(&file).unwrap().set_len(512 << 20).unwrap();
    let path = file.to_str().unwrap().to_owned();
    let made = good(node, &["pool", "create", "tank", &path]);
    assert!(made.starts_with("Pool tank is new"), "{made}");
    let made = good(node, &["volume", "create", "a", "64MiB", "--allow-any-host"]);
    assert!(made.starts_with("Volume tank/a is new.\nOn a host:\n"), "{made}");
    path
}

#[test]
fn snapshots_clones_and_rollbacks_show_a_host_what_they_should() {
    let node = Appliance::start(&["--ram", "16MiB"]);
    furnish(&node);
    assert!(io(&node, "write", "a", "1") && io(&node, "verify", "a", "1"));
    good(&node, &["snapshot", "create", "tank/a@one"]);
    assert!(io(&node, "write", "a", "2"));
    good(&node, &["snapshot", "clone", "a@one", "b", "--allow-any-host"]);
    assert!(io(&node, "verify", "b", "1") && io(&node, "verify", "a", "2"));
    assert!(io(&node, "write", "b", "3") && io(&node, "verify", "a", "2"));
    good(&node, &["snapshot", "export", "a@one", "--allow-any-host"]);
    assert!(io(&node, "verify", "a@one", "1") && !io(&node, "write", "a@one", "4"));
    good(&node, &["snapshot", "unexport", "a@one"]);
    good(&node, &["volume", "rollback", "a@one", "--yes"]);
    assert!(io(&node, "verify", "a", "1"));
    good(&node, &["volume", "promote", "b"]);
    assert!(io(&node, "verify", "b", "3"));
    let snapshots = good(&node, &["snapshot", "list"]);
    assert!(snapshots.contains("tank/b@one"), "{snapshots}");
}

#[test]
fn volumes_are_resized_limited_renamed_and_deleted() {
    let node = Appliance::start(&["--ram", "16MiB"]);
    furnish(&node);
    assert!(good(&node, &["volume", "resize", "a", "128MiB"]).contains("128.00 MiB"));
    assert!(!node.ask(&["volume", "resize", "a", "64MiB"]).status.success());
    good(&node, &["volume", "resize", "a", "64MiB", "--shrink", "--yes"]);
    let limits = good(&node, &["volume", "limits", "a", "--iops", "5000"]);
    assert_eq!(limits, "Limits of volume tank/a: 5000 IOPS.\n");
    good(&node, &["volume", "rename", "a", "better"]);
    assert!(io(&node, "write", "better", "1") && io(&node, "verify", "better", "1"));
    let top = good(&node, &["top", "-n", "1"]);
    assert!(top.contains("tank") && top.contains("reactor"), "{top}");
    assert!(good(&node, &["status"]).contains("status"));
    assert!(good(&node, &["events"]).contains("tank/better"));
    let audit = good(&node, &["audit"]);
    assert!(audit.contains("rename volume"), "{audit}");
    good(&node, &["volume", "delete", "better", "--yes", "--wait"]);
    assert!(good(&node, &["volume", "list"]).starts_with("There are no volumes"));
    good(&node, &["pool", "delete", "tank", "--yes"]);
}

#[test]
fn a_pool_is_exported_imported_and_declared_elsewhere() {
    let node = Appliance::start(&["--ram", "16MiB"]);
    furnish(&node);
    assert!(io(&node, "write", "a", "9"));
    good(&node, &["pool", "export", "tank", "--yes"]);
    assert!(good(&node, &["pool", "importable"]).contains("tank"));
    good(&node, &["pool", "import", "tank"]);
    // Its volumes are exported as before.
    assert!(io(&node, "verify", "a", "9"));
    let declared = good(&node, &["export"]);
    let file = node.dir.path().join("declared.toml");
    std::fs::write(&file, &declared).unwrap();
    let file = file.to_str().unwrap();
    let said = good(&node, &["apply", "-f", file, "--dry-run"]);
    assert!(said.starts_with("All is as declared.\n"), "{said}");
    assert!(declared.contains("[[pool.volume]]\nname = \"a\""), "{declared}");
}

#[test]
fn a_restart_brings_everything_back() {
    let node = Appliance::start(&["--ram", "16MiB"]);
    furnish(&node);
    assert!(io(&node, "write", "a", "5"));
    let before = good(&node, &["export"]);
    let (dir, address) = node.kill();
    let node = Appliance::start_in(dir, &address, &["--ram", "16MiB"]);
    assert_eq!(good(&node, &["export"]), before);
    assert!(io(&node, "verify", "a", "5"));
}

#[test]
fn the_token_in_the_data_directory_is_for_its_owner() {
    let node = Appliance::start(&["--ram", "16MiB"]);
    let token = node.dir.path().join("admin.token");
    assert_eq!(std::fs::metadata(&token).unwrap().permissions().mode() & 0o777, 0o600);
    let url = std::fs::read_to_string(node.dir.path().join("api.url")).unwrap();
    let by_address = ["token", "list", "--api", url.trim()];
    let output = node.ask(&by_address);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("FOREBAY_TOKEN"), "{said}");
    good(&node, &[&by_address[..], &["--token-file", token.to_str().unwrap()]].concat());
}

#[test]
fn devices_are_attached_from_below_listed_folders_only() {
    // Below no folder that is listed.
    let outside = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let secret = outside.path().join("secret.img");
    std::fs::File::create(&secret).unwrap().set_len(64 << 20).unwrap();
    let new = outside.path().join("new.img");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let node = Appliance::start(&["--ram", "16MiB"]);
    let (link, tokens) = (node.dir.path().join("link.img"), node.dir.path().join("tokens.json"));
    std::os::unix::fs::symlink(&secret, &link).unwrap();
    let above = format!("{}/..{}", node.dir.path().display(), secret.display());
    let above = above.replacen("/..", &"/..".repeat(16), 1);
    for path in [text(&secret), text(&link), above, text(&tokens), "/proc/kcore".into()] {
        for args in [&["device", "attach", &path][..], &["pool", "create", "tank", &path]] {
            let output = node.ask(args);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                !output.status.success() && said.contains("device_folders"),
                "{args:?}: {said}"
            );
        }
    }
    assert!(!node.ask(&["device", "attach", &text(&new), "--size", "1MiB"]).status.success());
    assert!(!new.exists());
    let (dir, _) = node.kill();
    let folder = text(outside.path());
    let listed = ["--ram", "16MiB", "--device-folder", &folder];
    let node = Appliance::start_in(dir, "127.0.0.1:0", &listed);
    good(&node, &["device", "attach", &text(&secret)]);
    good(&node, &["device", "attach", &text(&new), "--size", "1MiB"]);
    let (dir, _) = node.kill();
    // What is attached stays so, wherever it is.
    let node = Appliance::start_in(dir, "127.0.0.1:0", &["--ram", "16MiB"]);
    let devices = good(&node, &["device", "list"]);
    assert!(devices.contains("secret.img") && !devices.contains("missing"), "{devices}");
}
