//! What is built in from elsewhere: under which licences, and from where.

use serde_json::Value;
use spdx::{Expression, LicenseReq, ParseMode};
use std::collections::BTreeSet;
use std::process::Command;
use tidy::root;

/// What may be built into a program under Apache-2.0 and given on.
const LICENCES: [&str; 11] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// What is wrong with a licence, if anything. Old packages write `MIT/Apache-2.0`.
fn objection(licence: Option<&str>) -> Option<String> {
    let Some(text) = licence else { return Some("it names no licence".into()) };
    let expression = match Expression::parse_mode(text, ParseMode::LAX) {
        Ok(expression) => expression,
        Err(error) => return Some(format!("\"{text}\" is no licence: {error}")),
    };
    let may = |req: &LicenseReq| {
        req.license.id().is_some_and(|id| LICENCES.contains(&id.name)) && req.addition.is_none()
    };
    (!expression.evaluate(may)).then(|| format!("\"{text}\" is not among the licences"))
}

/// The packages of this platform, as the lock file has them.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked", "--offline"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    metadata["packages"].as_array().expect("a list of packages").clone()
}

#[test]
fn licences_allow_what_is_done_with_them() {
    let packages = packages();
    assert!(packages.len() > 100, "cargo metadata names the packages");
    let wrong: Vec<String> = packages
        .iter()
        .filter_map(|package| Some((package, objection(package["license"].as_str())?)))
        .map(|(package, why)| format!("{} {}: {why}", package["name"], package["version"]))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn licences_that_ask_for_more_are_refused() {
    for licence in ["MIT", "MIT/Apache-2.0", "GPL-3.0-only OR MIT", "(MIT OR GPL-2.0) AND ISC"] {
        assert_eq!(objection(Some(licence)), None);
    }
    for licence in ["GPL-3.0-only", "MIT AND GPL-2.0-only", "AGPL-3.0", "whatever"] {
        assert!(objection(Some(licence)).is_some(), "{licence}");
    }
    assert!(objection(None).is_some());
}

#[test]
fn everything_comes_from_the_registry_or_from_here() {
    let sources: BTreeSet<String> = packages()
        .iter()
        .filter_map(|package| package["source"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(sources.len(), 1, "more than one source: {sources:?}");
    assert!(sources.iter().all(|source| source.starts_with("registry+")), "{sources:?}");
}

/// The one value of `name = "value"` in a file.
fn value(path: &str, name: &str) -> String {
    let text = std::fs::read_to_string(root().join(path)).expect(path);
    let mut values = text.lines().filter_map(|line| {
        line.strip_prefix(name)?.trim_start().strip_prefix('=')?.trim().strip_prefix('"')
    });
    let value = values.next().unwrap_or_else(|| panic!("no {name} in {path}"));
    value.trim_end_matches('"').to_owned()
}

#[test]
fn one_compiler_is_asked_for_and_is_used() {
    let pinned = value("rust-toolchain.toml", "channel");
    assert_eq!(value("Cargo.toml", "rust-version"), pinned);
    let output =
        Command::new("rustc").arg("--version").current_dir(root()).output().expect("rustc");
    let version = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(version.split(' ').nth(1), Some(&*pinned), "{version}");
}
