//! A pool that is wanted: imported, watched, and opened again when it has failed.
//!
//! A device may take what is written to see whether it works, and nothing of what follows: so each
//! time that a pool is opened again has a longer wait behind it.

use super::backoff::{Backoff, Waits};
use std::time::{Duration, Instant};

/// How long it is between two tries of a pool whose devices do not work.
const WAITS: Waits = Waits {
    first: Duration::from_secs(5),
    most: Duration::from_secs(300),
    lasting: Duration::from_secs(60),
};

/// How often a pool is looked for that is away, or looked at that has failed.
const LOOK: Duration = Duration::from_secs(5);

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time goes by.
    Tick,
    /// How it is, while it is open.
    Seen(Seen),
    /// An effect has ended, by its number.
    Ended(u64, Outcome),
    /// An operator has imported it, or an effect of another's has.
    Opened,
    /// An operator has exported it, or it went away in another way.
    Closed,
    /// An operator wants it, or something that it may have waited for is there.
    Now,
}

/// How an open pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Nothing becomes durable any more.
    pub failed: bool,
    /// Drives of it were out and are back since it was opened.
    pub returned: bool,
}

/// How an effect ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is open, and works.
    Open,
    /// Not all of its devices work yet: it is open as it was.
    NotYet,
    /// It could not be closed: it is open as it was.
    Stuck,
    /// It is closed, and why: something is missing.
    Missing(String),
    /// It is closed, and why: its devices are there, and one does not do what it should.
    Device(String),
}

/// What is to be done. Nothing else is until it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is imported from the devices that are there.
    Import(u64),
    /// It has failed: if its devices work, it is closed and imported.
    Reopen(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Away,
    Importing { number: u64, since: Instant },
    Open,
    Reopening { number: u64, since: Instant },
}

/// See the module.
#[derive(Clone, Debug)]
pub struct PoolUnit {
    phase: Phase,
    failed: bool,
    backoff: Backoff,
    /// It counts while a device of it does not do what it should.
    waits: bool,
    next_look: Option<Instant>,
    last: u64,
    why: Option<String>,
    again: bool,
}

impl Default for PoolUnit {
    fn default() -> PoolUnit {
        PoolUnit {
            phase: Phase::Away,
            failed: false,
            backoff: Backoff::new(WAITS),
            waits: false,
            next_look: None,
            last: 0,
            why: None,
            again: false,
        }
    }
}

impl PoolUnit {
    /// What happens next.
    pub fn step(&mut self, input: Input, now: Instant) -> Option<Effect> {
        match input {
            Input::Tick => {}
            Input::Seen(seen) => self.seen(seen, now),
            Input::Ended(number, outcome) => self.ended(number, outcome, now),
            Input::Opened if !self.is_busy() => self.is_open(),
            Input::Closed if !self.is_busy() => {
                *self = PoolUnit { last: self.last, ..PoolUnit::default() }
            }
            Input::Now => self.wait_no_more(),
            Input::Opened | Input::Closed => {}
        }
        self.next(now)
    }

    /// An effect has ended. What is next is said by the step that follows.
    pub fn end(&mut self, number: u64, outcome: Outcome, now: Instant) {
        self.ended(number, outcome, now);
    }

    /// An operator has had it opened again at `now`, whatever its unit would have done.
    pub fn reopened(&mut self, now: Instant) {
        if !self.is_busy() {
            self.is_open();
        }
        self.backoff.forget();
        self.backoff.tried(now);
    }

    /// The next tick tries it: somebody wants it, or something has come.
    pub fn wait_no_more(&mut self) {
        self.again = self.is_busy();
        self.backoff.forget();
        self.next_look = None;
    }

    /// Whether it was closed because it had failed.
    pub fn failed_before(&self) -> bool {
        self.waits
    }

    fn next(&mut self, now: Instant) -> Option<Effect> {
        let is_due = self.next_look.is_none_or(|next| now >= next);
        let waits = (self.waits || self.failed) && !self.backoff.is_due(now);
        let phase = self.phase;
        if !is_due || waits || !(phase == Phase::Away || phase == Phase::Open && self.failed) {
            return None;
        }
        self.last += 1;
        self.next_look = Some(now + LOOK);
        let (number, since) = (self.last, now);
        Some(if phase == Phase::Away {
            if self.waits {
                self.backoff.tried(now);
            }
            self.phase = Phase::Importing { number, since };
            Effect::Import(number)
        } else {
            self.phase = Phase::Reopening { number, since };
            Effect::Reopen(number)
        })
    }

