//! What would lose data or disturb hosts asks first.

use crate::rig::{Rig, volume};
use webui_model::Control;

/// Every command that asks, on the furnished appliance.
const DANGEROUS: [&[&str]; 17] = [
    &["volume", "delete", "tank/b"],
    &["volume", "rollback", "tank/a@s"],
    &["volume", "resize", "tank/b", "16MiB", "--shrink"],
    &["volume", "unexport", "tank/a"],
    &["snapshot", "delete", "tank/a@s"],
    &["pool", "delete", "tank"],
    &["pool", "export", "tank"],
    &["pool", "upgrade", "tank"],
    &["pool", "create", "other", "d2", "--force"],
    &["pool", "add-device", "tank", "d2", "--force"],
    &["pool", "remove-device", "tank", "d1"],
    &["device", "detach", "d3"],
    &["subsystem", "delete", "nqn.2026-01.org.example:shared"],
    &["namespace", "remove", "nqn.2026-01.org.example:shared", "1"],
    &["host", "remove", "tank/a", crate::appliance::HOST],
    &["listener", "delete", "127.0.0.1:4420"],
    &["token", "revoke", "admin"],
];

#[test]
fn without_a_terminal_nothing_dangerous_is_done_unless_told() {
    let rig = Rig::furnished();
    let before = rig.appliance.declaration().unwrap();
    for args in DANGEROUS {
        let sentence = rig.bad(2, args);
        assert!(sentence.contains("give --yes"), "{args:?}: {sentence}");
    }
    assert_eq!(rig.appliance.declaration().unwrap(), before);
    assert!(rig.good(&["audit"]).starts_with("Nobody has changed anything."));
}

#[test]
fn on_a_terminal_a_person_is_asked() {
    let rig = Rig::furnished();
    for no in ["n\n", "\n", "nonsense\n"] {
        let (code, shown) = rig.on_terminal(&["volume", "delete", "tank/b"], no);
        assert_eq!(code, 1, "{shown}");
        assert!(shown.contains("all its data go away. Go on? [y/N]"), "{shown}");
        assert!(shown.contains("Nothing was done."), "{shown}");
    }
    assert!(rig.appliance.volume(&volume("b")).is_ok());
    let (code, shown) = rig.on_terminal(&["volume", "delete", "tank/b"], "yes\n");
    assert_eq!(code, 0, "{shown}");
    assert!(rig.appliance.volume(&volume("b")).is_err());
}

#[test]
fn a_volume_shrinks_only_when_told_twice() {
    let rig = Rig::furnished();
    let refused = rig.bad(1, &["volume", "resize", "tank/b", "16MiB"]);
    assert!(refused.contains("--shrink"), "{refused}");
    rig.bad(2, &["volume", "resize", "tank/b", "16MiB", "--shrink"]);
    assert_eq!(rig.appliance.volume(&volume("b")).unwrap().bytes, 32 << 20);
    rig.good(&["volume", "resize", "tank/b", "16MiB", "--shrink", "--yes"]);
    assert_eq!(rig.appliance.volume(&volume("b")).unwrap().bytes, 16 << 20);
    // What grows is not asked about.
    rig.good(&["volume", "resize", "tank/b", "64MiB"]);
}

#[test]
fn what_is_in_use_wants_force() {
    let rig = Rig::furnished();
    let refused = rig.bad(1, &["pool", "export", "tank", "--yes"]);
    assert!(refused.contains("--force"), "{refused}");
    rig.good(&["pool", "export", "tank", "--yes", "--force"]);
    assert!(rig.good(&["pool", "importable"]).contains("tank"));
    rig.good(&["pool", "import", "tank"]);
    assert!(rig.appliance.volume(&volume("a")).is_ok());
}

#[test]
fn limits_change_alone() {
    let rig = Rig::furnished();
    rig.good(&["volume", "limits", "a", "--iops", "1000", "--bandwidth", "10MB"]);
    let said = rig.good(&["volume", "limits", "a", "--bandwidth", "none", "--burst", "5"]);
    assert_eq!(said, "Limits of volume tank/a: 1000 IOPS, bursts of 5 s.\n");
    assert_eq!(rig.good(&["volume", "limits", "a"]), said);
    let limits = rig.appliance.volume(&volume("a")).unwrap().limits;
    assert_eq!((limits.iops, limits.bytes_per_second), (Some(1000), None));
}
