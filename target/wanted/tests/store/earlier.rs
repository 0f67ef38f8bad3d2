//! The state file of earlier versions.

use crate::disk::{Disk, Image};
use crate::program::{Items, change, load, subsystem};
use std::collections::BTreeSet;
use wanted::{DeviceSpec, FileStore, Item, Key, Source, Store};

/// What the program of the day before this format wrote, for devices, pools, exports of volumes, a
/// snapshot and a device, listeners, and a pool that was exported.
const GOLDEN: &[u8] = include_bytes!("../golden/state-1.json");

fn image() -> Image {
    [("state.json".to_owned(), GOLDEN.to_vec())].into()
}

fn opened(disk: &Disk) -> (Items, Vec<String>) {
    let mut store = FileStore::over(disk.clone());
    let (_, items) = load(&mut store).unwrap();
    (items, store.take_notes())
}

#[test]
fn what_the_program_before_wrote_is_converted() {
    let disk = Disk::with(image());
    let (items, notes) = opened(&disk);
    assert!(notes.is_empty(), "{notes:?}");
    let count = |is: fn(&Item) -> bool| items.values().filter(|item| is(item)).count();
    assert_eq!(count(|item| matches!(item, Item::Device(_))), 3);
    assert_eq!(count(|item| matches!(item, Item::Pool(_))), 1);
    assert_eq!(count(|item| matches!(item, Item::Subsystem(_))), 3);
    assert_eq!(count(|item| matches!(item, Item::Namespace(_))), 4);
    assert_eq!(count(|item| matches!(item, Item::Listener(_))), 2);
    assert_eq!(count(|item| matches!(item, Item::Gone(_))), 1);
    assert_eq!(items.len(), 14);
    let Some(Item::Device(memory)) = items.get(&Key::Device("mem".into())) else {
        panic!("{items:?}")
    };
    assert_eq!(memory.spec, DeviceSpec::Memory { bytes: 2 << 20, block_bytes: 4096 });
    let Some(Item::Pool(tank)) = items.get(&Key::Pool("tank".into())) else { panic!("{items:?}") };
    assert_eq!((tank.devices.len(), tank.identities.len()), (1, 1));
    let own = "nqn.2026-01.io.forebay:tank:v";
    let Some(Item::Subsystem(own)) = items.get(&Key::Subsystem(own.into())) else {
        panic!("{items:?}")
    };
    assert!(own.own && own.hosts.len() == 2, "{own:?}");
    let shared = Key::Namespace("nqn.2026-01.org.example:shared".into(), 2);
    let Some(Item::Namespace(shown)) = items.get(&shared) else { panic!("{items:?}") };
    assert_eq!(shown.source, Source::Device { name: "mem".into() });
    let is_gone = |item: &Item| match item {
        Item::Gone(gone) => (gone.subsystems.len(), gone.namespaces.len()) == (1, 1),
        _ => false,
    };
    assert!(items.values().any(is_gone));
    assert_eq!(disk.state().files["state.json"], GOLDEN, "it stays as it is");
}

#[test]
fn what_is_changed_later_is_in_the_log_alone() {
    let disk = Disk::with(image());
    let mut store = FileStore::over(disk.clone());
    let (revision, mut items) = load(&mut store).unwrap();
    let new = subsystem(7, 2);
    store.compare_and_swap(revision, &[change(None, Some(new.clone()))]).unwrap();
    items.insert(new.key(), new);
    assert_eq!(opened(&disk).0, items);
    assert_eq!(disk.state().files["state.json"], GOLDEN);
    // Nobody goes back any more.
    store.forget_old().unwrap();
    assert!(!disk.state().files.contains_key("state.json"));
    assert_eq!(opened(&disk), (items, Vec::new()));
}

#[test]
fn an_older_program_that_ran_since_has_the_last_word() {
    let disk = Disk::with(image());
    let mut store = FileStore::over(disk.clone());
    let (revision, items) = load(&mut store).unwrap();
    store.compare_and_swap(revision, &[change(None, Some(subsystem(7, 2)))]).unwrap();
    let log = disk.state().files["wanted.log"].clone();
    let text = String::from_utf8(GOLDEN.to_vec()).unwrap().replace("4431", "4439");
    disk.state().files.insert("state.json".into(), text.clone().into_bytes());
    let (now, notes) = opened(&disk);
    assert!(notes[0].contains("older program") && notes[0].contains("wanted.log.before"));
    assert_eq!(disk.state().files["wanted.log.before"], log);
    let differing = |one: &Items, other: &Items| {
        let mut left = one.clone();
        left.retain(|key, item| other.get(key) != Some(item));
        left.into_keys().collect::<BTreeSet<Key>>()
    };
    assert_eq!(differing(&now, &items).len(), 1, "the listener, and nothing that was added since");
    assert_eq!(differing(&items, &now).len(), 1);
    assert!(opened(&disk).1.is_empty(), "once");
    // The new log goes on from there.
    let mut store = FileStore::over(disk.clone());
    let (next, _) = load(&mut store).unwrap();
    assert!(next > revision);
}

#[test]
fn what_cannot_be_read_is_said() {
    for length in 0..GOLDEN.len() - 1 {
        let image = [("state.json".to_owned(), GOLDEN[..length].to_vec())].into();
        let disk = Disk::with(image);
        let why = FileStore::over(disk.clone()).load().unwrap_err().to_string();
        assert!(why.contains("state.json is damaged") && why.contains("Put a copy"), "{why}");
        assert!(!disk.state().files.contains_key("wanted.log"), "nothing is made of it");
    }
    for (text, says) in [
        (r#"{"version": 2, "devices": "otherwise"}"#, "is of version 2"),
        (r#"{"version": 1, "colour": 3}"#, "colour"),
    ] {
        let image = [("state.json".to_owned(), text.as_bytes().to_vec())].into();
        let why = FileStore::over(Disk::with(image)).load().unwrap_err().to_string();
        assert!(why.contains(says), "{why}");
    }
}

#[test]
fn drives_are_converted() {
    let text = r#"{"version": 1, "devices": [{"name": "nvme", "place": {"drive": {
        "place": "pci:0000:03:00.0", "serial": "S1", "unsafe_no_iommu": true}}}]}"#;
    let image = [("state.json".to_owned(), text.as_bytes().to_vec())].into();
    let (items, _) = opened(&Disk::with(image));
    let Some(Item::Device(device)) = items.into_values().next() else { panic!("a device") };
    let DeviceSpec::Drive(drive) = device.spec else { panic!("a drive") };
    assert_eq!((drive.place.as_str(), drive.serial.as_deref()), ("pci:0000:03:00.0", Some("S1")));
    assert!(drive.unsafe_no_iommu && !drive.force);
}
