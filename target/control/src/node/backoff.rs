//! When a pool that failed is opened again: soon, and less and less often as long as it fails again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The wait after the first try. It doubles with each one more.
const FIRST: Duration = Duration::from_secs(5);

/// The longest wait.
const MOST: Duration = Duration::from_secs(300);

/// A pool that has worked for so long, or for as long as the wait, begins anew.
const LASTING: Duration = Duration::from_secs(60);

/// Tries of pools, by their names.
#[derive(Debug, Default)]
pub(crate) struct Backoff(BTreeMap<String, Tries>);

#[derive(Debug)]
struct Tries {
    count: u32,
    last: Instant,
}

impl Tries {
    fn wait(&self) -> Duration {
        let doubled = 1u32.checked_shl(self.count - 1).unwrap_or(u32::MAX);
        FIRST.saturating_mul(doubled).min(MOST)
    }
}

impl Backoff {
    /// Whether a pool may be tried at `now`.
    pub(crate) fn is_due(&self, pool: &str, now: Instant) -> bool {
        self.0.get(pool).is_none_or(|tries| now >= tries.last + tries.wait())
    }

    /// How long it is until then; none if it was never tried.
    pub(crate) fn left(&self, pool: &str, now: Instant) -> Option<Duration> {
        let tries = self.0.get(pool)?;
        Some((tries.last + tries.wait()).saturating_duration_since(now))
    }

    /// A pool is tried at `now`.
    pub(crate) fn tried(&mut self, pool: &str, now: Instant) {
        let tries = self.0.entry(pool.to_owned()).or_insert(Tries { count: 0, last: now });
        *tries = Tries { count: tries.count.saturating_add(1), last: now };
    }

    /// A pool works at `now`, as it has since it was tried last.
    pub(crate) fn works(&mut self, pool: &str, now: Instant) {
        let lasts = |tries: &Tries| now >= tries.last + tries.wait().max(LASTING);
        if self.0.get(pool).is_some_and(lasts) {
            self.0.remove(pool);
        }
    }

    /// A pool can be tried at once: an operator wants that, or it is gone.
    pub(crate) fn forget(&mut self, pool: &str) {
        self.0.remove(pool);
    }

    /// All can: something is there that was not.
    pub(crate) fn forget_all(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_five_minutes() {
        let (mut backoff, mut now) = (Backoff::default(), Instant::now());
        assert!(backoff.is_due("tank", now) && backoff.left("tank", now).is_none());
        for wait in [5, 10, 20, 40, 80, 160, 300, 300, 300] {
            backoff.tried("tank", now);
            assert_eq!(backoff.left("tank", now), Some(wait * SECOND));
            assert!(!backoff.is_due("tank", now + wait * SECOND - SECOND / 1000));
            assert!(backoff.is_due("other", now), "each pool for itself");
            // It was open for the whole of it, and fails again.
            now += wait * SECOND;
            if wait < 60 {
                backoff.works("tank", now);
            }
            assert!(backoff.is_due("tank", now));
        }
        (0..100).for_each(|_| backoff.tried("tank", now));
        assert_eq!(backoff.left("tank", now), Some(300 * SECOND));
    }

    #[test]
    fn what_lasts_or_an_operator_wants_begins_anew() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        (0..6).for_each(|_| backoff.tried("tank", now));
        backoff.works("tank", now + 159 * SECOND);
        assert!(!backoff.is_due("tank", now + 159 * SECOND));
        backoff.works("tank", now + 160 * SECOND);
        assert!(backoff.is_due("tank", now) && backoff.left("tank", now).is_none());
        for forget in [|b: &mut Backoff| b.forget("tank"), Backoff::forget_all] {
            backoff.tried("tank", now);
            assert!(!backoff.is_due("tank", now));
            forget(&mut backoff);
            assert!(backoff.is_due("tank", now));
        }
    }
}
