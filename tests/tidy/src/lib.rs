//! Rules of the tree, checked: who may use whom, where cargo builds, how large a file may get.
#![forbid(unsafe_code)]

pub mod functions;
pub mod modules;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the tree is there")
}

/// Every crate of the workspace with its folder and the workspace crates it uses, tests included.
pub fn crates() -> BTreeMap<String, (String, Vec<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let base = root();
    let packages = metadata["packages"].as_array().expect("a list of packages");
    packages.iter().map(|package| describe(package, &base)).collect()
}

fn describe(package: &Value, base: &Path) -> (String, (String, Vec<String>)) {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let manifest = PathBuf::from(text(&package["manifest_path"]));
    let folder = manifest.parent().expect("a folder").strip_prefix(base).expect("inside");
    let uses = package["dependencies"].as_array().expect("a list of dependencies");
    let uses = uses.iter().filter(|d| !d["path"].is_null()).map(|d| text(&d["name"])).collect();
    (text(&package["name"]), (folder.display().to_string(), uses))
}

/// Files that git tracks, with one of the endings given.
pub fn tracked(endings: &[&str]) -> Vec<PathBuf> {
    let output = Command::new("git").arg("ls-files").current_dir(root()).output().expect("git");
    let list = String::from_utf8(output.stdout).expect("file names are text");
    list.lines()
        .map(PathBuf::from)
        .filter(|p| endings.iter().any(|e| p.ends_with_text(e)))
        .collect()
}

trait EndsWithText {
    fn ends_with_text(&self, ending: &str) -> bool;
}

impl EndsWithText for PathBuf {
    fn ends_with_text(&self, ending: &str) -> bool {
        self.to_string_lossy().ends_with(ending)
    }
}

/// Every package that is built into a crate; what only its tests use is left out.
pub fn linked(name: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", name, "--edges=normal,build", "--prefix=none", "--format={p}"])
        .args(["--locked", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("names of packages are text");
    tree.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// What is wrong with the edge from one folder's crate to another's, if anything: arrows point one
/// way, `target -> {nvmf, replication, object, webui} -> bdev`; tests and bench may use anything.
pub fn forbidden(from: &str, to: &str) -> Option<&'static str> {
    let top = |folder: &str| folder.split('/').next().unwrap_or("").to_owned();
    match (top(from).as_str(), top(to).as_str()) {
        ("tests" | "bench", _) => None,
        (_, "tests" | "bench") => Some("the product does not use its tests"),
        _ if from == "bdev/spec" => Some("nvme-spec depends on no project crate"),
        _ if from == "webui/model" && to != "bdev/spec" => Some("webui-model sees nvme-spec"),
        _ if from == "bdev/redb" => Some("bdev-redb depends on no project crate"),
        _ if from == "webui/client" && to != "webui/model" => Some("webui-client sees webui-model"),
        _ if from == "webui/audit" && to != "webui/model" => Some("webui-audit sees webui-model"),
        _ if from == "webui/history" && to != "webui/model" => {
            Some("webui-history sees webui-model")
        }
        // Its tests stand on the rules of the real appliance; nothing of it is built in (`NEVER`).
        ("webui", _) if from == "webui/api" && to == "target/wanted" => None,
        _ if from == "target/wanted" && to != "webui/model" => Some("wanted sees webui-model"),
        _ if from == "replication/core" => Some("replica depends on no project crate"),
        ("bdev", "bdev") | ("target", _) => None,
        ("bdev", _) => Some("bdev sees only bdev"),
        ("nvmf", "bdev") if ["bdev/spec", "bdev/core"].contains(&to) => None,
        ("nvmf", "bdev") => Some("nvmf never sees a bdev implementation"),
        ("nvmf", "nvmf") => forbidden_in_nvmf(from, to),
        ("replication" | "object" | "webui", "bdev") => None,
        ("replication", "nvmf") if to == "nvmf/host" => None,
        (a, b) if a == b => None,
        _ => Some(
            "arrows point one way: target, then nvmf, replication, object and webui, then bdev",
        ),
    }
}

/// As [`forbidden`], within `nvmf`: the target and the initiator share the wire and the hardware,
/// and neither knows the other.
fn forbidden_in_nvmf(from: &str, to: &str) -> Option<&'static str> {
    let below: &[&str] = match from {
        "nvmf/wire" => &[],
        "nvmf/verbs" | "nvmf/core" => &["nvmf/wire"],
        "nvmf/tcp" => &["nvmf/core", "nvmf/wire"],
        "nvmf/rdma" => &["nvmf/core", "nvmf/verbs", "nvmf/wire"],
        "nvmf/host" => &["nvmf/verbs", "nvmf/wire"],
        _ => return Some("say in this table what the crate may use"),
    };
    (!below.contains(&to)).then_some("the initiator and the target share wire and verbs only")
}
