//! The receives of one port: memory for capsules, and which of it the network card has.

use crate::limits::{DATA_BUFFER_BYTES, IN_CAPSULE_BYTES, LEAST_RECEIVES};
use bdev::{DmaBuf, DmaPool};
use verbs::Receive;
use verbs::limits::SQE_BYTES;

/// The receives of a port.
pub(crate) struct Receives {
    sqes: DmaBuf,
    data: Vec<DmaBuf>,
    slots: Vec<Receive>,
    /// Slots whose command has been taken, to be given to the card again.
    idle: Vec<u16>,
    /// Slots whose capsule is in use.
    held: u32,
}

impl Receives {
    /// Memory for `wanted` receives, or for as many as there is memory for; none if that is not
    /// enough for anything. None of them is with the card.
    pub(crate) fn take(wanted: u16, pool: &mut DmaPool) -> Option<Receives> {
        let sqes = pool.take(usize::from(wanted) * SQE_BYTES)?;
        let mut data = Vec::new();
        let bytes = IN_CAPSULE_BYTES as usize;
        let mut slots = Vec::with_capacity(usize::from(wanted));
        while slots.len() < usize::from(wanted)
            && let Some(buf) = pool.take(DATA_BUFFER_BYTES)
        {
            for at in 0..buf.len() / bytes {
                if slots.len() < usize::from(wanted) {
                    let slot = slots.len();
                    slots.push(Receive {
                        slot: slot as u16,
                        sqe: sqes.slice().sub(slot * SQE_BYTES, SQE_BYTES),
                        data: buf.slice().sub(at * bytes, bytes),
                    });
                }
            }
            data.push(buf);
        }
        let idle = (0..slots.len() as u16).collect();
        let receives = Receives { sqes, data, slots, idle, held: 0 };
        if receives.count() < LEAST_RECEIVES.min(wanted) {
            receives.give(pool);
            return None;
        }
        Some(receives)
    }

    /// Gives the memory back; no capsule is in use.
    pub(crate) fn give(self, pool: &mut DmaPool) {
        assert_eq!(self.held, 0, "capsules in use lie in the memory");
        pool.give(self.sqes);
        self.data.into_iter().for_each(|buf| pool.give(buf));
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u16 {
        self.slots.len() as u16
    }

    /// A receive, by the number that the card gave back.
    pub(crate) fn slot(&self, slot: u16) -> Receive {
        self.slots[usize::from(slot)]
    }

    /// The card has filled a receive.
    pub(crate) fn hold(&mut self) {
        self.held += 1;
    }

    /// Its capsule is in use no more.
    pub(crate) fn release(&mut self, slot: u16) {
        self.held -= 1;
        self.idle.push(slot);
    }

    /// Whether capsules are in use.
    pub(crate) fn in_use(&self) -> bool {
        self.held > 0
    }

    /// Appends what the card is to have next.
    pub(crate) fn drain_idle(&mut self, out: &mut Vec<Receive>) {
        let slots = &self.slots;
        out.extend(self.idle.drain(..).map(|slot| slots[usize::from(slot)]));
    }
}
