//! Memory that the driver and the controller both use: rings, lists, pages.
//!
//! The controller writes here at any time, so nothing is ever a Rust reference: entries go in and
//! out by raw copies, and the dword that says "the rest is there" is an atomic.

use crate::hardware::{BUS_PAGE_BYTES, Hardware};
use bdev::dma::Region;
use nvme_spec::Cqe;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering, fence};

/// A region on the bus, until this is dropped.
pub(crate) struct Mapping {
    hw: Arc<dyn Hardware>,
    start: usize,
    bytes: usize,
    /// The bus address of each [`BUS_PAGE_BYTES`].
    pages: Vec<u64>,
}

impl Mapping {
    /// Makes `region` reachable for the function.
    pub(crate) fn new(hw: Arc<dyn Hardware>, region: &Region) -> io::Result<Mapping> {
        let pages = hw.map(region)?;
        let needed = region.len() / BUS_PAGE_BYTES;
        assert_eq!(pages.len(), needed, "one bus address for each piece");
        Ok(Mapping { hw, start: region.as_ptr() as usize, bytes: region.len(), pages })
    }

    /// The bus address of `address`.
    ///
    /// # Panics
    /// If it lies outside: whoever submits uses memory that was made known.
    #[inline]
    pub(crate) fn bus(&self, address: usize) -> u64 {
        let offset = address.wrapping_sub(self.start);
        self.pages[offset / BUS_PAGE_BYTES] + (offset % BUS_PAGE_BYTES) as u64
    }

    /// Whether it is that of `region`.
    pub(crate) fn is_of(&self, region: &Region) -> bool {
        (self.start, self.bytes) == (region.as_ptr() as usize, region.len())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        self.hw.unmap(&self.pages, self.bytes);
    }
}

/// A region of the driver's own, on the bus, cut into pieces.
pub(crate) struct Block {
    // Dropped in this order: off the bus, then given back.
    mapping: Mapping,
    region: Region,
}

impl Block {
    /// At least `bytes` bytes of zeros.
    pub(crate) fn new(hw: Arc<dyn Hardware>, bytes: usize) -> io::Result<Arc<Block>> {
        let region = Region::map(bytes)?;
        let mapping = Mapping::new(hw, &region)?;
        Ok(Arc::new(Block { mapping, region }))
    }

    /// The piece of `bytes` bytes at `offset`, which does not cross a [`BUS_PAGE_BYTES`] boundary
    /// unless it is never given to the controller as one.
    pub(crate) fn piece(self: &Arc<Block>, offset: usize, bytes: usize) -> Piece {
        assert!(offset <= self.region.len() && bytes <= self.region.len() - offset);
        // SAFETY: inside the mapping, as just checked.
        let ptr = unsafe { NonNull::new_unchecked(self.region.as_ptr().add(offset)) };
        let bus = self.mapping.bus(ptr.as_ptr() as usize);
        Piece { ptr, bus, bytes, _block: self.clone() }
    }

    /// The bus address of the byte at `offset`.
    pub(crate) fn bus(&self, offset: usize) -> u64 {
        self.mapping.bus(self.region.as_ptr() as usize + offset)
    }
}

/// A part of a [`Block`], which lives as long as any part of it.
pub(crate) struct Piece {
    ptr: NonNull<u8>,
    bus: u64,
    bytes: usize,
    _block: Arc<Block>,
}

// SAFETY: a piece is used by one owner at a time; all access to the memory is by raw copies and
// atomics, as the controller's is.
unsafe impl Send for Piece {}

impl Piece {
    /// Its bus address.
    pub(crate) fn bus(&self) -> u64 {
        self.bus
    }

    fn at(&self, offset: usize, bytes: usize) -> *mut u8 {
        assert!(offset <= self.bytes && bytes <= self.bytes - offset, "outside of the piece");
        // SAFETY: inside the mapping, as just checked.
        unsafe { self.ptr.as_ptr().add(offset) }
    }

