//! Many runs, on every core.

use crate::world::memory;
use crate::{Failure, Kind, Plan, Report, run};
use bdev::Memory;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs a plan; a panic of production code is a failure like any other.
///
/// # Errors
/// What a checker found.
pub fn try_run(plan: &Plan, memory: &Arc<Memory>) -> Result<Report, Failure> {
    match catch_unwind(AssertUnwindSafe(|| run(plan, memory))) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            let what = text.unwrap_or_else(|| "a panic without words".to_owned());
            Err(Failure::new(Kind::Panic, what))
        }
    }
}

/// What many runs came to.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Runs.
    pub runs: u64,
    /// I/O commands in them.
    pub commands: u64,
    /// Accidents in them.
    pub accidents: u64,
    /// Controllers that ended because their hosts fell silent.
    pub keep_alive_expiries: u64,
    /// Commands that waited for a buffer.
    pub buffer_waits: u64,
    /// The seeds that failed, and how.
    pub failures: Vec<(u64, Failure)>,
}

/// Runs `plan(seed)` for `count` seeds from `first` on, on every core.
pub fn run_many(first: u64, count: u64, plan: impl Fn(u64) -> Plan + Sync) -> Tally {
    let next = AtomicU64::new(first);
    let end = first + count;
    let worker = || {
        let (memory, mut tally) = (memory(), Tally::default());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return tally;
            }
            tally.runs += 1;
            match try_run(&plan(seed), &memory) {
                Ok(report) => {
                    tally.commands += report.commands;
                    tally.accidents += report.accidents as u64;
                    tally.keep_alive_expiries += report.keep_alive_expiries;
                    tally.buffer_waits += report.buffer_waits;
                }
                Err(failure) => tally.failures.push((seed, failure)),
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let mut total = Tally::default();
        for worker in workers {
            let tally = worker.join().expect("panics are caught within a run");
            total.runs += tally.runs;
            total.commands += tally.commands;
            total.accidents += tally.accidents;
            total.keep_alive_expiries += tally.keep_alive_expiries;
            total.buffer_waits += tally.buffer_waits;
            total.failures.extend(tally.failures);
        }
        total.failures.sort_by_key(|(seed, _)| *seed);
        total
    })
}
