//! A submission queue and its completion queue.

use crate::hardware::Hardware;
use crate::memory::Piece;
use nvme_spec::Cqe;
use nvme_spec::queue::doorbell;

/// Doorbells in memory: pages of shadows and of event indices, and where a queue's are.
pub(crate) struct Shadow {
    pub(crate) shadows: Piece,
    pub(crate) events: Piece,
}

/// One pair of rings. Whoever pushes keeps fewer commands under way than there are entries, so
/// neither ring ever overruns.
pub(crate) struct Ring {
    sq: Piece,
    cq: Piece,
    qid: u16,
    entries: u32,
    tail: u32,
    /// The tail that the controller was told.
    told_tail: u32,
    head: u32,
    /// The phase tag of entries that are new.
    phase: bool,
    tail_bell: usize,
    head_bell: usize,
    shadow: Option<Shadow>,
    shadowed: bool,
}

impl Ring {
    /// Queue `qid` in `sq` and `cq`, both zeros, of a controller with doorbell stride `dstrd`.
    /// `shadow` is where its doorbells in memory are, should it use them.
    pub(crate) fn new(
        sq: Piece,
        cq: Piece,
        qid: u16,
        entries: u32,
        dstrd: u8,
        shadow: Option<Shadow>,
    ) -> Ring {
        Ring {
            sq,
            cq,
            qid,
            entries,
            tail: 0,
            told_tail: 0,
            head: 0,
            phase: true,
            tail_bell: doorbell(qid, false, dstrd),
            head_bell: doorbell(qid, true, dstrd),
            shadow,
            shadowed: false,
        }
    }

    /// Its identifier.
    pub(crate) fn qid(&self) -> u16 {
        self.qid
    }

    /// Entries of each ring.
    pub(crate) fn entries(&self) -> u32 {
        self.entries
    }

    /// Bus addresses of the submission and the completion queue.
    pub(crate) fn bases(&self) -> (u64, u64) {
        (self.sq.bus(), self.cq.bus())
    }

    /// The controller has doorbell stride `dstrd`.
    pub(crate) fn set_stride(&mut self, dstrd: u8) {
        self.tail_bell = doorbell(self.qid, false, dstrd);
        self.head_bell = doorbell(self.qid, true, dstrd);
    }

    /// Sets the rings back to the start, for a controller that has been reset and has not been
    /// given them again.
    pub(crate) fn restart(&mut self) {
        self.cq.zero();
        (self.tail, self.told_tail, self.head, self.phase) = (0, 0, 0, true);
        self.shadowed = false;
        if let Some(shadow) = &self.shadow {
            for bell in [self.tail_bell, self.head_bell] {
                shadow.shadows.clear_shadow(bell - 0x1000);
                shadow.events.clear_shadow(bell - 0x1000);
            }
        }
    }

    /// The controller has the queue, and looks at the doorbells in memory if `shadowed`.
    pub(crate) fn go_live(&mut self, shadowed: bool) {
        assert!(!shadowed || self.shadow.is_some(), "a place for the doorbells");
        self.shadowed = shadowed;
    }

    /// Puts a command, given as its quadwords, behind the last. The controller hears of it from
    /// [`Ring::ring`].
    #[inline(always)]
    pub(crate) fn push(&mut self, words: [u64; 8]) {
        self.sq.put_words(self.tail, words);
        self.tail = if self.tail + 1 == self.entries { 0 } else { self.tail + 1 };
    }

    /// Whether there are commands that the controller was not told of.
    #[inline]
    pub(crate) fn has_news(&self) -> bool {
        self.tail != self.told_tail
    }

    /// Tells the controller of every command pushed, with one doorbell.
    #[inline]
    pub(crate) fn ring(&mut self, hw: &dyn Hardware) {
        if self.has_news() {
            self.told_tail = self.tail;
            self.tell(hw, self.tail_bell, self.tail);
        }
    }

    /// Takes the next completion.
    #[inline(always)]
    pub(crate) fn next(&mut self) -> Option<Cqe> {
        let cqe = self.cq.take_cqe(self.head, self.phase)?;
        self.head += 1;
        if self.head == self.entries {
            self.head = 0;
            self.phase = !self.phase;
        }
        Some(cqe)
    }

    /// Gives the entries of completions taken back to the controller.
    #[inline]
    pub(crate) fn release(&mut self, hw: &dyn Hardware) {
        self.tell(hw, self.head_bell, self.head);
    }

    fn tell(&self, hw: &dyn Hardware, bell: usize, value: u32) {
        if self.shadowed
            && let Some(shadow) = &self.shadow
            && !shadow.shadows.move_shadow(&shadow.events, bell - 0x1000, value as u16)
        {
            return;
        }
        hw.write32(bell, value);
    }
}
