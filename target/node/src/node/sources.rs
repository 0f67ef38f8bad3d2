//! What namespaces show, and the namespaces and subsystems that are wanted: carried out, and brought
//! back.

use super::Exports;
use super::namespaces::hosts;
use crate::executor::Task;
use crate::unit::schedule::{Claim, Key};
use bdev::Bdev;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use wanted::{Change, Edited, Namespace, Request, Source, Step, Subsystem};
use webui_model::Refusal;

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

fn claims(namespace: &Namespace) -> Vec<Claim> {
    let mut claims = source_claims(&namespace.source);
    claims.push(Claim::sole(Key::Subsystem(namespace.subsystem.clone())));
    claims
}

impl Exports<'_> {
    /// Asks for something, durably, and has hosts see it so. What cannot be done is taken back.
    ///
    /// # Errors
    /// Why it is refused, or cannot be done; all is as it was then. Or that commands of hosts on what
    /// was taken away do not end: it is closed when they do.
    pub(crate) fn change(self, request: &Request) -> Result<Edited, Refusal> {
        let edited = self.node.edit(request)?;
        self.carry_out(&edited)?;
        Ok(edited)
    }

    /// Has hosts see what is wanted now.
    ///
    /// # Errors
    /// As [`Exports::change`].
    pub(crate) fn carry_out(self, edited: &Edited) -> Result<(), Refusal> {
        let mut slow = Ok(());
        if let Err(refusal) = self.perform(&edited.changes, &mut slow) {
            self.take_back(edited);
            return Err(refusal);
        }
        slow.map_err(Refusal::in_use)
    }

    /// Takes back what is wanted, and what hosts see of it.
    pub(crate) fn take_back(self, edited: &Edited) {
        self.node.undo(edited);
        let back = edited.changes.iter().rev().cloned().map(Change::undone).collect::<Vec<_>>();
        let mut slow = Ok(());
        let done = self.perform(&back, &mut slow).map_err(|refusal| refusal.message);
        if let Err(why) = done.and(slow) {
            tracing::error!("what could not be done is not all taken back: {why}");
        }
    }

    /// Takes namespaces from hosts that are not wanted any more, or not for now.
    ///
    /// # Errors
    /// Commands on one do not end.
    pub(super) fn end(self, changes: &[Change]) -> Result<(), Refusal> {
        let ends = |change: &&Change| match change {
            Change::Subsystem(step) => step.is_end(),
            Change::Namespace(step) => step.is_end(),
            _ => false,
        };
        let ends: Vec<Change> = changes.iter().filter(ends).cloned().collect();
        let mut slow = Ok(());
        self.perform(&ends, &mut slow)?;
        slow.map_err(Refusal::in_use)
    }

    /// Carries changes of subsystems and namespaces out. What is as it should be is left alone. What
    /// does not go away at once is in nobody's way: the first such sentence is left in `slow`.
    fn perform(self, changes: &[Change], slow: &mut Result<(), String>) -> Result<(), Refusal> {
        let ends = changes.iter().filter_map(|change| match change {
            Change::Subsystem(step) if step.is_end() => Some(step.item().nqn.as_str()),
            _ => None,
        });
        // They take their namespaces with them: their hosts are disconnected first.
        let ends: BTreeSet<&str> = ends.collect();
        for change in changes {
            match change {
                Change::Subsystem(step) => self.change_subsystem(step, slow)?,
                Change::Namespace(step) if step.is_end() => {
                    let Namespace { subsystem, nsid, .. } = step.item();
                    if !ends.contains(subsystem.as_str()) && self.is_served(step.item()) {
                        let removed = self.remove_namespace(subsystem, *nsid);
                        *slow = std::mem::replace(slow, Ok(())).and(removed);
                    }
                }
                Change::Namespace(step) => self.serve(step.item())?,
                _ => {}
            }
        }
        Ok(())
    }

    fn change_subsystem(
        self,
        step: &Step<Subsystem>,
        slow: &mut Result<(), String>,
    ) -> Result<(), Refusal> {
        let nqn = &step.item().nqn;
        let is_there = self.node.registry.subsystem(nqn).is_some();
        match &step.to {
            None if is_there => {
                let removed = self.remove_subsystem(nqn);
                *slow = std::mem::replace(slow, Ok(())).and(removed);
                Ok(())
            }
            None => Ok(()),
            Some(now) if is_there => {
                let set = self.node.registry.set_hosts(nqn, hosts(now));
                set.map_err(|error| Refusal::invalid(format!("{error}.")))
            }
            Some(now) => self
                .make_subsystem(now)
                .map_err(|why| Refusal::invalid(format!("Subsystem {nqn} cannot be made: {why}."))),
        }
    }

    /// Has hosts see a namespace, if they do not.
    fn serve(self, namespace: &Namespace) -> Result<(), Refusal> {
        if self.is_served(namespace) {
            return Ok(());
        }
        let made = self.make_wanted(&namespace.subsystem);
        made.and_then(|()| self.open_wanted(namespace)).map_err(|why| {
            Refusal::in_use(format!("The {} cannot be exported: {why}", namespace.source))
        })
    }

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
        known: &Namespace,
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
    pub(crate) fn is_served(self, known: &Namespace) -> bool {
        let subsystem = self.node.registry.subsystem(&known.subsystem);
        subsystem.is_some_and(|subsystem| subsystem.namespace(known.nsid).is_some())
    }

    /// Whether its pool is there, and says that what it shows is not.
    fn is_gone(self, known: &Namespace) -> bool {
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
    pub(super) fn restore(self, namespace: &Namespace) -> Option<Result<(), String>> {
        let what = format!("exporting {}", namespace.source);
        let task = Task { patience: TURN, ..Task::new(what, claims(namespace)) };
        let _turn = self.node.executor.turn(task).ok()?;
        let wanted = self.node.wanted();
        let now = wanted.namespace(&namespace.subsystem, namespace.nsid);
        if now.is_none_or(|now| now.item != *namespace) || self.is_served(namespace) {
            return Some(Ok(()));
        }
        if let Err(why) = self.make_wanted(&namespace.subsystem) {
            return Some(Err(why));
        }
        let opened = self.open_wanted(namespace);
        if opened.is_err() && self.is_gone(namespace) {
            self.forget(namespace);
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
        match self.node.wanted().subsystem(nqn) {
            Some(subsystem) if self.node.registry.subsystem(nqn).is_none() => {
                self.make_subsystem(subsystem)
            }
            _ => Ok(()),
        }
    }

    /// Of a volume or snapshot that its pool does not have: it was deleted, or never made, when the
    /// appliance was killed.
    fn forget(self, namespace: &Namespace) {
        let Namespace { subsystem, nsid, source, .. } = namespace;
        tracing::warn!(nqn = subsystem, nsid, %source,
            "what a namespace showed is gone, and so is the namespace");
        if let Err(refusal) = self.change(&Request::Forget(source.clone())) {
            tracing::error!("{refusal}");
        }
    }

    /// Opens a wanted namespace in its subsystem, which is there.
    pub(super) fn open_wanted(self, namespace: &Namespace) -> Result<(), String> {
        let Namespace { subsystem, nsid, uuid, source } = namespace;
        let bdev = self.source_bdev(source, &format!("namespace {nsid} of {subsystem}"))?;
        let opened = self.open_namespace(subsystem, *nsid, *uuid, bdev);
        opened.inspect_err(|_| {
            if let Source::Device { name } = source {
                self.node.bdevs.release(name);
            }
        })
    }
}
