//! The target as a child of the first process: started, minded, started again.

use crate::{kmsg, mounts};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, wait};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The binary, which is also this one.
const BINARY: &str = "/bin/forebay";
/// Of the log, in the note of a crash.
const NOTE_BYTES: usize = 64 << 10;
/// Notes that are kept.
const NOTES: usize = 10;

/// The target's process.
pub struct Service {
    pid: Option<Pid>,
    started: Instant,
    /// Ends that nobody asked for, since the machine started.
    pub crashes: u32,
}

impl Service {
    /// Starts it. `names`: addresses that the machine has.
    ///
    /// # Errors
    /// A sentence.
    pub fn start(names: &[String]) -> Result<Service, String> {
        let mut service = Service { pid: None, started: Instant::now(), crashes: 0 };
        service.restart(names)?;
        Ok(service)
    }

    /// Starts it again.
    ///
    /// # Errors
    /// A sentence.
    pub fn restart(&mut self, names: &[String]) -> Result<(), String> {
        let mut command = Command::new(BINARY);
        command.args(["serve", "--show-token", "--config"]).arg(configured("forebay.toml"));
        for name in names {
            command.args(["--api-name", name]);
        }
        if let Some(cores) = isolated() {
            command.args(["--cores", &cores]);
        }
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| format!("{BINARY} cannot be started: {error}."))?;
        // What it greets with has a secret: it goes to the console and not to the log.
        if let Some(lines) = child.stdout.take() {
            kmsg::show(lines);
        }
        if let Some(lines) = child.stderr.take() {
            kmsg::take(lines);
        }
        self.pid = Some(Pid::from_child(&child));
        self.started = Instant::now();
        Ok(())
    }

    /// Takes leave of children that have ended, whoever's they were. Returns how the target ended,
    /// if it is among them.
    pub fn reap(&mut self) -> Option<WaitStatus> {
        let mut ended = None;
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if Some(pid) == self.pid {
                self.pid = None;
                ended = Some(status);
            }
        }
        ended
    }

    /// Notes an end that nobody asked for. Returns how long to wait before the next start.
    pub fn crashed(&mut self, status: WaitStatus) -> Duration {
        self.crashes += 1;
        let what = describe(status);
        kmsg::write(kmsg::ERROR, &format!("the target ended: {what}; a note is in {CRASH}"));
        note("target", &format!("The target ended: {what}.\n\n{}", kmsg::tail(NOTE_BYTES)));
        // One that ran for long is started at once.
        match self.started.elapsed() {
            age if age > Duration::from_secs(60) => Duration::from_millis(100),
            _ => Duration::from_secs(u64::from(self.crashes.min(15))),
        }
    }

    /// Asks it to end, and waits: it has writes to finish. Killed when it takes longer than
    /// `patience`; `meanwhile` is called about once a second.
    pub fn stop(&mut self, patience: Duration, mut meanwhile: impl FnMut()) {
        let Some(pid) = self.pid else { return };
        let _ = kill_process(pid, Signal::TERM);
        let until = Instant::now() + patience;
        let mut beat = Instant::now();
        while self.pid.is_some() {
            if Instant::now() > until {
                kmsg::write(kmsg::ERROR, "the target does not end and is killed");
                let _ = kill_process(pid, Signal::KILL);
            }
            std::thread::sleep(Duration::from_millis(20));
            self.reap();
            if beat.elapsed() > Duration::from_secs(1) {
                meanwhile();
                beat = Instant::now();
            }
        }
    }
}

fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no reason".to_owned(),
    }
}

/// A file of the configuration partition, or the image's own where it has none.
pub fn configured(name: &str) -> PathBuf {
    let own = Path::new(mounts::CONFIG).join(name);
    if own.exists() { own } else { Path::new("/etc/forebay").join(name) }
}

/// Cores that the kernel's command line keeps free of everything else: for the reactors.
fn isolated() -> Option<String> {
    let text = fs::read_to_string("/sys/devices/system/cpu/isolated").ok()?;
    Some(text.trim().to_owned()).filter(|cores| !cores.is_empty())
}

/// Where notes of crashes are.
pub const CRASH: &str = "/config/crash";

/// Writes a note to the configuration partition; of many, the newest are kept.
pub fn note(what: &str, text: &str) {
    let folder = Path::new(CRASH);
    if let Err(error) = note_in(folder, what, text) {
        kmsg::write(kmsg::ERROR, &format!("the note of a crash cannot be written: {error}"));
    }
    let mut notes: Vec<PathBuf> = fs::read_dir(folder)
        .map(|all| all.flatten().map(|one| one.path()).collect())
        .unwrap_or_default();
    notes.sort();
    for old in notes.iter().take(notes.len().saturating_sub(NOTES)) {
        // The next note tries again.
        let _ = fs::remove_file(old);
    }
}

/// Writes a note into a folder, both for their owner only: a log may have anything in it.
fn note_in(folder: &Path, what: &str, text: &str) -> io::Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let path = folder.join(format!("{now:010}-{what}.txt"));
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Keeps what the kernel wrote into the firmware's memory when it crashed, and frees that memory.
pub fn note_kernel_crash() {
    let Ok(entries) = fs::read_dir("/sys/fs/pstore") else { return };
    let mut records: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    // The kernel numbers the pieces of its log from the end on.
    records.sort();
    records.reverse();
    let text: String = records
        .iter()
        .filter_map(|path| fs::read(path).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned() + "\n")
        .collect();
    if text.is_empty() {
        return;
    }
    kmsg::write(
        kmsg::ERROR,
        &format!("the kernel crashed before this start; a note is in {CRASH}"),
    );
    note("kernel", &text);
    for record in records {
        let _ = fs::remove_file(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn notes_are_for_their_owner() {
        let outside = tempfile::tempdir().unwrap();
        let folder = outside.path().join("crash");
        note_in(&folder, "target", "The target ended.").unwrap();
        let note = folder.read_dir().unwrap().next().unwrap().unwrap().path();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&note)), (0o700, 0o600));
        assert_eq!(fs::read_to_string(&note).unwrap(), "The target ended.");
    }
}
