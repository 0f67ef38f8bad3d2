//! What namespaces show, and the namespaces and subsystems that are wanted.

use super::{Exports, hosts};
use crate::executor::Task;
use crate::state::{KnownNamespace, KnownSubsystem, Source};
use crate::unit::schedule::{Claim, Key};
use bdev::Bdev;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;
use webui_model::{ExportSet, Refusal};

/// How long bringing a namespace back waits for who is at work on it.
const TURN: Duration = Duration::from_secs(1);

/// What changing how something is exported needs of it.
pub(crate) fn source_claims(source: &Source) -> Vec<Claim> {
    match source {
        Source::Volume { pool, name, .. } | Source::Snapshot { pool, name, .. } => vec![
            Claim::shared(Key::Pool(pool.clone())),
            Claim::sole(Key::Volume(pool.clone(), name.clone())),
        ],
        // Its export alone: the device may be asked for its size.
        Source::Device { .. } => Vec::new(),
    }
}

fn claims(known: &KnownNamespace) -> Vec<Claim> {
    let mut claims = source_claims(&known.source);
    claims.push(Claim::sole(Key::Subsystem(known.subsystem.clone())));
    claims
}

impl Exports<'_> {
    /// A bdev in words.
    pub(crate) fn name_of(self, bdev: &Arc<dyn Bdev>) -> String {
        if let Some(name) = self.node.bdevs.name_of(bdev) {
            return name;
        }
        let pools = self.node.pools.get();
        let source = pools.values().find_map(|pool| pool.source_of(bdev));
        source.map_or_else(|| "?".to_owned(), |source| source.to_string())
    }

    /// The bdev behind a source. A device is taken for it.
    fn source_bdev(self, source: &Source, user: &str) -> Result<Arc<dyn Bdev>, String> {
        let nothing = |_: &str| None;
        match source {
            Source::Device { name } => match self.node.bdevs.claim(name, user) {
                Err(why) => Err(self.lacks_source(source, &nothing, &nothing).unwrap_or(why)),
                claimed => claimed,
            },
            Source::Volume { pool, .. } | Source::Snapshot { pool, .. } => {
                let open = self.node.pools().get(pool).map_err(|refusal| refusal.message)?;
                Ok(open.bdev(source).map_err(|refusal| refusal.message)?)
            }
        }
    }

    /// What a wanted namespace lacks to be opened, in a sentence: `device` and `pool` say why one is
    /// missing.
    pub(super) fn lacks(
        self,
        known: &KnownNamespace,
        device: &dyn Fn(&str) -> Option<String>,
        pool: &dyn Fn(&str) -> Option<String>,
    ) -> Option<String> {
        self.lacks_source(&known.source, device, pool)
    }

    fn lacks_source(
        self,
        source: &Source,
        device: &dyn Fn(&str) -> Option<String>,
        pool: &dyn Fn(&str) -> Option<String>,
    ) -> Option<String> {
        match source {
            Source::Device { name } if !self.node.bdevs.table().contains_key(name) => {
                let missing = self.node.supervisor().missing();
                let why = device(name).or_else(|| missing.devices.get(name).cloned());
                let why = why.unwrap_or_else(|| "it is being opened.".to_owned());
                Some(format!("Device {name} is missing: {why}"))
            }
            Source::Volume { pool: of, .. } | Source::Snapshot { pool: of, .. }
                if self.node.pool(of).is_none() =>
            {
                let missing = self.node.supervisor().missing();
                let why = pool(of).or_else(|| missing.pools.get(of).cloned());
                let why = why.unwrap_or_else(|| "it is not imported".to_owned());
                Some(format!("Pool {of} is not there: {why}"))
            }
            _ => None,
        }
    }

    /// Whether a wanted namespace is there.
    pub(crate) fn is_served(self, known: &KnownNamespace) -> bool {
        let subsystem = self.node.registry.subsystem(&known.subsystem);
        subsystem.is_some_and(|subsystem| subsystem.namespace(known.nsid).is_some())
    }

    /// Whether its pool is there, and says that what it shows is not.
    fn is_gone(self, known: &KnownNamespace) -> bool {
        let Some(open) = known.source.pool().and_then(|pool| self.node.pool(pool)) else {
            return false;
        };
        let (Source::Volume { uuid, .. } | Source::Snapshot { uuid, .. }) = &known.source else {
            return false;
        };
        let Some(volume) = open.directory().volume_by_uuid(*uuid) else { return true };
        match &known.source {
            Source::Snapshot { snapshot, .. } => {
                open.directory().snapshot_named(&volume.name, snapshot).is_none()
            }
            _ => false,
        }
    }

    /// Brings a wanted namespace back; none while somebody else is at work on it.
    pub(super) fn restore(self, known: &KnownNamespace) -> Option<Result<(), String>> {
        let what = format!("exporting {}", known.source);
        let task = Task { patience: TURN, ..Task::new(what, claims(known)) };
        let _turn = self.node.executor.turn(task).ok()?;
        let is_wanted = self.node.declared.contains(known)
            || self.node.state().namespaces.iter().any(|other| other == known);
        if !is_wanted || self.is_served(known) {
            return Some(Ok(()));
        }
        if let Err(why) = self.make_wanted(&known.subsystem) {
            return Some(Err(why));
        }
        let opened = self.open_known(known);
        if opened.is_err() && self.is_gone(known) {
            self.drop_namespace(known);
            return Some(Ok(()));
        }
        Some(opened)
    }

    /// Brings a wanted subsystem back, unless somebody else is at work on it.
    pub(super) fn restore_subsystem(self, nqn: &str) -> Result<(), String> {
        let claims = vec![Claim::sole(Key::Subsystem(nqn.to_owned()))];
        let task = Task { patience: TURN, ..Task::new(format!("making {nqn}"), claims) };
        match self.node.executor.turn(task) {
            Ok(_turn) => self.make_wanted(nqn),
            // It is looked for again when that has ended.
            Err(_) => Ok(()),
        }
    }

    /// Makes a subsystem that is wanted, if it is not there.
    fn make_wanted(self, nqn: &str) -> Result<(), String> {
        let state = self.node.state();
        match state.subsystem(nqn) {
            Some(known) if self.node.registry.subsystem(nqn).is_none() => {
                let who = hosts(known.allow_any_host, known.hosts.iter().cloned());
                self.make_subsystem(nqn, None, who)
            }
            _ => Ok(()),
        }
    }

    /// Of a volume or snapshot that its pool does not have: it was deleted, or never made, when the
    /// appliance was killed.
    fn drop_namespace(self, known: &KnownNamespace) {
        tracing::warn!(nqn = known.subsystem, nsid = known.nsid, source = %known.source,
            "what a namespace showed is gone, and so is the namespace");
        if let Err(refusal) = self.forget_namespace(known) {
            tracing::error!("{refusal}");
        }
    }

    /// Opens a wanted namespace in its subsystem, which is there.
    pub(super) fn open_known(self, known: &KnownNamespace) -> Result<(), String> {
        let KnownNamespace { subsystem, nsid, uuid, source } = known;
        let bdev = self.source_bdev(source, &format!("namespace {nsid} of {subsystem}"))?;
        let opened = self.open_namespace(subsystem, *nsid, Some(*uuid), bdev);
        opened.inspect_err(|_| {
            if let Source::Device { name } = source {
                self.node.bdevs.release(name);
            }
        })
    }

    /// Whether the configuration declares a subsystem.
    pub(crate) fn is_configured(self, nqn: &str) -> bool {
        self.node.config().subsystems.iter().any(|subsystem| subsystem.nqn == nqn)
    }

    /// Adds a namespace, durably, in a subsystem that is there.
    ///
    /// # Errors
    /// Why not; nothing of it is left then.
    pub(crate) fn want_namespace(
        self,
        nqn: &str,
        nsid: Option<u32>,
        uuid: Uuid,
        source: Source,
    ) -> Result<u32, Refusal> {
        let subsystem = self.node.registry.subsystem(nqn);
        let subsystem =
            subsystem.ok_or_else(|| Refusal::not_found(format!("There is no subsystem {nqn}.")))?;
        let nsid = match nsid {
            Some(nsid) => nsid,
            None => self.free_nsid(nqn).map_err(Refusal::full)?,
        };
        let taken = |known: &KnownNamespace| (&*known.subsystem, known.nsid) == (nqn, nsid);
        if subsystem.namespace(nsid).is_some() || self.node.state().namespaces.iter().any(taken) {
            return Err(Refusal::exists(format!(
                "Subsystem {nqn} has a namespace {nsid} already: take another number."
            )));
        }
        let known = KnownNamespace { subsystem: nqn.into(), nsid, uuid, source };
        self.node.change_state(|state| state.namespaces.push(known.clone()))?;
        match self.open_known(&known) {
            Ok(()) => Ok(nsid),
            Err(why) => {
                self.node.change_state(|state| state.namespaces.retain(|other| *other != known))?;
                Err(Refusal::in_use(format!("The {} cannot be exported: {why}", known.source)))
            }
        }
    }

    /// Closes a namespace that is wanted; its subsystem too, if it is the source's own.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn close_known(self, known: &KnownNamespace) -> Result<(), String> {
        let KnownNamespace { subsystem: nqn, nsid, .. } = known;
        let own = self.node.state().subsystem(nqn).is_some_and(|subsystem| subsystem.own);
        if own && self.node.registry.subsystem(nqn).is_some() {
            self.remove_subsystem(nqn)
        } else if self.is_served(known) {
            self.remove_namespace(nqn, *nsid)
        } else {
            Ok(())
        }
    }

    /// Removes a namespace, durably; the subsystem too, if it is the source's own.
    pub(crate) fn forget_namespace(self, known: &KnownNamespace) -> Result<(), Refusal> {
        let KnownNamespace { subsystem: nqn, nsid, .. } = known;
        let own = self.node.state().subsystem(nqn).is_some_and(|subsystem| subsystem.own);
        let removed = self.close_known(known);
        self.node.change_state(|state| {
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
        self,
        source: Source,
        uuid: Uuid,
        own: &str,
        set: &ExportSet,
    ) -> Result<KnownNamespace, Refusal> {
        if let Some(nqn) = &set.subsystem {
            let (subsystem, nsid) = (nqn.to_string(), self.free_nsid(nqn.as_str()));
            let nsid = nsid.map_err(Refusal::full)?;
            let known = KnownNamespace { subsystem, nsid, uuid, source };
            self.node.change_state(|state| state.namespaces.push(known.clone()))?;
            return Ok(known);
        }
        if self.node.registry.subsystem(own).is_some() || self.node.state().subsystem(own).is_some()
        {
            return Err(Refusal::exists(format!(
                "There is a subsystem {own} already, of something else: export {source} in it or \
                 in another one by naming it."
            )));
        }
        let hosts = set.hosts.iter().map(ToString::to_string).collect();
        let allow_any_host = set.allow_any_host;
        let subsystem = KnownSubsystem { nqn: own.into(), own: true, hosts, allow_any_host };
        let known = KnownNamespace { subsystem: own.into(), nsid: 1, uuid, source };
        self.node.change_state(|state| {
            state.subsystems.push(subsystem);
            state.namespaces.push(known.clone());
        })?;
        Ok(known)
    }

    /// Exports a source as was noted before.
    ///
    /// # Errors
    /// Why not; the note is there still.
    pub(crate) fn carry_out(self, known: &KnownNamespace) -> Result<(), Refusal> {
        let nqn = &known.subsystem;
        if self.node.registry.subsystem(nqn).is_none()
            && let Some(subsystem) = self.node.state().subsystem(nqn).cloned()
        {
            let who = hosts(subsystem.allow_any_host, subsystem.hosts);
            self.make_subsystem(nqn, None, who).map_err(|why| {
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
        self,
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
        self,
        nqn: &str,
        own: bool,
        listed: Vec<String>,
        allow_any_host: bool,
    ) -> Result<(), Refusal> {
        let who = hosts(allow_any_host, listed.clone());
        let known = KnownSubsystem { nqn: nqn.into(), own, hosts: listed, allow_any_host };
        self.node.change_state(|state| state.subsystems.push(known))?;
        if let Err(why) = self.make_subsystem(nqn, None, who) {
            self.node.change_state(|state| state.subsystems.retain(|other| other.nqn != nqn))?;
            return Err(Refusal::invalid(format!("Subsystem {nqn} cannot be made: {why}.")));
        }
        Ok(())
    }

    /// Removes a subsystem, durably.
    pub(crate) fn forget_subsystem(self, nqn: &str) -> Result<(), Refusal> {
        let removed = match self.node.registry.subsystem(nqn) {
            Some(_) => self.remove_subsystem(nqn),
            None => Ok(()),
        };
        self.node.change_state(|state| {
            state.subsystems.retain(|other| other.nqn != nqn);
            state.namespaces.retain(|other| other.subsystem != nqn);
        })?;
        removed.map_err(Refusal::in_use)
    }

    /// Sets who may connect, durably; hosts that stay allowed stay connected.
    pub(crate) fn set_hosts(
        self,
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
        self.node.change_state(|state| {
            for known in state.subsystems.iter_mut().filter(|known| known.nqn == nqn) {
                known.hosts.clone_from(&listed);
                known.allow_any_host = allow_any_host;
            }
        })?;
        self.node
            .registry
            .set_hosts(nqn, who)
            .map_err(|error| Refusal::invalid(format!("{error}.")))
    }

    /// Hosts that are connected to the subsystem that shows `source`.
    pub(crate) fn connected_to(self, source: &Source) -> Vec<String> {
        let state = self.node.state();
        let Some(known) = state.namespace_of(source) else { return Vec::new() };
        let Some(subsystem) = self.node.registry.subsystem(&known.subsystem) else {
            return Vec::new();
        };
        let controllers = subsystem.live_controllers();
        let mut hosts: Vec<String> =
            controllers.iter().map(|c| c.association().host_nqn.clone()).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }
}
