//! Pools.

use super::view::{View, name};
use super::{ControlPlane, locked};
use crate::node::{Node, time_of};
use crate::unit::pool::Outcome;
use crate::unit::schedule::{Claim, Key};
use bdev_pool::{DeviceState, DeviceStatus, DiscardStatus, EXTENT_BYTES, Found, PoolStatus};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use uuid::Uuid;
use wanted::Request;
use webui_model::{
    DeviceAdd, DeviceDiscard, DeviceRef, DiscardMode, EventKind, ImportablePool, Job, Made,
    MemberState, Name, ObjectKind, Pool, PoolCreate, PoolDevice, PoolImport, Refusal, Size, Space,
    Status,
};

/// Of a pool that is wanted.
const NOT_HERE: &str = "it is not imported";

/// How long taking out an empty device may take.
const REMOVE: Duration = Duration::from_secs(20);

pub(super) fn space(space: &bdev_pool::Space) -> Space {
    Space {
        total_bytes: space.total,
        free_bytes: space.free,
        used_bytes: space.used,
        reserved_bytes: space.reserved,
        shared_bytes: space.shared,
        reclaimable_bytes: space.reclaimable,
    }
}

fn discard(status: &DiscardStatus) -> DeviceDiscard {
    DeviceDiscard {
        on: status.on,
        reason: status.why.clone(),
        discarded_bytes: status.done,
        waiting_bytes: status.waiting,
    }
}

/// How a pool is, and why.
fn how(status: &PoolStatus) -> (Status, String) {
    if let Some(why) = &status.failed {
        return (Status::Failed, why.clone());
    }
    if status.full {
        let why = "it is full: writes that need space fail, reads and overwrites go on; add a \
                   device or delete something";
        return (Status::Degraded, why.to_owned());
    }
    if let Some(why) = &status.stopped {
        return (Status::Degraded, format!("a job has stopped: {why}"));
    }
    if let Some(job) = status.jobs.first() {
        let share = (job.done * 100).checked_div(job.total).unwrap_or(100);
        return (Status::Busy, format!("{}, {share}% done", job.what));
    }
    let (free, total) = (Size(status.space.free).rounded(), Size(status.space.total).rounded());
    let devices = webui_model::count(status.devices.len(), "device");
    (Status::Ok, format!("{devices}, {free} of {total} free"))
}

