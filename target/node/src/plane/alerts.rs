//! Alerts: what somebody should do something about.

use super::view::View;
use crate::descriptors;
use crate::node::{Node, time_of};
use bdev_pool::Held;
use std::collections::BTreeMap;
use std::time::Duration;
use webui_model::{Alert, Object, ObjectKind, Severity, Size};

/// Alerts whose cause is there, by their names.
#[derive(Default)]
pub(super) struct Alerts {
    raised: BTreeMap<String, Alert>,
}

/// A data directory with fewer bytes left is full: what is wanted does not fit.
const LEAST_BYTES: u64 = 1 << 20;

/// A pool that has less than this share of its space free is nearly full.
const NEARLY: u64 = 10;

/// A namespace that was removed and is not closed for so long is said to be.
const SLOW: Duration = Duration::from_secs(5);

impl Alerts {
    pub(super) fn list(&self) -> Vec<Alert> {
        self.raised.values().cloned().collect()
    }

    /// Takes over what is wrong now. Returns what was raised and what was cleared.
    pub(super) fn look(&mut self, now: Vec<Alert>) -> (Vec<Alert>, Vec<Alert>) {
        let mut next = BTreeMap::new();
        let mut raised = Vec::new();
        for mut alert in now {
            match self.raised.remove(&alert.id) {
                Some(before) => alert.since_ms = before.since_ms,
                None => raised.push(alert.clone()),
            }
            next.insert(alert.id.clone(), alert);
        }
        let cleared = std::mem::replace(&mut self.raised, next).into_values().collect();
        (raised, cleared)
    }
}

struct Found {
    alerts: Vec<Alert>,
    now_ms: u64,
}

impl Found {
    fn add(
        &mut self,
        what: &str,
        severity: Severity,
        object: (ObjectKind, &str),
        message: String,
        advice: &str,
    ) {
        self.alerts.push(Alert {
            id: format!("{what}:{}", object.1),
            since_ms: self.now_ms,
            severity,
            object: Object::new(object.0, object.1),
            message,
            advice: advice.to_owned(),
        });
    }
}

/// Everything that is wrong now.
pub(super) fn all(view: &View<'_>, now_ms: u64) -> Vec<Alert> {
    let node = view.node;
    let mut found = Found { alerts: Vec::new(), now_ms };
    of_pools(&mut found, view);
    of_losses(&mut found, view);
    of_descriptors(&mut found, node, descriptors::usage());
    of_missing(&mut found, view);
    of_devices(&mut found, view);
    of_data_directory(&mut found, node);
    found.alerts
}

/// Pools that may have lost something when they were opened.
fn of_losses(found: &mut Found, view: &View<'_>) {
    for (name, pool) in view.pools.iter() {
        let tenure = pool.directory().tenure();
        let Held::By { since_s, .. } = tenure.held else { continue };
        let Some(last) = tenure.last.filter(|last| last.noticed_s >= since_s) else { continue };
        found.add(
            "pool-loss",
            Severity::Warning,
            (ObjectKind::Pool, name),
            format!("Pool {name}: {last}."),
            "Each host that wrote is told by an error of its next Flush. Check what runs on its \
             volumes; this goes when the pool is opened the next time.",
        );
    }
}

/// What is wanted and not there.
fn of_missing(found: &mut Found, view: &View<'_>) {
    let missing = &view.missing;
    for (name, why) in &missing.devices {
        found.add(
            "device-missing",
            Severity::Critical,
            (ObjectKind::Device, name),
            format!("Device {name} is missing: {why}"),
            "Bring it back: it is looked for every few seconds. Or detach it.",
        );
    }
    for (name, why) in &missing.pools {
        found.add(
            "pool-missing",
            Severity::Critical,
            (ObjectKind::Pool, name),
            format!("Pool {name} cannot be imported: {why}"),
            "Bring its devices back; it is imported when all are there.",
        );
    }
    for ((nqn, nsid), why) in &missing.namespaces {
        found.add(
            "namespace-missing",
            Severity::Critical,
            (ObjectKind::Namespace, &format!("{nqn}/{nsid}")),
            format!("Namespace {nsid} of {nqn} is not served: {why}"),
            "It comes back with what it shows; or remove it.",
        );
    }
    for (address, why) in &missing.listeners {
        found.add(
            "listener-closed",
            Severity::Critical,
            (ObjectKind::Listener, &address.to_string()),
            why.clone(),
            "Free the address, or delete the listener.",
        );
    }
}

