//! A device as the thread of a pool uses it: reads, writes and flushes that block, through the
//! channel that one reactor has of the bdev. The device is opened once for volumes and metadata.

use bdev::{Addr, Bdev, DmaBuf, DmaSlice, Done, Edge, EdgeCx, Io, IoFlags, Memory, Op, Tag};
use bdev_pool::{BLOCK_BYTES, Medium};
use nvme_spec::Status;
use reactor::{Handle, Reactor};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of memory that data is carried in, each piece of it.
const STAGE_BYTES: usize = 128 << 10;

/// How many of them a device has, of its reactor's memory: together 128 blocks, and so many
/// operations of one call at once. A pool leaves 256 places of each channel to its metadata and to
/// flushes.
const STAGES: usize = 4;

/// One operation of a call.
struct Step {
    op: Op,
    flags: IoFlags,
    lba: u64,
    blocks: u32,
    data: DmaSlice,
}

/// Hears of the ends of operations, on the reactor, and tells of the last one of a call. Each
/// operation's tag is the number of operations in its call.
struct Courier {
    ended: u64,
    failed: Option<Status>,
    report: Sender<Status>,
}

impl Edge for Courier {
    fn poll(&mut self, _cx: &mut EdgeCx<'_>) -> u32 {
        0
    }

    fn done(&mut self, done: Done, _cx: &mut EdgeCx<'_>) {
        self.ended += 1;
        if !done.status.is_success() {
            self.failed.get_or_insert(done.status);
        }
        if self.ended == done.tag.0 {
            self.ended = 0;
            // Whoever called waits: the medium outlives its calls.
            let _ = self.report.send(self.failed.take().unwrap_or(Status::SUCCESS));
        }
    }
}

/// The way of one call at a time to the channel.
struct Line {
    channel: Addr,
    edge: Addr,
    ended: Receiver<Status>,
}

impl Line {
    fn new(channel: Addr, reactor: &mut Reactor) -> Line {
        let (report, ended) = self::channel();
        let courier = Courier { ended: 0, failed: None, report };
        Line { channel, edge: reactor.add_edge(Box::new(courier)), ended }
    }
}

/// What is open on the reactor.
struct Port {
    /// What the stages are of: it stays mapped while they are used, whatever ends first.
    _memory: Arc<Memory>,
    line: Line,
    stages: Vec<DmaBuf>,
}

/// See the module.
pub(crate) struct BdevMedium {
    bdev: Arc<dyn Bdev>,
    reactor: Handle,
    /// One call at a time. `None`: it is closed.
    port: Mutex<Option<Port>>,
    /// For discards, which nobody else waits for.
    discards: Mutex<Option<Line>>,
    /// A flush failed: what was written before may be lost.
    lost: AtomicBool,
}

impl std::fmt::Debug for BdevMedium {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BdevMedium").field("reactor", &self.reactor.number()).finish()
    }
}

impl BdevMedium {
    /// Opens `bdev` on `reactor`.
    ///
    /// # Errors
    /// What the bdev said, or that there is no memory.
    pub(crate) fn open(bdev: Arc<dyn Bdev>, reactor: Handle) -> Result<BdevMedium, String> {
        let of = bdev.clone();
        let opened = reactor.call(move |reactor: &mut Reactor| {
            let stages: Vec<DmaBuf> =
                (0..STAGES).map_while(|_| reactor.pool.take(STAGE_BYTES)).collect();
            if stages.is_empty() {
                return Err("there is no memory left on the reactor: raise reactors.memory".into());
            }
            match reactor.stack.open(&of, reactor.now_ns()) {
                Ok(channel) => {
                    let (line, discards) =
                        (Line::new(channel, reactor), Line::new(channel, reactor));
                    let _memory = reactor.pool.memory().clone();
                    Ok((Port { _memory, line, stages }, discards))
                }
                Err(error) => {
                    stages.into_iter().for_each(|stage| reactor.pool.give(stage));
                    Err(error.0)
                }
            }
        });
        let opened = opened.unwrap_or_else(|| Err("the reactor has ended".to_owned()))?;
        let (port, discards) = (Mutex::new(Some(opened.0)), Mutex::new(Some(opened.1)));
        Ok(BdevMedium { bdev, reactor, port, discards, lost: AtomicBool::new(false) })
    }

    /// Closes the channel and gives the memory back. Calls fail from now on.
    pub(crate) fn close(&self) {
        let discards = lock(&self.discards).take();
        let Some(Port { line, stages, .. }) = lock(&self.port).take() else { return };
        self.reactor.call(move |reactor: &mut Reactor| {
            for edge in [line.edge].into_iter().chain(discards.map(|line| line.edge)) {
                reactor.remove_edge(edge);
            }
            reactor.stack.close(line.channel);
            stages.into_iter().for_each(|stage| reactor.pool.give(stage));
        });
    }

