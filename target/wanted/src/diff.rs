//! What has to be done so that what runs is what is wanted.

use crate::change::{Change, Step};
use crate::item::{Declared, Device, Namespace, Pool};
use crate::{Source, Wanted};
use std::collections::BTreeSet;

/// What is taken away, for good or to come back otherwise: what stands on it goes before it does.
#[derive(Default)]
struct Fallen {
    devices: BTreeSet<String>,
    pools: BTreeSet<String>,
    subsystems: BTreeSet<String>,
}

/// The steps of items of one kind: those that take something away, and those after them.
struct Steps<T> {
    ends: Vec<Step<T>>,
    comes: Vec<Step<T>>,
}

/// The steps that make `running`, what was carried out so far, what is wanted, in their order: first
/// what goes (listeners, namespaces, subsystems, pools, devices), then what changes in place or comes,
/// in the opposite order. An item that stands on one that is replaced goes and comes back. How pools
/// that are not here were exported is nothing that runs.
///
/// A restart is the difference to nothing. It costs what both have; the changes of one
/// [`Edited`](crate::Edited) are in such an order by themselves.
pub fn diff(wanted: &Wanted, running: &Wanted) -> Vec<Change> {
    let fallen = fallen(wanted, running);
    let listeners =
        steps(running.listeners(), |l| wanted.listener(l.at()), |_| false, |_, _| false);
    let namespaces = steps(
        running.namespaces(),
        |n| wanted.namespace(&n.subsystem, n.nsid),
        |namespace| fallen.takes(namespace),
        is_same_namespace,
    );
    let subsystems = steps(
        running.subsystems(),
        |subsystem| wanted.subsystem(&subsystem.nqn),
        |_| false,
        |from, to| (from.own, &from.serial) == (to.own, &to.serial),
    );
    let pools = steps(
        running.pools(),
        |pool| wanted.pool(&pool.name),
        |pool| fallen.pools.contains(&pool.name),
        |from, to| from.uuid == to.uuid,
    );
    let mut devices = steps(
        running.devices(),
        |device| wanted.device(&device.name),
        |device| fallen.devices.contains(&device.name),
        |_, _| false,
    );
    devices.comes.extend(new(wanted.devices(), |d| running.device(&d.name).is_none()));
    let (mut changes, mut comes) = (Vec::new(), Vec::new());
    changes.extend(listeners.ends.into_iter().map(Change::Listener));
    changes.extend(namespaces.ends.into_iter().map(Change::Namespace));
    changes.extend(subsystems.ends.into_iter().map(Change::Subsystem));
    changes.extend(pools.ends.into_iter().map(Change::Pool));
    changes.extend(layered(devices.ends).into_iter().rev().map(Change::Device));
    comes.extend(layered(devices.comes).into_iter().map(Change::Device));
    comes.extend(pools.comes.into_iter().map(Change::Pool));
    comes.extend(new(wanted.pools(), |p| running.pool(&p.name).is_none()).map(Change::Pool));
    comes.extend(subsystems.comes.into_iter().map(Change::Subsystem));
    let is_new = |s: &crate::Subsystem| running.subsystem(&s.nqn).is_none();
    comes.extend(new(wanted.subsystems(), is_new).map(Change::Subsystem));
    comes.extend(namespaces.comes.into_iter().map(Change::Namespace));
    let is_new = |n: &Namespace| running.namespace(&n.subsystem, n.nsid).is_none();
    comes.extend(new(wanted.namespaces(), is_new).map(Change::Namespace));
    comes.extend(listeners.comes.into_iter().map(Change::Listener));
    let is_new = |l: &crate::Listener| running.listener(l.at()).is_none();
    comes.extend(new(wanted.listeners(), is_new).map(Change::Listener));
    changes.extend(comes);
    changes
}

