//! One run of a guest: boot, job, answers, results.
//!
//! The guest talks over a virtio port, one line at a time:
//! `check NAME ok|fail DETAIL`, `file NAME` with base64 lines up to `.`, `call WORDS` (answered by
//! `ok TEXT` or `fail TEXT`), `note TEXT` and `done`.

use crate::base64;
use crate::cpio::{self, Entry};
use crate::lab::{Kernel, Lab, Load, tree};
use crate::report::{Check, Outcome};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What a guest is to do.
pub struct Job<'a> {
    /// Script in `lab/jobs`, without `.sh`.
    pub script: &'a str,
    /// Shell variables for the script.
    pub variables: Vec<(&'a str, String)>,
    /// The whole run, boot included; generous, for the emulation is slow under load.
    pub limit: Duration,
    /// TCP ports of this machine's loopback that lead into the guest: (here, there).
    pub forwards: Vec<(u16, u16)>,
    /// What it has beyond a bare machine.
    pub extras: Extras,
}

/// What a guest has beyond a bare machine.
#[derive(Default)]
pub struct Extras {
    /// Programs and libraries: (path in the guest, path here).
    pub files: Vec<(String, PathBuf)>,
    /// Options of the emulator.
    pub machine: Vec<String>,
    /// More of the kernel's command line.
    pub append: String,
}

/// Answers a guest's `call`: the words after it; text of the reply, or why not.
pub type Answer<'a> = dyn FnMut(&str) -> Result<String, String> + 'a;

/// Boots `kernel`, runs the job to its end and gives what it reported.
///
/// # Errors
/// When the guest cannot be started at all. A guest that stops halfway is an [`Outcome`] that has
/// not ended.
pub fn run(
    lab: &Lab,
    kernel: Kernel,
    job: &Job<'_>,
    answer: &mut Answer<'_>,
) -> Result<Outcome, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("temporary folder: {error}"))?;
    let initrd = folder.path().join("initrd");
    write_initrd(lab, kernel, job, &initrd)?;
    let socket = folder.path().join("port");
    let listener = UnixListener::bind(&socket).map_err(|error| format!("guest port: {error}"))?;
    let serial = folder.path().join("serial");
    let mut machine = Machine(
        emulator(lab, kernel, job, folder.path())
            .spawn()
            .map_err(|error| format!("qemu-system-x86_64: {error}"))?,
    );
    let started = Instant::now();
    let deadline = started + job.limit;
    let mut outcome = Outcome::default();
    if let Some(port) = accept(&listener, &mut machine, deadline) {
        let mut lines = Lines { port, pending: Vec::new(), started };
        converse(&mut lines, &mut machine, deadline, &mut outcome, answer);
    }
    if outcome.ended {
        machine.power_off_by(Instant::now() + Duration::from_secs(30));
    }
    drop(machine);
    outcome.serial_tail = tail(&serial, 60);
    Ok(outcome)
}

