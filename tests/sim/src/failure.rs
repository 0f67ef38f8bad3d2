//! What a run found wrong.

use std::fmt;

/// Which checker found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A read returned something older than an acknowledged write.
    Stale,
    /// After a power cut a block holds something older than what was made durable.
    NotDurable,
    /// A block holds something that was never written there: parts of two writes, or another
    /// block's.
    Garbage,
    /// Two fused Compare and Write commands both found the same value.
    NotAtomic,
    /// A command has no end.
    Unanswered,
    /// A command has two ends.
    AnsweredTwice,
    /// A buffer, command, queue pair, controller, channel or connection is left at the end.
    Leak,
    /// One end of a connection says that the other broke the protocol, or refuses what is right.
    Protocol,
    /// Production code found its own invariant broken.
    Panic,
}

/// What a run found wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which checker found it.
    pub kind: Kind,
    /// What exactly.
    pub what: String,
}

impl Failure {
    /// A finding of `kind`.
    pub fn new(kind: Kind, what: impl Into<String>) -> Failure {
        Failure { kind, what: what.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}
