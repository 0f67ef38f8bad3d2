//! Signals: those that stop the target, the one that has it read its files again, and all others
//! that would end a process which does not expect them.

use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM,
    SIGXCPU, SIGXFSZ,
};
use signal_hook::iterator::Signals;

/// These stop the target in order.
const STOP: [i32; 3] = [SIGTERM, SIGINT, SIGQUIT];

/// These do nothing, though they would kill unless they are caught. SIGXFSZ leaves the write that
/// is too long with an error, as any other that fails.
const IGNORED: [i32; 8] = [SIGUSR1, SIGUSR2, SIGALRM, SIGVTALRM, SIGPROF, SIGIO, SIGXCPU, SIGXFSZ];

/// Real-time signals, which are ignored, too: those that the C library leaves to programs.
const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To stop, by this signal.
    Stop(i32),
    /// To read again what may change: certificates, and who may connect.
    Reload,
}

/// The signals of this process, from when it is made.
pub struct Caught(Signals);

impl Caught {
    /// Catches them.
    ///
    /// # Errors
    /// A sentence.
    pub fn new() -> Result<Caught, String> {
        let all = STOP.into_iter().chain([SIGHUP]).chain(IGNORED).chain(REAL_TIME);
        let caught = Signals::new(all);
        caught.map(Caught).map_err(|error| format!("Signals cannot be caught: {error}."))
    }

    /// Waits for the next signal that asks for something.
    pub fn wait(&mut self) -> Asked {
        for signal in self.0.forever() {
            match signal {
                SIGHUP => return Asked::Reload,
                _ if STOP.contains(&signal) => return Asked::Stop(signal),
                _ => tracing::info!(signal, "a signal that means nothing here"),
            }
        }
        unreachable!("the signals are never closed")
    }
}
