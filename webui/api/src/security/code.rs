//! One-time codes: what a link has in it, so that nobody copies a token into a browser.

use super::secret;
use std::collections::BTreeMap;

/// How long a code is good for, in nanoseconds: a link is opened at once, or made again.
const LIFE_NS: u64 = 5 * 60 * 1_000_000_000;
/// The same in milliseconds.
pub(crate) const LIFE_MS: u64 = LIFE_NS / 1_000_000;
/// Codes of one holder at once; its oldest goes first.
const CODES_OF_ONE: usize = 8;

struct Entry {
    /// Whose session it opens: as sessions have it.
    holder: String,
    ends_ns: u64,
}

/// The codes, in memory: a restart ends them.
#[derive(Default)]
pub(super) struct Codes {
    /// By the hash of the code.
    entries: BTreeMap<String, Entry>,
}

impl Codes {
    /// Keeps a code for this holder.
    pub(super) fn keep(&mut self, code: &str, holder: &str, now_ns: u64) {
        self.entries.retain(|_, entry| entry.ends_ns > now_ns);
        let own = self.entries.iter().filter(|(_, entry)| entry.holder == holder);
        if own.clone().count() >= CODES_OF_ONE {
            let oldest = own.min_by_key(|(_, entry)| entry.ends_ns).map(|(hash, _)| hash.clone());
            oldest.and_then(|hash| self.entries.remove(&hash));
        }
        let entry = Entry { holder: holder.to_owned(), ends_ns: now_ns.saturating_add(LIFE_NS) };
        self.entries.insert(secret::hash(code), entry);
    }

    /// Takes the code with this hash, which is good for once: whose it is, if it still is one.
    pub(super) fn take(&mut self, hash: &str, now_ns: u64) -> Option<String> {
        let entry = self.entries.remove(hash)?;
        (entry.ends_ns > now_ns).then_some(entry.holder)
    }

    /// Ends the codes of a holder.
    pub(super) fn drop_all(&mut self, holder: &str) {
        self.entries.retain(|_, entry| entry.holder != holder);
    }
}
