//! The channels of one reactor, in ranks.

use crate::limits::{DONES_PER_TURN, IOS_PER_CHANNEL};
use crate::{Addr, Bdev, Channel, Cx, DmaSlice, Done, Home, Io, Memory, OpenCx, OpenError, Tag};
use std::os::fd::RawFd;
use std::sync::Arc;

/// A place for a channel. A channel's children always lie in lower places.
pub(crate) struct Slot {
    pub(crate) channel: Option<Box<dyn Channel>>,
    bdev: Option<Arc<dyn Bdev>>,
    children: Vec<Addr>,
    users: u32,
    /// The place is kept for children of this channel to come ([`Bdev::room`]).
    kept_for: Option<u32>,
}

impl Slot {
    fn kept(kept_for: u32) -> Slot {
        let kept_for = Some(kept_for);
        Slot { channel: None, bdev: None, children: Vec::new(), users: 0, kept_for }
    }
}

/// The channels one reactor has open, and the completions between them.
///
/// Submissions go down by call, completions come up by queue, so no channel is ever entered twice
/// at once.
pub struct Stack {
    slots: Vec<Slot>,
    polled: Vec<u32>,
    dones: Vec<Done>,
    batch: Vec<Done>,
    reactor: usize,
    memory: Arc<Memory>,
}

impl Stack {
    /// An empty stack of reactor number `reactor`, whose I/O uses `memory`.
    pub fn new(reactor: usize, memory: Arc<Memory>) -> Stack {
        Stack {
            slots: Vec::new(),
            polled: Vec::new(),
            dones: Vec::with_capacity(DONES_PER_TURN),
            batch: Vec::with_capacity(DONES_PER_TURN),
            reactor,
            memory,
        }
    }

    /// The reactor this stack belongs to.
    pub fn reactor(&self) -> usize {
        self.reactor
    }

    /// The memory that operations use.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Opens `bdev` and all below it, or counts one more user of a channel that is open already.
    ///
    /// # Errors
    /// What the first bdev that could not be opened said; nothing stays open then.
    pub fn open(&mut self, bdev: &Arc<dyn Bdev>, now_ns: u64) -> Result<Addr, OpenError> {
        self.open_in(bdev, None, now_ns)
    }

    /// Opens `bdev` as one more child of the open channel `parent`, in a place that was kept for it
    /// ([`Bdev::room`]), and hands it to [`Channel::add_child`]. It is closed with its parent, or
    /// by [`Stack::remove_child`].
    ///
    /// # Errors
    /// That there is no place left, or what the bdev said.
    pub fn add_child(
        &mut self,
        parent: Addr,
        bdev: &Arc<dyn Bdev>,
        now_ns: u64,
    ) -> Result<Addr, OpenError> {
        let index = parent.as_channel().expect("only channels have children");
        let child = self.open_in(bdev, Some(index), now_ns)?;
        let slot = &mut self.slots[index as usize];
        slot.children.push(child);
        slot.channel.as_mut().expect("the parent is open").add_child(child);
        Ok(child)
    }

    /// Has `parent` not use its child `bdev` any more, and closes it once nothing is under way on
    /// it. Returns whether it is closed: if not, it is called again.
    pub fn remove_child(&mut self, parent: Addr, bdev: &Arc<dyn Bdev>) -> bool {
        let index = parent.as_channel().expect("only channels have children") as usize;
        let is_it = |slots: &[Slot], addr: &Addr| {
            let at = addr.as_channel().expect("children are channels") as usize;
            slots[at].bdev.as_ref().is_some_and(|other| Arc::ptr_eq(other, bdev))
        };
        let children = &self.slots[index].children;
        let Some(at) = children.iter().position(|addr| is_it(&self.slots, addr)) else {
            return true;
        };
        let child = children[at];
        self.slots[index].channel.as_mut().expect("the parent is open").remove_child(child);
        if self.outstanding(child) > 0 {
            return false;
        }
        self.slots[index].children.remove(at);
        self.close(child);
        true
    }

