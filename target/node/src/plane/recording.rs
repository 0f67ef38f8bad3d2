//! What is kept of how everything performed: a thread that looks at the statistics, once a step.

use super::{ControlPlane, locked, now_ms};
use crate::config::Config;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use webui_history::Watcher;
use webui_model::data_dir::HISTORY_FOLDER;
use webui_model::{Refusal, Statistics};

/// Opens what is kept. Where it cannot be had, seconds are kept in memory: nothing else depends on it.
pub(super) fn open(config: &Config) -> Watcher {
    let Some(size) = config.history.size.bytes() else { return Watcher::in_memory() };
    Watcher::on_disk(&config.data_dir.join(HISTORY_FOLDER), size).unwrap_or_else(|why| {
        tracing::warn!("{why} Until the next start it is kept in memory only.");
        Watcher::in_memory()
    })
}

/// Starts the thread that looks.
///
/// # Errors
/// A sentence, when there is no thread to be had.
pub(super) fn start(plane: &Arc<ControlPlane>, watcher: Watcher) -> Result<JoinHandle<()>, String> {
    let plane = plane.clone();
    let thread = std::thread::Builder::new().name("history".into());
    let thread = thread.spawn(move || record(&plane, watcher));
    thread.map_err(|error| format!("No thread can be started: {error}."))
}

/// All counters. What hosts have done is locked for as long as it takes to add it up.
pub(super) fn count(plane: &ControlPlane) -> Result<Statistics, Refusal> {
    plane.view(|view| {
        let inside = view.inside();
        let hosts = {
            let mut seen = locked(&plane.seen);
            seen.connected.take_ended(&plane.node);
            view.host_statistics(&seen.connected)
        };
        view.statistics(&inside, hosts, now_ms())
    })
}

fn record(plane: &ControlPlane, mut watcher: Watcher) {
    let mut was_told = false;
    let mut tell = |done: Result<(), webui_history::FilesError>| match done {
        Err(why) if !was_told => {
            tracing::warn!("{why}");
            was_told = true;
        }
        Err(_) => {}
        Ok(()) => was_told = false,
    };
    let mut ending = locked(&plane.ending);
    while !*ending {
        let waited = plane.ended.wait_timeout(ending, watcher.wait(now_ms()));
        ending = waited.unwrap_or_else(PoisonError::into_inner).0;
        if *ending {
            break;
        }
        drop(ending);
        if let Ok(statistics) = count(plane) {
            tell(watcher.look(statistics));
        }
        ending = locked(&plane.ending);
    }
    drop(ending);
    tell(watcher.end());
}
