//! What has to be done so that what runs is what is wanted.

use crate::edits::run;
use crate::world::{obstacle, requests};
use proptest::prelude::*;
use wanted::{Change, Wanted, diff};

/// Everything but what does not run: how pools that are not here were exported, and where an item
/// was declared.
fn same(one: &Wanted, other: &Wanted) -> bool {
    let items = |wanted: &Wanted| {
        let items = wanted.items().map(|declared| declared.item);
        items.filter(|item| !matches!(item, wanted::Item::Gone(_))).collect::<Vec<_>>()
    };
    items(one) == items(other)
}

/// Carries out what differs, each step where it can be.
pub fn reach(wanted: &Wanted, running: &Wanted) -> Result<Wanted, TestCaseError> {
    let mut now = running.clone();
    for change in diff(wanted, running) {
        prop_assert_eq!(obstacle(&now, &change), None, "{:?}", change);
        now.carry_out(&change);
    }
    prop_assert!(same(&now, wanted), "{:?} is not {:?}", now, wanted);
    prop_assert_eq!(diff(wanted, &now), Vec::<Change>::new());
    Ok(now)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]
    #[test]
    fn what_runs_becomes_what_is_wanted(
        requests in requests(50),
        picks in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 4),
    ) {
        let (_, all) = run(&requests)?;
        for (from, to) in picks {
            let (from, to) = (&all[from.index(all.len())], &all[to.index(all.len())]);
            reach(to, from)?;
            // Cut short after any step, it goes on from there.
            let changes = diff(to, from);
            for length in 0..changes.len() {
                reach(to, &from.with(&changes[..length]))?;
            }
        }
        let last = all.last().unwrap();
        reach(last, &Wanted::default())?;
        reach(&Wanted::default(), last)?;
        // Another configuration: devices are of another size, and subsystems have another serial.
        reach(&changed(last), last)?;
    }
}

/// This with each device and each subsystem made otherwise.
fn changed(wanted: &Wanted) -> Wanted {
    let mut other = Wanted::default();
    for mut declared in wanted.items() {
        match &mut declared.item {
            wanted::Item::Device(device) => {
                if let wanted::DeviceSpec::Memory { bytes, .. } = &mut device.spec {
                    *bytes *= 2;
                }
            }
            wanted::Item::Subsystem(subsystem) => subsystem.serial = Some("OTHER".into()),
            _ => {}
        }
        assert!(other.add(declared));
    }
    other
}

/// The checks see an order that cannot be carried out, and a step that is missing.
#[test]
fn wrong_orders_and_missing_steps_are_seen() {
    let wanted = crate::world::configured();
    let changes = diff(&wanted, &Wanted::default());
    let mut now = Wanted::default();
    let wrong = changes.iter().rev().find_map(|change| {
        let seen = obstacle(&now, change);
        now.carry_out(change);
        seen
    });
    assert!(wrong.is_some());
    for missing in 0..changes.len() {
        let mut some = changes.clone();
        let left_out = some.remove(missing);
        let now = Wanted::default().with(&some);
        assert!(!same(&now, &wanted), "{left_out:?}");
        assert_eq!(diff(&wanted, &now).first(), Some(&left_out));
    }
}
