//! One reactor's worth of a stack, and places to put devices.
#![allow(dead_code)] // each test program uses its part

use bdev::dma::PoolPlan;
use bdev::{Addr, Bdev, DmaPool, DmaSlice, Done, Io, IoFlags, Memory, Op, Stack, Tag};
use bdev_uring::UringBdev;
use nvme_spec::Status;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use tempfile::TempDir;

/// A stack with one device, which sleeps on its descriptor whenever nothing happens.
pub struct Rig {
    pub stack: Stack,
    pub pool: DmaPool,
    pub top: Addr,
    pub dones: Vec<Done>,
    pub device: Arc<UringBdev>,
    start: std::time::Instant,
}

impl Rig {
    pub fn new(device: UringBdev) -> Rig {
        let plan = PoolPlan::for_bytes(8 << 20);
        let memory = Arc::new(Memory::map(1, plan.bytes()).unwrap());
        let mut stack = Stack::new(0, memory.clone());
        let device = Arc::new(device);
        let bdev: Arc<dyn Bdev> = device.clone();
        let top = stack.open(&bdev, 0).unwrap();
        let pool = DmaPool::new(memory, 0, &plan);
        Rig { stack, pool, top, dones: Vec::new(), device, start: std::time::Instant::now() }
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    pub fn submit(
        &mut self,
        op: Op,
        flags: IoFlags,
        lba: u64,
        blocks: u32,
        data: DmaSlice,
        n: u64,
    ) {
        let (reply_to, reply_tag) = (Addr::edge(0), Tag(n));
        let io = Io { op, flags, lba, blocks, data, reply_to, reply_tag };
        let now_ns = self.now_ns();
        self.stack.submit(self.top, io, now_ns);
    }

    /// Turns until `count` completions are there.
    pub fn run(&mut self, count: usize) {
        while self.dones.len() < count {
            let now_ns = self.now_ns();
            let work = self.stack.poll(now_ns) + self.stack.deliver(now_ns, &mut self.dones);
            if work == 0 {
                assert_eq!(self.stack.next_deadline_ns(), None, "nothing done, yet something due");
                self.sleep();
            }
        }
    }

    /// Sleeps as a reactor does. A completion that wakes nobody fails the test.
    fn sleep(&self) {
        let fd = self.stack.wake_fds().next().expect("a ring has a descriptor");
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        loop {
            // SAFETY: one pollfd that is ours.
            let count = unsafe { libc::poll(&mut poll, 1, 60_000) };
            if count < 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) {
                continue;
            }
            assert_eq!(count, 1, "nothing woke the sleeper");
            return;
        }
    }

    pub fn one(&mut self, op: Op, flags: IoFlags, lba: u64, blocks: u32, data: DmaSlice) -> Status {
        self.submit(op, flags, lba, blocks, data, 7);
        self.run(1);
        let done = self.dones.pop().unwrap();
        assert_eq!((done.tag, done.to), (Tag(7), Addr::edge(0)));
        done.status
    }

    /// Writes `bytes` at `lba`.
    pub fn write(&mut self, lba: u64, bytes: &[u8], flags: IoFlags) -> Status {
        let buf = self.pool.take(bytes.len()).unwrap();
        let data = buf.slice().sub(0, bytes.len());
        data.copy_in(0, bytes);
        let blocks = bytes.len() as u32 / self.device.geometry().block_bytes;
        let status = self.one(Op::Write, flags, lba, blocks, data);
        self.pool.give(buf);
        status
    }

    /// Reads `blocks` blocks at `lba`.
    pub fn read(&mut self, lba: u64, blocks: u32) -> Result<Vec<u8>, Status> {
        let bytes = (blocks * self.device.geometry().block_bytes) as usize;
        let buf = self.pool.take(bytes).unwrap();
        let data = buf.slice().sub(0, bytes);
        let status = self.one(Op::Read, IoFlags::NONE, lba, blocks, data);
        let mut got = vec![0; bytes];
        data.copy_out(0, &mut got);
        self.pool.give(buf);
        if status.is_success() { Ok(got) } else { Err(status) }
    }

    pub fn flush(&mut self) -> Status {
        self.one(Op::Flush, IoFlags::NONE, 0, 0, DmaSlice::EMPTY)
    }

    pub fn end(mut self) {
        self.stack.close(self.top);
        assert_eq!(self.stack.channels(), 0);
        assert_eq!(self.pool.taken(), [0; 4]);
    }
}

/// A folder on the disk that the build is on.
pub fn on_disk() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A folder on tmpfs, which has no direct I/O and cannot zero ranges.
pub fn on_tmpfs() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap()
}

/// A loop device over a file of its own; detached when dropped.
pub struct Loop {
    pub path: PathBuf,
    /// The file.
    pub file: PathBuf,
    _folder: TempDir,
}

impl Loop {
    /// `None`, with the reason printed, where the machine gives none.
    pub fn or_skip(bytes: u64, sector_bytes: u32) -> Option<Loop> {
        let folder = on_disk();
        let file = folder.path().join("behind-loop");
        std::fs::File::create(&file).unwrap().set_len(bytes).unwrap();
        let mut command = Command::new("losetup");
        command.args(["--find", "--show", "--direct-io=on", "--sector-size"]);
        let made = command.arg(sector_bytes.to_string()).arg(&file).output();
        match made {
            Ok(out) if out.status.success() => {
                let path = PathBuf::from(String::from_utf8(out.stdout).unwrap().trim());
                Some(Loop { path, file, _folder: folder })
            }
            Ok(out) => skip(&format!("no loop device: {}", String::from_utf8_lossy(&out.stderr))),
            Err(error) => skip(&format!("no losetup: {error}")),
        }
    }

    /// Flushes that the kernel sent to the device so far.
    pub fn flushes(&self) -> u64 {
        let name = self.path.file_name().unwrap().to_str().unwrap();
        let stat = std::fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
        stat.split_whitespace().nth(15).unwrap().parse().unwrap()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

/// A small tmpfs of its own, which is full soon; unmounted when dropped.
pub struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// `None`, with the reason printed, where mounting is not allowed.
    pub fn or_skip(bytes: u64) -> Option<SmallDisk> {
        let folder = on_disk();
        let size = format!("size={bytes}");
        let out = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "none"])
            .arg(folder.path())
            .output();
        match out {
            Ok(out) if out.status.success() => Some(SmallDisk { folder }),
            Ok(out) => skip(&format!("no mount: {}", String::from_utf8_lossy(&out.stderr).trim())),
            Err(error) => skip(&format!("no mount: {error}")),
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}

fn skip<T>(why: &str) -> Option<T> {
    println!("SKIPPED: {why}");
    None
}
