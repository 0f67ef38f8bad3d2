//! What is still there after the process is gone, and what reaches the drive.

mod rig;

use bdev::{DmaSlice, IoFlags, Op};
use bdev_uring::{Options, UringBdev};
use nvme_spec::Status;
use rig::Rig;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const PATH: &str = "FOREBAY_TEST_DEVICE";

/// Runs test `name` of this program in a process of its own, on `path`.
fn child(name: &str, path: &Path) -> std::process::Output {
    let program = std::env::current_exe().unwrap();
    let args = ["--exact", name, "--nocapture", "--test-threads=1"];
    Command::new(program).args(args).env(PATH, path).output().unwrap()
}

/// The device, in a child process; `None` in the parent, where the child's part does nothing.
fn child_path() -> Option<PathBuf> {
    std::env::var_os(PATH).map(PathBuf::from)
}

/// The child's part of the next test: writes, flushes, and dies with work under way.
#[test]
fn writer_that_is_killed() {
    let Some(path) = child_path() else { return };
    let mut rig = Rig::new(UringBdev::open(&path, Options::default()).unwrap());
    for n in 0..64u8 {
        assert_eq!(rig.write(u64::from(n), &[n + 1; 4096], IoFlags::NONE), Status::SUCCESS);
    }
    assert_eq!(rig.flush(), Status::SUCCESS);
    assert_eq!(rig.write(64, &[99; 4096], IoFlags::FUA), Status::SUCCESS);
    let buf = rig.pool.take(4096).unwrap();
    for n in 0..64 {
        rig.submit(Op::Write, IoFlags::NONE, 128 + n, 1, buf.slice(), n);
    }
    rig.stack.poll(0);
    // SAFETY: ends this process at once.
    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
}

#[test]
fn what_was_flushed_is_there_after_a_kill() {
    let folder = rig::on_disk();
    let path = folder.path().join("device");
    UringBdev::create(&path, 1 << 20, 4096).unwrap();
    let out = child("writer_that_is_killed", &path);
    assert_eq!(out.status.signal(), Some(libc::SIGKILL), "{out:?}");
    // The lock went with the process.
    let mut rig = Rig::new(UringBdev::open(&path, Options::default()).unwrap());
    for n in 0..64u8 {
        assert_eq!(rig.read(u64::from(n), 1).unwrap(), [n + 1; 4096]);
    }
    assert_eq!(rig.read(64, 1).unwrap(), [99; 4096]);
    rig.end();
}

/// The child's part of the next test: no right to pin much memory.
#[test]
fn reader_that_may_not_pin_memory() {
    let Some(path) = child_path() else { return };
    let device = UringBdev::open(&path, Options::default()).unwrap();
    // Enough for the ring, not for the memory.
    let little = libc::rlimit { rlim_cur: 2 << 20, rlim_max: 2 << 20 };
    // SAFETY: changes limits and user of this process, which is here for nothing else.
    unsafe {
        assert_eq!(libc::setrlimit(libc::RLIMIT_MEMLOCK, &little), 0);
        if libc::geteuid() == 0 {
            assert_eq!(libc::setuid(65534), 0);
        }
    }
    let mut rig = Rig::new(device);
    println!("why: {}", rig.device.unregistered().expect("there is no memory to pin"));
    assert_eq!(rig.write(3, &[7; 4096], IoFlags::NONE), Status::SUCCESS);
    assert_eq!(rig.read(3, 1).unwrap(), [7; 4096]);
    rig.end();
}

#[test]
fn without_the_right_to_pin_memory_it_works_and_says_why() {
    let folder = rig::on_disk();
    let path = folder.path().join("device");
    UringBdev::create(&path, 1 << 20, 4096).unwrap();
    let out = child("reader_that_may_not_pin_memory", &path);
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{out:?}");
    assert!(said.contains("why: RLIMIT_MEMLOCK is too small (ulimit -l)"), "{said}");
}

/// Flush, and everything with FUA, makes the kernel flush the drive; nothing else does.
#[test]
fn flush_and_fua_reach_the_drive() {
    let Some(device) = rig::Loop::or_skip(8 << 20, 512) else { return };
    let mut rig = Rig::new(UringBdev::open(&device.path, Options::default()).unwrap());
    let mut flushes = device.flushes();
    let mut more = || {
        let before = std::mem::replace(&mut flushes, device.flushes());
        flushes - before
    };
    assert_eq!(rig.write(0, &[1; 4096], IoFlags::NONE), Status::SUCCESS);
    assert_eq!(more(), 0, "a plain write flushes nothing");
    assert_eq!(rig.flush(), Status::SUCCESS);
    assert!(more() > 0, "Flush");
    assert_eq!(rig.write(0, &[2; 4096], IoFlags::FUA), Status::SUCCESS);
    assert!(more() > 0, "a write with FUA");
    for op in [Op::WriteZeroes, Op::Deallocate] {
        let status = rig.one(op, IoFlags::FUA, 0, 1, DmaSlice::EMPTY);
        assert_eq!(status, Status::SUCCESS);
        assert!(more() > 0, "{op:?} with FUA");
    }
    rig.end();
}
