//! Declarations: planned as a whole, and what is said when they stop.

use crate::appliance::{Appliance, at, name, new_volume, refused};
use webui_model::{Change, Control, Declaration, DeviceAttach, RefusalKind, VolumeCreate};

const MIB: u64 = 1 << 20;
const SHARED: &str = "nqn.2026-01.org.example:shared";

fn declared(text: &str) -> Declaration {
    Declaration::from_toml(text).unwrap()
}

#[test]
fn what_can_be_checked_before_is_refused_before_anything_is_changed() {
    let node = Appliance::new();
    let path = node.make_pool("tank", &["a.img"], 64 * MIB).devices[0].path.clone().unwrap();
    node.make_volume("tank", "v", 16 * MIB);
    let spare = node.make("b.img", 64 * MIB);
    let outside = std::env::current_exe().unwrap();
    let shared = format!("[[subsystem]]\nnqn = \"{SHARED}\"\nallow_any_host = true\n");
    let tank = format!("[[pool]]\nname = \"tank\"\ndevices = [\"{path}\"]\n");
    let volume = |rest: &str| format!("{tank}[[pool.volume]]\nname = \"v\"\n{rest}\n{shared}");
    let other =
        |devices: &str| format!("{shared}[[pool]]\nname = \"other\"\ndevices = [{devices}]\n");
    for (text, kind, says) in [
        (volume("bytes = \"8MiB\""), RefusalKind::Refused, "may_shrink"),
        (volume("bytes = \"16MiB\"\nthick = true"), RefusalKind::Exists, "never changes"),
        (
            volume("bytes = \"16MiB\"\nsubsystem = \"nqn.2026-01.org.example:no\""),
            RefusalKind::NotFound,
            "There is no subsystem",
        ),
        (other(&format!("\"{spare}\", \"{path}\"")), RefusalKind::InUse, "in use by pool"),
        (other("\"nothing\""), RefusalKind::NotFound, "There is no device nothing"),
        (other("\"/no/such/file\""), RefusalKind::Forbidden, "not to be attached"),
        (
            other(&format!("\"{}\"", outside.display())),
            RefusalKind::Forbidden,
            "not to be attached",
        ),
        (
            format!("{shared}[[listener]]\naddress = \"224.0.0.1:4420\"\n"),
            RefusalKind::Invalid,
            "multicast",
        ),
    ] {
        for dry_run in [true, false] {
            let why = refused(node.apply(declared(&text), dry_run), kind);
            assert!(why.contains(says) && !why.contains("done before"), "{text}: {why}");
        }
        assert!(node.subsystem(&SHARED.parse().unwrap()).is_err(), "{text}: it was begun");
        assert_eq!(node.devices().unwrap().len(), 1, "{text}: a device stays attached");
    }
}

#[test]
fn a_declaration_that_stops_says_what_was_done() {
    let node = Appliance::new();
    let device = node.make("a.img", 64 * MIB);
    let text = format!(
        "[[pool]]\nname = \"tank\"\ndevices = [\"{device}\"]\n\
         [[pool.volume]]\nname = \"v\"\nbytes = \"8MiB\"\n\
         [[pool.volume]]\nname = \"w\"\nbytes = \"1GiB\"\nthick = true\n"
    );
    // Whether there is space is the pool's to say.
    let why = refused(node.apply(declared(&text), false), RefusalKind::Full);
    let done =
        "This was done before: Pool tank is made of 1 devices. Volume tank/v of 8MiB is made.";
    assert!(why.ends_with(done), "{why}");
    assert!(node.volume(&at("tank", "v")).is_ok() && node.volume(&at("tank", "w")).is_err());
    // What is in a pool is known when it is imported.
    node.export_pool(&name("tank"), false).unwrap();
    let text = text.replace("8MiB", "4MiB");
    let why = refused(node.apply(declared(&text), false), RefusalKind::Refused);
    assert!(why.contains("may_shrink"), "{why}");
    assert!(why.ends_with("This was done before: Pool tank is imported."), "{why}");
}

#[test]
fn changes_are_shown_from_what_to_what() {
    let node = Appliance::new();
    let path = node.make_pool("tank", &["a.img"], 64 * MIB).devices[0].path.clone().unwrap();
    let closed = VolumeCreate { allow_any_host: false, ..new_volume("v", 8 * MIB) };
    node.create_volume(&name("tank"), closed).unwrap();
    let text = format!(
        "[[pool]]\nname = \"tank\"\ndevices = [\"{path}\"]\ndiscard = \"off\"\n\
         [[pool.volume]]\nname = \"v\"\nbytes = \"16MiB\"\nallow_any_host = true\n\
         limits = {{ iops = 100 }}\n"
    );
    let dry = node.apply(declared(&text), true).unwrap().changes;
    let values = |change: &Change| (change.from.clone().unwrap(), change.to.clone().unwrap());
    let shown: Vec<(String, String)> = dry.iter().map(values).collect();
    let expected = [
        ("auto", "off"),
        ("8MiB", "16MiB"),
        ("none", "100 commands a second"),
        ("exported to no host", "exported to any host"),
    ];
    let expected = expected.map(|(from, to)| (from.to_owned(), to.to_owned()));
    assert_eq!(shown, expected, "{dry:?}");
    assert!(dry[1].message.contains("from 8MiB to 16MiB"), "{dry:?}");
    assert_eq!(node.apply(declared(&text), false).unwrap().changes, dry);
    assert!(node.apply(declared(&text), false).unwrap().changes.is_empty());
}

/// A pool on a device that the declaration itself attaches, by a name of its own, is found before that.
#[test]
fn a_pool_on_a_device_that_is_declared_too_is_imported() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 64 * MIB);
    node.make_volume("tank", "v", 8 * MIB);
    node.export_pool(&name("tank"), false).unwrap();
    node.detach_device(&name("a.img")).unwrap();
    let path = node.file("a.img");
    let text = format!(
        "[[device]]\nname = \"disk\"\npath = \"{}\"\n[[pool]]\nname = \"tank\"\ndevices = [\"disk\"]\n",
        path.display()
    );
    let dry = node.apply(declared(&text), true).unwrap().changes;
    assert!(node.devices().unwrap().is_empty(), "it was looked at, and left as it was");
    let messages: Vec<&str> = dry.iter().map(|change| change.message.as_str()).collect();
    assert_eq!(messages, ["Device disk is attached.", "Pool tank is imported."]);
    assert_eq!(node.apply(declared(&text), false).unwrap().changes, dry);
    assert!(node.volume(&at("tank", "v")).is_ok());
    // What a declaration would make is not made by looking.
    let missing = node.file("new.img");
    let attach = DeviceAttach {
        path: Some(missing.to_str().unwrap().parse().unwrap()),
        name: Some(name("new")),
        bytes: Some(64 * MIB),
        ..DeviceAttach::default()
    };
    let more = Declaration {
        devices: vec![attach],
        ..declared("[[pool]]\nname = \"other\"\ndevices = [\"new\"]\n")
    };
    assert_eq!(node.apply(more.clone(), true).unwrap().changes.len(), 2);
    assert!(!missing.exists());
    assert_eq!(node.apply(more, false).unwrap().changes.len(), 2);
}
