//! Events, which pass, and alerts, which stay until their cause is gone.

// utoipa takes a type that is called Object for any object of JSON.
use crate::Object as Subject;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What happened.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The object is new.
    Created,
    /// The object is otherwise than before.
    Changed,
    /// The object is gone.
    Deleted,
    /// A host's controller connected.
    Connected,
    /// A host's controller is gone.
    Disconnected,
    /// A host was refused, or given up.
    Refused,
    /// A job went on.
    Progress,
    /// An alert was raised.
    AlertRaised,
    /// An alert's cause is gone.
    AlertCleared,
    /// Something that has no kind of its own.
    Notice,
}

impl EventKind {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Refused => "refused",
            Self::Progress => "progress",
            Self::AlertRaised => "alert_raised",
            Self::AlertCleared => "alert_cleared",
            Self::Notice => "notice",
        }
    }
}

/// How much an event or alert matters.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Something does not work.
    Critical,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Its number; numbers go up, over restarts too.
    pub id: u64,
    /// When it happened.
    pub at_ms: u64,
    /// What happened.
    pub kind: EventKind,
    /// How much it matters.
    pub severity: Severity,
    /// To what.
    pub object: Subject,
    /// The same in words.
    pub message: String,
}

/// Something that somebody should do something about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Its name; the same cause has the same name.
    pub id: String,
    /// Since when.
    pub since_ms: u64,
    /// How much it matters.
    pub severity: Severity,
    /// What it is about.
    pub object: Subject,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub advice: String,
}
