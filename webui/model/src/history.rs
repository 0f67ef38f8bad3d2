//! How something performed over time.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What there is a history of.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum HistoryKind {
    /// All volumes and whatever else is exported, together.
    Appliance,
    /// The volumes and snapshots of a pool, together.
    Pool,
    /// A device.
    Device,
    /// A volume, or whatever else is exported.
    Volume,
    /// A host.
    Host,
}

impl HistoryKind {
    /// As the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Appliance => "appliance",
            Self::Pool => "pool",
            Self::Device => "device",
            Self::Volume => "volume",
            Self::Host => "host",
        }
    }
}

/// Of what, and of when, a history is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// What it is.
    pub kind: HistoryKind,
    /// Its name as in `/metrics`, that of a volume behind its pool's, as in `tank/a`; none of the
    /// appliance.
    pub name: Option<String>,
    /// From when on; an hour before the end unless given.
    pub from_ms: Option<u64>,
    /// Until when; until now unless given.
    pub to_ms: Option<u64>,
    /// Steps no shorter than this, in seconds; the shortest that are kept for all of the time unless
    /// given.
    pub step_s: Option<u32>,
}

/// How something performed over time, in steps of the same length: one list for each number, all of
/// the same length, oldest step first. Counters are those of `/metrics`: what they grew by in a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// What it is.
    pub kind: HistoryKind,
    /// Its name; none of the appliance.
    pub name: Option<String>,
    /// Length of a step in seconds.
    pub step_s: u32,
    /// Why steps have this length, and how long they are kept.
    pub reason: String,
    /// When each step began. Steps of which nothing is known are left out: the appliance was off, or
    /// the object was not there.
    pub at_ms: Vec<u64>,
    /// Reads completed.
    pub reads: Vec<u64>,
    /// Writes completed.
    pub writes: Vec<u64>,
    /// Bytes read.
    pub read_bytes: Vec<u64>,
    /// Bytes written.
    pub write_bytes: Vec<u64>,
    /// Commands that ended with an error.
    pub errors: Vec<u64>,
    /// Commands under way, on average over the looks of a step.
    pub queue_depth: Vec<f64>,
    /// The time in nanoseconds within which half of the reads of a step ended, no more than one bucket
    /// of the histogram above the exact one; nothing without reads. Where steps were put together
    /// afterwards it is the longest of theirs, here and below.
    pub read_p50_ns: Vec<Option<u64>>,
    /// The same for 99 % of the reads.
    pub read_p99_ns: Vec<Option<u64>>,
    /// The same for half of the writes.
    pub write_p50_ns: Vec<Option<u64>>,
    /// The same for 99 % of the writes.
    pub write_p99_ns: Vec<Option<u64>>,
}
