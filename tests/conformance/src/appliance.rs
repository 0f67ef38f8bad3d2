//! The shipped binary, started on this machine's loopback with a configuration of the test.

use crate::lab::tree;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a start or a stop may take; generous, for the machine may be busy with guests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running `forebay serve`. Killed when dropped.
pub struct Appliance {
    binary: PathBuf,
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

/// The binary: `$FOREBAY_BIN`, or the one that cargo builds from this tree.
///
/// # Errors
/// When it does not build.
pub fn binary() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("FOREBAY_BIN") {
        return Ok(path.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(cargo)
        .args(["build", "--quiet", "--bin", "forebay", "--message-format=json"])
        .current_dir(tree())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !out.status.success() {
        return Err("cargo could not build the binary".into());
    }
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .ok_or_else(|| "cargo named no executable".into())
}

impl Appliance {
    /// Starts the binary with a configuration in which `{DIR}` stands for an empty folder and
    /// `{PORT}` for a free port, and waits until it listens.
    ///
    /// # Errors
    /// When it does not come up, with the end of its log.
    pub fn start(configuration: &str) -> Result<Self, String> {
        // The data directory, and it has more in it: nobody else enters it.
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        let folder = tempfile::Builder::new().permissions(private).tempdir();
        let folder = folder.map_err(|error| format!("temporary folder: {error}"))?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(|error| format!("no free port: {error}"))?
            .port();
        let text = configuration
            .replace("{DIR}", &folder.path().display().to_string())
            .replace("{PORT}", &port.to_string());
        std::fs::write(folder.path().join("forebay.toml"), text)
            .map_err(|error| format!("configuration: {error}"))?;
        let mut appliance = Self { binary: binary()?, folder, port, child: None };
        appliance.restart()?;
        Ok(appliance)
    }

    /// Starts it again, on the same port and the same files.
    ///
    /// # Errors
    /// As [`Appliance::start`].
    pub fn restart(&mut self) -> Result<(), String> {
        let log = |name: &str| {
            File::options()
                .create(true)
                .append(true)
                .open(self.folder.path().join(name))
                .map_err(|error| format!("log: {error}"))
        };
        // It is there once it answers, and after a kill.
        let socket = self.folder.path().join("api.sock");
        if socket.exists() {
            std::fs::remove_file(&socket).map_err(|error| format!("api.sock: {error}"))?;
        }
        let child = Command::new(&self.binary)
            .args(["serve", "--api", "off"])
            .arg("--config")
            .arg(self.folder.path().join("forebay.toml"))
            .stdin(Stdio::null())
            .stdout(log("stdout")?)
            .stderr(log("stderr")?)
            .spawn()
            .map_err(|error| format!("{}: {error}", self.binary.display()))?;
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() || !socket.exists() {
            if !self.running() {
                return Err(format!("the appliance ended:\n{}", self.log_tail()));
            }
            if Instant::now() > deadline {
                return Err(format!("the appliance does not listen:\n{}", self.log_tail()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder that `{DIR}` stands for.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Whether the process is there.
    pub fn running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// SIGKILL, and waits for the end.
    ///
    /// # Errors
    /// When it was not running any more: then it had crashed before.
    pub fn kill(&mut self) -> Result<(), String> {
        if !self.running() {
            return Err(format!("the appliance had ended before:\n{}", self.log_tail()));
        }
        let mut child = self.child.take().expect("it is running");
        let killed = child.kill();
        child.wait().map_err(|error| format!("wait: {error}"))?;
        killed.map_err(|error| format!("kill: {error}"))
    }

    /// SIGTERM, and waits for a clean end.
    ///
    /// # Errors
    /// When it was not running, does not end, or ends with a failure.
    pub fn terminate(&mut self) -> Result<(), String> {
        if !self.running() {
            return Err(format!("the appliance had ended before:\n{}", self.log_tail()));
        }
        let mut child = self.child.take().expect("it is running");
        let _ = Command::new("kill").arg(child.id().to_string()).status();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match child.try_wait().map_err(|error| format!("wait: {error}"))? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(format!("it ended with {status}:\n{}", self.log_tail()));
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(format!("it did not end on SIGTERM:\n{}", self.log_tail()))
    }

    /// Runs a command that asks the API of this appliance; its standard output.
    ///
    /// # Errors
    /// What it said when it failed.
    pub fn operate(&self, words: &[&str]) -> Result<String, String> {
        let out = Command::new(&self.binary)
            .args(words)
            .arg("--data-dir")
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{}: {error}", self.binary.display()))?;
        if out.status.success() {
            return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&out.stderr);
        Err(format!("forebay {}: {}", words.join(" "), said.trim()))
    }

    /// Resident memory in KiB.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn resident_kib(&self) -> Result<u64, String> {
        let status = std::fs::read_to_string(self.proc("status")?).map_err(|e| e.to_string())?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        number.and_then(|text| text.parse().ok()).ok_or_else(|| "no VmRSS".to_owned())
    }

    /// Open file descriptors, but for the files of the history: those are opened with the first minute,
    /// whatever hosts do.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn descriptors(&self) -> Result<usize, String> {
        let open =
            std::fs::read_dir(self.proc("fd")?).map_err(|error| error.to_string())?.flatten();
        let is_counted =
            |path: &PathBuf| !path.components().any(|part| part.as_os_str() == "history");
        Ok(open.filter_map(|entry| entry.path().read_link().ok()).filter(is_counted).count())
    }

    fn proc(&self, file: &str) -> Result<PathBuf, String> {
        let child = self.child.as_ref().ok_or("the appliance is not running")?;
        Ok(PathBuf::from(format!("/proc/{}/{file}", child.id())))
    }

    /// The last lines of what it wrote.
    pub fn log_tail(&self) -> String {
        let read = |name| {
            let bytes = std::fs::read(self.folder.path().join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let text = read("stdout") + &read("stderr");
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
