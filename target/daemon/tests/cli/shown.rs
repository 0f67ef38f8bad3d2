//! What commands print, for people and for programs.

use crate::rig::Rig;

/// The cells of the line of a table that starts with this word.
fn cells<'a>(table: &'a str, first: &str) -> Vec<&'a str> {
    let line = table.lines().find(|line| line.split("  ").next() == Some(first));
    let line = line.unwrap_or_else(|| panic!("no line of {first} in\n{table}"));
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn lists_are_tables() {
    let rig = Rig::furnished();
    let pools = rig.good(&["pool", "list"]);
    let headings = ["pool", "size", "used", "free", "reserved", "volumes", "devices", "status"];
    assert_eq!(cells(&pools, "pool"), headings);
    let tank = cells(&pools, "tank");
    assert_eq!((tank[0], tank[5], tank[6]), ("tank", "3", "2"));

    let volumes = rig.good(&["volume", "list"]);
    assert_eq!(cells(&volumes, "tank/a")[1], "64.00 MiB");
    assert_eq!(cells(&volumes, "tank/b")[3], "thick");
    assert_eq!(cells(&volumes, "tank/c")[3], "thin clone");
    assert_eq!(cells(&volumes, "tank/a")[5], "1 host");
    assert_eq!(cells(&volumes, "tank/c")[5], "any host");
    assert_eq!(rig.good(&["volume", "list", "tank"]), volumes);

    assert_eq!(cells(&rig.good(&["snapshot", "list"]), "tank/a@s")[1], "64.00 MiB");
    assert_eq!(cells(&rig.good(&["device", "list"]), "d0")[1], "memory");
    let listeners = rig.good(&["listener", "list"]);
    assert_eq!(cells(&listeners, "tcp")[1..3], ["127.0.0.1:4420", "everything"]);
    let subsystems = rig.good(&["subsystem", "list"]);
    assert_eq!(cells(&subsystems, "nqn.2026-01.org.example:shared")[2], "any host");
    assert!(rig.good(&["alerts"]).contains("Store nothing on it."));
    let controllers = rig.good(&["controllers"]);
    assert_eq!(cells(&controllers, "nqn.2026-01.io.forebay:tank:a")[4], "tcp");
    let hosts = rig.good(&["host", "list"]);
    assert_eq!(cells(&hosts, crate::appliance::HOST)[1..3], ["1", "1"]);
    assert_eq!(cells(&rig.good(&["jobs"]), "job")[1], "does");
    assert_eq!(cells(&rig.good(&["token", "list"]), "admin")[1], "admin");
}

#[test]
fn empty_lists_say_what_to_do() {
    let rig = Rig::empty();
    for (args, says) in [
        (&["pool", "list"][..], "`forebay pool create` makes one"),
        (&["volume", "list"], "`forebay volume create` makes one"),
        (&["snapshot", "list"], "`forebay snapshot create` takes one"),
        (&["device", "list"], "`forebay device attach`"),
        (&["listener", "list"], "`forebay listener create`"),
        (&["controllers"], "No host is connected"),
        (&["jobs"], "There are no jobs"),
    ] {
        let said = rig.good(args);
        assert!(said.contains(says) && said.lines().count() == 1, "{args:?}: {said}");
    }
}

#[test]
fn one_object_is_shown_field_by_field() {
    let rig = Rig::furnished();
    let volume = rig.good(&["volume", "show", "a"]);
    assert_eq!(cells(&volume, "volume").last(), Some(&"tank/a"));
    assert!(volume.contains("67108864 bytes") && volume.contains(crate::appliance::HOST));
    let pool = rig.good(&["pool", "show", "tank"]);
    assert!(pool.contains("uuid") && pool.contains("drained"), "{pool}");
    let snapshot = rig.good(&["snapshot", "show", "tank/a@s"]);
    assert_eq!(cells(&snapshot, "clones").last(), Some(&"c"));
    assert!(rig.good(&["device", "show", "d0"]).contains("1.00 GiB"));
    let shared = rig.good(&["subsystem", "show", "nqn.2026-01.org.example:shared"]);
    assert!(shared.contains("volume tank/b"), "{shared}");
    assert!(rig.good(&["status"]).contains("This appliance is a model."));
}

