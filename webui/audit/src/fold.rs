//! Requests that changed nothing, folded: a line a minute for each caller. Holds no clock.

use crate::line::Access;
use std::collections::BTreeMap;

/// How long requests of a caller are counted before a line says so, in nanoseconds.
const WINDOW_NS: u64 = 60 * 1_000_000_000;
/// Callers that are told apart; further ones share a line.
const CALLERS: usize = 1024;
/// What is said of those that share one.
const OTHERS: &str = "others";

/// Requests of a caller since its last line.
struct Window {
    since_ns: u64,
    /// Requests that are in no line yet, as one line.
    waiting: Option<Access>,
}

/// Counts requests by caller.
#[derive(Default)]
pub struct Fold {
    windows: BTreeMap<String, Window>,
}

impl Fold {
    /// Counts a request of a caller. Returns the line to write now: the first of a caller is written
    /// at once, later ones when their minute is over.
    pub fn count(&mut self, caller: String, mut request: Access, now_ns: u64) -> Option<Access> {
        let known = self.windows.contains_key(&caller) || self.windows.len() < CALLERS;
        let caller = if known { caller } else { OTHERS.to_owned() };
        match self.windows.get_mut(&caller) {
            None => {
                self.windows.insert(caller, Window { since_ns: now_ns, waiting: None });
                Some(request)
            }
            Some(window) => {
                request.count += window.waiting.as_ref().map_or(0, |waiting| waiting.count);
                window.waiting = Some(request);
                None
            }
        }
    }

    /// The lines to write now: those of callers whose minute is over. Callers without requests in it
    /// are forgotten.
    pub fn due(&mut self, now_ns: u64) -> Vec<Access> {
        let mut due = Vec::new();
        self.windows.retain(|_, window| {
            if now_ns.saturating_sub(window.since_ns) < WINDOW_NS {
                return true;
            }
            window.since_ns = now_ns;
            let waiting = window.waiting.take();
            let had_some = waiting.is_some();
            due.extend(waiting);
            had_some
        });
        due
    }

    /// What is in no line yet, and will never be: at the end.
    pub fn take(&mut self) -> Vec<Access> {
        std::mem::take(&mut self.windows)
            .into_values()
            .filter_map(|window| window.waiting)
            .collect()
    }
}
