//! What became of files that were read again.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What became of the configuration file and the certificate of the API, which were read again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reloaded {
    /// What was taken over, in sentences.
    pub done: Vec<String>,
    /// What was not, and why, in sentences: it is as it was.
    pub left: Vec<String>,
}
