//! Pools: made, exported, deleted; their devices added and drained.

use super::Node;
use crate::channels;
use crate::pool::{BdevMedium, OpenPool, Part, in_pool, refusal};
use crate::state::KnownPool;
use bdev_pool::PoolStatus;
use std::sync::Arc;
use uuid::Uuid;
use webui_model::{DeviceRef, DiscardMode, PoolCreate, Refusal, RefusalKind};

/// How a device's user is called that is a pool.
fn user(pool: &str) -> String {
    format!("pool \"{pool}\"")
}

impl Node {
    /// Takes a device for a pool and opens it for the pool's metadata.
    pub(super) fn take_part(&mut self, device: &str, pool: &str) -> Result<Part, Refusal> {
        if let Some(why) = self.troubles.devices.get(device) {
            return Err(Refusal::device(format!("Device {device} is missing: {why}")));
        }
        self.bdevs.claim(device, &user(pool)).map_err(Refusal::in_use)?;
        let bdev = self.bdevs.meter(device).expect("claimed just now").clone();
        let open: usize = self.pools.values().map(|pool| pool.devices().count()).sum();
        let reactor = self.reactors[open % self.reactors.len()].handle.clone();
        match BdevMedium::open(bdev.clone(), reactor) {
            Ok(medium) => Ok(Part { name: device.to_owned(), bdev, medium: Arc::new(medium) }),
            Err(why) => {
                self.bdevs.release(device);
                Err(Refusal::device(format!("Device {device} cannot be opened: {why}.")))
            }
        }
    }

    /// Lets go of devices that no pool was opened on.
    pub(super) fn give_parts(&mut self, parts: &[Part]) {
        for part in parts {
            part.medium.close();
            self.bdevs.release(&part.name);
        }
    }

    pub(super) fn take_parts(
        &mut self,
        devices: &[String],
        pool: &str,
    ) -> Result<Vec<Part>, Refusal> {
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
        &mut self,
        devices: &[DeviceRef],
        force: bool,
        then: impl FnOnce(&mut Node, &[String]) -> Result<R, Refusal>,
    ) -> Result<R, Refusal> {
        let (mut names, mut new) = (Vec::new(), Vec::new());
        let resolved = devices.iter().try_for_each(|device| {
            let (name, is_new) = self.resolve(device, force)?;
            if names.contains(&name) {
                return Err(Refusal::invalid(format!("Device {name} is named twice.")));
            }
            new.extend(is_new.then(|| name.clone()));
            names.push(name);
            Ok(())
        });
        let done = resolved.and_then(|()| then(self, &names));
        if done.is_err() {
            for name in new {
                if let Err(refusal) = self.detach(&name) {
                    tracing::warn!(%refusal, "a device stays attached");
                }
            }
        }
        done
    }

    /// Makes a pool, durably.
    pub(crate) fn make_pool(&mut self, request: &PoolCreate) -> Result<(), Refusal> {
        let name = request.name.as_str();
        if self.state().pools.iter().any(|known| known.name == name) {
            return Err(Refusal::exists(format!("There is a pool {name} already.")));
        }
        self.with_devices(&request.devices, request.force, |node, devices| {
            let parts = node.take_parts(devices, name)?;
            let discard = request.discard.unwrap_or_default();
            let made = OpenPool::create(name, &parts, request.force, discard, &node.handles());
            node.keep_pool(made, &parts, discard)
        })
    }

