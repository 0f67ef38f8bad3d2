//! The load on Forebay: the initiator `nvmf-host` as a bdev in a reactor of its own.

mod driver;
mod hold;
mod remote;

use std::io::{self, Write as _};
use std::sync::{Arc, mpsc};

use bdev::dma::{PoolPlan, Region};
use bdev::{Addr, Bdev, DmaPool, Geometry, Memory, Stack};
use clap::Args;
use driver::{Load, Plan};
use nvmf_host::RemoteBdev;
use reactor::client::{Channels, drive};
use reactor::thread::{self, clock_ns, pin};
use reactor::{Handle, Poll, Reactor};

use crate::sample::{Span, Workload};

pub use hold::{HoldOptions, hold};
pub use remote::Remote;

/// DMA memory that the reactor itself gets; the slots lie in a region of their own.
const POOL_BYTES: usize = 8 << 20;

/// Flags of `bench forebay-load`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Core to pin to.
    #[arg(long, default_value_t = 1)]
    pub core: usize,
    #[command(flatten)]
    pub(crate) remote: Remote,
    #[command(flatten)]
    pub(crate) workload: Workload,
    #[command(flatten)]
    pub(crate) span: Span,
    /// Verify all data: the namespace is filled before reads, and read back after writes. Expects
    /// a namespace of zeros.
    #[arg(long)]
    pub check: bool,
}

/// Connects, takes one sample and prints it as a line of JSON.
///
/// # Errors
/// Why the target cannot be reached, the first I/O that failed, or the first wrong data.
pub fn run(options: &Options) -> io::Result<()> {
    let Workload { payload, depth, connections, .. } = options.workload;
    let remotes = options.remote.connect(connections, depth)?;
    // After connecting: the initiator's own threads inherit where their maker may run.
    pin(options.core)?;
    let slot_bytes = payload.next_multiple_of(4096) * depth * connections;
    let memory = Arc::new(Memory::new(vec![Region::map(POOL_BYTES)?, Region::map(slot_bytes)?]));
    let pool = DmaPool::new(memory.clone(), 0, &PoolPlan::for_bytes(POOL_BYTES));
    let mut stack = Stack::new(0, memory.clone());
    let (channels, lanes) = open(&mut stack, &remotes, options)?;
    let (report, outcome) = mpsc::channel();
    let handle = Handle::new(0)?;
    let plan = Plan {
        workload: options.workload.clone(),
        span: options.span.clone(),
        check: options.check,
        congestion: options.remote.congestion()?,
    };
    let load = Load::new(plan, lanes, &memory, handle.clone(), report).map_err(io::Error::other)?;
    let mut reactor = Reactor::new(handle, stack, pool);
    let depth = u32::try_from(depth * connections).map_err(io::Error::other)?;
    let addr = drive(&mut reactor, Channels::Own(channels), depth, load);
    thread::run(&mut reactor, Poll::Busy);
    let sample = outcome.recv().map_err(io::Error::other)?.map_err(io::Error::other)?;
    reactor.remove_edge(addr);
    remotes.iter().for_each(|remote| remote.disconnect());
    writeln!(io::stdout(), "{}", serde_json::to_string(&sample)?)
}

fn open(
    stack: &mut Stack,
    remotes: &[Arc<RemoteBdev>],
    options: &Options,
) -> io::Result<(Vec<Addr>, Vec<Geometry>)> {
    let block_bytes = remotes.first().map_or(4096, |remote| remote.geometry().block_bytes);
    let payload = options.workload.payload;
    if !payload.is_multiple_of(block_bytes as usize) {
        let reason = format!("payload must be a multiple of the namespace's {block_bytes} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
    }
    let open = |remote: &Arc<RemoteBdev>| {
        let bdev: Arc<dyn Bdev> = remote.clone();
        let addr = stack.open(&bdev, clock_ns()).map_err(io::Error::other)?;
        Ok((addr, remote.geometry()))
    };
    remotes.iter().map(open).collect()
}