    /// Fills it with zeros.
    pub(crate) fn zero(&self) {
        // SAFETY: the piece is mapped for `bytes` bytes.
        unsafe { std::ptr::write_bytes(self.ptr.as_ptr(), 0, self.bytes) };
    }

    /// Copies out as much as `into` holds.
    pub(crate) fn copy_out(&self, into: &mut [u8]) {
        let from = self.at(0, into.len());
        // SAFETY: `from` is as many mapped bytes, and never memory of Rust's.
        unsafe { std::ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
    }

    /// Writes submission entry `index`, given as its quadwords.
    #[inline(always)]
    pub(crate) fn put_words(&self, index: u32, words: [u64; 8]) {
        assert!((index as usize) < self.bytes / 64, "outside of the ring");
        let words = words.map(u64::to_le);
        // SAFETY: 64 mapped bytes, as just checked, aligned since rings start at a page, that the
        // controller reads only after the doorbell.
        unsafe { self.ptr.as_ptr().cast::<[u64; 8]>().add(index as usize).write(words) };
    }

    /// Completion entry `index`, if its phase tag is `phase`.
    #[inline(always)]
    pub(crate) fn take_cqe(&self, index: u32, phase: bool) -> Option<Cqe> {
        assert!((index as usize) < self.bytes / 16, "outside of the ring");
        // SAFETY: the entry lies in the piece, as just checked.
        let from = unsafe { self.ptr.as_ptr().cast::<[u8; 16]>().add(index as usize) };
        // SAFETY: its last dword, 4-byte aligned since rings start at a page. The controller writes
        // it last; acquiring it makes the rest of the entry visible.
        let last =
            unsafe { AtomicU32::from_ptr(from.cast::<u32>().add(3)).load(Ordering::Acquire) };
        let last = u32::from_le(last);
        if (last >> 16 & 1 != 0) != phase {
            return None;
        }
        // SAFETY: 16 mapped bytes; an entry with the awaited phase is not written again before
        // the head doorbell passes it, and if it is, any bytes make an entry.
        let mut bytes = unsafe { from.read() };
        bytes[12..].copy_from_slice(&last.to_le_bytes());
        Some(zerocopy::transmute!(bytes))
    }

    /// Writes the little-endian quadword `index`.
    #[inline]
    pub(crate) fn put_u64(&self, index: usize, value: u64) {
        let to = self.at(index * 8, 8);
        // SAFETY: 8 mapped bytes that the controller reads only after the doorbell.
        unsafe { std::ptr::copy_nonoverlapping(value.to_le_bytes().as_ptr(), to, 8) };
    }

    fn dword(&self, offset: usize) -> &AtomicU32 {
        let at = self.at(offset, 4);
        assert!((at as usize).is_multiple_of(4));
        // SAFETY: 4 mapped, aligned bytes which live as long as self and are only ever accessed as
        // an atomic.
        unsafe { AtomicU32::from_ptr(at.cast()) }
    }

    /// Moves the doorbell in memory at `offset` to `value`, and says whether the controller, whose
    /// event index is in `events` at the same offset, wants the real one rung (Base Specification,
    /// "Doorbell Buffer Config command").
    pub(crate) fn move_shadow(&self, events: &Piece, offset: usize, value: u16) -> bool {
        let shadow = self.dword(offset);
        // The entries that the doorbell stands for come before it.
        let old = u32::from_le(shadow.load(Ordering::Relaxed)) as u16;
        shadow.store(u32::from(value).to_le(), Ordering::Release);
        // The controller stores its index and then looks at the shadow; we the other way round.
        fence(Ordering::SeqCst);
        let event = u32::from_le(events.dword(offset).load(Ordering::Relaxed)) as u16;
        value.wrapping_sub(event).wrapping_sub(1) < value.wrapping_sub(old)
    }

    /// Sets the doorbell in memory at `offset` back to 0.
    pub(crate) fn clear_shadow(&self, offset: usize) {
        self.dword(offset).store(0, Ordering::Release);
    }
}
