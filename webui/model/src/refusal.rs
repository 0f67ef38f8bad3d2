//! What is not done, and why.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What kind of thing stood in the way, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The request cannot be read: no JSON, a field that is not known, a name that is none.
    Malformed,
    /// The request can be read and asks for something that cannot be.
    Invalid,
    /// What the request speaks of is not there.
    NotFound,
    /// The path is there and does not take this method.
    Method,
    /// Something else has that name, with other properties.
    Exists,
    /// Others use it.
    InUse,
    /// There is no room for it.
    Full,
    /// It would harm, and was not confirmed (`force`, `may_shrink`).
    Refused,
    /// A device failed.
    Device,
    /// Not now: starting, stopping, or busy with what excludes it. Try again.
    Unavailable,
    /// No token, or not a valid one.
    Unauthenticated,
    /// The token's role does not allow it.
    Forbidden,
    /// Too many requests or failed logins.
    TooMany,
    /// The body is larger than any request needs.
    TooLarge,
    /// The body's content type is not JSON.
    MediaType,
    /// It took too long.
    Timeout,
    /// A fault of the appliance itself.
    Internal,
}

impl RefusalKind {
    /// Every kind.
    pub const ALL: [Self; 17] = [
        Self::Malformed,
        Self::Invalid,
        Self::NotFound,
        Self::Method,
        Self::Exists,
        Self::InUse,
        Self::Full,
        Self::Refused,
        Self::Device,
        Self::Unavailable,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::TooMany,
        Self::TooLarge,
        Self::MediaType,
        Self::Timeout,
        Self::Internal,
    ];

    /// The HTTP status it is answered with.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Method => 405,
            Self::Timeout => 408,
            Self::Exists | Self::InUse | Self::Full | Self::Refused => 409,
            Self::TooLarge => 413,
            Self::MediaType => 415,
            Self::Invalid => 422,
            Self::TooMany => 429,
            Self::Device | Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}

/// Why something is not done: a kind for programs and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// The kind.
    pub kind: RefusalKind,
    /// What is wrong and what to do, in a person's words.
    #[schema(min_length = 1)]
    pub message: String,
}

impl Refusal {
    /// A refusal of this kind.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What the request speaks of is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::NotFound, message)
    }

    /// Something else has that name.
    pub fn exists(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Exists, message)
    }

    /// Others use it.
    pub fn in_use(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::InUse, message)
    }

    /// It cannot be.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Invalid, message)
    }

    /// There is no room.
    pub fn full(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Full, message)
    }

    /// It would harm, and was not confirmed.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Refused, message)
    }

    /// A device failed.
    pub fn device(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Device, message)
    }

    /// Not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(RefusalKind::Unavailable, message)
    }
}

/// The one shape of an answer that is no success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorBody {
    /// Why it is not done.
    pub error: Refusal,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}
