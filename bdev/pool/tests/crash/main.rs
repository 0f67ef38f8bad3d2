//! A pool with volumes open on a reactor's stack: the real channel, keeper, store and format, over
//! devices whose power goes at every moment, in a process that is killed at every moment. Reads,
//! writes, discards and flushes beside snapshots, clones, roll backs, resizes, devices added and
//! drained, while what is free is given back to the devices, which then hold anything there. Nothing
//! flushed is lost with the power, nothing answered with the process, nothing foreign is seen, no block
//! is torn, space is exact. `CRASH_SEEDS=n` runs so many seeds, `CRASH_FIRST=n` from another one on,
//! `CRASH_IMAGE=n` one image of each.

#[path = "../support/mod.rs"]
mod support;

mod cuts;
mod disk;
mod format1;
mod journals;
mod kinds;
mod life;
mod machine;
mod model;
mod tenure;
mod upgrade;
mod world;

use cuts::run;
use world::{Tally, World};

fn env(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn run_seeds(first: u64, seeds: u64) {
    let only = std::env::var("CRASH_IMAGE").is_ok().then(|| env("CRASH_IMAGE", 0));
    let mut all = Tally::default();
    for seed in first..first + seeds {
        let tally = run(seed, 900, only, |_| {});
        println!("seed {seed}: {tally:?}");
        all.add(tally);
    }
    println!("{all:?}");
    if only.is_some() {
        return;
    }
    assert!(all.images > seeds * 1250 && all.reopened > 0);
    let happened = [all.full, all.snapshots, all.clones, all.rolled_back, all.promoted];
    assert!(happened.iter().all(|count| *count > 0), "everything happens");
    let happened = [all.shrunk, all.drained, all.added, all.deleted, all.discards, all.filled];
    assert!(happened.iter().all(|count| *count > 0), "everything happens");
}

// Two halves, for two cores.

#[test]
fn the_power_goes_at_every_moment() {
    run_seeds(env("CRASH_FIRST", 1), env("CRASH_SEEDS", 12));
}

#[test]
fn the_power_goes_at_every_other_moment() {
    run_seeds(1 + (1 << 32), env("CRASH_SEEDS", 12));
}

#[test]
fn the_checker_catches_devices_that_lie_about_flushes() {
    let lie = |world: &World| world.machine.rack.lock().unwrap().lies = true;
    let noticed = |seed| std::panic::catch_unwind(|| run(seed, 600, None, lie)).is_err();
    assert!((1..5).any(noticed), "nobody notices");
}

#[test]
fn the_checker_catches_a_device_that_answers_too_early() {
    let hurry = |world: &World| world.machine.rack.lock().unwrap().hurries = true;
    let noticed = |seed| std::panic::catch_unwind(|| run(seed, 600, None, hurry)).is_err();
    assert!((1..5).any(noticed), "nobody notices");
}

#[test]
fn the_checker_catches_a_discard_that_takes_place_when_its_slot_is_used_again() {
    let dawdle = |world: &World| world.machine.rack.lock().unwrap().dawdles = true;
    let noticed = |seed| std::panic::catch_unwind(|| run(seed, 600, None, dawdle)).is_err();
    assert!((1..5).any(noticed), "nobody notices");
}

#[test]
fn the_checker_catches_a_device_that_tears_blocks() {
    let tear = |world: &World| world.machine.rack.lock().unwrap().tears = true;
    let noticed = |seed| std::panic::catch_unwind(|| run(seed, 600, None, tear)).is_err();
    assert!((2..8).step_by(2).any(noticed), "nobody notices");
}
