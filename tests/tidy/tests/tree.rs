//! The rules, each over the whole tree.

use std::collections::BTreeSet;
use tidy::modules::has_unsafe;
use tidy::{crates, forbidden, linked, root, tracked};

#[test]
fn arrows_point_one_way() {
    let crates = crates();
    assert!(crates.len() > 10, "cargo metadata names the crates: {crates:?}");
    for (name, (folder, uses)) in &crates {
        for used in uses {
            let to = &crates[used].0;
            if let Some(why) = forbidden(folder, to) {
                panic!("{name} ({folder}) uses {used} ({to}): {why}");
            }
        }
    }
}

#[test]
fn the_rule_refuses_what_it_should() {
    for (from, to) in [
        ("bdev/mem", "nvmf/core"),
        ("nvmf/core", "bdev/mem"),
        ("nvmf/tcp", "target/reactor"),
        ("bdev/spec", "bdev/core"),
        ("bdev/redb", "bdev/pool"),
        ("target/daemon", "tests/sim"),
        ("webui/client", "webui/api"),
        ("webui/model", "webui/api"),
        ("webui/audit", "webui/api"),
        ("webui/history", "webui/api"),
        ("nvmf/host", "nvmf/core"),
        ("nvmf/host", "nvmf/rdma"),
        ("nvmf/verbs", "nvmf/core"),
        ("nvmf/core", "nvmf/tcp"),
        ("target/wanted", "bdev/core"),
        ("webui/model", "target/wanted"),
    ] {
        assert!(forbidden(from, to).is_some(), "{from} -> {to}");
    }
    for (from, to) in [
        ("target/node", "bdev/mem"),
        ("nvmf/tcp", "nvmf/core"),
        ("nvmf/rdma", "nvmf/verbs"),
        ("nvmf/host", "nvmf/verbs"),
    ] {
        assert!(forbidden(from, to).is_none(), "{from} -> {to}");
    }
}

/// What is never built into a crate, by way of others neither.
const NEVER: [(&str, &[&str]); 8] = [
    // The nouns are for whoever speaks to the server, too.
    ("webui-model", &["axum", "hyper", "tokio", "rustls", "ring"]),
    // Who verifies a log does not start a server.
    ("webui-audit", &["axum", "hyper", "tokio", "rustls"]),
    // What is kept of the past is kept by whoever looks, server or none.
    ("webui-history", &["axum", "hyper", "tokio", "rustls", "ring"]),
    // The appliance behind the API needs no server of it.
    ("node", &["webui-api", "axum", "hyper", "tokio"]),
    // The initiator is no target.
    ("nvmf-host", &["nvmf", "nvmf-rdma", "nvmf-tcp"]),
    // The rules of what is wanted do no I/O; the server has them in its tests only.
    ("wanted", &["bdev", "nvmf", "node", "tokio", "webui-api"]),
    ("webui-api", &["wanted", "node"]),
    // The command line asks: it is no part of what serves.
    ("cli", &["node", "nvmf", "nvmf-tcp", "nvmf-rdma", "bdev-pool", "webui-api", "axum", "tokio"]),
];

#[test]
fn crates_are_built_without_what_they_must_not_have() {
    for (name, never) in NEVER {
        let linked = linked(name);
        assert!(linked.contains(name), "{linked:?}");
        for other in never {
            assert!(!linked.contains(*other), "{other} is built into {name}");
        }
    }
    assert!(linked("webui-api").contains("tokio"), "cargo tree shows what is there");
}

#[test]
fn cargo_builds_elsewhere_than_in_target() {
    for trace in ["target/debug", "target/release", "target/CACHEDIR.TAG"] {
        assert!(!root().join(trace).exists(), "{trace}: cargo built into a source folder");
    }
    let config = std::fs::read_to_string(root().join(".cargo/config.toml")).unwrap();
    assert!(config.contains("target-dir = \"build\""));
    let ignored = std::fs::read_to_string(root().join(".gitignore")).unwrap();
    assert!(ignored.lines().any(|l| l == "/build/"));
    assert!(!ignored.lines().any(|l| l.trim_matches('/') == "target"), "target/ is source");
}

#[test]
fn files_have_one_subject() {
    let long: Vec<String> = tracked(&[".rs"])
        .iter()
        .filter_map(|path| {
            let lines = std::fs::read_to_string(root().join(path)).ok()?.lines().count();
            (lines > 700).then(|| format!("{} has {lines} lines", path.display()))
        })
        .collect();
    assert!(long.is_empty(), "split these: {long:#?}");
}

#[test]
fn names_say_what_a_thing_is() {
    let vague = ["common", "util", "utils", "helper", "helpers", "manager", "misc"];
    for path in tracked(&[".rs", "Cargo.toml"]) {
        for part in path.iter().filter_map(|p| p.to_str()) {
            let name = part.trim_end_matches(".rs");
            assert!(!vague.contains(&name), "{}: name it by its subject", path.display());
        }
    }
}