    /// Keeps a pool that was opened, durably.
    pub(super) fn keep_pool(
        &mut self,
        opened: Result<OpenPool, Refusal>,
        parts: &[Part],
        discard: DiscardMode,
    ) -> Result<(), Refusal> {
        let mut pool = opened.inspect_err(|_| self.give_parts(parts))?;
        pool.returns = self.returns_of(&pool);
        let (name, uuid) = (pool.pool.name().to_owned(), pool.pool.uuid());
        let configured: Vec<String> =
            self.config.subsystems.iter().map(|subsystem| subsystem.nqn.clone()).collect();
        let kept = self.known(&pool, discard).and_then(|known| {
            self.change_state(|state| {
                state.pools.retain(|other| other.name != name);
                state.pools.push(known);
                state.pool_is_back(uuid, |nqn| configured.iter().any(|other| other == nqn));
            })
        });
        if let Err(refusal) = kept {
            // Nothing is open in it yet.
            let devices = pool.close().unwrap_or_else(|left| left.0.let_go());
            devices.iter().for_each(|device| self.bdevs.release(device));
            return Err(refusal);
        }
        tracing::info!(pool = name, %uuid, "imported");
        self.troubles.pools.remove(&name);
        assert!(self.pools.insert(name, pool).is_none(), "a pool is opened once");
        Ok(())
    }

    /// What is noted of an open pool.
    fn known(&self, pool: &OpenPool, discard: DiscardMode) -> Result<KnownPool, Refusal> {
        let status = pool.status()?;
        let identity = |name: &str| self.bdevs.get(name).ok()?.identity();
        let identities = status.devices.iter();
        let identities =
            identities.filter_map(|device| Some((device.uuid, identity(&device.name)?)));
        Ok(KnownPool {
            name: pool.pool.name().to_owned(),
            uuid: pool.pool.uuid(),
            identities: identities.collect(),
            devices: status.devices.into_iter().map(|device| device.name).collect(),
            discard,
        })
    }

    /// Lets go of a pool, durably: its volumes are not exported until it is imported again, and its
    /// devices stay attached.
    pub(crate) fn export_pool(&mut self, name: &str, force: bool) -> Result<(), Refusal> {
        if !self.state().pools.iter().any(|known| known.name == name) {
            return Err(Refusal::not_found(format!("There is no pool {name}.")));
        }
        if !force && let Some((source, host)) = self.first_connected(name) {
            return Err(Refusal::in_use(format!(
                "{host} is connected to {source}: disconnect it there, or force the export."
            )));
        }
        self.serve_no_more(name)?;
        if let Some(pool) = self.pools.remove(name) {
            match pool.close() {
                Ok(devices) => devices.iter().for_each(|device| self.bdevs.release(device)),
                // What is not durable by now will not be, here: its journals have it.
                Err(left) if force && left.1.kind == RefusalKind::Device => {
                    let devices = left.0.let_go();
                    devices.iter().for_each(|device| self.bdevs.release(device));
                }
                Err(left) => {
                    let (pool, refusal) = *left;
                    self.pools.insert(name.to_owned(), pool);
                    self.restore_subsystems();
                    self.restore_namespaces();
                    return Err(refusal);
                }
            }
        }
        self.troubles.pools.remove(name);
        self.change_state(|state| state.let_pool_go(name))
    }

    /// Says whether the devices of a pool are given back what nobody needs, durably.
    pub(crate) fn set_discard(&mut self, name: &str, mode: DiscardMode) -> Result<(), Refusal> {
        if !self.state().pools.iter().any(|known| known.name == name) {
            return Err(Refusal::not_found(format!("There is no pool {name}.")));
        }
        self.change_state(|state| {
            state.pools.iter_mut().filter(|known| known.name == name).for_each(|known| {
                known.discard = mode;
            });
        })?;
        // One that is not imported now is told when it is.
        let open = self.pools.get(name);
        open.map_or(Ok(()), |open| open.pool.set_discard(in_pool(mode)).map_err(refusal))
    }

    fn first_connected(&self, pool: &str) -> Option<(String, String)> {
        let namespaces = self.state().namespaces.iter();
        namespaces.filter(|known| known.source.pool() == Some(pool)).find_map(|known| {
            let host = self.connected_to(&known.source).into_iter().next()?;
            Some((known.source.to_string(), host))
        })
    }

