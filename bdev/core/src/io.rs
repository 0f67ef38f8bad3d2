//! A block operation and its completion.

use crate::DmaSlice;
use nvme_spec::Status;

/// What an [`Io`] does to its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Blocks into `data`.
    Read,
    /// `data` into blocks.
    Write,
    /// Blocks read as zeros afterwards; no data.
    WriteZeroes,
    /// The contents are no longer needed: afterwards a block reads as zeros, or as before where
    /// zeros would have to be written (Dataset Management is advisory); no data.
    Deallocate,
    /// Every write completed before this was submitted is durable afterwards; no range, no data.
    Flush,
}

/// Modifiers of an [`Io`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoFlags(u8);

impl IoFlags {
    /// No modifier.
    pub const NONE: IoFlags = IoFlags(0);
    /// Force Unit Access: a write is durable before it completes.
    pub const FUA: IoFlags = IoFlags(1);
    /// Write Zeroes may give the space back.
    pub const MAY_DEALLOCATE: IoFlags = IoFlags(2);
    /// Of Deallocate: what the blocks hold is undefined afterwards, so nothing is ever written for it.
    pub const ANY_CONTENT: IoFlags = IoFlags(4);

    /// Whether every modifier of `other` is set.
    pub const fn has(self, other: IoFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both sets of modifiers.
    pub const fn with(self, other: IoFlags) -> IoFlags {
        IoFlags(self.0 | other.0)
    }
}

/// Where a completion goes: a channel of this reactor's stack, or an edge above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Addr(u32);

impl Addr {
    const EDGE: u32 = 1 << 31;

    /// The channel in slot `index` of the stack.
    pub const fn channel(index: u32) -> Addr {
        assert!(index < Addr::EDGE);
        Addr(index)
    }

    /// The edge in place `index` above the stack.
    pub const fn edge(index: u32) -> Addr {
        Addr(index | Addr::EDGE)
    }

    /// The number of the edge, if this is one.
    pub const fn as_edge(self) -> Option<u32> {
        if self.0 & Addr::EDGE != 0 { Some(self.0 & !Addr::EDGE) } else { None }
    }

    /// The slot in the stack, if this is a channel.
    pub const fn as_channel(self) -> Option<u32> {
        if self.0 & Addr::EDGE == 0 { Some(self.0) } else { None }
    }
}

/// The submitter's own name for an [`Io`], returned in its [`Done`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub u64);

/// One block operation on its way down. Linear: it ends in [`crate::Cx::complete`] or is passed
/// on, and is never dropped or copied (checked in debug builds).
///
/// `data` is exactly `blocks` times the block size for reads and writes and empty otherwise; the
/// submitter keeps the memory until the [`Done`] arrives.
#[must_use = "an Io is completed or passed on, never dropped"]
#[derive(Debug)]
pub struct Io {
    /// What to do.
    pub op: Op,
    /// Modifiers.
    pub flags: IoFlags,
    /// First block.
    pub lba: u64,
    /// Number of blocks; 0 for a flush.
    pub blocks: u32,
    /// The data, one contiguous piece.
    pub data: DmaSlice,
    /// Whom the completion goes to.
    pub reply_to: Addr,
    /// What the completion carries.
    pub reply_tag: Tag,
}

impl Io {
    /// Consumes the operation: its completion, with `status`.
    pub(crate) fn into_done(self, status: Status) -> Done {
        let done = Done { tag: self.reply_tag, status, to: self.reply_to };
        std::mem::forget(self);
        done
    }

    /// Takes the operation apart to be carried somewhere a value cannot be moved to (a kernel ring,
    /// another reactor). The caller becomes responsible for the [`Done`].
    pub fn into_parts(self) -> (Addr, Tag) {
        let parts = (self.reply_to, self.reply_tag);
        std::mem::forget(self);
        parts
    }
}

#[cfg(debug_assertions)]
impl Drop for Io {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("Io dropped without completion: {self:?}");
        }
    }
}

/// The completion of an [`Io`], on its way up.
#[must_use = "a Done is delivered to whom it names"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// The submitter's tag.
    pub tag: Tag,
    /// How it ended.
    pub status: Status,
    /// Whom it goes to.
    pub to: Addr,
}
