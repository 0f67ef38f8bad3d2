//! A line, and how it is chained to the one before.

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use webui_model::{AuditRecord, Name, Role};

/// SHA-256 of a line without its end, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link(pub(crate) String);

impl Link {
    /// What stands before the first line of all.
    pub(crate) fn none() -> Self {
        Self("0".repeat(64))
    }

    pub(crate) fn of(line: &[u8]) -> Self {
        let digest = digest(&SHA256, line);
        Self(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A change that is about to be carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The name of the token; nothing if none is known.
    pub who: Option<Name>,
    /// The token's role.
    pub role: Option<Role>,
    /// From where.
    pub address: String,
    /// The session that it came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The operation, as the OpenAPI document calls it.
    pub operation: String,
    /// The HTTP method.
    pub method: String,
    /// The path, without the host.
    pub path: String,
    /// The body, without secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

/// Requests of one caller that changed nothing: refused, or to log in or out. Of several the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Access {
    /// What was asked for, by whom.
    #[serde(flatten)]
    pub request: Intent,
    /// The HTTP status that was answered.
    pub status: u16,
    /// How many requests the line stands for.
    pub count: u64,
}

/// What a line says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum What {
    Intent(Intent),
    Result {
        /// The number of the line with the intent.
        of: u64,
        /// The HTTP status that was answered.
        status: u16,
    },
    Access(Access),
}

/// A line that is chained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// SHA-256 of the line before, in hexadecimal digits.
    pub(crate) previous: String,
    /// Its number: one more than that of the chained line before.
    pub(crate) number: u64,
    /// When it was written, in milliseconds since 1970-01-01 UTC.
    pub(crate) at_ms: u64,
    #[serde(flatten)]
    pub(crate) what: What,
}

/// A line as it was before lines were chained.
#[derive(Deserialize)]
struct Unchained {
    at_ms: u64,
    who: Option<Name>,
    role: Option<Role>,
    address: String,
    operation: String,
    method: String,
    path: String,
    status: u16,
}

/// What a line is.
pub(crate) enum Read {
    Chained(Line),
    /// One from before lines were chained.
    Unchained(AuditRecord),
    /// No line of ours: a power cut has torn it.
    Torn,
}

impl Read {
    pub(crate) fn of(line: &[u8]) -> Self {
        if let Ok(line) = serde_json::from_slice(line) {
            return Self::Chained(line);
        }
        let Ok(old) = serde_json::from_slice::<Unchained>(line) else { return Self::Torn };
        Self::Unchained(AuditRecord {
            number: None,
            at_ms: old.at_ms,
            who: old.who,
            role: old.role,
            address: old.address,
            session: None,
            operation: old.operation,
            method: old.method,
            path: old.path,
            body: None,
            status: Some(old.status),
            count: 1,
        })
    }
}

impl Intent {
    /// As the API shows it.
    pub(crate) fn record(
        self,
        number: u64,
        at_ms: u64,
        status: Option<u16>,
        count: u64,
    ) -> AuditRecord {
        AuditRecord {
            number: Some(number),
            at_ms,
            who: self.who,
            role: self.role,
            address: self.address,
            session: self.session,
            operation: self.operation,
            method: self.method,
            path: self.path,
            body: self.body,
            status,
            count,
        }
    }
}
