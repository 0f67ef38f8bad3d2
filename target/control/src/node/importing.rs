//! Pools are found on devices, and imported: each once, and on the devices that it had.

use super::Node;
use crate::pool::OpenPool;
use crate::state::KnownPool;
use bdev_pool::{Found, probe};
use std::collections::BTreeMap;
use std::path::Path;
use uuid::Uuid;
use webui_model::{DeviceRef, Name, Refusal};

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

impl Node {
    /// What is on devices that nobody uses; of those named only, if any are.
    pub(crate) fn scan(&mut self, among: &[String]) -> Vec<Seen> {
        let free = self.bdevs.iter().filter(|(_, _, user)| user.is_none());
        let names: Vec<String> = free
            .map(|(name, _, _)| name.to_owned())
            .filter(|name| among.is_empty() || among.contains(name))
            .collect();
        let mut seen = Vec::new();
        for name in names {
            let Ok(part) = self.take_part(&name, "?") else { continue };
            let found = probe(&*part.medium);
            let identity = part.bdev.identity();
            self.give_parts(&[part]);
            seen.push(Seen { name, found, identity });
        }
        seen
    }

    /// Imports a pool whose devices are among those that nobody uses, durably.
    pub(crate) fn import(
        &mut self,
        name: Option<&Name>,
        devices: &[DeviceRef],
        force: bool,
    ) -> Result<String, Refusal> {
        self.with_devices(devices, false, |node, among| {
            for device in among {
                if let Some(user) = node.bdevs.user(device) {
                    return Err(Refusal::in_use(format!("Device {device} is in use by {user}.")));
                }
            }
            let seen = node.scan(among);
            let uuid = node.choose(&seen, name)?;
            node.import_from(&seen, uuid, Wish::Asked { force })
        })
    }

    /// Imports a pool that is wanted.
    pub(super) fn import_known(&mut self, known: &KnownPool) -> Result<(), Refusal> {
        let missing: Vec<String> = known
            .devices
            .iter()
            .filter_map(|name| Some(format!("Device {name}: {}", self.troubles.devices.get(name)?)))
            .collect();
        let seen = self.scan(&[]);
        let imported = self.import_from(&seen, known.uuid, Wish::Known);
        imported.map(drop).map_err(|refusal| match missing.is_empty() {
            true => refusal,
            false => Refusal::not_found(format!("{} {}", missing.join(" "), refusal.message)),
        })
    }

    fn import_from(&mut self, seen: &[Seen], uuid: Uuid, wish: Wish) -> Result<String, Refusal> {
        let name = seen.iter().find_map(|seen| match &seen.found {
            Found::Pool(pool, name, _) if *pool == uuid => Some(name.clone()),
            _ => None,
        });
        let name = name.ok_or_else(|| {
            Refusal::not_found(format!("None of its devices is there (pool {uuid})."))
        })?;
        self.is_not_open(seen, uuid)?;
        let other = self.state().pools.iter().find(|known| known.name == name);
        if other.is_some_and(|known| known.uuid != uuid) {
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
                let discard = self.state().discard_of(uuid);
                let opened = OpenPool::import(&parts, force, discard, &self.handles());
                self.keep_pool(opened, &parts, discard)
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
    fn is_not_open(&self, seen: &[Seen], uuid: Uuid) -> Result<(), Refusal> {
        let Some(open) = self.pools.values().find(|open| open.pool.uuid() == uuid) else {
            return Ok(());
        };
        let name = open.pool.name();
        let own: Vec<&str> = open.devices().collect();
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
    pub(crate) fn is_on(&self, pool: &str, devices: &[DeviceRef]) -> Result<(), Refusal> {
        let own: Vec<&str> = self.pools[pool].devices().collect();
        for device in devices {
            let name = match device.is_path() {
                true => self.device_at(Path::new(device.as_str())),
                false => Some(device.to_string()),
            };
            if name.is_none_or(|name| !own.contains(&name.as_str())) {
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
    fn devices_of(&self, seen: &[Seen], uuid: Uuid, wish: Wish) -> Result<Chosen, Refusal> {
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
    fn had(&self, seen: &[Seen], devices: &[String], pool: Uuid) -> bool {
        let Some(known) = self.state().pools.iter().find(|known| known.uuid == pool) else {
            return false;
        };
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
        &self,
        pool: Uuid,
        place: Uuid,
        claimants: &[&'a Seen],
        wish: Wish,
    ) -> Result<Option<&'a Seen>, Refusal> {
        let known = self.state().pools.iter().find(|known| known.uuid == pool);
        let gone = self.state().gone.iter().find(|gone| gone.uuid == pool);
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
    fn choose(&self, seen: &[Seen], name: Option<&Name>) -> Result<Uuid, Refusal> {
        let mut found: Vec<(Uuid, &str)> = Vec::new();
        for seen in seen {
            if let Found::Pool(uuid, pool, _) = &seen.found
                && name.is_none_or(|name| name.as_str() == pool)
                && !found.contains(&(*uuid, pool))
            {
                found.push((*uuid, pool));
            }
        }
        let is_open = |uuid: &Uuid| self.pools.values().any(|open| open.pool.uuid() == *uuid);
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
