//! What can go wrong with a pool, for whoever asked for it.

/// What kind of error it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was named is not there.
    NotFound,
    /// There is one of that name.
    Exists,
    /// Somebody uses it.
    InUse,
    /// What was asked for makes no sense.
    Invalid,
    /// It is not done without being told twice.
    Refused,
    /// There is no space.
    Full,
    /// A device failed, or what is on it is damaged.
    Device,
}

/// An error, with a sentence for a person: what was wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolError {
    /// Its kind.
    pub kind: Kind,
    /// The sentence.
    pub message: String,
}

impl PoolError {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> PoolError {
        PoolError { kind, message: message.into() }
    }

    pub(crate) fn no_volume(name: &str) -> PoolError {
        let name = name.escape_debug();
        PoolError::new(Kind::NotFound, format!("There is no volume \"{name}\"."))
    }

    /// The reactor or the keeper has ended.
    pub(crate) fn gone() -> PoolError {
        PoolError::new(Kind::InUse, "The pool is on its way down.")
    }
}

impl std::fmt::Display for PoolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for PoolError {}
