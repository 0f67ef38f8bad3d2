//! The audit log on disk: who changed what, and who was let in or refused.
//!
//! A log is a row of files. `NAME` is written; `NAME.1` is the newest of those before it, the highest
//! number the oldest; `NAME.spare` is empty and holds space for the next. Each line is a JSON object
//! with the SHA-256 of the line before it, whichever file that is in.

#![forbid(unsafe_code)]

mod backward;
mod fold;
mod line;
mod log;
mod quota;
mod segment;
mod syslog;
mod verify;

pub use fold::Fold;
pub use line::{Access, Intent};
pub use log::{Forward, Log};
pub use quota::{Quota, of_file_system};
pub use syslog::{SOCKET as SYSLOG_SOCKET, Syslog};
pub use verify::{Verified, verify};