fn write_initrd(lab: &Lab, kernel: Kernel, job: &Job<'_>, to: &Path) -> Result<(), String> {
    let jobs = tree().join("tests/conformance/lab/jobs");
    let read = |name: &str| {
        let path = jobs.join(name);
        std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let mut script = format!("LOAD={}\n", Load::wanted());
    for (name, value) in &job.variables {
        script.push_str(&format!("{name}='{}'\n", value.replace('\'', "'\\''")));
    }
    let mut script = script.into_bytes();
    script.extend(read("prelude.sh")?);
    script.extend(read(&format!("{}.sh", job.script))?);
    script.extend(b"\necho done >&3\n");
    let mut files = Vec::new();
    for (path, here) in &job.extras.files {
        let data = std::fs::read(here).map_err(|error| format!("{}: {error}", here.display()))?;
        files.push((path.trim_start_matches('/'), data));
    }
    let nvmet = read("nvmet.sh")?;
    let mut entries = vec![
        Entry { path: "job.sh", mode: 0o755, data: &script },
        Entry { path: "nvmet.sh", mode: 0o755, data: &nvmet },
    ];
    entries.extend(files.iter().map(|(path, data)| Entry { path, mode: 0o755, data }));
    let extra = cpio::archive(&entries);
    let base = lab.initramfs(kernel);
    std::fs::copy(&base, to).map_err(|error| format!("{}: {error}", base.display()))?;
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(to)
        .map_err(|error| format!("{}: {error}", to.display()))?;
    file.write_all(&extra).map_err(|error| format!("{}: {error}", to.display()))
}

fn emulator(lab: &Lab, kernel: Kernel, job: &Job<'_>, folder: &Path) -> Command {
    let mut append = String::from(
        "console=ttyS0 panic=-1 quiet no_timer_check mitigations=off tsc=reliable audit=0 lsm=capability \
         init_on_alloc=0 nokaslr nopti random.trust_cpu=on rcupdate.rcu_expedited=1",
    );
    if let Some(khz) = lab.khz() {
        append.push_str(&format!(" tsc_early_khz={khz}"));
    }
    if !job.extras.append.is_empty() {
        append.push_str(&format!(" {}", job.extras.append));
    }
    let mut net = String::from("user,id=u0");
    for (here, there) in &job.forwards {
        net.push_str(&format!(",hostfwd=tcp:127.0.0.1:{here}-:{there}"));
    }
    let show = |name: &str| folder.join(name).display().to_string();
    // `timeout` ends the emulator even where this process is killed first.
    let mut command = Command::new("timeout");
    command
        .arg("--kill-after=5")
        .arg((job.limit.as_secs() + 60).to_string())
        .arg("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-M", "q35", "-nodefaults"])
        .args(["-display", "none", "-no-reboot", "-m", "768", "-smp", "1"])
        .args(&job.extras.machine)
        .arg("-kernel")
        .arg(lab.vmlinux(kernel))
        .args(["-initrd", &show("initrd"), "-append", &append])
        .args(["-serial", &format!("file:{}", show("serial"))])
        .args(["-netdev", &net, "-device", "virtio-net-pci,netdev=u0"])
        .args(["-device", "virtio-serial-pci"])
        .args(["-chardev", &format!("socket,id=h,path={}", show("port"))])
        .args(["-device", "virtserialport,chardev=h,name=harness"])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// The emulator's process; ended when dropped.
struct Machine(Child);

impl Machine {
    fn running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    fn power_off_by(&mut self, deadline: Instant) {
        while self.running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.running() {
            // SIGTERM: `timeout` passes it on to the emulator, which SIGKILL would leave behind.
            let pid = self.0.id().to_string();
            let _ = Command::new("kill").arg(&pid).status();
            let _ = self.0.wait();
        }
    }
}

fn accept(listener: &UnixListener, machine: &mut Machine, deadline: Instant) -> Option<UnixStream> {
    listener.set_nonblocking(true).ok()?;
    while machine.running() && Instant::now() < deadline {
        if let Ok((port, _)) = listener.accept() {
            port.set_nonblocking(false).ok()?;
            port.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
            return Some(port);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Lines out of the guest's port.
struct Lines {
    port: UnixStream,
    pending: Vec<u8>,
    /// When the emulator was.
    started: Instant,
}

impl Lines {
    /// The next line; `None` once the guest is gone or the time is up.
    fn next(&mut self, machine: &mut Machine, deadline: Instant) -> Option<String> {
        let mut piece = [0; 4096];
        loop {
            if let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line[..end]).trim_end().to_owned());
            }
            if Instant::now() >= deadline {
                return None;
            }
            match self.port.read(&mut piece) {
                Ok(0) => return None,
                Ok(count) => self.pending.extend_from_slice(&piece[..count]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if !machine.running() {
                        return None;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}

fn converse(
    lines: &mut Lines,
    machine: &mut Machine,
    deadline: Instant,
    outcome: &mut Outcome,
    answer: &mut Answer<'_>,
) {
    while let Some(line) = lines.next(machine, deadline) {
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match verb {
            "check" => outcome
                .checks
                .push(Check { at: Some(lines.started.elapsed()), ..Check::parse(rest) }),
            "note" => println!("  note: {rest}"),
            "file" => {
                let mut text = String::new();
                while let Some(line) = lines.next(machine, deadline).filter(|line| line != ".") {
                    text.push_str(&line);
                }
                let name = rest.to_owned();
                match base64::decode(&text) {
                    Some(bytes) => drop(outcome.files.insert(name, bytes)),
                    None => outcome.checks.push(Check::failed(&name, "not base64")),
                }
            }
            "call" => {
                let reply = match answer(rest) {
                    Ok(text) => format!("ok {text}"),
                    Err(why) => format!("fail {why}"),
                };
                // One line: the guest reads no more of it.
                let reply = format!("{}\n", reply.replace(['\r', '\n'], " "));
                if lines.port.write_all(reply.as_bytes()).is_err() {
                    return;
                }
            }
            "done" => {
                outcome.ended = true;
                return;
            }
            _ => println!("  guest: {line}"),
        }
    }
}

fn tail(path: &Path, lines: usize) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
