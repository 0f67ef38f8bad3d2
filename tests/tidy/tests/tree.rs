//! The rules, each over the whole tree.

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
        ("webui/model", "webui/api"),
        ("nvmf/host", "nvmf/core"),
        ("nvmf/host", "nvmf/rdma"),
        ("nvmf/verbs", "nvmf/core"),
        ("nvmf/core", "nvmf/tcp"),
    ] {
        assert!(forbidden(from, to).is_some(), "{from} -> {to}");
    }
    for (from, to) in [
        ("target/control", "bdev/mem"),
        ("nvmf/tcp", "nvmf/core"),
        ("nvmf/rdma", "nvmf/verbs"),
        ("nvmf/host", "nvmf/verbs"),
    ] {
        assert!(forbidden(from, to).is_none(), "{from} -> {to}");
    }
}

/// What is never built into a crate, by way of others neither.
const NEVER: [(&str, &[&str]); 2] = [
    // The nouns are for whoever speaks to the server, too.
    ("webui-model", &["axum", "hyper", "tokio", "rustls", "ring"]),
    // The appliance behind the API needs no server of it.
    ("control", &["webui-api", "axum", "hyper", "tokio"]),
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

/// The folders in which unsafe code may stand; every other crate forbids it.
const UNSAFE: [&str; 14] = [
    "bdev/core",
    "bdev/mem",
    "bdev/nvme",
    // The memory that journals are in.
    "bdev/pool/src/journal/shared.rs",
    "bdev/uring",
    "bdev/vfio",
    "nvmf/core",
    "nvmf/tcp",
    "nvmf/verbs/src/hardware",
    "nvmf/host",
    "target/reactor",
    "target/control",
    // Sleeps on the descriptor of an interrupt.
    "target/drives/examples/drive.rs",
    "tests",
];

#[test]
fn unsafe_code_has_an_address() {
    for path in tracked(&[".rs"]) {
        let place = path.to_string_lossy().into_owned();
        if UNSAFE.iter().any(|folder| place.starts_with(folder)) || place.starts_with("bench") {
            continue;
        }
        let text = std::fs::read_to_string(root().join(&path)).unwrap_or_default();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            assert!(!line.contains("unsafe {"), "{place}: unsafe code outside its folders");
        }
    }
}
