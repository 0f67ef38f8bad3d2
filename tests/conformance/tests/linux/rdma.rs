//! NVMe/RDMA over soft-RoCE: the shipped binary in one guest, a stock kernel in another. Both
//! guests are joined by an Ethernet link of their own.

use crate::local_drives::program;
use crate::pair::{self, LIMIT};
use crate::{HOST, MAIN};
use conformance::guest::{Extras, Job};
use conformance::lab::{Kernel, Lab, Load};
use conformance::report;
use std::path::Path;

/// The checks of both guests.
const CHECKS: [&str; 89] = [
    "serve-without",
    "off-says-why",
    "off-listener",
    "off-create",
    "ends-without",
    "soft-roce",
    "serve",
    "on-names-it",
    "create",
    "on-listener",
    "delete",
    "every-ipv4",
    "every-ipv6",
    "all-back",
    "all-back-cycles",
    "buffers-back",
    "still-serving",
    "ends",
    "forebay-is-calm",
    "nothing-left",
    "kernel-is-calm",
    "host-soft-roce",
    "host-ready",
    "discover",
    "discover-rdma",
    "discover-tcp",
    "connect-1024",
    "round-1024",
    "mtu-1024-512",
    "mtu-1024-4k-qd1",
    "mtu-1024-4k-qd128",
    "mtu-1024-split-qd32",
    "mtu-1024-1m-qd16",
    "disconnect-1024",
    "connect-4096",
    "mtu-4096-512",
    "mtu-4096-4k-qd1",
    "mtu-4096-4k-qd128",
    "mtu-4096-split-qd32",
    "mtu-4096-1m-qd16",
    "connect-more",
    "disconnect-more",
    "smart-log",
    "error-log",
    "get-property",
    "get-features",
    "invalid-opcode",
    "blkdiscard-4096",
    "blkdiscard-512",
    "write-zeroes-4096",
    "write-zeroes-512",
    "flush",
    "compare-equal",
    "compare-different",
    "beyond-the-end",
    "bad-read",
    "good-read",
    "unknown-refused",
    "namespace-add",
    "hot-add-seen",
    "hot-add-usable",
    "namespace-remove",
    "hot-remove-seen",
    "killed-1",
    "serves-1",
    "killed-verifies",
    "live-again",
    "ext4-mkfs",
    "ext4-mount",
    "killed-2",
    "serves-2",
    "ext4-written",
    "live-once-more",
    "ext4-tree",
    "ext4-umount",
    "ext4-fsck",
    "both-say-the-same",
    "disconnect-under-load",
    "reconnect",
    "after-disconnect",
    "second-path",
    "paths-rdma",
    "paths-tcp",
    "two-paths",
    "one-path-less",
    "one-path-verifies",
    "disconnect-all",
    "every-cycle",
    "host-is-calm",
];

/// What is written through restarts, and what fails.
const MORE: &str = "nqn.2026-01.org.example:more";

/// Connections made and ended one after another.
fn cycles() -> u32 {
    Load::wanted().pick(200, 20)
}

#[test]
fn backports_6_12() {
    rdma(Kernel::Linux6_12);
}

#[test]
fn bookworm_6_1() {
    rdma(Kernel::Linux6_1);
}

fn rdma(kernel: Kernel) {
    let Some(lab) = Lab::required_or_skip() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let outcome = pair::run(&lab, kernel, &target_job(folder.path()), &host_job(folder.path()));
    report::judge(&outcome, &CHECKS);
}

/// A network interface, the guest's second, at one end of the link.
pub(crate) fn link(folder: &Path, end: &str, mac: &str) -> Vec<String> {
    let path = folder.join("link");
    vec![
        "-netdev".into(),
        format!("stream,id=l0,addr.type=unix,addr.path={},{end}", path.display()),
        "-device".into(),
        format!("virtio-net-pci,netdev=l0,mac={mac},addr=0x10"),
    ]
}

fn host_job(folder: &Path) -> Job<'static> {
    let variables = vec![
        ("HOSTNQN", HOST.to_owned()),
        ("MAIN", MAIN.to_owned()),
        ("MORE", MORE.to_owned()),
        ("CYCLES", cycles().to_string()),
    ];
    let machine = link(folder, "server=off,reconnect-ms=200", "52:54:00:77:00:02");
    let extras = Extras { machine, ..Extras::default() };
    Job { script: "rdma-host", variables, limit: LIMIT, forwards: Vec::new(), extras }
}

fn target_job(folder: &Path) -> Job<'static> {
    let machine = link(folder, "server=on", "52:54:00:77:00:01");
    let extras = Extras { files: program(folder), machine, ..Extras::default() };
    let variables = vec![("MAIN", MAIN.to_owned()), ("MORE", MORE.to_owned())];
    Job { script: "rdma-target", variables, limit: LIMIT, forwards: Vec::new(), extras }
}