    fn seen(&mut self, seen: Seen, now: Instant) {
        if self.phase != Phase::Open {
            return;
        }
        if seen.returned {
            // Another drive, as it were.
            self.backoff.forget();
            self.next_look = None;
        }
        self.failed = seen.failed;
        if !seen.failed && !seen.returned {
            self.backoff.works(now);
        }
    }

    fn ended(&mut self, number: u64, outcome: Outcome, now: Instant) {
        let reopens = match self.phase {
            Phase::Importing { number: awaited, .. } if awaited == number => false,
            Phase::Reopening { number: awaited, .. } if awaited == number => true,
            // Of an effect that nobody waits for any more.
            _ => return,
        };
        if reopens && outcome != Outcome::NotYet {
            self.backoff.tried(now);
        }
        let again = std::mem::take(&mut self.again);
        match outcome {
            Outcome::Open => {
                let backoff = self.backoff.clone();
                self.is_open();
                self.backoff = backoff;
            }
            Outcome::NotYet | Outcome::Stuck => self.phase = Phase::Open,
            Outcome::Missing(why) => (self.phase, self.why) = (Phase::Away, Some(why)),
            Outcome::Device(why) => {
                (self.phase, self.why) = (Phase::Away, Some(why));
                if !std::mem::replace(&mut self.waits, true) && !reopens {
                    self.backoff.tried(now);
                }
            }
        }
        if self.phase == Phase::Away {
            self.failed = false;
            self.waits |= reopens;
        }
        if again {
            self.backoff.forget();
            self.next_look = None;
        }
    }

    fn is_open(&mut self) {
        self.phase = Phase::Open;
        (self.failed, self.waits, self.why, self.next_look) = (false, false, None, None);
    }

