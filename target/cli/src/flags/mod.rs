//! Flags and words that more than one command takes.

mod api;
mod confirm;
mod export;
mod fabric;
pub mod limits;
mod place;

pub use api::Api;
pub use confirm::Confirm;
pub use export::ExportFlags;
pub use fabric::fabric;
pub use place::{Exported, SnapshotPlace, VolumePlace};
