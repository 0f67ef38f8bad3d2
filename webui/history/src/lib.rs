//! How objects performed over time: what the counters of [`webui_model::Statistics`] grew by in each
//! step, and how long commands took. Seconds are kept in memory, for an hour; minutes and hours in
//! files of a fixed size (`FORMAT.md`). Of many objects steps are longer, so that space is bounded.
//!
//! A [`Watcher`] takes the statistics, one look a step, and writes. Whoever asks, asks the [`Past`]: it
//! waits for no file that is written, and the watcher for no reader, but for a copy of one object's
//! steps.

#![forbid(unsafe_code)]

mod files;
mod frame;
mod growth;
mod level;
mod memory;
mod past;
mod step;
mod watcher;

pub use files::{FilesError, MIN_BYTES};
pub use past::Past;
pub use watcher::Watcher;

use webui_model::HistoryKind;

/// What there is a history of.
pub(crate) type Key = (HistoryKind, String);
