//! The audit log: who changed what, and who was let in or refused.

use crate::{Name, Role};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A change that somebody made or tried to make; or requests that changed nothing: refused, or to log
/// in or out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// The number of its line; nothing of one that was written before lines were numbered.
    pub number: Option<u64>,
    /// When it was written: for a change before it was carried out.
    pub at_ms: u64,
    /// The name of the token, or `local` for who came over the socket of the data directory without
    /// one; nothing if none was shown that is known.
    pub who: Option<Name>,
    /// The role.
    pub role: Option<Role>,
    /// The address it came from, or the socket with the numbers of user and process.
    pub address: String,
    /// The session it came with.
    pub session: Option<String>,
    /// The operation, as the OpenAPI document calls it.
    pub operation: String,
    /// The HTTP method.
    pub method: String,
    /// The path, without the host.
    pub path: String,
    /// The body, without secrets and without the bytes of large ones.
    pub body: Option<Value>,
    /// The HTTP status that was answered; nothing while it is carried out, or if the appliance ended
    /// meanwhile.
    pub status: Option<u16>,
    /// How many requests of one caller it stands for; of several the last is shown.
    pub count: u64,
}
