//! Sessions: what a browser holds instead of a token, in a cookie that scripts cannot read.

use super::secret;
use super::token::{Identity, Tokens};
use crate::clock::World;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use webui_model::Name;

/// How long a session lasts, in nanoseconds: a working day.
const LIFE_NS: u64 = 12 * 3600 * 1_000_000_000;
/// Sessions at once; the oldest goes first.
const SESSIONS: usize = 1024;

struct Entry {
    token: Name,
    ends_ns: u64,
}

/// The sessions, in memory: a restart ends them.
#[derive(Default)]
pub struct Sessions {
    /// By the hash of the cookie's value.
    entries: Mutex<BTreeMap<String, Entry>>,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session for a token; returns the cookie's value.
    pub fn open(&self, token: &Name, world: &dyn World) -> String {
        let value = secret::draw(world);
        let now = world.now_ns();
        let mut entries = self.lock();
        entries.retain(|_, entry| entry.ends_ns > now);
        if entries.len() >= SESSIONS {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.ends_ns);
            let oldest = oldest.map(|(hash, _)| hash.clone());
            oldest.and_then(|hash| entries.remove(&hash));
        }
        let entry = Entry { token: token.clone(), ends_ns: now.saturating_add(LIFE_NS) };
        entries.insert(secret::hash(&value), entry);
        value
    }

    /// Whose session this is. A token that was revoked has none.
    pub(crate) fn identify(&self, value: &str, tokens: &Tokens, now_ns: u64) -> Option<Identity> {
        let token = {
            let entries = self.lock();
            let entry = entries.get(&secret::hash(value)).filter(|entry| entry.ends_ns > now_ns)?;
            entry.token.clone()
        };
        tokens.named(&token)
    }

    /// Ends a session.
    pub fn close(&self, value: &str) {
        self.lock().remove(&secret::hash(value));
    }

    /// Ends the sessions of a token.
    pub fn close_all(&self, token: &Name) {
        self.lock().retain(|_, entry| entry.token != *token);
    }
}
