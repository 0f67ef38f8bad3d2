//! The part of a client that is on the reactor.

use crate::Reactor;
use bdev::{Addr, DmaBuf, DmaSlice, Done, Edge, EdgeCx, Io, IoFlags, Op, Slab, Stack, Tag};
use nvme_spec::Status;

/// What is to be done to blocks of a channel. Its memory is the reactor's, or outlives the client.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// What to do.
    pub op: Op,
    /// Modifiers.
    pub flags: IoFlags,
    /// First block.
    pub lba: u64,
    /// Number of blocks; 0 for a flush.
    pub blocks: u32,
    /// The data: `blocks` times the block size, or empty.
    pub data: DmaSlice,
}

impl Operation {
    /// An operation with data.
    pub fn new(op: Op, lba: u64, blocks: u32, data: DmaSlice) -> Operation {
        Operation { op, flags: IoFlags::NONE, lba, blocks, data }
    }

    /// A flush.
    pub fn flush() -> Operation {
        Operation::new(Op::Flush, 0, 0, DmaSlice::EMPTY)
    }

    /// The same, with modifiers.
    pub fn with(self, flags: IoFlags) -> Operation {
        Operation { flags, ..self }
    }
}

/// The end of an operation.
#[derive(Debug)]
pub struct Ended {
    /// As it was submitted.
    pub tag: u64,
    /// How it ended.
    pub status: Status,
    /// The buffer that went with it.
    pub buffer: Option<DmaBuf>,
}

/// What submits operations on a reactor and is told of their ends there, without a host: called by
/// its reactor alone, it never blocks.
pub trait Driver: Send {
    /// Submits what there is to do, once a turn. Returns how much was done: while that is nothing
    /// and nothing else happens the reactor may sleep.
    fn poll(&mut self, io: &mut Submitter<'_, '_>) -> u32;

    /// An operation has ended. More can be submitted at once.
    fn ended(&mut self, ended: Ended, io: &mut Submitter<'_, '_>);

    /// The turn is over: whoever waits elsewhere is woken, once.
    fn turned(&mut self) {}
}

struct UnderWay {
    tag: u64,
    buffer: Option<DmaBuf>,
}

/// What a driver reaches while it runs.
pub struct Submitter<'a, 'b> {
    channels: &'a [Addr],
    under_way: &'a mut Slab<UnderWay>,
    cx: &'a mut EdgeCx<'b>,
}

impl Submitter<'_, '_> {
    /// Now, in ns of the reactor's clock.
    pub fn now_ns(&self) -> u64 {
        self.cx.now_ns
    }

    /// Whether one more can be submitted.
    pub fn has_room(&self) -> bool {
        !self.under_way.is_full()
    }

    /// How many are under way.
    pub fn under_way(&self) -> u32 {
        self.under_way.len()
    }

    /// A buffer of the reactor's memory; none when there is none now.
    pub fn take(&mut self, bytes: usize) -> Option<DmaBuf> {
        self.cx.pool.take(bytes)
    }

    /// Gives a buffer back.
    pub fn give(&mut self, buffer: DmaBuf) {
        self.cx.pool.give(buffer);
    }

    /// Submits an operation to the client's channel number `channel`, with the buffer that its data
    /// is in, which stays here until it has ended.
    ///
    /// # Panics
    /// Without room: [`Submitter::has_room`].
    pub fn submit(
        &mut self,
        channel: usize,
        operation: Operation,
        buffer: Option<DmaBuf>,
        tag: u64,
    ) {
        let place = self.under_way.insert(UnderWay { tag, buffer });
        let place = place.unwrap_or_else(|_| panic!("more operations than the client's depth"));
        let Operation { op, flags, lba, blocks, data } = operation;
        let (reply_to, reply_tag) = (self.cx.me, Tag(u64::from(place)));
        self.cx.submit(
            self.channels[channel],
            Io { op, flags, lba, blocks, data, reply_to, reply_tag },
        );
    }
}

/// The channels of a client.
#[derive(Debug)]
pub enum Channels {
    /// Opened for it: they are closed with it.
    Own(Vec<Addr>),
    /// Somebody else's, who closes them after it.
    Lent(Vec<Addr>),
}

impl Channels {
    fn addrs(&self) -> &[Addr] {
        let (Channels::Own(addrs) | Channels::Lent(addrs)) = self;
        addrs
    }
}

/// Has `driver` work with `channels`, with at most `depth` operations under way at once. It ends with
/// [`Reactor::remove_edge`], once nothing is under way.
pub fn drive(
    reactor: &mut Reactor,
    channels: Channels,
    depth: u32,
    driver: impl Driver + 'static,
) -> Addr {
    let under_way = Slab::growing(depth);
    reactor.add_edge(Box::new(DriverEdge { channels, under_way, driver }))
}

struct DriverEdge<D> {
    channels: Channels,
    under_way: Slab<UnderWay>,
    driver: D,
}

impl<D: Driver> Edge for DriverEdge<D> {
    fn poll(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        let DriverEdge { channels, under_way, driver } = self;
        driver.poll(&mut Submitter { channels: channels.addrs(), under_way, cx })
    }

    fn done(&mut self, done: Done, cx: &mut EdgeCx<'_>) {
        let DriverEdge { channels, under_way, driver } = self;
        let UnderWay { tag, buffer } =
            under_way.remove(done.tag.0 as u32).expect("an operation ends once");
        let ended = Ended { tag, status: done.status, buffer };
        driver.ended(ended, &mut Submitter { channels: channels.addrs(), under_way, cx });
    }

    fn flush(&mut self, _cx: &mut EdgeCx<'_>) -> u32 {
        self.driver.turned();
        0
    }

    fn closed(&mut self, stack: &mut Stack) {
        assert!(self.under_way.is_empty(), "closed with operations under way");
        if let Channels::Own(addrs) = &self.channels {
            addrs.iter().for_each(|addr| stack.close(*addr));
        }
    }
}
