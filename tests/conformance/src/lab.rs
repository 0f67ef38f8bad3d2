//! The lab's artefacts and the rule for when they are missing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A kernel series of the lab.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kernel {
    /// Debian 12's own.
    Linux6_1,
    /// Debian 12's backport: the kernel of Debian 13.
    Linux6_12,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linux6_1 => "6.1",
            Self::Linux6_12 => "6.12",
        })
    }
}

/// How much a job does: sizes, depths and rounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// As little as reaches the code that it is for: in CI.
    Short,
    /// By hand and before a release: `FOREBAY_LOAD=long`.
    Long,
}

impl Load {
    /// The one that the environment asks for.
    ///
    /// # Panics
    /// When it asks for another.
    pub fn wanted() -> Self {
        match std::env::var("FOREBAY_LOAD").as_deref() {
            Ok("long") => Self::Long,
            Ok("short") | Err(_) => Self::Short,
            Ok(other) => panic!("FOREBAY_LOAD is short or long, not {other}"),
        }
    }

    /// One of two numbers.
    pub fn pick<T>(self, long: T, short: T) -> T {
        match self {
            Self::Long => long,
            Self::Short => short,
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.pick("long", "short"))
    }
}

/// Kernels, initial root file systems and an emulator, all present.
pub struct Lab {
    folder: PathBuf,
    khz: Option<u64>,
}

/// The root of the source tree.
pub fn tree() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("tests/conformance lies two folders down").to_owned()
}

impl Lab {
    /// The lab that `lab/build` made, under `build/lab` or `$FOREBAY_LAB`.
    ///
    /// # Errors
    /// A sentence saying what is missing.
    pub fn find() -> Result<Self, String> {
        let folder =
            std::env::var_os("FOREBAY_LAB").map_or_else(|| tree().join("build/lab"), PathBuf::from);
        if !folder.join("built").exists() {
            return Err(format!("no lab in {}: run scripts/setup test", folder.display()));
        }
        let emulator = Command::new("qemu-system-x86_64").arg("--version").output();
        if !emulator.is_ok_and(|out| out.status.success()) {
            return Err("no qemu-system-x86_64: run scripts/setup test".into());
        }
        Ok(Self { folder, khz: bogomips_khz() })
    }

    /// The lab, or `None` after printing that the test is skipped.
    ///
    /// # Panics
    /// When the lab is missing and `FOREBAY_REQUIRE_LAB=1` or `CI=true` says that it must be there.
    pub fn required_or_skip() -> Option<Self> {
        let is = |name: &str, values: &[&str]| {
            std::env::var(name).is_ok_and(|value| values.contains(&value.as_str()))
        };
        match Self::find() {
            Ok(lab) => Some(lab),
            Err(why) if is("CI", &["true", "1"]) || is("FOREBAY_REQUIRE_LAB", &["1"]) => {
                panic!("the lab is required here: {why}")
            }
            Err(why) => {
                println!("SKIPPED: {why}");
                None
            }
        }
    }

    /// The ELF kernel.
    pub fn vmlinux(&self, kernel: Kernel) -> PathBuf {
        self.folder.join(format!("vmlinux-{kernel}"))
    }

    /// The initial root file system, uncompressed.
    pub fn initramfs(&self, kernel: Kernel) -> PathBuf {
        self.folder.join(format!("initramfs-{kernel}.cpio"))
    }

    /// Debian's full version of a kernel, such as `6.12.95+deb12-amd64`.
    ///
    /// # Errors
    /// When the lab's record of it cannot be read.
    pub fn version(&self, kernel: Kernel) -> Result<String, String> {
        let path = self.folder.join(format!("version-{kernel}"));
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(text.trim().to_owned())
    }

    /// The machine's clock rate. The guest must be told: it would calibrate under load, and drift.
    pub fn khz(&self) -> Option<u64> {
        self.khz
    }
}

fn bogomips_khz() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.to_lowercase().starts_with("bogomips"))?;
    let bogomips: f64 = line.split(':').nth(1)?.trim().parse().ok()?;
    Some((bogomips / 2.0 * 1000.0) as u64)
}
