//! The recent events, kept in memory for whoever asks later or waits for the next.

use crate::{Event, EventKind, Object, Severity};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use utoipa::ToSchema;

/// Events, oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventPage {
    /// The events.
    pub items: Vec<Event>,
    /// Whether events between the one asked after and the first given are not kept any more: look
    /// at the objects again.
    pub lost: bool,
    /// The number to ask after next.
    pub last_id: u64,
}

struct Kept {
    events: VecDeque<Event>,
    /// Number of the next event.
    next: u64,
    counts: BTreeMap<(EventKind, Severity), u64>,
    followers: Vec<Follower>,
}

/// Takes the number of the newest event.
type Follower = Box<dyn FnMut(u64) + Send>;

/// A bounded list of what happened. Whoever runs the appliance publishes; the server reads.
pub struct EventLog {
    kept: Mutex<Kept>,
    capacity: usize,
    /// The first number of this run: what was asked after before it comes from an earlier one.
    first: u64,
}

impl EventLog {
    /// A log that keeps `capacity` events. Numbers start at `first`: give microseconds since 1970,
    /// so that a restart does not use a number again.
    pub fn new(capacity: usize, first: u64) -> Self {
        let first = first.max(1);
        let (events, counts, followers) = (VecDeque::new(), BTreeMap::new(), Vec::new());
        let kept = Kept { events, next: first, counts, followers };
        Self { kept: Mutex::new(kept), capacity: capacity.max(1), first }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // No code that can panic runs under this lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event that happened at `at_ms`; returns its number.
    pub fn publish(
        &self,
        at_ms: u64,
        kind: EventKind,
        severity: Severity,
        object: Object,
        message: impl Into<String>,
    ) -> u64 {
        let mut kept = self.lock();
        let id = kept.next;
        kept.next += 1;
        if kept.events.len() == self.capacity {
            kept.events.pop_front();
        }
        kept.events.push_back(Event { id, at_ms, kind, severity, object, message: message.into() });
        *kept.counts.entry((kind, severity)).or_default() += 1;
        // Told under the lock: a number that was told has been added, and numbers only go up.
        kept.followers.iter_mut().for_each(|tell| tell(id));
        id
    }

    /// Up to `limit` events after number `after`; 0: from the oldest kept.
    pub fn after(&self, after: u64, limit: usize) -> EventPage {
        let kept = self.lock();
        let oldest = kept.events.front().map_or(kept.next, |event| event.id);
        let known = after >= oldest.saturating_sub(1) && after < kept.next;
        let lost = after != 0 && !known;
        let after = if known { after } else { 0 };
        let skip = usize::try_from((after + 1).saturating_sub(oldest)).unwrap_or(usize::MAX);
        let items: Vec<Event> = kept.events.iter().skip(skip).take(limit).cloned().collect();
        let last_id = match items.last() {
            Some(event) => event.id,
            None => kept.next - 1,
        };
        EventPage { items, lost, last_id }
    }

    /// The newest `limit` events, oldest first.
    pub fn newest(&self, limit: usize) -> EventPage {
        let kept = self.lock();
        let skip = kept.events.len().saturating_sub(limit);
        let items = kept.events.iter().skip(skip).cloned().collect();
        EventPage { items, lost: false, last_id: kept.next - 1 }
    }

    /// The number of the newest event; one less than the first if there is none.
    pub fn last_id(&self) -> u64 {
        self.lock().next - 1
    }

    /// Has `tell` called with the number of each event from now on, for as long as the log is there.
    /// It may neither block, panic, nor use the log.
    pub fn follow(&self, tell: impl FnMut(u64) + Send + 'static) {
        self.lock().followers.push(Box::new(tell));
    }

    /// Events so far by kind and severity.
    pub fn counts(&self) -> Vec<(EventKind, Severity, u64)> {
        self.lock().counts.iter().map(|((kind, severity), n)| (*kind, *severity, *n)).collect()
    }

    /// The number that the first event of this run has or will have.
    pub fn first_id(&self) -> u64 {
        self.first
    }
}
