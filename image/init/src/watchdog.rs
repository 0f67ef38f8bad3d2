//! The machine's watchdog: it resets the machine unless it is told, again and again, that the first
//! process lives (Documentation/watchdog/watchdog-api.rst of the kernel).

use std::fs::{File, OpenOptions};
use std::io::Write;

const PATH: &str = "/dev/watchdog";

/// An armed watchdog, or none.
pub struct Watchdog(Option<File>);

impl Watchdog {
    /// Arms it, if the machine has one.
    pub fn arm() -> Watchdog {
        Watchdog(OpenOptions::new().write(true).open(PATH).ok())
    }

    /// Whether there is one.
    pub fn armed(&self) -> bool {
        self.0.is_some()
    }

    /// Says that all is well, to be repeated every few seconds.
    pub fn feed(&mut self) {
        if let Some(device) = &mut self.0 {
            // The alternative is a reset, which is what it is for.
            let _ = device.write_all(b".");
        }
    }

    /// Disarms it: the letter is the one that the kernel wants to see before the end.
    pub fn disarm(mut self) {
        if let Some(device) = &mut self.0 {
            let _ = device.write_all(b"V");
        }
    }
}
