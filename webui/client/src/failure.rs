//! Why something was not done.

use webui_model::{Refusal, RefusalKind};

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was asked for something that cannot be.
    Usage(String),
    /// It was tried, and failed.
    Failed(String),
    /// The appliance said no.
    Refused(Refusal),
}

impl Failure {
    /// Adds to a refusal of this kind what whoever asked can do: its sentence speaks of the API.
    pub fn hint(self, kind: RefusalKind, what: &str) -> Failure {
        match self {
            Failure::Refused(refusal) if refusal.kind == kind => {
                Failure::Refused(Refusal::new(kind, format!("{} {what}", refusal.message)))
            }
            other => other,
        }
    }

    /// The sentence.
    pub fn sentence(&self) -> &str {
        match self {
            Failure::Usage(why) | Failure::Failed(why) => why,
            Failure::Refused(refusal) => &refusal.message,
        }
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure::Failed(why)
    }
}
