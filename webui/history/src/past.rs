//! What is known of the past, for whoever asks.

use crate::Key;
use crate::files::Places;
use crate::level::Level;
use crate::memory::Memory;
use crate::step::{Step, merged};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use webui_model::{History, HistoryKind, HistoryQuery, Refusal, count};

/// Steps of an answer at most.
const STEPS: u64 = 4000;

/// What is known of the past.
#[derive(Debug)]
pub struct Past {
    /// Held for as long as a look is taken in, or the steps of one object are copied.
    memory: Mutex<Memory>,
    /// Minutes and hours, each with the bytes of a file at most; none: memory only.
    disk: Vec<(Places, u64)>,
    /// Bytes on disk at most.
    bytes: u64,
    /// Steps on disk in seconds, as they are written now.
    steps: [AtomicU32; 2],
    left_out: AtomicUsize,
}

/// Steps that were found.
struct Found {
    level: Level,
    steps: Vec<Step>,
    known: bool,
}

impl Past {
    pub(crate) fn new(disk: Vec<(Places, u64)>, bytes: u64) -> Past {
        let steps = [Level::Minutes, Level::Hours].map(|level| AtomicU32::new(level.shortest()));
        Past { memory: Mutex::default(), disk, bytes, steps, left_out: AtomicUsize::new(0) }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self, end_s: u64, bounds: &[u64], steps: &[(Key, Step)]) {
        self.memory().take(end_s, bounds, steps);
    }

    pub(crate) fn now(&self, steps: &[u32], left_out: usize) {
        self.steps.iter().zip(steps).for_each(|(at, step)| at.store(*step, Ordering::Relaxed));
        self.left_out.store(left_out, Ordering::Relaxed);
    }

    /// The length of steps in memory, in seconds: how often to look.
    pub fn step_s(&self) -> u32 {
        self.memory().step_s()
    }

    /// How an object performed.
    ///
    /// # Errors
    /// `Invalid` for a time that ends before it begins, or a name where none or one is needed;
    /// `NotFound` where nothing is known of the object; `Device` if the disk does not read.
    pub fn answer(&self, query: &HistoryQuery, now_ms: u64) -> Result<History, Refusal> {
        let key = key_of(query)?;
        let to_ms = query.to_ms.unwrap_or(now_ms);
        let hour_ms = Level::Seconds.reach() * 1000;
        let from_ms = query.from_ms.unwrap_or(to_ms.saturating_sub(hour_ms));
        if from_ms >= to_ms {
            return Err(Refusal::invalid("from_ms is not before to_ms."));
        }
        if query.step_s == Some(0) {
            return Err(Refusal::invalid("step_s is 0: give a number of seconds."));
        }
        let from_s = from_ms / 1000;
        let level = self.level(from_s, now_ms / 1000, query.step_s.unwrap_or(1));
        let found = self.found(level, &key, from_s, now_ms)?;
        let level = found.level;
        if !found.known {
            return Err(Refusal::not_found(unknown(&key)));
        }
        let is_in_time = |step: &Step| {
            let ends_ms = step.at_s.saturating_add(step.seconds.into()).saturating_mul(1000);
            ends_ms > from_ms && step.at_s.saturating_mul(1000) < to_ms
        };
        let steps: Vec<Step> = found.steps.into_iter().filter(is_in_time).collect();
        let step_s = self.length(level, &steps, query.step_s.unwrap_or(1));
        Ok(history(key, step_s, self.reason(found.level, step_s), &merged(steps, step_s)))
    }

    /// The shortest steps that are kept for so long.
    fn level(&self, from_s: u64, now_s: u64, least: u32) -> Level {
        let [minutes, _] = [0, 1].map(|at| self.steps[at].load(Ordering::Relaxed));
        // A little more: who asks for the last hour asks a moment after it has begun.
        let reaches = |level: Level| from_s.saturating_add(level.reach() + 60) >= now_s;
        match () {
            () if self.disk.is_empty() => Level::Seconds,
            () if reaches(Level::Seconds) && least < minutes.max(60) => Level::Seconds,
            () if reaches(Level::Minutes) && least < Level::Hours.shortest() => Level::Minutes,
            () => Level::Hours,
        }
    }

    /// As [`Past::find`]; minutes where the process has not been there for as long as is asked about.
    fn found(&self, level: Level, key: &Key, from_s: u64, now_ms: u64) -> Result<Found, Refusal> {
        let found = self.find(level, key, from_s, now_ms)?;
        let begins = |found: &Found| found.steps.first().map_or(u64::MAX, |step| step.at_s);
        let is_short = begins(&found) > from_s.saturating_add(60);
        if level == Level::Seconds && is_short && !self.disk.is_empty() {
            let longer = self.find(Level::Minutes, key, from_s, now_ms)?;
            if begins(&longer).saturating_add(60) < begins(&found) {
                return Ok(longer);
            }
        }
        Ok(found)
    }

