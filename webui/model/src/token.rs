//! Tokens, what their bearers may do, and who is logged in.

use crate::Name;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What the bearer of a token may do. Each role may do what the ones before it may.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks at everything but tokens and the audit log.
    Viewer,
    /// Changes volumes, snapshots, subsystems, hosts and jobs; lets in no host that is not named.
    Operator,
    /// Changes everything: devices, pools, listeners, the declaration, tokens.
    Admin,
}

impl Role {
    /// Every role, weakest first.
    pub const ALL: [Self; 3] = [Self::Viewer, Self::Operator, Self::Admin];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A token, without its secret, which is shown once and kept nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Its name.
    pub name: Name,
    /// What its bearer may do.
    pub role: Role,
    /// When it was made.
    pub created_at_ms: u64,
}

/// Make a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenCreate {
    /// Its name, for the audit log.
    pub name: Name,
    /// What its bearer may do.
    pub role: Role,
}

/// A token that was just made. The secret is not shown again.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Its name.
    pub name: Name,
    /// What its bearer may do.
    pub role: Role,
    /// When it was made.
    pub created_at_ms: u64,
    /// What to send: `Authorization: Bearer SECRET`.
    pub secret: String,
}

/// A code that opens one session in a browser.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionCode {
    /// The code, shown once: the page of the appliance takes it behind `#/code/`.
    pub code: String,
    /// Until when it is good, in milliseconds since 1970.
    pub ends_at_ms: u64,
}

/// Who is logged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// The name of the token.
    pub name: Name,
    /// What it may do.
    pub role: Role,
}
