//! Every wrong flag, missing file, busy port and bad size gets a sentence.

use crate::appliance::{Appliance, NQN, refusal};

fn serve(flags: &[&str]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap().to_owned();
    let fixed = ["serve", "--data-dir", &data, "--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"];
    refusal(&[&fixed[..], flags].concat())
}

#[test]
fn what_is_wrong_is_said() {
    let cases: [(&[&str], &str); 14] = [
        (&["--config", "no/such.toml"], "no/such.toml cannot be read"),
        (&["--ram", "lots"], "is no size"),
        (&["--ram", "1000"], "less than one block"),
        (&["--ram", "10GiB", "--block", "1000"], "use 512 or 4096"),
        (&["--ram", "900TiB"], "bdev \"ram0\""),
        (&["--file", "no/such/disk.img"], "does not exist: give a size"),
        (&["--file", "/"], "directory"),
        (&["--cores", "100-1"], "is no list of cores"),
        (&["--cores", "4000", "--ram", "1MiB"], "There is no core 4000"),
        (&["--ram", "1MiB", "--nqn", "mine"], "is not a valid NQN"),
        (&["--ram", "1MiB", "--congestion", "wishful"], "tcp_available_congestion_control"),
        (&["--ram", "1MiB", "--discovery", "255.255.255.255:8009"], "broadcast address"),
        (&["--ram", "1MiB", "--memory", "1KiB"], "between 16MiB and 64GiB"),
        (&["--ram", "1MiB", "--memory", "64GiB", "--cores", "0"], "has to spare"),
    ];
    for (flags, says) in cases {
        let text = serve(flags);
        assert!(text.contains(says), "{flags:?}: {text}");
    }
}

#[test]
fn a_data_directory_may_be_deeper_than_a_socket_has_bytes_for() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("x".repeat(150));
    std::fs::create_dir(&deep).unwrap();
    let node = Appliance::start_in(
        tempfile::tempdir_in(&deep).unwrap(),
        "127.0.0.1:0",
        &["--ram", "1MiB"],
    );
    assert!(node.ask(&["status"]).status.success());
    assert_eq!(node.stats()["listeners"].as_array().unwrap().len(), 1);
}

#[test]
fn an_address_that_is_taken_or_cannot_be_is_said() {
    let first = Appliance::start(&["--ram", "1MiB"]);
    let address = first.address();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let flags = ["serve", "--data-dir", data, "--ram", "1MiB", "--api", "off", "--listen"];
    let busy = refusal(&[&flags[..], &[&address]].concat());
    assert!(busy.contains("is in use by another program"), "{busy}");
    let listen = ["serve", "--data-dir", data, "--ram", "1MiB", "--listen", "127.0.0.1:0"];
    let nowhere = refusal(&[&listen[..], &["--api", "224.0.0.1:4480"]].concat());
    assert!(nowhere.contains("multicast address"), "{nowhere}");
}

#[test]
fn the_greeting_names_addresses_that_hosts_can_use() {
    let dir = tempfile::tempdir().unwrap();
    let node = Appliance::start_in(dir, "0.0.0.0:0", &["--ram", "16MiB"]);
    assert!(!node.address.ip().is_unspecified(), "{}", node.address);
    assert!(node.io(&["read"]).status.success());
}

#[test]
fn a_file_in_use_by_another_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = format!("{}=16MiB", dir.path().join("disk.img").display());
    let first = Appliance::start(&["--file", &file]);
    let text = serve(&["--file", &file]);
    assert!(text.contains("disk.img"), "{text}");
    drop(first);
}

#[test]
fn commands_without_a_target_say_where_they_looked() {
    let text = refusal(&["stats", "--data-dir", "no/such/folder"]);
    assert!(text.contains("No appliance runs with the data directory no/such/folder"), "{text}");
    let text = refusal(&["discover", "127.0.0.1:1"]);
    assert!(text.contains("127.0.0.1:1"), "{text}");
    let text = refusal(&["io", "read", "127.0.0.1:1", "--nqn", NQN, "--depth", "0"]);
    assert!(text.contains("--depth"), "{text}");
}

#[test]
fn changes_that_cannot_be_made_say_why() {
    let node = Appliance::start(&["--ram", "1MiB"]);
    let cases: [(&[&str], &str); 6] = [
        (&["namespace", "add", NQN, "--device", "nothing"], "There is no device nothing"),
        (&["namespace", "add", NQN, "--device", "ram0", "--nsid", "2"], "is namespace 1 of"),
        (&["namespace", "remove", NQN, "7", "--yes"], "no namespace 7"),
        (
            &["namespace", "remove", "nqn.2026-01.org.example:x", "1", "--yes"],
            "There is no subsystem",
        ),
        (&["device", "detach", "ram0", "--yes"], "The configuration file declares device ram0"),
        (&["subsystem", "delete", NQN, "--yes"], "shows device ram0"),
    ];
    for (args, says) in cases {
        let output = node.ask(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(says), "{args:?}: {text}");
    }
}

#[test]
fn every_command_asks_the_data_directory_that_the_environment_names() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["stats"][..], &["status"]] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_forebay"));
        let output = command.args(args).env("FOREBAY_DATA_DIR", dir.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        assert!(text.contains(dir.path().to_str().unwrap()), "{args:?}: {text}");
    }
}