    /// Whether it is open, as far as it has been told.
    pub fn is_open_now(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Reopening { .. })
    }

    /// Whether an effect is under way.
    pub fn is_busy(&self) -> bool {
        self.busy_since().is_some()
    }

    /// Since when an effect is under way.
    pub fn busy_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Importing { since, .. } | Phase::Reopening { since, .. } => Some(since),
            Phase::Away | Phase::Open => None,
        }
    }

    /// Why it is not there, if that is known.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// When it is tried next, of one that waits because a device of it does not work.
    pub fn next_try(&self, now: Instant) -> Option<Duration> {
        let left = self.backoff.due()?.saturating_duration_since(now);
        (!left.is_zero() && (self.waits || self.is_open_now())).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);
    const FAILED: Input = Input::Seen(Seen { failed: true, returned: false });
    const WORKS: Input = Input::Seen(Seen { failed: false, returned: false });

    #[test]
    fn one_that_is_missing_is_looked_for_every_few_seconds() {
        let (mut unit, mut now) = (PoolUnit::default(), Instant::now());
        for number in 1..10 {
            assert_eq!(unit.step(Input::Tick, now), Some(Effect::Import(number)));
            assert!(unit.is_busy());
            let missing = Outcome::Missing("a.img is missing".into());
            assert_eq!(unit.step(Input::Ended(number, missing), now), None);
            assert_eq!((unit.why(), unit.next_try(now)), (Some("a.img is missing"), None));
            assert_eq!(unit.step(Input::Tick, now + 4 * SECOND), None);
            now += LOOK;
        }
        assert_eq!(unit.step(Input::Now, now - SECOND), Some(Effect::Import(10)));
        assert_eq!(unit.step(Input::Ended(10, Outcome::Open), now), None);
        assert_eq!(unit.step(Input::Tick, now + 60 * SECOND), None);
    }

    #[test]
    fn one_whose_devices_fail_is_opened_again_less_and_less_often() {
        let (mut unit, mut now) = (PoolUnit::default(), Instant::now());
        unit.step(Input::Opened, now);
        assert_eq!(unit.step(WORKS, now), None);
        // Its devices do not work: it is looked at, and that is all.
        assert_eq!(unit.step(FAILED, now), Some(Effect::Reopen(1)));
        assert_eq!(unit.step(Input::Ended(1, Outcome::NotYet), now), None);
        now += LOOK;
        let mut number = 2;
        for wait in [5, 10, 20, 40, 80] {
            assert_eq!(unit.step(FAILED, now), Some(Effect::Reopen(number)), "{wait}");
            assert_eq!(unit.step(Input::Ended(number, Outcome::Open), now), None);
            // It fails again at once.
            assert_eq!(unit.step(FAILED, now + SECOND / 2), None, "{wait}");
            assert_eq!(unit.next_try(now), Some(wait * SECOND));
            (now, number) = (now + wait * SECOND, number + 1);
        }
        // A drive was out, and is back: another one, as it were.
        assert_eq!(unit.step(FAILED, now), Some(Effect::Reopen(number)));
        assert_eq!(unit.step(Input::Ended(number, Outcome::Open), now), None);
        assert_eq!(unit.step(FAILED, now), None);
        let returned = Input::Seen(Seen { failed: true, returned: true });
        assert_eq!(unit.step(returned, now), Some(Effect::Reopen(number + 1)));
        let missing = Outcome::Device("it answered otherwise".into());
        assert_eq!(unit.step(Input::Ended(number + 1, missing), now), None);
        assert_eq!(unit.next_try(now), Some(5 * SECOND));
        // An operator does not wait.
        assert_eq!(unit.step(Input::Now, now), Some(Effect::Import(number + 2)));
    }

    #[test]
    fn one_that_works_for_long_begins_anew() {
        let (mut unit, now) = (PoolUnit::default(), Instant::now());
        unit.step(Input::Opened, now);
        assert_eq!(unit.step(FAILED, now), Some(Effect::Reopen(1)));
        unit.step(Input::Ended(1, Outcome::Open), now);
        unit.step(WORKS, now + 59 * SECOND);
        assert!(unit.backoff.due().is_some());
        unit.step(WORKS, now + 60 * SECOND);
        assert!(unit.backoff.due().is_none());
    }

    proptest! {
        /// Whatever happens, late or out of turn: one effect at a time, none for a pool that works,
        /// and one that does not is tried after the longest wait at the latest.
        #[test]
        fn there_is_one_effect_at_a_time_and_always_another(
            steps in prop::collection::vec((0..11_u8, 0..400_u64), 1..200),
        ) {
            let (mut unit, mut now) = (PoolUnit::default(), Instant::now());
            let (mut busy, mut open, mut failed): (Option<u64>, bool, bool) = (None, false, false);
            for (what, seconds) in steps {
                now += Duration::from_secs(seconds);
                let was_open = open;
                let mut end = |outcome: Outcome| {
                    let number = busy.take().unwrap_or(u64::MAX);
                    if number != u64::MAX {
                        let as_it_was = matches!(outcome, Outcome::NotYet | Outcome::Stuck);
                        open = outcome == Outcome::Open || as_it_was && open;
                        failed &= as_it_was;
                    }
                    Input::Ended(number, outcome)
                };
                let input = match what {
                    0 => end(Outcome::Open),
                    1 if was_open && seconds % 2 == 0 => end(Outcome::NotYet),
                    1 if was_open => end(Outcome::Stuck),
                    2 => end(Outcome::Missing("no".into())),
                    3 => end(Outcome::Device("bad".into())),
                    4 if busy.is_none() && open => {
                        failed = true;
                        Input::Seen(Seen { failed, returned: false })
                    }
                    5 if busy.is_none() && open => {
                        failed = false;
                        Input::Seen(Seen { failed, returned: seconds % 2 == 0 })
                    }
                    6 => Input::Now,
                    // Of an effect that was over long ago.
                    9 => Input::Ended(unit.last.wrapping_sub(1), Outcome::Open),
                    7 if busy.is_none() => { (open, failed) = (true, false); Input::Opened }
                    8 if busy.is_none() => { (open, failed) = (false, false); Input::Closed }
                    _ => Input::Tick,
                };
                let effect = unit.step(input, now);
                if let Some(Effect::Import(number) | Effect::Reopen(number)) = effect {
                    prop_assert_eq!(busy, None, "two effects at once");
                    prop_assert_eq!(matches!(effect, Some(Effect::Import(_))), !open);
                    prop_assert!(!open || failed, "nothing is done to a pool that works");
                    busy = Some(number);
                }
                prop_assert_eq!(unit.is_busy(), busy.is_some());
            }
            if busy.is_none() && (!open || failed) {
                prop_assert!(unit.step(Input::Tick, now + WAITS.most).is_some());
            }
        }
    }
}
