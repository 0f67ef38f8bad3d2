//! How long operations took, in buckets with one writer each: plain adds on the data path.

use crate::Counter;

/// Buckets of one factor of two.
const STEPS: u32 = 4;

/// The first bucket ends at this power of two, in ns: what is shorter is not told apart.
const FIRST: u32 = 10;

/// The last bucket that has an end, in powers of two, in ns: 17 s.
const LAST: u32 = 34;

/// Buckets that have an end.
pub const BOUNDS: usize = ((LAST - FIRST) * STEPS) as usize + 1;

/// Times of one kind of operation.
#[derive(Debug)]
pub struct Latency {
    counts: [Counter; BOUNDS + 1],
    sum_ns: Counter,
}

impl Default for Latency {
    fn default() -> Latency {
        Latency { counts: std::array::from_fn(|_| Counter::default()), sum_ns: Counter::default() }
    }
}

/// Upper ends of the buckets, in ns, rising; one more bucket has what is longer.
pub fn bounds_ns() -> [u64; BOUNDS] {
    std::array::from_fn(|at| {
        let (octave, step) = (at as u32 / STEPS, at as u64 % u64::from(STEPS));
        let base = 1 << (FIRST + octave);
        base + base / u64::from(STEPS) * step
    })
}

/// The bucket of a time in ns.
#[inline]
pub fn bucket(ns: u64) -> usize {
    // Of times up to a bound: the bound itself belongs to its bucket.
    let ns = ns.saturating_sub(1);
    if ns >> FIRST == 0 {
        return 0;
    }
    let octave = 63 - ns.leading_zeros();
    let step = (ns >> (octave - STEPS.trailing_zeros())) & u64::from(STEPS - 1);
    (((octave - FIRST) * STEPS) as usize + step as usize + 1).min(BOUNDS)
}

impl Latency {
    /// Counts an operation that took `ns`. Only ever called by the one writer.
    #[inline]
    pub fn add(&self, ns: u64) {
        self.add_in(bucket(ns), ns);
    }

    /// As [`Latency::add`], where several count the same operation: its bucket is found once.
    #[inline]
    pub fn add_in(&self, bucket: usize, ns: u64) {
        self.counts[bucket].add(1);
        self.sum_ns.add(ns);
    }

    /// Adds what is counted here to `counts`, by bucket. Returns the sum of all times in ns.
    pub fn read_into(&self, counts: &mut [u64; BOUNDS + 1]) -> u64 {
        for (count, here) in counts.iter_mut().zip(&self.counts) {
            *count = count.wrapping_add(here.get());
        }
        self.sum_ns.get()
    }
}

/// Times of what one writer has done, on cache lines of their own. The clock is that of turns: from
/// the turn that an operation began in to the one that it ended in; what ends in the turn that it
/// began in counts as 0.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Latencies {
    /// Reads that succeeded.
    pub reads: Latency,
    /// Writes that succeeded.
    pub writes: Latency,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_rise_and_end_where_they_should() {
        let bounds = bounds_ns();
        assert!(bounds.is_sorted_by(|a, b| a < b));
        assert_eq!((bounds[0], bounds[1], bounds[4]), (1024, 1280, 2048));
        assert_eq!(bounds[BOUNDS - 1], 1 << 34);
    }

    proptest! {
        #[test]
        fn each_time_is_counted_where_the_bounds_say(ns in 0u64..1 << 40, shift in 0u32..40) {
            let ns = ns >> shift;
            let bounds = bounds_ns();
            let expected = bounds.iter().position(|bound| ns <= *bound).unwrap_or(BOUNDS);
            prop_assert_eq!(bucket(ns), expected);
            let on_a_bound = bounds[bucket(ns).min(BOUNDS - 1)];
            prop_assert_eq!(bucket(on_a_bound), bucket(ns).min(BOUNDS - 1));
        }
    }
}
