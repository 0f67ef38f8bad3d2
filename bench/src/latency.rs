//! Latency histogram: logarithmic with 32 linear steps a power of two (3% wide).

const STEP_BITS: u32 = 5;
const STEPS: usize = 1 << STEP_BITS;
const BUCKETS: usize = (64 - STEP_BITS as usize + 1) * STEPS;

/// Counts of latencies in nanoseconds.
pub struct Histogram {
    buckets: Box<[u64]>,
    sum_ns: u64,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS].into_boxed_slice(), sum_ns: 0, count: 0 }
    }
}

impl Histogram {
    /// Counts one latency of `ns` nanoseconds.
    pub fn record(&mut self, ns: u64) {
        self.buckets[bucket(ns)] += 1;
        self.sum_ns += ns;
        self.count += 1;
    }

    /// Forgets everything counted so far.
    pub fn clear(&mut self) {
        self.buckets.fill(0);
        self.sum_ns = 0;
        self.count = 0;
    }

    /// How many latencies were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean in microseconds; 0 where nothing was counted.
    #[must_use]
    pub fn mean_us(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum_ns as f64 / self.count as f64 / 1e3 }
    }

    /// The latency in microseconds that a share `quantile` (0 to 1) does not exceed, to 3%.
    #[must_use]
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        let wanted = (quantile * self.count as f64).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return middle_ns(index) / 1e3;
            }
        }
        0.0
    }
}

fn bucket(ns: u64) -> usize {
    let power = ns.max(1).ilog2();
    if power < STEP_BITS {
        return ns as usize;
    }
    let shift = power - STEP_BITS;
    (shift as usize + 1) * STEPS + ((ns >> shift) as usize & (STEPS - 1))
}

fn middle_ns(index: usize) -> f64 {
    if index < STEPS {
        return index as f64;
    }
    let shift = (index / STEPS - 1) as i32;
    let low = (STEPS + index % STEPS) as f64;
    (low + 0.5) * 2f64.powi(shift)
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Histogram, bucket, middle_ns};

    #[test]
    fn every_value_lands_within_three_percent_of_its_bucket() {
        for ns in (1..100_000u64).chain((20..64).map(|bit| (1u64 << bit) - 1)).chain([u64::MAX]) {
            let index = bucket(ns);
            assert!(index < BUCKETS);
            let off = (middle_ns(index) - ns as f64).abs() / ns as f64;
            assert!(off < 0.032, "{ns} ns landed {off} away");
        }
    }

    #[test]
    fn mean_and_quantiles_of_a_known_set() {
        let mut histogram = Histogram::default();
        for us in 1..=100u64 {
            histogram.record(us * 1000);
        }
        assert!((histogram.mean_us() - 50.5).abs() < 1e-9);
        assert!((histogram.quantile_us(0.5) - 50.0).abs() < 2.0);
        assert!((histogram.quantile_us(0.99) - 99.0).abs() < 3.5);
        histogram.clear();
        assert_eq!(histogram.count(), 0);
        assert_eq!(histogram.mean_us().to_bits(), 0f64.to_bits());
        assert_eq!(histogram.quantile_us(0.5).to_bits(), 0f64.to_bits());
    }
}