    /// Steps of this length, and shorter ones behind the last that is written.
    fn find(&self, level: Level, key: &Key, from_s: u64, now_ms: u64) -> Result<Found, Refusal> {
        let (mut steps, mut known, mut after_ms) = (Vec::new(), false, 0);
        let on_disk = match level {
            Level::Seconds => &[],
            Level::Minutes => &self.disk[..1],
            Level::Hours => &self.disk[..],
        };
        for (places, limit) in on_disk.iter().rev() {
            // What was written before the clock was set back is not what is newest.
            let until = (after_ms, now_ms.saturating_add(1000));
            let (found, until_ms) = places.steps(*limit, key, from_s, until).map_err(|error| {
                Refusal::device(format!("The history cannot be read: {error}."))
            })?;
            known |= found.is_some();
            steps.extend(found.into_iter().flatten());
            after_ms = after_ms.max(until_ms);
        }
        let in_memory = self.memory().steps(key);
        known |= in_memory.is_some();
        let newer = in_memory.into_iter().flatten();
        steps.extend(newer.filter(|step| step.at_s >= after_ms / 1000));
        Ok(Found { level, steps, known })
    }

    /// The length of steps of an answer: that of the longest, and so long that they are not too many.
    fn length(&self, level: Level, steps: &[Step], least: u32) -> u32 {
        let now = match level {
            Level::Seconds => self.step_s(),
            Level::Minutes => self.steps[0].load(Ordering::Relaxed),
            Level::Hours => self.steps[1].load(Ordering::Relaxed),
        };
        let kept = steps.iter().map(|step| step.seconds).max().unwrap_or(now).max(now);
        let first = steps.iter().map(|step| step.at_s).min().unwrap_or(0);
        let span = steps.iter().map(|step| step.at_s - first).max().unwrap_or(0);
        let fewest = u32::try_from(span / STEPS + 1).unwrap_or(u32::MAX).max(least);
        kept.saturating_mul(fewest.div_ceil(kept).max(1))
    }

    fn reason(&self, level: Level, step_s: u32) -> String {
        let objects = self.memory().objects();
        let longer =
            match step_s > level.shortest() && level.step(objects, self.bytes) > level.shortest() {
                true => format!(", so long because there are {}", count(objects, "object")),
                false => String::new(),
            };
        let (kept, place) = match level {
            Level::Seconds if self.disk.is_empty() => {
                ("for an hour", "in memory only: [history] size in the configuration is off")
            }
            Level::Seconds => ("for an hour", "in memory"),
            Level::Minutes => ("for a day", "on disk"),
            Level::Hours => ("for a month", "on disk"),
        };
        let mut reason = format!("Steps of {}{longer}, kept {kept} {place}.", words(step_s));
        let left_out = self.left_out.load(Ordering::Relaxed);
        if left_out > 0 && level != Level::Seconds {
            let left_out = count(left_out, "object");
            reason.push_str(&format!(
                " There is no room for {left_out}: give [history] a larger size."
            ));
        }
        reason
    }
}

/// A length of steps in words.
fn words(step_s: u32) -> String {
    match step_s {
        s if s >= 3600 && s % 3600 == 0 => count((s / 3600) as usize, "hour"),
        s if s >= 60 && s % 60 == 0 => count((s / 60) as usize, "minute"),
        s => count(s as usize, "second"),
    }
}

fn key_of(query: &HistoryQuery) -> Result<Key, Refusal> {
    let kind = query.kind;
    match (&query.name, kind) {
        (None, HistoryKind::Appliance) => Ok((kind, String::new())),
        (Some(_), HistoryKind::Appliance) => {
            Err(Refusal::invalid("name is given, and the appliance has none: leave it out."))
        }
        (Some(name), _) => Ok((kind, name.clone())),
        (None, _) => {
            let kind = kind.as_str();
            Err(Refusal::invalid(format!("name is missing: say which {kind}.")))
        }
    }
}

fn unknown((kind, name): &Key) -> String {
    match kind {
        HistoryKind::Appliance => "Nothing is known yet: the first step is under way.".into(),
        HistoryKind::Volume => format!(
            "Nothing is known of a volume {name}: give it as POOL/VOLUME. One has a history from when \
             it is exported."
        ),
        kind => format!("Nothing is known of a {} {name}.", kind.as_str()),
    }
}

fn history(key: Key, step_s: u32, reason: String, steps: &[Step]) -> History {
    fn list<T>(steps: &[Step], of: fn(&Step) -> T) -> Vec<T> {
        steps.iter().map(of).collect()
    }
    let (kind, name) = key;
    History {
        kind,
        name: (kind != HistoryKind::Appliance).then_some(name),
        step_s,
        reason,
        at_ms: list(steps, |step| step.at_s.saturating_mul(1000)),
        reads: list(steps, |step| step.reads),
        writes: list(steps, |step| step.writes),
        read_bytes: list(steps, |step| step.read_bytes),
        write_bytes: list(steps, |step| step.write_bytes),
        errors: list(steps, |step| step.errors),
        queue_depth: list(steps, |step| (step.depth * 1000.0).round() / 1000.0),
        read_p50_ns: list(steps, |step| step.read_times.p50),
        read_p99_ns: list(steps, |step| step.read_times.p99),
        write_p50_ns: list(steps, |step| step.write_times.p50),
        write_p99_ns: list(steps, |step| step.write_times.p99),
    }
}
