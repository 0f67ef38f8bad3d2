//! Pools are found on devices, and imported: each once, and on the devices that it had.

use super::Pools;
use crate::executor::Task;
use crate::pool::OpenPool;
use crate::unit::schedule::{Claim, Key};
use bdev_pool::{Found, probe};
use std::collections::BTreeMap;
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};
use uuid::Uuid;
use wanted::Pool;
use webui_model::{DeviceRef, Name, Refusal};

/// As whose a device is opened that is looked at.
const PROBER: &str = "? (its devices are looked for)";

/// How long a device may take to tell what is on it.
const PROBE: Duration = Duration::from_secs(5);

/// What is on a free device.
pub(crate) struct Seen {
    pub name: String,
    pub found: Found,
    /// What tells it from a copy.
    identity: Option<String>,
}

impl Seen {
    /// The device of `pool` that it says it is.
    fn place_in(&self, pool: Uuid) -> Option<Uuid> {
        match &self.found {
            Found::Pool(of, _, device) if *of == pool => Some(*device),
            _ => None,
        }
    }
}

/// Who wants a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// It was here before: it comes back on the devices that it had, by itself.
    Known,
    /// An operator, who has seen the devices; with force also if a killed process knew more.
    Asked { force: bool },
}

/// Devices for a pool, and those that only say that they are.
#[derive(Default)]
struct Chosen {
    devices: Vec<String>,
    strangers: Vec<String>,
}