impl View<'_> {
    pub(super) fn pools(&self) -> Result<Vec<Pool>, Refusal> {
        self.wanted.pools().map(|known| self.known_pool(known)).collect()
    }

    pub(super) fn pool(&self, pool: &str) -> Result<Pool, Refusal> {
        match self.wanted.pool(pool) {
            Some(known) => self.known_pool(known),
            None => Err(Refusal::not_found(format!("There is no pool {pool}."))),
        }
    }

    fn known_pool(&self, known: &wanted::Pool) -> Result<Pool, Refusal> {
        let Some(open) = self.pools.get(&known.name) else { return self.absent(known) };
        let pool = &open.status();
        let (volumes, snapshots) = open.directory().counts();
        let devices = pool.devices.iter().map(|device| self.pool_member(device));
        let (status, mut reason) = how(pool);
        if let Some(next) = self.next_try(&known.name).filter(|_| status == Status::Failed) {
            reason = format!("{reason} {next}");
        }
        let stall = self.stalls_of(open).filter(|_| status != Status::Failed);
        let (status, reason) = match stall {
            Some(why) => (Status::Degraded, why),
            None if status == Status::Ok && self.missing.opening.contains(&known.name) => {
                (Status::Busy, "it is being opened, with what it exports".to_owned())
            }
            None => (status, reason),
        };
        Ok(Pool {
            name: name(&known.name)?,
            uuid: known.uuid.to_string(),
            devices: devices.collect::<Result<_, _>>()?,
            space: space(&pool.space),
            volumes: volumes as u32,
            snapshots: snapshots as u32,
            extent_bytes: EXTENT_BYTES,
            format: open.directory().format(),
            losses: open.directory().tenure().losses,
            discard: known.discard,
            status,
            reason,
        })
    }

    /// When a pool that failed is tried again, as a sentence; none if that is any moment.
    fn next_try(&self, name: &str) -> Option<String> {
        let next = self.missing.next_tries.get(name)?;
        let at = time_of(*next);
        Some(format!("The next attempt is at {at}, or when somebody imports it."))
    }

    /// A pool that cannot be imported now.
    fn absent(&self, known: &wanted::Pool) -> Result<Pool, Refusal> {
        let device = |(number, device): (u32, &String)| {
            let why = self.missing.devices.get(device);
            let known = self.device(device).ok();
            Ok(PoolDevice {
                number,
                device: if why.is_none() { device.parse().ok() } else { None },
                path: known.and_then(|device| device.path),
                uuid: String::new(),
                state: if why.is_some() { MemberState::Missing } else { MemberState::Member },
                metadata: false,
                total_bytes: 0,
                used_bytes: 0,
                discard: DeviceDiscard { reason: NOT_HERE.into(), ..DeviceDiscard::default() },
                status: if why.is_some() { Status::Failed } else { Status::Offline },
                reason: why.cloned().unwrap_or_else(|| "waits for the rest of its pool".into()),
            })
        };
        let why = self.missing.pools.get(&known.name).cloned();
        let next = self.next_try(&known.name);
        Ok(Pool {
            name: name(&known.name)?,
            uuid: known.uuid.to_string(),
            devices: (0..).zip(&known.devices).map(device).collect::<Result<_, Refusal>>()?,
            space: Space::default(),
            volumes: 0,
            snapshots: 0,
            extent_bytes: EXTENT_BYTES,
            format: 0,
            losses: 0,
            discard: known.discard,
            status: Status::Failed,
            reason: match (why, next) {
                (None, _) => NOT_HERE.into(),
                (Some(why), None) => why,
                (Some(why), Some(next)) => format!("{why} {next}"),
            },
        })
    }

    fn pool_member(&self, member: &DeviceStatus) -> Result<PoolDevice, Refusal> {
        let draining = member.state == DeviceState::Draining;
        let used = Size(member.used).rounded();
        let stall = self.stall_of(&member.name);
        Ok(PoolDevice {
            number: member.number.into(),
            device: Some(name(&member.name)?),
            path: self.device(&member.name)?.path,
            uuid: member.uuid.to_string(),
            state: if draining { MemberState::Draining } else { MemberState::Member },
            metadata: member.has_metadata,
            total_bytes: member.bytes,
            used_bytes: member.used,
            discard: discard(&member.discard),
            status: match (&stall, draining) {
                (Some(_), _) => Status::Degraded,
                (None, true) => Status::Busy,
                (None, false) => Status::Ok,
            },
            reason: match (stall, draining) {
                (Some(why), _) => why,
                (None, true) => format!("{used} are left to move to the other devices"),
                (None, false) => format!("{used} of {} used", Size(member.bytes).rounded()),
            },
        })
    }

    pub(super) fn pool_device(&self, pool: &str, number: u32) -> Result<PoolDevice, Refusal> {
        let devices = self.pool(pool)?.devices;
        devices.into_iter().find(|device| device.number == number).ok_or_else(|| {
            Refusal::not_found(format!("Pool {pool} has no device with number {number}."))
        })
    }
}

/// The device with a number in a pool, by its name.
fn member(node: &Node, pool: &str, number: u32) -> Result<DeviceStatus, Refusal> {
    let status = node.pools().get(pool)?.status();
    let found = status.devices.iter().find(|device| u32::from(device.number) == number);
    found.cloned().ok_or_else(|| {
        Refusal::not_found(format!("Pool {pool} has no device with number {number}."))
    })
}

/// The name of a device that is meant, if it is attached.
fn name_of(node: &Node, device: &DeviceRef) -> Option<String> {
    match device.is_path() {
        true => node.devices().device_at(device),
        false => Some(device.to_string()),
    }
}

fn sole(pool: &Name) -> Vec<Claim> {
    vec![Claim::sole(Key::Pool(pool.to_string()))]
}

fn shared(pool: &Name) -> Vec<Claim> {
    vec![Claim::shared(Key::Pool(pool.to_string()))]
}

