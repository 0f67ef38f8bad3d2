//! A device as the thread of a pool uses it: reads, writes and flushes that block, through the
//! channel that one reactor has of the bdev. The device is opened once for volumes and metadata.
//!
//! A pool's thread waits as long as the device takes: a write that was given up on could land after
//! the pool was opened again, over what was written then. That it waits, and since when, can be read
//! at any time ([`BdevMedium::silence`]). Whoever only tries a device waits for a while
//! ([`BdevMedium::takes_zeros`]).

use bdev::{Bdev, DmaSlice, IoFlags, Op};
use bdev_pool::{BLOCK_BYTES, Medium};
use reactor::Handle;
use reactor::client::{Buffer, Client, Operation, Silence, Size, Unanswered};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of memory that data is carried in, each piece of it.
const STAGE_BYTES: usize = 128 << 10;

/// How many of them a device has, of its reactor's memory: together 128 blocks, and so many
/// operations of one call at once. A pool leaves 256 places of each channel to its metadata and to
/// flushes.
const STAGES: u32 = 4;

const OPERATIONS: u32 = STAGES * (STAGE_BYTES / BLOCK_BYTES) as u32;

/// How long whoever tries a device waits for it.
const TRY: Duration = Duration::from_secs(5);

/// How long it is waited for that the reactor lets go of a device.
const CLOSE: Duration = Duration::from_secs(30);

/// One operation of a call.
type Step = (usize, Operation, Option<Buffer>);

/// Who has a client now.
enum Seat {
    Free(Box<Client>),
    Taken,
    Closed,
}

/// The way of one call at a time to the channel. The lock is held by nobody who waits for the device.
struct Line {
    seat: Mutex<Seat>,
    left: Condvar,
    silence: Arc<Silence>,
}

/// A client for the time of a call.
struct Turn<'a> {
    line: &'a Line,
    client: Option<Box<Client>>,
}

impl Line {
    fn new(client: Client) -> Line {
        let silence = client.silence();
        Line { seat: Mutex::new(Seat::Free(Box::new(client))), left: Condvar::new(), silence }
    }

