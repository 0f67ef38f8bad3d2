//! Looks at what is wanted and not there, has it opened, and publishes why it is missing: at the
//! start, every second, and when something has come. The machines of [`crate::unit`] say what is due;
//! here it is begun, on the executor, and its end is told to them.

use super::listen::listener_claim;
use super::{Node, time_of};
use crate::executor::Task;
use crate::published::Published;
use crate::unit::attempt::{self, Attempt, Try};
use crate::unit::backoff::Waits;
use crate::unit::pool::{self, Outcome, PoolUnit, Seen};
use crate::unit::pulse::{Pulse, Stall};
use crate::unit::schedule::{Claim, Key};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use wanted::{Declared, Device, DeviceSpec, ListenAt, Listener, Namespace, Pool, Request, Wanted};
use webui_model::{Address, ListenerCreate, ObjectKind};

/// How long the start waits for what is wanted.
const START: Duration = Duration::from_secs(10);

/// How long it waits for a remote target, which may be off.
const START_REMOTE: Duration = Duration::from_secs(2);

/// How long a request waits for what comes back with what it has brought.
const SETTLE: Duration = Duration::from_secs(5);

/// What is being opened for so long is said to be.
const SLOW: Duration = Duration::from_secs(3);

/// How long opening something may take before it counts as hung.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

/// How long it is between two tries.
const WAITS: Waits = Waits {
    first: Duration::from_secs(1),
    most: Duration::from_secs(5),
    lasting: Duration::from_secs(60),
};

/// The same, of remote targets: each try is a connection there.
const WAITS_REMOTE: Waits = Waits { most: Duration::from_secs(30), ..WAITS };

/// What is wanted and not there, and why, in sentences.
#[derive(Clone, Debug, Default)]
pub(crate) struct Missing {
    /// By name.
    pub devices: BTreeMap<String, String>,
    /// By name.
    pub pools: BTreeMap<String, String>,
    /// Pools that are being opened, or whose volumes are being exported.
    pub opening: BTreeSet<String>,
    /// When a pool is tried next that waits because a device does not work.
    pub next_tries: BTreeMap<String, Instant>,
    /// By NQN.
    pub subsystems: BTreeMap<String, String>,
    /// By NQN and number.
    pub namespaces: BTreeMap<(String, u32), String>,
    /// By fabric and address.
    pub listeners: BTreeMap<ListenAt, String>,
    /// Devices that are there and do not answer.
    pub stalls: BTreeMap<String, Stall>,
}

/// Something that operators hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It was missing, and is there.
    Back(ObjectKind, String),
    /// A pool that had failed is open again.
    Reopened(String),
    /// A device does not answer, and since when.
    Stalls(String, String),
    /// It answers again.
    Answers(String),
}

#[derive(Default)]
pub(super) struct Machines {
    devices: BTreeMap<String, Attempt>,
    pools: BTreeMap<String, PoolUnit>,
    subsystems: BTreeMap<String, String>,
    namespaces: BTreeMap<(String, u32), Attempt>,
    listeners: BTreeMap<ListenAt, Attempt>,
    pub(super) pulses: BTreeMap<String, Pulse>,
    pub(super) stalls: BTreeMap<String, Stall>,
    /// Subsystems are being made.
    makes_subsystems: bool,
    /// Pools whose volumes are being exported.
    exporting: BTreeSet<String>,
    /// Namespaces may be wanted that are not served.
    exports_due: bool,
    /// Listeners are opened from now on.
    listening: bool,
}

/// The machines, and what they have to say.
#[derive(Default)]
pub(super) struct Units {
    pub(super) machines: Mutex<Machines>,
    missing: Published<Missing>,
    news: Mutex<Vec<News>>,
    pub(super) erased: Mutex<Vec<(u64, drives::Progress)>>,
    /// Something has ended.
    changed: Condvar,
    pub(super) looks_at_drives: AtomicBool,
    pub(super) looks_at_erasures: AtomicBool,
}

/// What is to be done.
enum Effect {
    Open(Box<Device>, u64),
    Pool(Box<Pool>, pool::Effect),
    Subsystems(Vec<String>),
    Export(Vec<(Namespace, u64)>),
    Listen(Listener, u64),
}

/// How exporting something has ended; none where somebody else was at work on it.
type Exported = Option<Result<(), String>>;

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_remote(device: &Device) -> bool {
    matches!(device.spec, DeviceSpec::Remote(_))
}

