//! What is given back reaches the file below, and nothing else is touched.

mod rig;

use bdev::{Bdev, Discards, DmaSlice, IoFlags, Op};
use bdev_uring::{Options, UringBdev};
use nvme_spec::Status;
use rig::Rig;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const MIB: u64 = 1 << 20;

/// Bytes that a file takes.
fn taken(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().blocks() * 512
}

/// Writes all of a device of 8 MiB, and gives back two pieces: by waiting, and through a channel.
fn give_back(mut rig: Rig, behind: &Path) {
    let mib = vec![7; MIB as usize];
    (0..8).for_each(|at| assert_eq!(rig.write(at * 256, &mib, IoFlags::NONE), Status::SUCCESS));
    assert_eq!(rig.flush(), Status::SUCCESS);
    let full = taken(behind);
    assert!(full >= 8 * MIB);
    rig.device.discard(256, 3 * 256).expect("it has a way").unwrap();
    let less = taken(behind);
    assert!(less <= full - 3 * MIB, "{less} of {full} bytes are taken");
    let (op, flags) = (Op::Deallocate, IoFlags::ANY_CONTENT);
    assert_eq!(rig.one(op, flags, 5 * 256, 256, DmaSlice::EMPTY), Status::SUCCESS);
    assert!(taken(behind) <= less - MIB);
    for kept in [0, 4, 6, 7] {
        assert_eq!(rig.read(kept * 256, 256).unwrap(), mib);
    }
    assert_eq!(rig.write(256, &mib, IoFlags::NONE), Status::SUCCESS, "it can be written again");
    assert_eq!(rig.read(256, 256).unwrap(), mib);
    rig.end();
}

#[test]
fn a_sparse_file_gets_smaller() {
    for folder in [rig::on_disk(), rig::on_tmpfs()] {
        let path = folder.path().join("device");
        let device = UringBdev::create(&path, 8 * MIB, 4096).unwrap();
        assert!(matches!(device.discards(), Discards::Well(_)), "{:?}", device.discards());
        give_back(Rig::new(device), &path);
    }
}

#[test]
fn a_loop_device_passes_it_on_to_its_file() {
    let Some(device) = rig::Loop::or_skip(8 * MIB, 512) else { return };
    let opened = UringBdev::open(&device.path, Options::default()).unwrap();
    assert!(matches!(opened.discards(), Discards::Well(_)), "{:?}", opened.discards());
    give_back(Rig::new(opened), &device.file);
}

#[test]
fn space_that_was_set_aside_is_kept_unless_asked_for() {
    let folder = rig::on_disk();
    let path = folder.path().join("device");
    let mut command = std::process::Command::new("fallocate");
    assert!(command.args(["--length", "8MiB"]).arg(&path).status().unwrap().success());
    let device = UringBdev::open(&path, Options::default()).unwrap();
    let discards = device.discards();
    assert!(matches!(discards, Discards::Badly(_)), "{discards:?}");
    assert!(discards.why().contains("set aside"));
    give_back(Rig::new(device), &path);
    let read_only = Options { read_only: true, ..Options::default() };
    let device = UringBdev::open(&path, read_only).unwrap();
    assert!(matches!(device.discards(), Discards::Never(_)));
}