#[test]
fn json_is_what_the_api_answers() {
    let rig = Rig::furnished();
    for (args, path) in [
        (&["pool", "list"][..], "pools"),
        (&["pool", "show", "tank"], "pools/tank"),
        (&["pool", "importable"], "pool-imports"),
        (&["volume", "list"], "volumes"),
        (&["volume", "list", "tank"], "pools/tank/volumes"),
        (&["volume", "show", "tank/a"], "pools/tank/volumes/a"),
        (&["snapshot", "list", "tank/a"], "pools/tank/volumes/a/snapshots"),
        (&["snapshot", "list", "--pool", "tank"], "pools/tank/snapshots"),
        (&["device", "list"], "devices"),
        (&["subsystem", "list"], "subsystems"),
        (&["host", "list"], "hosts"),
        (&["controllers"], "controllers"),
        (&["listener", "list"], "listeners"),
        (&["jobs"], "jobs"),
        (&["alerts"], "alerts"),
        (&["status"], "appliance"),
        (&["export"], "config"),
        (&["connect-info", "tank/a"], "pools/tank/volumes/a/connect-info"),
        (&["top", "-n", "1"], "statistics"),
        (&["token", "list"], "tokens"),
    ] {
        let said = rig.good(&[args, &["--json"]].concat());
        assert_eq!(said, format!("{}\n", rig.get(&format!("/api/v1/{path}"))), "{args:?}");
    }
    // A list that this program puts together has the same shape.
    let all: serde_json::Value =
        serde_json::from_str(&rig.good(&["snapshot", "list", "--json"])).unwrap();
    let tank: serde_json::Value =
        serde_json::from_str(&rig.get("/api/v1/pools/tank/snapshots")).unwrap();
    assert_eq!(all, tank);
}

#[test]
fn what_changes_something_answers_programs_with_the_object_or_nothing() {
    let rig = Rig::furnished();
    let made = rig.good(&["volume", "create", "tank/new", "1GiB", "--json"]);
    let made: serde_json::Value = serde_json::from_str(&made).expect("one object");
    assert_eq!(made["bytes"], 1 << 30);
    assert_eq!(rig.good(&["volume", "delete", "tank/new", "--yes", "--json"]), "");
}

#[test]
fn connect_info_is_ready_to_be_run() {
    let rig = Rig::furnished();
    let lines = rig.good(&["connect-info", "a"]);
    let first = "nvme connect -t tcp -a 127.0.0.1 -s 4420 -n nqn.2026-01.io.forebay:tank:a";
    assert_eq!(lines.lines().next(), Some(first));
    assert!(lines.lines().all(|line| line.starts_with("nvme ") || line.starts_with("ls ")));
    assert_eq!(rig.good(&["connect-info", "tank/a"]), lines);
    rig.good(&["snapshot", "export", "tank/a@s", "--allow-any-host"]);
    assert!(rig.good(&["connect-info", "tank/a@s"]).contains("forebay:tank:a:s"));
    // What stands in the way is no line to run.
    rig.good(&["listener", "delete", "127.0.0.1:4420", "--yes"]);
    let sentence = rig.bad(1, &["connect-info", "tank/a"]);
    assert!(sentence.contains("`forebay listener create`"), "{sentence}");
}

#[test]
fn a_volume_that_is_there_as_asked_for_is_no_error() {
    let rig = Rig::furnished();
    let create = ["volume", "create", "tank/new", "1GiB", "--allow-any-host", "--iops", "5000"];
    let new = rig.good(&create);
    assert!(new.starts_with("Volume tank/new is new.\nOn a host:\n  nvme connect "), "{new}");
    let again = rig.good(&create);
    assert!(again.starts_with("Volume tank/new was there already, as asked for."), "{again}");
    let other = rig.bad(1, &["volume", "create", "new", "2GiB", "--allow-any-host"]);
    assert!(other.contains("bytes") && other.contains("new"), "{other}");
    // The pool may be left out where there is only one, and sizes have many spellings.
    assert!(rig.good(&["volume", "create", "x", "0.5g"]).starts_with("Volume tank/x is new."));
    assert!(rig.good(&["volume", "show", "x"]).contains("536870912 bytes"));
}

#[test]
fn top_shows_rates_on_a_terminal_and_elsewhere() {
    let rig = Rig::furnished();
    let said = rig.good(&["top", "-n", "2", "--interval", "1"]);
    assert_eq!(said.matches("since it started").count(), 2, "{said}");
    assert!(!said.contains('\x1b'), "no colours or moves where nobody sees them");
    let host = crate::appliance::HOST.rsplit(':').next().unwrap();
    for first in ["tank", "tank/a", "0", host] {
        cells(&said, first);
    }
    let (code, shown) = rig.on_terminal(&["top", "-n", "1"], "");
    assert!(code == 0 && shown.contains('\x1b') && shown.contains("tank/a"), "{shown}");
}
