//! The audit log: who changed what.

use crate::{Name, Role};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One thing that somebody did, or tried to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// When it was answered.
    pub at_ms: u64,
    /// The name of the token, or `local` for who came over the socket of the data directory without
    /// one; nothing if none was shown that is known.
    pub who: Option<Name>,
    /// The role.
    pub role: Option<Role>,
    /// The address it came from, or the socket with the numbers of user and process.
    pub address: String,
    /// The operation, as the OpenAPI document calls it.
    pub operation: String,
    /// The HTTP method.
    pub method: String,
    /// The path, without the host.
    pub path: String,
    /// The HTTP status that was answered.
    pub status: u16,
}
