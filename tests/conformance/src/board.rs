//! A machine with UEFI firmware that starts from a disk of its own, as a stranger's would: nothing
//! but its disks, its network, its console and its power switch.

use crate::monitor::Monitor;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the firmware is loaded from, below `image/packages`' folder.
const FIRMWARE: &str = "root/usr/share/OVMF/OVMF_CODE_4M.fd";
const VARIABLES: &str = "root/usr/share/OVMF/OVMF_VARS_4M.fd";

/// The parts of a machine.
pub struct Parts<'a> {
    /// Packages of the image, with the firmware.
    pub packages: &'a Path,
    /// Disks, of which the first one is started from.
    pub disks: &'a [PathBuf],
    /// TCP ports of this machine's loopback that lead into it: (here, there).
    pub forwards: &'a [(u16, u16)],
    /// Where console and monitor are.
    pub folder: &'a Path,
    /// Options of the emulator: parts that not every machine has.
    pub more: &'a [String],
}

/// A machine that is on. Switched off when dropped.
pub struct Board {
    child: Child,
    serial: PathBuf,
    monitor: Monitor,
    /// When it was switched on.
    pub on: Instant,
}

impl Board {
    /// Switches it on. It is off again after `limit` at the latest.
    ///
    /// # Errors
    /// When the emulator cannot be started.
    pub fn start(parts: &Parts<'_>, limit: Duration) -> Result<Self, String> {
        let firmware = parts.packages.join(FIRMWARE);
        if !firmware.exists() {
            return Err(format!("no firmware in {}", parts.packages.display()));
        }
        let show = |path: &Path| path.display().to_string();
        let serial = parts.folder.join("serial");
        let monitor = Monitor::at(&parts.folder.join("monitor"));
        let _ = std::fs::remove_file(&serial);
        let mut net = String::from("user,id=u0");
        for (here, there) in parts.forwards {
            net.push_str(&format!(",hostfwd=tcp:127.0.0.1:{here}-:{there}"));
        }
        // `timeout` ends the emulator even where this process is killed first.
        let mut command = Command::new("timeout");
        command
            .arg("--kill-after=5")
            .arg(limit.as_secs().to_string())
            .arg("qemu-system-x86_64")
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-M", "q35", "-nodefaults"])
            .args(["-display", "none", "-m", "1024", "-smp", "1"])
            .arg("-drive")
            .arg(format!("if=pflash,format=raw,unit=0,readonly=on,file={}", show(&firmware)))
            .arg("-drive")
            .arg(format!(
                "if=pflash,format=raw,unit=1,snapshot=on,file={}",
                show(&parts.packages.join(VARIABLES))
            ));
        for (number, disk) in parts.disks.iter().enumerate() {
            command
                .arg("-drive")
                .arg(format!("if=none,id=d{number},format=raw,file={}", show(disk)));
            command
                .arg("-device")
                .arg(format!("virtio-blk-pci,drive=d{number},bootindex={number}"));
        }
        command
            .args(["-netdev", &net, "-device", "virtio-net-pci,netdev=u0"])
            .args(parts.more)
            .args(["-device", "i6300esb", "-action", "watchdog=reset"])
            .args(["-serial", &format!("file:{}", show(&serial))])
            .args(monitor.options())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let child = command.spawn().map_err(|error| format!("qemu-system-x86_64: {error}"))?;
        Ok(Self { child, serial, monitor, on: Instant::now() })
    }

    /// Whether it is on.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has shown on its console since it was switched on.
    pub fn console(&self) -> String {
        let bytes = std::fs::read(&self.serial).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\r', "")
    }

    /// Waits until the console has shown `text` for the `count`th time, and says when it had.
    ///
    /// # Errors
    /// What it has shown at last, when it is off before, or `patience` is over.
    pub fn shown(
        &mut self,
        text: &str,
        count: usize,
        patience: Duration,
    ) -> Result<Instant, String> {
        let until = Instant::now() + patience;
        loop {
            // Whether it runs is asked before: what it showed last is read after.
            let running = self.running();
            if self.console().matches(text).count() >= count {
                return Ok(Instant::now());
            }
            if !running || Instant::now() > until {
                let what = if running { "has not shown" } else { "is off and has not shown" };
                return Err(format!("the machine {what} \"{text}\":\n{}", self.last_lines()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The last lines of the console.
    pub fn last_lines(&self) -> String {
        let console = self.console();
        let lines: Vec<&str> = console.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Presses the power button.
    ///
    /// # Errors
    /// When the emulator's monitor does not answer.
    pub fn press_power(&self) -> Result<(), String> {
        self.tell("system_powerdown")
    }

    /// Presses the button for a non-maskable interrupt, which servers have for a dump.
    ///
    /// # Errors
    /// When the emulator's monitor does not answer.
    pub fn press_nmi(&self) -> Result<(), String> {
        self.tell("nmi")
    }

    fn tell(&self, command: &str) -> Result<(), String> {
        self.monitor.command(command).map(drop)
    }

    /// Waits until it has switched itself off.
    ///
    /// # Errors
    /// When it is still on after `patience`.
    pub fn off(&mut self, patience: Duration) -> Result<(), String> {
        let until = Instant::now() + patience;
        while self.running() {
            if Instant::now() > until {
                return Err(format!("the machine is still on:\n{}", self.last_lines()));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Pulls the plug: the emulator is killed where it stands.
    ///
    /// # Errors
    /// When it was off already.
    pub fn pull_plug(mut self) -> Result<(), String> {
        if !self.running() {
            return Err(format!("the machine was off already:\n{}", self.last_lines()));
        }
        // The emulator is the child of `timeout`, which passes SIGKILL on to nobody.
        let pid = self.child.id();
        let children = format!("/proc/{pid}/task/{pid}/children");
        let emulators = std::fs::read_to_string(children).map_err(|error| error.to_string())?;
        for emulator in emulators.split_whitespace() {
            let killed = Command::new("kill").args(["-KILL", emulator]).status();
            killed.map_err(|error| format!("kill: {error}"))?;
        }
        self.child.wait().map(drop).map_err(|error| format!("wait: {error}"))
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        if self.running() {
            // SIGTERM: `timeout` passes it on to the emulator, which SIGKILL would leave behind.
            let _ = Command::new("kill").arg(self.child.id().to_string()).status();
            let _ = self.child.wait();
        }
    }
}
