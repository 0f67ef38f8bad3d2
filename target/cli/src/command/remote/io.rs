//! `forebay io`: a pattern on a remote namespace.

use super::Remote;
use bdev::dma::PoolPlan;
use bdev::{Addr, Bdev, DmaBuf, DmaPool, Done, Edge, EdgeCx, Geometry, Io, IoFlags, Memory, Op};
use bdev::{Stack, Tag};
use clap::{Args, ValueEnum};
use nvmf_host::{Pattern, RemoteBdev};
use reactor::{Handle, Poll, Reactor};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use webui_model::Size;

/// A pattern on a remote namespace.
#[derive(Args)]
pub struct IoArgs {
    /// Write the pattern, read without looking, or read and compare with the pattern.
    #[arg(value_enum)]
    pub action: IoAction,
    /// Whom.
    #[command(flatten)]
    pub remote: Remote,
    /// The subsystem.
    #[arg(long, value_name = "NQN")]
    pub nqn: String,
    /// The namespace.
    #[arg(long, default_value_t = 1)]
    pub nsid: u32,
    /// First byte, a multiple of the block size.
    #[arg(long, default_value = "0")]
    pub offset: Size,
    /// Bytes; all of the namespace unless given.
    #[arg(long)]
    pub length: Option<Size>,
    /// Bytes of each operation, up to 1 MiB.
    #[arg(long, default_value = "128KiB")]
    pub size: Size,
    /// Operations under way at once.
    #[arg(long, default_value_t = 32)]
    pub depth: u32,
    /// What the pattern is made from: verify with the seed it was written with.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// What to do with the blocks.
#[derive(Clone, Copy, ValueEnum, PartialEq, Eq)]
pub enum IoAction {
    /// Write the pattern.
    Write,
    /// Read.
    Read,
    /// Read and compare with the pattern.
    Verify,
}

/// How long a lost target is waited for: somebody watches, and a target that is on its way back
/// takes a while to be found over RDMA.
const PATIENCE: Duration = Duration::from_secs(60);

/// The most operations under way at once.
const MAX_DEPTH: u32 = 128;

/// `forebay io`.
pub fn io(args: &IoArgs) -> Result<(), String> {
    if args.depth == 0 || args.depth > MAX_DEPTH {
        return Err(format!("--depth is {}: give 1 to {MAX_DEPTH}.", args.depth));
    }
    let mut options = super::options(&args.remote, &args.nqn, 4420)?;
    options.loss_timeout = PATIENCE;
    let bdev = RemoteBdev::connect(options, args.nsid).map_err(|error| error.to_string())?;
    let work = Work::plan(args, &bdev.geometry())?;
    let bytes = work.blocks * u64::from(work.block_bytes);
    let bdev: Arc<dyn Bdev> = Arc::new(bdev);
    let started = Instant::now();
    let end = run(bdev, work)?;
    let seconds = started.elapsed().as_secs_f64();
    if let Some(why) = end {
        return Err(why);
    }
    let what = match args.action {
        IoAction::Write => "written and flushed",
        IoAction::Read => "read",
        IoAction::Verify => "read and compared: all as written",
    };
    crate::line!(
        "{bytes} bytes {what} in {seconds:.2} s ({:.0} MiB/s)",
        bytes as f64 / seconds / 1048576.0
    );
    Ok(())
}

/// What there is to do.
struct Work {
    action: IoAction,
    pattern: Pattern,
    block_bytes: u32,
    lba: u64,
    blocks: u64,
    blocks_each: u32,
    depth: u32,
}

impl Work {
    fn plan(args: &IoArgs, geometry: &Geometry) -> Result<Work, String> {
        let block = u64::from(geometry.block_bytes);
        let whole = |name: &str, bytes: u64| match bytes.is_multiple_of(block) {
            true => Ok(bytes / block),
            false => {
                Err(format!("--{name} is not a multiple of the namespace's block of {block}."))
            }
        };
        let lba = whole("offset", args.offset.0)?;
        let rest = geometry.blocks.saturating_sub(lba);
        let blocks = args.length.map_or(Ok(rest), |length| whole("length", length.0))?;
        let each = whole("size", args.size.0)?;
        if each == 0 || args.size.0 > u64::from(bdev::limits::MAX_TRANSFER_BYTES) {
            return Err(format!("--size is {}: give one block up to 1MiB.", args.size));
        }
        if blocks == 0 || !geometry.contains(lba, blocks) {
            return Err(format!(
                "The namespace has {} bytes: --offset and --length do not lie inside.",
                geometry.bytes()
            ));
        }
        Ok(Work {
            action: args.action,
            pattern: Pattern::new(args.seed),
            block_bytes: geometry.block_bytes,
            lba,
            blocks,
            blocks_each: each as u32,
            depth: args.depth,
        })
    }
}

impl Work {
    /// A buffer for each operation, of the smallest size that each fits.
    fn buffers(&self) -> PoolPlan {
        let bytes = self.blocks_each * self.block_bytes;
        let mut plan = PoolPlan::for_bytes(0);
        let class = plan.0.iter_mut().find(|class| class.bytes >= bytes);
        class.expect("no operation is longer than the largest").count = self.depth;
        plan
    }
}

/// Runs the work on a reactor of its own. `Ok(Some(..))`: it ended with an error.
fn run(bdev: Arc<dyn Bdev>, work: Work) -> Result<Option<String>, String> {
    let plan = work.buffers();
    let memory = Memory::map(1, plan.bytes()).map_err(|error| format!("No memory: {error}."))?;
    let memory = Arc::new(memory);
    let handle = Handle::new(0).map_err(|error| error.to_string())?;
    let own = handle.clone();
    let thread = reactor::spawn(handle.clone(), None, Poll::ADAPTIVE, move || {
        let pool = DmaPool::new(memory.clone(), 0, &plan);
        Reactor::new(own, Stack::new(0, memory), pool)
    });
    let thread = thread.map_err(|error| format!("No thread: {error}."))?;
    let (report, ended) = mpsc::channel();
    let edge = handle.call(move |reactor| {
        let to = reactor.stack.open(&bdev, reactor.now_ns()).map_err(|error| error.0)?;
        Ok::<Addr, String>(reactor.add_edge(Box::new(Patterns::new(work, to, report))))
    });
    let edge = edge.ok_or("the reactor ended")??;
    let end = ended.recv().map_err(|_| "the reactor ended")?;
    handle.call(move |reactor| reactor.remove_edge(edge).is_some());
    handle.stop();
    thread.join().map_err(|_| "the reactor ended with a panic")?;
    Ok(end)
}

/// One operation under way.
struct Slot {
    buf: DmaBuf,
    lba: u64,
    blocks: u32,
}

/// The edge that does the work, and flushes after the last write.
struct Patterns {
    work: Work,
    to: Addr,
    slots: Vec<Option<Slot>>,
    next: u64,
    under_way: u32,
    flush: Flush,
    failed: Option<String>,
    report: Option<mpsc::Sender<Option<String>>>,
}

/// Where the flush after the last write is.
#[derive(PartialEq, Eq)]
enum Flush {
    Needed,
    Sent,
    Done,
}

impl Patterns {
    fn new(work: Work, to: Addr, report: mpsc::Sender<Option<String>>) -> Patterns {
        let flush = if work.action == IoAction::Write { Flush::Needed } else { Flush::Done };
        let slots = (0..work.depth).map(|_| None).collect();
        let (failed, report) = (None, Some(report));
        Patterns { work, to, slots, next: 0, under_way: 0, flush, failed, report }
    }

