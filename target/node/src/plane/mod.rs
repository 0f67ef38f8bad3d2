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
mod recording;
mod refusals;
mod reload;
mod snapshots;
mod statistics;
mod subsystems;
mod view;
mod volumes;
mod watch;

use crate::executor::Task;
use crate::node::Node;
use crate::unit::schedule::{Claim, Key};
use alerts::Alerts;
use jobs::Jobs;
use machine::Leftover;
use reload::Reread;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use view::View;
use watch::Connected;
use webui_history::Past;
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
    /// For changes, which outlive the call that begins them.
    me: Weak<ControlPlane>,
    node: Arc<Node>,
    /// It is being stopped, or has been.
    down: AtomicBool,
    log: EventLog,
    started_ms: u64,
    slots: init::Slots,
    leftover: Leftover,
    seen: Mutex<Seen>,
    /// What reads the files again.
    rereads: OnceLock<Reread>,
    /// What the API says of itself.
    api_alerts: Mutex<Vec<Alert>>,
    ending: Mutex<bool>,
    ended: Condvar,
    past: Arc<Past>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// Now, in milliseconds since 1970.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A request that panicked has changed nothing by halves: what is wanted is in the log.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All that is changed over the API goes through here; a test counts what it costs.
#[inline(never)]
fn in_its_turn<R>(
    plane: &ControlPlane,
    change: impl FnOnce(&ControlPlane) -> Result<R, Refusal>,
) -> Result<R, Refusal> {
    change(plane)
}

impl ControlPlane {
    /// Stands behind the API for `node`, and looks at it every second.
    ///
    /// # Errors
    /// A sentence, when there is no thread to be had.
    pub fn start(node: Arc<Node>) -> Result<Arc<ControlPlane>, String> {
        let started_ms = now_ms();
        let leftover = Leftover::in_folder(&node.config().data_dir);
        let watcher = recording::open(&node.config());
        let plane = Arc::new_cyclic(|me| ControlPlane {
            me: me.clone(),
            node,
            leftover,
            down: AtomicBool::new(false),
            log: EventLog::new(EVENTS, started_ms.saturating_mul(1000)),
            started_ms,
            slots: init::Slots::default(),
            seen: Mutex::default(),
            rereads: OnceLock::new(),
            api_alerts: Mutex::default(),
            ending: Mutex::new(false),
            ended: Condvar::new(),
            past: watcher.past(),
            threads: Mutex::default(),
        });
        let watched = plane.clone();
        let thread = std::thread::Builder::new().name("watch".into());
        let thread = thread.spawn(move || watched.run());
        let thread = thread.map_err(|error| format!("No thread can be started: {error}."))?;
        locked(&plane.threads).push(thread);
        plane.look();
        let thread = recording::start(&plane, watcher)?;
        locked(&plane.threads).push(thread);
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
        if self.down.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        *locked(&self.ending) = true;
        self.ended.notify_all();
        let threads = std::mem::take(&mut *locked(&self.threads));
        for thread in threads {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!(name, "a thread ended with a panic");
            }
        }
        self.node.stop()
    }

    /// Refuses once it is on its way down.
    fn is_up(&self) -> Result<(), Refusal> {
        match self.down.load(Ordering::Acquire) {
            true => Err(Refusal::unavailable("The appliance is on its way down.")),
            false => Ok(()),
        }
    }

    /// Asks the appliance for something that it has published.
    fn with<R>(&self, f: impl FnOnce(&Node) -> Result<R, Refusal>) -> Result<R, Refusal> {
        self.is_up()?;
        f(&self.node)
    }

    /// Looks at the appliance.
    fn view<R>(&self, f: impl FnOnce(&View<'_>) -> Result<R, Refusal>) -> Result<R, Refusal> {
        self.with(|node| f(&View::of(node)))
    }

    /// Changes something, when it is the turn of what has these claims: `what` it does as in "making
    /// volume tank/a". A change goes on when whoever asked for it gives up.
    fn change<R: Send + 'static>(
        &self,
        what: impl Into<String>,
        claims: Vec<Claim>,
        change: impl FnOnce(&ControlPlane) -> Result<R, Refusal> + Send + 'static,
    ) -> Result<R, Refusal> {
        self.is_up()?;
        let down = || Refusal::unavailable("The appliance is on its way down.");
        let me = self.me.upgrade().ok_or_else(down)?;
        let keys: Vec<Key> = claims.iter().map(|claim| claim.key.clone()).collect();
        let changed =
            self.node.executor.carry(Task::new(what, claims), move || in_its_turn(&me, change));
        changed.map_err(|refusal| match self.node.supervisor().why_slow(&keys) {
            Some(why) if refusal.kind == webui_model::RefusalKind::Unavailable => {
                Refusal::unavailable(format!("{} {why}", refusal.message))
            }
            _ => refusal,
        })
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
