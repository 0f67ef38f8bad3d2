//! HACKING.md says what is true of the tests and scripts.

use std::collections::BTreeSet;
use tidy::{root, tracked};

fn hacking() -> String {
    std::fs::read_to_string(root().join("HACKING.md")).expect("HACKING.md is there")
}

/// Names of variables of the environment in a text of Rust: what `var`, `var_os` and the tests' own
/// `env` are asked for.
fn asked_for(text: &str) -> BTreeSet<String> {
    let name = |rest: &str| {
        let name: String =
            rest.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect();
        (rest[name.len()..].starts_with('"') && name.len() > 1).then_some(name)
    };
    // What is set for a child, `.env("NAME", value)`, is not read.
    let text = text.replace(".env(\"", "");
    ["var(\"", "var_os(\"", "env(\"", "is(\""]
        .iter()
        .flat_map(|call| text.split(call).skip(1).filter_map(name))
        .collect()
}

/// What cargo and the shell give; none is ours to explain.
const OTHERS: [&str; 4] = ["CARGO", "HOME", "PATH", "TERM"];

#[test]
fn variables_that_tests_read_are_explained() {
    let page = hacking();
    let mut read = BTreeSet::new();
    for path in tracked(&[".rs"]) {
        let is_test = path.components().any(|part| part.as_os_str() == "tests");
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        if is_test && !path.ends_with("tests/hacking.rs") {
            read.extend(asked_for(&text));
        }
    }
    assert!(read.len() > 8, "tests read variables: {read:?}");
    let missing: Vec<&String> = read
        .iter()
        .filter(|name| !OTHERS.contains(&name.as_str()) && !page.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "HACKING.md does not explain {missing:?}");
}

#[test]
fn variables_are_found() {
    let text = r#"env::var("ONE"); std::env::var_os("TWO_MORE"); env("THREE", 4); var(NAME) env("no")
        child.env("SET", 1)"#;
    let found: Vec<String> = asked_for(text).into_iter().collect();
    assert_eq!(found, ["ONE", "THREE", "TWO_MORE"]);
}

#[test]
fn links_lead_to_files() {
    for page in tracked(&[".md"]) {
        let text = std::fs::read_to_string(root().join(&page)).expect("a page");
        let folder = root().join(page.parent().expect("a folder"));
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or("");
            let elsewhere = path.is_empty() || path.contains("://");
            assert!(elsewhere || folder.join(path).exists(), "{}: no {link}", page.display());
        }
    }
}
