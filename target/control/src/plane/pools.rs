//! Pools.

use super::view::{View, name};
use super::{ControlPlane, locked};
use crate::node::Node;
use crate::state::KnownPool;
use bdev_pool::{DeviceState, DeviceStatus, DiscardStatus, EXTENT_BYTES, Found, PoolStatus};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use webui_model::{
    DeviceAdd, DeviceDiscard, DiscardMode, EventKind, ImportablePool, Job, Made, MemberState, Name,
    ObjectKind, Pool, PoolCreate, PoolDevice, PoolImport, Refusal, Size, Space, Status,
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
        let mut known: Vec<&KnownPool> = self.node.state().pools.iter().collect();
        known.sort_by(|a, b| a.name.cmp(&b.name));
        known.into_iter().map(|known| self.known_pool(known)).collect()
    }

    pub(super) fn pool(&self, pool: &str) -> Result<Pool, Refusal> {
        let known = self.node.state().pools.iter().find(|known| known.name == pool);
        match known {
            Some(known) => self.known_pool(known),
            None => Err(Refusal::not_found(format!("There is no pool {pool}."))),
        }
    }

    fn known_pool(&self, known: &KnownPool) -> Result<Pool, Refusal> {
        let Some(pool) = self.statuses.get(&known.name) else { return self.absent(known) };
        let devices = pool.devices.iter().map(|device| self.pool_member(device));
        let (status, mut reason) = how(pool);
        if let Some(next) = self.node.next_try(&known.name).filter(|_| status == Status::Failed) {
            reason = format!("{reason} {next}");
        }
        Ok(Pool {
            name: name(&known.name)?,
            uuid: known.uuid.to_string(),
            devices: devices.collect::<Result<_, _>>()?,
            space: space(&pool.space),
            volumes: pool.volumes.len() as u32,
            snapshots: pool.snapshots.len() as u32,
            extent_bytes: EXTENT_BYTES,
            discard: known.discard,
            status,
            reason,
        })
    }

    /// A pool that cannot be imported now.
    fn absent(&self, known: &KnownPool) -> Result<Pool, Refusal> {
        let device = |(number, device): (u32, &String)| {
            let why = self.node.troubles.devices.get(device);
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
        let why = self.node.troubles.pools.get(&known.name).cloned();
        let next = self.node.next_try(&known.name);
        Ok(Pool {
            name: name(&known.name)?,
            uuid: known.uuid.to_string(),
            devices: (0..).zip(&known.devices).map(device).collect::<Result<_, Refusal>>()?,
            space: Space::default(),
            volumes: 0,
            snapshots: 0,
            extent_bytes: EXTENT_BYTES,
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
            status: if draining { Status::Busy } else { Status::Ok },
            reason: match draining {
                true => format!("{used} are left to move to the other devices"),
                false => format!("{used} of {} used", Size(member.bytes).rounded()),
            },
        })
    }

    fn pool_device(&self, pool: &str, number: u32) -> Result<PoolDevice, Refusal> {
        let devices = self.pool(pool)?.devices;
        devices.into_iter().find(|device| device.number == number).ok_or_else(|| {
            Refusal::not_found(format!("Pool {pool} has no device with number {number}."))
        })
    }
}

/// The device with a number in a pool, by its name.
fn member(node: &mut Node, pool: &str, number: u32) -> Result<DeviceStatus, Refusal> {
    let status = node.open_pool(pool)?.status()?;
    let found = status.devices.into_iter().find(|device| u32::from(device.number) == number);
    found.ok_or_else(|| {
        Refusal::not_found(format!("Pool {pool} has no device with number {number}."))
    })
}

impl ControlPlane {
    pub(super) fn make_pool(&self, request: &PoolCreate) -> Result<Made<Pool>, Refusal> {
        let made = self.with(|node| {
            if let Ok(there) = View::of(node)?.pool(request.name.as_str()) {
                let mut wanted = Vec::new();
                for device in &request.devices {
                    let at = std::path::Path::new(device.as_str());
                    let name = device.is_path().then(|| node.device_at(at)).flatten();
                    wanted.push(name.unwrap_or_else(|| device.to_string()));
                }
                let devices = there.devices.iter().filter_map(|device| device.device.as_ref());
                let mut has: Vec<String> = devices.map(ToString::to_string).collect();
                has.sort();
                wanted.sort();
                if has == wanted && request.discard.is_some_and(|mode| mode != there.discard) {
                    return Err(Refusal::exists(format!(
                        "There is a pool {} already, and its discard is {}: `forebay pool discard` \
                         changes it.",
                        request.name, there.discard
                    )));
                }
                if has == wanted {
                    return Ok(Made::Existing(there));
                }
                return Err(Refusal::exists(format!(
                    "There is a pool {} already, and it is on other devices: {}.",
                    request.name,
                    has.join(", ")
                )));
            }
            node.make_pool(request)?;
            View::of(node)?.pool(request.name.as_str()).map(Made::New)
        })?;
        if let Made::New(pool) = &made {
            let devices = webui_model::count(pool.devices.len(), "device");
            let message = format!("Pool {} is made of {devices}.", pool.name);
            self.done(EventKind::Created, (ObjectKind::Pool, &pool.name), message);
        }
        Ok(made)
    }

