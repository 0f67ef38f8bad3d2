//! A look at the appliance, every second: jobs, alerts, hosts that come and go.

use super::jobs::Turn;
use super::statistics::{add, nothing, of_ended};
use super::{ControlPlane, Seen, alerts, locked, now_ms, statuses};
use crate::node::Node;
use nvmf::controller::{Controller, EndedController};
use std::collections::BTreeMap;
use std::sync::Arc;
use webui_model::{EventKind, IoStatistics, JobStatus, Object, ObjectKind, Severity};

/// What was missing is looked for again after so many looks.
const RETRY: u64 = 5;

/// Hosts that have no controller any more and whose counts go on if they come back.
const HOSTS: usize = 4096;

/// Controllers that were connected at the last look, and what hosts did on those that are gone.
#[derive(Default)]
pub(super) struct Connected {
    looks: u64,
    controllers: BTreeMap<(String, u16), Arc<Controller>>,
    gone: BTreeMap<String, IoStatistics>,
}

impl Connected {
    /// What a host did on controllers that are gone.
    pub(super) fn gone(&self, host: &str) -> IoStatistics {
        self.gone.get(host).cloned().unwrap_or_else(nothing)
    }

    /// Takes over what hosts did on controllers that have ended.
    pub(super) fn take_ended(&mut self, node: &Node) {
        for subsystem in node.registry.subsystems() {
            subsystem.take_ended().iter().for_each(|ended| self.has_ended(ended));
        }
    }

    fn has_ended(&mut self, ended: &EndedController) {
        let host = &ended.host_nqn;
        if self.gone.len() < HOSTS || self.gone.contains_key(host) {
            let sum = self.gone.entry(host.clone()).or_insert_with(nothing);
            add(sum, of_ended(ended));
        }
    }
}

impl ControlPlane {
    /// Looks at everything once.
    pub(super) fn look(&self) {
        let mut node = locked(&self.node);
        let Some(node) = node.as_mut() else { return };
        let mut seen = locked(&self.seen);
        let now_ms = now_ms();
        seen.connected.looks += 1;
        node.bdevs.look_after_drives();
        let is_due = seen.connected.looks.is_multiple_of(RETRY);
        for pool in node.reopen_pools(is_due) {
            let object = Object::new(ObjectKind::Pool, &pool);
            let message = format!("Pool {pool} is open again: its devices work.");
            self.publish(EventKind::Changed, Severity::Info, object, message);
        }
        if is_due && node.retry() {
            let object = Object::new(ObjectKind::Appliance, "");
            let message = "Something that was missing is there again.";
            self.publish(EventKind::Changed, Severity::Info, object, message);
        }
        for turn in seen.jobs.look_at_drives(node.bdevs.drives().look_at_erasures(), now_ms) {
            self.tell_job(turn);
        }
        self.look_at_pools(node, &mut seen, now_ms);
        self.look_at_hosts(node, &mut seen.connected);
        self.look_at_refused(node);
    }

    fn look_at_pools(&self, node: &mut Node, seen: &mut Seen, now_ms: u64) {
        let statuses = match statuses(node) {
            Ok(statuses) => statuses,
            Err(refusal) => return tracing::error!(%refusal, "a pool does not say how it is"),
        };
        for (pool, status) in &statuses {
            for device in node.settle(pool, status) {
                let object = Object::new(ObjectKind::Device, &device);
                let message = format!("Device {device} is no part of pool {pool} any more.");
                self.publish(EventKind::Changed, Severity::Info, object, message);
            }
            for turn in seen.jobs.look(pool, status, now_ms) {
                self.tell_job(turn);
            }
        }
        let mut now = alerts::all(node, &statuses, now_ms);
        now.extend(locked(&self.api_alerts).iter().cloned());
        let (raised, cleared) = seen.alerts.look(now);
        for alert in raised {
            tracing::warn!(alert = alert.id, "{}", alert.message);
            let (severity, object) = (alert.severity, alert.object);
            self.publish(EventKind::AlertRaised, severity, object, alert.message);
        }
        for alert in cleared {
            let message = format!("Over: {}", alert.message);
            tracing::info!(alert = alert.id, "{message}");
            self.publish(EventKind::AlertCleared, Severity::Info, alert.object, message);
        }
    }

    pub(super) fn tell_job(&self, turn: Turn) {
        let (kind, job) = match turn {
            Turn::New(job) => (EventKind::Created, job),
            Turn::Progress(job) => (EventKind::Progress, job),
            Turn::Ended(job) => (EventKind::Changed, job),
        };
        let severity = match job.status {
            JobStatus::Failed => Severity::Warning,
            _ => Severity::Info,
        };
        let object = Object::new(ObjectKind::Job, job.id.to_string());
        self.publish(kind, severity, object, job.reason);
    }

    fn look_at_hosts(&self, node: &Node, connected: &mut Connected) {
        connected.take_ended(node);
        let mut now = BTreeMap::new();
        for subsystem in node.registry.subsystems() {
            for controller in subsystem.live_controllers() {
                now.insert((subsystem.nqn().to_owned(), controller.cntlid()), controller);
            }
        }
        let told = |kind, place: &(String, u16), message: String| {
            let object = Object::new(ObjectKind::Controller, format!("{}/{}", place.0, place.1));
            self.publish(kind, Severity::Info, object, message);
        };
        let before = std::mem::replace(&mut connected.controllers, now);
        let same = |a: &BTreeMap<_, Arc<Controller>>, place, one: &Arc<Controller>| {
            a.get(place).is_some_and(|other| Arc::ptr_eq(other, one))
        };
        for (place, controller) in &before {
            if !same(&connected.controllers, place, controller) {
                let host = &controller.association().host_nqn;
                told(EventKind::Disconnected, place, format!("{host} is gone from {}.", place.0));
                if node.registry.subsystem(&place.0).is_none() {
                    // It cannot be asked for those that have ended with it.
                    connected.has_ended(&controller.record());
                }
            }
        }
        for (place, controller) in &connected.controllers {
            if !same(&before, place, controller) {
                let host = &controller.association().host_nqn;
                told(EventKind::Connected, place, format!("{host} is connected to {}.", place.0));
            }
        }
    }
}
