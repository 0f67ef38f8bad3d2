//! Pools: made, exported, deleted; their devices added and drained.

use super::{Node, PoolTable};
use crate::channels;
use crate::executor::Task;
use crate::pool::{BdevMedium, OpenPool, Part, in_pool};
use crate::unit::schedule::{Claim, Key};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;
use wanted::{Pool, Request, Source};
use webui_model::{DeviceRef, DiscardMode, PoolCreate, Refusal, RefusalKind};

/// How a device's user is called that is a pool.
pub(super) fn user(pool: &str) -> String {
    format!("pool \"{pool}\"")
}

/// How long commands of hosts may take to end on the way down.
const DRAIN: Duration = Duration::from_secs(30);

/// How long a part of something waits for another that is at work on the same device.
const TURN: Duration = Duration::from_secs(5);

/// Pools: made, exported, deleted; their devices added and drained.
#[derive(Clone, Copy)]
pub(crate) struct Pools<'a> {
    pub(super) node: &'a Node,
}

impl Pools<'_> {
    /// Takes a device for a pool and opens it for the pool's metadata.
    pub(super) fn take_part(self, device: &str, pool: &str) -> Result<Part, Refusal> {
        let what = format!("opening device {device} for pool {pool}");
        let claims = vec![Claim::sole(Key::Device(device.to_owned()))];
        let task = Task { patience: TURN, ..Task::new(what, claims) };
        let _turn = self.node.executor.turn(task)?;
        self.open_part(device, pool)
    }

    /// As [`Pools::take_part`], for one whose turn it is with the device.
    pub(super) fn open_part(self, device: &str, pool: &str) -> Result<Part, Refusal> {
        let missing = self.node.supervisor().missing();
        if let Some(why) = missing.devices.get(device) {
            return Err(Refusal::device(format!("Device {device} is missing: {why}")));
        }
        self.node.bdevs.claim(device, &user(pool)).map_err(Refusal::in_use)?;
        let bdev = self.node.bdevs.meter(device).expect("claimed just now").clone();
        let open: usize = self.node.pools.get().values().map(|pool| pool.devices().len()).sum();
        let reactors = &self.node.reactors;
        let reactor = reactors[open % reactors.len()].handle.clone();
        match BdevMedium::open(bdev.clone(), reactor) {
            Ok(medium) => Ok(Part { name: device.to_owned(), bdev, medium: Arc::new(medium) }),
            Err(why) => {
                self.node.bdevs.release(device);
                Err(Refusal::device(format!("Device {device} cannot be opened: {why}.")))
            }
        }
    }

    /// Lets go of devices that no pool was opened on.
    pub(super) fn give_parts(self, parts: &[Part]) {
        for part in parts {
            part.medium.close();
            self.node.bdevs.release(&part.name);
        }
    }

    pub(super) fn take_parts(self, devices: &[String], pool: &str) -> Result<Vec<Part>, Refusal> {
        let mut parts = Vec::new();
        for device in devices {
            match self.take_part(device, pool) {
                Ok(part) => parts.push(part),
                Err(refusal) => {
                    self.give_parts(&parts);
                    return Err(refusal);
                }
            }
        }
        Ok(parts)
    }

    /// The devices that are meant. What is attached for this is detached again if `then` refuses.
    pub(super) fn with_devices<R>(
        self,
        devices: &[DeviceRef],
        force: bool,
        then: impl FnOnce(&[String]) -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        let (mut names, mut new) = (Vec::new(), Vec::new());
        let resolved = devices.iter().try_for_each(|device| {
            let (name, is_new) = self.node.devices().resolve(device, force)?;
            if names.contains(&name) {
                return Err(Refusal::invalid(format!("Device {name} is named twice.")));
            }
            new.extend(is_new.then(|| name.clone()));
            names.push(name);
            Ok(())
        });
        let done = resolved.and_then(|()| then(&names));
        if done.is_err() {
            for name in new {
                if let Err(refusal) = self.node.devices().detach(&name) {
                    tracing::warn!(%refusal, "a device stays attached");
                }
            }
        }
        done
    }

    /// Makes a pool, durably.
    pub(crate) fn create(self, request: &PoolCreate) -> Result<(), Refusal> {
        let name = request.name.as_str();
        self.with_devices(&request.devices, request.force, |devices| {
            let (create, names) = (request.clone(), devices.to_vec());
            self.node.would(&Request::CreatePool { create, devices: names, uuid: Uuid::nil() })?;
            let parts = self.take_parts(devices, name)?;
            let discard = request.discard.unwrap_or_default();
            let handles = self.node.handles();
            let made = OpenPool::create(name, &parts, request.force, discard, &handles);
            self.keep(made, &parts, discard)
        })
    }

    /// Keeps a pool that was opened, durably.
    pub(super) fn keep(
        self,
        opened: Result<OpenPool, Refusal>,
        parts: &[Part],
        discard: DiscardMode,
    ) -> Result<(), Refusal> {
        let pool = Arc::new(opened.inspect_err(|_| self.give_parts(parts))?);
        pool.set_returns(self.returns_of(&pool));
        let (name, uuid) = (pool.name().to_owned(), pool.uuid());
        let kept = self.node.edit(&Request::KeepPool(self.known(&pool, discard)));
        let kept = kept.and_then(|_| {
            self.node.pools.change(|pools| match pools.contains_key(&name) {
                true => Err(Refusal::exists(format!("Pool {name} is imported already."))),
                false => {
                    pools.insert(name.clone(), pool.clone());
                    Ok(())
                }
            })
        });
        if let Err(refusal) = kept {
            // Nothing is open in it yet.
            let devices = pool.close().unwrap_or_else(|_| pool.let_go());
            devices.iter().for_each(|device| self.node.bdevs.release(device));
            return Err(refusal);
        }
        tracing::info!(pool = name, %uuid, "imported");
        Ok(())
    }

    /// Takes a pool out of the table: nobody finds it any more.
    pub(super) fn take(self, name: &str) -> Option<Arc<OpenPool>> {
        self.node.pools.change(|pools| pools.remove(name))
    }

    /// Puts one back that could not be closed.
    pub(super) fn put_back(self, pool: Arc<OpenPool>) {
        self.node.pools.change(|pools| pools.insert(pool.name().to_owned(), pool));
    }

    /// What is noted of an open pool.
    fn known(self, pool: &OpenPool, discard: DiscardMode) -> Pool {
        let status = pool.status();
        let identity = |name: &str| self.node.bdevs.get(name).ok()?.identity();
        let identities = status.devices.iter();
        let identities =
            identities.filter_map(|device| Some((device.uuid, identity(&device.name)?)));
        Pool {
            name: pool.name().to_owned(),
            uuid: pool.uuid(),
            identities: identities.collect(),
            devices: status.devices.iter().map(|device| device.name.clone()).collect(),
            discard,
        }
    }

    /// Lets go of a pool, durably: its volumes are not exported until it is imported again, and its
    /// devices stay attached. It is noted last: until then the pool comes back after a kill.
    pub(crate) fn export(self, name: &str, force: bool) -> Result<(), Refusal> {
        let request = |force| Request::ExportPool { pool: name.to_owned(), force };
        let without = self.node.would(&request(force))?;
        self.close(name, &without.changes, force)?;
        self.node.edit(&request(true)).map(drop)
    }

    /// Takes a pool from hosts and closes it, by force also if it cannot be made durable. `changes`
    /// name the namespaces that go.
    fn close(self, name: &str, changes: &[wanted::Change], force: bool) -> Result<(), Refusal> {
        let stays = |refusal| {
            self.node.supervisor().stir_exports();
            Err(refusal)
        };
        if let Err(refusal) = self.node.exports().end(changes) {
            return stays(refusal);
        }
        let Some(pool) = self.take(name) else { return Ok(()) };
        let devices = match pool.close() {
            Ok(devices) => devices,
            // What is not durable by now will not be, here: its journals have it.
            Err(refusal) if force && refusal.kind == RefusalKind::Device => pool.let_go(),
            Err(refusal) => {
                self.put_back(pool);
                return stays(refusal);
            }
        };
        devices.iter().for_each(|device| self.node.bdevs.release(device));
        Ok(())
    }

    /// Says whether the devices of a pool are given back what nobody needs, durably.
    pub(crate) fn set_discard(self, name: &str, mode: DiscardMode) -> Result<(), Refusal> {
        let edited = self.node.edit(&Request::SetDiscard { pool: name.to_owned(), mode })?;
        // One that is not imported now is told when it is.
        let open = self.node.pool(name);
        let told = open.map_or(Ok(()), |open| open.ask(|pool| pool.set_discard(in_pool(mode))));
        told.inspect_err(|_| self.node.undo(&edited))
    }

    /// Deletes a pool without volumes: its devices are empty afterwards.
    pub(crate) fn delete(self, name: &str) -> Result<(), Refusal> {
        let without = self.node.would(&Request::DeletePool(name.to_owned()))?;
        let devices = self.get(name)?.devices();
        self.close(name, &without.changes, true)?;
        // The pool is this change's alone: what was asked for above is so still.
        self.node.ledger.change(|wanted| {
            let changes = without.changes.clone();
            Ok(wanted::Edited { wanted: wanted.with(&changes), changes })
        })?;
        let parts = self.take_parts(&devices, name)?;
        let wiped = parts.iter().try_for_each(wipe);
        self.give_parts(&parts);
        wiped
    }

    /// Adds a device to a pool, durably.
    pub(crate) fn add_device(
        self,
        pool: &str,
        device: &DeviceRef,
        force: bool,
    ) -> Result<String, Refusal> {
        let open = self.get(pool)?;
        self.with_devices(std::slice::from_ref(device), force, |names| {
            let (to, device) = (pool.to_owned(), names[0].clone());
            self.node.would(&Request::AddDevice { pool: to, device })?;
            let part = self.take_part(&names[0], pool)?;
            if let Err(refusal) = open.add_device(&part, force) {
                self.give_parts(&[part]);
                return Err(refusal);
            }
            self.note_devices(&open)?;
            Ok(part.name)
        })
    }

    /// Writes down what a pool is on.
    fn note_devices(self, open: &OpenPool) -> Result<(), Refusal> {
        let now = self.known(open, self.node.wanted().discard_of(open.uuid()));
        self.node.edit(&Request::KeepPool(now)).map(drop)
    }

    /// Lets go of devices that have been drained. Returns them.
    pub(crate) fn settle(self, open: &OpenPool) -> Vec<String> {
        let status = open.status();
        let is_member = |name: &String| status.devices.iter().any(|device| device.name == *name);
        let gone: Vec<String> =
            open.devices().into_iter().filter(|name| !is_member(name)).collect();
        for name in &gone {
            open.drop_device(name);
            self.node.bdevs.release(name);
        }
        if !gone.is_empty()
            && let Err(refusal) = self.note_devices(open)
        {
            tracing::error!("{refusal}");
        }
        gone
    }

    /// Closes every pool on the way down. Returns those that did not close well.
    pub(super) fn close_all(self) -> Vec<String> {
        let handles = self.node.handles();
        let pools = self.node.pools.get();
        let until = Instant::now() + DRAIN;
        for namespace in channels::all(&self.node.registry) {
            if pools.values().any(|pool| pool.source_of(namespace.bdev()).is_some()) {
                channels::close(&namespace, &handles, until);
            }
        }
        let mut failed = Vec::new();
        for (name, pool) in pools.iter() {
            if let Err(refusal) = pool.close() {
                tracing::error!(pool = name, "{refusal}");
                failed.push(format!("pool {name}"));
            }
        }
        self.node.pools.set(PoolTable::new());
        failed
    }
}

