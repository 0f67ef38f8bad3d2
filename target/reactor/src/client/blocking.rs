//! The part of a client that is on another thread, and what the two tell each other.

use super::edge::{Channels, Driver, Ended, Operation, Submitter, drive};
use crate::{Handle, Reactor};
use bdev::sleep::{Signal, Sleeper, clock_ns};
use bdev::spsc::{Consumer, Producer, ring};
use bdev::wake::WakeFlag;
use bdev::{Addr, Bdev, DmaBuf, DmaSlice, Memory, Slab};
use nvme_spec::Status;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How large a client is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Operations under way at once.
    pub depth: u32,
    /// Buffers of the reactor's memory, which it has for as long as it is open: so many, or as many
    /// as there are.
    pub buffers: u32,
    /// Bytes of each.
    pub buffer_bytes: usize,
}

/// Why there is no end of an operation to be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// It did not come in time. The operation is under way, and its buffer used, until it does.
    Late,
    /// The reactor has ended, and nothing will come any more.
    Gone,
}

/// Every place is taken: the operation is submitted again when one under way has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A buffer of a client, and of every clone of this: it can be taken again when all of them are gone.
#[derive(Clone, Debug)]
pub struct Buffer {
    slice: DmaSlice,
    uses: Arc<()>,
}

impl Buffer {
    /// Its memory. What is under way with it is given a clone.
    pub fn slice(&self) -> DmaSlice {
        self.slice
    }
}

/// The end of an operation, on the thread that submitted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// As it was submitted.
    pub tag: u64,
    /// How it ended.
    pub status: Status,
}

/// Since when a client waits, for anybody to read.
#[derive(Debug, Default)]
pub struct Silence {
    /// When the last operation ended while others were under way, or the first was submitted, in ns
    /// of the monotonic clock. 0: nothing is under way.
    since_ns: AtomicU64,
}

impl Silence {
    /// How long operations have been under way without that one of them ended.
    pub fn span(&self) -> Option<Duration> {
        let since_ns = self.since_ns.load(Ordering::Relaxed);
        (since_ns != 0).then(|| Duration::from_nanos(clock_ns().saturating_sub(since_ns)))
    }

    fn set(&self, is_waiting: bool) {
        self.since_ns.store(if is_waiting { clock_ns() } else { 0 }, Ordering::Relaxed);
    }
}

/// From the thread to the reactor.
struct Asked {
    channel: usize,
    operation: Operation,
    place: u32,
}

/// And back.
struct Answered {
    place: u32,
    status: Status,
}

struct Shared {
    /// Of the thread.
    flag: WakeFlag,
    signal: Signal,
    /// The thread wants no more.
    closing: AtomicBool,
    /// The reactor has nothing of it any more.
    gone: AtomicBool,
    edge: OnceLock<Addr>,
}

impl Shared {
    fn wake(&self) {
        if self.flag.must_wake() {
            self.signal.raise();
        }
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}

struct Pending {
    tag: u64,
    _buffer: Option<Buffer>,
}

/// I/O of one thread to bdevs of a reactor, without being a host: see [`crate::client`].
pub struct Client {
    handle: Handle,
    shared: Arc<Shared>,
    to_reactor: Producer<Asked>,
    from_reactor: Consumer<Answered>,
    pending: Slab<Pending>,
    buffers: Vec<Buffer>,
    /// What buffers are of: it stays mapped, whatever ends first.
    _memory: Arc<Memory>,
    silence: Arc<Silence>,
    sleeper: Sleeper,
    /// The number of the last call of [`Client::carry`].
    batch: u64,
}

impl Client {
    /// Opens `bdevs` on a reactor, where they can be opened ([`crate::hop::local`]): channels of the
    /// client in this order.
    ///
    /// # Errors
    /// What a bdev said, that there is no memory, or that the reactor has ended: a sentence.
    pub fn open(handle: &Handle, bdevs: Vec<Arc<dyn Bdev>>, size: Size) -> Result<Client, String> {
        Client::start(handle, size, move |reactor: &mut Reactor| {
            let mut addrs = Vec::new();
            for bdev in &bdevs {
                match reactor.stack.open(bdev, reactor.now_ns()) {
                    Ok(addr) => addrs.push(addr),
                    Err(error) => {
                        addrs.into_iter().for_each(|addr| reactor.stack.close(addr));
                        return Err(error.0);
                    }
                }
            }
            Ok(Channels::Own(addrs))
        })
    }

    /// A client of channels that are open already and are closed after it.
    ///
    /// # Errors
    /// As of [`Client::open`].
    pub fn over(handle: &Handle, channels: Vec<Addr>, size: Size) -> Result<Client, String> {
        Client::start(handle, size, move |_: &mut Reactor| Ok(Channels::Lent(channels)))
    }