impl Pools<'_> {
    /// What is on devices that nobody uses; of those named only, if any are. One that does not answer
    /// is not waited for.
    pub(crate) fn scan(self, among: &[String]) -> Vec<Seen> {
        let table = self.node.bdevs.table();
        let free = table.iter().filter(|(_, slot)| {
            // Of one that others look at, too, it is somebody's turn after them.
            slot.user.as_deref().is_none_or(|user| user == super::provision::user(PROBER))
        });
        let names: Vec<String> = free
            .map(|(name, _)| name.clone())
            .filter(|name| among.is_empty() || among.contains(name))
            .collect();
        let (seen, sees) = mpsc::channel();
        for name in &names {
            self.probe(name.clone(), seen.clone());
        }
        drop(seen);
        let until = Instant::now() + PROBE;
        let mut all = Vec::new();
        while let Ok(seen) = sees.recv_timeout(until.saturating_duration_since(Instant::now())) {
            all.push(seen);
        }
        for name in names {
            if !all.iter().any(|seen| seen.name == name) {
                let found = Found::Unreadable("it does not answer".to_owned());
                all.push(Seen { name, found, identity: None });
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Looks at what is on a device, and tells that.
    fn probe(self, name: String, seen: Sender<Seen>) {
        let Some(node) = self.node.me.upgrade() else { return };
        let claims = vec![Claim::sole(Key::Device(name.clone()))];
        let task = Task::new(format!("looking at what is on device {name}"), claims);
        let task = Task { patience: PROBE, limit: PROBE, within: true, ..task };
        let job = move || {
            let pools = node.pools();
            let Ok(part) = pools.open_part(&name, PROBER) else { return };
            let found = probe(&*part.medium);
            let identity = part.bdev.identity();
            pools.give_parts(&[part]);
            // Whoever asked may have given up.
            let _ = seen.send(Seen { name, found, identity });
        };
        self.node.executor.start(task, job, drop);
    }

    /// Imports a pool whose devices are among those that nobody uses, durably.
    pub(crate) fn import(
        self,
        name: Option<&Name>,
        devices: &[DeviceRef],
        force: bool,
    ) -> Result<String, Refusal> {
        self.with_devices(devices, false, |among| {
            for device in among {
                if let Some(user) = self.node.bdevs.user(device) {
                    return Err(Refusal::in_use(format!("Device {device} is in use by {user}.")));
                }
            }
            let seen = self.scan(among);
            let uuid = self.choose(&seen, name)?;
            self.import_from(&seen, uuid, Wish::Asked { force })
        })
    }

    /// Imports a pool that is wanted.
    pub(super) fn import_known(self, known: &Pool) -> Result<(), Refusal> {
        let missing = self.node.supervisor().missing();
        let missing: Vec<String> = known
            .devices
            .iter()
            .filter_map(|name| Some(format!("Device {name}: {}", missing.devices.get(name)?)))
            .collect();
        let seen = self.scan(&[]);
        let imported = self.import_from(&seen, known.uuid, Wish::Known);
        imported.map(drop).map_err(|refusal| match missing.is_empty() {
            true => refusal,
            false => Refusal::not_found(format!("{} {}", missing.join(" "), refusal.message)),
        })
    }

    fn import_from(self, seen: &[Seen], uuid: Uuid, wish: Wish) -> Result<String, Refusal> {
        let name = seen.iter().find_map(|seen| match &seen.found {
            Found::Pool(pool, name, _) if *pool == uuid => Some(name.clone()),
            _ => None,
        });
        let name = name.ok_or_else(|| {
            Refusal::not_found(format!("None of its devices is there (pool {uuid})."))
        })?;
        self.is_not_open(seen, uuid)?;
        let wanted = self.node.wanted();
        if wanted.pool(&name).is_some_and(|known| known.uuid != uuid) {
            return Err(Refusal::exists(format!(
                "There is another pool {name}: export that one first."
            )));
        }
        let Chosen { devices, strangers } = self.devices_of(seen, uuid, wish)?;
        let opened = match devices[..] {
            [] => Err(Refusal::not_found("None of its devices is there.")),
            _ => {
                let force = wish == Wish::Asked { force: true } || self.had(seen, &devices, uuid);
                let parts = self.take_parts(&devices, &name)?;
                let discard = wanted.discard_of(uuid);
                let opened = OpenPool::import(&parts, force, discard, &self.node.handles());
                self.keep(opened, &parts, discard)
            }
        };
        opened.map_err(|refusal| with_strangers(refusal, &name, &strangers))?;
        for device in strangers {
            tracing::warn!(
                pool = name,
                device,
                "it says that it is a device of the pool, and is none that the pool had: a copy, \
                 which is left alone"
            );
        }
        Ok(name)
    }

    /// A pool is open once, by whatever name and on whatever copies it is asked for again.
    fn is_not_open(self, seen: &[Seen], uuid: Uuid) -> Result<(), Refusal> {
        let pools = self.node.pools.get();
        let Some(open) = pools.values().find(|open| open.uuid() == uuid) else {
            return Ok(());
        };
        let name = open.name();
        let own = open.devices();
        let copies = seen.iter().filter(|seen| seen.place_in(uuid).is_some());
        let copies: Vec<&str> = copies.map(|seen| seen.name.as_str()).collect();
        Err(Refusal::exists(format!(
            "Pool {name} ({uuid}) is imported already, on {}. What says that it is the same, {}, is \
             a copy and left alone.",
            own.join(", "),
            copies.join(", ")
        )))
    }

    /// Whether every one of `devices` is a device of a pool that is open.
    pub(crate) fn is_on(self, pool: &str, devices: &[DeviceRef]) -> Result<(), Refusal> {
        let own = self.get(pool)?.devices();
        for device in devices {
            let name = match device.is_path() {
                true => self.node.devices().device_at(device),
                false => Some(device.to_string()),
            };
            if name.is_none_or(|name| !own.contains(&name)) {
                return Err(Refusal::exists(format!(
                    "Pool {pool} is imported already, on {}. Device {device} is none of its \
                     devices, and left alone: to import another pool that is on it, leave out the \
                     name or give that one's.",
                    own.join(", ")
                )));
            }
        }
        Ok(())
    }

    /// For each place in a pool the device that is to have it.
    fn devices_of(self, seen: &[Seen], uuid: Uuid, wish: Wish) -> Result<Chosen, Refusal> {
        let mut places: BTreeMap<Uuid, Vec<&Seen>> = BTreeMap::new();
        for seen in seen {
            if let Some(place) = seen.place_in(uuid) {
                places.entry(place).or_default().push(seen);
            }
        }
        let mut chosen = Chosen::default();
        for (place, claimants) in places {
            let taken = self.claimant(uuid, place, &claimants, wish)?;
            let names = claimants.iter().map(|seen| seen.name.clone());
            for name in names {
                match taken.is_some_and(|taken| taken.name == name) {
                    true => chosen.devices.push(name),
                    false => chosen.strangers.push(name),
                }
            }
        }
        Ok(chosen)
    }

    /// Whether the pool was here on these very devices: then somebody has decided for them before,
    /// whatever a process that was killed knew of others.
    fn had(self, seen: &[Seen], devices: &[String], pool: Uuid) -> bool {
        let wanted = self.node.wanted();
        let Some(known) = wanted.pool_by_uuid(pool) else { return false };
        let is_known = |seen: &Seen| {
            let place = seen.place_in(pool);
            let identity = place.and_then(|place| known.identities.get(&place));
            identity.is_some() && identity == seen.identity.as_ref()
        };
        seen.iter().filter(|seen| devices.contains(&seen.name)).all(is_known)
    }

    /// Which of the devices that say that they are `place` of the pool is: the one that was it when
    /// the pool was last here, or that has its name; else, if somebody asks, the only one.
    fn claimant<'a>(
        self,
        pool: Uuid,
        place: Uuid,
        claimants: &[&'a Seen],
        wish: Wish,
    ) -> Result<Option<&'a Seen>, Refusal> {
        let wanted = self.node.wanted();
        let (known, gone) = (wanted.pool_by_uuid(pool), wanted.gone(pool));
        let identities = known.map(|known| &known.identities).or(gone.map(|gone| &gone.identities));
        let identity = identities.and_then(|identities| identities.get(&place));
        let names = known.map_or(&[][..], |known| &known.devices);
        let only = |found: Vec<&'a Seen>| if let [one] = found[..] { Some(one) } else { None };
        let of = |is: &dyn Fn(&Seen) -> bool| {
            only(claimants.iter().copied().filter(|seen| is(seen)).collect())
        };
        let same = of(&|seen| identity.is_some() && seen.identity.as_ref() == identity);
        let same = same.or_else(|| of(&|seen| names.contains(&seen.name)));
        match (same, wish, claimants) {
            (Some(same), _, _) => Ok(Some(same)),
            (None, Wish::Asked { .. }, [one]) => Ok(Some(*one)),
            // Noted before identities were.
            (None, Wish::Known, [one]) if identity.is_none() => Ok(Some(*one)),
            (None, Wish::Known, _) => Ok(None),
            (None, Wish::Asked { .. }, several) => {
                let several: Vec<&str> = several.iter().map(|seen| seen.name.as_str()).collect();
                Err(Refusal::invalid(format!(
                    "Devices {} say that they are one and the same device of the pool: all but one \
                     are copies. Name the devices that are meant.",
                    several.join(" and ")
                )))
            }
        }
    }

    /// Which of the pools that were found is meant: of those that are open only copies were.
    fn choose(self, seen: &[Seen], name: Option<&Name>) -> Result<Uuid, Refusal> {
        let mut found: Vec<(Uuid, &str)> = Vec::new();
        for seen in seen {
            if let Found::Pool(uuid, pool, _) = &seen.found
                && name.is_none_or(|name| name.as_str() == pool)
                && !found.contains(&(*uuid, pool))
            {
                found.push((*uuid, pool));
            }
        }
        let pools = self.node.pools.get();
        let is_open = |uuid: &Uuid| pools.values().any(|open| open.uuid() == *uuid);
        if found.iter().any(|(uuid, _)| !is_open(uuid)) {
            found.retain(|(uuid, _)| !is_open(uuid));
        }
        match (&found[..], name) {
            ([(uuid, _)], _) => Ok(*uuid),
            ([], Some(name)) => {
                Err(Refusal::not_found(format!("No pool {name} is on the devices that are free.")))
            }
            ([], None) => Err(Refusal::not_found("No pool is on the devices that are free.")),
            (several, _) => {
                let names: Vec<String> =
                    several.iter().map(|(uuid, name)| format!("{name} ({uuid})")).collect();
                Err(Refusal::invalid(format!(
                    "There are several pools: {}. Say which by its name, or name its devices.",
                    names.join(", ")
                )))
            }
        }
    }
}

/// Says what is there in place of what is missing.
fn with_strangers(mut refusal: Refusal, pool: &str, strangers: &[String]) -> Refusal {
    if let [first, ..] = strangers {
        refusal.message.push_str(&format!(
            " What says that it is part of it, {}, is none of the devices that it had, but a copy, \
             or moved: if it is to take their place, `forebay pool import {pool} --device {first}`.",
            strangers.join(", ")
        ));
    }
    refusal
}
