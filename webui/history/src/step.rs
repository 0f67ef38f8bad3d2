//! What something did in a step.

/// How long half, and 99 %, of some commands took at most, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) p50: Option<u64>,
    pub(crate) p99: Option<u64>,
}

impl Times {
    /// No less than the exact numbers of both together: what 99 % of each stayed below, 99 % of all
    /// stay below.
    fn merge(&mut self, other: Times) {
        self.p50 = self.p50.max(other.p50);
        self.p99 = self.p99.max(other.p99);
    }
}

/// What something did in the `seconds` after `at_s`, in seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Step {
    pub(crate) at_s: u64,
    pub(crate) seconds: u32,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) read_bytes: u64,
    pub(crate) write_bytes: u64,
    pub(crate) errors: u64,
    /// Commands under way, on average.
    pub(crate) depth: f64,
    pub(crate) read_times: Times,
    pub(crate) write_times: Times,
}

impl Step {
    /// Adds what was done in another one. The average of what was under way is that over both.
    pub(crate) fn merge(&mut self, other: &Step) {
        let (mine, theirs) = (f64::from(self.seconds), f64::from(other.seconds));
        let all = (mine + theirs).max(1.0);
        self.depth = (self.depth * mine + other.depth * theirs) / all;
        self.seconds = self.seconds.saturating_add(other.seconds);
        for (sum, more) in [
            (&mut self.reads, other.reads),
            (&mut self.writes, other.writes),
            (&mut self.read_bytes, other.read_bytes),
            (&mut self.write_bytes, other.write_bytes),
            (&mut self.errors, other.errors),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.read_times.merge(other.read_times);
        self.write_times.merge(other.write_times);
    }

    /// Whether nothing was done.
    pub(crate) fn is_idle(&self) -> bool {
        let Step { reads, writes, read_bytes, write_bytes, errors, depth, .. } = *self;
        [reads, writes, read_bytes, write_bytes, errors] == [0; 5] && depth == 0.0
    }
}

/// When the step of this length began that a moment is in.
pub(crate) fn beginning(at_s: u64, step_s: u32) -> u64 {
    at_s - at_s % u64::from(step_s.max(1))
}

/// Steps put together to steps of this length, by time.
pub(crate) fn merged(steps: impl IntoIterator<Item = Step>, step_s: u32) -> Vec<Step> {
    let mut longer = std::collections::BTreeMap::<u64, Step>::new();
    for step in steps {
        let at_s = beginning(step.at_s, step_s);
        longer.entry(at_s).or_insert(Step { at_s, ..Step::default() }).merge(&step);
    }
    longer.into_values().collect()
}
