//! The driver against an oracle; and that the oracle sees what it should.

mod check;
mod rig;
mod soft;

use check::{Case, case, run_case};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use soft::Faults;

fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}

#[test]
fn any_controller_within_the_specification_is_driven_right() {
    let result = runner(150)
        .run(&case(), |case| run_case(&case, Faults::default()).map_err(TestCaseError::fail));
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// What the check says of the first of many cases, always the same, that it fails with `faults`.
fn caught(faults: Faults) -> Option<String> {
    let seed = RngSeed::Fixed(1);
    let mut runner =
        TestRunner::new(Config { rng_seed: seed, failure_persistence: None, ..Config::default() });
    (0..40).find_map(|_| {
        let mut case: Case = case().new_tree(&mut runner).unwrap().current();
        case.config.mqes = case.config.mqes.max(15);
        // Doorbells in memory would hide that the real ones are lost.
        case.config.shadows = false;
        run_case(&case, faults).err()
    })
}

#[test]
fn the_check_sees_each_planted_fault() {
    let none = Faults::default();
    for (name, faults) in [
        ("wrong phase tags", Faults { wrong_phase: true, ..none }),
        ("doorbells that are not rung", Faults { deaf: true, ..none }),
        ("lists of PRPs off by one page", Faults { list_off_by_one: true, ..none }),
        ("identifiers used again too early", Faults { same_cid: true, ..none }),
    ] {
        let said = caught(faults);
        println!("{name}: {said:?}");
        assert!(said.is_some(), "{name} went unseen");
    }
    assert_eq!(caught(none), None);
}
