//! A change costs what it changes, however much is there.

use crate::disk::Disk;
use crate::program::{change, load, namespace, subsystem};
use wanted::{FileStore, Store};

#[test]
fn the_ten_thousandth_export_writes_what_the_tenth_does() {
    const MANY: u64 = 10_000;
    let disk = Disk::default();
    disk.state().is_bare = true;
    let mut store = FileStore::over(disk.clone());
    let (mut revision, _) = load(&mut store).unwrap();
    let mut appended = Vec::new();
    for number in 0..MANY {
        let export =
            [change(None, Some(subsystem(number, 2))), change(None, Some(namespace(number)))];
        revision = store.compare_and_swap(revision, &export).unwrap();
        let mut state = disk.state();
        let bytes = state.tape.iter().map(|(_, operation)| match operation {
            crate::disk::Operation::Append(_, bytes) => bytes.len(),
            _ => 0,
        });
        appended.push(bytes.sum::<usize>());
        state.tape.clear();
    }
    let (tenth, last) = (appended[9], appended[MANY as usize - 1]);
    assert!(last * 2 <= tenth * 3, "{last} bytes after {tenth}");
    // With what is written anew now and then, a few times as much in all.
    let all: usize = appended.iter().sum();
    let written = disk.state().written;
    println!("{tenth} and {last} bytes of a change; {written} written for {all} of changes");
    assert!(written < 3 * all, "{written} bytes for {all}");
    assert_eq!(load(&mut FileStore::over(disk)).unwrap().1.len() as u64, 2 * MANY);
}

#[test]
fn a_log_does_not_grow_for_ever() {
    let disk = Disk::default();
    disk.state().is_bare = true;
    let mut store = FileStore::over(disk.clone());
    let (mut revision, _) = load(&mut store).unwrap();
    for _ in 0..2_000 {
        let (there, away) = (Some(subsystem(1, 5)), None);
        revision = store.compare_and_swap(revision, &[change(None, there.clone())]).unwrap();
        revision = store.compare_and_swap(revision, &[change(there, away)]).unwrap();
        disk.state().tape.clear();
    }
    let bytes = disk.state().files["wanted.log"].len();
    assert!(bytes < 80 << 10, "{bytes}");
}
