//! How fast a volume may be.

use serde::{Deserialize, Serialize};

/// Limits of a volume, changed live. 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Reads and writes in a second.
    pub iops: u64,
    /// Bytes read and written in a second.
    pub bytes_per_second: u64,
    /// How much of what was not used before may be used at once, in milliseconds of the limit.
    pub burst_ms: u64,
}

const SECOND_NS: u64 = 1_000_000_000;

/// Always as much as this may be used at once: whoever looks a moment late makes up for it.
const LEAST_BURST_NS: u64 = 10_000_000;

/// Holds operations back to [`Limits`]: the generic cell rate algorithm (ITU-T I.371), once for
/// operations and once for bytes. What is kept is the time at which all that was let through would
/// have ended at the limit's pace.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    limits: Limits,
    ops_ns: u64,
    bytes_ns: u64,
}

impl Pace {
    pub(crate) fn set(&mut self, limits: Limits) {
        *self = Pace { limits, ..Pace::default() };
    }

    pub(crate) fn is_limited(&self) -> bool {
        self.limits.iops != 0 || self.limits.bytes_per_second != 0
    }

    /// When the next operation may begin, in ns; in the past if at once.
    pub(crate) fn next_ns(&self) -> u64 {
        let burst_ns = self.limits.burst_ms.saturating_mul(1_000_000).max(LEAST_BURST_NS);
        self.ops_ns.max(self.bytes_ns).saturating_sub(burst_ns)
    }

    /// An operation of `bytes` begins at `now_ns`.
    pub(crate) fn pass(&mut self, bytes: u64, now_ns: u64) {
        let cost = |amount: u64, limit: u64| {
            (u128::from(amount) * u128::from(SECOND_NS)).checked_div(u128::from(limit))
        };
        let advance = |at: u64, cost: Option<u128>| match cost {
            Some(cost) => at.max(now_ns).saturating_add(u64::try_from(cost).unwrap_or(u64::MAX)),
            None => 0,
        };
        self.ops_ns = advance(self.ops_ns, cost(1, self.limits.iops));
        self.bytes_ns = advance(self.bytes_ns, cost(bytes, self.limits.bytes_per_second));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes and operations of `bytes` that pass within `span_ns`, when there is always one more.
    fn passed(limits: Limits, bytes: u64, span_ns: u64) -> u64 {
        let mut pace = Pace::default();
        pace.set(limits);
        let (mut now_ns, mut count) = (5 * SECOND_NS, 0);
        let end_ns = now_ns + span_ns;
        loop {
            now_ns = now_ns.max(pace.next_ns());
            if now_ns >= end_ns {
                return count;
            }
            pace.pass(bytes, now_ns);
            count += 1;
        }
    }

    #[test]
    fn limits_hold_over_time_with_one_burst() {
        let iops = |iops, burst_ms| Limits { iops, burst_ms, ..Limits::default() };
        let plain = passed(iops(1000, 0), 4096, 2 * SECOND_NS);
        assert!((2010..=2011).contains(&plain), "{plain}");
        let burst = passed(iops(1000, 500), 4096, 2 * SECOND_NS);
        assert!((2500..=2501).contains(&burst), "{burst}");
        let bytes = Limits { bytes_per_second: 1 << 20, ..Limits::default() };
        // The least burst lets the next one begin a little early.
        assert_eq!(passed(bytes, 1 << 16, SECOND_NS), 17);
        let both = Limits { iops: 10, ..bytes };
        assert_eq!(passed(both, 1 << 16, SECOND_NS), 11);
        assert_eq!(passed(both, 1 << 19, SECOND_NS), 3);
    }

    #[test]
    fn what_was_not_used_is_kept_for_one_burst_only() {
        let mut pace = Pace::default();
        pace.set(Limits { iops: 10, burst_ms: 200, bytes_per_second: 0 });
        pace.pass(0, SECOND_NS);
        let now_ns = 60 * SECOND_NS;
        let at_once = (0..100).take_while(|_| {
            let may = pace.next_ns() <= now_ns;
            pace.pass(0, now_ns);
            may
        });
        assert_eq!(at_once.count(), 3, "two of the burst, and the one that is due");
        assert!(!Pace::default().is_limited());
    }
}
