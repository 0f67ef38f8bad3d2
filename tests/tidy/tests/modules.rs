//! Who names whom within a crate: the rooms of the target, and circles of modules.

use std::collections::BTreeMap;
use tidy::modules::Modules;
use tidy::{crates, root};

fn crate_of(files: &[(&str, &str)]) -> Modules {
    let owned = |(module, text): &(&str, &str)| (module.to_string(), text.to_string());
    Modules::of(&files.iter().map(owned).collect::<Vec<_>>())
}

/// Each room of the target, and what it may name besides itself.
const ROOMS: [(&str, &[&str]); 3] =
    [("machine", &["export", "limits"]), ("export", &["limits"]), ("limits", &[])];

/// The arrows that the rooms do not allow.
fn crooked(modules: &Modules) -> Vec<String> {
    let room = |module: &str| module.split("::").next().unwrap_or_default().to_owned();
    let allowed = |from: &str, to: &str| {
        let (from, to) = (room(from), room(to));
        let rooms = ROOMS.iter().find(|(name, _)| *name == from);
        // The root is the front door.
        from == to
            || from.is_empty()
            || rooms.is_some_and(|(_, below)| below.contains(&to.as_str()))
    };
    let wrong = modules.arrows().filter(|(from, to)| !allowed(from, to));
    wrong.map(|(from, to)| format!("{from} -> {to}")).collect()
}

#[test]
fn the_export_knows_no_machine() {
    let modules = Modules::read(&root().join("nvmf/core/src"));
    let (mut down, mut rooms) = (0, BTreeMap::new());
    for (from, to) in modules.arrows() {
        *rooms.entry(from.split("::").next().unwrap().to_owned()).or_insert(0) += 1;
        down += usize::from(from.starts_with("machine::") && to.starts_with("export::"));
    }
    assert!(down > 20 && rooms.len() >= 2, "the arrows are seen: {rooms:?}, {down} down");
    let crooked = crooked(&modules);
    assert!(crooked.is_empty(), "{crooked:#?}");
}

#[test]
fn an_arrow_from_export_to_machine_is_seen_in_every_form() {
    let front = ("", "pub mod limits; mod export; mod machine; pub use machine::{Target as T};");
    let machine = ("machine", "mod target; pub use target::Target;");
    let target = ("machine::target", "use crate::export::registry::Registry; pub struct Target;");
    let below = [("limits", ""), ("export", "")];
    let registry = |text| {
        crate_of(&[&[front, machine, target, ("export::registry", text)], &below[..]].concat())
    };
    for planted in [
        "use crate::machine::target::Target;",
        "use crate::{limits, machine::target::{self, Target}};",
        "use super::super::machine::target::*;",
        "fn f() -> crate::machine::target::Target { todo() }",
        "fn f() { assert!(crate::machine::target::N > 1); }",
        "mod tests { use super::super::super::machine::Target; }",
        // By way of the front door.
        "use crate::T;",
        "pub(crate) use crate::machine::Target as Other; struct A(Other);",
    ] {
        assert_eq!(
            crooked(&registry(planted)),
            ["export::registry -> machine::target"],
            "{planted}"
        );
    }
    for fine in [
        "use crate::limits::MOST; use super::registry::Registry;",
        "// use crate::machine::target::Target;",
        "/// See [`crate::machine::target::Target`].\nconst A: &str = \"crate::machine::Target\";",
        "use other::machine::Target; fn f(x: machine) -> u8 { other::crate_machine::f() }",
    ] {
        assert!(crooked(&registry(fine)).is_empty(), "{fine}");
    }
    let all_of = registry("use crate::machine;");
    assert_eq!(crooked(&all_of), ["export::registry -> machine"]);
}

#[test]
fn a_circle_is_counted_once_and_a_front_door_is_none() {
    let line = [("", "mod a; pub use a::A; mod b;"), ("a", "use crate::b::B;"), ("b", "")];
    assert_eq!(crate_of(&line).circles().len(), 0);
    // The root passes A on; who asks it for A asks `a`.
    let by_door =
        [("", "mod a; pub use a::A; mod b;"), ("a", "use crate::b::B;"), ("b", "use crate::A;")];
    let modules = crate_of(&by_door);
    let circles = modules.circles();
    assert_eq!(circles.iter().flatten().copied().collect::<Vec<_>>(), ["a", "b"]);
    // A child that needs its parent, which uses what it passes on.
    let family = [("", ""), ("a", "mod b; pub use b::B; struct A(B);"), ("a::b", "use super::A;")];
    assert_eq!(crate_of(&family).circles().len(), 1);
    let two = [
        ("", ""),
        ("a", "use crate::b::B;"),
        ("b", "use crate::c::C;"),
        ("c", "use crate::a::A;"),
        ("d", "fn f() { e::g() }"),
        ("d::e", "fn g() { super::f() }"),
        ("f", "use crate::a::A;"),
    ];
    let modules = crate_of(&two);
    let sizes: Vec<usize> = modules.circles().iter().map(|circle| circle.len()).collect();
    assert_eq!(sizes, [3, 2]);
}

/// Circles of modules in each crate, where there are any. The numbers only go down.
const CIRCLES: [(&str, usize); 13] = [
    ("bdev", 2),
    ("bdev-nvme", 2),
    ("bdev-pool", 4),
    ("bdev-uring", 1),
    ("bench", 1),
    ("node", 3),
    ("nvmf", 2),
    ("nvmf-host", 1),
    ("nvmf-tcp", 1),
    ("nvmf-wire", 1),
    ("reactor", 1),
    ("webui-api", 2),
    ("webui-model", 1),
];

#[test]
fn circles_of_modules_get_fewer() {
    let mut wrong = Vec::new();
    for (name, (folder, _)) in crates() {
        let allowed = CIRCLES.iter().find(|(of, _)| *of == name).map_or(0, |(_, number)| *number);
        let modules = Modules::read(&root().join(folder).join("src"));
        let circles = modules.circles();
        if circles.len() != allowed {
            wrong
                .push(format!("{name}: {} circles, {allowed} allowed: {circles:?}", circles.len()));
        }
    }
    assert!(wrong.is_empty(), "straighten what is more, lower the table for less: {wrong:#?}");
    let crates = crates();
    let unknown = CIRCLES.iter().find(|(name, _)| !crates.contains_key(*name));
    assert!(unknown.is_none(), "no such crate: {unknown:?}");
}
