//! The machine's watchdog: it resets the machine unless it is told, again and again, that the first
//! process lives (Documentation/watchdog/watchdog-api.rst of the kernel). It is told by a thread, as
//! long as what the first process is about takes no longer than it may: slow disks are no reason for
//! a reset, a first process that hangs is one.

use crate::kmsg;
use rustix::system::{RebootCommand, reboot};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const PATH: &str = "/dev/watchdog";
const CLASS: &str = "/sys/class/watchdog/watchdog0";
/// How often it is fed; the shortest of those that there are wait for 10 s.
const TURN: Duration = Duration::from_secs(2);

struct State {
    device: Option<File>,
    /// Nothing that the first process does may take longer than until then, if it is minded.
    until: Option<Instant>,
}

/// The watchdog, armed where the machine has one.
#[derive(Clone)]
pub struct Watchdog(Arc<Mutex<State>>);

impl Watchdog {
    /// Minds the first process from now on, for `at_most`; without a device it starts the machine
    /// again by itself, which a kernel that hangs does not do.
    pub fn start(at_most: Duration) -> Watchdog {
        let state = State { device: None, until: Some(Instant::now() + at_most) };
        let watchdog = Watchdog(Arc::new(Mutex::new(state)));
        let minded = watchdog.clone();
        let mind = move || {
            while minded.feed() {
                std::thread::sleep(TURN);
            }
            kmsg::console("The first process does not go on: the machine starts again.");
            // Where that hangs as well, the watchdog is not fed any more.
            let _ = reboot(RebootCommand::Restart);
        };
        if let Err(error) = std::thread::Builder::new().name("watchdog".into()).spawn(mind) {
            kmsg::write(kmsg::ERROR, &format!("nobody minds the first process: {error}"));
        }
        watchdog
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Arms it, if the machine has one. Returns whether it has.
    pub fn arm(&self) -> bool {
        let mut state = self.lock();
        if state.device.is_none() {
            state.device = OpenOptions::new().write(true).open(PATH).ok();
            if state.device.is_some() {
                let read = |name: &str| fs::read_to_string(format!("{CLASS}/{name}"));
                let [what, seconds] =
                    ["identity", "timeout"].map(|name| read(name).unwrap_or_default());
                let (what, seconds) = (what.trim(), seconds.trim());
                kmsg::write(kmsg::INFO, &format!("the watchdog is armed: {what}, {seconds} s"));
            }
        }
        state.device.is_some()
    }

    /// What the first process does next takes `at_most` so long.
    pub fn expect(&self, at_most: Duration) {
        self.lock().until = Some(Instant::now() + at_most);
    }

    /// Feeds it, if the first process is in time. Returns whether it is.
    fn feed(&self) -> bool {
        let mut state = self.lock();
        if state.until.is_some_and(|until| Instant::now() > until) {
            return false;
        }
        if let Some(device) = &mut state.device {
            // The alternative is a reset, which is what it is for.
            let _ = device.write_all(b".");
        }
        true
    }

    /// Disarms it, and minds nobody: the letter is the one that the kernel wants to see before the end.
    pub fn disarm(&self) {
        let mut state = self.lock();
        state.until = None;
        if let Some(mut device) = state.device.take() {
            let _ = device.write_all(b"V");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fed_as_long_as_the_first_process_is_in_time() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let device = Some(file.reopen().unwrap());
        let until = Some(Instant::now() + Duration::from_secs(3600));
        let watchdog = Watchdog(Arc::new(Mutex::new(State { device, until })));
        assert!(watchdog.feed() && watchdog.feed());
        watchdog.lock().until = Some(Instant::now() - Duration::from_millis(1));
        assert!(!watchdog.feed());
        assert_eq!(fs::read(file.path()).unwrap(), b"..");
        watchdog.expect(Duration::from_secs(3600));
        assert!(watchdog.feed());
        watchdog.disarm();
        assert!(watchdog.feed());
        assert_eq!(fs::read(file.path()).unwrap(), b"...V");
    }
}
