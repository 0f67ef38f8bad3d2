//! Commands under way, by command identifier.

use bdev::DmaSlice;
use nvme_spec::{Cqe, Sqe, Status};

/// The data of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// None.
    None,
    /// The controller's, received into this memory.
    ToHost(DmaSlice),
    /// The host's, sent from this memory.
    ToController(DmaSlice),
    /// Sixteen bytes of the host's: a Dataset Management range.
    Range([u8; 16]),
}

impl Payload {
    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Payload::None => 0,
            Payload::ToHost(data) | Payload::ToController(data) => data.len(),
            Payload::Range(range) => range.len(),
        }
    }

    /// Whether there is no data.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How a command ended, as far as the queue pair knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The completion. Made up, with success, where the controller sent SUCCESS with the data
    /// instead of one.
    pub cqe: Cqe,
    /// Bytes of data that arrived.
    pub received: usize,
    /// Bytes of data that should have arrived and did not.
    pub missing: usize,
    /// A data digest was wrong: what arrived is not what was sent.
    pub damaged: bool,
}

impl Ended {
    /// The status: the controller's, unless it claims success for data that did not arrive as it
    /// should.
    pub fn status(&self) -> Status {
        match self.cqe.status() {
            status if !status.is_success() => status,
            _ if self.damaged => Status::TRANSIENT_TRANSPORT,
            _ if self.missing > 0 => Status::DATA_TRANSFER_ERROR,
            status => status,
        }
    }
}

/// How far a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The slot is not in use.
    Free,
    /// Its capsule waits for room to be sent.
    Queued,
    /// Its capsule is sent, or on its way.
    Sent,
    /// It has ended, but its memory is still being sent from.
    Ended(Ended),
}

pub(super) struct Slot<T> {
    pub(super) ticket: Option<T>,
    pub(super) stage: Stage,
    pub(super) cid: u16,
    pub(super) sqe: Sqe,
    pub(super) payload: Payload,
    /// Data received so far, in bytes.
    pub(super) received: u32,
    /// A data digest was wrong.
    pub(super) damaged: bool,
    /// Transfers asked for by R2T and not yet put into the outbox.
    pub(super) transfers: u32,
    /// Pieces of the payload in the outbox.
    pub(super) sending: u32,
    /// When to give up on it.
    pub(super) deadline_ns: u64,
}

impl<T> Slot<T> {
    /// How the command ended, by its completion.
    pub(super) fn ended(&self, cqe: Cqe) -> Ended {
        let received = self.received as usize;
        let missing = match self.payload {
            Payload::ToHost(memory) => memory.len() - received,
            Payload::None | Payload::ToController(_) | Payload::Range(_) => 0,
        };
        Ended { cqe, received, missing, damaged: self.damaged }
    }

    /// Whether the slot's memory may still be sent from.
    pub(super) fn is_sending(&self) -> bool {
        self.transfers > 0 || self.sending > 0
    }
}

/// The slots of a queue pair. A command identifier is the slot's index with a count of its uses
/// above it, so that an answer to an earlier command is told apart from one to this.
pub(super) struct Slots<T> {
    slots: Box<[Slot<T>]>,
    free: Vec<u16>,
    index_mask: u16,
}

impl<T> Slots<T> {
    /// `depth` slots, at most 65,535.
    pub(super) fn new(depth: u16) -> Slots<T> {
        let slot = |index| Slot {
            ticket: None,
            stage: Stage::Free,
            cid: index,
            sqe: Sqe::default(),
            payload: Payload::None,
            received: 0,
            damaged: false,
            transfers: 0,
            sending: 0,
            deadline_ns: 0,
        };
        // FFFFh is never a command identifier: some controllers report it in error logs.
        assert!(depth > 0 && depth < u16::MAX, "1 to 65,534 slots");
        let span = u32::from(depth).next_power_of_two();
        Slots {
            slots: (0..depth).map(slot).collect(),
            free: (0..depth).rev().collect(),
            index_mask: (span - 1) as u16,
        }
    }

    pub(super) fn has_free(&self) -> bool {
        !self.free.is_empty()
    }

    pub(super) fn used(&self) -> u32 {
        (self.slots.len() - self.free.len()) as u32
    }

    /// Takes a free slot.
    pub(super) fn take(&mut self) -> Option<(u16, &mut Slot<T>)> {
        let index = self.free.pop()?;
        let slot = &mut self.slots[usize::from(index)];
        let next = slot.cid.wrapping_add(self.index_mask.wrapping_add(1));
        slot.cid = if next == u16::MAX { index } else { next };
        Some((index, slot))
    }

    /// Frees a slot.
    #[inline]
    pub(super) fn free(&mut self, index: u16) -> Option<T> {
        let slot = &mut self.slots[usize::from(index)];
        assert!(slot.stage != Stage::Free, "a slot is freed once");
        slot.stage = Stage::Free;
        slot.payload = Payload::None;
        self.free.push(index);
        slot.ticket.take()
    }

    #[inline]
    pub(super) fn at(&mut self, index: u16) -> &mut Slot<T> {
        &mut self.slots[usize::from(index)]
    }

    /// The slot of the command that the peer names, if that command is with the controller.
    #[inline]
    pub(super) fn sent(&mut self, cid: u16) -> Option<(u16, &mut Slot<T>)> {
        let index = cid & self.index_mask;
        let slot = self.slots.get_mut(usize::from(index))?;
        (slot.cid == cid && slot.stage == Stage::Sent).then_some((index, slot))
    }

    /// The earliest deadline of any command.
    pub(super) fn earliest_deadline_ns(&self) -> Option<u64> {
        let used = self.slots.iter().filter(|slot| slot.stage != Stage::Free);
        used.map(|slot| slot.deadline_ns).min()
    }

    /// Empties every slot.
    pub(super) fn drain(&mut self, mut each: impl FnMut(T)) {
        for index in 0..self.slots.len() as u16 {
            if self.at(index).stage != Stage::Free
                && let Some(ticket) = self.free(index)
            {
                each(ticket);
            }
        }
    }
}
