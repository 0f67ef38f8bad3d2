//! Something that is wanted: opened, and if that fails opened again and again, until it is there.

use super::backoff::{Backoff, Waits};
use std::time::Instant;

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time goes by.
    Tick,
    /// A try has ended, by its number; why not, if it failed.
    Ended(u64, Result<(), String>),
    /// Somebody else has opened it.
    There,
    /// It was there and is not any more, or what it needs is missing, and why: it is not tried now.
    Gone(String),
    /// It may be had now: an operator says so, or something that it needs has come.
    Now,
}

/// A try with this number is begun. Nothing else is until it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Try(pub u64);

/// Where it is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    Missing,
    Trying { number: u64, since: Instant, again: bool },
    There,
}

/// What there is to say of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// It is there.
    There,
    /// It is being opened since then; why the last try failed, if there was one.
    Trying(Instant, Option<String>),
    /// It is not there, and why, once that is known.
    Missing(Option<String>),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Attempt {
    phase: Phase,
    backoff: Backoff,
    last: u64,
    why: Option<String>,
}

impl Attempt {
    /// Something that is not there yet, and tried at the first tick.
    pub fn new(waits: Waits) -> Attempt {
        Attempt { phase: Phase::Missing, backoff: Backoff::new(waits), last: 0, why: None }
    }

    /// What happens next.
    pub fn step(&mut self, input: Input, now: Instant) -> Option<Try> {
        let is_tried = matches!(input, Input::Tick | Input::Now);
        match (input, &mut self.phase) {
            (Input::Ended(number, ended), Phase::Trying { number: awaited, again, .. })
                if number == *awaited =>
            {
                let again = *again;
                match ended {
                    Ok(()) => self.is_there(),
                    Err(why) => {
                        self.phase = Phase::Missing;
                        self.why = Some(why);
                        self.backoff.tried(now);
                        if again {
                            self.backoff.forget();
                        }
                    }
                }
            }
            // Of a try that nobody waits for any more.
            (Input::Ended(..), _) => {}
            (Input::There, _) => self.is_there(),
            (Input::Gone(why), phase) => {
                if !matches!(phase, Phase::Trying { .. }) {
                    *phase = Phase::Missing;
                }
                self.why = Some(why);
            }
            (Input::Now, _) => self.wait_no_more(),
            (Input::Tick, _) => {}
        }
        (is_tried && self.phase == Phase::Missing && self.backoff.is_due(now)).then(|| {
            self.last += 1;
            self.phase = Phase::Trying { number: self.last, since: now, again: false };
            Try(self.last)
        })
    }

    fn is_there(&mut self) {
        self.phase = Phase::There;
        self.backoff.forget();
    }

    /// The next tick tries it: something has come.
    pub fn wait_no_more(&mut self) {
        match &mut self.phase {
            Phase::Trying { again, .. } => *again = true,
            Phase::Missing => self.backoff.forget(),
            Phase::There => {}
        }
    }

    /// Why it is not there, if that is known.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref().filter(|_| self.phase != Phase::There)
    }

    /// Whether it has been missing.
    pub fn was_missing(&self) -> bool {
        self.why.is_some()
    }

    /// Since when it is tried.
    pub fn tried_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Trying { since, .. } => Some(since),
            Phase::Missing | Phase::There => None,
        }
    }

    /// What there is to say of it.
    pub fn view(&self) -> View {
        match self.phase {
            Phase::There => View::There,
            Phase::Trying { since, .. } => View::Trying(since, self.why.clone()),
            Phase::Missing => View::Missing(self.why.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);
    const WAITS: Waits = Waits { first: SECOND, most: Duration::from_secs(30), lasting: SECOND };

    #[test]
    fn it_is_tried_until_it_is_there_and_again_when_it_is_gone() {
        let (mut unit, mut now) = (Attempt::new(WAITS), Instant::now());
        assert_eq!(unit.step(Input::Tick, now), Some(Try(1)));
        assert_eq!(unit.step(Input::Tick, now + 60 * SECOND), None, "one try at a time");
        assert_eq!(unit.view(), View::Trying(now, None));
        now += 60 * SECOND;
        let refused = Err("nobody answers".to_owned());
        assert_eq!(unit.step(Input::Ended(1, refused.clone()), now), None);
        assert_eq!(unit.view(), View::Missing(Some("nobody answers".into())));
        for (number, wait) in [(2, 1), (3, 2), (4, 4), (5, 8), (6, 16), (7, 30), (8, 30)] {
            now += wait * SECOND - SECOND / 1000;
            assert_eq!(unit.step(Input::Tick, now), None);
            now += SECOND / 1000;
            assert_eq!(unit.step(Input::Tick, now), Some(Try(number)));
            assert_eq!(unit.step(Input::Ended(number, refused.clone()), now), None);
        }
        assert_eq!(unit.step(Input::Now, now), Some(Try(9)), "somebody says that it is there");
        assert_eq!(unit.step(Input::Ended(9, Ok(())), now), None);
        assert_eq!(unit.view(), View::There);
        assert_eq!(unit.step(Input::Gone("pulled".into()), now), None);
        assert_eq!(unit.view(), View::Missing(Some("pulled".into())));
        assert_eq!(unit.step(Input::Tick, now), Some(Try(10)));
    }

    #[test]
    fn what_comes_while_it_is_tried_counts_for_the_next_try() {
        let (mut unit, now) = (Attempt::new(WAITS), Instant::now());
        assert_eq!(unit.step(Input::Tick, now), Some(Try(1)));
        assert_eq!(unit.step(Input::Now, now), None);
        assert_eq!(unit.step(Input::Ended(1, Err("too early".into())), now), None);
        assert_eq!(unit.step(Input::Tick, now), Some(Try(2)));
    }

    proptest! {
        /// Whatever happens, late, twice or out of turn: never two tries at once, and what is not
        /// there is tried again after the longest wait at the latest.
        #[test]
        fn there_is_one_try_at_a_time_and_always_another(
            steps in prop::collection::vec((0..6_u8, 0..5_u64, 0..40_u64), 1..200),
        ) {
            let (mut unit, mut now) = (Attempt::new(WAITS), Instant::now());
            let mut open: Option<u64> = None;
            let mut there = false;
            for (what, late, seconds) in steps {
                now += Duration::from_secs(seconds);
                let input = match (what, open) {
                    (0, Some(number)) => { open = None; there = true; Input::Ended(number, Ok(())) }
                    (1, Some(number)) => { open = None; Input::Ended(number, Err("no".into())) }
                    // The end of a try that was over long ago.
                    (2, _) => {
                        let old = unit.last.saturating_sub(late + 1);
                        if old == 0 { Input::Tick } else { Input::Ended(old, Ok(())) }
                    }
                    // Also what it stands on, while it is tried.
                    (3, _) => { there = false; Input::Gone("gone".into()) }
                    (4, _) => Input::Now,
                    _ => Input::Tick,
                };
                let (due, now_wanted) = (unit.backoff.due(), matches!(input, Input::Now));
                if let Some(Try(number)) = unit.step(input, now) {
                    prop_assert_eq!(open, None, "two tries at once");
                    prop_assert!(now_wanted || due.is_none_or(|due| now >= due), "too early");
                    prop_assert!(!there, "what is there is not opened");
                    open = Some(number);
                }
                prop_assert_eq!(unit.view() == View::There, there);
            }
            if open.is_none() && !there {
                prop_assert!(unit.step(Input::Tick, now + WAITS.most).is_some());
            }
        }
    }
}
