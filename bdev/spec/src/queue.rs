//! Commands of memory-based transports: I/O queues, doorbells in memory, Abort.

use crate::Sqe;
use crate::opcode::admin;
use zerocopy::little_endian::U32;

/// The Create I/O Completion Queue command (Base Specification, "Create I/O Completion Queue
/// command"); PRP1 is the queue, physically contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateCq {
    /// Queue identifier, from 1.
    pub qid: u16,
    /// Entries, 2 to 65,536.
    pub entries: u32,
    /// Interrupt vector; `None` turns interrupts off.
    pub vector: Option<u16>,
}

/// The Create I/O Submission Queue command (Base Specification, "Create I/O Submission Queue
/// command"); PRP1 is the queue, physically contiguous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateSq {
    /// Queue identifier, from 1.
    pub qid: u16,
    /// Entries, 2 to 65,536.
    pub entries: u32,
    /// The completion queue that its completions go to.
    pub cqid: u16,
}

/// Dword 10 of both: the zero-based size and the identifier.
fn size_and_id(qid: u16, entries: u32) -> U32 {
    assert!((2..=0x1_0000).contains(&entries), "{entries} entries make no queue");
    U32::new((entries - 1) << 16 | u32::from(qid))
}

impl CreateCq {
    /// The command, with the queue at bus address `base`.
    pub fn sqe(&self, cid: u16, base: u64) -> Sqe {
        let mut sqe = Sqe::new(admin::CREATE_CQ, cid, 0);
        sqe.set_prps(base, 0);
        sqe.cdw10 = size_and_id(self.qid, self.entries);
        let interrupts = self.vector.map_or(0, |vector| u32::from(vector) << 16 | 2);
        sqe.cdw11 = U32::new(interrupts | 1);
        sqe
    }

    /// The fields of a Create I/O Completion Queue command.
    pub fn of(sqe: &Sqe) -> CreateCq {
        let (d10, d11) = (sqe.cdw10.get(), sqe.cdw11.get());
        let vector = (d11 & 2 != 0).then_some((d11 >> 16) as u16);
        CreateCq { qid: d10 as u16, entries: (d10 >> 16) + 1, vector }
    }
}

impl CreateSq {
    /// The command, with the queue at bus address `base`.
    pub fn sqe(&self, cid: u16, base: u64) -> Sqe {
        let mut sqe = Sqe::new(admin::CREATE_SQ, cid, 0);
        sqe.set_prps(base, 0);
        sqe.cdw10 = size_and_id(self.qid, self.entries);
        sqe.cdw11 = U32::new(u32::from(self.cqid) << 16 | 1);
        sqe
    }

    /// The fields of a Create I/O Submission Queue command.
    pub fn of(sqe: &Sqe) -> CreateSq {
        let (d10, d11) = (sqe.cdw10.get(), sqe.cdw11.get());
        CreateSq { qid: d10 as u16, entries: (d10 >> 16) + 1, cqid: (d11 >> 16) as u16 }
    }
}

/// Whether "physically contiguous" is set in a command that creates a queue.
pub fn is_contiguous(sqe: &Sqe) -> bool {
    sqe.cdw11.get() & 1 != 0
}

/// A Delete I/O Submission Queue or Delete I/O Completion Queue command, as `opcode` says.
pub fn delete(opcode: u8, cid: u16, qid: u16) -> Sqe {
    Sqe { cdw10: U32::new(u32::from(qid)), ..Sqe::new(opcode, cid, 0) }
}

/// The Abort command (Base Specification, "Abort command") for command `target` of queue `sqid`.
pub fn abort(cid: u16, sqid: u16, target: u16) -> Sqe {
    let what = u32::from(target) << 16 | u32::from(sqid);
    Sqe { cdw10: U32::new(what), ..Sqe::new(admin::ABORT, cid, 0) }
}

/// Bit 0 of dword 0 of the completion of an Abort: the command was not aborted.
pub const NOT_ABORTED: u32 = 1;

/// The Doorbell Buffer Config command (Base Specification, "Doorbell Buffer Config command"):
/// one page of shadow doorbells, one of event indices, both laid out as the doorbells are.
pub fn doorbell_buffers(cid: u16, shadows: u64, events: u64) -> Sqe {
    let mut sqe = Sqe::new(admin::DOORBELL_BUFFER, cid, 0);
    sqe.set_prps(shadows, events);
    sqe
}

/// Offset in bytes, in the properties of a controller with doorbell stride `dstrd`, of the
/// doorbell of submission queue `qid` (its tail) or, if `completion`, of completion queue `qid`
/// (its head). Less 1000h it is the place in a doorbell buffer.
pub const fn doorbell(qid: u16, completion: bool, dstrd: u8) -> usize {
    0x1000 + (2 * qid as usize + completion as usize) * (4 << dstrd)
}
