//! `forebay apply` and `forebay export`.

use crate::rig::{Rig, file};
use webui_model::{Control, Declaration};

#[test]
fn what_is_exported_makes_the_same_elsewhere() {
    let rig = Rig::empty();
    let folder = tempfile::tempdir().unwrap();
    let source = Rig::empty();
    let wanted = file(folder.path(), "wanted.toml", WANTED);
    let made = source.good(&["apply", "-f", &wanted]);
    assert!(made.contains("create") && made.contains("volume tank/a"), "{made}");
    let exported = source.good(&["export"]);
    let copy = file(folder.path(), "copy.toml", &exported);
    rig.good(&["apply", "--file", &copy]);
    assert_eq!(rig.good(&["export"]), exported);
    let declared = Declaration::from_toml(&exported).expect("TOML that can be applied");
    assert_eq!(rig.appliance.declaration().unwrap(), declared);
    assert_eq!(rig.good(&["apply", "-f", &copy]), "All is as declared.\n");
}

#[test]
fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let rig = Rig::empty();
    let folder = tempfile::tempdir().unwrap();
    let wanted = file(folder.path(), "wanted.toml", WANTED);
    let said = rig.good(&["apply", "-f", &wanted, "--dry-run"]);
    assert!(said.starts_with("would be done") && said.contains("tank/a"), "{said}");
    assert_eq!(rig.appliance.declaration().unwrap(), Declaration::default());
    let json = rig.good(&["apply", "-f", &wanted, "--dry-run", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["dry_run"], true);
}

#[test]
fn a_declaration_may_come_from_standard_input() {
    use std::io::Write;
    let rig = Rig::empty();
    let mut command = rig.command(&["apply", "-f", "-"]);
    let mut child = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(WANTED.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(rig.appliance.volumes(None).unwrap().len(), 1);
}

#[test]
fn what_is_wrong_with_a_file_is_said_before_anybody_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::empty();
    for (text, says) in [
        ("[[pool", "line 1"),
        ("[[pool]]\nname = \"a b\"\ndevices = [\"d\"]\n", "is no name"),
        ("[[volume]]\nname = \"a\"\n", "unknown field"),
        (
            "[[pool]]\nname = \"p\"\ndevices = [\"d\"]\n[[pool]]\nname = \"p\"\ndevices = []\n",
            "Two",
        ),
    ] {
        let path = file(folder.path(), "wrong.toml", text);
        let sentence = rig.bad(1, &["apply", "-f", &path]);
        assert!(sentence.contains("wrong.toml") && sentence.contains(says), "{sentence}");
    }
    let sentence = rig.bad(1, &["apply", "-f", "/no/such.toml"]);
    assert!(sentence.contains("/no/such.toml cannot be read"), "{sentence}");
}

const WANTED: &str = r#"
[[device]]
name = "d0"
bytes = 1073741824

[[pool]]
name = "tank"
devices = ["d0"]

[[pool.volume]]
name = "a"
bytes = "64MiB"
hosts = ["nqn.2014-08.org.nvmexpress:uuid:00000000-0000-4000-8000-000000000001"]

[pool.volume.limits]
iops = 5000

[[listener]]
address = "127.0.0.1:4420"
"#;
