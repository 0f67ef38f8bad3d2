//! A simulated drive as a bdev: latency, reordering, errors, torn writes.

use crate::block::BLOCK_BYTES;
use crate::media::Media;
use crate::plan::{Plan, Planted};
use crate::rng::Rng;
use bdev::{Addr, Bdev, Channel, Cx, DmaSlice, Geometry, Io, IoFlags, Op, OpenCx, OpenError, Tag};
use nvme_spec::Status;
use std::sync::{Arc, Mutex, MutexGuard};

/// How long after its answer a write takes effect with [`Planted::LateWrite`], in ns.
const LATE_NS: u64 = 3_000_000;

/// An operation in the drive.
struct Pending {
    channel: u32,
    due_ns: u64,
    op: Op,
    fua: bool,
    lba: u64,
    blocks: u32,
    data: DmaSlice,
    reply_to: Addr,
    reply_tag: Tag,
    /// What it ends with.
    status: Status,
    /// What a Flush covers.
    mark: u64,
    /// It has taken effect.
    applied: bool,
}

/// A drive. It outlives the node: power cuts and restarts do not replace it.
pub struct Drive {
    media: Media,
    rng: Rng,
    pending: Vec<Pending>,
    late: Vec<(u64, u64, Vec<[u8; BLOCK_BYTES]>)>,
    delay_ns: u64,
    errors: u64,
    planted: Option<Planted>,
    planted_left: u32,
    channels: u32,
}

/// A drive, shared by the channels of all reactors and by the simulation.
pub type SharedDrive = Arc<Mutex<Drive>>;

impl Drive {
    /// A new drive, all zeros.
    pub fn new(plan: &Plan, rng: Rng) -> Drive {
        Drive {
            media: Media::new(plan.blocks),
            rng,
            pending: Vec::new(),
            late: Vec::new(),
            delay_ns: plan.disk_delay_ns,
            errors: plan.errors,
            planted: plan.planted,
            planted_left: 12,
            channels: 0,
        }
    }

    /// Whether the planted bug is `bug` and strikes now: a few times a run.
    fn strikes(&mut self, bug: Planted) -> bool {
        let strikes = self.planted == Some(bug) && self.planted_left > 0 && self.rng.one_in(4);
        self.planted_left -= u32::from(strikes);
        strikes
    }

    fn submit(&mut self, channel: u32, io: Io, now_ns: u64) {
        let Io { op, flags, lba, blocks, data, .. } = io;
        let (reply_to, reply_tag) = io.into_parts();
        let slow = if self.rng.one_in(40) { 20 } else { 1 };
        let failing = self.errors > 0 && self.rng.one_in(self.errors);
        let status = match op {
            _ if !failing => Status::SUCCESS,
            Op::Read => Status::UNRECOVERED_READ,
            _ => Status::WRITE_FAULT,
        };
        let mut pending = Pending {
            channel,
            due_ns: now_ns + self.rng.within(1_000, self.delay_ns) * slow,
            op,
            fua: flags.has(IoFlags::FUA),
            lba,
            blocks,
            data,
            reply_to,
            reply_tag,
            status,
            mark: self.media.mark(),
            applied: false,
        };
        // A drive does its work at some time between submission and completion.
        if self.rng.coin() && op != Op::Flush {
            self.apply(&mut pending);
        }
        if self.rng.one_in(16) {
            self.media.write_back(&mut self.rng);
        }
        self.pending.push(pending);
    }

    /// Takes effect, wholly if it succeeds, in some of its blocks if it fails.
    fn apply(&mut self, io: &mut Pending) {
        if std::mem::replace(&mut io.applied, true) {
            return;
        }
        let through = io.fua && !self.strikes(Planted::LyingFua);
        let shift = u64::from(io.op == Op::Write && self.strikes(Planted::MisplacedWrite));
        match io.op {
            Op::Flush => {
                if io.status.is_success() && !self.strikes(Planted::LyingFlush) {
                    self.media.flush(io.mark);
                }
            }
            Op::Read => {
                for n in 0..u64::from(io.blocks) {
                    let block = self.media.read(io.lba + n);
                    io.data.copy_in(n as usize * BLOCK_BYTES, block);
                }
            }
            Op::Write | Op::WriteZeroes | Op::Deallocate => {
                if self.strikes(Planted::LostWrite) {
                    return;
                }
                for n in 0..u64::from(io.blocks) {
                    if io.status.is_success() || self.rng.coin() {
                        let lba = (io.lba + n + shift) % self.media.blocks();
                        self.media.write(lba, &block_of(io, n), through);
                    }
                }
            }
        }
    }

