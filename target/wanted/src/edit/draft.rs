//! An edit that is under way, and what comes of it.

use crate::change::{Change, Step};
use crate::item::{Declared, DeclaredBy, Device, GonePool, Listener, Namespace, Pool, Subsystem};
use crate::seen::Seen;
use crate::source::Source;
use crate::tables::Wanted;
use webui_model::Refusal;

/// What is wanted after something was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edited {
    /// Everything that is wanted now.
    pub wanted: Wanted,
    /// What differs from before, in an order in which it can be carried out. Nothing: all is as was
    /// asked for already, or what was asked for is none of what is wanted here.
    pub changes: Vec<Change>,
}

impl Edited {
    /// Whether nothing differs from before.
    pub fn is_as_before(&self) -> bool {
        self.changes.is_empty()
    }

    /// The name of the device that is new.
    pub fn device(&self) -> Option<String> {
        self.changes.iter().find_map(|change| match change {
            Change::Device(step) => step.to.as_ref().map(|device| device.name.clone()),
            _ => None,
        })
    }

    /// The namespace that came with it, of an export or a new namespace.
    pub fn namespace(&self) -> Option<&Namespace> {
        self.changes.iter().rev().find_map(|change| match change {
            Change::Namespace(step) => step.to.as_ref(),
            _ => None,
        })
    }
}

/// An edit that is under way.
pub(super) struct Edit<'a> {
    pub wanted: Wanted,
    pub changes: Vec<Change>,
    pub seen: &'a dyn Seen,
}

impl Edit<'_> {
    /// Carries a change out and notes it.
    pub(super) fn change(&mut self, change: Change) {
        self.wanted.carry_out(&change);
        self.changes.push(change);
    }

    pub(super) fn set_device(&mut self, from: Option<Device>, to: Option<Device>) {
        self.change(Change::Device(Step { by: DeclaredBy::Api, from, to }));
    }

    pub(super) fn set_pool(&mut self, from: Option<Pool>, to: Option<Pool>) {
        self.change(Change::Pool(Step { by: DeclaredBy::Api, from, to }));
    }

    pub(super) fn set_subsystem(
        &mut self,
        from: Option<Declared<Subsystem>>,
        to: Option<Subsystem>,
    ) {
        let by = from.as_ref().map_or(DeclaredBy::Api, |from| from.by);
        let from = from.map(|from| from.item);
        if from != to {
            self.change(Change::Subsystem(Step { by, from, to }));
        }
    }

    pub(super) fn set_namespace(&mut self, from: Option<Namespace>, to: Option<Namespace>) {
        if from != to {
            self.change(Change::Namespace(Step { by: DeclaredBy::Api, from, to }));
        }
    }

    pub(super) fn set_listener(&mut self, from: Option<Listener>, to: Option<Listener>) {
        self.change(Change::Listener(Step { by: DeclaredBy::Api, from, to }));
    }

    pub(super) fn set_gone(&mut self, from: Option<GonePool>, to: Option<GonePool>) {
        if from != to {
            self.change(Change::Gone(Step { by: DeclaredBy::Api, from, to }));
        }
    }

    /// Takes a namespace away, and its subsystem, if that is the source's own.
    pub(super) fn remove_namespace(&mut self, namespace: Namespace) {
        let subsystem = self.wanted.subsystem(&namespace.subsystem).cloned();
        self.set_namespace(Some(namespace), None);
        if let Some(subsystem) = subsystem.filter(|subsystem| subsystem.own) {
            self.set_subsystem(Some(subsystem), None);
        }
    }

    /// Shows a source no more, if it is shown. What the configuration shows stays.
    pub(super) fn unshow(&mut self, source: &Source) {
        if let Some(namespace) = self.wanted.namespace_of(source).cloned()
            && !namespace.is_configured()
        {
            self.remove_namespace(namespace.item);
        }
    }

    /// The pool is wanted, and imported.
    pub(super) fn open_pool(&self, pool: &str) -> Result<(), Refusal> {
        if self.wanted.pool(pool).is_none() {
            return Err(Refusal::not_found(format!("There is no pool {pool}.")));
        }
        match self.seen.pool_away(pool) {
            None => Ok(()),
            Some(why) => Err(Refusal::unavailable(format!("Pool {pool} is not imported: {why}"))),
        }
    }
}
