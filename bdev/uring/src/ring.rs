//! The ring, and what is registered with it.

use bdev::dma::Region;
use bdev::{DmaSlice, Memory};
use io_uring::{EnterFlags, IoUring, opcode, squeue, types};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// Entries that are handed to the kernel in one crossing.
const SUBMISSIONS: u32 = 1024;

/// Operations in the kernel at once: completions always find a place in the queue, which is
/// twice as long as this.
pub(crate) const IN_KERNEL: u32 = 2 * SUBMISSIONS;

/// The kernel registers buffers of at most 1 GiB.
const CHUNK_BYTES: usize = 1 << 30;

/// The only registered file.
const FILE: types::Fixed = types::Fixed(0);

/// One step of an operation, as the kernel sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Into `data`, from `at` bytes on.
    Read { at: u64, data: DmaSlice },
    /// From `data`; `durable`: not complete before it survives a power cut.
    Write { at: u64, data: DmaSlice, durable: bool },
    /// `bytes` bytes from `at` read as zeros.
    Fallocate { at: u64, bytes: u64, mode: i32 },
    /// What was written is durable.
    Sync,
}

/// An io_uring with one registered file and, where the kernel allows, registered memory. Used by
/// the thread that made it.
pub(crate) struct Ring {
    ring: IoUring,
    /// The regions, by number; empty when nothing is registered.
    registered: Vec<Registered>,
    /// Steps that wait for `enter`.
    waiting: u32,
}

/// A registered region.
struct Registered {
    base: usize,
    bytes: usize,
    /// The number of its first chunk.
    first: usize,
}

impl Ring {
    /// A ring for `fd`, and what went wrong with registering `memory` and `zeros`, if anything:
    /// the ring works without, more slowly.
    ///
    /// # Errors
    /// The kernel's, when it makes no ring or does not take the file.
    pub(crate) fn new(fd: RawFd, memory: &Memory) -> io::Result<(Ring, Option<io::Error>)> {
        let ring = build()?;
        ring.submitter().register_files(&[fd])?;
        let (mut chunks, mut registered) = (Vec::new(), Vec::new());
        for region in memory.regions() {
            let (base, bytes) = (region.as_ptr() as usize, region.len());
            registered.push(Registered { base, bytes, first: chunks.len() });
            push_chunks(region, &mut chunks);
        }
        let refused = if chunks.is_empty() {
            None
        } else {
            // SAFETY: regions are mapped as long as the Memory, which the stack that owns this
            // ring's channel holds; the kernel pins the pages besides.
            unsafe { ring.submitter().register_buffers(&chunks) }.err()
        };
        if refused.is_some() {
            registered.clear();
        }
        Ok((Ring { ring, registered, waiting: 0 }, refused))
    }

    /// The descriptor that becomes readable with completions.
    pub(crate) fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// The registered buffer that holds `data`, if one does.
    fn buffer(&self, data: DmaSlice) -> Option<u16> {
        let region = self.registered.get(usize::from(data.region()))?;
        let offset = (data.as_ptr() as usize).checked_sub(region.base)?;
        let last = offset + data.len() - 1;
        let chunk = offset / CHUNK_BYTES;
        if last >= region.bytes || last / CHUNK_BYTES != chunk {
            return None;
        }
        u16::try_from(region.first + chunk).ok()
    }

