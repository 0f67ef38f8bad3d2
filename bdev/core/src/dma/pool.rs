//! Buffers in size classes, one pool a reactor.

use super::{DmaSlice, Memory};
use crate::limits::MAX_TRANSFER_BYTES;
use std::sync::Arc;

/// One size class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassPlan {
    /// Bytes of each buffer, a power of two.
    pub bytes: u32,
    /// Number of buffers.
    pub count: u32,
}

/// How a reactor's memory is divided, smallest class first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPlan(pub [ClassPlan; 4]);

impl PoolPlan {
    /// Sizes for `bytes` bytes of memory: a quarter each for 4 KiB, 16 KiB, 128 KiB and 1 MiB
    /// buffers, so no size can starve another.
    pub fn for_bytes(bytes: usize) -> PoolPlan {
        let quarter = bytes / 4;
        let class = |size: u32| ClassPlan { bytes: size, count: (quarter / size as usize) as u32 };
        PoolPlan([class(4 << 10), class(16 << 10), class(128 << 10), class(MAX_TRANSFER_BYTES)])
    }

    /// Memory that it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|c| c.bytes as usize * c.count as usize).sum()
    }
}

/// A buffer on loan from a [`DmaPool`]: it goes back with [`DmaPool::give`]. One that is dropped
/// instead is lost to the pool, which [`DmaPool::taken`] shows.
#[must_use = "a buffer is given back to its pool"]
#[derive(Debug)]
pub struct DmaBuf {
    slice: DmaSlice,
    class: u8,
    index: u32,
}

impl DmaBuf {
    /// The whole buffer, which may be longer than what was asked for.
    pub fn slice(&self) -> DmaSlice {
        self.slice
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.slice.len()
    }

    /// The number of its size class, smallest first: larger than that of what was asked for where
    /// that had none left.
    pub fn class(&self) -> usize {
        usize::from(self.class)
    }

    /// A buffer is never empty.
    pub fn is_empty(&self) -> bool {
        false
    }
}

struct Class {
    bytes: u32,
    offset: usize,
    free: Vec<u32>,
    count: u32,
}

/// The buffers of one reactor. Taking and giving back are a pop and a push.
pub struct DmaPool {
    memory: Arc<Memory>,
    region: u16,
    classes: [Class; 4],
}

impl DmaPool {
    /// Divides region number `region` as `plan` says.
    ///
    /// # Panics
    /// If the region is too small for the plan.
    pub fn new(memory: Arc<Memory>, region: u16, plan: &PoolPlan) -> DmaPool {
        assert!(plan.bytes() <= memory.regions()[usize::from(region)].len(), "plan over region");
        // Largest class first, so that every buffer is aligned to its own size.
        let mut offset = plan.bytes();
        let classes = plan.0.map(|class| {
            offset -= class.bytes as usize * class.count as usize;
            let free = (0..class.count).rev().collect();
            Class { bytes: class.bytes, offset, free, count: class.count }
        });
        DmaPool { memory, region, classes }
    }

    /// A buffer of at least `bytes` bytes: from its own class, or the next larger one that has any.
    /// `None` when there is none: the caller waits until one is given back.
    #[inline]
    pub fn take(&mut self, bytes: usize) -> Option<DmaBuf> {
        self.class_to_take(bytes).and_then(|class| self.take_from(class))
    }

    /// The number of the class that a buffer of at least `bytes` bytes would be taken from now.
    #[inline]
    pub fn class_to_take(&self, bytes: usize) -> Option<usize> {
        let has = |class: &Class| class.bytes as usize >= bytes && !class.free.is_empty();
        self.classes.iter().position(has)
    }

    /// A buffer of class number `class`, or `None` when there is none.
    #[inline]
    pub fn take_from(&mut self, class: usize) -> Option<DmaBuf> {
        let from = &mut self.classes[class];
        let index = from.free.pop()?;
        let offset = from.offset + index as usize * from.bytes as usize;
        let slice = self.memory.slice(self.region, offset, from.bytes as usize);
        Some(DmaBuf { slice, class: class as u8, index })
    }

    /// Buffers by class, smallest first, on loan or not.
    pub fn counts(&self) -> [u32; 4] {
        std::array::from_fn(|i| self.classes[i].count)
    }

    /// Buffers of class number `class`: all of them, and those that are not on loan.
    #[inline]
    pub fn stock(&self, class: usize) -> (u32, u32) {
        let class = &self.classes[class];
        (class.count, class.free.len() as u32)
    }

    /// Takes a buffer back.
    #[inline]
    pub fn give(&mut self, buf: DmaBuf) {
        debug_assert_eq!(buf.slice.region(), self.region, "given to another reactor's pool");
        self.classes[usize::from(buf.class)].free.push(buf.index);
    }

    /// Whether `count` buffers of at least `bytes` bytes could be taken at once if all were here.
    pub fn could_take(&self, bytes: usize, count: u32) -> bool {
        let large = self.classes.iter().filter(|class| class.bytes as usize >= bytes);
        large.map(|class| class.count).sum::<u32>() >= count
    }

    /// Buffers on loan, by class, smallest first.
    pub fn taken(&self) -> [u32; 4] {
        std::array::from_fn(|i| self.classes[i].count - self.classes[i].free.len() as u32)
    }

    /// The memory it divides.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pool() -> DmaPool {
        let plan = PoolPlan::for_bytes(8 << 20);
        DmaPool::new(Arc::new(Memory::map(1, plan.bytes()).unwrap()), 0, &plan)
    }

    proptest! {
        #[test]
        fn buffers_never_overlap(ops in proptest::collection::vec((any::<bool>(), 1usize..1 << 20), 1..300)) {
            let mut pool = pool();
            let mut held: Vec<DmaBuf> = Vec::new();
            for (take, n) in ops {
                if take {
                    if let Some(buf) = pool.take(n) {
                        prop_assert!(buf.len() >= n);
                        prop_assert!(buf.slice().is_aligned(buf.len() as u32));
                        let start = buf.slice().as_ptr() as usize;
                        for other in &held {
                            let at = other.slice().as_ptr() as usize;
                            prop_assert!(start + buf.len() <= at || at + other.len() <= start);
                        }
                        held.push(buf);
                    }
                } else if !held.is_empty() {
                    pool.give(held.swap_remove(n % held.len()));
                }
                prop_assert_eq!(pool.taken().iter().sum::<u32>() as usize, held.len());
            }
        }
    }

    #[test]
    fn a_class_that_is_empty_borrows_from_a_larger_one_until_all_are() {
        let mut pool = pool();
        let mut count = 0;
        while let Some(buf) = pool.take(1) {
            count += 1;
            drop(buf);
        }
        assert_eq!(count, 512 + 128 + 16 + 2);
        assert!(pool.could_take(1 << 20, 2) && !pool.could_take(1 << 20, 3));
        assert!(pool.could_take(1, 658) && !pool.could_take((1 << 20) + 1, 1));
        assert!(pool.take(1).is_none());
    }

    #[test]
    fn copies_stay_inside() {
        let mut pool = pool();
        let buf = pool.take(4096).unwrap();
        buf.slice().zero();
        buf.slice().copy_in(4090, &[7; 6]);
        let mut out = [0; 8];
        buf.slice().copy_out(4088, &mut out);
        assert_eq!(out, [0, 0, 7, 7, 7, 7, 7, 7]);
        let over = std::panic::catch_unwind(|| buf.slice().copy_in(4091, &[7; 6]));
        assert!(over.is_err());
        pool.give(buf);
    }
}