/// Listens where it is wanted, unless something does, or a listener that is open is in the way.
fn listen(node: &Node, listener: Listener) -> Result<(), String> {
    let Listener { address, discovery_only, transport } = listener;
    let at = listener.at();
    let configured = node.wanted().listener(at).map(|listener| listener.is_configured());
    let configured = configured.ok_or_else(|| "nobody wants it any more.".to_owned())?;
    if node.listeners().is_open(at) {
        return Ok(());
    }
    let create = ListenerCreate { transport, address: Address(address), discovery_only };
    let free = wanted::edit(&Wanted::default(), &Request::CreateListener(create), node);
    free.map_err(|refusal| refusal.message)?;
    node.listeners().listen_on(at, discovery_only, configured)
}

/// See the module.
#[derive(Clone, Copy)]
pub(crate) struct Supervisor<'a> {
    pub(super) node: &'a Node,
}

/// Forgets what is there, and says so of what was missing.
fn keep_missing<K: Ord + Clone>(
    units: &mut BTreeMap<K, Attempt>,
    is_missing: impl Fn(&K) -> bool,
    mut is_back: impl FnMut(&K),
) {
    units.retain(|key, unit| {
        let stays = is_missing(key);
        if !stays && unit.was_missing() {
            is_back(key);
        }
        stays
    });
}

/// Why something is missing, in a sentence; none while it is too early to say.
fn why(unit: &Attempt, now: Instant) -> Option<String> {
    match (unit.tried_since(), unit.why()) {
        (Some(since), _) if now.saturating_duration_since(since) >= SLOW => {
            Some(format!("it has been tried since {}, without an answer.", time_of(since)))
        }
        (_, why) => why.map(str::to_owned),
    }
}

