//! A redb database in a region of a device, without a file system: [`Region`] is the storage that
//! redb runs on, [`RedoLog`] keeps small commits until a transaction takes them over. What the
//! device says of the region is a [`Label`] of its owner's.
#![forbid(unsafe_code)]

mod label;
mod log;
mod medium;
mod region;

pub use label::Label;
pub use log::{RECORD_BYTES, RedoLog};
pub use medium::{BLOCK_BYTES, FileMedium, Medium};
pub use region::{Backend, LOG_BYTES, Region, store_bytes};
