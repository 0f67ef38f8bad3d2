//! The power fails, or an operation does, at each write of the store.

use crate::disk::{Disk, Failure, Image};
use crate::program::{Items, Random, carry_out, change, changes, load, subsystem};
use wanted::{FileStore, Store, StoreError};

/// What is kept in files, read by a store that is new; and that it can be changed from there.
fn kept(image: Image) -> Result<Items, String> {
    let disk = Disk::with(image);
    let mut store = FileStore::over(disk.clone());
    let (revision, items) = load(&mut store).map_err(|error| error.to_string())?;
    let step = [change(None, Some(subsystem(1000, 1)))];
    store.compare_and_swap(revision, &step).map_err(|error| error.to_string())?;
    let mut again = FileStore::over(disk);
    let (_, more) = load(&mut again).map_err(|error| error.to_string())?;
    let mut expected = items.clone();
    carry_out(&mut expected, &step);
    if more != expected {
        return Err(format!("a change after the cut is lost: {more:?}"));
    }
    Ok(items)
}

/// Carries random changes out, with the state after each.
fn run(random: &mut Random, steps: usize) -> (Disk, Vec<(usize, Items)>) {
    let disk = Disk::default();
    let mut store = FileStore::over(disk.clone());
    let (mut revision, mut items) = load(&mut store).unwrap();
    let mut after = vec![(disk.state().tape.len(), items.clone())];
    for _ in 0..steps {
        let changes = changes(random, &items);
        if changes.is_empty() {
            continue;
        }
        revision = store.compare_and_swap(revision, &changes).unwrap();
        carry_out(&mut items, &changes);
        after.push((disk.state().tape.len(), items.clone()));
    }
    (disk, after)
}

#[test]
fn a_power_cut_leaves_the_state_before_or_after_a_change() {
    let mut images = 0;
    for seed in 0..3 {
        let mut random = Random(seed);
        let (disk, after) = run(&mut random, 50);
        let tape = std::mem::take(&mut disk.state().tape);
        for (number, (before, operation)) in tape.iter().enumerate() {
            // What was answered before this operation began, and the next answer.
            let answered = after.iter().rev().find(|(operations, _)| *operations <= number);
            let next = after.iter().find(|(operations, _)| *operations > number);
            let next = &next.expect("it was answered in the end").1;
            for image in operation.images(before, || random.next()) {
                images += 1;
                let items = kept(image).unwrap_or_else(|why| panic!("{seed} {operation:?}: {why}"));
                let is_before = answered.map_or(items.is_empty(), |(_, before)| *before == items);
                assert!(is_before || items == *next, "{seed} {operation:?}: {items:?}");
            }
        }
    }
    println!("{images} images");
}

/// The check sees a store that has answered before a change is durable: it loses what was answered.
#[test]
fn a_change_that_is_lost_is_seen() {
    let (disk, after) = run(&mut Random(7), 20);
    let state = disk.state();
    let (before, _) = state.tape.last().unwrap();
    assert_ne!(kept(before.clone()).unwrap(), after.last().unwrap().1);
}

#[test]
fn an_operation_that_fails_is_no_change() {
    let failures = [Failure::Nothing, Failure::Half, Failure::All];
    let mut refused = 0;
    for (seed, failure) in (0..).zip(failures.into_iter().cycle().take(60)) {
        let mut random = Random(seed);
        let disk = Disk::default();
        let mut store = FileStore::over(disk.clone());
        let (mut revision, mut items) = load(&mut store).unwrap();
        for _ in 0..40 {
            if random.below(4) == 0 {
                let from = disk.state().tape.len();
                disk.state().failing = Some((from, 1 + random.below(4) as usize, failure));
            }
            let changes = changes(&mut random, &items);
            let kept = store.compare_and_swap(revision, &changes);
            match kept {
                Ok(now) => {
                    revision = now;
                    carry_out(&mut items, &changes);
                }
                Err(StoreError::Failed(why)) => {
                    assert!(why.contains("cannot be written: planted"), "{why}");
                    refused += 1;
                }
                Err(StoreError::Conflict) => panic!("nobody else is there"),
            }
            assert_eq!(load(&mut store).unwrap(), (revision, items.clone()));
        }
        // Once files can be written, what is on the disk is what was answered.
        disk.state().failing = None;
        let step = [change(None, Some(subsystem(1000, 1)))];
        store.compare_and_swap(revision, &step).unwrap();
        carry_out(&mut items, &step);
        let on_disk = load(&mut FileStore::over(disk)).unwrap();
        assert_eq!(on_disk, (revision + 1, items), "seed {seed}, {failure:?}");
    }
    assert!(refused > 50, "failures are tried: {refused}");
}

#[test]
fn what_was_changed_by_others_is_a_conflict() {
    let mut store = FileStore::over(Disk::default());
    let (revision, _) = load(&mut store).unwrap();
    let step = [change(None, Some(subsystem(1, 1)))];
    assert_eq!(store.compare_and_swap(revision + 1, &step), Err(StoreError::Conflict));
    let next = store.compare_and_swap(revision, &step).unwrap();
    assert_eq!(store.compare_and_swap(revision, &step), Err(StoreError::Conflict));
    assert_eq!((next, load(&mut store).unwrap().0), (revision + 1, revision + 1));
}

#[test]
fn damage_is_said_and_nothing_is_made_of_it() {
    let (disk, _) = run(&mut Random(3), 20);
    let whole = disk.state().files["wanted.log"].clone();
    let ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
    let says = |content: Vec<u8>| {
        let image = [("wanted.log".to_owned(), content)].into();
        FileStore::over(Disk::with(image)).load().map(drop).map_err(|error| error.to_string())
    };
    // A byte of any line but the last.
    for at in (0..ends[ends.len() - 2]).step_by(7) {
        let mut content = whole.clone();
        content[at] ^= 1;
        let why = says(content).unwrap_err();
        assert!(why.contains("The state file wanted.log is damaged"), "{at}: {why}");
        assert!(why.contains("Put a copy of it back"), "{why}");
    }
    // A line that is missing.
    let (second, third) = (ends[1] + 1, ends[2] + 1);
    let without = [&whole[..second], &whole[third..]].concat();
    assert!(says(without).unwrap_err().contains("does not follow"));
    // A head alone, nothing, and something else.
    for content in [whole[..=ends[0]].to_vec(), Vec::new(), vec![0; 4096], vec![0xff; 64]] {
        assert!(says(content).unwrap_err().contains("first two lines"));
    }
}
