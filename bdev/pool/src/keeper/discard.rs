//! What nobody needs any more is given back to the devices below, piece after piece (`FORMAT.md`,
//! "Discarding").

use super::{Keeper, Member, Request};
use crate::superblock::EXTENT_BYTES;
use bdev::{AbortOnPanic, Discards};
use bdev_redb::Medium;
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Slots of a piece, which are not written to while it is discarded.
const SLOTS_AT_ONCE: u64 = 64;

/// And no more than this share of what is free.
const SHARE: u64 = 8;

/// After a piece nothing is discarded for so many times as long as it took, and no less than this: a
/// device is at it a quarter of its time at most, and a pool does 500 pieces in a second.
const REST: u32 = 3;
const LEAST_REST: Duration = Duration::from_millis(2);

/// Steps that a piece takes in a simulation, while everything else goes on.
const STEPS: u32 = 4;

/// Whether a pool gives its devices back what nobody needs any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiscardMode {
    /// To devices that do it well ([`Discards::Well`]).
    #[default]
    Auto,
    /// To all devices that can.
    On,
    /// To none.
    Off,
}

/// Of a device: what of it was given back, and is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscardStatus {
    /// It is given back what nobody needs.
    pub on: bool,
    /// Why, or why not: the end of a sentence.
    pub why: String,
    /// Bytes given back since the pool was opened.
    pub done: u64,
    /// Bytes that are free and may hold data: they are given back where it is on.
    pub waiting: u64,
}

/// A piece of a device.
struct Piece {
    medium: Arc<dyn Medium>,
    /// In bytes.
    at: u64,
    bytes: u64,
}

impl Piece {
    fn discard(&self) -> io::Result<()> {
        self.medium.discard(self.at, self.bytes)
    }
}

/// Who discards: the keeper has other things to do than to wait for that.
enum Worker {
    /// There was nothing to do so far.
    None,
    Thread {
        pieces: Sender<Piece>,
        ended: Receiver<io::Result<()>>,
        thread: JoinHandle<()>,
    },
    /// In a simulation: what is under way, and for how many steps.
    Stepped(Option<(Piece, u32)>),
}

/// See the module.
pub(super) struct Discarding {
    pub mode: DiscardMode,
    worker: Worker,
    /// The device, and bytes.
    under_way: Option<(u16, u64)>,
    /// The last piece is not long enough ago.
    rests: bool,
    /// The device that was last.
    last: u16,
    /// By device: bytes given back.
    done: BTreeMap<u16, u64>,
    /// By device: why no more is, until an operator says what he wants again.
    failed: BTreeMap<u16, String>,
}

