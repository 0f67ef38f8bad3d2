//! When something that failed is tried again: soon, and less and less often as long as it fails.

use std::time::{Duration, Instant};

/// How long the waits are.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// After the first try. It doubles with each one more.
    pub first: Duration,
    /// The longest.
    pub most: Duration,
    /// What has worked for so long, or for as long as the wait, begins anew.
    pub lasting: Duration,
}

/// Tries of one thing.
#[derive(Clone, Debug)]
pub struct Backoff {
    waits: Waits,
    count: u32,
    last: Option<Instant>,
}

impl Backoff {
    /// Of something that was never tried.
    pub fn new(waits: Waits) -> Backoff {
        Backoff { waits, count: 0, last: None }
    }

    fn wait(&self) -> Duration {
        let doubled = 1u32.checked_shl(self.count.saturating_sub(1)).unwrap_or(u32::MAX);
        self.waits.first.saturating_mul(doubled).min(self.waits.most)
    }

    /// When the next try is due; none if that is any moment.
    pub fn due(&self) -> Option<Instant> {
        Some(self.last? + self.wait())
    }

    /// Whether it may be tried at `now`.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due().is_none_or(|due| now >= due)
    }

    /// It is tried at `now`.
    pub fn tried(&mut self, now: Instant) {
        self.count = self.count.saturating_add(1);
        self.last = Some(now);
    }

    /// It works at `now`, as it has since it was tried last.
    pub fn works(&mut self, now: Instant) {
        let lasting = self.wait().max(self.waits.lasting);
        if self.last.is_some_and(|last| now >= last + lasting) {
            self.forget();
        }
    }

    /// It can be tried at once: somebody wants that, or something is there that was not.
    pub fn forget(&mut self) {
        (self.count, self.last) = (0, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);
    const WAITS: Waits =
        Waits { first: Duration::from_secs(5), most: Duration::from_secs(300), lasting: MINUTE };
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn waits_double_up_to_five_minutes() {
        let (mut backoff, mut now) = (Backoff::new(WAITS), Instant::now());
        assert!(backoff.is_due(now) && backoff.due().is_none());
        for wait in [5, 10, 20, 40, 80, 160, 300, 300, 300] {
            backoff.tried(now);
            assert_eq!(backoff.due(), Some(now + wait * SECOND));
            assert!(!backoff.is_due(now + wait * SECOND - SECOND / 1000));
            // It was open for the whole of it, and fails again.
            now += wait * SECOND;
            if wait < 60 {
                backoff.works(now);
            }
            assert!(backoff.is_due(now));
        }
        (0..100).for_each(|_| backoff.tried(now));
        assert_eq!(backoff.due(), Some(now + 300 * SECOND));
    }

    #[test]
    fn what_lasts_or_an_operator_wants_begins_anew() {
        let (mut backoff, now) = (Backoff::new(WAITS), Instant::now());
        (0..6).for_each(|_| backoff.tried(now));
        backoff.works(now + 159 * SECOND);
        assert!(!backoff.is_due(now + 159 * SECOND));
        backoff.works(now + 160 * SECOND);
        assert!(backoff.is_due(now) && backoff.due().is_none());
        backoff.tried(now);
        assert!(!backoff.is_due(now));
        backoff.forget();
        assert!(backoff.is_due(now));
    }

    proptest! {
        /// After so many tries in a row the wait is the first one, doubled with each try but the first,
        /// and never more than the longest; only what has lasted, or somebody who wants it, ends that.
        #[test]
        fn the_wait_is_that_of_the_tries_in_a_row(
            steps in prop::collection::vec((0..4_u8, 0..400_u64), 1..120),
        ) {
            let (mut backoff, mut now) = (Backoff::new(WAITS), Instant::now());
            let (mut tries, mut last) = (0_u32, now);
            let wait = |tries: u32| {
                (1..tries).fold(WAITS.first, |wait, _| (wait * 2).min(WAITS.most)).min(WAITS.most)
            };
            for (what, seconds) in steps {
                now += Duration::from_secs(seconds);
                match what {
                    0 | 1 => { backoff.tried(now); (tries, last) = (tries + 1, now); }
                    2 => {
                        backoff.works(now);
                        if tries > 0 && now - last >= wait(tries).max(WAITS.lasting) { tries = 0; }
                    }
                    _ => { backoff.forget(); tries = 0; }
                }
                let due = (tries > 0).then(|| last + wait(tries));
                prop_assert_eq!(backoff.due(), due);
                prop_assert_eq!(backoff.is_due(now), due.is_none_or(|due| now >= due));
            }
        }
    }
}
