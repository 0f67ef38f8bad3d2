//! A namespace that was removed: its channels are closed once no command is under way on it.

use std::time::{Duration, Instant};

/// The wait before the second look. It doubles with each one more.
const FIRST: Duration = Duration::from_millis(1);

/// The longest wait between two looks.
const MOST: Duration = Duration::from_millis(250);

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time goes by.
    Tick,
    /// A look has ended: on so many reactors commands are under way still.
    Looked(usize),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Each reactor that is not done looks, and closes its channel if it can.
    Look,
    /// All channels are closed: what was under them belongs to nobody.
    Release,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Drain {
    since: Instant,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Waiting { next: Instant, wait: Duration, held: usize },
    Looking { wait: Duration, held: usize },
    Closed,
}

impl Drain {
    /// Of a namespace that was removed at `now`.
    pub fn new(now: Instant) -> Drain {
        Drain { since: now, state: State::Waiting { next: now, wait: FIRST, held: 0 } }
    }

    /// What happens next.
    pub fn step(&mut self, input: Input, now: Instant) -> Option<Effect> {
        match (input, &self.state) {
            (Input::Looked(0), State::Looking { .. }) => {
                self.state = State::Closed;
                Some(Effect::Release)
            }
            (Input::Looked(held), State::Looking { wait, .. }) => {
                let (next, wait) = (now + *wait, (*wait * 2).min(MOST));
                self.state = State::Waiting { next, wait, held };
                None
            }
            (Input::Tick, State::Waiting { next, wait, held }) if now >= *next => {
                self.state = State::Looking { wait: *wait, held: *held };
                Some(Effect::Look)
            }
            _ => None,
        }
    }

    /// When the next look is due; none while one goes on, or when all is done.
    pub fn due(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { next, .. } => Some(next),
            State::Looking { .. } | State::Closed => None,
        }
    }

    /// Since when it is removed.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// On how many reactors commands were under way when it was last looked at.
    pub fn held(&self) -> usize {
        match self.state {
            State::Waiting { held, .. } | State::Looking { held, .. } => held,
            State::Closed => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn looks_become_rarer_and_the_last_one_releases() {
        let start = Instant::now();
        let (mut drain, mut now) = (Drain::new(start), start);
        for _ in 0..20 {
            assert_eq!(drain.step(Input::Tick, now), Some(Effect::Look));
            assert_eq!(drain.step(Input::Tick, now + MOST), None, "one look at a time");
            assert_eq!(drain.step(Input::Looked(2), now), None);
            assert_eq!((drain.held(), drain.since()), (2, start));
            now = drain.due().unwrap();
        }
        assert_eq!(drain.due().unwrap() - now, Duration::ZERO);
        assert_eq!(drain.step(Input::Tick, now), Some(Effect::Look));
        assert_eq!(drain.step(Input::Looked(0), now), Some(Effect::Release));
        assert_eq!(drain.step(Input::Looked(0), now), None, "once");
    }

    proptest! {
        /// It is released once, and never while a command is under way.
        #[test]
        fn it_is_released_once_and_when_nothing_is_held(
            steps in prop::collection::vec((prop::option::of(0..3_usize), 0..400_u64), 1..100),
        ) {
            let mut now = Instant::now();
            let (mut drain, mut looking, mut released) = (Drain::new(now), false, false);
            for (looked, ms) in steps {
                now += Duration::from_millis(ms);
                let input = looked.map_or(Input::Tick, Input::Looked);
                let due = drain.due();
                match drain.step(input, now) {
                    Some(Effect::Look) => {
                        prop_assert!(!looking && !released && due.is_some_and(|due| now >= due));
                        looking = true;
                    }
                    Some(Effect::Release) => {
                        prop_assert!(looking && !released && looked == Some(0));
                        released = true;
                    }
                    None => {}
                }
                looking &= looked.is_none();
            }
            if !released && !looking {
                prop_assert_eq!(drain.step(Input::Tick, now + MOST), Some(Effect::Look));
            }
        }
    }
}
