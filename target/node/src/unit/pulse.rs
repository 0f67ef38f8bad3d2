//! Whether a device still answers.

use std::time::{Duration, Instant};

/// With operations under way and none that ends for so long, a device hangs.
pub const HANGS: Duration = Duration::from_secs(3);

/// What was counted at a device at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Operations under way.
    pub under_way: u64,
    /// Operations that have ended, well or not, since it was opened.
    pub ended: u64,
}

/// A device that hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// Since when nothing has ended, at the latest.
    pub since: Instant,
    /// Operations that wait.
    pub under_way: u64,
}

/// One device, looked at now and then.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    ended: u64,
    waits: Option<Stall>,
}

impl Pulse {
    /// Takes in what was counted at `now`. What hangs, if it does.
    pub fn step(&mut self, sample: Sample, now: Instant) -> Option<Stall> {
        let Sample { under_way, ended } = sample;
        if under_way == 0 || ended != self.ended {
            self.waits = None;
        }
        self.ended = ended;
        if under_way > 0 {
            self.waits.get_or_insert(Stall { since: now, under_way }).under_way = under_way;
        }
        self.stall(now)
    }

    /// What hangs at `now`, as far as was seen.
    pub fn stall(&self, now: Instant) -> Option<Stall> {
        self.waits.filter(|stall| now.saturating_duration_since(stall.since) >= HANGS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn sample(under_way: u64, ended: u64) -> Sample {
        Sample { under_way, ended }
    }

    #[test]
    fn what_waits_and_does_not_end_hangs() {
        let (mut pulse, start) = (Pulse::default(), Instant::now());
        assert_eq!(pulse.step(sample(0, 0), start), None);
        assert_eq!(pulse.step(sample(2, 7), start), None);
        assert_eq!(pulse.step(sample(2, 8), start + 2 * SECOND), None, "one has ended");
        assert_eq!(pulse.step(sample(3, 8), start + 4 * SECOND), None);
        let stall = Some(Stall { since: start + 2 * SECOND, under_way: 3 });
        assert_eq!(pulse.step(sample(3, 8), start + 5 * SECOND), stall);
        assert_eq!(pulse.stall(start + 60 * SECOND), stall);
        assert_eq!(pulse.step(sample(2, 9), start + 61 * SECOND), None, "it answers again");
        assert_eq!(pulse.step(sample(0, 9), start + 90 * SECOND), None, "idle is not hung");
    }

    proptest! {
        /// A device hangs when, at every look for three seconds, something was under way and nothing
        /// had ended: said from the look at which that began, as soon as it is so, and no longer.
        #[test]
        fn it_hangs_when_nothing_ends_for_three_seconds_of_looks(
            looks in prop::collection::vec((0..2500_u64, 0..3_u64, 0..2_u64), 1..80),
        ) {
            let (mut pulse, mut now) = (Pulse::default(), Instant::now());
            let mut seen: Vec<(Instant, Sample)> = Vec::new();
            for (ms, under_way, ends) in looks {
                now += Duration::from_millis(ms);
                let ended = seen.last().map_or(0, |(_, last)| last.ended) + ends;
                seen.push((now, Sample { under_way, ended }));
                let waits = |look: &&(Instant, Sample)| look.1.under_way > 0 && look.1.ended == ended;
                let since = seen.iter().rev().take_while(waits).last().map(|look| look.0);
                let hangs = since.filter(|since| now - *since >= HANGS);
                let expected = hangs.map(|since| Stall { since, under_way });
                prop_assert_eq!(pulse.step(Sample { under_way, ended }, now), expected);
                prop_assert_eq!(pulse.stall(now), expected);
            }
        }
    }
}
