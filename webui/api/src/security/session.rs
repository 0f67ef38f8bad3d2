//! Sessions: what a browser holds instead of a token, in a cookie that scripts cannot read.

use super::secret;
use std::collections::BTreeMap;

/// How long a session lasts, in nanoseconds: a working day.
const LIFE_NS: u64 = 12 * 3600 * 1_000_000_000;
/// Sessions of one token at once; its oldest goes first, and nobody else's. Of all tokens there are
/// at most as many as this for each of them.
const SESSIONS_OF_ONE: usize = 32;
/// Digits of a session's number: enough to tell sessions apart, and no help to guess one.
const ID_DIGITS: usize = 16;

/// What a session is called in the audit log: the start of its value's hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionId(pub(crate) String);

struct Entry {
    /// The hash of the token it was opened with. A token that is made again has another.
    token: String,
    ends_ns: u64,
}

/// The sessions, in memory: a restart ends them.
#[derive(Default)]
pub(super) struct Sessions {
    /// By the hash of the cookie's value.
    entries: BTreeMap<String, Entry>,
}

fn id(hash: &str) -> SessionId {
    SessionId(hash[..ID_DIGITS].to_owned())
}

impl Sessions {
    /// Opens a session with this value for the token with this hash.
    pub(super) fn open(&mut self, token: &str, value: &str, now_ns: u64) -> SessionId {
        self.entries.retain(|_, entry| entry.ends_ns > now_ns);
        let own = self.entries.iter().filter(|(_, entry)| entry.token == token);
        if own.clone().count() >= SESSIONS_OF_ONE {
            let oldest = own.min_by_key(|(_, entry)| entry.ends_ns).map(|(hash, _)| hash.clone());
            oldest.and_then(|hash| self.entries.remove(&hash));
        }
        let entry = Entry { token: token.to_owned(), ends_ns: now_ns.saturating_add(LIFE_NS) };
        let hash = secret::hash(value);
        let session = id(&hash);
        self.entries.insert(hash, entry);
        session
    }

    /// What a session is called, and the hash of its token.
    pub(super) fn find(&self, value: &str, now_ns: u64) -> Option<(SessionId, &str)> {
        let hash = secret::hash(value);
        let entry = self.entries.get(&hash).filter(|entry| entry.ends_ns > now_ns)?;
        Some((id(&hash), &entry.token))
    }

    /// Ends a session.
    pub(super) fn close(&mut self, value: &str) {
        self.entries.remove(&secret::hash(value));
    }

    /// Ends the sessions of a token.
    pub(super) fn close_all(&mut self, token: &str) {
        self.entries.retain(|_, entry| entry.token != token);
    }
}