    /// Where the channel of `bdev` is, if it is open.
    pub fn place_of(&self, bdev: &Arc<dyn Bdev>) -> Option<Addr> {
        self.find(bdev).map(|index| Addr::channel(index as u32))
    }

    /// Opens `bdev`, in places that are kept for `parent` if there is one.
    fn open_in(
        &mut self,
        bdev: &Arc<dyn Bdev>,
        parent: Option<u32>,
        now_ns: u64,
    ) -> Result<Addr, OpenError> {
        let below = parent.map_or(usize::MAX, |index| index as usize);
        if let Some(index) = self.find(bdev).filter(|index| *index < below) {
            self.slots[index].users += 1;
            return Ok(Addr::channel(index as u32));
        }
        if let Home::One(home) = bdev.home()
            && home != self.reactor
        {
            return Err(OpenError(format!(
                "this bdev lives on reactor {home} and cannot be opened on {}",
                self.reactor
            )));
        }
        let mut children = Vec::new();
        let opened = bdev.children().iter().try_for_each(|child| {
            children.push(self.open_in(child, parent, now_ns)?);
            Ok(())
        });
        let channel = opened.and_then(|()| {
            let index = self.free_place(&children, parent, bdev.room())?;
            let cx = OpenCx {
                reactor: self.reactor,
                children: &children,
                limit: IOS_PER_CHANNEL,
                memory: &self.memory,
                now_ns,
            };
            Ok((index, bdev.open(&cx)?))
        });
        match channel {
            Ok((index, channel)) => {
                let slot = &mut self.slots[index as usize];
                if channel.polled() {
                    self.polled.push(index);
                }
                let bdev = Some(bdev.clone());
                let kept_for = slot.kept_for;
                *slot = Slot { channel: Some(channel), bdev, children, users: 1, kept_for };
                Ok(Addr::channel(index))
            }
            Err(error) => {
                children.iter().for_each(|addr| self.close(*addr));
                Err(error)
            }
        }
    }

    fn find(&self, bdev: &Arc<dyn Bdev>) -> Option<usize> {
        self.slots.iter().position(|s| s.bdev.as_ref().is_some_and(|b| Arc::ptr_eq(b, bdev)))
    }

    /// A free place for a channel: above its children, kept for `parent` or for nobody, and with
    /// `room` places of its own below it.
    fn free_place(
        &mut self,
        children: &[Addr],
        parent: Option<u32>,
        room: u32,
    ) -> Result<u32, OpenError> {
        let above = children.iter().filter_map(|a| a.as_channel()).max().map_or(0, |i| i + 1);
        let is_free = |slot: &Slot| slot.channel.is_none() && slot.kept_for == parent;
        let end = parent.unwrap_or(self.slots.len() as u32).max(above);
        let free = (above..end).find(|index| is_free(&self.slots[*index as usize]));
        match (free, parent) {
            (Some(index), _) if room == 0 => Ok(index),
            (_, Some(_)) => Err(OpenError("there is no place left below its parent".into())),
            (_, None) => {
                let index = end + room;
                self.slots.extend((0..room).map(|_| Slot::kept(index)));
                self.slots.push(Slot { kept_for: None, ..Slot::kept(index) });
                Ok(index)
            }
        }
    }

    /// Gives up one use of a channel; the last one closes it and gives up its children.
    ///
    /// # Panics
    /// If the channel is not open, or is closed with operations outstanding: whoever closes waits
    /// for [`Stack::outstanding`] to reach zero first.
    pub fn close(&mut self, addr: Addr) {
        let index = addr.as_channel().expect("only channels are closed") as usize;
        let slot = &mut self.slots[index];
        slot.users = slot.users.checked_sub(1).expect("closed once for each open");
        if slot.users > 0 {
            return;
        }
        let channel = slot.channel.take().expect("an open slot has a channel");
        assert_eq!(channel.outstanding(), 0, "closed with operations outstanding");
        slot.bdev = None;
        let children = std::mem::take(&mut slot.children);
        self.polled.retain(|i| *i as usize != index);
        drop(channel);
        children.iter().for_each(|child| self.close(*child));
        for kept in self.slots.iter_mut().filter(|slot| slot.kept_for == Some(index as u32)) {
            kept.kept_for = None;
        }
    }

