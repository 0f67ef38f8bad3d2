//! Every checker sees the bug that is planted for it.

use sim::seeds::try_run;
use sim::world::memory;
use sim::{Kind, Plan, Planted};
use std::sync::Once;

/// Seeds to try before a bug counts as not seen.
const TRIES: u64 = 60;

/// Runs with `bug` until a checker sees something, which has to be one of `kinds`.
fn is_caught(bug: Planted, kinds: &[Kind], change: impl Fn(&mut Plan)) {
    // Panics are what some of the bugs end in; they need no lines here.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let memory = memory();
    let found = (1..=TRIES).find_map(|seed| {
        let mut plan = Plan::of(seed).with(bug);
        change(&mut plan);
        try_run(&plan, &memory).err().map(|failure| (seed, failure))
    });
    let outcome = match found {
        Some((_, failure)) if kinds.contains(&failure.kind) => Ok(()),
        Some((seed, failure)) => Err(format!("seed {seed}: seen as {failure}, not {kinds:?}")),
        None => Err(format!("nothing was seen of {bug:?} in {TRIES} seeds")),
    };
    let _ = std::panic::take_hook();
    outcome.unwrap();
}

/// As the seed has it, but with the drive that has the bug.
fn on_a_drive(plan: &mut Plan) {
    *plan = plan.clone().on_drive();
}

fn as_it_is(_: &mut Plan) {}

/// Only what the power does, so that nothing else is seen first.
fn power_cuts(plan: &mut Plan) {
    use sim::plan::Accident;
    on_a_drive(plan);
    plan.errors = 0;
    plan.accidents = (1..5).map(|n| (n * plan.commands / 5, Accident::PowerCut)).collect();
}

#[test]
fn a_lost_write_is_stale() {
    is_caught(Planted::LostWrite, &[Kind::Stale], on_a_drive);
}

#[test]
fn a_late_write_is_stale_or_lost() {
    is_caught(Planted::LateWrite, &[Kind::Stale, Kind::NotDurable], on_a_drive);
}

#[test]
fn a_misplaced_write_is_garbage_or_stale() {
    is_caught(Planted::MisplacedWrite, &[Kind::Garbage, Kind::Stale], on_a_drive);
}

#[test]
fn a_lying_flush_is_not_durable() {
    is_caught(Planted::LyingFlush, &[Kind::NotDurable], power_cuts);
}

#[test]
fn a_lying_fua_is_not_durable() {
    is_caught(Planted::LyingFua, &[Kind::NotDurable], power_cuts);
}

#[test]
fn a_torn_block_is_garbage() {
    is_caught(Planted::TornBlock, &[Kind::Garbage], power_cuts);
}

#[test]
fn a_lost_completion_is_unanswered() {
    is_caught(Planted::LostCompletion, &[Kind::Unanswered], on_a_drive);
}

#[test]
fn a_double_completion_breaks_an_invariant() {
    let kinds = [Kind::Panic, Kind::AnsweredTwice, Kind::Protocol];
    is_caught(Planted::DoubleCompletion, &kinds, on_a_drive);
}

#[test]
fn a_double_answer_is_seen() {
    is_caught(Planted::DoubleAnswer, &[Kind::AnsweredTwice], as_it_is);
}

#[test]
fn a_leaked_buffer_is_seen() {
    is_caught(Planted::LeakedBuffer, &[Kind::Leak], as_it_is);
}

#[test]
fn a_leaked_channel_is_seen() {
    is_caught(Planted::LeakedChannel, &[Kind::Leak], as_it_is);
}

#[test]
fn a_flipped_bit_without_digests_is_garbage() {
    is_caught(Planted::FlippedBit, &[Kind::Garbage, Kind::Protocol], |plan| {
        (plan.header_digest, plan.data_digest) = (false, false);
    });
}

#[test]
fn an_unfused_pair_is_not_atomic() {
    is_caught(Planted::UnfusedPair, &[Kind::NotAtomic], |plan| {
        (plan.hosts, plan.hot_blocks, plan.errors, plan.depth) = (2, 2, 0, 12);
        plan.commands = 400;
        plan.accidents.clear();
    });
}

#[test]
fn a_block_of_which_half_has_landed_is_garbage() {
    is_caught(Planted::BytesThatAreNotThere, &[Kind::Garbage], |plan| {
        *plan = Plan { data_digest: false, ..plan.clone().on_memory() };
    });
}

#[test]
fn a_lost_reply_is_unanswered() {
    is_caught(Planted::LostReply, &[Kind::Unanswered, Kind::Leak], as_it_is);
}

#[test]
fn a_double_reply_breaks_an_invariant() {
    is_caught(Planted::DoubleReply, &[Kind::Panic], as_it_is);
}

#[test]
fn endless_patience_with_one_host_leaves_others_unanswered() {
    is_caught(Planted::EndlessPatience, &[Kind::Unanswered], |plan| {
        *plan = plan.clone().crowded();
    });
}
