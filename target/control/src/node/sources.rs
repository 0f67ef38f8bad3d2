//! What namespaces show, and the namespaces and subsystems that are wanted.

use super::{Node, hosts};
use crate::pool::refusal;
use crate::state::{KnownNamespace, KnownSubsystem, Source};
use bdev::Bdev;
use std::sync::Arc;
use uuid::Uuid;
use webui_model::{ExportSet, Refusal};

impl Node {
    /// A bdev in words.
    pub(crate) fn name_of(&self, bdev: &Arc<dyn Bdev>) -> String {
        if let Some(name) = self.bdevs.name_of(bdev) {
            return name.to_owned();
        }
        let source = self.pools.values().find_map(|pool| pool.source_of(bdev));
        source.map_or_else(|| "?".to_owned(), Source::to_string)
    }

    /// The bdev behind a source. A device is taken for it.
    fn source_bdev(&mut self, source: &Source, user: &str) -> Result<Arc<dyn Bdev>, String> {
        match source {
            Source::Device { name } => match self.troubles.devices.get(name) {
                Some(why) => Err(format!("Device {name} is missing: {why}")),
                None => self.bdevs.claim(name, user),
            },
            Source::Volume { pool, .. } | Source::Snapshot { pool, .. } => {
                let Some(open) = self.pools.get_mut(pool) else {
                    let why = self.troubles.pools.get(pool).map_or("it is not imported", |why| why);
                    return Err(format!("Pool {pool} is not there: {why}"));
                };
                Ok(open.bdev(source).map_err(|refusal| refusal.message)?)
            }
        }
    }

    /// Whether a wanted namespace is there.
    pub(crate) fn is_served(&self, known: &KnownNamespace) -> bool {
        let subsystem = self.registry.subsystem(&known.subsystem);
        subsystem.is_some_and(|subsystem| subsystem.namespace(known.nsid).is_some())
    }

    /// Whether its pool is there, and says that what it shows is not.
    pub(super) fn is_gone(&self, known: &KnownNamespace) -> bool {
        let Some(Ok(status)) =
            known.source.pool().and_then(|pool| self.pools.get(pool)).map(|pool| pool.status())
        else {
            return false;
        };
        let (Source::Volume { uuid, .. } | Source::Snapshot { uuid, .. }) = &known.source else {
            return false;
        };
        let Some(volume) = status.volumes.iter().find(|volume| volume.uuid == *uuid) else {
            return true;
        };
        match &known.source {
            Source::Snapshot { snapshot, .. } => {
                !status.snapshots.iter().any(|s| s.volume == volume.name && s.name == *snapshot)
            }
            _ => false,
        }
    }

    /// Opens a wanted namespace in its subsystem, which is there.
    pub(super) fn open_known(&mut self, known: &KnownNamespace) -> Result<(), String> {
        let KnownNamespace { subsystem, nsid, uuid, source } = known;
        let bdev = self.source_bdev(source, &format!("namespace {nsid} of {subsystem}"))?;
        let opened = self.open_namespace(subsystem, *nsid, Some(*uuid), bdev);
        opened.inspect_err(|_| {
            if let Source::Device { name } = source {
                self.bdevs.release(name);
            }
        })
    }

    /// Whether the configuration declares a subsystem.
    pub(crate) fn is_configured(&self, nqn: &str) -> bool {
        self.config.subsystems.iter().any(|subsystem| subsystem.nqn == nqn)
    }

    /// Adds a namespace, durably, in a subsystem that is there.
    ///
    /// # Errors
    /// Why not; nothing of it is left then.
    pub(crate) fn want_namespace(
        &mut self,
        nqn: &str,
        nsid: Option<u32>,
        uuid: Uuid,
        source: Source,
    ) -> Result<u32, Refusal> {
        let subsystem = self.registry.subsystem(nqn);
        let subsystem =
            subsystem.ok_or_else(|| Refusal::not_found(format!("There is no subsystem {nqn}.")))?;
        let nsid = match nsid {
            Some(nsid) => nsid,
            None => self.free_nsid(nqn).map_err(Refusal::full)?,
        };
        let taken = |known: &KnownNamespace| (&*known.subsystem, known.nsid) == (nqn, nsid);
        if subsystem.namespace(nsid).is_some() || self.state().namespaces.iter().any(taken) {
            return Err(Refusal::exists(format!(
                "Subsystem {nqn} has a namespace {nsid} already: take another number."
            )));
        }
        let known = KnownNamespace { subsystem: nqn.into(), nsid, uuid, source };
        self.change_state(|state| state.namespaces.push(known.clone()))?;
        match self.open_known(&known) {
            Ok(()) => Ok(nsid),
            Err(why) => {
                self.change_state(|state| state.namespaces.retain(|other| *other != known))?;
                Err(Refusal::in_use(format!("The {} cannot be exported: {why}", known.source)))
            }
        }
    }

