//! One request after the other.

use crate::world::{World, broken, configured, requests};
use proptest::prelude::*;
use wanted::{Change, DeclaredBy, Request, Wanted, edit};

/// Carries requests out; returns everything that was wanted in between.
pub fn run(requests: &[Request]) -> Result<(World, Vec<Wanted>), TestCaseError> {
    let mut world = World::default();
    let mut all = vec![configured()];
    for request in requests {
        let before = all.last().unwrap().clone();
        let copy = before.clone();
        let edited = edit(&before, request, &world);
        prop_assert_eq!(&before, &copy, "{:?} changed what it was given", request);
        let Ok(edited) = edited else { continue };
        world.carry_out(request);
        prop_assert_eq!(broken(&edited.wanted), None, "after {:?}", request);
        prop_assert_eq!(&edited.wanted, &before.with(&edited.changes), "{:?}", request);
        let undone = edited.changes.iter().rev().cloned().map(Change::undone);
        prop_assert_eq!(&edited.wanted.with(&undone.collect::<Vec<_>>()), &before);
        for change in &edited.changes {
            prop_assert_eq!(change.by(), DeclaredBy::Api, "{:?} changed {:?}", request, change);
            let (from, to) = change.items();
            prop_assert!(from != to, "{:?} changed nothing: {:?}", request, change);
        }
        // The same again is as was asked for.
        if let Ok(again) = edit(&edited.wanted, request, &world) {
            prop_assert!(again.is_as_before(), "{:?} twice: {:?}", request, again.changes);
        }
        all.push(edited.wanted);
    }
    Ok((world, all))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn what_is_wanted_stays_whole(requests in requests(60)) {
        run(&requests)?;
    }
}

/// Random requests are worth something: many are carried out, of every kind.
#[test]
fn many_requests_are_carried_out() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut done, mut kinds) = (0, std::collections::BTreeSet::new());
    for _ in 0..60 {
        let requests = requests(60).new_tree(&mut runner).unwrap().current();
        let (_, all) = run(&requests).unwrap();
        done += all.len() - 1;
        for two in all.windows(2) {
            for change in wanted::diff(&two[1], &two[0]) {
                let (from, to) = change.items();
                let kind = format!("{change:?}").split('(').next().unwrap().to_owned();
                kinds.insert((kind, from.is_some(), to.is_some()));
            }
        }
    }
    println!("{done} requests of some 2000 were carried out; changes: {kinds:?}");
    assert!(done > 600 && kinds.len() >= 12, "{done}: {kinds:?}");
}