/// A pool that is there already, if it is what was asked for.
fn existing(node: &Node, request: &PoolCreate) -> Result<Made<Pool>, Refusal> {
    let named = request.devices.iter();
    let named = named.map(|device| name_of(node, device).unwrap_or_else(|| device.to_string()));
    let (create, devices) = (request.clone(), named.collect());
    node.would(&Request::CreatePool { create, devices, uuid: Uuid::nil() })?;
    View::of(node).pool(request.name.as_str()).map(Made::Existing)
}

/// Imports a pool, or opens one again that has failed.
fn import(node: &Node, request: &PoolImport) -> Result<Made<Pool>, Refusal> {
    let open = request.name.as_ref().and_then(|pool| node.pool(pool.as_str()));
    if let Some(open) = open {
        let pool = open.name();
        node.pools().is_on(pool, &request.devices)?;
        if !node.pools().has_failed(&open) {
            return View::of(node).pool(pool).map(Made::Existing);
        }
        let wanted = node.wanted();
        let outcome = wanted.pool(pool).map(|known| node.pools().reopen(known));
        if outcome == Some(Outcome::Open) {
            node.supervisor().reopened(pool);
        }
        return match outcome {
            None | Some(Outcome::NotYet | Outcome::Stuck) => Err(Refusal::device(format!(
                "Pool {pool} has failed, and not all of its devices take writes yet: it is opened \
                 again when they do. Or export it by force."
            ))),
            Some(Outcome::Open) => View::of(node).pool(pool).map(Made::New),
            Some(Outcome::Missing(why) | Outcome::Device(why)) => {
                Err(Refusal::unavailable(format!("Pool {pool} is not imported: {why}")))
            }
        };
    }
    let pool = node.pools().import(request.name.as_ref(), &request.devices, request.force)?;
    node.pools().learn_names(&pool);
    node.pools().find_moved(&pool);
    View::of(node).pool(&pool).map(Made::New)
}

/// Pools, as operators change them.
#[derive(Clone, Copy)]
pub(super) struct Pools<'a>(pub &'a ControlPlane);

