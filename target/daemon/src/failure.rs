//! Why a command did not do what it was asked, and what the shell is told.

use nvme_spec::Shown;
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

    /// The sentence as it is printed: what further lines it has (the place of an error in a file)
    /// are indented, so that none of them passes for another message.
    fn shown(&self) -> String {
        let lines: Vec<_> = self.sentence().lines().map(|line| Shown(line).to_string()).collect();
        format!("forebay: {}", lines.join("\n  "))
    }

    /// Tells the person on standard error; what to tell the shell.
    pub fn report(&self) -> ExitCode {
        crate::out::note!("{}", self.shown());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_sentence_passes_for_another_message() {
        let failure = Failure::Failed("host \x1b[1mx\u{9b}\nforebay: all is well".into());
        assert_eq!(failure.shown(), "forebay: host \\u{1b}[1mx\\u{9b}\n  forebay: all is well");
    }
}
