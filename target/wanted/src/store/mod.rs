//! Where what is wanted is kept.

mod file;
mod files;
mod ledger;
mod lines;
mod state_json;

pub use file::FileStore;
pub use files::{Files, FolderFiles};
pub use ledger::Ledger;

use crate::change::{Change, Item};

/// The file in which earlier versions kept what is wanted.
pub const STATE_JSON: &str = "state.json";

/// The number of a state of a store: one more with each change.
pub type Revision = u64;

/// Why nothing was kept, or nothing can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// Somebody else has changed it since that revision: load it again.
    Conflict,
    /// A sentence.
    Failed(String),
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreError::Conflict => f.write_str("Somebody else has changed what is wanted."),
            StoreError::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for StoreError {}

/// Where what is asked for over the API is kept: a file of one node, or what a cluster shares.
pub trait Store: Send {
    /// What is kept, and its revision.
    ///
    /// # Errors
    /// It cannot be read, or not understood.
    fn load(&mut self) -> Result<(Revision, Vec<Item>), StoreError>;

    /// Keeps changes of what was there at a revision, all or none of them; they are durable when this
    /// returns. Each says what its item was before, for stores that compare item by item. Changes of
    /// what the configuration declares are left out.
    ///
    /// # Errors
    /// Nothing is kept then: see [`StoreError`].
    fn compare_and_swap(
        &mut self,
        revision: Revision,
        changes: &[Change],
    ) -> Result<Revision, StoreError>;

    /// What an older program has left is of no use any more: nobody goes back to it.
    ///
    /// # Errors
    /// It cannot be taken away.
    fn forget_old(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}
