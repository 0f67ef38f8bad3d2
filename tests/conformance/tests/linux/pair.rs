//! Two guests at once: one with the target, one with the host, which wait for one another.

use conformance::guest::{self, Job};
use conformance::lab::{Kernel, Lab};
use conformance::report::Outcome;
use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

pub(crate) const LIMIT: Duration = Duration::from_secs(600);

/// What one guest tells the other.
#[derive(Default)]
struct Events {
    told: Mutex<(BTreeSet<String>, bool)>,
    news: Condvar,
}

impl Events {
    /// Answers `tell NAME` and `await NAME`, and nothing else.
    fn answer(&self, words: &str) -> Option<Result<String, String>> {
        let mut told = self.told.lock().expect("no guest panics with it");
        match words.split_once(' ') {
            Some(("tell", name)) => {
                told.0.insert(name.to_owned());
                self.news.notify_all();
            }
            Some(("await", name)) => {
                let until = Instant::now() + LIMIT;
                while !told.0.contains(name) {
                    if told.1 {
                        return Some(Err("the other guest is over".into()));
                    }
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Some(Err(format!("nobody told of {name}")));
                    }
                    told = self.news.wait_timeout(told, left).expect("likewise").0;
                }
            }
            _ => return None,
        }
        Some(Ok(String::new()))
    }

    /// A guest is over: nobody waits for it any more.
    fn end(&self) {
        self.told.lock().expect("no guest panics with it").1 = true;
        self.news.notify_all();
    }
}

/// Runs both jobs to their end. The outcome has the checks of both.
pub(crate) fn run(lab: &Lab, kernel: Kernel, target: &Job<'_>, host: &Job<'_>) -> Outcome {
    run_with(lab, kernel, target, host, &|words| Err(format!("{words} is neither tell nor await")))
}

/// The same, where `other` answers what is neither `tell` nor `await`.
pub(crate) fn run_with(
    lab: &Lab,
    kernel: Kernel,
    target: &Job<'_>,
    host: &Job<'_>,
    other: &(dyn Fn(&str) -> Result<String, String> + Sync),
) -> Outcome {
    let events = Events::default();
    let run = |job: &Job<'_>| {
        let answer = &mut |words: &str| events.answer(words).unwrap_or_else(|| other(words));
        let outcome = guest::run(lab, kernel, job, answer);
        events.end();
        outcome.unwrap_or_else(|why| panic!("{why}"))
    };
    let (mut outcome, host) = std::thread::scope(|scope| {
        let host = scope.spawn(|| run(host));
        (run(target), host.join().expect("it does not panic"))
    });
    outcome.checks.extend(host.checks);
    outcome.ended &= host.ended;
    outcome.serial_tail.push_str(&host.serial_tail);
    outcome
}