/// Makes a device that nobody uses empty: the superblocks of a pool are gone.
fn wipe(part: &Part) -> Result<(), Refusal> {
    let wiped = bdev_pool::give_up(&*part.medium);
    wiped.map_err(|error| {
        Refusal::device(format!("Device {} cannot be written: {error}.", part.name))
    })
}

impl Pools<'_> {
    /// The pool, or that it is not there, and why.
    pub(crate) fn get(self, name: &str) -> Result<Arc<OpenPool>, Refusal> {
        self.node.pool(name).ok_or_else(|| {
            if self.node.wanted().pool(name).is_none() {
                return Refusal::not_found(format!("There is no pool {name}."));
            }
            let missing = self.node.supervisor().missing();
            let why = missing.pools.get(name).map_or("it is being opened.", |why| why);
            Refusal::unavailable(format!("Pool {name} is not imported: {why}"))
        })
    }

    /// The source that is the volume `name`.
    pub(crate) fn volume_source(self, pool: &str, name: &str) -> Result<Source, Refusal> {
        let found = self.get(pool)?.directory().volume_named(name);
        let found = found
            .ok_or_else(|| Refusal::not_found(format!("Pool {pool} has no volume {name}.")))?;
        Ok(Source::Volume { pool: pool.into(), uuid: found.uuid, name: name.into() })
    }

    /// The source that is the snapshot `snapshot` of the volume `name`.
    pub(crate) fn snapshot_source(
        self,
        pool: &str,
        name: &str,
        snapshot: &str,
    ) -> Result<Source, Refusal> {
        let Source::Volume { uuid, .. } = self.volume_source(pool, name)? else {
            unreachable!("a volume is one")
        };
        if self.get(pool)?.directory().snapshot_named(name, snapshot).is_none() {
            return Err(Refusal::not_found(format!(
                "Volume {pool}/{name} has no snapshot {snapshot}."
            )));
        }
        let (pool, name, snapshot) = (pool.to_owned(), name.to_owned(), snapshot.to_owned());
        Ok(Source::Snapshot { pool, uuid, name, snapshot })
    }

    /// Does something with a pool.
    pub(crate) fn ask<R>(
        self,
        name: &str,
        f: impl FnOnce(&bdev_pool::Pool) -> Result<R, bdev_pool::PoolError>,
    ) -> Result<R, Refusal> {
        self.get(name)?.ask(f)
    }
}
