//! What is wanted, for readers and for those who change it.

use super::{Revision, Store, StoreError};
use crate::change::{Change, Item};
use crate::edit::{Edited, edit};
use crate::item::Declared;
use crate::{Request, Seen, Wanted};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use webui_model::Refusal;

/// How often an edit is tried again when somebody else was faster.
const TRIES: usize = 8;

/// What is wanted now, and the store in which it is kept. Readers get a copy, which costs nothing, and
/// never wait for the store.
pub struct Ledger {
    configured: Wanted,
    now: RwLock<Wanted>,
    kept: Mutex<Kept>,
}

struct Kept {
    store: Box<dyn Store>,
    revision: Revision,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ledger").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Ledger {
    /// What a store keeps, beside what the configuration declares, which may depend on what is kept. What is kept and has its place
    /// taken by something configured waits in the store.
    ///
    /// # Errors
    /// What the store says, or why the configuration cannot be as it is.
    pub fn open(
        mut store: Box<dyn Store>,
        configured: impl FnOnce(&[Item]) -> Result<Wanted, String>,
    ) -> Result<Ledger, StoreError> {
        let configured = configured(&store.load()?.1).map_err(StoreError::Failed)?;
        let (revision, now) = load(&mut *store, &configured)?;
        let kept = Mutex::new(Kept { store, revision });
        Ok(Ledger { configured, now: RwLock::new(now), kept })
    }

    /// What is wanted now.
    pub fn now(&self) -> Wanted {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for something. What is wanted then is durable when this returns.
    ///
    /// # Errors
    /// Why it is refused, or cannot be kept; nothing has changed then.
    pub fn edit(&self, request: &Request, seen: &dyn Seen) -> Result<Edited, Refusal> {
        self.change(|wanted| edit(wanted, request, seen))
    }

    /// Changes what is wanted by `how`, which may be asked again where somebody else was faster.
    ///
    /// # Errors
    /// As [`Ledger::edit`].
    pub fn change(
        &self,
        how: impl Fn(&Wanted) -> Result<Edited, Refusal>,
    ) -> Result<Edited, Refusal> {
        let mut kept = self.kept();
        for _ in 0..TRIES {
            let edited = how(&self.now())?;
            if edited.is_as_before() {
                return Ok(edited);
            }
            let Kept { store, revision } = &mut *kept;
            match store.compare_and_swap(*revision, &edited.changes) {
                Ok(now) => {
                    *revision = now;
                    self.publish(edited.wanted.clone());
                    return Ok(edited);
                }
                Err(StoreError::Conflict) => {
                    let loaded = load(&mut **store, &self.configured);
                    let (now, wanted) =
                        loaded.map_err(|error| Refusal::device(error.to_string()))?;
                    *revision = now;
                    self.publish(wanted);
                }
                Err(StoreError::Failed(why)) => return Err(Refusal::device(why)),
            }
        }
        Err(Refusal::unavailable("What is wanted is changed by others all the time: try again."))
    }

    /// Takes back changes that could not be carried out.
    ///
    /// # Errors
    /// As [`Ledger::edit`].
    pub fn undo(&self, changes: &[Change]) -> Result<Edited, Refusal> {
        self.change(|wanted| {
            let changes: Vec<Change> = changes.iter().rev().cloned().map(Change::undone).collect();
            Ok(Edited { wanted: wanted.with(&changes), changes })
        })
    }

    /// What an older program has left is of no use any more.
    ///
    /// # Errors
    /// What the store says.
    pub fn forget_old(&self) -> Result<(), StoreError> {
        self.kept().store.forget_old()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, wanted: Wanted) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = wanted;
    }
}

fn load(store: &mut dyn Store, configured: &Wanted) -> Result<(Revision, Wanted), StoreError> {
    let (revision, items) = store.load()?;
    let mut wanted = configured.clone();
    for item in items {
        let key = item.key();
        if !wanted.add(Declared::api(item)) {
            tracing::warn!(?key, "the configuration has taken its place: it waits");
        }
    }
    Ok((revision, wanted))
}
