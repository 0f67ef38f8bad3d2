//! Steps in memory: a ring for each object.

use crate::Key;
use crate::level::{Level, SLOT_BYTES};
use crate::step::{Step, Times, beginning};
use std::collections::{BTreeMap, VecDeque};

/// Objects that there is a history of at most; of more, the first.
const OBJECTS: usize = 100_000;

/// A step as it is kept. Latencies are numbers of buckets, from 1; 0: none.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Slot {
    read_bytes: u64,
    write_bytes: u64,
    at_s: u32,
    reads: u32,
    writes: u32,
    errors: u32,
    depth: f32,
    seconds: u16,
    times: [u8; 4],
}

const _: () = assert!(size_of::<Slot>() as u64 <= SLOT_BYTES);

fn number(bounds: &[u64], ns: Option<u64>) -> u8 {
    let at = ns.map(|ns| bounds.partition_point(|bound| *bound < ns) + 1);
    at.map_or(0, |at| u8::try_from(at).unwrap_or(u8::MAX))
}

fn bound(bounds: &[u64], number: u8) -> Option<u64> {
    let at = usize::from(number).checked_sub(1)?;
    bounds.get(at).or(bounds.last()).copied()
}

impl Slot {
    fn of(step: &Step, bounds: &[u64]) -> Slot {
        let short = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        let Times { p50, p99 } = step.read_times;
        let writes = step.write_times;
        Slot {
            read_bytes: step.read_bytes,
            write_bytes: step.write_bytes,
            at_s: short(step.at_s),
            reads: short(step.reads),
            writes: short(step.writes),
            errors: short(step.errors),
            depth: step.depth as f32,
            seconds: u16::try_from(step.seconds).unwrap_or(u16::MAX),
            times: [p50, p99, writes.p50, writes.p99].map(|ns| number(bounds, ns)),
        }
    }

    fn step(&self, bounds: &[u64]) -> Step {
        let [p50, p99, write_p50, write_p99] = self.times.map(|number| bound(bounds, number));
        Step {
            at_s: self.at_s.into(),
            seconds: self.seconds.into(),
            reads: self.reads.into(),
            writes: self.writes.into(),
            read_bytes: self.read_bytes,
            write_bytes: self.write_bytes,
            errors: self.errors.into(),
            depth: self.depth.into(),
            read_times: Times { p50, p99 },
            write_times: Times { p50: write_p50, p99: write_p99 },
        }
    }

    /// Equal parts of what was done in `parts` steps that nobody looked in between, the rest in the last.
    fn share(&self, parts: u32, last: bool) -> Slot {
        let of = |n: u64| n / u64::from(parts) + if last { n % u64::from(parts) } else { 0 };
        let short = |n: u32| of(n.into()) as u32;
        Slot {
            read_bytes: of(self.read_bytes),
            write_bytes: of(self.write_bytes),
            reads: short(self.reads),
            writes: short(self.writes),
            errors: short(self.errors),
            ..*self
        }
    }
}

/// Steps of all objects, for an hour.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    rings: BTreeMap<Key, VecDeque<Slot>>,
    /// Upper ends of the histograms' buckets, in nanoseconds.
    bounds: Vec<u64>,
    /// The length of steps now.
    step_s: u32,
    /// The end of the last step.
    end_s: u64,
}

impl Memory {
    pub(crate) fn objects(&self) -> usize {
        self.rings.len()
    }

    pub(crate) fn step_s(&self) -> u32 {
        self.step_s.max(1)
    }

    /// Takes what objects did since the last look, which ended at `end_s`. More steps than one get the
    /// same each: their sum is what was done.
    pub(crate) fn take(&mut self, end_s: u64, bounds: &[u64], steps: &[(Key, Step)]) {
        let step_s = self.step_s();
        if !bounds.is_empty() && self.bounds != bounds {
            self.rings.clear();
            self.bounds = bounds.to_vec();
        }
        let since = end_s.checked_sub(self.end_s).filter(|_| self.end_s != 0);
        if since.is_none() && self.end_s != 0 {
            // The clock was set back: what was before is from the future.
            self.rings.clear();
        }
        let parts = since.map_or(1, |since| since / u64::from(step_s)).clamp(1, 3600) as u32;
        self.end_s = end_s;
        for (key, step) in steps {
            if self.rings.len() >= OBJECTS && !self.rings.contains_key(key) {
                continue;
            }
            let whole = Slot::of(step, bounds);
            let ring = self.rings.entry(key.clone()).or_default();
            // What is new has done all of it in the last one.
            let parts = if ring.is_empty() { 1 } else { parts };
            for part in (0..parts).rev() {
                let at_s = beginning(end_s - 1, step_s).saturating_sub(u64::from(part * step_s));
                let at_s = u32::try_from(at_s).unwrap_or(u32::MAX);
                let slot = Slot { at_s, seconds: step_s as u16, ..whole.share(parts, part == 0) };
                match ring.back_mut() {
                    // Steps have become longer, or the clock was set back a little.
                    Some(last) if last.at_s >= at_s => {
                        let mut both = last.step(&self.bounds);
                        both.merge(&slot.step(&self.bounds));
                        *last = Slot::of(&both, &self.bounds);
                    }
                    _ => ring.push_back(slot),
                }
            }
        }
        self.forget();
        self.fit();
    }