    /// Operations that channel `addr` has taken and not completed.
    pub fn outstanding(&self, addr: Addr) -> u32 {
        let index = addr.as_channel().expect("only channels count") as usize;
        self.slots[index].channel.as_ref().map_or(0, |c| c.outstanding())
    }

    /// Number of open channels.
    pub fn channels(&self) -> usize {
        self.slots.iter().filter(|s| s.channel.is_some()).count()
    }

    /// Submits an operation from an edge.
    pub fn submit(&mut self, to: Addr, io: Io, now_ns: u64) {
        let Stack { slots, dones, .. } = self;
        let me = io.reply_to;
        Cx { me, lower: slots, dones, now_ns }.forward(to, io);
    }

    /// [`Channel::recall`] of channel `to`.
    pub fn recall(&mut self, to: Addr, reply_to: Addr, reply_tag: Tag, now_ns: u64) {
        let index = to.as_channel().expect("only channels have operations");
        let (lower, rest) = self.slots.split_at_mut(index as usize);
        if let Some(channel) = rest[0].channel.as_mut() {
            let dones = &mut self.dones;
            channel.recall(reply_to, reply_tag, &mut Cx { me: to, lower, dones, now_ns });
        }
    }

    /// [`Channel::direct_access`] of channel `to`.
    #[inline]
    pub fn direct_access(&mut self, to: Addr, lba: u64, blocks: u32) -> Option<DmaSlice> {
        let index = to.as_channel().expect("only channels have blocks") as usize;
        self.slots[index].channel.as_mut()?.direct_access(lba, blocks)
    }

    /// Polls every leaf that wants it. Returns how much was done.
    pub fn poll(&mut self, now_ns: u64) -> u32 {
        let Stack { slots, polled, dones, .. } = self;
        let mut work = 0;
        for &index in polled.iter() {
            let (lower, rest) = slots.split_at_mut(index as usize);
            let channel = rest[0].channel.as_mut().expect("polled channels are open");
            work += channel.poll(&mut Cx { me: Addr::channel(index), lower, dones, now_ns });
        }
        work
    }

    /// Moves completions up until they reach an edge, appending those to `edge`. Completions that
    /// channels cause on the way are moved too, for a bounded number of rounds; what is left
    /// stays for the next call. Returns how many completions were moved.
    pub fn deliver(&mut self, now_ns: u64, edge: &mut Vec<Done>) -> u32 {
        const ROUNDS: usize = 8;
        let Stack { slots, dones, batch, .. } = self;
        let mut moved = 0;
        for _ in 0..ROUNDS {
            if dones.is_empty() {
                break;
            }
            std::mem::swap(dones, batch);
            moved += batch.len() as u32;
            for done in batch.drain(..) {
                let Some(index) = done.to.as_channel() else {
                    edge.push(done);
                    continue;
                };
                let (lower, rest) = slots.split_at_mut(index as usize);
                let channel = rest[0].channel.as_mut().expect("a parent outlives its operations");
                channel.complete(done, &mut Cx { me: done.to, lower, dones, now_ns });
            }
        }
        moved
    }

    /// Whether completions wait for [`Stack::deliver`].
    pub fn has_dones(&self) -> bool {
        !self.dones.is_empty()
    }

    /// The descriptors that wake a sleeping reactor.
    pub fn wake_fds(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.polled.iter().filter_map(|i| self.slots[*i as usize].channel.as_ref()?.wake_fd())
    }

    /// The earliest time that some channel must be polled at.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let channel = |i: &u32| self.slots[*i as usize].channel.as_ref();
        self.polled.iter().filter_map(|i| channel(i)?.next_deadline_ns()).min()
    }
}
