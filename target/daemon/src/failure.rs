//! Why a command did not do what it was asked, and what the shell is told.

use std::process::ExitCode;
use webui_model::{Refusal, RefusalKind};

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The command line asks for something that cannot be: exit code 2, as for flags not known.
    Usage(String),
    /// It was tried: exit code 1.
    Failed(String),
    /// The appliance said no: exit code 1.
    Refused(Refusal),
}

impl Failure {
    /// Adds what to do on the command line to a refusal of this kind, whose sentence speaks of the
    /// API.
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

    /// Tells the person on standard error; what to tell the shell.
    pub fn report(&self) -> ExitCode {
        crate::out::note!("forebay: {}", self.sentence());
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Failed(_) | Failure::Refused(_) => ExitCode::FAILURE,
        }
    }
}

impl From<String> for Failure {
    fn from(why: String) -> Failure {
        Failure::Failed(why)
    }
}
