//! `forebay io`: a pattern on a remote namespace.

use super::Remote;
use bdev::dma::PoolPlan;
use bdev::{Bdev, DmaPool, Geometry, Memory, Op, Stack};
use clap::{Args, ValueEnum};
use nvmf_host::{Pattern, RemoteBdev};
use reactor::client::{Channels, Driver, Ended, Operation, Submitter, drive};
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
        // One more for the flush.
        let depth = work.depth + 1;
        Ok::<_, String>(drive(reactor, Channels::Own(vec![to]), depth, Patterns::new(work, report)))
    });
    let edge = edge.ok_or("the reactor ended")??;
    let end = ended.recv().map_err(|_| "the reactor ended")?;
    handle.call(move |reactor| reactor.remove_edge(edge).is_some());
    handle.stop();
    thread.join().map_err(|_| "the reactor ended with a panic")?;
    Ok(end)
}

/// What the work has come to; it flushes after the last write.
struct Patterns {
    work: Work,
    next: u64,
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

/// The tag of the flush; of the others, their first block of all.
const FLUSH: u64 = u64::MAX;

impl Patterns {
    fn new(work: Work, report: mpsc::Sender<Option<String>>) -> Patterns {
        let flush = if work.action == IoAction::Write { Flush::Needed } else { Flush::Done };
        Patterns { work, next: 0, flush, failed: None, report: Some(report) }
    }

    /// Blocks of the operation that begins after `at` blocks.
    fn blocks_at(&self, at: u64) -> u32 {
        u64::from(self.work.blocks_each).min(self.work.blocks - at) as u32
    }

    fn submit(&mut self, io: &mut Submitter<'_, '_>) -> bool {
        let Work { action, pattern, block_bytes, lba, .. } = self.work;
        let (at, count) = (self.next, self.blocks_at(self.next));
        let bytes = count as usize * block_bytes as usize;
        let Some(buffer) = io.take(bytes) else { return false };
        let data = buffer.slice().sub(0, bytes);
        let op = match action {
            IoAction::Write => {
                let mut filled = vec![0; bytes];
                pattern.fill(lba + at, block_bytes as usize, &mut filled);
                data.copy_in(0, &filled);
                Op::Write
            }
            IoAction::Read | IoAction::Verify => Op::Read,
        };
        self.next += u64::from(count);
        io.submit(0, Operation::new(op, lba + at, count, data), Some(buffer), at);
        true
    }

    /// What the pattern says of blocks that were read.
    fn check(&self, lba: u64, read: &[u8]) -> Option<String> {
        let wrong = self.work.pattern.check(lba, self.work.block_bytes as usize, read).err()?;
        Some(wrong.to_string())
    }

    fn may_submit(&self, io: &Submitter<'_, '_>) -> bool {
        let has_more = self.failed.is_none() && self.next < self.work.blocks;
        has_more && io.under_way() < self.work.depth
    }
}

impl Driver for Patterns {
    fn poll(&mut self, io: &mut Submitter<'_, '_>) -> u32 {
        let mut work = 0;
        while self.may_submit(io) && self.submit(io) {
            work += 1;
        }
        let is_through = self.failed.is_some() || self.next == self.work.blocks;
        if io.under_way() > 0 || !is_through {
            return work;
        }
        if self.flush == Flush::Needed && self.failed.is_none() {
            self.flush = Flush::Sent;
            io.submit(0, Operation::flush(), None, FLUSH);
            return 1;
        }
        if let Some(report) = self.report.take() {
            // Whoever waits has only this to wait for.
            let _ = report.send(self.failed.clone());
        }
        work
    }

    fn ended(&mut self, ended: Ended, io: &mut Submitter<'_, '_>) {
        let Ended { tag: at, status, buffer } = ended;
        let Some(buffer) = buffer else {
            self.flush = Flush::Done;
            if !status.is_success() {
                self.failed = Some(format!("The flush failed: {status}"));
            }
            return;
        };
        let (lba, blocks) = (self.work.lba + at, self.blocks_at(at));
        if !status.is_success() {
            self.failed.get_or_insert(format!("{blocks} blocks at {lba}: {status}"));
        } else if self.work.action == IoAction::Verify {
            let mut read = vec![0; blocks as usize * self.work.block_bytes as usize];
            buffer.slice().copy_out(0, &mut read);
            if let Some(wrong) = self.check(lba, &read) {
                self.failed.get_or_insert(wrong);
            }
        }
        io.give(buffer);
    }
}