    /// Closes a namespace that is wanted; its subsystem too, if it is the source's own.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn close_known(&mut self, known: &KnownNamespace) -> Result<(), String> {
        let KnownNamespace { subsystem: nqn, nsid, .. } = known;
        let own = self.state().subsystem(nqn).is_some_and(|subsystem| subsystem.own);
        self.troubles.namespaces.remove(&(nqn.clone(), *nsid));
        if own {
            self.troubles.subsystems.remove(nqn);
        }
        if own && self.registry.subsystem(nqn).is_some() {
            self.remove_subsystem(nqn)
        } else if self.is_served(known) {
            self.remove_namespace(nqn, *nsid)
        } else {
            Ok(())
        }
    }

    /// Removes a namespace, durably; the subsystem too, if it is the source's own.
    pub(crate) fn forget_namespace(&mut self, known: &KnownNamespace) -> Result<(), Refusal> {
        let KnownNamespace { subsystem: nqn, nsid, .. } = known;
        let own = self.state().subsystem(nqn).is_some_and(|subsystem| subsystem.own);
        let removed = self.close_known(known);
        self.change_state(|state| {
            state.namespaces.retain(|other| (&other.subsystem, other.nsid) != (nqn, *nsid));
            if own {
                state.subsystems.retain(|subsystem| subsystem.nqn != *nqn);
            }
        })?;
        removed.map_err(Refusal::in_use)
    }

    /// Notes, durably, how a source is to be exported: as `set` says, `own` being the NQN of its own
    /// subsystem. It need not be there yet: if it never comes, a restart forgets the note.
    ///
    /// # Errors
    /// Why it could not be exported so; nothing is noted then.
    pub(crate) fn intend(
        &mut self,
        source: Source,
        uuid: Uuid,
        own: &str,
        set: &ExportSet,
    ) -> Result<KnownNamespace, Refusal> {
        if let Some(nqn) = &set.subsystem {
            let (subsystem, nsid) = (nqn.to_string(), self.free_nsid(nqn.as_str()));
            let nsid = nsid.map_err(Refusal::full)?;
            let known = KnownNamespace { subsystem, nsid, uuid, source };
            self.change_state(|state| state.namespaces.push(known.clone()))?;
            return Ok(known);
        }
        if self.registry.subsystem(own).is_some() || self.state().subsystem(own).is_some() {
            return Err(Refusal::exists(format!(
                "There is a subsystem {own} already, of something else: export {source} in it or \
                 in another one by naming it."
            )));
        }
        let hosts = set.hosts.iter().map(ToString::to_string).collect();
        let allow_any_host = set.allow_any_host;
        let subsystem = KnownSubsystem { nqn: own.into(), own: true, hosts, allow_any_host };
        let known = KnownNamespace { subsystem: own.into(), nsid: 1, uuid, source };
        self.change_state(|state| {
            state.subsystems.push(subsystem);
            state.namespaces.push(known.clone());
        })?;
        Ok(known)
    }

    /// Exports a source as was noted before.
    ///
    /// # Errors
    /// Why not; the note is there still.
    pub(crate) fn carry_out(&mut self, known: &KnownNamespace) -> Result<(), Refusal> {
        let nqn = &known.subsystem;
        if self.registry.subsystem(nqn).is_none()
            && let Some(subsystem) = self.state().subsystem(nqn).cloned()
        {
            let who = hosts(subsystem.allow_any_host, subsystem.hosts);
            self.make_subsystem(nqn, who).map_err(|why| {
                Refusal::invalid(format!("Subsystem {nqn} cannot be made: {why}."))
            })?;
        }
        self.open_known(known).map_err(|why| {
            Refusal::in_use(format!("The {} cannot be exported: {why}", known.source))
        })
    }

    /// Exports a volume or snapshot that is there as `set` says; `own` is the NQN of its own
    /// subsystem.
    pub(crate) fn export(
        &mut self,
        source: Source,
        uuid: Uuid,
        own: &str,
        set: &ExportSet,
    ) -> Result<(), Refusal> {
        let known = self.intend(source, uuid, own, set)?;
        match self.carry_out(&known) {
            Ok(()) => Ok(()),
            Err(refusal) => {
                self.forget_namespace(&known)?;
                Err(refusal)
            }
        }
    }

    /// Adds a subsystem, durably.
    pub(crate) fn want_subsystem(
        &mut self,
        nqn: &str,
        own: bool,
        listed: Vec<String>,
        allow_any_host: bool,
    ) -> Result<(), Refusal> {
        let who = hosts(allow_any_host, listed.clone());
        let known = KnownSubsystem { nqn: nqn.into(), own, hosts: listed, allow_any_host };
        self.change_state(|state| state.subsystems.push(known))?;
        if let Err(why) = self.make_subsystem(nqn, who) {
            self.change_state(|state| state.subsystems.retain(|other| other.nqn != nqn))?;
            return Err(Refusal::invalid(format!("Subsystem {nqn} cannot be made: {why}.")));
        }
        Ok(())
    }

    /// Removes a subsystem, durably.
    pub(crate) fn forget_subsystem(&mut self, nqn: &str) -> Result<(), Refusal> {
        let removed = match self.registry.subsystem(nqn) {
            Some(_) => self.remove_subsystem(nqn),
            None => Ok(()),
        };
        self.troubles.subsystems.remove(nqn);
        self.change_state(|state| {
            state.subsystems.retain(|other| other.nqn != nqn);
            state.namespaces.retain(|other| other.subsystem != nqn);
        })?;
        removed.map_err(Refusal::in_use)
    }

    /// Sets who may connect, durably; hosts that stay allowed stay connected.
    pub(crate) fn set_hosts(
        &mut self,
        nqn: &str,
        listed: Vec<String>,
        allow_any_host: bool,
    ) -> Result<(), Refusal> {
        if self.is_configured(nqn) {
            return Err(Refusal::refused(format!(
                "The configuration file says who may connect to {nqn}: change it there."
            )));
        }
        let who = hosts(allow_any_host, listed.clone());
        self.change_state(|state| {
            for known in state.subsystems.iter_mut().filter(|known| known.nqn == nqn) {
                known.hosts.clone_from(&listed);
                known.allow_any_host = allow_any_host;
            }
        })?;
        self.registry.set_hosts(nqn, who).map_err(|error| Refusal::invalid(format!("{error}.")))
    }

    /// Hosts that are connected to the subsystem that shows `source`.
    pub(crate) fn connected_to(&self, source: &Source) -> Vec<String> {
        let Some(known) = self.state().namespace_of(source) else { return Vec::new() };
        let Some(subsystem) = self.registry.subsystem(&known.subsystem) else {
            return Vec::new();
        };
        let controllers = subsystem.live_controllers();
        let mut hosts: Vec<String> =
            controllers.iter().map(|c| c.association().host_nqn.clone()).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }

    /// The pool, or that it is not there, and why.
    pub(crate) fn open_pool(&mut self, name: &str) -> Result<&mut crate::pool::OpenPool, Refusal> {
        match self.pools.get_mut(name) {
            Some(pool) => Ok(pool),
            None => Err(match self.troubles.pools.get(name) {
                Some(why) => Refusal::unavailable(format!("Pool {name} is not imported: {why}")),
                None => Refusal::not_found(format!("There is no pool {name}.")),
            }),
        }
    }

    /// The source that is the volume `name`.
    pub(crate) fn volume_source(&mut self, pool: &str, name: &str) -> Result<Source, Refusal> {
        let status = self.open_pool(pool)?.status()?;
        let found = status.volumes.into_iter().find(|volume| volume.name == name);
        let found = found
            .ok_or_else(|| Refusal::not_found(format!("Pool {pool} has no volume {name}.")))?;
        Ok(Source::Volume { pool: pool.into(), uuid: found.uuid, name: name.into() })
    }

    /// The source that is the snapshot `snapshot` of the volume `name`.
    pub(crate) fn snapshot_source(
        &mut self,
        pool: &str,
        name: &str,
        snapshot: &str,
    ) -> Result<Source, Refusal> {
        let Source::Volume { uuid, .. } = self.volume_source(pool, name)? else {
            unreachable!("a volume is one")
        };
        let status = self.open_pool(pool)?.status()?;
        if !status.snapshots.iter().any(|s| s.volume == name && s.name == snapshot) {
            return Err(Refusal::not_found(format!(
                "Volume {pool}/{name} has no snapshot {snapshot}."
            )));
        }
        let (pool, name, snapshot) = (pool.to_owned(), name.to_owned(), snapshot.to_owned());
        Ok(Source::Snapshot { pool, uuid, name, snapshot })
    }

    /// Does something with a pool.
    pub(crate) fn with_pool<R>(
        &mut self,
        name: &str,
        f: impl FnOnce(&bdev_pool::Pool) -> Result<R, bdev_pool::PoolError>,
    ) -> Result<R, Refusal> {
        f(&self.open_pool(name)?.pool).map_err(refusal)
    }
}
