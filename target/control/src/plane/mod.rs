//! The appliance behind the API: every method of [`webui_model::Control`], and a thread that looks
//! at it every second for what goes on by itself.

mod alerts;
mod apply;
mod control;
mod counters;
mod devices;
mod drives;
mod exports;
mod jobs;
mod listeners;
mod machine;
mod pools;
mod refusals;
mod reload;
mod snapshots;
mod statistics;
mod subsystems;
mod view;
mod volumes;
mod watch;

use crate::node::Node;
use alerts::Alerts;
use bdev_pool::PoolStatus;
use jobs::Jobs;
use reload::Reread;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use watch::Connected;
use webui_model::{Alert, EventKind, EventLog, Object, ObjectKind, Refusal, Severity};

/// Events that are kept for whoever asks later.
const EVENTS: usize = 4096;

/// How often the appliance is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// What the last look at the appliance has left.
#[derive(Default)]
struct Seen {
    jobs: Jobs,
    alerts: Alerts,
    connected: Connected,
}

/// The appliance behind the API.
pub struct ControlPlane {
    /// `None`: it has been stopped.
    node: Mutex<Option<Node>>,
    log: EventLog,
    started_ms: u64,
    slots: init::Slots,
    seen: Mutex<Seen>,
    /// What reads the files again.
    rereads: OnceLock<Reread>,
    /// What the API says of itself.
    api_alerts: Mutex<Vec<Alert>>,
    ending: Mutex<bool>,
    ended: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Now, in milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// What every pool says, by name.
type Statuses = BTreeMap<String, PoolStatus>;

fn statuses(node: &Node) -> Result<Statuses, Refusal> {
    node.pools.iter().map(|(name, pool)| Ok((name.clone(), pool.status()?))).collect()
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A request that panicked has changed nothing by halves: what is wanted is in the state file.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ControlPlane {
    /// Stands behind the API for `node`, and looks at it every second.
    ///
    /// # Errors
    /// A sentence, when there is no thread to be had.
    pub fn start(node: Node) -> Result<Arc<ControlPlane>, String> {
        let started_ms = now_ms();
        let plane = Arc::new(ControlPlane {
            node: Mutex::new(Some(node)),
            log: EventLog::new(EVENTS, started_ms.saturating_mul(1000)),
            started_ms,
            slots: init::Slots::default(),
            seen: Mutex::default(),
            rereads: OnceLock::new(),
            api_alerts: Mutex::default(),
            ending: Mutex::new(false),
            ended: Condvar::new(),
            thread: Mutex::new(None),
        });
        let watched = plane.clone();
        let thread = std::thread::Builder::new().name("watch".into());
        let thread = thread.spawn(move || watched.run());
        let thread = thread.map_err(|error| format!("No thread can be started: {error}."))?;
        *locked(&plane.thread) = Some(thread);
        plane.look();
        Ok(plane)
    }

    fn run(&self) {
        let mut ending = locked(&self.ending);
        loop {
            let waited = self.ended.wait_timeout(ending, EVERY);
            ending = waited.unwrap_or_else(PoisonError::into_inner).0;
            if *ending {
                return;
            }
            drop(ending);
            self.look();
            ending = locked(&self.ending);
        }
    }

    /// Stops the appliance.
    ///
    /// # Errors
    /// As of [`Node::stop`].
    pub fn stop(&self) -> Result<(), String> {
        *locked(&self.ending) = true;
        self.ended.notify_all();
        if let Some(thread) = locked(&self.thread).take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that watches ended with a panic");
        }
        let node = locked(&self.node).take();
        node.map_or(Ok(()), Node::stop)
    }

    /// Does something with the appliance.
    fn with<R>(&self, f: impl FnOnce(&mut Node) -> Result<R, Refusal>) -> Result<R, Refusal> {
        match &mut *locked(&self.node) {
            Some(node) => f(node),
            None => Err(Refusal::unavailable("The appliance is on its way down.")),
        }
    }

    fn publish(
        &self,
        kind: EventKind,
        severity: Severity,
        object: Object,
        message: impl Into<String>,
    ) {
        self.log.publish(now_ms(), kind, severity, object, message);
    }

    /// An operator has done something.
    fn done(
        &self,
        kind: EventKind,
        object: (ObjectKind, impl std::fmt::Display),
        message: impl Into<String>,
    ) {
        let object = Object::new(object.0, object.1.to_string());
        self.publish(kind, Severity::Info, object, message);
    }
}