    fn seat(&self) -> MutexGuard<'_, Seat> {
        // Whoever panicked with it has changed nothing by halves.
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client, when whoever has it has given it back: until then, or without end.
    fn turn(&self, until: Option<Instant>) -> io::Result<Turn<'_>> {
        let mut seat = self.seat();
        loop {
            match std::mem::replace(&mut *seat, Seat::Taken) {
                Seat::Free(client) => return Ok(Turn { line: self, client: Some(client) }),
                Seat::Closed => {
                    *seat = Seat::Closed;
                    return Err(io::Error::other("the device is closed"));
                }
                Seat::Taken => {}
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            seat = match left {
                None => self.left.wait(seat).unwrap_or_else(PoisonError::into_inner),
                Some(left) if left.is_zero() => return Err(in_words(Unanswered::Late)),
                Some(left) => {
                    self.left.wait_timeout(seat, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Calls fail from now on. Waits until the reactor has let go; not for a call that is under way,
    /// after which it does.
    fn close(&self) -> bool {
        let before = std::mem::replace(&mut *self.seat(), Seat::Closed);
        self.left.notify_all();
        match before {
            Seat::Free(client) => client.close(Some(Instant::now() + CLOSE)),
            Seat::Taken => false,
            Seat::Closed => true,
        }
    }
}

impl Turn<'_> {
    fn client(&mut self) -> &mut Client {
        self.client.as_mut().expect("it has it until it ends")
    }

    /// Submits all of `steps` and waits for all of them: until then, or without end.
    fn carry(&mut self, steps: Vec<Step>, until: Option<Instant>) -> io::Result<()> {
        match self.client().carry(steps, until) {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) => Err(io::Error::other(format!("the device answered {status}"))),
            Err(why) => Err(in_words(why)),
        }
    }

    /// The stages that are free: all, unless a call before has given up; one at least.
    fn stages(&mut self, until: Option<Instant>) -> io::Result<Vec<Buffer>> {
        let client = self.client();
        loop {
            while client.poll().is_some() {}
            let stages: Vec<Buffer> = std::iter::from_fn(|| client.take()).collect();
            if !stages.is_empty() {
                return Ok(stages);
            }
            client.wait(until).map_err(in_words)?;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut seat = self.line.seat();
        if let Seat::Taken = *seat
            && let Some(client) = self.client.take()
        {
            *seat = Seat::Free(client);
        }
        drop(seat);
        // It was closed meanwhile: the client is dropped without the lock.
        drop(self.client.take());
        self.line.left.notify_one();
    }
}

fn in_words(why: Unanswered) -> io::Error {
    match why {
        Unanswered::Late => io::Error::new(io::ErrorKind::TimedOut, "the device has not answered"),
        Unanswered::Gone => io::Error::other("the reactor has ended"),
    }
}

/// See the module.
pub(crate) struct BdevMedium {
    bdev: Arc<dyn Bdev>,
    reactor: usize,
    line: Line,
    /// For discards, which nobody else waits for.
    discards: Line,
    /// A flush failed: what was written before may be lost.
    lost: AtomicBool,
}

impl std::fmt::Debug for BdevMedium {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BdevMedium").field("reactor", &self.reactor).finish()
    }
}

impl BdevMedium {
    /// Opens `bdev` on `reactor`.
    ///
    /// # Errors
    /// What the bdev said, or that there is no memory.
    pub(crate) fn open(bdev: Arc<dyn Bdev>, reactor: Handle) -> Result<BdevMedium, String> {
        let size = Size { depth: OPERATIONS, buffers: STAGES, buffer_bytes: STAGE_BYTES };
        let line = Line::new(Client::open(&reactor, vec![bdev.clone()], size)?);
        let size = Size { depth: 1, buffers: 0, buffer_bytes: 0 };
        let discards = Line::new(Client::open(&reactor, vec![bdev.clone()], size)?);
        let (reactor, lost) = (reactor.number(), AtomicBool::new(false));
        Ok(BdevMedium { bdev, reactor, line, discards, lost })
    }

    /// Closes the channel and gives the memory back. Calls fail from now on.
    pub(crate) fn close(&self) {
        if !(self.discards.close() & self.line.close()) {
            tracing::error!(
                "a device of a pool does not answer; its channel stays open until then"
            );
        }
    }

    /// Whether a flush failed.
    pub(crate) fn has_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// How long the device has not answered what the pool's thread asked it; none if nothing is asked.
    /// Waits for nobody.
    pub(crate) fn silence(&self) -> Option<Duration> {
        self.line.silence.span()
    }

    /// Whether the device takes a write of zeros to a block that always holds zeros: that it may be
    /// written when nobody waits for it any more changes nothing.
    pub(crate) fn takes_zeros(&self, at: u64) -> bool {
        let until = Instant::now() + TRY;
        self.write_until(&[(at, &[0; BLOCK_BYTES])], Some(until)).is_ok()
    }

    /// An operation on the bytes from `at` on that `data` is as long as.
    fn operation(&self, op: Op, at: u64, data: DmaSlice) -> Operation {
        let block_bytes = self.bdev.geometry().block_bytes;
        let blocks = data.len() as u32 / block_bytes;
        Operation::new(op, at / u64::from(block_bytes), blocks, data)
    }

    /// Reads into as many stages as there are, and copies from them. Returns how much it was.
    fn read_some(&self, turn: &mut Turn<'_>, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let stages = turn.stages(None)?;
        let mut pieces = Vec::new();
        for (from, stage) in (0..into.len()).step_by(STAGE_BYTES).zip(&stages) {
            let data = stage.slice().sub(0, STAGE_BYTES.min(into.len() - from));
            pieces.push((from, data, stage));
        }
        let step = |(from, data, stage): &(usize, DmaSlice, &Buffer)| {
            (0, self.operation(Op::Read, at + *from as u64, *data), Some((*stage).clone()))
        };
        turn.carry(pieces.iter().map(step).collect(), None)?;
        let mut done = 0;
        for (from, data, _) in pieces {
            data.copy_out(0, &mut into[from..from + data.len()]);
            done = from + data.len();
        }
        Ok(done)
    }

    fn write_until(&self, pieces: &[(u64, &[u8])], until: Option<Instant>) -> io::Result<()> {
        let mut turn = self.line.turn(until)?;
        let mut stages = turn.stages(until)?;
        let (mut steps, mut place) = (Vec::new(), Place::default());
        for (at, bytes) in pieces {
            let mut done = 0;
            while done < bytes.len() {
                if place.used == STAGE_BYTES {
                    place = Place { stage: place.stage + 1, used: 0 };
                }
                if place.stage == stages.len() {
                    drop(stages);
                    turn.carry(std::mem::take(&mut steps), until)?;
                    (stages, place) = (turn.stages(until)?, Place::default());
                }
                let now = (bytes.len() - done).min(STAGE_BYTES - place.used);
                let stage = &stages[place.stage];
                let data = stage.slice().sub(place.used, now);
                data.copy_in(0, &bytes[done..done + now]);
                let operation = self.operation(Op::Write, at + done as u64, data);
                steps.push((0, operation, Some(stage.clone())));
                place.used += now;
                done += now;
            }
        }
        if steps.is_empty() { Ok(()) } else { turn.carry(steps, until) }
    }
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
        let mut turn = self.line.turn(None)?;
        let mut done = 0;
        while done < into.len() {
            done += self.read_some(&mut turn, at + done as u64, &mut into[done..])?;
        }
        Ok(())
    }

    fn write(&self, pieces: &[(u64, &[u8])]) -> io::Result<()> {
        self.write_until(pieces, None)
    }

    fn flush(&self) -> io::Result<()> {
        let mut turn = self.line.turn(None)?;
        let flushed = turn.carry(vec![(0, Operation::flush(), None)], None);
        self.lost.fetch_or(flushed.is_err(), Ordering::Relaxed);
        flushed
    }

    /// Where the bdev has a way that waits, no reactor has to do with it.
    fn discard(&self, at: u64, bytes: u64) -> io::Result<()> {
        let block_bytes = u64::from(self.bdev.geometry().block_bytes);
        let (lba, blocks) = (at / block_bytes, bytes / block_bytes);
        if let Some(done) = self.bdev.discard(lba, blocks) {
            return done;
        }
        let blocks = u32::try_from(blocks).map_err(|_| io::ErrorKind::InvalidInput)?;
        let discard = Operation::new(Op::Deallocate, lba, blocks, DmaSlice::EMPTY);
        let discard = discard.with(IoFlags::ANY_CONTENT);
        self.discards.turn(None)?.carry(vec![(0, discard, None)], None)
    }
}