/// The steps of the items that run, given what is wanted of each, whether it has to go whatever is
/// wanted, and whether it can change in place.
fn steps<'a, T: Clone + PartialEq + 'a>(
    running: impl Iterator<Item = &'a Declared<T>>,
    wanted: impl Fn(&T) -> Option<&'a Declared<T>>,
    falls: impl Fn(&T) -> bool,
    in_place: impl Fn(&T, &T) -> bool,
) -> Steps<T> {
    let mut steps = Steps { ends: Vec::new(), comes: Vec::new() };
    for was in running {
        let now = wanted(&was.item);
        let from = Some(was.item.clone());
        let by = now.map_or(was.by, |now| now.by);
        let to = now.map(|now| now.item.clone());
        match now {
            Some(now) if !falls(&was.item) && (now.item == was.item) => {}
            Some(now) if !falls(&was.item) && in_place(&was.item, &now.item) => {
                steps.comes.push(Step { by, from, to });
            }
            _ => {
                steps.ends.push(Step { by, from, to: None });
                steps.comes.extend(to.map(|to| Step { by, from: None, to: Some(to) }));
            }
        }
    }
    steps
}

/// The steps of the items that are wanted and new.
fn new<'a, T: Clone + 'a>(
    wanted: impl Iterator<Item = &'a Declared<T>>,
    is_new: impl Fn(&T) -> bool,
) -> impl Iterator<Item = Step<T>> {
    wanted.filter(move |one| is_new(&one.item)).map(|one| Step {
        by: one.by,
        from: None,
        to: Some(one.item.clone()),
    })
}

/// What hosts see is the same: a name for people, or the volume that a snapshot belongs to, changes
/// under it.
fn is_same_namespace(from: &Namespace, to: &Namespace) -> bool {
    let moved = matches!(
        (&from.source, &to.source),
        (Source::Snapshot { pool, snapshot, .. }, Source::Snapshot { pool: of, snapshot: at, .. })
            if pool == of && snapshot == at
    );
    from.uuid == to.uuid && (moved || from.source.is(&to.source))
}

/// Devices in an order in which each comes after the one that it stands on.
fn layered(steps: Vec<Step<Device>>) -> Vec<Step<Device>> {
    let mut left = steps;
    let mut sorted: Vec<Step<Device>> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let names: BTreeSet<String> = left.iter().map(|step| step.item().name.clone()).collect();
        let waits =
            |step: &Step<Device>| step.item().spec.base().is_some_and(|base| names.contains(base));
        let (later, now): (Vec<_>, Vec<_>) = left.into_iter().partition(waits);
        if now.is_empty() {
            // A circle, which no configuration can declare: each is as good as another.
            sorted.extend(later);
            return sorted;
        }
        sorted.extend(now);
        left = later;
    }
    sorted
}

impl Fallen {
    /// Whether a namespace that runs has to go.
    fn takes(&self, namespace: &Namespace) -> bool {
        let on = match &namespace.source {
            Source::Device { name } => self.devices.contains(name),
            Source::Volume { pool, .. } | Source::Snapshot { pool, .. } => {
                self.pools.contains(pool)
            }
        };
        on || self.subsystems.contains(&namespace.subsystem)
    }
}

fn fallen(wanted: &Wanted, running: &Wanted) -> Fallen {
    let mut fallen = Fallen::default();
    let differs = |device: &Declared<Device>| {
        wanted.device(&device.name).is_none_or(|now| now.item != device.item)
    };
    let devices = running.devices().filter(|device| differs(device));
    fallen.devices = devices.map(|device| device.name.clone()).collect();
    let mut layers: Vec<&Device> = running.devices().map(|device| &device.item).collect();
    layers.retain(|device| device.spec.base().is_some());
    loop {
        let stands = |layer: &&Device| {
            !fallen.devices.contains(&layer.name)
                && layer.spec.base().is_some_and(|base| fallen.devices.contains(base))
        };
        let Some(layer) = layers.iter().copied().find(stands) else { break };
        fallen.devices.insert(layer.name.clone());
    }
    let loses = |pool: &Pool| pool.devices.iter().any(|name| fallen.devices.contains(name));
    for pool in running.pools() {
        // What it is on by now is what is noted of it.
        let stays = wanted.pool(&pool.name).filter(|now| now.uuid == pool.uuid);
        if stays.is_none_or(|now| loses(now)) {
            fallen.pools.insert(pool.name.clone());
        }
    }
    for subsystem in running.subsystems() {
        let stays = wanted.subsystem(&subsystem.nqn);
        let stays =
            stays.is_some_and(|now| (now.own, &now.serial) == (subsystem.own, &subsystem.serial));
        if !stays {
            fallen.subsystems.insert(subsystem.nqn.clone());
        }
    }
    fallen
}
