//! A bdev as one reactor sees it.

use crate::stack::Slot;
use crate::{
    Addr, Discards, DmaSlice, Done, Geometry, Home, Io, IoFlags, Memory, Op, Tag, Witness,
};
use nvme_spec::Status;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

/// A queue pair into a bdev, owned by one reactor.
///
/// `submit` never blocks, allocates or fails: an operation that cannot be done is completed with a
/// status. Every [`Io`] taken is completed exactly once, after which its memory is not touched.
pub trait Channel: Send {
    /// Takes an operation.
    fn submit(&mut self, io: Io, cx: &mut Cx<'_>);

    /// Where `blocks` blocks from `lba` on are, on a device that is memory
    /// ([`Geometry::direct_access`]): who asks may read and write them there instead of submitting
    /// a Read or a Write, until the channel is closed. `None` when they are not in one piece now:
    /// the operation is submitted.
    fn direct_access(&mut self, _lba: u64, _blocks: u32) -> Option<DmaSlice> {
        None
    }

    /// A child finished what this channel submitted to it.
    fn complete(&mut self, done: Done, _cx: &mut Cx<'_>) {
        unreachable!("a leaf has no children, yet got {done:?}")
    }

    /// Ends the operation that `reply_to` submitted under `reply_tag`, with Command Abort Requested,
    /// if it is held back here and has not begun: who asked for it is gone. One that has begun ends
    /// as ever.
    fn recall(&mut self, _reply_to: Addr, _reply_tag: Tag, _cx: &mut Cx<'_>) {}

    /// One more child was opened below ([`crate::Stack::add_child`]), for a bdev with room for it.
    fn add_child(&mut self, child: Addr) {
        unreachable!("no room was kept for {child:?}")
    }

    /// A child that was added is not used from now on ([`crate::Stack::remove_child`]). Operations
    /// on it may be under way.
    fn remove_child(&mut self, child: Addr) {
        unreachable!("{child:?} was never added")
    }

    /// Harvests completions and rings doorbells, once a turn. Returns how much was done.
    fn poll(&mut self, _cx: &mut Cx<'_>) -> u32 {
        0
    }

    /// Whether `poll` has anything to do, ever. Asked once, after opening.
    fn polled(&self) -> bool {
        false
    }

    /// A descriptor that becomes readable when `poll` has something to harvest.
    fn wake_fd(&self) -> Option<RawFd> {
        None
    }

    /// When `poll` has to be called even if nothing happens, in ns of the reactor's clock.
    fn next_deadline_ns(&self) -> Option<u64> {
        None
    }

    /// Operations taken and not yet completed.
    fn outstanding(&self) -> u32;
}

/// A block device. Shared between reactors; each opens its own [`Channel`].
pub trait Bdev: Send + Sync {
    /// Size and properties, now: a resize changes them.
    fn geometry(&self) -> Geometry;

    /// Where channels may be opened.
    fn home(&self) -> Home {
        Home::Every
    }

    /// The bdevs below this one, opened before it and handed to `open` in this order.
    fn children(&self) -> Vec<Arc<dyn Bdev>> {
        Vec::new()
    }

    /// How many children may be added below an open channel: places are kept for them.
    fn room(&self) -> u32 {
        0
    }

    /// A number that is another one when what was written and not flushed may have been lost since:
    /// the device was without power, or is not the same any more. 0 where nobody can tell; a layer
    /// says what those below it say.
    fn power_session(&self) -> u64 {
        let below = self.children();
        below.iter().fold(0, |sum, child| sum.wrapping_add(child.power_session()))
    }

    /// What this device has and a copy of all that is on it has not, for as long as the machine is
    /// up: none where nobody can tell. A layer says what those below it say.
    fn identity(&self) -> Option<String> {
        let below: Option<Vec<String>> =
            self.children().iter().map(|child| child.identity()).collect();
        below.filter(|below| !below.is_empty()).map(|below| below.join(", "))
    }

    /// Who keeps account of hosts that write to it; nobody mostly. A layer says who does below it.
    fn witness(&self) -> Option<Arc<dyn Witness>> {
        match &self.children()[..] {
            [child] => child.witness(),
            _ => None,
        }
    }

    /// Whether blocks that nobody needs are worth giving back. A layer says what the one below it
    /// says.
    fn discards(&self) -> Discards {
        match &self.children()[..] {
            [child] => child.discards(),
            _ if self.geometry().deallocates => {
                Discards::Well("it gives deallocated blocks back".to_owned())
            }
            _ => Discards::Never("it gives no blocks back".to_owned()),
        }
    }

    /// Gives back `blocks` blocks from `lba` on, whose content nobody needs: it is undefined
    /// afterwards. This waits, and is never called on a reactor. `None`: the bdev has no such way, and
    /// a channel is given a Deallocate with [`IoFlags::ANY_CONTENT`].
    fn discard(&self, _lba: u64, _blocks: u64) -> Option<io::Result<()>> {
        None
    }

    /// Opens a channel for one reactor.
    fn open(&self, cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError>;
}

/// What a bdev gets to open a channel with.
pub struct OpenCx<'a> {
    /// The reactor that will own the channel.
    pub reactor: usize,
    /// The channels of [`Bdev::children`], in their order.
    pub children: &'a [Addr],
    /// How many operations may be outstanding at once.
    pub limit: u32,
    /// Every region that `Io::data` can lie in, on any reactor.
    pub memory: &'a Arc<Memory>,
    /// Now, in ns of the reactor's clock.
    pub now_ns: u64,
}

/// Why a channel could not be opened, as a sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenError(pub String);

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OpenError {}

/// What a channel may reach while it runs: the ranks below, and the queue of completions.
pub struct Cx<'a> {
    pub(crate) me: Addr,
    pub(crate) lower: &'a mut [Slot],
    pub(crate) dones: &'a mut Vec<Done>,
    pub(crate) now_ns: u64,
}

impl Cx<'_> {
    /// Now, in ns of the reactor's clock.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Submits an operation of this channel's own to `child`; its [`Done`] comes to
    /// [`Channel::complete`] with `tag`.
    #[allow(clippy::too_many_arguments)]
    pub fn submit(
        &mut self,
        child: Addr,
        op: Op,
        flags: IoFlags,
        lba: u64,
        blocks: u32,
        data: DmaSlice,
        tag: Tag,
    ) {
        let io = Io { op, flags, lba, blocks, data, reply_to: self.me, reply_tag: tag };
        self.forward(child, io);
    }

    /// Passes the parent's operation to `child` as it is: the completion goes to the parent
    /// without passing here.
    pub fn forward(&mut self, child: Addr, io: Io) {
        let index = child.as_channel().expect("a child is a channel") as usize;
        let (lower, rest) = self.lower.split_at_mut(index);
        let channel = rest[0].channel.as_mut().expect("children stay open under their parents");
        channel.submit(io, &mut Cx { me: child, lower, dones: self.dones, now_ns: self.now_ns });
    }

    /// Ends an operation: queues its [`Done`]; the parent sees it later, never inside this call.
    pub fn complete(&mut self, io: Io, status: Status) {
        self.dones.push(io.into_done(status));
    }

    /// Ends an operation that was taken apart with [`Io::into_parts`].
    pub fn complete_parts(&mut self, reply_to: Addr, reply_tag: Tag, status: Status) {
        self.dones.push(Done { tag: reply_tag, status, to: reply_to });
    }
}