impl Pools<'_> {
    pub(super) fn create(self, request: PoolCreate) -> Result<Made<Pool>, Refusal> {
        let what = format!("making pool {}", request.name);
        self.0.change(what, sole(&request.name), move |plane| {
            let node = &*plane.node;
            if node.wanted().pool(request.name.as_str()).is_some() {
                return existing(node, &request);
            }
            node.pools().create(&request)?;
            node.supervisor().stir_exports();
            let pool = View::of(node).pool(request.name.as_str())?;
            let devices = webui_model::count(pool.devices.len(), "device");
            let message = format!("Pool {} is made of {devices}.", pool.name);
            plane.done(EventKind::Created, (ObjectKind::Pool, &pool.name), message);
            Ok(Made::New(pool))
        })
    }

    pub(super) fn importable(self) -> Result<Vec<ImportablePool>, Refusal> {
        self.0.change("looking for pools", Vec::new(), |plane| importable(&plane.node))
    }

    pub(super) fn import(self, request: PoolImport) -> Result<Made<Pool>, Refusal> {
        let (what, claims) = match &request.name {
            Some(name) => (format!("importing pool {name}"), sole(name)),
            None => ("importing a pool".to_owned(), Vec::new()),
        };
        let made = self.0.change(what, claims, move |plane| {
            let made = import(&plane.node, &request)?;
            if let Made::New(pool) = &made {
                let message = format!("Pool {} is imported.", pool.name);
                plane.done(EventKind::Created, (ObjectKind::Pool, &pool.name), message);
            }
            Ok(made)
        })?;
        // What it exports comes back when it is nobody's turn any more; whoever asked finds it there.
        self.0.node.supervisor().stir_exports();
        let Made::New(pool) = made else { return Ok(made) };
        self.0.node.supervisor().settle_pools();
        self.0.with(|node| View::of(node).pool(pool.name.as_str())).map(Made::New)
    }

    pub(super) fn set_discard(self, pool: &Name, mode: DiscardMode) -> Result<Pool, Refusal> {
        let (claims, pool) = (sole(pool), pool.clone());
        self.0.change(format!("setting discard of pool {pool}"), claims, move |plane| {
            plane.node.pools().set_discard(pool.as_str(), mode)?;
            let message = format!("Discard of pool {pool} is {mode}.");
            plane.done(EventKind::Changed, (ObjectKind::Pool, &pool), message);
            View::of(&plane.node).pool(pool.as_str())
        })
    }

    pub(super) fn upgrade(self, pool: &Name) -> Result<Pool, Refusal> {
        let (claims, pool) = (sole(pool), pool.clone());
        self.0.change(format!("upgrading pool {pool}"), claims, move |plane| {
            let open = plane.node.pools().get(pool.as_str())?;
            let before = open.directory().format();
            open.ask(|pool| pool.upgrade(super::now_ms() / 1000, Uuid::new_v4))?;
            if before != open.directory().format() {
                let message =
                    format!("Pool {pool} is of format 2: earlier releases do not open it.");
                plane.done(EventKind::Changed, (ObjectKind::Pool, &pool), message);
            }
            View::of(&plane.node).pool(pool.as_str())
        })
    }

    pub(super) fn export(self, pool: &Name, force: bool) -> Result<(), Refusal> {
        let (claims, pool) = (sole(pool), pool.clone());
        self.0.change(format!("exporting pool {pool}"), claims, move |plane| {
            plane.node.pools().export(pool.as_str(), force)?;
            locked(&plane.seen).jobs.pool_is_gone(pool.as_str(), super::now_ms());
            let message = format!("Pool {pool} is exported: another machine can import it.");
            plane.done(EventKind::Deleted, (ObjectKind::Pool, &pool), message);
            plane.node.supervisor().stir_exports();
            Ok(())
        })
    }

    pub(super) fn delete(self, pool: &Name) -> Result<(), Refusal> {
        let (claims, pool) = (sole(pool), pool.clone());
        self.0.change(format!("deleting pool {pool}"), claims, move |plane| {
            plane.node.pools().delete(pool.as_str())?;
            locked(&plane.seen).jobs.pool_is_gone(pool.as_str(), super::now_ms());
            let message = format!("Pool {pool} is deleted.");
            plane.done(EventKind::Deleted, (ObjectKind::Pool, &pool), message);
            plane.node.supervisor().stir_exports();
            Ok(())
        })
    }

    pub(super) fn add_device(
        self,
        pool: &Name,
        request: DeviceAdd,
    ) -> Result<Made<PoolDevice>, Refusal> {
        let (claims, pool) = (sole(pool), pool.clone());
        let what = format!("adding device {} to pool {pool}", request.device);
        self.0.change(what, claims, move |plane| {
            let node = &*plane.node;
            let name = name_of(node, &request.device);
            let there = View::of(node).pool(pool.as_str())?.devices;
            let is_it =
                |device: &PoolDevice| device.device.as_ref().map(Name::as_str) == name.as_deref();
            if name.is_some()
                && let Some(device) = there.into_iter().find(is_it)
            {
                return Ok(Made::Existing(device));
            }
            let (device, force) = (&request.device, request.force);
            let name = node.pools().add_device(pool.as_str(), device, force)?;
            let mut devices = View::of(node).pool(pool.as_str())?.devices.into_iter();
            let is_it =
                |device: &PoolDevice| device.device.as_ref().is_some_and(|d| d.as_str() == name);
            let device = devices.find(is_it).ok_or_else(|| {
                Refusal::unavailable(format!("Device {name} was added, and is gone again."))
            })?;
            let message = format!("Pool {pool} has one device more, number {}.", device.number);
            plane.done(EventKind::Changed, (ObjectKind::Pool, &pool), message);
            Ok(Made::New(device))
        })
    }

    pub(super) fn grow_device(self, pool: &Name, number: u32) -> Result<PoolDevice, Refusal> {
        let device = self.0.with(|node| Ok(member(node, pool.as_str(), number)?.name))?;
        let mut claims = shared(pool);
        claims.push(Claim::sole(Key::Device(device.clone())));
        let pool = pool.clone();
        self.0.change(format!("extending device {device}"), claims, move |plane| {
            let node = &*plane.node;
            node.devices().look_again(&device)?;
            node.pools().ask(pool.as_str(), |pool| pool.grow_device(&device))?;
            let device = View::of(node).pool_device(pool.as_str(), number)?;
            let message = format!("Device {number} has {}.", Size(device.total_bytes).rounded());
            plane.done(EventKind::Changed, (ObjectKind::Pool, &pool), message);
            Ok(device)
        })
    }

    pub(super) fn drain_device(self, pool: &Name, number: u32) -> Result<Job, Refusal> {
        let (claims, pool) = (shared(pool), pool.clone());
        let what = format!("draining device {number} of pool {pool}");
        self.0.change(what, claims, move |plane| {
            let node = &*plane.node;
            let device = member(node, pool.as_str(), number)?;
            node.pools().ask(pool.as_str(), |pool| pool.drain_device(&device.name))?;
            let mut seen = locked(&plane.seen);
            let job = seen.jobs.drain(pool.as_str(), &device.name, device.used);
            drop(seen);
            plane.done(EventKind::Created, (ObjectKind::Job, job.id), job.reason.clone());
            Ok(job)
        })
    }

    /// Ends a job: the device that it drains stays in its pool.
    pub(super) fn cancel_job(self, id: u64) -> Result<Job, Refusal> {
        self.0.look_at_jobs();
        let (pool, device) = locked(&self.0.seen).jobs.drained_by(id)?;
        let claims = vec![Claim::shared(Key::Pool(pool.clone()))];
        self.0.change(format!("ending job {id}"), claims, move |plane| {
            let open = plane.node.pools().get(&pool)?;
            if !open.status().devices.iter().any(|other| other.name == device) {
                return Err(Refusal::refused(format!("Job {id} has ended.")));
            }
            open.ask(|pool| pool.keep_device(&device))?;
            let reason = format!(
                "somebody ended it: {device} stays in {pool}, and what has moved stays elsewhere"
            );
            let ended = locked(&plane.seen).jobs.cancelled(id, reason);
            let job = ended.ok_or_else(|| Refusal::not_found(format!("There is no job {id}.")))?;
            plane.done(EventKind::Changed, (ObjectKind::Job, job.id), job.reason.clone());
            Ok(job)
        })
    }

    pub(super) fn remove_device(self, pool: &Name, number: u32) -> Result<(), Refusal> {
        let (claims, pool) = (shared(pool), pool.clone());
        let what = format!("removing device {number} from pool {pool}");
        self.0.change(what, claims, move |plane| {
            let node = &*plane.node;
            let device = member(node, pool.as_str(), number)?;
            if device.used > 0 {
                return Err(Refusal::in_use(format!(
                    "Device {number} of pool {pool} holds {}: drain it first.",
                    Size(device.used).rounded()
                )));
            }
            let device = device.name;
            let open = node.pools().get(pool.as_str())?;
            open.ask(|pool| pool.drain_device(&device))?;
            let until = Instant::now() + REMOVE;
            loop {
                node.pools().settle(&open);
                if !open.status().devices.iter().any(|other| other.name == device) {
                    break;
                }
                if Instant::now() > until {
                    return Err(Refusal::unavailable(format!(
                        "Device {device} is still being taken out: see the jobs."
                    )));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            let message = format!("Device {device} is no part of pool {pool} any more.");
            plane.done(EventKind::Changed, (ObjectKind::Pool, &pool), message);
            Ok(())
        })
    }
}

fn importable(node: &Node) -> Result<Vec<ImportablePool>, Refusal> {
    let mut found: BTreeMap<(String, String), Vec<Name>> = BTreeMap::new();
    for seen in node.pools().scan(&[]) {
        if let Found::Pool(uuid, pool, _) = &seen.found {
            let key = (pool.clone(), uuid.to_string());
            found.entry(key).or_default().extend(seen.name.parse::<Name>().ok());
        }
    }
    let (wanted, pools) = (node.wanted(), node.pools.get());
    let show = |((pool, uuid), devices): ((String, String), Vec<Name>)| {
        let is_open = pools.values().any(|open| open.uuid().to_string() == uuid);
        let (status, reason) = match wanted.pool(&pool) {
            _ if is_open => (Status::Failed, format!("a copy of pool {pool}, which is imported")),
            Some(known) if known.uuid.to_string() != uuid => {
                (Status::Failed, format!("there is a pool {pool} already"))
            }
            _ => {
                let devices = webui_model::count(devices.len(), "device");
                (Status::Offline, format!("{devices} found; not imported"))
            }
        };
        Ok(ImportablePool { name: name(&pool)?, uuid, devices, status, reason })
    };
    found.into_iter().map(show).collect()
}