    pub(super) fn importable(&self) -> Result<Vec<ImportablePool>, Refusal> {
        self.with(|node| {
            let mut found: BTreeMap<(String, String), Vec<Name>> = BTreeMap::new();
            for seen in node.scan(&[]) {
                if let Found::Pool(uuid, pool, _) = &seen.found {
                    let key = (pool.clone(), uuid.to_string());
                    found.entry(key).or_default().extend(seen.name.parse::<Name>().ok());
                }
            }
            let known = |pool: &str| node.state().pools.iter().find(|known| known.name == pool);
            let show = |((pool, uuid), devices): ((String, String), Vec<Name>)| {
                let is_open = node.pools.values().any(|open| open.pool.uuid().to_string() == uuid);
                let (status, reason) = match known(&pool) {
                    _ if is_open => {
                        (Status::Failed, format!("a copy of pool {pool}, which is imported"))
                    }
                    Some(known) if known.uuid.to_string() != uuid => {
                        (Status::Failed, format!("there is a pool {pool} already"))
                    }
                    _ => (
                        Status::Offline,
                        format!(
                            "{} found; not imported",
                            webui_model::count(devices.len(), "device")
                        ),
                    ),
                };
                Ok(ImportablePool { name: name(&pool)?, uuid, devices, status, reason })
            };
            found.into_iter().map(show).collect()
        })
    }

    pub(super) fn import(&self, request: &PoolImport) -> Result<Made<Pool>, Refusal> {
        let made = self.with(|node| {
            if let Some(pool) = &request.name
                && node.pools.contains_key(pool.as_str())
            {
                node.is_on(pool.as_str(), &request.devices)?;
                if node.has_failed(pool.as_str()) {
                    if !node.can_reopen(pool.as_str()) {
                        return Err(Refusal::device(format!(
                            "Pool {pool} has failed, and not all of its devices take writes yet: it \
                             is opened again when they do. Or export it by force."
                        )));
                    }
                    node.want_now(pool.as_str());
                    node.begin_again(pool.as_str());
                    node.reopen_pools(false);
                    node.open_pool(pool.as_str())?;
                    return View::of(node)?.pool(pool.as_str()).map(Made::New);
                }
                return View::of(node)?.pool(pool.as_str()).map(Made::Existing);
            }
            if let Some(pool) = &request.name {
                node.want_now(pool.as_str());
            }
            let pool = node.import(request.name.as_ref(), &request.devices, request.force)?;
            node.learn_names(&pool);
            node.find_moved(&pool);
            node.restore_subsystems();
            node.restore_namespaces();
            View::of(node)?.pool(&pool).map(Made::New)
        })?;
        if let Made::New(pool) = &made {
            let message = format!("Pool {} is imported.", pool.name);
            self.done(EventKind::Created, (ObjectKind::Pool, &pool.name), message);
        }
        Ok(made)
    }

    pub(super) fn discard(&self, pool: &Name, mode: DiscardMode) -> Result<Pool, Refusal> {
        let now = self.with(|node| {
            node.set_discard(pool.as_str(), mode)?;
            View::of(node)?.pool(pool.as_str())
        })?;
        let message = format!("Discard of pool {pool} is {mode}.");
        self.done(EventKind::Changed, (ObjectKind::Pool, pool), message);
        Ok(now)
    }

    pub(super) fn let_pool_go(&self, pool: &Name, force: bool) -> Result<(), Refusal> {
        self.with(|node| node.export_pool(pool.as_str(), force))?;
        locked(&self.seen).jobs.pool_is_gone(pool.as_str(), super::now_ms());
        let message = format!("Pool {pool} is exported: another machine can import it.");
        self.done(EventKind::Deleted, (ObjectKind::Pool, pool), message);
        Ok(())
    }

    pub(super) fn remove_pool(&self, pool: &Name) -> Result<(), Refusal> {
        self.with(|node| node.delete_pool(pool.as_str()))?;
        locked(&self.seen).jobs.pool_is_gone(pool.as_str(), super::now_ms());
        let message = format!("Pool {pool} is deleted.");
        self.done(EventKind::Deleted, (ObjectKind::Pool, pool), message);
        Ok(())
    }