    fn submit(&mut self, place: usize, cx: &mut EdgeCx<'_>) -> bool {
        let Work { action, pattern, block_bytes, lba, blocks, blocks_each, .. } = self.work;
        let count = u64::from(blocks_each).min(blocks - self.next) as u32;
        let bytes = count as usize * block_bytes as usize;
        let Some(buf) = cx.pool.take(bytes) else { return false };
        let data = buf.slice().sub(0, bytes);
        let at = lba + self.next;
        let op = match action {
            IoAction::Write => {
                let mut filled = vec![0; bytes];
                pattern.fill(at, block_bytes as usize, &mut filled);
                data.copy_in(0, &filled);
                Op::Write
            }
            IoAction::Read | IoAction::Verify => Op::Read,
        };
        self.slots[place] = Some(Slot { buf, lba: at, blocks: count });
        self.next += u64::from(count);
        self.under_way += 1;
        let (flags, tag) = (IoFlags::NONE, Tag(place as u64));
        cx.submit(
            self.to,
            Io { op, flags, lba: at, blocks: count, data, reply_to: cx.me, reply_tag: tag },
        );
        true
    }

    fn send_flush(&mut self, cx: &mut EdgeCx<'_>) {
        self.flush = Flush::Sent;
        let (op, flags, data) = (Op::Flush, IoFlags::NONE, bdev::DmaSlice::EMPTY);
        let tag = Tag(u64::MAX);
        cx.submit(
            self.to,
            Io { op, flags, lba: 0, blocks: 0, data, reply_to: cx.me, reply_tag: tag },
        );
    }

    /// What the pattern says of a block range that was read.
    fn check(&self, slot: &Slot) -> Option<String> {
        let block_bytes = self.work.block_bytes as usize;
        let mut read = vec![0; slot.blocks as usize * block_bytes];
        slot.buf.slice().copy_out(0, &mut read);
        let wrong = self.work.pattern.check(slot.lba, block_bytes, &read).err()?;
        Some(wrong.to_string())
    }

    fn may_submit(&self) -> bool {
        self.failed.is_none() && self.next < self.work.blocks
    }
}

impl Edge for Patterns {
    fn poll(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        let mut work = 0;
        for place in 0..self.slots.len() {
            if self.slots[place].is_none() && self.may_submit() && self.submit(place, cx) {
                work += 1;
            }
        }
        if self.under_way == 0 && self.flush == Flush::Needed && self.failed.is_none() {
            self.send_flush(cx);
            return 1;
        }
        let ended =
            self.flush == Flush::Done || (self.failed.is_some() && self.flush != Flush::Sent);
        if self.under_way == 0
            && ended
            && let Some(report) = self.report.take()
        {
            // Whoever waits has only this to wait for.
            let _ = report.send(self.failed.clone());
        }
        work
    }

    fn done(&mut self, done: Done, cx: &mut EdgeCx<'_>) {
        let Some(place) = self.slots.get_mut(done.tag.0 as usize) else {
            self.flush = Flush::Done;
            if !done.status.is_success() {
                self.failed = Some(format!("The flush failed: {}", done.status));
            }
            return;
        };
        let slot = place.take().expect("each operation ends once");
        self.under_way -= 1;
        if !done.status.is_success() {
            let range = format!("{} blocks at {}", slot.blocks, slot.lba);
            self.failed.get_or_insert(format!("{range}: {}", done.status));
        } else if self.work.action == IoAction::Verify
            && let Some(wrong) = self.check(&slot)
        {
            self.failed.get_or_insert(wrong);
        }
        cx.pool.give(slot.buf);
    }

    fn closed(&mut self, stack: &mut Stack) {
        stack.close(self.to);
    }
}
