//! A look at the appliance, every second: jobs, alerts, hosts that come and go.

use super::jobs::Turn;
use super::machine::Machine;
use super::statistics::{add, nothing, of_ended};
use super::view::View;
use super::{ControlPlane, alerts, locked, now_ms, refusals};
use crate::executor::Task;
use crate::node::{News, Node};
use crate::pool::OpenPool;
use crate::unit::schedule::{Claim, Key};
use nvmf::controller::{Controller, EndedController};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use webui_model::{EventKind, IoStatistics, JobStatus, Object, ObjectKind, Severity};

/// Hosts that have no controller any more and whose counts go on if they come back.
const HOSTS: usize = 4096;

/// Controllers that were connected at the last look, and what hosts did on those that are gone.
#[derive(Default)]
pub(super) struct Connected {
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

/// What something is, at the beginning of a sentence.
fn word(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Device => "Device",
        ObjectKind::Pool => "Pool",
        ObjectKind::Namespace => "Namespace",
        ObjectKind::Listener => "Listener",
        _ => "Object",
    }
}

impl ControlPlane {
    /// Looks at everything once, and waits for nothing.
    pub(super) fn look(&self) {
        if self.is_up().is_err() {
            return;
        }
        self.node.supervisor().look();
        for news in self.node.supervisor().take_news() {
            self.tell_news(news);
        }
        self.look_at_jobs();
        Machine(self).look_at_leftover();
        self.look_at_alerts();
        self.look_at_hosts(&mut locked(&self.seen).connected);
        refusals::look(self);
    }

    fn tell_news(&self, news: News) {
        let (severity, object, message) = match news {
            News::Back(kind, name) => {
                let message = format!("{} {name} is there, which was missing.", word(kind));
                (Severity::Info, Object::new(kind, name), message)
            }
            News::Reopened(pool) => {
                let message = format!("Pool {pool} is open again: its devices work.");
                (Severity::Info, Object::new(ObjectKind::Pool, pool), message)
            }
            News::Stalls(device, since) => {
                let message = format!("Device {device} has not answered since {since}.");
                (Severity::Warning, Object::new(ObjectKind::Device, device), message)
            }
            News::Answers(device) => {
                let message = format!("Device {device} answers again.");
                (Severity::Info, Object::new(ObjectKind::Device, device), message)
            }
        };
        self.publish(EventKind::Changed, severity, object, message);
    }

    /// Takes over how far pools and drives are with what they do by themselves.
    pub(super) fn look_at_jobs(&self) {
        let now_ms = now_ms();
        let erased = self.node.supervisor().take_erased();
        let turns = locked(&self.seen).jobs.look_at_drives(erased, now_ms);
        turns.into_iter().for_each(|turn| self.tell_job(turn));
        for (pool, open) in self.node.pools.get().iter() {
            let turns = locked(&self.seen).jobs.look(pool, &open.status(), now_ms);
            turns.into_iter().for_each(|turn| self.tell_job(turn));
            self.settle(pool, open);
        }
    }

    /// Lets go of the devices of a pool that have been drained, when it is nobody's turn with it.
    fn settle(&self, pool: &str, open: &Arc<OpenPool>) {
        let status = open.status();
        let is_member = |name: &String| status.devices.iter().any(|device| device.name == *name);
        if open.devices().iter().all(is_member) {
            return;
        }
        let Some(me) = self.me.upgrade() else { return };
        let claims = vec![Claim::sole(Key::Pool(pool.to_owned()))];
        let task = Task::new(format!("letting go of devices of pool {pool}"), claims);
        let (pool, open) = (pool.to_owned(), open.clone());
        let job = move || {
            for device in me.node.pools().settle(&open) {
                let object = Object::new(ObjectKind::Device, &device);
                let message = format!("Device {device} is no part of pool {pool} any more.");
                me.publish(EventKind::Changed, Severity::Info, object, message);
            }
        };
        // It is tried again, at the next look.
        self.node.executor.start(Task { patience: Duration::ZERO, ..task }, job, drop);
    }

    fn look_at_alerts(&self) {
        let mut now = alerts::all(&View::of(&self.node), now_ms());
        now.extend(locked(&self.api_alerts).iter().cloned());
        let (raised, cleared) = locked(&self.seen).alerts.look(now);
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

    fn look_at_hosts(&self, connected: &mut Connected) {
        let node = &*self.node;
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
