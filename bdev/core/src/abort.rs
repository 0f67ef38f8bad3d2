//! Threads that the process does not outlive.

/// A thread that has this ends the process when it panics. What carries or keeps data has broken an
/// invariant then, with operations under way: going on without it would leave hosts waiting for ever,
/// so the process ends and is started anew.
#[derive(Debug)]
pub struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}
