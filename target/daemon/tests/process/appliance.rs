//! A running `forebay serve`, and the command line against it.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The subsystem of everything that is started here.
pub const NQN: &str = "nqn.2026-01.org.example:test";

/// How long anything may take on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that nobody else enters: one that others use is no data directory once something is in it.
pub fn private_folder() -> TempDir {
    let mut folder = tempfile::Builder::new();
    folder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    folder.tempdir().expect("a folder")
}

/// Runs the binary to its end.
pub fn forebay(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_forebay")).args(args).output().expect("the binary runs")
}

/// What the binary says when it refuses: its standard error.
pub fn refusal(args: &[&str]) -> String {
    let output = forebay(args);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{args:?} was taken: {text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// A running appliance; killed when dropped.
pub struct Appliance {
    child: Child,
    pub address: SocketAddr,
    pub dir: TempDir,
}

impl Appliance {
    /// Starts one with `flags` on a port of the kernel's choice.
    pub fn start(flags: &[&str]) -> Appliance {
        Appliance::start_in(tempfile::tempdir().expect("a folder"), "127.0.0.1:0", flags)
    }

    /// Starts one on `listen`, with its state in `dir`.
    pub fn start_in(dir: TempDir, listen: &str, flags: &[&str]) -> Appliance {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.arg("serve").arg("--data-dir").arg(dir.path());
        command.args(["--listen", listen, "--memory", "32MiB"]).args(with_usual(flags));
        command.arg("--device-folder").arg(std::env::temp_dir());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let address = greeting(&mut child);
        Appliance { child, address, dir }
    }

    /// Starts one under limits of the shell, such as `ulimit -n 100`, in a folder that it has to make.
    pub fn start_under(limits: &str, flags: &[&str]) -> Appliance {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::remove_dir(dir.path()).expect("it is empty");
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")]);
        command.arg(env!("CARGO_BIN_EXE_forebay")).arg("serve").arg("--data-dir").arg(dir.path());
        command.args(["--listen", "127.0.0.1:0", "--memory", "32MiB"]).args(with_usual(flags));
        command.arg("--device-folder").arg(std::env::temp_dir());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let address = greeting(&mut child);
        Appliance { child, address, dir }
    }

    /// Starts one in a network namespace of its own, whose loopback has these addresses, with its API
    /// at `api`; none where this user cannot make one.
    pub fn start_in_namespace(addresses: &[&str], api: &str, flags: &[&str]) -> Option<Appliance> {
        if !Command::new("unshare").args(["-n", "true"]).status().is_ok_and(|s| s.success()) {
            println!("SKIPPED: this user cannot make a network namespace");
            return None;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let add = |address: &&str| format!("ip addr add {address}/32 dev lo && ");
        let add: String = addresses.iter().map(add).collect();
        let mut command = Command::new("unshare");
        command.args([
            "-n",
            "bash",
            "-c",
            &format!("ip link set lo up && {add} exec \"$0\" \"$@\""),
        ]);
        command.arg(env!("CARGO_BIN_EXE_forebay")).arg("serve").arg("--data-dir").arg(dir.path());
        command.args(["--listen", "127.0.0.1:0", "--nqn", NQN, "--memory", "32MiB"]);
        command.args(["--api", api]).args(flags);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let address = greeting(&mut child);
        Some(Appliance { child, address, dir })
    }

    /// Starts one with a configuration file, on a port of the kernel's choice.
    pub fn start_config(file: &Path) -> Appliance {
        Appliance::start_config_in(tempfile::tempdir().expect("a folder"), file)
    }

    /// Starts one with a configuration file and its state in `dir`, on a port of the kernel's
    /// choice.
    pub fn start_config_in(dir: TempDir, file: &Path) -> Appliance {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.arg("serve").arg("--data-dir").arg(dir.path()).arg("--config").arg(file);
        command.args(["--listen", "127.0.0.1:0", "--api", "127.0.0.1:0"]);
        command.arg("--device-folder").arg(std::env::temp_dir());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let address = greeting(&mut child);
        Appliance { child, address, dir }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Asks its API.
    pub fn ask(&self, args: &[&str]) -> Output {
        let dir = self.dir.path().to_str().expect("a plain path");
        forebay(&[args, &["--data-dir", dir]].concat())
    }

    /// `forebay io`, on the first namespace.
    pub fn io(&self, args: &[&str]) -> Output {
        let address = self.address();
        let mut all = vec!["io", args[0], &address, "--nqn", NQN];
        all.extend(&args[1..]);
        forebay(&all)
    }

    /// The counters.
    pub fn stats(&self) -> serde_json::Value {
        let output = self.ask(&["stats", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Whether the process runs.
    pub fn is_up(&mut self) -> bool {
        self.child.try_wait().expect("our child").is_none()
    }

    /// Sends SIGTERM and waits for the end. Whether it was a good one, and what was logged.
    pub fn terminate(mut self) -> (bool, String, TempDir) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().expect("piped");
        std::io::Read::read_to_string(&mut stderr, &mut log).expect("a log of text");
        let status = self.child.wait().expect("our child");
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        (status.success(), log, dir)
    }

    /// Kills it without warning; its folder and address stay for the next.
    pub fn kill(mut self) -> (TempDir, String) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let address = self.address();
        (std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap()), address)
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking()
            && let Some(stderr) = self.child.stderr.take()
        {
            eprintln!("its log: {}", std::io::read_to_string(stderr).unwrap_or_default());
        }
    }
}

/// These flags, the name of what they export if they do, and the API on a port of the kernel's choice
/// unless they say where.
fn with_usual<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    let mut all = flags.to_vec();
    if !flags.contains(&"--api") {
        all.extend(["--api", "127.0.0.1:0"]);
    }
    if flags.iter().any(|flag| ["--ram", "--null", "--file", "--demo"].contains(flag)) {
        all.extend(["--nqn", NQN]);
    }
    all
}

/// Waits for the greeting, and takes the address of the `nvme connect` line out of it; where nothing
/// is exported, that of the `nvme discover` line.
fn greeting(child: &mut Child) -> SocketAddr {
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    let mut discover = None;
    for line in stdout.lines() {
        let line = line.expect("text");
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |flag: &str| {
            let at = words.iter().position(|word| *word == flag).expect("the flag is there");
            words[at + 1]
        };
        let address = || format!("{}:{}", after("-a"), after("-s")).parse().expect("an address");
        match words[..] {
            ["nvme", "connect", ..] => return address(),
            ["nvme", "discover", ..] => discover = Some(address()),
            ["(nothing", "is", "exported", ..] => return discover.expect("it comes first"),
            _ => {}
        }
    }
    let output = child.stderr.take().map(std::io::read_to_string);
    panic!("it ended without a greeting: {output:?}");
}

/// Waits until `is` holds.
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < until, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Memory of a process in KiB, and its open descriptors.
pub fn footprint(pid: u32) -> (u64, usize) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let rss = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
    let kib = rss.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    let open = Path::new(&format!("/proc/{pid}/fd")).read_dir().expect("it runs").flatten();
    // The files of the history are opened with the first minute, whatever hosts do.
    let is_counted = |path: &PathBuf| !path.components().any(|part| part.as_os_str() == "history");
    (kib, open.filter_map(|entry| entry.path().read_link().ok()).filter(is_counted).count())
}
