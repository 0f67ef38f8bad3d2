//! What runs short under a running appliance: space below a pool, a device's end, the data directory. Each is seen, nothing answered is lost, and all is well when there is enough again.

use crate::appliance::{Appliance, eventually};
use crate::host::Host;
use bdev::{DmaSlice, Op};
use std::path::{Path, PathBuf};
use std::process::Command;

const MIB: u64 = 1 << 20;
const NQN: &str = "nqn.2026-01.io.forebay:tank:v";
const RAM: [&str; 2] = ["--ram", "1MiB"];

fn good(node: &Appliance, args: &[&str]) -> String {
    let output = node.ask(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn alerts(node: &Appliance, what: &str) -> bool {
    good(node, &["alerts", "--json"]).contains(what)
}

/// A file system of its own, gone with this.
struct Small(tempfile::TempDir);

impl Small {
    /// None where this user cannot mount.
    fn new(size: &str) -> Option<Small> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={size}");
        let mount = ["-t", "tmpfs", "-o", &size, "none", folder.path().to_str().unwrap()];
        let mounted = Command::new("mount").args(mount).output().is_ok_and(|o| o.status.success());
        if !mounted {
            println!("SKIPPED: this user cannot mount a file system");
        }
        mounted.then_some(Small(folder))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Fills what is left.
    fn fill(&self) -> PathBuf {
        let path = self.path("ballast");
        let mut file = std::fs::File::create(&path).unwrap();
        for bytes in [1 << 20, 4096] {
            while std::io::Write::write_all(&mut file, &vec![7; bytes]).is_ok() {}
        }
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // Lazily: a test that failed may have it open.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// A pool with a volume on a sparse file.
fn tank(node: &Appliance, path: &Path) {
    std::fs::File::create(path).unwrap().set_len(256 * MIB).unwrap();
    good(node, &["pool", "create", "tank", path.to_str().unwrap()]);
    good(node, &["volume", "create", "tank/v", "128MiB", "--allow-any-host"]);
}

fn flush(host: &mut Host) -> bool {
    host.one(Op::Flush, 0, 0, DmaSlice::EMPTY).is_success()
}

#[test]
fn a_file_system_that_is_full_under_a_pool_and_has_space_again() {
    let Some(small) = Small::new("64m") else { return };
    let node = Appliance::start(&RAM);
    tank(&node, &small.path("disk.img"));
    let mut host = Host::connect(node.address, NQN, 1);
    host.write(1, 0, 4 * MIB);
    let ballast = small.fill();
    // Pieces far apart, until not even what was written of the map can be said.
    let (mut answered, mut piece) = (Vec::new(), 0);
    while flush(&mut host) {
        piece += 1;
        assert!(piece < 100, "it does not fill");
        if host.fill(2, (4 + piece) * MIB, 4096).1.is_success() {
            answered.push(piece);
        }
        if piece == 60 {
            // The log had room: a change that is a transaction has not.
            node.ask(&["snapshot", "create", "tank/v@full"]);
        }
    }
    eventually("it is seen", || alerts(&node, "pool-failed:tank"));
    host.verify(1, 0, 4 * MIB);
    host.end();
    std::fs::remove_file(ballast).unwrap();
    eventually("the pool is well", || {
        good(&node, &["pool", "show", "tank", "--json"]).contains("\"ok\"")
            && !alerts(&node, "pool-failed")
    });
    let mut host = Host::connect(node.address, NQN, 1);
    host.verify(1, 0, 4 * MIB);
    for piece in answered {
        host.verify(2, (4 + piece) * MIB, 4096);
    }
    host.write(3, 80 * MIB, MIB);
    host.end();
    let (ended_well, log, _) = node.terminate();
    assert!(ended_well, "{log}");
}

#[test]
fn a_failed_pool_ends_in_order_and_leaves_its_writes_to_the_next_process() {
    let Some(small) = Small::new("64m") else { return };
    for round in 0..3 {
        let node = Appliance::start(&RAM);
        tank(&node, &small.path("disk.img"));
        let mut host = Host::connect(node.address, NQN, 1);
        let ballast = small.fill();
        let mut piece = 0;
        while flush(&mut host) && piece < 100 {
            piece += 1;
            host.fill(2, piece * MIB, 4096);
            if piece == 60 {
                node.ask(&["snapshot", "create", "tank/v@full"]);
            }
        }
        host.end();
        // Said, not ended by a signal: threads end before the memory that they write to.
        let (ended_well, log, _) = node.terminate();
        assert!(!ended_well && log.contains("could not be written"), "{round}: {log}");
        assert!(log.contains("stopped"), "{round}: {log}");
        std::fs::remove_file(ballast).unwrap();
        std::fs::remove_file(small.path("disk.img")).unwrap();
    }
}

#[test]
fn a_device_that_is_cut_off_or_deleted_is_seen() {
    let node = Appliance::start(&RAM);
    let disk = node.dir.path().join("disk.img");
    tank(&node, &disk);
    let other = node.dir.path().join("other.img");
    std::fs::File::create(&other).unwrap().set_len(64 * MIB).unwrap();
    good(&node, &["device", "attach", other.to_str().unwrap()]);
    let file = std::fs::OpenOptions::new().write(true).open(&disk).unwrap();
    file.set_len(128 * MIB).unwrap();
    eventually("it is seen", || alerts(&node, "device-damaged:disk.img"));
    assert!(good(&node, &["device", "show", "disk.img"]).contains("its end was cut off"));
    file.set_len(256 * MIB).unwrap();
    std::fs::remove_file(&other).unwrap();
    eventually("it is past, and the other seen", || {
        !alerts(&node, "device-damaged:disk.img") && alerts(&node, "device-damaged:other.img")
    });
    assert!(good(&node, &["status"]).contains("degraded"));
}

#[test]
fn a_data_directory_that_is_full_is_seen() {
    let Some(small) = Small::new("8m") else { return };
    let dir = tempfile::tempdir_in(small.0.path()).unwrap();
    let node = Appliance::start_in(dir, "127.0.0.1:0", &RAM);
    let ballast = small.fill();
    eventually("it is seen", || alerts(&node, "data-directory-full"));
    good(&node, &["status"]);
    std::fs::remove_file(ballast).unwrap();
    eventually("it is past", || !alerts(&node, "data-directory-full"));
}
