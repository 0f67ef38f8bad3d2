//! What counters have grown by.

use crate::step::{Step, Times};
use webui_model::{IoStatistics, LatencyHistogram};

/// Commands by bucket.
type Buckets = Vec<u64>;

/// What something did since some moment. It can be added up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Growth {
    reads: u64,
    writes: u64,
    read_bytes: u64,
    write_bytes: u64,
    errors: u64,
    /// Commands that were under way, over all looks.
    depths: u64,
    looks: u64,
    /// Empty without commands.
    read_buckets: Buckets,
    write_buckets: Buckets,
}

fn add_to(sum: &mut Buckets, more: &[u64]) {
    if sum.len() < more.len() {
        sum.resize(more.len(), 0);
    }
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
}

fn difference(now: &LatencyHistogram, before: Option<&LatencyHistogram>) -> Buckets {
    let before =
        before.map_or(&[][..], |before| &before.counts).iter().chain(std::iter::repeat(&0));
    now.counts.iter().zip(before).map(|(now, before)| now.saturating_sub(*before)).collect()
}

/// The bounds below which half, and 99 %, of the commands stayed, as
/// [`LatencyHistogram::quantile_ns`] has them.
fn times(bounds: &[u64], buckets: &[u64]) -> Times {
    let all: u64 = buckets.iter().fold(0, |sum, n| sum.saturating_add(*n));
    if all == 0 {
        return Times::default();
    }
    let (half, most) = (all.div_ceil(2), all - all / 100);
    let (mut seen, mut found) = (0_u64, Times::default());
    for (at, count) in buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
        seen = seen.saturating_add(*count);
        let bound = bounds.get(at).or(bounds.last()).copied();
        if found.p50.is_none() && seen >= half {
            found.p50 = bound;
        }
        if seen >= most {
            found.p99 = bound;
            break;
        }
    }
    found
}

/// Whether counters went back, though they only ever rise: they are another object's.
pub(crate) fn went_back(now: &IoStatistics, before: &IoStatistics) -> bool {
    now.reads < before.reads
        || now.writes < before.writes
        || now.read_bytes < before.read_bytes
        || now.write_bytes < before.write_bytes
        || now.errors < before.errors
}

impl Growth {
    /// What was done between two looks; `before` nothing: since it began.
    pub(crate) fn between(now: &IoStatistics, before: Option<&IoStatistics>) -> Growth {
        let of = |counter: fn(&IoStatistics) -> u64| {
            counter(now).saturating_sub(before.map_or(0, counter))
        };
        let (reads, writes) = (of(|io| io.reads), of(|io| io.writes));
        let buckets = |some: u64, of: fn(&IoStatistics) -> &LatencyHistogram| match some {
            0 => Buckets::new(),
            _ => difference(of(now), before.map(of)),
        };
        Growth {
            reads,
            writes,
            read_bytes: of(|io| io.read_bytes),
            write_bytes: of(|io| io.write_bytes),
            errors: of(|io| io.errors),
            depths: now.queue_depth,
            looks: 1,
            read_buckets: buckets(reads, |io| &io.read_latency),
            write_buckets: buckets(writes, |io| &io.write_latency),
        }
    }

    /// Nothing, in one look.
    pub(crate) fn idle() -> Growth {
        Growth { looks: 1, ..Growth::default() }
    }

    /// Whether nothing was done, and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        let Growth { reads, writes, read_bytes, write_bytes, errors, depths, .. } = *self;
        [reads, writes, read_bytes, write_bytes, errors, depths] == [0; 6]
    }

    /// The same, of which there were so many looks.
    pub(crate) fn over(self, looks: u64) -> Growth {
        Growth { looks, ..self }
    }

    fn add_counts(&mut self, other: &Growth) {
        self.reads = self.reads.saturating_add(other.reads);
        self.writes = self.writes.saturating_add(other.writes);
        self.read_bytes = self.read_bytes.saturating_add(other.read_bytes);
        self.write_bytes = self.write_bytes.saturating_add(other.write_bytes);
        self.errors = self.errors.saturating_add(other.errors);
        self.depths = self.depths.saturating_add(other.depths);
        add_to(&mut self.read_buckets, &other.read_buckets);
        add_to(&mut self.write_buckets, &other.write_buckets);
    }

    /// Adds what something else did in the same time.
    pub(crate) fn beside(&mut self, other: &Growth) {
        self.add_counts(other);
        self.looks = self.looks.max(other.looks);
    }

    /// Adds what the same did in the time after.
    pub(crate) fn after(&mut self, other: &Growth) {
        self.add_counts(other);
        self.looks += other.looks;
    }

    /// As a step, with the upper ends of the buckets in nanoseconds.
    pub(crate) fn step(&self, at_s: u64, seconds: u32, bounds: &[u64]) -> Step {
        Step {
            at_s,
            seconds,
            reads: self.reads,
            writes: self.writes,
            read_bytes: self.read_bytes,
            write_bytes: self.write_bytes,
            errors: self.errors,
            depth: self.depths as f64 / self.looks.max(1) as f64,
            read_times: times(bounds, &self.read_buckets),
            write_times: times(bounds, &self.write_buckets),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The percentiles of a step are those of the histogram of its commands alone.
        #[test]
        fn percentiles_are_those_of_the_difference(
            before in prop::collection::vec(0..50_u64, 6),
            grown in prop::collection::vec(0..500_u64, 6),
        ) {
            let bounds_ns = vec![10, 20, 40, 80, 160];
            let histogram = |counts: Vec<u64>| {
                LatencyHistogram { bounds_ns: bounds_ns.clone(), counts, sum_ns: 0 }
            };
            let io = |counts: Vec<u64>| IoStatistics {
                reads: counts.iter().sum(),
                read_latency: histogram(counts),
                ..IoStatistics::default()
            };
            let now: Vec<u64> = before.iter().zip(&grown).map(|(a, b)| a + b).collect();
            let step = Growth::between(&io(now), Some(&io(before))).step(0, 1, &bounds_ns);
            let alone = histogram(grown);
            prop_assert_eq!(step.read_times.p50, alone.quantile_ns(0.5));
            prop_assert_eq!(step.read_times.p99, alone.quantile_ns(0.99));
            prop_assert_eq!(step.reads, alone.count());
            prop_assert_eq!(step.write_times, Times::default());
        }
    }
}
