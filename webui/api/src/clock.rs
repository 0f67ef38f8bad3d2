//! Time and randomness come in from outside.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// What the server reads the time from, and draws secrets from.
pub trait World: Send + Sync + 'static {
    /// Nanoseconds since some moment; never goes back.
    fn now_ns(&self) -> u64;
    /// Milliseconds since 1970-01-01 UTC.
    fn unix_ms(&self) -> u64;
    /// Fills a buffer with bytes that nobody can guess.
    fn fill_random(&self, bytes: &mut [u8]);
}

/// The machine's clocks and its source of random bytes.
pub struct Machine {
    started: Instant,
    random: ring::rand::SystemRandom,
}

impl Machine {
    /// The machine.
    pub fn new() -> Self {
        Self { started: Instant::now(), random: ring::rand::SystemRandom::new() }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl World for Machine {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        use ring::rand::SecureRandom;
        // A secret that is not random is worse than no server.
        self.random.fill(bytes).expect("the kernel gives random bytes");
    }
}