    fn start(
        handle: &Handle,
        size: Size,
        channels: impl FnOnce(&mut Reactor) -> Result<Channels, String> + Send + 'static,
    ) -> Result<Client, String> {
        let places = (size.depth as usize).next_power_of_two();
        let ((to_reactor, asked), (answered, from_reactor)) = (ring(places), ring(places));
        let signal = Signal::new().map_err(|error| format!("no descriptor is left: {error}"))?;
        let shared = Arc::new(Shared {
            flag: WakeFlag::new(),
            signal,
            closing: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            edge: OnceLock::new(),
        });
        let theirs = shared.clone();
        let opened = handle.call(move |reactor: &mut Reactor| {
            let leased = lease(reactor, size)?;
            let slices: Vec<DmaSlice> = leased.iter().map(DmaBuf::slice).collect();
            let channels = match channels(reactor) {
                Ok(channels) => channels,
                Err(error) => {
                    leased.into_iter().for_each(|buffer| reactor.pool.give(buffer));
                    return Err(error);
                }
            };
            let handle = reactor.handle().clone();
            let shared = theirs.clone();
            let (rang, ended) = (false, false);
            let end = ReactorEnd { asked, answered, shared, leased, handle, rang, ended };
            let edge = drive(reactor, channels, size.depth, end);
            theirs.edge.set(edge).expect("a client is opened once");
            Ok((slices, reactor.pool.memory().clone()))
        });
        let (slices, _memory) = opened.unwrap_or_else(|| Err("the reactor has ended".into()))?;
        let buffer = |slice| Buffer { slice, uses: Arc::new(()) };
        Ok(Client {
            handle: handle.clone(),
            shared,
            to_reactor,
            from_reactor,
            pending: Slab::growing(size.depth),
            buffers: slices.into_iter().map(buffer).collect(),
            _memory,
            silence: Arc::default(),
            sleeper: Sleeper::default(),
            batch: 0,
        })
    }

    /// A buffer that nobody uses; none while all are used.
    pub fn take(&mut self) -> Option<Buffer> {
        self.buffers.iter_mut().find_map(|buffer| {
            let is_free = Arc::get_mut(&mut buffer.uses).is_some();
            is_free.then(|| buffer.clone())
        })
    }

    /// Submits an operation to channel number `channel`. `buffer`, if its data is in one, is used
    /// until it has ended, whether somebody waits for that or not. Never waits.
    ///
    /// # Errors
    /// That as many are under way as there may be.
    ///
    /// # Panics
    /// If there is no such channel: on the reactor.
    pub fn submit(
        &mut self,
        channel: usize,
        operation: Operation,
        buffer: Option<Buffer>,
        tag: u64,
    ) -> Result<(), Full> {
        let was_idle = self.pending.is_empty();
        let pending = Pending { tag, _buffer: buffer };
        let Ok(place) = self.pending.insert(pending) else { return Err(Full) };
        let sent = self.to_reactor.push(Asked { channel, operation, place });
        assert!(sent.is_ok(), "the ring holds as many operations as there are places");
        if was_idle {
            self.silence.set(true);
        }
        self.handle.wake();
        Ok(())
    }

    /// How many operations are under way.
    pub fn under_way(&self) -> u32 {
        self.pending.len()
    }

    /// An operation that has ended. Never waits.
    pub fn poll(&mut self) -> Option<Finished> {
        let Answered { place, status } = self.from_reactor.pop()?;
        let Pending { tag, .. } = self.pending.remove(place).expect("an operation ends once");
        self.silence.set(!self.pending.is_empty());
        Some(Finished { tag, status })
    }

    /// Waits for an operation that has ended: until then, or without end.
    ///
    /// # Errors
    /// That none has.
    ///
    /// # Panics
    /// If none is under way.
    pub fn wait(&mut self, until: Option<Instant>) -> Result<Finished, Unanswered> {
        assert!(!self.pending.is_empty(), "something is waited for");
        loop {
            // Looked at first: what ended before the reactor did is told.
            let is_gone = self.shared.is_gone();
            if let Some(finished) = self.poll() {
                return Ok(finished);
            }
            if is_gone {
                return Err(Unanswered::Gone);
            }
            if !self.sleep(until, |client| !client.from_reactor.is_empty()) {
                return Err(Unanswered::Late);
            }
        }
    }

    /// Sleeps until the reactor has something to tell, at most until then. False when the time is
    /// over.
    fn sleep(&mut self, until: Option<Instant>, is_there: impl Fn(&Client) -> bool) -> bool {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return false;
        }
        self.shared.flag.announce_sleep();
        if !is_there(self) && !self.shared.is_gone() {
            // An error only means an early look.
            let _ = self.sleeper.until_readable(self.shared.signal.fd()).sleep(left);
        }
        self.shared.flag.awake();
        self.shared.signal.clear();
        true
    }