    pub(super) fn widen(
        &self,
        pool: &Name,
        request: &DeviceAdd,
    ) -> Result<Made<PoolDevice>, Refusal> {
        let made = self.with(|node| {
            let at = std::path::Path::new(request.device.as_str());
            let name = match request.device.is_path() {
                true => node.device_at(at),
                false => Some(request.device.to_string()),
            };
            let there = View::of(node)?.pool(pool.as_str())?.devices;
            let is_it =
                |device: &PoolDevice| device.device.as_ref().map(Name::as_str) == name.as_deref();
            if name.is_some()
                && let Some(device) = there.into_iter().find(is_it)
            {
                return Ok(Made::Existing(device));
            }
            let name = node.add_pool_device(pool.as_str(), &request.device, request.force)?;
            let devices = View::of(node)?.pool(pool.as_str())?.devices;
            let is_it = |device: &PoolDevice| {
                device.device.as_ref().is_some_and(|device| device.as_str() == name)
            };
            let device = devices.into_iter().find(is_it);
            device.map(Made::New).ok_or_else(|| {
                Refusal::unavailable(format!("Device {name} was added, and is gone again."))
            })
        })?;
        if let Made::New(device) = &made {
            let message = format!("Pool {pool} has one device more, number {}.", device.number);
            self.done(EventKind::Changed, (ObjectKind::Pool, pool), message);
        }
        Ok(made)
    }

    pub(super) fn member(&self, pool: &Name, number: u32) -> Result<PoolDevice, Refusal> {
        self.with(|node| View::of(node)?.pool_device(pool.as_str(), number))
    }

    pub(super) fn grow(&self, pool: &Name, number: u32) -> Result<PoolDevice, Refusal> {
        let device = self.with(|node| {
            let device = member(node, pool.as_str(), number)?.name;
            node.look_again(&device)?;
            node.with_pool(pool.as_str(), |pool| pool.grow_device(&device))?;
            View::of(node)?.pool_device(pool.as_str(), number)
        })?;
        let message = format!("Device {number} has {}.", Size(device.total_bytes).rounded());
        self.done(EventKind::Changed, (ObjectKind::Pool, pool), message);
        Ok(device)
    }

    pub(super) fn drain(&self, pool: &Name, number: u32) -> Result<Job, Refusal> {
        let job = self.with(|node| {
            let device = member(node, pool.as_str(), number)?;
            node.with_pool(pool.as_str(), |pool| pool.drain_device(&device.name))?;
            Ok(locked(&self.seen).jobs.drain(pool.as_str(), &device.name, device.used))
        })?;
        self.done(EventKind::Created, (ObjectKind::Job, job.id), job.reason.clone());
        Ok(job)
    }

    /// Ends a job: the device that it drains stays in its pool.
    pub(super) fn end_job(&self, id: u64) -> Result<Job, Refusal> {
        self.look();
        let job = self.with(|node| {
            let (pool, device) = locked(&self.seen).jobs.drained_by(id)?;
            let status = node.open_pool(&pool)?.status()?;
            if !status.devices.iter().any(|other| other.name == device) {
                return Err(Refusal::refused(format!("Job {id} has ended.")));
            }
            node.with_pool(&pool, |pool| pool.keep_device(&device))?;
            let reason = format!(
                "somebody ended it: {device} stays in {pool}, and what has moved stays elsewhere"
            );
            let ended = locked(&self.seen).jobs.cancelled(id, reason);
            ended.ok_or_else(|| Refusal::not_found(format!("There is no job {id}.")))
        })?;
        self.done(EventKind::Changed, (ObjectKind::Job, job.id), job.reason.clone());
        Ok(job)
    }

    pub(super) fn take_out(&self, pool: &Name, number: u32) -> Result<(), Refusal> {
        let device = self.with(|node| {
            let device = member(node, pool.as_str(), number)?;
            if device.used > 0 {
                return Err(Refusal::in_use(format!(
                    "Device {number} of pool {pool} holds {}: drain it first.",
                    Size(device.used).rounded()
                )));
            }
            node.with_pool(pool.as_str(), |pool| pool.drain_device(&device.name))?;
            Ok(device.name)
        })?;
        let until = Instant::now() + REMOVE;
        while self.with(|node| {
            let status = node.open_pool(pool.as_str())?.status()?;
            node.settle(pool.as_str(), &status);
            Ok(status.devices.iter().any(|other| other.name == device))
        })? {
            if Instant::now() > until {
                return Err(Refusal::unavailable(format!(
                    "Device {device} is still being taken out: see the jobs."
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let message = format!("Device {device} is no part of pool {pool} any more.");
        self.done(EventKind::Changed, (ObjectKind::Pool, pool), message);
        Ok(())
    }
}
