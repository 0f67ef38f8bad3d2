//! One reactor's ring into a device.

use crate::device::Device;
use crate::errno::{Verdict, verdict};
use crate::pending::{Pending, Stage};
use crate::ring::{IN_KERNEL, Ring};
use bdev::{Channel, Cx, Io, Op, Slab};
use nvme_spec::Status;
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often the kernel may be short of something before the host is asked to try again.
const RETRIES: u8 = 16;

/// A ring and the operations in it.
pub(crate) struct UringChannel {
    ring: Ring,
    device: Arc<Device>,
    pending: Slab<Pending>,
    /// Operations with a step for the kernel, in order.
    ready: VecDeque<u32>,
    /// Steps given to the ring and not completed.
    in_kernel: u32,
}

/// How an operation goes on after a step.
enum Next {
    Go(Stage),
    End(Status),
}

impl UringChannel {
    /// A channel for at most `limit` operations at once.
    pub(crate) fn new(ring: Ring, device: Arc<Device>, limit: u32) -> UringChannel {
        UringChannel {
            ring,
            device,
            pending: Slab::new(limit),
            ready: VecDeque::with_capacity(limit as usize),
            in_kernel: 0,
        }
    }

    /// Why an operation is refused before anything is done, if it is.
    fn refusal(&self, io: &Io) -> Option<Status> {
        if io.op == Op::Flush {
            let failed = self.device.learned.sync_failed.load(Ordering::Relaxed);
            return failed.then_some(Status::WRITE_FAULT);
        }
        if io.op != Op::Read && self.device.read_only {
            return Some(Status::WRITE_PROTECTED.dnr());
        }
        let blocks = self.device.blocks.load(Ordering::Acquire);
        let inside = io.lba.checked_add(u64::from(io.blocks)).is_some_and(|end| end <= blocks);
        (!inside).then_some(Status::LBA_OUT_OF_RANGE.dnr())
    }

    /// Gives the ring what is ready, as far as it has place.
    fn fill(&mut self) {
        while self.in_kernel < IN_KERNEL
            && let Some(&index) = self.ready.front()
        {
            let pending = self.pending.get(index).expect("ready operations are pending");
            let step = pending.step(&self.device.zeros);
            // The second time it may wait, in a worker of the kernel.
            if !self.ring.push(step, u64::from(index), pending.retries > 0) {
                break;
            }
            self.ready.pop_front();
            self.in_kernel += 1;
        }
    }

    /// One crossing into the kernel, if there is anything to cross for.
    fn enter(&mut self, now_ns: u64) -> u32 {
        if self.ring.waiting() == 0 && !self.ring.has_deferred() {
            return 0;
        }
        self.device.crossings.fetch_add(1, Ordering::Relaxed);
        match self.ring.enter() {
            Ok(taken) => taken,
            Err(error) => match error.raw_os_error() {
                Some(libc::EEXIST) => panic!("a ring is used by the thread that opened it"),
                // What was not taken stays in the ring for the next turn.
                Some(libc::EINTR | libc::EAGAIN | libc::EBUSY) => 1,
                _ => {
                    self.device.report(now_ns, &"io_uring_enter", &error);
                    1
                }
            },
        }
    }

    /// Takes one completion of the kernel.
    fn harvest(&mut self, index: u32, result: i32, cx: &mut Cx<'_>) {
        self.in_kernel -= 1;
        let next = match u32::try_from(result) {
            Ok(done) => self.went_on(index, done, cx.now_ns()),
            Err(_) => self.failed(index, result.saturating_neg(), cx.now_ns()),
        };
        match next {
            Next::Go(stage) => {
                self.pending.get_mut(index).expect("just looked at").stage = stage;
                self.ready.push_back(index);
            }
            Next::End(status) => {
                let pending = self.pending.remove(index).expect("just looked at");
                cx.complete_parts(pending.reply_to, pending.reply_tag, status);
            }
        }
    }

    /// A step ended well, a transfer after `done` bytes.
    fn went_on(&mut self, index: u32, done: u32, now_ns: u64) -> Next {
        let UringChannel { pending, device, .. } = self;
        let pending = pending.get_mut(index).expect("the kernel completes what is pending");
        pending.retries = 0;
        if matches!(pending.stage, Stage::Transfer | Stage::WriteZeros) {
            // Direct I/O goes on at a block: a piece of one is done again.
            let whole = done - done % device.block_bytes;
            if whole == 0 {
                let what = "the file ends before the device does: it was cut short";
                device.report(now_ns, &pending.op, &what);
                let read = pending.op == Op::Read;
                let status = if read { Status::UNRECOVERED_READ } else { Status::WRITE_FAULT };
                return Next::End(status);
            }
            if !pending.advance(u64::from(whole)) {
                return Next::Go(pending.stage);
            }
        }
        if let Some(stage) = pending.after() {
            return Next::Go(stage);
        }
        let lost =
            pending.stage == Stage::Sync && device.learned.sync_failed.load(Ordering::Relaxed);
        Next::End(if lost { Status::WRITE_FAULT } else { Status::SUCCESS })
    }

    /// A step ended with error number `errno`.
    fn failed(&mut self, index: u32, errno: i32, now_ns: u64) -> Next {
        let UringChannel { pending, device, .. } = self;
        let pending = pending.get_mut(index).expect("the kernel completes what is pending");
        let status = match verdict(pending.op, errno) {
            Verdict::Retry if pending.retries < RETRIES => {
                pending.retries += 1;
                return Next::Go(pending.stage);
            }
            Verdict::Retry => Status::COMMAND_INTERRUPTED,
            Verdict::Unsupported => match pending.instead(&device.learned) {
                Some(stage) => return Next::Go(stage),
                None => Status::INTERNAL_ERROR,
            },
            Verdict::Fail(status) => status,
        };
        if pending.syncs() && device.buffered.is_some() {
            device.learned.sync_failed.store(true, Ordering::Relaxed);
        }
        device.report(now_ns, &pending.op, &std::io::Error::from_raw_os_error(errno));
        Next::End(status)
    }
}

impl Channel for UringChannel {
    fn submit(&mut self, io: Io, cx: &mut Cx<'_>) {
        if let Some(status) = self.refusal(&io) {
            return cx.complete(io, status);
        }
        let pending = Pending::new(io, self.device.block_bytes, &self.device.learned);
        let index = self.pending.insert(pending);
        let index = index.unwrap_or_else(|_| panic!("more operations than the channel's limit"));
        self.ready.push_back(index);
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> u32 {
        self.fill();
        let mut work = self.enter(cx.now_ns());
        while let Some((name, result)) = self.ring.next() {
            self.harvest(name as u32, result, cx);
            work += 1;
        }
        work
    }

    fn polled(&self) -> bool {
        true
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.ring.fd())
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        let can_fill = !self.ready.is_empty() && self.in_kernel < IN_KERNEL;
        (can_fill || self.ring.waiting() > 0).then_some(0)
    }

    fn outstanding(&self) -> u32 {
        self.pending.len()
    }
}