impl<'a> Supervisor<'a> {
    pub(super) fn units(self) -> &'a Units {
        &self.node.units
    }

    /// What is missing.
    pub(crate) fn missing(self) -> Arc<Missing> {
        self.units().missing.get()
    }

    /// What operators have not heard of yet.
    pub(crate) fn take_news(self) -> Vec<News> {
        std::mem::take(&mut *lock(&self.units().news))
    }

    pub(super) fn tell(self, news: News) {
        lock(&self.units().news).push(news);
    }

    /// How far drives are that erase themselves.
    pub(crate) fn take_erased(self) -> Vec<(u64, drives::Progress)> {
        std::mem::take(&mut *lock(&self.units().erased))
    }

    /// Begins what is due, and publishes what is missing.
    pub(crate) fn step(self) {
        self.step_after(|_, _| ());
    }

    /// The same, after something has been told to the machines.
    fn step_after(self, tell: impl FnOnce(&mut Machines, Instant)) {
        let now = Instant::now();
        let mut machines = lock(&self.units().machines);
        tell(&mut machines, now);
        let mut effects = Vec::new();
        self.step_devices(&mut machines, now, &mut effects);
        self.step_pools(&mut machines, now, &mut effects);
        self.step_subsystems(&mut machines, &mut effects);
        self.step_namespaces(&mut machines, now, &mut effects);
        self.step_listeners(&mut machines, now, &mut effects);
        self.publish(&machines, now);
        drop(machines);
        for effect in effects {
            self.begin(effect);
        }
        self.units().changed.notify_all();
    }

    fn publish(self, machines: &Machines, now: Instant) {
        fn all<K: Ord + Clone>(units: &BTreeMap<K, Attempt>, now: Instant) -> BTreeMap<K, String> {
            units.iter().filter_map(|(key, unit)| Some((key.clone(), why(unit, now)?))).collect()
        }
        let pools = machines.pools.iter().filter(|(name, _)| self.node.pool(name).is_none());
        let pools = pools.filter_map(|(name, unit)| {
            let slow = |since: &Instant| now.saturating_duration_since(*since) >= SLOW;
            let busy = unit.busy_since().filter(slow);
            let busy = busy.map(|since| {
                let devices = self.stalled_among(machines, name);
                format!("it has been imported since {}{devices}.", time_of(since))
            });
            Some((name.clone(), busy.or_else(|| unit.why().map(str::to_owned))?))
        });
        let next =
            |(name, unit): (&String, &PoolUnit)| Some((name.clone(), now + unit.next_try(now)?));
        let busy = machines.pools.iter().filter(|(_, unit)| unit.is_busy());
        let opening = busy.map(|(name, _)| name.clone()).chain(machines.exporting.iter().cloned());
        self.units().missing.set(Missing {
            opening: opening.collect(),
            devices: all(&machines.devices, now),
            pools: pools.collect(),
            next_tries: machines.pools.iter().filter_map(next).collect(),
            subsystems: machines.subsystems.clone(),
            namespaces: all(&machines.namespaces, now),
            listeners: all(&machines.listeners, now),
            stalls: machines.stalls.clone(),
        });
    }

    /// Which devices a pool waits for, for the end of a sentence.
    fn stalled_among(self, machines: &Machines, pool: &str) -> String {
        let (table, user) = (self.node.bdevs.table(), super::provision::user(pool));
        let uses = |name: &&String| {
            table.get(*name).is_some_and(|slot| slot.user.as_deref() == Some(user.as_str()))
        };
        let stalled: Vec<&str> = machines.stalls.keys().filter(uses).map(String::as_str).collect();
        if stalled.is_empty() {
            String::new()
        } else {
            format!(", waiting for {}", stalled.join(", "))
        }
    }

    /// Every device that is wanted, by name: those of the configuration that may come later, too.
    fn step_devices(self, machines: &mut Machines, now: Instant, effects: &mut Vec<Effect>) {
        let table = self.node.bdevs.table();
        let wanted = self.node.wanted();
        let missing =
            |name: &String| wanted.device(name).is_some() && !table.contains_key(name.as_str());
        let mut came = false;
        keep_missing(&mut machines.devices, missing, |name| {
            came = true;
            tracing::info!("device {name} is there again");
            self.tell(News::Back(ObjectKind::Device, name.clone()));
        });
        if came {
            machines.pools.values_mut().for_each(|unit| unit.wait_no_more());
            machines.exports_due = true;
        }
        for device in wanted.devices() {
            let name = &device.name;
            if table.contains_key(name) {
                continue;
            }
            let is_remote = is_remote(device);
            let waits = if is_remote { WAITS_REMOTE } else { WAITS };
            let unit = machines.devices.entry(name.clone()).or_insert_with(|| Attempt::new(waits));
            let input = match device.spec.base() {
                Some(base) if !table.contains_key(base) => attempt::Input::Gone(format!(
                    "device {base}, which it is a layer over, is missing."
                )),
                _ => attempt::Input::Tick,
            };
            if let Some(Try(number)) = unit.step(input, now) {
                effects.push(Effect::Open(Box::new(device.item.clone()), number));
            }
        }
    }

    fn step_pools(self, machines: &mut Machines, now: Instant, effects: &mut Vec<Effect>) {
        let wanted = self.node.wanted();
        // The first try of a device of it has not ended, or of one that may say that it is.
        let first = |unit: &Attempt| {
            let since = unit.tried_since().filter(|_| unit.why().is_none());
            since.is_some_and(|since| now.saturating_duration_since(since) < SLOW)
        };
        let Machines { devices, pools: units, exports_due, .. } = machines;
        let may_be_one =
            |name: &String| wanted.device(name).is_none_or(|device| !is_remote(device));
        let local = devices.iter().any(|(name, unit)| may_be_one(name) && first(unit));
        let too_early = |known: &Pool| {
            local || known.devices.iter().any(|device| devices.get(device).is_some_and(first))
        };
        units.retain(|name, unit| unit.is_busy() || wanted.pool(name).is_some());
        for known in wanted.pools() {
            let unit = units.entry(known.name.clone()).or_default();
            let open = self.node.pool(&known.name);
            let input = match &open {
                Some(_) if !unit.is_open_now() => pool::Input::Opened,
                None if unit.is_open_now() => pool::Input::Closed,
                Some(open) => pool::Input::Seen(Seen {
                    failed: open.directory().condition().failed.is_some(),
                    returned: self.node.pools().returns_of(open) > open.returns(),
                }),
                None if too_early(known) => continue,
                None => pool::Input::Tick,
            };
            let was = unit.is_open_now();
            if let Some(effect) = unit.step(input, now) {
                effects.push(Effect::Pool(Box::new(known.item.clone()), effect));
            }
            *exports_due |= was != unit.is_open_now();
        }
    }

    /// Subsystems that are wanted and not there.
    fn step_subsystems(self, machines: &mut Machines, effects: &mut Vec<Effect>) {
        let wanted = self.node.wanted();
        let is_there = |nqn: &str| self.node.registry.subsystem(nqn).is_some();
        machines.subsystems.retain(|nqn, _| wanted.subsystem(nqn).is_some() && !is_there(nqn));
        if !machines.exports_due || machines.makes_subsystems {
            return;
        }
        let lacking = wanted.subsystems().filter(|known| !is_there(&known.nqn));
        let lacking: Vec<String> = lacking.map(|known| known.nqn.clone()).collect();
        if !lacking.is_empty() {
            machines.makes_subsystems = true;
            effects.push(Effect::Subsystems(lacking));
        }
    }

    fn step_namespaces(self, machines: &mut Machines, now: Instant, effects: &mut Vec<Effect>) {
        machines.exporting.clear();
        if !machines.exports_due && machines.namespaces.is_empty() {
            return;
        }
        let (wanted, exports) = (self.node.wanted(), self.node.exports());
        let missing: BTreeMap<(String, u32), &Declared<Namespace>> = wanted
            .namespaces()
            .filter(|known| !exports.is_served(known))
            .map(|known| ((known.subsystem.clone(), known.nsid), known))
            .collect();
        keep_missing(
            &mut machines.namespaces,
            |key| missing.contains_key(key),
            |(nqn, nsid)| {
                tracing::info!(nqn, nsid, "a namespace is there again");
                self.tell(News::Back(ObjectKind::Namespace, format!("{nqn}/{nsid}")));
            },
        );
        let mut due = Vec::new();
        for (key, known) in missing {
            let unit = machines.namespaces.entry(key).or_insert_with(|| Attempt::new(WAITS));
            let input = match exports.lacks(
                known,
                &|device| machines.devices.get(device).and_then(|unit| why(unit, now)),
                &|pool| machines.pools.get(pool).and_then(|unit| unit.why().map(str::to_owned)),
            ) {
                Some(why) => attempt::Input::Gone(why),
                None => attempt::Input::Tick,
            };
            if let Some(Try(number)) = unit.step(input, now) {
                due.push((known.item.clone(), number));
            }
            if unit.tried_since().is_some() {
                machines.exporting.extend(known.source.pool().map(str::to_owned));
            }
        }
        machines.exports_due = false;
        if !due.is_empty() {
            effects.push(Effect::Export(due));
        }
    }

    fn step_listeners(self, machines: &mut Machines, now: Instant, effects: &mut Vec<Effect>) {
        if !machines.listening {
            return;
        }
        let wanted = self.node.wanted();
        let open: BTreeSet<ListenAt> =
            self.node.listeners.get().iter().map(|listener| listener.at()).collect();
        let missing = |at: &ListenAt| wanted.listener(*at).is_some() && !open.contains(at);
        keep_missing(&mut machines.listeners, missing, |at| {
            tracing::info!("listener {at} is there again");
            self.tell(News::Back(ObjectKind::Listener, at.to_string()));
        });
        for listener in wanted.listeners().filter(|listener| !open.contains(&listener.at())) {
            let at = listener.at();
            let unit = machines.listeners.entry(at).or_insert_with(|| Attempt::new(WAITS));
            if let Some(Try(number)) = unit.step(attempt::Input::Tick, now) {
                effects.push(Effect::Listen(listener.item, number));
            }
        }
    }

    fn begin(self, effect: Effect) {
        match effect {
            Effect::Open(device, number) => self.begin_open(*device, number),
            Effect::Pool(known, effect) => self.begin_pool(*known, effect),
            Effect::Subsystems(lacking) => self.begin_subsystems(lacking),
            Effect::Export(due) => self.begin_export(due),
            Effect::Listen(listener, number) => self.begin_listen(listener, number),
        }
    }

    fn begin_open(self, device: Device, number: u64) {
        let Some(node) = self.node.me.upgrade() else { return };
        let name = device.name.clone();
        let task = Task::new(format!("opening device {name}"), super::attach::claims(&device));
        let (told, key) = (node.clone(), name.clone());
        let end = move |node: &Node, ended: Result<(), String>| {
            if let Err(why) = &ended {
                tracing::error!("device {key} is missing: {why}");
            }
            node.supervisor().ended(|machines, now| {
                let unit = machines.devices.get_mut(&key);
                unit.map(|unit| unit.step(attempt::Input::Ended(number, ended), now));
                machines.exports_due = true;
            });
        };
        let refused = end.clone();
        self.node.executor.start(
            Task { limit: LIMIT, ..task },
            move || {
                let opened = node.devices().open_wanted(&name);
                end(&node, opened);
            },
            move |why| refused(&told, Err(why)),
        );
    }

    fn begin_pool(self, known: Pool, effect: pool::Effect) {
        let Some(node) = self.node.me.upgrade() else { return };
        let claims = vec![Claim::sole(Key::Pool(known.name.clone()))];
        let (number, what) = match effect {
            pool::Effect::Import(number) => (number, "importing"),
            pool::Effect::Reopen(number) => (number, "opening again"),
        };
        let task = Task::new(format!("{what} pool {}", known.name), claims);
        let (told, key) = (node.clone(), known.name.clone());
        let end = move |node: &Node, outcome: Outcome| {
            node.supervisor().ended(|machines, now| {
                let Some(unit) = machines.pools.get_mut(&key) else { return };
                let before = unit.why().map(str::to_owned);
                if let Outcome::Missing(why) | Outcome::Device(why) = &outcome
                    && before.as_ref() != Some(why)
                {
                    tracing::error!("pool {key} is missing: {why}");
                }
                let news = match (&outcome, effect) {
                    (Outcome::Open, pool::Effect::Reopen(_)) => Some(News::Reopened(key.clone())),
                    (Outcome::Open, _) if unit.failed_before() => Some(News::Reopened(key.clone())),
                    (Outcome::Open, _) if before.is_some() => {
                        Some(News::Back(ObjectKind::Pool, key.clone()))
                    }
                    _ => None,
                };
                news.into_iter().for_each(|news| node.supervisor().tell(news));
                // What is next is begun by the step that follows.
                unit.end(number, outcome, now);
                machines.exports_due = true;
            });
        };
        let refused = end.clone();
        self.node.executor.start(
            Task { limit: LIMIT, ..task },
            move || {
                let outcome = match effect {
                    pool::Effect::Import(_) => node.pools().restore(&known),
                    pool::Effect::Reopen(_) => node.pools().reopen(&known),
                };
                end(&node, outcome);
            },
            move |why| refused(&told, Outcome::Missing(why)),
        );
    }

    fn begin_subsystems(self, lacking: Vec<String>) {
        let Some(node) = self.node.me.upgrade() else { return };
        let (told, what) = (node.clone(), format!("making {} subsystems", lacking.len()));
        let end = |node: &Node, ended: Vec<(String, String)>| {
            node.supervisor().ended(move |machines, _| {
                machines.makes_subsystems = false;
                for (nqn, why) in ended {
                    if machines.subsystems.get(&nqn) != Some(&why) {
                        tracing::error!("subsystem {nqn} is missing: {why}");
                    }
                    machines.subsystems.insert(nqn, why);
                }
            });
        };
        let job = move || {
            let failed = lacking.into_iter().filter_map(|nqn| {
                let made = node.exports().restore_subsystem(&nqn);
                made.err().map(|why| (nqn, why))
            });
            let failed = failed.collect();
            end(&node, failed);
        };
        let refused = move |_| end(&told, Vec::new());
        self.node.executor.start(Task::new(what, Vec::new()), job, refused);
    }

    fn begin_export(self, due: Vec<(Namespace, u64)>) {
        let Some(node) = self.node.me.upgrade() else { return };
        let what = match &due[..] {
            [(one, _)] => format!("exporting {}", one.source),
            due => format!("exporting {} namespaces", due.len()),
        };
        let (told, refused) = (node.clone(), due.clone());
        let end = |node: &Node, ended: Vec<(Namespace, u64, Exported)>| {
            node.supervisor().ended(move |machines, now| {
                for (known, number, ended) in ended {
                    let key = (known.subsystem, known.nsid);
                    let Some(ended) = ended else {
                        // Somebody is at work on it: what is wanted then is looked at anew.
                        machines.namespaces.remove(&key);
                        machines.exports_due = true;
                        continue;
                    };
                    let Some(unit) = machines.namespaces.get_mut(&key) else { continue };
                    if let Err(why) = &ended
                        && unit.why() != Some(why)
                    {
                        tracing::error!(nqn = key.0, nsid = key.1, why, "a namespace is missing");
                    }
                    unit.step(attempt::Input::Ended(number, ended), now);
                }
            });
        };
        self.node.executor.start(
            Task { limit: LIMIT, ..Task::new(what, Vec::new()) },
            move || {
                let ended = due.into_iter().map(|(known, number)| {
                    let opened = node.exports().restore(&known);
                    (known, number, opened)
                });
                let ended = ended.collect();
                end(&node, ended);
            },
            move |why| {
                let ended =
                    refused.into_iter().map(|(known, n)| (known, n, Some(Err(why.clone()))));
                end(&told, ended.collect());
            },
        );
    }

    fn begin_listen(self, listener: Listener, number: u64) {
        let Some(node) = self.node.me.upgrade() else { return };
        let at = listener.at();
        let task = Task::new(format!("listening on {at}"), vec![listener_claim(at)]);
        let told = node.clone();
        let end = move |node: &Node, ended: Result<(), String>| {
            node.supervisor().ended(|machines, now| {
                let Some(unit) = machines.listeners.get_mut(&at) else { return };
                if let Err(why) = &ended
                    && unit.why() != Some(why)
                {
                    tracing::error!("listener {at} is missing: {why}");
                }
                unit.step(attempt::Input::Ended(number, ended), now);
            });
        };
        self.node.executor.start(
            task,
            move || {
                let ended = listen(&node, listener);
                end(&node, ended);
            },
            move |why| end(&told, Err(why)),
        );
    }

    /// An effect has ended: what it was is told to its machine, and what follows is begun.
    fn ended(self, tell: impl FnOnce(&mut Machines, Instant)) {
        self.step_after(tell);
    }

    /// Something has come, or gone: what waits for it is tried now.
    pub(crate) fn stir(self) {
        self.step_after(|machines, _| {
            machines.exports_due = true;
            let Machines { devices, pools, namespaces, .. } = machines;
            pools.values_mut().for_each(PoolUnit::wait_no_more);
            let attempts = devices.values_mut().chain(namespaces.values_mut());
            attempts.for_each(Attempt::wait_no_more);
        });
    }

    /// A pool has come or gone: what is exported of it is looked at now.
    pub(crate) fn stir_exports(self) {
        self.step_after(|machines, _| {
            machines.exports_due = true;
            machines.namespaces.values_mut().for_each(Attempt::wait_no_more);
        });
    }

    /// An operator has opened a pool again.
    pub(crate) fn reopened(self, name: &str) {
        self.step_after(|machines, now| {
            machines.exports_due = true;
            if let Some(unit) = machines.pools.get_mut(name) {
                unit.reopened(now);
            }
            machines.namespaces.values_mut().for_each(Attempt::wait_no_more);
        });
    }

    /// Listeners are opened from now on.
    pub(super) fn listen(self) {
        self.step_after(|machines, _| machines.listening = true);
        self.wait(START_REMOTE, |machines, _| {
            machines.listeners.values().any(|unit| unit.tried_since().is_some())
        });
    }

    /// Brings up what is wanted, and waits for it: not for long, and least for what is remote.
    pub(super) fn settle(self) {
        self.step_after(|machines, _| machines.exports_due = true);
        let wanted = self.node.wanted();
        let is_remote = |name: &String| wanted.device(name).is_some_and(|d| is_remote(d));
        self.wait(START, |machines, late| {
            let mut devices =
                machines.devices.iter().filter(|(name, _)| !(late && is_remote(name)));
            devices.any(|(_, unit)| unit.tried_since().is_some())
                || machines.makes_subsystems
                || machines.pools.values().any(PoolUnit::is_busy)
                || machines.namespaces.values().any(|unit| unit.tried_since().is_some())
        });
    }

    /// Waits for pools that are being imported, and for what they export; for none that takes long.
    pub(crate) fn settle_pools(self) {
        self.step();
        self.wait(SETTLE, |machines, _| {
            let pools = machines.pools.values().filter_map(PoolUnit::busy_since);
            let namespaces = machines.namespaces.values().filter_map(Attempt::tried_since);
            pools.chain(namespaces).any(|since| since.elapsed() < SLOW)
        });
    }

    /// Waits while something is busy, for so long; it hears whether it is late for what is remote.
    fn wait(self, patience: Duration, busy: impl Fn(&Machines, bool) -> bool) {
        let begun = Instant::now();
        let mut machines = lock(&self.units().machines);
        while busy(&machines, begun.elapsed() >= START_REMOTE) {
            let left = (begun + patience).saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let left = left.min(Duration::from_millis(100));
            let waited = self.units().changed.wait_timeout(machines, left);
            machines = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
