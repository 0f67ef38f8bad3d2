//! How long functions are, and over how many files the methods of a type are spread.

use std::collections::{BTreeMap, BTreeSet};
use tidy::functions::Functions;
use tidy::{crates, root, tracked};

/// Lines of a function, at most: it fits a screen.
const LINES: usize = 70;

#[test]
fn functions_fit_a_screen() {
    let (mut seen, mut long) = (0, Vec::new());
    for path in tracked(&[".rs"]) {
        let text = std::fs::read_to_string(root().join(&path)).expect("a source");
        for (name, lines) in Functions::of(&text).lengths {
            seen += 1;
            if lines > LINES {
                long.push(format!("{}: {name} has {lines} lines", path.display()));
            }
        }
    }
    assert!(seen > 3000, "functions are seen: {seen}");
    assert!(long.is_empty(), "split these: {long:#?}");
}

/// Files in which a type may have methods.
const FILES: usize = 4;

/// Types that have methods in more files, by crate. The numbers only go down.
const SPREAD: [(&str, &str, usize); 3] =
    [("bdev-pool", "Keeper", 9), ("bdev-pool", "VolumeChannel", 7), ("node", "View", 9)];

/// In how many files each type has methods of its own: by the file that makes the type, and its name.
/// A file that makes none of the name has those of the nearest file above that does.
fn spread(files: &[(String, String)]) -> BTreeMap<(String, String), BTreeSet<String>> {
    let read: Vec<(&str, Functions)> =
        files.iter().map(|(path, text)| (path.as_str(), Functions::of(text))).collect();
    let mut found: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for (path, functions) in &read {
        for name in &functions.methods_of {
            let makers = read.iter().filter(|(_, other)| other.types.contains(name));
            let near = |maker: &&(&str, Functions)| {
                let common = maker.0.split('/').zip(path.split('/')).take_while(|(a, b)| a == b);
                (maker.0 == *path, common.count())
            };
            let Some(maker) = makers.max_by_key(near) else { continue };
            let files = found.entry((maker.0.to_owned(), name.clone())).or_default();
            files.insert(path.to_string());
        }
    }
    found
}

#[test]
fn methods_of_a_type_stand_together() {
    let (mut wrong, mut types, mut met) = (Vec::new(), 0, 0);
    for (name, (folder, _)) in crates() {
        let source = format!("{folder}/src/");
        let files: Vec<(String, String)> = tracked(&[".rs"])
            .iter()
            .map(|path| path.display().to_string())
            .filter(|path| path.starts_with(&source))
            .map(|path| (path.clone(), std::fs::read_to_string(root().join(path)).unwrap()))
            .collect();
        for ((_, of), files) in spread(&files) {
            types += 1;
            met += usize::from(SPREAD.iter().any(|(c, t, _)| (*c, *t) == (&*name, &*of)));
            let listed = SPREAD.iter().find(|(c, t, _)| (*c, *t) == (&*name, &*of));
            let allowed = listed.map_or(FILES, |(_, _, number)| *number);
            if files.len() > allowed || listed.is_some() && files.len() < allowed {
                wrong.push(format!("(\"{name}\", \"{of}\", {}),", files.len()));
            }
        }
    }
    assert!(types > 300, "types are seen: {types}");
    let text = wrong.join("\n");
    assert!(wrong.is_empty(), "give a type parts of its own, or lower the table:\n{text}");
    assert!(met >= SPREAD.len(), "take those that are no more out of the table: {met} are there");
}

#[test]
fn a_function_is_measured_from_its_name_to_its_end() {
    let text = "trait T { fn none(&self); fn some(&self) -> u8 {\n 1\n} }\nfn f<A: Fn() -> u8>(\n  a: A,\n) {\n  fn g() {}\n}";
    let lengths = Functions::of(text).lengths;
    let expected = [("some", 3), ("f", 5), ("g", 1)].map(|(name, n)| (name.to_owned(), n));
    assert_eq!(lengths, expected);
}

#[test]
fn methods_are_those_of_a_type_and_not_of_a_trait() {
    for (text, of) in [
        ("impl A { fn f() {} }", Some("A")),
        ("impl<T: Fn() -> u8> super::b::A<T> where T: Copy { fn f() {} }", Some("A")),
        ("#[cfg(test)] impl A<'_> { const N: u8 = 1; pub(crate) fn f() {} }", Some("A")),
        ("impl Drop for A { fn drop(&mut self) {} }", None),
        ("impl<T> From<A<T>> for B { fn from(a: A<T>) -> B { B } }", None),
        ("impl A { const N: u8 = 1; }", None),
        ("fn f(a: impl Fn() -> u8) -> impl Iterator<Item = u8> { g() }", None),
    ] {
        let found = Functions::of(text).methods_of;
        assert_eq!(found, of.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{text}");
    }
}

#[test]
fn types_of_one_name_are_told_apart() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let files = [
        file("a/mod.rs", "struct S; impl S { fn f() {} }"),
        file("a/one.rs", "impl S { fn g() {} }"),
        file("b/mod.rs", "enum S { A } impl S { fn f() {} }"),
        file("b/two.rs", "impl S { fn g() {} }"),
        file("b/three.rs", "impl super::S { fn h() {} }"),
    ];
    let found = spread(&files);
    let counts: Vec<(&str, usize)> =
        found.iter().map(|((path, _), files)| (path.as_str(), files.len())).collect();
    assert_eq!(counts, [("a/mod.rs", 2), ("b/mod.rs", 3)]);
}