    /// Ends what is due on `channel`. Returns how much there was.
    fn harvest(&mut self, channel: u32, cx: &mut Cx<'_>) -> u32 {
        self.do_late(cx.now_ns());
        let mut work = 0;
        while let Some(at) = self.first_due(channel, cx.now_ns()) {
            let mut io = self.pending.swap_remove(at);
            work += 1;
            if self.strikes(Planted::LostCompletion) {
                continue;
            }
            if io.op == Op::Write && !io.applied && self.strikes(Planted::LateWrite) {
                let blocks = (0..u64::from(io.blocks)).map(|n| block_of(&io, n)).collect();
                self.late.push((cx.now_ns() + LATE_NS, io.lba, blocks));
            } else {
                self.apply(&mut io);
            }
            cx.complete_parts(io.reply_to, io.reply_tag, io.status);
            if self.strikes(Planted::DoubleCompletion) {
                cx.complete_parts(io.reply_to, io.reply_tag, io.status);
            }
        }
        work
    }

    fn first_due(&self, channel: u32, now_ns: u64) -> Option<usize> {
        let due = |io: &Pending| io.channel == channel && io.due_ns <= now_ns;
        let due = self.pending.iter().enumerate().filter(|(_, io)| due(io));
        due.min_by_key(|(_, io)| io.due_ns).map(|(at, _)| at)
    }

    fn do_late(&mut self, now_ns: u64) {
        while let Some(at) = self.late.iter().position(|(due_ns, ..)| *due_ns <= now_ns) {
            let (_, lba, blocks) = self.late.swap_remove(at);
            for (n, block) in blocks.iter().enumerate() {
                self.media.write(lba + n as u64, block, false);
            }
        }
    }

    /// The target is gone: what it had under way happens, or not, block by block.
    pub fn lose_target(&mut self) {
        for mut io in std::mem::take(&mut self.pending) {
            // Like a failure: in some of its blocks.
            io.status = Status::INTERNAL_ERROR;
            if matches!(io.op, Op::Write | Op::WriteZeroes | Op::Deallocate) {
                self.apply(&mut io);
            }
        }
        self.channels = 0;
    }

    /// The power goes.
    pub fn lose_power(&mut self) {
        self.lose_target();
        self.late.clear();
        if self.planted == Some(Planted::TornBlock) {
            self.tear_blocks();
        }
        self.media.lose_power(&mut self.rng);
    }

    /// Breaks the promise that a block is written as a whole.
    fn tear_blocks(&mut self) {
        for lba in 0..self.media.blocks() {
            let mut block = *self.media.read(lba);
            if block[0] != 0 && self.rng.coin() {
                block[BLOCK_BYTES / 2..].fill(0);
                self.media.write(lba, &block, true);
            }
        }
    }

    /// Operations in the drive.
    pub fn outstanding(&self) -> usize {
        self.pending.len()
    }
}

/// Block number `n` of what an operation writes.
fn block_of(io: &Pending, n: u64) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    if io.op == Op::Write {
        io.data.copy_out(n as usize * BLOCK_BYTES, &mut block);
    }
    block
}

/// The drive as a bdev.
pub struct SimDisk {
    drive: SharedDrive,
    geometry: Geometry,
}

impl SimDisk {
    /// The bdev of `drive`.
    pub fn new(drive: SharedDrive) -> SimDisk {
        let blocks = locked(&drive).media.blocks();
        let plain = Geometry::plain(BLOCK_BYTES as u32, blocks);
        SimDisk { drive, geometry: Geometry { volatile_cache: true, deallocates: true, ..plain } }
    }
}

fn locked(drive: &SharedDrive) -> MutexGuard<'_, Drive> {
    drive.lock().expect("one thread runs a simulation")
}

impl Bdev for SimDisk {
    fn geometry(&self) -> Geometry {
        self.geometry.clone()
    }

    fn open(&self, _cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        let mut drive = locked(&self.drive);
        drive.channels += 1;
        Ok(Box::new(SimChannel {
            drive: self.drive.clone(),
            number: drive.channels,
            geometry: self.geometry.clone(),
        }))
    }
}

struct SimChannel {
    drive: SharedDrive,
    number: u32,
    geometry: Geometry,
}

impl Channel for SimChannel {
    fn submit(&mut self, io: Io, cx: &mut Cx<'_>) {
        assert!(
            io.op == Op::Flush || self.geometry.contains(io.lba, u64::from(io.blocks)),
            "the target checks ranges"
        );
        locked(&self.drive).submit(self.number, io, cx.now_ns());
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> u32 {
        locked(&self.drive).harvest(self.number, cx)
    }

    fn polled(&self) -> bool {
        true
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        let drive = locked(&self.drive);
        drive.pending.iter().filter(|io| io.channel == self.number).map(|io| io.due_ns).min()
    }

    fn outstanding(&self) -> u32 {
        let drive = locked(&self.drive);
        drive.pending.iter().filter(|io| io.channel == self.number).count() as u32
    }
}
