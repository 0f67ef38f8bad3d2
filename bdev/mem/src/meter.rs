//! A layer that counts what a bdev does, and how long it takes.

use bdev::latency::{Latencies, Latency};
use bdev::{Addr, Bdev, Channel, Counter, Cx, Done, Geometry, Home, Io, Op, OpenCx, OpenError};
use bdev::{Slab, Tag};
use nvme_spec::Status;
use std::io;
use std::sync::Arc;

/// What one reactor has done on a bdev, on cache lines of its own: one writer, any readers.
///
/// Times are by the clock of turns ([`Cx::now_ns`]), which is read once a turn and not once an
/// operation: each is exact to a turn, and what ends in the turn that it began in counts as 0.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Meters {
    /// Reads that succeeded.
    pub reads: Counter,
    /// Writes that succeeded.
    pub writes: Counter,
    /// Other operations that succeeded: Write Zeroes, Deallocate, Flush.
    pub others: Counter,
    /// Bytes of the reads.
    pub read_bytes: Counter,
    /// Bytes of the writes.
    pub write_bytes: Counter,
    /// Operations that ended with a status other than success.
    pub errors: Counter,
    /// Operations under way now.
    pub under_way: Counter,
    /// How long reads and writes took.
    pub latencies: Latencies,
}

impl Meters {
    fn begin(&self) {
        self.under_way.add(1);
    }

    fn end(&self, taken: &Taken, status: Status, now_ns: u64) {
        self.under_way.set(self.under_way.get() - 1);
        if !status.is_success() {
            return self.errors.add(1);
        }
        let took_ns = now_ns.saturating_sub(taken.began_ns);
        let count = |operations: &Counter, bytes: &Counter, times: &Latency| {
            operations.add(1);
            bytes.add(u64::from(taken.bytes));
            times.add(took_ns);
        };
        match taken.op {
            Op::Read => count(&self.reads, &self.read_bytes, &self.latencies.reads),
            Op::Write => count(&self.writes, &self.write_bytes, &self.latencies.writes),
            Op::WriteZeroes | Op::Deallocate | Op::Flush => self.others.add(1),
        }
    }
}

/// Passes every operation on and counts it when it ends. The counts are the bdev's own, whoever has
/// it open, and go on when it is opened again.
pub struct Meter {
    child: Arc<dyn Bdev>,
    reactors: Arc<[Meters]>,
}

impl Meter {
    /// A layer over `child`, for use on as many reactors.
    pub fn new(child: Arc<dyn Bdev>, reactors: usize) -> Meter {
        Meter { child, reactors: (0..reactors).map(|_| Meters::default()).collect() }
    }

    /// What was done, by reactor.
    pub fn reactors(&self) -> &[Meters] {
        &self.reactors
    }
}

impl Bdev for Meter {
    fn geometry(&self) -> Geometry {
        Geometry { direct_access: false, ..self.child.geometry() }
    }

    fn home(&self) -> Home {
        self.child.home()
    }

    fn children(&self) -> Vec<Arc<dyn Bdev>> {
        vec![self.child.clone()]
    }

    fn discard(&self, lba: u64, blocks: u64) -> Option<io::Result<()>> {
        self.child.discard(lba, blocks)
    }

    fn open(&self, cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        if cx.reactor >= self.reactors.len() {
            return Err(OpenError(format!("nothing is counted for reactor {}", cx.reactor)));
        }
        Ok(Box::new(MeterChannel {
            child: cx.children[0],
            block_bytes: self.child.geometry().block_bytes,
            under_way: Slab::growing(cx.limit),
            reactors: self.reactors.clone(),
            reactor: cx.reactor,
        }))
    }
}

/// An operation that was passed on.
struct Taken {
    reply: (Addr, Tag),
    op: Op,
    bytes: u32,
    began_ns: u64,
}

struct MeterChannel {
    child: Addr,
    block_bytes: u32,
    under_way: Slab<Taken>,
    reactors: Arc<[Meters]>,
    reactor: usize,
}

impl Channel for MeterChannel {
    fn submit(&mut self, io: Io, cx: &mut Cx<'_>) {
        let Io { op, flags, lba, blocks, data, .. } = io;
        let bytes = blocks.saturating_mul(self.block_bytes);
        let taken = Taken { reply: io.into_parts(), op, bytes, began_ns: cx.now_ns() };
        let place = self.under_way.insert(taken);
        let place = place.unwrap_or_else(|_| panic!("more operations than the channel's limit"));
        self.reactors[self.reactor].begin();
        cx.submit(self.child, op, flags, lba, blocks, data, Tag(u64::from(place)));
    }

    fn complete(&mut self, done: Done, cx: &mut Cx<'_>) {
        let taken = self.under_way.remove(done.tag.0 as u32).expect("ends once");
        self.reactors[self.reactor].end(&taken, done.status, cx.now_ns());
        cx.complete_parts(taken.reply.0, taken.reply.1, done.status);
    }

    fn outstanding(&self) -> u32 {
        self.under_way.len()
    }
}