    fn entry(&self, step: Step, name: u64, wait_in_worker: bool) -> squeue::Entry {
        let entry = match step {
            Step::Read { at, data } => {
                let (to, bytes) = (data.as_ptr(), data.len() as u32);
                match self.buffer(data) {
                    Some(index) => {
                        opcode::ReadFixed::new(FILE, to, bytes, index).offset(at).build()
                    }
                    None => opcode::Read::new(FILE, to, bytes).offset(at).build(),
                }
            }
            Step::Write { at, data, durable } => {
                let (from, bytes) = (data.as_ptr().cast_const(), data.len() as u32);
                let flags = if durable { libc::RWF_DSYNC } else { 0 };
                match self.buffer(data) {
                    Some(index) => opcode::WriteFixed::new(FILE, from, bytes, index)
                        .offset(at)
                        .rw_flags(flags)
                        .build(),
                    None => {
                        opcode::Write::new(FILE, from, bytes).offset(at).rw_flags(flags).build()
                    }
                }
            }
            Step::Fallocate { at, bytes, mode } => {
                opcode::Fallocate::new(FILE, bytes).offset(at).mode(mode).build()
            }
            Step::Sync => opcode::Fsync::new(FILE).flags(types::FsyncFlags::DATASYNC).build(),
        };
        let flags = if wait_in_worker { squeue::Flags::ASYNC } else { squeue::Flags::empty() };
        entry.user_data(name).flags(flags)
    }

    /// Puts a step where the next [`Ring::enter`] takes it. False when there is no place.
    ///
    /// The memory of the step is the kernel's until its completion: the channel keeps the
    /// operation, and so its submitter's promise, until then.
    pub(crate) fn push(&mut self, step: Step, name: u64, wait_in_worker: bool) -> bool {
        let entry = self.entry(step, name, wait_in_worker);
        // SAFETY: DmaSlice memory stays mapped and with this operation until its Done (the
        // protocol of Io), which is sent only after the kernel's completion; offsets and lengths
        // carry no pointer.
        let pushed = unsafe { self.ring.submission().push(&entry).is_ok() };
        self.waiting += u32::from(pushed);
        pushed
    }

    /// Steps that wait for [`Ring::enter`].
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting
    }

    /// Whether the kernel has completions that only come out in [`Ring::enter`].
    pub(crate) fn has_deferred(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Crosses into the kernel once: hands over what waits, and lets it finish deferred
    /// completions. Returns how many steps it took.
    pub(crate) fn enter(&mut self) -> io::Result<u32> {
        let flags = EnterFlags::GETEVENTS.bits();
        let submitter = self.ring.submitter();
        // SAFETY: no argument that points anywhere; the entries are covered by `push`.
        let taken = unsafe { submitter.enter::<libc::sigset_t>(self.waiting, 0, flags, None)? };
        let taken = (taken as u32).min(self.waiting);
        self.waiting -= taken;
        Ok(taken)
    }

    /// Takes the next completion: the name given to `push`, and the kernel's result.
    pub(crate) fn next(&mut self) -> Option<(u64, i32)> {
        let done = self.ring.completion().next()?;
        Some((done.user_data(), done.result()))
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // Closing a ring gives its file back at some later time; this does so now, and the device
        // can be opened again. When it fails, the later time is soon enough.
        let _ = self.ring.submitter().unregister_files();
    }
}

/// The fastest kind of ring that wakes a sleeper. With cooperative completions (Linux 5.19) the
/// kernel interrupts nobody: it finishes them in whatever system call the reactor makes next, and
/// a flag in shared memory tells when one is due. Deferred completions (`DEFER_TASKRUN`) would
/// save a little more, but one that arrives while the reactor sleeps in `poll(2)` on the ring's
/// descriptor does not wake it (seen on Linux 6.18).
fn build() -> io::Result<IoUring> {
    let sized = || {
        let mut builder = IoUring::builder();
        builder.setup_cqsize(2 * IN_KERNEL).setup_submit_all().dontfork();
        builder.setup_coop_taskrun().setup_taskrun_flag();
        builder
    };
    match sized().setup_single_issuer().build(SUBMISSIONS) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => sized().build(SUBMISSIONS),
        other => other,
    }
}

fn push_chunks(region: &Region, chunks: &mut Vec<libc::iovec>) {
    let mut offset = 0;
    while offset < region.len() {
        let bytes = (region.len() - offset).min(CHUNK_BYTES);
        let base = region.as_ptr().wrapping_add(offset).cast();
        chunks.push(libc::iovec { iov_base: base, iov_len: bytes });
        offset += bytes;
    }
}
