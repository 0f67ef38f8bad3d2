//! The shipped binary on local NVMe drives: in one guest it serves emulated drives, behind an
//! emulated IOMMU, through our own driver; another guest is its host. Drives fail and are taken out
//! under load, through sysfs and through their slot, and come back. One comes with blocks that
//! nobody can use, and is formatted.

use crate::drive::{DRIVE_BYTES, library};
use crate::pair::{self, LIMIT};
use crate::{HOST, MAIN};
use conformance::appliance;
use conformance::guest::{Extras, Job};
use conformance::lab::{Kernel, Lab};
use conformance::monitor::Monitor;
use conformance::report;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The drives: two for a pool, of which the second is in a slot; one that is exported as it is and
/// has a bad sector at 24 MiB; one with a file system; one whose blocks have metadata.
const DRIVES: [(&str, u64); 5] = [
    ("ONE", 2 * DRIVE_BYTES),
    ("TWO", 2 * DRIVE_BYTES),
    ("RAW", DRIVE_BYTES),
    ("USED", DRIVE_BYTES),
    ("ODD", DRIVE_BYTES),
];
const BAD_SECTOR: u64 = (24 << 20) / 512;

const CHECKS: [&str; 75] = [
    "kernel-has-them",
    "drives",
    "drives-model",
    "drives-content",
    "bind-mounted",
    "bind-marked",
    "bind-absent",
    "bind",
    "bind-shown",
    "serve",
    "pool-of-used",
    "used-stays",
    "pool",
    "volume",
    "attach",
    "subsystem",
    "export-whole",
    "devices",
    "devices-listed",
    "health-read",
    "show",
    "show-serial",
    "show-driver",
    "health",
    "health-temperature",
    "health-format",
    "format-attached",
    "format-used",
    "sanitize-unknown",
    "odd-attach",
    "odd-format-odd",
    "odd-format",
    "odd-is-back",
    "odd-blocks",
    "odd-attached",
    "odd-shown",
    "drives-by-api",
    "drives-attached",
    "jobs",
    "jobs-format",
    "raw-out",
    "raw-is-failed",
    "raw-alert",
    "raw-is-back",
    "member-out",
    "member-in",
    "member-is-failed",
    "member-is-back",
    "pool-is-back",
    "still-serving",
    "ends",
    "forebay-is-calm",
    "stays-bound",
    "unbind",
    "kernel-has-it-back",
    "kernel-is-calm",
    "connect-volume",
    "connect-raw",
    "verify-volume",
    "verify-raw",
    "bad-sector-status",
    "good-sector",
    "raw-errors",
    "raw-still-there",
    "raw-verified-again",
    "raw-flush-tells",
    "raw-flush",
    "raw-written-again",
    "member-errors",
    "volume-verified-again",
    "volume-written-again",
    "disconnect-volume",
    "disconnect-raw",
    "host-is-calm",
    "bad-sector",
];

#[test]
fn backports_6_12() {
    local_drives(Kernel::Linux6_12);
}

#[test]
fn bookworm_6_1() {
    local_drives(Kernel::Linux6_1);
}

fn local_drives(kernel: Kernel) {
    let Some(lab) = Lab::required_or_skip() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = free.local_addr().expect("it has an address").port();
    drop(free);
    let monitor = Monitor::at(&folder.path().join("monitor"));
    let target = target_job(folder.path(), port, &monitor);
    let outcome = pair::run_with(&lab, kernel, &target, &host_job(port), &|words| match words {
        "unplug TWO" => monitor.command("device_del TWO"),
        "plug TWO" => monitor.command(&format!("device_add {}", nvme("TWO"))),
        _ => Err(format!("nobody knows {words}")),
    });
    report::judge(&outcome, &CHECKS);
}

fn host_job(port: u16) -> Job<'static> {
    let variables = vec![
        ("ADDRESS", "10.0.2.2".to_owned()),
        ("PORT", port.to_string()),
        ("HOSTNQN", HOST.to_owned()),
        ("MAIN", MAIN.to_owned()),
    ];
    let (forwards, extras) = (Vec::new(), Extras::default());
    Job { script: "local-host", variables, limit: LIMIT, forwards, extras }
}

fn target_job(folder: &Path, port: u16, monitor: &Monitor) -> Job<'static> {
    let mut machine = vec!["-device".into(), "intel-iommu,intremap=on,caching-mode=on".into()];
    machine.extend(["-device".into(), "pcie-root-port,id=bay,chassis=1".into()]);
    machine.extend(monitor.options());
    for (name, bytes) in DRIVES {
        let path = folder.join(name);
        let file = std::fs::File::create(&path).expect("an image");
        file.set_len(bytes).expect("an image");
        machine.extend(drive(name, &path));
    }
    let files = program(folder);
    let append = "intel_iommu=on iommu=pt".into();
    let extras = Extras { files, machine, append };
    let variables = vec![("MAIN", MAIN.to_owned())];
    let forwards = vec![(port, 4420)];
    Job { script: "local-drives", variables, limit: LIMIT, forwards, extras }
}

/// The emulator's options for a drive.
fn drive(name: &str, path: &Path) -> Vec<String> {
    let file = match name {
        "RAW" => format!(
            "file.driver=blkdebug,file.image.driver=file,file.image.filename={},\
             file.inject-error.0.event=none,file.inject-error.0.iotype=read,\
             file.inject-error.0.errno=5,file.inject-error.0.sector={BAD_SECTOR}",
            path.display()
        ),
        _ => format!("file={}", path.display()),
    };
    let storage = match name {
        // It stays when the drive goes.
        "TWO" => [
            "-blockdev".into(),
            format!(
                "driver=raw,node-name=TWO,discard=unmap,file.driver=file,file.filename={}",
                path.display()
            ),
        ],
        _ => ["-drive".into(), format!("{file},if=none,id={name},format=raw,discard=unmap")],
    };
    let mut options = storage.to_vec();
    options.extend(["-device".into(), nvme(name)]);
    if name == "ODD" {
        let blocks = "logical_block_size=512,physical_block_size=512,ms=8";
        options.extend(["-device".into(), format!("nvme-ns,drive=ODD,bus=ODD,{blocks}")]);
    }
    options
}

/// The emulator's words for the drive itself.
fn nvme(name: &str) -> String {
    let place = match name {
        "TWO" => ",drive=TWO,id=TWO,bus=bay",
        "ODD" => ",id=ODD",
        _ => &format!(",drive={name}"),
    };
    format!("nvme{place},serial={name},max_ioqpairs=8,msix_qsize=9,mdts=4")
}

/// The shipped binary as `/bin/forebay` of a guest, with what it needs there.
pub(crate) fn program(folder: &Path) -> Vec<(String, PathBuf)> {
    let program = stripped(folder);
    let mut files = vec![("/bin/forebay".to_owned(), program.clone())];
    files.extend(library(&program));
    files
}

/// The binary without what debuggers need: the guest's memory holds it.
fn stripped(folder: &Path) -> PathBuf {
    let binary = appliance::binary().unwrap_or_else(|why| panic!("{why}"));
    let path = folder.join("forebay");
    let strip = Command::new("strip").arg("-o").arg(&path).arg(&binary).status();
    assert!(strip.expect("strip runs").success(), "the binary can be stripped");
    path
}