    /// Whether a flush failed.
    pub(crate) fn has_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Does what `f` does with the port, one call at a time.
    fn with(&self, f: impl FnOnce(&Port) -> io::Result<()>) -> io::Result<()> {
        lock(&self.port).as_ref().map_or_else(closed, f)
    }

    /// Submits all of `steps` and waits for all of them.
    fn carry(&self, line: &Line, steps: Vec<Step>) -> io::Result<()> {
        let (channel, reply_to) = (line.channel, line.edge);
        let reply_tag = Tag(steps.len() as u64);
        self.reactor.send(Box::new(move |reactor: &mut Reactor| {
            for Step { op, flags, lba, blocks, data } in steps {
                let io = Io { op, flags, lba, blocks, data, reply_to, reply_tag };
                reactor.stack.submit(channel, io, reactor.now_ns());
            }
        }));
        match line.ended.recv() {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) => Err(io::Error::other(format!("the device answered {status}"))),
            Err(_) => Err(io::Error::other("the reactor has ended")),
        }
    }

    /// An operation on the bytes from `at` on that `data` is as long as.
    fn step(&self, op: Op, at: u64, data: DmaSlice) -> Step {
        let block_bytes = self.bdev.geometry().block_bytes;
        let blocks = data.len() as u32 / block_bytes;
        let (flags, lba) = (IoFlags::NONE, at / u64::from(block_bytes));
        Step { op, flags, lba, blocks, data }
    }

    /// Reads into as many stages as there are, and copies from them.
    fn read_some(&self, port: &Port, at: u64, into: &mut [u8]) -> io::Result<()> {
        let pieces = || {
            let lengths = (0..into.len()).step_by(STAGE_BYTES);
            lengths.zip(&port.stages).map(|(from, stage)| {
                let bytes = STAGE_BYTES.min(into.len() - from);
                (from, stage.slice().sub(0, bytes))
            })
        };
        let steps = pieces().map(|(from, data)| self.step(Op::Read, at + from as u64, data));
        self.carry(&port.line, steps.collect())?;
        let filled: Vec<(usize, DmaSlice)> = pieces().collect();
        for (from, data) in filled {
            data.copy_out(0, &mut into[from..from + data.len()]);
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed() -> io::Result<()> {
    Err(io::Error::other("the device is closed"))
}

/// Where the next bytes to be written are put: stage and offset.
#[derive(Default)]
struct Place {
    stage: usize,
    used: usize,
}

impl Medium for BdevMedium {
    fn bytes(&self) -> u64 {
        let bytes = self.bdev.geometry().bytes();
        bytes - bytes % BLOCK_BYTES as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.with(|port| {
            let most = STAGE_BYTES * port.stages.len();
            let mut offsets = (at..).step_by(most);
            into.chunks_mut(most).try_for_each(|chunk| {
                let at = offsets.next().expect("without end");
                self.read_some(port, at, chunk)
            })
        })
    }

    fn write(&self, pieces: &[(u64, &[u8])]) -> io::Result<()> {
        self.with(|port| {
            let mut steps = Vec::new();
            let mut place = Place::default();
            for (at, bytes) in pieces {
                let mut done = 0;
                while done < bytes.len() {
                    if place.used == STAGE_BYTES {
                        place = Place { stage: place.stage + 1, used: 0 };
                    }
                    if place.stage == port.stages.len() {
                        self.carry(&port.line, std::mem::take(&mut steps))?;
                        place = Place::default();
                    }
                    let now = (bytes.len() - done).min(STAGE_BYTES - place.used);
                    let data = port.stages[place.stage].slice().sub(place.used, now);
                    data.copy_in(0, &bytes[done..done + now]);
                    steps.push(self.step(Op::Write, at + done as u64, data));
                    place.used += now;
                    done += now;
                }
            }
            if steps.is_empty() { Ok(()) } else { self.carry(&port.line, steps) }
        })
    }

    fn flush(&self) -> io::Result<()> {
        self.with(|port| {
            let flushed = self.carry(&port.line, vec![self.step(Op::Flush, 0, DmaSlice::EMPTY)]);
            self.lost.fetch_or(flushed.is_err(), Ordering::Relaxed);
            flushed
        })
    }

    /// Where the bdev has a way that waits, no reactor has to do with it.
    fn discard(&self, at: u64, bytes: u64) -> io::Result<()> {
        let block_bytes = u64::from(self.bdev.geometry().block_bytes);
        let (lba, blocks) = (at / block_bytes, bytes / block_bytes);
        if let Some(done) = self.bdev.discard(lba, blocks) {
            return done;
        }
        let blocks = u32::try_from(blocks).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (op, flags, data) = (Op::Deallocate, IoFlags::ANY_CONTENT, DmaSlice::EMPTY);
        let discard = Step { op, flags, lba, blocks, data };
        lock(&self.discards).as_ref().map_or_else(closed, |line| self.carry(line, vec![discard]))
    }
}