    /// Submits all of `operations` and waits for all of them: until then, or without end. Returns
    /// the first status that is no success.
    ///
    /// # Errors
    /// That not all have ended. Those that have not are under way, and what has not been submitted
    /// is not.
    pub fn carry(
        &mut self,
        operations: impl IntoIterator<Item = (usize, Operation, Option<Buffer>)>,
        until: Option<Instant>,
    ) -> Result<Status, Unanswered> {
        self.batch += 1;
        let (batch, mut left, mut status) = (self.batch, 0u32, Status::SUCCESS);
        let mut ended = |finished: Finished, left: &mut u32| {
            // Those of a call that gave up are nobody's.
            if finished.tag == batch {
                *left -= 1;
                if status.is_success() {
                    status = finished.status;
                }
            }
        };
        for (channel, operation, buffer) in operations {
            while self.submit(channel, operation, buffer.clone(), batch) == Err(Full) {
                let finished = self.wait(until)?;
                ended(finished, &mut left);
            }
            left += 1;
        }
        while left > 0 {
            let finished = self.wait(until)?;
            ended(finished, &mut left);
        }
        Ok(status)
    }

    /// Since when it waits for an answer, for whoever wants to know.
    pub fn silence(&self) -> Arc<Silence> {
        self.silence.clone()
    }

    /// A descriptor that is readable when something has ended, after [`Client::watch`]: for threads
    /// that wait for more than this.
    pub fn fd(&self) -> RawFd {
        self.shared.signal.fd()
    }

    /// Has the descriptor raised by the next end. False if one is there already.
    pub fn watch(&mut self) -> bool {
        self.shared.signal.clear();
        self.shared.flag.announce_sleep();
        self.from_reactor.is_empty() && !self.shared.is_gone()
    }

    /// Closes it, and waits until the reactor has nothing of it any more. False if that was not so
    /// in time: it is when its operations have ended.
    pub fn close(mut self, until: Option<Instant>) -> bool {
        self.begin_close();
        while !self.shared.is_gone() {
            if !self.sleep(until, |_| false) {
                return false;
            }
        }
        true
    }

    fn begin_close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        self.handle.wake();
    }
}

impl Drop for Client {
    /// What is under way ends, then the reactor gives everything back; nobody waits for that.
    fn drop(&mut self) {
        self.begin_close();
    }
}

/// As many buffers as there are, one at least where some are wanted.
fn lease(reactor: &mut Reactor, size: Size) -> Result<Vec<DmaBuf>, String> {
    let leased: Vec<DmaBuf> =
        (0..size.buffers).map_while(|_| reactor.pool.take(size.buffer_bytes)).collect();
    match leased.is_empty() && size.buffers > 0 {
        true => Err("there is no memory left on the reactor: raise reactors.memory".to_owned()),
        false => Ok(leased),
    }
}

/// A client's other end.
struct ReactorEnd {
    asked: Consumer<Asked>,
    answered: Producer<Answered>,
    shared: Arc<Shared>,
    leased: Vec<DmaBuf>,
    handle: Handle,
    rang: bool,
    /// It is about to be taken off the reactor.
    ended: bool,
}

impl ReactorEnd {
    fn end(&mut self, io: &mut Submitter<'_, '_>) {
        self.ended = true;
        self.leased.drain(..).for_each(|buffer| io.give(buffer));
        let shared = self.shared.clone();
        self.handle.send(Box::new(move |reactor: &mut Reactor| {
            if let Some(edge) = shared.edge.get() {
                reactor.remove_edge(*edge);
            }
        }));
    }
}

impl Driver for ReactorEnd {
    fn poll(&mut self, io: &mut Submitter<'_, '_>) -> u32 {
        // Looked at first: what was submitted before it closed is there then.
        let closing = self.shared.closing.load(Ordering::Acquire);
        let mut work = 0;
        while let Some(Asked { channel, operation, place }) = self.asked.pop() {
            io.submit(channel, operation, None, u64::from(place));
            work += 1;
        }
        if closing && io.under_way() == 0 && !self.ended {
            self.end(io);
            work += 1;
        }
        work
    }

    fn ended(&mut self, ended: Ended, _io: &mut Submitter<'_, '_>) {
        let answer = Answered { place: ended.tag as u32, status: ended.status };
        let sent = self.answered.push(answer);
        assert!(sent.is_ok(), "the ring back holds as many as there are places");
        self.rang = true;
    }

    fn turned(&mut self) {
        if std::mem::take(&mut self.rang) {
            self.shared.wake();
        }
    }
}

impl Drop for ReactorEnd {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::Release);
        self.shared.wake();
    }
}
