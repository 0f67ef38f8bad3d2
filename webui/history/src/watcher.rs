//! Who looks at the statistics and keeps what they grew by.

use crate::Key;
use crate::files::{Files, FilesError, Places, Written};
use crate::growth::{Growth, went_back};
use crate::level::Level;
use crate::past::Past;
use crate::step::{Step, beginning};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use webui_model::{HistoryKind, IoStatistics, Statistics};

/// The counters of an object at the last look.
struct Counted {
    io: IoStatistics,
    seen_s: u64,
}

/// Steps of a kind that go to disk.
struct Window {
    level: Level,
    files: Files,
    disk: u64,
    step_s: u32,
    /// When the step began that is under way; nothing before the first look.
    at_s: Option<u64>,
    looks: u64,
    /// What was done in it so far, by those who did something.
    grown: BTreeMap<Key, Growth>,
}

impl Window {
    fn add(&mut self, end_s: u64, grown: &[(Key, Growth)]) {
        self.at_s = self.at_s.or(Some(beginning(end_s.saturating_sub(1), self.step_s)));
        self.looks += 1;
        for (key, growth) in grown.iter().filter(|(_, growth)| !growth.is_idle()) {
            self.grown.entry(key.clone()).or_default().after(growth);
        }
    }

    /// Writes the step down if it is over, or `now`.
    fn close(
        &mut self,
        end_s: u64,
        now: bool,
        there: &BTreeSet<Key>,
        bounds: &[u64],
    ) -> Result<(), FilesError> {
        let Some(at_s) = self.at_s else { return Ok(()) };
        let ends_s = at_s + u64::from(self.step_s);
        if (end_s < ends_s && end_s >= at_s && !now) || self.looks == 0 {
            return Ok(());
        }
        let grown = std::mem::take(&mut self.grown);
        let step = |(key, growth): (Key, Growth)| {
            let step = growth.over(self.looks).step(at_s, self.step_s, bounds);
            (key, step)
        };
        let steps: BTreeMap<Key, Step> = grown.into_iter().map(step).collect();
        let mut there = there.clone();
        there.extend(steps.keys().cloned());
        let objects = there.len();
        let written = Written { at_s, until_ms: end_s * 1000, there, steps };
        let done = self.files.write(self.step_s, &written);
        self.step_s = self.level.step(objects, self.disk);
        self.at_s = Some(beginning(end_s, self.step_s));
        self.looks = 0;
        done
    }
}

/// Looks, keeps, and writes.
pub struct Watcher {
    past: Arc<Past>,
    counted: BTreeMap<Key, Counted>,
    /// Upper ends of the histograms' buckets in nanoseconds; none before something was counted.
    bounds: Vec<u64>,
    there: BTreeSet<Key>,
    end_s: u64,
    windows: Vec<Window>,
}

fn window(
    folder: &Path,
    disk: u64,
    level: Level,
    kind: &'static str,
) -> Result<Window, FilesError> {
    let places = Places { folder: folder.to_owned(), kind };
    let files = Files::open(places, level.bytes(disk))?;
    let (step_s, at_s, grown) = (level.shortest(), None, BTreeMap::new());
    Ok(Window { level, files, disk, step_s, at_s, looks: 0, grown })
}

/// Puts minutes that no frame of hours has into hours.
fn catch_up(minutes: &Window, hours: &mut Window) -> Result<(), FilesError> {
    let failed =
        |error: std::io::Error| FilesError(format!("The history cannot be read: {error}."));
    let until_ms = hours.files.places().until_ms(hours.files.limit()).map_err(failed)?;
    let missing = minutes.files.places().since(minutes.files.limit(), until_ms).map_err(failed)?;
    let objects = missing.last().map_or(0, |written| written.there.len());
    hours.step_s = hours.level.step(objects, hours.disk);
    let mut all = BTreeMap::<u64, Written>::new();
    for written in missing {
        let at_s = beginning(written.at_s, hours.step_s);
        let sum = all.entry(at_s).or_insert(Written { at_s, ..Written::default() });
        sum.until_ms = sum.until_ms.max(written.until_ms);
        sum.there.extend(written.there);
        for (key, step) in written.steps {
            sum.steps.entry(key).or_insert(Step { at_s, ..Step::default() }).merge(&step);
        }
    }
    all.into_values().try_for_each(|written| hours.files.write(hours.step_s, &written))
}

impl Watcher {
    /// Keeps seconds in memory alone.
    pub fn in_memory() -> Watcher {
        Watcher::over(Vec::new(), 0)
    }

