//! One node under random accidents.
//!
//! `SIM_SEED=n` replays one seed; `SIM_SEEDS=n` runs that many, `SIM_FIRST=n` from another one on.

use sim::seeds::{run_many, try_run};
use sim::world::memory;
use sim::{Plan, Planted};

/// Seeds in a run of the tests.
const SEEDS: u64 = 600;

fn env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text}")))
}

#[test]
fn every_seed_keeps_its_promises() {
    if let Some(seed) = env("SIM_SEED") {
        let plan = Plan::of(seed);
        println!("{plan:?}");
        match try_run(&plan, &memory()) {
            Ok(report) => println!("{report:?}"),
            Err(failure) => panic!("seed {seed}: {failure}"),
        }
        return;
    }
    let first = env("SIM_FIRST").unwrap_or(1);
    let tally = run_many(first, env("SIM_SEEDS").unwrap_or(SEEDS), Plan::of);
    println!("{} runs, {} commands, {} accidents", tally.runs, tally.commands, tally.accidents);
    println!(
        "{} keep alive expiries, {} waits for a buffer",
        tally.keep_alive_expiries, tally.buffer_waits
    );
    for (seed, failure) in &tally.failures {
        println!("SIM_SEED={seed}: {failure}");
    }
    assert!(tally.failures.is_empty(), "{} seeds failed", tally.failures.len());
    if tally.runs >= SEEDS {
        assert!(tally.accidents > tally.runs, "accidents happen");
        assert!(tally.keep_alive_expiries > 0, "hosts fall silent");
        assert!(tally.buffer_waits > 0, "buffers run out");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let memory = memory();
    for seed in 1..12 {
        let plan = Plan::of(seed);
        let runs = [try_run(&plan, &memory).unwrap(), try_run(&plan, &memory).unwrap()];
        assert_eq!(runs[0], runs[1], "seed {seed}");
    }
    let trace = |seed| try_run(&Plan::of(seed), &memory).unwrap().trace;
    assert_ne!(trace(1), trace(2));
}

#[test]
fn digests_keep_changed_bytes_out() {
    let plan = |seed| Plan {
        header_digest: true,
        data_digest: true,
        ..Plan::of(seed).with(Planted::FlippedBit)
    };
    let tally = run_many(1, 40, plan);
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
}

#[test]
fn a_host_that_takes_nothing_does_not_hold_up_the_others() {
    let tally = run_many(1, 60, |seed| Plan::of(seed).crowded());
    println!("{} runs, {} waits for a buffer", tally.runs, tally.buffer_waits);
    assert!(tally.failures.is_empty(), "{:?}", tally.failures);
    assert!(tally.accidents > 0 && tally.buffer_waits > 0);
}
