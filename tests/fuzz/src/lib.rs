//! Fuzz targets: functions over arbitrary bytes that panic when something does not hold.
//!
//! Beyond not panicking, each target states what must be true of whatever was accepted. The
//! corpus of a target is in `tests/fuzz/corpus`; the ordinary tests run over it too.
#![forbid(unsafe_code)]

mod capsules;
mod connection;
mod controller;
mod framing;
mod logs;

pub use capsules::{capsules, connect_data};
pub use connection::connection;
pub use controller::controller;
pub use framing::pdu_framing;
pub use logs::{discovery_log, log_pages};

/// A fuzz target.
pub type Target = fn(&[u8]);

/// Every target by the name of its binary and of its folder in the corpus.
pub const TARGETS: [(&str, Target); 7] = [
    ("pdu_framing", pdu_framing),
    ("capsules", capsules),
    ("connect_data", connect_data),
    ("connection", connection),
    ("controller", controller),
    ("discovery_log", discovery_log),
    ("log_pages", log_pages),
];