    /// Keeps minutes and hours in this folder, too, in no more than `bytes`, of which there are
    /// [`MIN_BYTES`](crate::MIN_BYTES) at least.
    ///
    /// # Errors
    /// A sentence: the folder cannot be made, read or written.
    pub fn on_disk(folder: &Path, bytes: u64) -> Result<Watcher, FilesError> {
        let made = match std::fs::create_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        };
        made.map_err(|error| {
            let folder = folder.display();
            FilesError(format!("The history in {folder} cannot be kept: {error}."))
        })?;
        let minutes = window(folder, bytes, Level::Minutes, "minutes")?;
        let mut hours = window(folder, bytes, Level::Hours, "hours")?;
        catch_up(&minutes, &mut hours)?;
        Ok(Watcher::over(vec![minutes, hours], bytes))
    }

    fn over(windows: Vec<Window>, disk: u64) -> Watcher {
        let places = windows.iter().map(|w| (w.files.places().clone(), w.files.limit())).collect();
        Watcher {
            past: Arc::new(Past::new(places, disk)),
            counted: BTreeMap::new(),
            bounds: Vec::new(),
            there: BTreeSet::new(),
            end_s: 0,
            windows,
        }
    }

    /// For whoever asks.
    pub fn past(&self) -> Arc<Past> {
        self.past.clone()
    }

    /// How long to wait for the next look, at this time in milliseconds since 1970.
    pub fn wait(&self, now_ms: u64) -> Duration {
        let step_ms = u64::from(self.past.step_s()) * 1000;
        Duration::from_millis(step_ms - now_ms % step_ms)
    }

    /// Takes the counters of one moment.
    ///
    /// # Errors
    /// A sentence: what was to be written was not. What is in memory is right, and the next look goes on.
    pub fn look(&mut self, statistics: Statistics) -> Result<(), FilesError> {
        let step_s = self.past.step_s();
        let half_ms = u64::from(step_s) * 500;
        let end_s = beginning(statistics.at_ms.saturating_add(half_ms) / 1000, step_s).max(1);
        let grown = self.grown(statistics, end_s);
        let step =
            |(key, growth): &(Key, Growth)| (key.clone(), growth.step(0, step_s, &self.bounds));
        let steps: Vec<(Key, Step)> = grown.iter().map(step).collect();
        self.past.take(end_s, &self.bounds, &steps);
        self.there = grown.iter().map(|(key, _)| key.clone()).collect();
        self.end_s = end_s;
        self.windows.iter_mut().for_each(|window| window.add(end_s, &grown));
        self.write(false)
    }

    /// Writes what there is of the steps under way: it is going to end.
    ///
    /// # Errors
    /// A sentence: it cannot be written.
    pub fn end(&mut self) -> Result<(), FilesError> {
        self.write(true)
    }

    fn write(&mut self, now: bool) -> Result<(), FilesError> {
        let mut done = Ok(());
        for window in &mut self.windows {
            done = done.and(window.close(self.end_s, now, &self.there, &self.bounds));
        }
        let steps: Vec<u32> = self.windows.iter().map(|window| window.step_s).collect();
        let left_out = self.windows.iter().map(|window| window.files.left_out()).max();
        self.past.now(&steps, left_out.unwrap_or(0));
        done
    }

    /// What everything did since the last look.
    fn grown(&mut self, statistics: Statistics, end_s: u64) -> Vec<(Key, Growth)> {
        let Statistics { volumes, hosts, devices, pools, .. } = statistics;
        let mut all = Growth::idle();
        let pools = pools.into_iter().map(|pool| (pool.pool.to_string(), Growth::idle()));
        let mut pools: BTreeMap<String, Growth> = pools.collect();
        let mut grown = Vec::with_capacity(volumes.len() + hosts.len() + devices.len());
        for volume in volumes {
            let (pool, name) = (volume.pool, volume.volume);
            let full = pool.as_ref().map_or(name.to_string(), |pool| format!("{pool}/{name}"));
            let key = (HistoryKind::Volume, full);
            let growth = self.growth(&key, volume.io, end_s);
            all.beside(&growth);
            if let Some(pool) = pool {
                pools.entry(pool.to_string()).or_insert_with(Growth::idle).beside(&growth);
            }
            grown.push((key, growth));
        }
        for host in hosts {
            let key = (HistoryKind::Host, host.host.to_string());
            let growth = self.growth(&key, host.io, end_s);
            grown.push((key, growth));
        }
        for device in devices {
            let key = (HistoryKind::Device, device.device.to_string());
            let growth = self.growth(&key, device.io, end_s);
            grown.push((key, growth));
        }
        grown.push(((HistoryKind::Appliance, String::new()), all));
        grown.extend(pools.into_iter().map(|(pool, growth)| ((HistoryKind::Pool, pool), growth)));
        let from_s = end_s.saturating_sub(Level::Seconds.reach());
        self.counted.retain(|_, counted| counted.seen_s >= from_s);
        grown
    }

    /// What an object did since the last look.
    fn growth(&mut self, key: &Key, mut io: IoStatistics, end_s: u64) -> Growth {
        let bounds = std::mem::take(&mut io.read_latency.bounds_ns);
        io.write_latency.bounds_ns = Vec::new();
        if self.bounds.is_empty() {
            self.bounds = bounds;
        }
        let is_host = key.0 == HistoryKind::Host;
        let Some(counted) = self.counted.get_mut(key) else {
            // The counters of a host that was here before go on when it comes back.
            let came_back = is_host && self.end_s != 0;
            let growth = Growth::between(&io, if came_back { Some(&io) } else { None });
            self.counted.insert(key.clone(), Counted { io, seen_s: end_s });
            return growth;
        };
        counted.seen_s = end_s;
        let back = went_back(&io, &counted.io);
        if back && is_host {
            // What a host did on a controller that ends just now is counted in a moment.
            return Growth::between(&io, Some(&io));
        }
        let growth = Growth::between(&io, if back { None } else { Some(&counted.io) });
        counted.io = io;
        growth
    }
}
