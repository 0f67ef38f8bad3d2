//! A look at the appliance, every second: jobs, alerts, hosts that come and go.

use super::jobs::Turn;
use super::{ControlPlane, Seen, alerts, locked, now_ms, statuses};
use crate::node::Node;
use nvmf::counters::IoCounts;
use std::collections::BTreeMap;
use webui_api::model::{EventKind, JobStatus, Object, ObjectKind, Severity};

/// What was missing is looked for again after so many looks.
const RETRY: u64 = 5;

/// A controller as it was last seen.
struct Controller {
    host: String,
    counts: IoCounts,
}

/// Controllers that were connected at the last look, and what hosts did on those that are gone.
#[derive(Default)]
pub(super) struct Connected {
    looks: u64,
    controllers: BTreeMap<(String, u16), Controller>,
    gone: BTreeMap<String, IoCounts>,
}

impl Connected {
    /// What a host did on controllers that are gone.
    pub(super) fn gone(&self, host: &str) -> IoCounts {
        self.gone.get(host).copied().unwrap_or_default()
    }
}

/// What a controller has done on all its queues.
pub(super) fn counts(controller: &nvmf::controller::Controller) -> IoCounts {
    let queues = controller.queue_uses().into_iter();
    IoCounts::sum(queues.map(|queue| controller.queue_counters(queue.qid).read()))
}

impl ControlPlane {
    /// Looks at everything once.
    pub(super) fn look(&self) {
        let mut node = locked(&self.node);
        let Some(node) = node.as_mut() else { return };
        let mut seen = locked(&self.seen);
        let now_ms = now_ms();
        seen.connected.looks += 1;
        if seen.connected.looks.is_multiple_of(RETRY) && node.retry() {
            let object = Object::new(ObjectKind::Appliance, "");
            let message = "Something that was missing is there again.";
            self.publish(EventKind::Changed, Severity::Info, object, message);
        }
        self.look_at_pools(node, &mut seen, now_ms);
        self.look_at_hosts(node, &mut seen.connected);
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
        let (raised, cleared) = seen.alerts.look(alerts::all(node, &statuses, now_ms));
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
        let mut now = BTreeMap::new();
        for subsystem in node.registry.subsystems() {
            for controller in subsystem.live_controllers() {
                let host = controller.association().host_nqn.clone();
                let seen = Controller { host, counts: counts(&controller) };
                now.insert((subsystem.nqn().to_owned(), controller.cntlid()), seen);
            }
        }
        let before = std::mem::take(&mut connected.controllers);
        let told = |kind, place: &(String, u16), message: String| {
            let object = Object::new(ObjectKind::Controller, format!("{}/{}", place.0, place.1));
            self.publish(kind, Severity::Info, object, message);
        };
        for (place, controller) in before {
            let same = now.get(&place).is_some_and(|other| other.host == controller.host);
            if !same {
                let message = format!("{} is gone from {}.", controller.host, place.0);
                told(EventKind::Disconnected, &place, message);
                *connected.gone.entry(controller.host).or_default() += controller.counts;
            } else {
                connected.controllers.insert(place, controller);
            }
        }
        for (place, controller) in now {
            if !connected.controllers.contains_key(&place) {
                let message = format!("{} is connected to {}.", controller.host, place.0);
                told(EventKind::Connected, &place, message);
            }
            connected.controllers.insert(place, controller);
        }
    }
}