    /// Hosts see nothing of a pool any more; what is wanted stays as it is.
    fn serve_no_more(&mut self, pool: &str) -> Result<(), Refusal> {
        let of = |known: &&crate::state::KnownNamespace| known.source.pool() == Some(pool);
        let known: Vec<_> = self.state().namespaces.iter().filter(of).cloned().collect();
        known.iter().try_for_each(|known| self.close_known(known).map_err(Refusal::in_use))
    }

    /// Deletes a pool without volumes: its devices are empty afterwards.
    pub(crate) fn delete_pool(&mut self, name: &str) -> Result<(), Refusal> {
        let status = self.open_pool(name)?.status()?;
        if !status.volumes.is_empty() {
            let names: Vec<&str> =
                status.volumes.iter().take(3).map(|volume| &*volume.name).collect();
            return Err(Refusal::in_use(format!(
                "Pool {name} has {} ({}{}): delete them first.",
                webui_model::count(status.volumes.len(), "volume"),
                names.join(", "),
                if status.volumes.len() > 3 { ", ..." } else { "" }
            )));
        }
        let devices: Vec<String> = self.open_pool(name)?.devices().map(str::to_owned).collect();
        self.export_pool(name, true)?;
        let parts = self.take_parts(&devices, name)?;
        let wiped = parts.iter().try_for_each(wipe);
        self.give_parts(&parts);
        wiped
    }

    /// Adds a device to a pool, durably.
    pub(crate) fn add_pool_device(
        &mut self,
        pool: &str,
        device: &DeviceRef,
        force: bool,
    ) -> Result<String, Refusal> {
        self.open_pool(pool)?;
        self.with_devices(std::slice::from_ref(device), force, |node, names| {
            let part = node.take_part(&names[0], pool)?;
            let open = node.open_pool(pool)?;
            let added = open.pool.add_device(part.member(), Uuid::new_v4(), force);
            if let Err(error) = added {
                node.give_parts(&[part]);
                return Err(refusal(error));
            }
            open.added(&part);
            node.note_devices(pool)?;
            Ok(part.name)
        })
    }

    /// Writes down what a pool is on.
    fn note_devices(&mut self, pool: &str) -> Result<(), Refusal> {
        let open = self.pools.get(pool).expect("it is open");
        let now = self.known(open, self.state().discard_of(open.pool.uuid()))?;
        self.change_state(|state| {
            for known in state.pools.iter_mut().filter(|known| known.uuid == now.uuid) {
                known.clone_from(&now);
            }
        })
    }

    /// Lets go of devices that have been drained. Returns them.
    pub(crate) fn settle(&mut self, pool: &str, status: &PoolStatus) -> Vec<String> {
        let Some(open) = self.pools.get_mut(pool) else { return Vec::new() };
        let is_member = |name: &str| status.devices.iter().any(|device| device.name == name);
        let gone: Vec<String> =
            open.devices().filter(|name| !is_member(name)).map(str::to_owned).collect();
        for name in &gone {
            open.drop_device(name);
            self.bdevs.release(name);
        }
        if !gone.is_empty()
            && let Err(refusal) = self.note_devices(pool)
        {
            tracing::error!("{refusal}");
        }
        gone
    }

    /// Closes every pool on the way down. Returns those that did not close well.
    pub(super) fn close_pools(&mut self) -> Vec<String> {
        let handles = self.handles();
        for namespace in channels::all(&self.registry) {
            let of_a_pool = |pool: &OpenPool| pool.source_of(namespace.bdev()).is_some();
            if self.pools.values().any(of_a_pool) {
                channels::close(&namespace, &handles);
            }
        }
        let mut failed = Vec::new();
        for (name, pool) in std::mem::take(&mut self.pools) {
            if let Err(left) = pool.close() {
                let (pool, refusal) = *left;
                tracing::error!(pool = name, "{refusal}");
                failed.push(format!("pool {name}"));
                drop(pool);
            }
        }
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
