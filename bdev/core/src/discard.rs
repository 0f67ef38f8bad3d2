//! Giving back, unasked, blocks that nobody needs any more.

/// What giving blocks back does to a device. Each has the reason, as the end of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Discards {
    /// It is worth doing for every block that nobody needs.
    Well(String),
    /// It can be done, and is left to whoever asks for it.
    Badly(String),
    /// It cannot be done.
    Never(String),
}

impl Discards {
    /// The reason.
    pub fn why(&self) -> &str {
        match self {
            Discards::Well(why) | Discards::Badly(why) | Discards::Never(why) => why,
        }
    }
}