    /// Forgets what is older than an hour, and objects of which nothing is left.
    fn forget(&mut self) {
        let from = self.end_s.saturating_sub(Level::Seconds.reach());
        self.rings.retain(|_, ring| {
            while ring.front().is_some_and(|slot| u64::from(slot.at_s) < from) {
                ring.pop_front();
            }
            !ring.is_empty()
        });
    }

    /// Makes steps as long as so many objects need. What is kept is put together to such steps.
    fn fit(&mut self) {
        let fits = Level::Seconds.step(self.rings.len(), 0);
        // Shorter ones again only for clearly fewer objects.
        let shorter = Level::Seconds.step(self.rings.len() / 4 * 5, 0);
        let step_s = if fits < self.step_s { shorter } else { fits };
        if step_s > self.step_s && self.step_s != 0 {
            for ring in self.rings.values_mut() {
                let steps = ring.iter().map(|slot| slot.step(&self.bounds));
                let longer = crate::step::merged(steps, step_s);
                *ring = longer.iter().map(|step| Slot::of(step, &self.bounds)).collect();
            }
        }
        self.step_s = step_s;
    }

    /// Steps of an object, oldest first; nothing if it is not known.
    pub(crate) fn steps(&self, key: &Key) -> Option<Vec<Step>> {
        let ring = self.rings.get(key)?;
        Some(ring.iter().map(|slot| slot.step(&self.bounds)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use webui_model::HistoryKind::Volume;

    const BOUNDS: [u64; 3] = [10, 20, 40];

    fn done(reads: u64) -> Step {
        Step { seconds: 1, reads, read_bytes: reads * 4096, ..Step::default() }
    }

    fn key(n: usize) -> Key {
        (Volume, format!("tank/{n}"))
    }

    proptest! {
        /// Whatever looks come late, and however many objects there are, all that was done within
        /// the hour is there, once, in steps that rise.
        #[test]
        fn nothing_is_lost_or_counted_twice(
            looks in prop::collection::vec((1_u64..20, 0_u64..1000, 1_usize..1500), 1..60),
        ) {
            let (mut memory, mut now, mut sum) = (Memory::default(), 1_000_000, 0);
            for (after, reads, objects) in looks {
                now = beginning(now + after * u64::from(memory.step_s()), memory.step_s());
                let steps: Vec<_> = (0..objects).map(|n| (key(n), done(reads))).collect();
                let before = now - memory.end_s;
                if memory.end_s != 0 && before > 3000 { return Ok(()); }
                memory.take(now, &BOUNDS, &steps);
                sum += reads;
                if now - 1_000_000 > 3000 { break; }
            }
            let steps = memory.steps(&key(0)).unwrap();
            prop_assert_eq!(steps.iter().map(|step| step.reads).sum::<u64>(), sum);
            prop_assert_eq!(steps.iter().map(|step| step.read_bytes).sum::<u64>(), sum * 4096);
            prop_assert!(steps.windows(2).all(|pair| pair[0].at_s < pair[1].at_s));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let (mut memory, mut now) = (Memory::default(), 1_000_000);
        for look in 0..4000 {
            now = beginning(now + u64::from(memory.step_s()), memory.step_s());
            let objects = [10, 300, 1500][look / 1400];
            let steps: Vec<_> = (0..objects).map(|n| (key(n), done(1))).collect();
            memory.take(now, &BOUNDS, &steps);
        }
        assert_eq!(memory.step_s(), 10);
        let slots: usize = memory.rings.values().map(VecDeque::len).sum();
        assert!(slots as u64 * SLOT_BYTES <= Level::Seconds.bytes(0), "{slots} steps");
        assert_eq!(memory.rings[&key(0)].len(), 360);
    }

    #[test]
    fn what_is_gone_ages_out_and_a_clock_that_goes_back_starts_anew() {
        let mut memory = Memory::default();
        memory.take(1000, &BOUNDS, &[(key(0), done(1)), (key(1), done(1))]);
        memory.take(3000, &BOUNDS, &[(key(1), done(1))]);
        assert!(memory.steps(&key(0)).is_some());
        memory.take(4700, &BOUNDS, &[(key(1), done(1))]);
        assert!(memory.steps(&key(0)).is_none());
        memory.take(500, &BOUNDS, &[(key(1), done(7))]);
        assert_eq!(memory.steps(&key(1)).unwrap().len(), 1);
    }
}
