//! Our own NVMe driver in a guest, on drives that QEMU emulates behind an IOMMU that it emulates.

use conformance::guest::{self, Extras, Job};
use conformance::lab::{Kernel, Lab, tree};
use conformance::report;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The drives: an ordinary one, one that does 8 commands a second, one with a file system on it.
const DRIVES: [(&str, &str); 3] =
    [("FAST", ""), ("SLOW", ",throttling.iops-total=8"), ("USED", "")];
pub(crate) const DRIVE_BYTES: u64 = 32 << 20;

const CHECKS: [&str; 24] = [
    "kernel-has-them",
    "list-before",
    "bind-other",
    "used-marked",
    "used-mounted",
    "used-stays",
    "bind",
    "bind-slow",
    "verify",
    "verify-identity",
    "verify-hugepages",
    "verify-polled",
    "verify-interrupts",
    "verify-reset",
    "verify-zeroes",
    "verify-smart",
    "slow-all-ended",
    "slow-was-reset",
    "slow-works-afterwards",
    "unbind",
    "kernel-reads-the-same",
    "uio-refused-under-vfio",
    "uio",
    "kernel-is-calm",
];

#[test]
fn bookworm_6_1() {
    drive(Kernel::Linux6_1);
}

#[test]
fn backports_6_12() {
    drive(Kernel::Linux6_12);
}

fn drive(kernel: Kernel) {
    let Some(lab) = Lab::required_or_skip() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let job = Job {
        script: "drive",
        variables: Vec::new(),
        limit: Duration::from_secs(800),
        forwards: Vec::new(),
        extras: extras(folder.path()),
    };
    let outcome = guest::run(&lab, kernel, &job, &mut |_| Err("nothing to ask for".into()));
    report::judge(&outcome.unwrap_or_else(|why| panic!("{why}")), &CHECKS);
}

fn extras(folder: &Path) -> Extras {
    let mut machine = vec!["-device".into(), "intel-iommu,intremap=on,caching-mode=on".into()];
    for (name, options) in DRIVES {
        let path = folder.join(name);
        let file = std::fs::File::create(&path).expect("an image");
        file.set_len(DRIVE_BYTES).expect("an image");
        let path = path.display();
        machine.extend([
            "-drive".into(),
            format!("file={path},if=none,id={name},format=raw,discard=unmap{options}"),
            "-device".into(),
            format!("nvme,drive={name},serial={name},max_ioqpairs=8,msix_qsize=9,mdts=4"),
        ]);
    }
    let program = built();
    let mut files = vec![("/drive".to_owned(), program.clone())];
    files.extend(library(&program));
    // With "pt" the kernel's own drivers go around the IOMMU, and uio can too; VFIO never does.
    Extras { files, machine, append: "intel_iommu=on iommu=pt".into() }
}

/// The library that a program needs beside the C library, which the guest has.
pub(crate) fn library(program: &Path) -> Option<(String, PathBuf)> {
    let libraries = Command::new("ldd").arg(program).output().expect("ldd runs").stdout;
    let text = String::from_utf8_lossy(&libraries).into_owned();
    let mut paths = text.lines().filter_map(|line| line.split_whitespace().nth(2));
    let path = paths.find(|path| path.contains("libgcc_s"))?;
    Some(("/lib/x86_64-linux-gnu/libgcc_s.so.1".to_owned(), PathBuf::from(path)))
}

/// The program that works a drive, built from this tree.
fn built() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let out = Command::new(cargo)
        .args(["build", "--quiet", "-p", "drives", "--example", "drive", "--message-format=json"])
        .current_dir(tree())
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo runs");
    assert!(out.status.success(), "cargo could not build the program");
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .expect("cargo names the executable")
}