/// Devices that are there and do not do what they should.
fn of_devices(found: &mut Found, view: &View<'_>) {
    for (name, slot) in view.bdevs.iter() {
        if let Some(why) = slot.entry.drive().and_then(|drive| drive.failure()) {
            found.add(
                "drive-failed",
                Severity::Critical,
                (ObjectKind::Device, name),
                format!("The drive of device {name} failed: {why}."),
                "Put it back, or replace it: one that is back at its place goes on by itself.",
            );
        }
        if let Some(fault) = slot.entry.fault() {
            found.add(
                "device-damaged",
                Severity::Critical,
                (ObjectKind::Device, name),
                format!("Device {name}: {fault}."),
                "Bring back what it was, or drain what uses it while it can be read.",
            );
        }
        if let Some(why) = view.stall_of(name) {
            let mut message = format!("Device {name} hangs: {why}.");
            for (pool, _) in view.pools.iter().filter(|(_, open)| open.waits_for(name)) {
                message +=
                    &format!(" Nothing more of pool {pool} becomes durable until it answers.");
            }
            found.add(
                "device-hangs",
                Severity::Critical,
                (ObjectKind::Device, name),
                message,
                "See to it: what is on it waits. Everything else goes on.",
            );
        }
    }
    for draining in view.draining.iter().filter(|draining| draining.since.elapsed() >= SLOW) {
        let (nqn, nsid) = (&draining.nqn, draining.nsid);
        found.add(
            "namespace-draining",
            Severity::Warning,
            (ObjectKind::Namespace, &format!("{nqn}/{nsid}")),
            format!(
                "Namespace {nsid} of {nqn} was removed at {}, and {} stays in use: commands on it \
                 do not end, on {}.",
                time_of(draining.since),
                draining.source,
                webui_model::count(draining.held, "reactor"),
            ),
            "It is closed when they end: see to its device, or to the hosts that are connected.",
        );
    }
}

/// A data directory without room for what is wanted.
fn of_data_directory(found: &mut Found, node: &Node) {
    let config = node.config();
    let folder = &config.data_dir;
    let left = rustix::fs::statvfs(folder).map(|told| told.f_bavail.saturating_mul(told.f_frsize));
    if left.is_ok_and(|left| left < LEAST_BYTES) {
        found.add(
            "data-directory-full",
            Severity::Critical,
            (ObjectKind::Appliance, "data directory"),
            format!("The data directory {} is full: nothing can be changed.", folder.display()),
            "Free some space there: what is served goes on meanwhile.",
        );
    }
}

/// An address is said to crowd for so long after it wanted more than its share: longer than hosts
/// wait before they try again.
const CROWDING: Duration = Duration::from_secs(60);

/// Less than this share of the descriptors left is too little.
const FEW: u64 = 16;

fn of_descriptors(found: &mut Found, node: &Node, (used, limit): (u64, u64)) {
    let object = (ObjectKind::Appliance, "");
    let (open, most) = (node.connections.open(), node.connections.limit());
    if open >= most {
        let few = most < node.config().tcp.connections(node.registry.reactors());
        let advice = match few {
            true => "Raise the limit of open files (LimitNOFILE of systemd, ulimit -n).",
            false => "Raise tcp.connections in the configuration file, or disconnect hosts.",
        };
        let message = format!("All {most} connections are in use: further hosts are turned away.");
        found.add("connections-full", Severity::Warning, object, message, advice);
    }
    for (peer, open) in node.connections.crowding(CROWDING) {
        let message = format!(
            "{peer} has {open} connections and wants more than one address may have: further ones \
             are turned away."
        );
        let advice = "Raise tcp.connections_per_address or tcp.connections in the configuration \
                      file, or see to what is running there.";
        let name = format!("connections/{peer}");
        let object = (ObjectKind::Appliance, name.as_str());
        found.add("address-crowding", Severity::Warning, object, message, advice);
    }
    if limit.saturating_sub(used) < limit / FEW {
        let message = format!(
            "{used} of {limit} file descriptors are in use: without one, hosts are turned away, and \
             devices cannot be opened."
        );
        let advice = "Raise the limit of open files (LimitNOFILE of systemd, ulimit -n).";
        found.add("descriptors-short", Severity::Critical, object, message, advice);
    }
}

fn of_pools(found: &mut Found, view: &View<'_>) {
    for (name, open) in view.pools.iter() {
        let status = open.status();
        let object = (ObjectKind::Pool, name.as_str());
        let space = &status.space;
        if let Some(why) = &status.failed {
            let advice =
                "See to its devices: it is opened again when they work. Or export it by force.";
            found.add("pool-failed", Severity::Critical, object, why.clone(), advice);
        }
        if let Some(why) = &status.stopped {
            let message = format!("A job of pool {name} has stopped: {why}");
            let advice = "It goes on with the next thing that is asked of the pool.";
            found.add("job-stopped", Severity::Warning, object, message, advice);
        }
        if status.full {
            let message = format!(
                "Pool {name} is full: writes that need space fail, reads and overwrites go on."
            );
            let advice = "Add a device, delete snapshots or volumes, or trim file systems.";
            found.add("pool-full", Severity::Critical, object, message, advice);
        } else if space.free < space.total / NEARLY {
            let message = format!(
                "Pool {name} is nearly full: {} of {} are free.",
                Size(space.free).rounded(),
                Size(space.total).rounded()
            );
            let advice = "Add a device, or delete what nobody needs.";
            found.add("pool-nearly-full", Severity::Warning, object, message, advice);
        }
    }
}
