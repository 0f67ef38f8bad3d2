//! Receive buffers, shared by all connections of a transport.
//!
//! Bytes are received behind what is still in use, taken apart where they lie, and the data of a
//! capsule stays where it is until its command is answered. A connection at rest holds none of it.
#![allow(unsafe_code)]

use crate::limits::{ARENA_BYTES, ARENA_LEAST_BYTES, ARENAS};
use bdev::{DmaBuf, DmaPool, DmaSlice};

struct Arena {
    buf: DmaBuf,
    /// Bytes from the start that data of commands may lie in.
    fill: usize,
    /// Commands whose data lies here.
    users: u32,
}

/// A piece of a receive buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spare {
    /// The number of the buffer.
    pub arena: u16,
    /// The free part of it.
    pub slice: DmaSlice,
}

/// The receive buffers of a transport.
pub(crate) struct Arenas {
    places: Vec<Option<Arena>>,
    /// The one received into, once there is any.
    current: Option<usize>,
    count: usize,
    /// The pool had none when one was needed.
    short: bool,
    /// One of them is larger than needed: the pool had no other.
    oversize: bool,
}

impl Arenas {
    pub(crate) fn new() -> Arenas {
        let places = (0..ARENAS).map(|_| None).collect();
        Arenas { places, current: None, count: 0, short: false, oversize: false }
    }

    /// Room to receive into, at least [`ARENA_LEAST_BYTES`]; `None` when every buffer is in use
    /// and the pool has no other.
    pub(crate) fn spare(&mut self, pool: &mut DmaPool) -> Option<Spare> {
        let room = |a: &Arena| a.buf.len().min(ARENA_BYTES) - a.fill;
        let usable = |a: &Option<Arena>| a.as_ref().is_some_and(|a| room(a) >= ARENA_LEAST_BYTES);
        let index = match self.current.filter(|index| usable(&self.places[*index])) {
            Some(index) => index,
            None => {
                let index = match self.places.iter().position(usable) {
                    Some(index) => index,
                    None => self.add(pool)?,
                };
                self.current = Some(index);
                index
            }
        };
        let arena = self.places[index].as_ref().expect("the current buffer is there");
        let slice = arena.buf.slice().sub(arena.fill, room(arena));
        Some(Spare { arena: index as u16, slice })
    }

    fn add(&mut self, pool: &mut DmaPool) -> Option<usize> {
        let index = self.places.iter().position(Option::is_none)?;
        let buf = pool.take(ARENA_BYTES);
        self.short = buf.is_none();
        let buf = buf?;
        self.oversize |= buf.len() > ARENA_BYTES;
        self.places[index] = Some(Arena { buf, fill: 0, users: 0 });
        self.count += 1;
        Some(index)
    }

    /// Whether data had better be copied out than kept here.
    pub(crate) fn scarce(&self) -> bool {
        self.short || self.count == ARENAS
    }

    /// Keeps the bytes of `spare` up to `end` for a command, until [`Arenas::release`].
    pub(crate) fn hold(&mut self, spare: Spare, end: usize) {
        let arena = self.places[usize::from(spare.arena)].as_mut().expect("just received into");
        let start = spare.slice.as_ptr() as usize - arena.buf.slice().as_ptr() as usize;
        arena.fill = arena.fill.max(start + end);
        arena.users += 1;
    }

    /// A command is answered: its data is no longer needed.
    pub(crate) fn release(&mut self, arena: u16) {
        let arena = self.places[usize::from(arena)].as_mut().expect("held until now");
        arena.users = arena.users.checked_sub(1).expect("released once for each hold");
        if arena.users == 0 {
            arena.fill = 0;
        }
    }

    /// Gives back what is not in use: all but the current buffer, that one, too, if `all`, or if
    /// it is larger than needed: a command may wait for it that fits in no other.
    pub(crate) fn sweep(&mut self, pool: &mut DmaPool, all: bool) {
        if self.count <= usize::from(!all && !self.oversize) {
            return;
        }
        self.oversize = false;
        for (index, place) in self.places.iter_mut().enumerate() {
            let Some(arena) = place else { continue };
            let oversize = arena.buf.len() > ARENA_BYTES;
            if arena.users > 0 {
                self.oversize |= oversize;
            } else if all || oversize || Some(index) != self.current {
                pool.give(place.take().expect("just seen").buf);
                self.count -= 1;
                self.short = false;
                if Some(index) == self.current {
                    self.current = None;
                }
            }
        }
    }

    /// What was received into `slice`, a piece of a [`Spare`].
    pub(crate) fn bytes(&self, slice: DmaSlice) -> &[u8] {
        // SAFETY: spare room is written only by a receive, for which the connection borrows self
        // mutably first; held bytes are left alone until the command is answered.
        unsafe { slice.as_bytes() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdev::Memory;
    use bdev::dma::{ClassPlan, PoolPlan};
    use std::sync::Arc;

    #[test]
    fn a_buffer_larger_than_needed_goes_back_as_soon_as_it_is_not_in_use() {
        let class = |bytes, count| ClassPlan { bytes, count };
        let plan = PoolPlan([
            class(4 << 10, 1),
            class(16 << 10, 1),
            class(128 << 10, 1),
            class(1 << 20, 1),
        ]);
        let mut pool = DmaPool::new(Arc::new(Memory::map(1, plan.bytes()).unwrap()), 0, &plan);
        let other = pool.take(ARENA_BYTES).unwrap();
        let mut arenas = Arenas::new();
        let spare = arenas.spare(&mut pool).unwrap();
        assert_eq!(pool.taken(), [0, 0, 1, 1], "there was no other");
        arenas.hold(spare, 100);
        arenas.sweep(&mut pool, false);
        assert_eq!(pool.taken(), [0, 0, 1, 1], "it is in use");
        arenas.release(spare.arena);
        arenas.sweep(&mut pool, false);
        assert_eq!(pool.taken(), [0, 0, 1, 0]);
        pool.give(other);
        arenas.spare(&mut pool).unwrap();
        arenas.sweep(&mut pool, false);
        assert_eq!(pool.taken(), [0, 0, 1, 0], "one of the right size stays");
        arenas.sweep(&mut pool, true);
        assert_eq!(pool.taken(), [0; 4]);
    }
}
