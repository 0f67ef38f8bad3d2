//! Jobs: what takes longer than a request.

// utoipa takes a type that is called Object for any object of JSON.
use crate::Object as Subject;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Moves the data of a device to the others of its pool.
    Drain,
    /// Gives back the space of a volume or snapshot that was deleted.
    Reclaim,
    /// Formats a namespace of an NVMe drive.
    Format,
    /// Sanitizes an NVMe drive.
    Sanitize,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    /// Waits for its turn.
    Waiting,
    /// At work.
    Running,
    /// Ended as it should.
    Done,
    /// Ended otherwise; the reason says why.
    Failed,
    /// Ended because somebody asked.
    Cancelled,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Its number.
    pub id: u64,
    /// What it does.
    pub kind: JobKind,
    /// What it does it to.
    pub object: Subject,
    /// Bytes done.
    pub done_bytes: u64,
    /// Bytes to do in all.
    pub total_bytes: u64,
    /// Bytes a second, of late.
    pub bytes_per_second: u64,
    /// Seconds left at that speed, while it runs and has a speed.
    pub seconds_left: Option<u64>,
    /// When it was started.
    pub started_at_ms: u64,
    /// When it ended.
    pub ended_at_ms: Option<u64>,
    /// How far it is.
    pub status: JobStatus,
    /// In words: what it is at, or why it ended.
    pub reason: String,
}

impl Job {
    /// The share that is done, 0 to 1; of nothing to do, all.
    pub fn progress(&self) -> f64 {
        if self.total_bytes == 0 {
            return 1.0;
        }
        (self.done_bytes as f64 / self.total_bytes as f64).min(1.0)
    }
}
