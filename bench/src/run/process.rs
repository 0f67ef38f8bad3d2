//! Child processes of a run: started, read line by line, ended for certain.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::signals::terminate;

const LOOK: Duration = Duration::from_millis(5);

/// A child whose standard output is read here and whose standard error goes to a file. Killed
/// when it is dropped while it still runs.
pub struct Running {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    log: std::path::PathBuf,
}

impl Running {
    /// Starts `command`, with its standard error in `dir`.
    ///
    /// # Errors
    /// The kernel's, with the program's name.
    pub fn start(command: &mut Command, dir: &Path) -> io::Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let log = dir.join("stderr.log");
        let started = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn();
        let mut child = started
            .map_err(|error| io::Error::new(error.kind(), format!("cannot run {name}: {error}")))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        Ok(Self { name, child, stdin, stdout: BufReader::new(stdout), log })
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line it prints for which `pick` finds something.
    ///
    /// # Errors
    /// It ended before, with the last lines of its standard error.
    pub fn find<T>(&mut self, pick: impl Fn(&str) -> Option<T>) -> io::Result<T> {
        let mut line = String::new();
        while self.stdout.read_line(&mut line)? > 0 {
            if let Some(found) = pick(&line) {
                return Ok(found);
            }
            line.clear();
        }
        Err(self.complaint("ended before it was ready"))
    }

    /// Waits for its successful end, at most `limit`, and returns what it printed.
    ///
    /// # Errors
    /// It failed or took longer; it is killed then.
    pub fn output(mut self, limit: Duration) -> io::Result<String> {
        let status = self.wait(limit)?;
        let mut text = String::new();
        self.stdout.read_to_string(&mut text)?;
        if status.success() { Ok(text) } else { Err(self.complaint(&status.to_string())) }
    }

    /// Asks it to end with SIGTERM, waits at most `limit`.
    ///
    /// # Errors
    /// It failed or took longer; it is killed then.
    pub fn stop(mut self, limit: Duration) -> io::Result<()> {
        terminate(self.pid())?;
        let status = self.wait(limit)?;
        if status.success() { Ok(()) } else { Err(self.complaint(&status.to_string())) }
    }

    /// Closes its standard input, on which it ends by itself, and waits at most `limit`.
    ///
    /// # Errors
    /// It failed or took longer; it is killed then.
    pub fn finish(mut self, limit: Duration) -> io::Result<()> {
        drop(self.stdin.take());
        self.output(limit).map(drop)
    }

    fn wait(&mut self, limit: Duration) -> io::Result<ExitStatus> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= until {
                self.child.kill()?;
                self.child.wait()?;
                return Err(self.complaint(&format!("did not end within {limit:?}")));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn complaint(&self, what: &str) -> io::Error {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(5)..].join("\n");
        io::Error::other(format!("{}: {what}\n{tail}", self.name))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only for a child that has ended and was waited for: nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time that process `pid` has used, in seconds.
///
/// # Errors
/// The kernel's, when there is no such process.
pub fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; utime and stime are fields 14 and 15.
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<u64> =
        after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    match fields[..] {
        // USER_HZ is 100 on every architecture Linux has a stable ABI for.
        [user, system] => Ok((user + system) as f64 / 100.0),
        _ => Err(io::Error::other(format!("/proc/{pid}/stat has no CPU times"))),
    }
}

/// Resident memory of process `pid`, in bytes.
///
/// # Errors
/// The kernel's, when there is no such process.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok()
    });
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("no VmRSS"))
}