impl Discarding {
    pub(super) fn new(mode: DiscardMode, is_stepped: bool) -> Discarding {
        Discarding {
            mode,
            worker: if is_stepped { Worker::Stepped(None) } else { Worker::None },
            under_way: None,
            rests: false,
            last: 0,
            done: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Whether a device is given back what nobody needs, and why; without numbers.
    pub(super) fn status(&self, number: u16, member: &Member) -> DiscardStatus {
        let (on, why) = self.judge(number, member);
        DiscardStatus { on, why, done: 0, waiting: 0 }
    }

    /// Bytes of a device that were given back.
    pub(super) fn done_on(&self, number: u16) -> u64 {
        self.done.get(&number).copied().unwrap_or(0)
    }

    /// Whether a device is given back what nobody needs, and why.
    fn judge(&self, number: u16, member: &Member) -> (bool, String) {
        if self.mode == DiscardMode::Off {
            return (false, "it is switched off for the pool".to_owned());
        }
        if let Some(why) = self.failed.get(&number) {
            return (false, why.clone());
        }
        let discards = member.bdev.discards();
        let on = match &discards {
            Discards::Well(_) => true,
            Discards::Badly(_) => self.mode == DiscardMode::On,
            Discards::Never(_) => false,
        };
        (on, discards.why().to_owned())
    }

    /// Has a piece discarded.
    ///
    /// # Errors
    /// There is no thread for it.
    fn begin(&mut self, piece: Piece, keeper: &Sender<Request>) -> io::Result<()> {
        if let Worker::None = self.worker {
            let (pieces, begun) = mpsc::channel();
            let (end, ended) = mpsc::channel();
            let keeper = keeper.clone();
            let thread = std::thread::Builder::new().name("discard".into());
            let thread = thread.spawn(move || {
                let _ends_the_process = AbortOnPanic;
                work(&begun, &end, &keeper);
            })?;
            self.worker = Worker::Thread { pieces, ended, thread };
        }
        match &mut self.worker {
            Worker::Stepped(under_way) => *under_way = Some((piece, STEPS)),
            Worker::Thread { pieces, .. } => {
                self.rests = true;
                pieces.send(piece).map_err(|_| io::Error::other("its thread has ended"))?;
            }
            Worker::None => unreachable!("made just now"),
        }
        Ok(())
    }
}

impl Drop for Discarding {
    /// The thread has ended afterwards, and uses no device.
    fn drop(&mut self) {
        if let Worker::Thread { pieces, thread, .. } =
            std::mem::replace(&mut self.worker, Worker::None)
        {
            drop(pieces);
            // A panic of it would have ended the process.
            let _ = thread.join();
        }
    }
}

/// Discards one piece after the other until there will be no more.
fn work(pieces: &Receiver<Piece>, ended: &Sender<io::Result<()>>, keeper: &Sender<Request>) {
    // A keeper that is gone waits for the end of this thread, which comes with that of the pieces.
    let tell = |request: Request| drop(keeper.send(request));
    while let Ok(piece) = pieces.recv() {
        let began = Instant::now();
        let result = piece.discard();
        let took = began.elapsed();
        drop(piece);
        drop(ended.send(result));
        tell(Request::Discarded);
        let rest = took.saturating_mul(REST).max(LEAST_REST);
        match pieces.recv_timeout(rest) {
            Err(RecvTimeoutError::Timeout) => tell(Request::Rested),
            Err(RecvTimeoutError::Disconnected) => return,
            Ok(_) => unreachable!("nothing is discarded while it rests"),
        }
    }
}

impl Keeper {
    /// Begins to discard a piece, if there is one and its time has come. Whether it did.
    pub(super) fn begin_discard(&mut self) -> bool {
        let Discarding { under_way, rests, last, .. } = &self.discarding;
        if *rests || under_way.is_some() || self.failed.is_some() {
            return false;
        }
        let after = (Bound::Excluded(*last), Bound::Unbounded);
        let mut in_turn = self.members.range(after).chain(self.members.range(..=*last));
        let next = in_turn.find(|(number, member)| {
            self.slots.stale_on(**number) > 0 && self.discarding.judge(**number, member).0
        });
        let Some((number, member)) = next else { return false };
        let (number, medium) = (*number, member.medium.clone());
        let most = (self.slots.free() / SHARE).clamp(1, SLOTS_AT_ONCE);
        let slots = self.slots.begin_discard(number, most).expect("some are stale");
        let at = member.superblock.data_offset + slots.start * EXTENT_BYTES;
        let bytes = (slots.end - slots.start) * EXTENT_BYTES;
        self.discarding.under_way = Some((number, bytes));
        self.discarding.last = number;
        let begun = self.discarding.begin(Piece { medium, at, bytes }, &self.own);
        if let Err(error) = begun {
            self.end_discard(Err(error));
        }
        true
    }

    /// A piece has been discarded, or not.
    fn end_discard(&mut self, result: io::Result<()>) {
        let Some((number, bytes)) = self.discarding.under_way.take() else { return };
        self.slots.end_discard(number, result.is_ok());
        match result {
            Ok(()) => *self.discarding.done.entry(number).or_default() += bytes,
            Err(error) => {
                let device = &self.members[&number].name;
                tracing::warn!(device, %error, "the device is given nothing back any more");
                self.discarding.failed.insert(number, format!("it failed: {error}"));
                self.describe_devices();
            }
        }
    }

    /// The thread has discarded a piece, unless it was waited for.
    pub(super) fn discarded(&mut self) {
        if let Worker::Thread { ended, .. } = &self.discarding.worker
            && let Ok(result) = ended.try_recv()
        {
            self.end_discard(result);
        }
    }

    /// More can be discarded.
    pub(super) fn rested(&mut self) {
        self.discarding.rests = false;
    }

    /// Waits for the end of what is being discarded, at most a piece. Whether anything was.
    pub(super) fn await_discard(&mut self) -> bool {
        if self.discarding.under_way.is_none() {
            return false;
        }
        let gone = || Err(io::Error::other("its thread has ended"));
        let result = match &mut self.discarding.worker {
            Worker::Thread { ended, .. } => ended.recv().unwrap_or_else(|_| gone()),
            Worker::Stepped(piece) => piece.take().map_or_else(gone, |(piece, _)| piece.discard()),
            Worker::None => unreachable!("somebody discards"),
        };
        self.end_discard(result);
        true
    }

    /// Nothing of a device is discarded any more: it is about to go.
    pub(super) fn end_discards_on(&mut self, device: u16) {
        if self.discarding.under_way.as_ref().is_some_and(|(number, _)| *number == device) {
            self.await_discard();
        }
        self.discarding.done.remove(&device);
        self.discarding.failed.remove(&device);
    }

    /// A step of discarding in a simulation. Whether there is more to do.
    pub(crate) fn step_discard(&mut self) -> bool {
        let Worker::Stepped(piece) = &mut self.discarding.worker else { return false };
        match piece {
            Some((_, steps @ 1..)) => *steps -= 1,
            Some(_) => drop(self.await_discard()),
            None => return self.begin_discard(),
        }
        true
    }

    /// Whether and to which devices is given back.
    pub(crate) fn set_discard(&mut self, mode: DiscardMode) {
        self.discarding.mode = mode;
        self.discarding.failed.clear();
        self.describe_devices();
    }
}
