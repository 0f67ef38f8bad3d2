//! Who has written to a bdev, so that each can be told when what it wrote may be lost.

/// What became of noting a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// It is noted durably, for as long as the bdev is open.
    Yes,
    /// Nobody keeps account now; somebody may from the next moment on.
    Needless,
    /// It will be: ask again.
    Pending,
    /// It could not be made durable: what the host wrote could be lost without a word.
    No,
}

/// Keeps account of hosts that write to a bdev. No call waits: all are for reactors.
pub trait Witness: Send + Sync {
    /// Notes that a host writes from now on, by the identifier and the name that it connects with.
    /// Nothing that it writes is answered before this says [`Noted::Yes`] or [`Noted::Needless`].
    fn note(&self, host: u128, name: &str) -> Noted;

    /// Whether what a host wrote, and was told had been written, may be lost since it was told so last.
    /// Whoever asks tells it: it is not so any more afterwards.
    fn take_loss(&self, host: u128) -> bool;
}