/// Source files that have the name of another one of their crate, with the crate's folder.
fn shared_names() -> BTreeSet<(String, String)> {
    // Each binary of a crate is a crate of its own; it is called as what it tries.
    let plain = ["mod.rs", "tests.rs", "lib.rs", "main.rs"];
    let mut seen = BTreeSet::new();
    let mut shared = BTreeSet::new();
    for path in tracked(&[".rs"]) {
        let text = path.to_string_lossy().into_owned();
        let Some((folder, _)) =
            text.split_once("/src/").filter(|(_, file)| !file.starts_with("bin/"))
        else {
            continue;
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let place = (folder.to_owned(), name);
        if !plain.contains(&place.1.as_str()) && !seen.insert(place.clone()) {
            shared.insert(place);
        }
    }
    shared
}

#[test]
fn files_of_a_crate_have_names_of_their_own() {
    let shared = shared_names();
    assert!(shared.is_empty(), "two files have one name: {shared:?}");
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("#[ign", "ore")];
    for path in tracked(&[".rs", ".sh", ".py", ".md"]) {
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        for mark in marks {
            assert!(!text.contains(mark), "{} contains {mark}", path.display());
        }
    }
}

#[test]
fn members_are_listed_one_by_one() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(!manifest.contains("[package]"), "the workspace is virtual");
    assert!(!manifest.contains("*\","), "members are listed one by one");
    for (name, (folder, _)) in crates() {
        assert!(manifest.contains(&format!("\"{folder}\"")), "{name} is no listed member");
    }
}

/// The files in which unsafe code stands; every other one has none.
const UNSAFE: [&str; 32] = [
    "bdev/core/src/dma/region.rs",
    "bdev/core/src/dma/slice.rs",
    "bdev/core/src/sleep.rs",
    "bdev/core/src/spsc.rs",
    "bdev/nvme/src/memory.rs",
    "bdev/nvme/tests/soft/bus.rs",
    // The memory that journals are in.
    "bdev/pool/src/journal/shared.rs",
    "bdev/uring/src/ring.rs",
    "bdev/uring/src/sys.rs",
    "bdev/uring/tests/durable.rs",
    "bdev/uring/tests/rig/mod.rs",
    "bdev/vfio/src/ioctl.rs",
    "bdev/vfio/src/window.rs",
    "bench/src/region.rs",
    "bench/src/run/signals.rs",
    "nvmf/core/tests/counting/mod.rs",
    "nvmf/core/tests/target/ram.rs",
    "nvmf/host/src/qpair/inbox.rs",
    "nvmf/host/src/qpair/outbox.rs",
    "nvmf/tcp/src/arena.rs",
    "nvmf/tcp/src/conn/send.rs",
    "nvmf/tcp/src/sys.rs",
    "nvmf/verbs/src/hardware/accept.rs",
    "nvmf/verbs/src/hardware/cm.rs",
    "nvmf/verbs/src/hardware/completions.rs",
    "nvmf/verbs/src/hardware/devices.rs",
    "nvmf/verbs/src/hardware/dial.rs",
    "nvmf/verbs/src/hardware/port.rs",
    "nvmf/verbs/src/hardware/registered.rs",
    "nvmf/verbs/src/hardware/sys.rs",
    "nvmf/verbs/src/hardware/verbs_link.rs",
    "nvmf/verbs/src/hardware/verbs_nic.rs",
];

#[test]
fn unsafe_code_has_an_address() {
    let found: BTreeSet<String> = tracked(&[".rs"])
        .iter()
        .filter(|path| std::fs::read_to_string(root().join(path)).is_ok_and(|t| has_unsafe(&t)))
        .map(|path| path.display().to_string())
        .collect();
    let listed = BTreeSet::from(UNSAFE.map(str::to_owned));
    let unlisted: Vec<_> = found.difference(&listed).collect();
    assert!(unlisted.is_empty(), "unsafe code outside its files: {unlisted:#?}");
    let idle: Vec<_> = listed.difference(&found).collect();
    assert!(idle.is_empty(), "no unsafe code in these, or no such file: {idle:#?}");
}

#[test]
fn crates_refuse_unsafe_code() {
    for (name, (folder, _)) in crates() {
        let source = format!("{folder}/src/");
        let has_some = UNSAFE.iter().any(|file| file.starts_with(&source));
        let wanted = if has_some { "#![deny(" } else { "#![forbid(" };
        let front = ["lib.rs", "main.rs"].map(|file| root().join(&source).join(file));
        let front = front.iter().find(|file| file.exists()).expect("a front door");
        let text = std::fs::read_to_string(front).unwrap();
        let refuses = |line: &str| line.starts_with(wanted) && line.contains("unsafe_code");
        assert!(text.lines().any(refuses), "{name}: say {wanted}unsafe_code)]");
    }
}

#[test]
fn unsafe_code_is_seen_in_every_form_and_nowhere_else() {
    for text in [
        "fn f() { g(unsafe { h() }) }",
        "unsafe impl Send for A {}",
        "mod m { pub unsafe fn f() {} }",
        "macro_rules! m { () => { unsafe { f() } } }",
        "#[unsafe(no_mangle)] fn f() {}",
    ] {
        assert!(has_unsafe(text), "{text}");
    }
    for text in [
        "#![forbid(unsafe_code)]",
        "/* unsafe { } */ fn f() {}",
        "// unsafe\n/// unsafe\nfn f() { g(\"unsafe { }\", r#\"unsafe\"#, 'u') }",
        "fn f<'unsafe_one>(is_unsafe: bool) {}",
    ] {
        assert!(!has_unsafe(text), "{text}");
    }
}
