//! The channels of one reactor, in ranks.

use crate::limits::{DONES_PER_TURN, IOS_PER_CHANNEL};
use crate::{Addr, Bdev, Channel, Cx, DmaSlice, Done, Home, Io, Memory, OpenCx, OpenError};
use std::os::fd::RawFd;
use std::sync::Arc;

/// A place for a channel. A channel's children always lie in lower places.
pub(crate) struct Slot {
    pub(crate) channel: Option<Box<dyn Channel>>,
    bdev: Option<Arc<dyn Bdev>>,
    children: Vec<Addr>,
    users: u32,
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
        if let Some(index) = self.find(bdev) {
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
        for child in bdev.children() {
            match self.open(&child, now_ns) {
                Ok(addr) => children.push(addr),
                Err(error) => {
                    children.iter().for_each(|addr| self.close(*addr));
                    return Err(error);
                }
            }
        }
        let cx = OpenCx {
            reactor: self.reactor,
            children: &children,
            limit: IOS_PER_CHANNEL,
            memory: &self.memory,
            now_ns,
        };
        match bdev.open(&cx) {
            Ok(channel) => Ok(self.place(Slot {
                channel: Some(channel),
                bdev: Some(bdev.clone()),
                children,
                users: 1,
            })),
            Err(error) => {
                children.iter().for_each(|addr| self.close(*addr));
                Err(error)
            }
        }
    }

    fn find(&self, bdev: &Arc<dyn Bdev>) -> Option<usize> {
        self.slots.iter().position(|s| s.bdev.as_ref().is_some_and(|b| Arc::ptr_eq(b, bdev)))
    }

    /// Puts a channel above its children: in the first free place past the last of them.
    fn place(&mut self, slot: Slot) -> Addr {
        let above = slot.children.iter().filter_map(|a| a.as_channel()).max().map_or(0, |i| i + 1);
        let polled = slot.channel.as_ref().is_some_and(|c| c.polled());
        let free = (above as usize..self.slots.len()).find(|i| self.slots[*i].channel.is_none());
        let index = free.unwrap_or(self.slots.len());
        if index == self.slots.len() {
            self.slots.push(slot)
        } else {
            self.slots[index] = slot
        }
        if polled {
            self.polled.push(index as u32);
        }
        Addr::channel(index as u32)
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
