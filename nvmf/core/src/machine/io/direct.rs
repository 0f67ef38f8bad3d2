//! Reads and writes on a device that is memory: executed where the command is taken in, without a
//! buffer and without a way through the stack.

use super::account::count_io;
use super::command::{Command, Verb, parse};
use crate::export::gate::Pass;
use crate::machine::qpair::{Phase, Role};
use crate::machine::target::Target;
use crate::machine::transport::{InCapsule, ReqId, Response, Transport};
use bdev::{DmaSlice, EdgeCx};
use nvme_spec::opcode::nvm;
use nvme_spec::{Cqe, Fuse, Sqe, Status};
use zerocopy::little_endian::U16;

/// What is asked for of the next write's place while one is copied, in bytes: less leaves the
/// processor waiting at its start, more keeps the copy under way waiting.
const AHEAD_BYTES: usize = 256;

/// A write that is let through, and not executed yet.
pub(crate) struct Landing {
    req: ReqId,
    cid: u16,
    command: Command,
    from: DmaSlice,
    to: DmaSlice,
    pass: Pass,
}

impl<T: Transport> Target<T> {
    /// Takes on a Read or a Write for which everything is there: the blocks in memory, the data in
    /// the capsule, nothing in the way. A read is answered with the blocks themselves; a write is
    /// executed and answered by [`Target::land`]. False, and nothing done, if the command has to
    /// take the way of all others.
    #[inline]
    pub(crate) fn take_direct(
        &mut self,
        key: u32,
        req: ReqId,
        sqe: &Sqe,
        in_capsule: InCapsule,
        cx: &mut EdgeCx<'_>,
    ) -> bool {
        let Some(qpair) = self.qpairs.get_mut(key) else { return false };
        let Role::Io(queue) = &mut qpair.role else { return false };
        let fits = match sqe.opcode {
            nvm::READ => qpair.direct,
            nvm::WRITE => matches!(in_capsule, InCapsule::Data(_)),
            _ => false,
        };
        if !fits
            || sqe.fuse() != Fuse::None
            || qpair.phase != Phase::Open
            || queue.first_of_pair.is_some()
            || queue.ctrl.epoch() != queue.epoch
        {
            return false;
        }
        if qpair.cids.get(sqe.cid()).is_some() {
            return false;
        }
        let Some(place) = queue.space(sqe.nsid(), &mut self.spaces) else { return false };
        // Looked up or found current just now.
        let space = self.spaces.get_mut(place);
        let (Ok(to), true) = (space.channel, space.direct) else { return false };
        let Ok(command) = parse(sqe, &space.geometry) else { return false };
        let Some(memory) = cx.stack.direct_access(to, command.lba, command.blocks) else {
            return false;
        };
        if let InCapsule::Data(data) = in_capsule
            && command.verb == Verb::Write
        {
            if data.len() < memory.len() {
                return false;
            }
            let (lba, blocks) = (command.lba, u64::from(command.blocks));
            let Some(pass) = space.namespace.gate().enter(self.reactor, lba, blocks) else {
                return false;
            };
            let (cid, from) = (sqe.cid(), data.sub(0, memory.len()));
            self.landings.push(Landing { req, cid, command, from, to: memory, pass });
        }
        qpair.slots += 1;
        queue.ctrl.set_depth(queue.qid, qpair.slots);
        queue.seen = true;
        space.commands += 1;
        self.requests[req.0 as usize].begin_direct(key, place);
        if command.verb == Verb::Read {
            self.answer_direct(req, sqe.cid(), command, Some(memory));
        }
        true
    }

    /// Executes and answers the writes that were taken on: the copies first, one after the other,
    /// while what the answers need is not in the way in the cache.
    pub(crate) fn land(&mut self) {
        if self.landings.is_empty() {
            return;
        }
        let mut landings = std::mem::take(&mut self.landings);
        for (at, landing) in landings.iter().enumerate() {
            if let Some(next) = landings.get(at + 1) {
                next.to.prefetch(AHEAD_BYTES);
            }
            landing.to.copy_from(landing.from);
        }
        for Landing { req, cid, command, pass, .. } in landings.drain(..) {
            let space = self.spaces.get(self.requests[req.0 as usize].space);
            space.namespace.gate().leave(self.reactor, pass);
            self.answer_direct(req, cid, command, None);
        }
        self.landings = landings;
    }

    /// Answers a command that was taken on. What it has lent is held until it is sent.
    #[inline(always)]
    fn answer_direct(&mut self, req: ReqId, cid: u16, command: Command, data: Option<DmaSlice>) {
        let request = &mut self.requests[req.0 as usize];
        let qpair = self.qpairs.get_mut(request.qpair).expect("kept while it has commands");
        let Role::Io(queue) = &qpair.role else { unreachable!("an I/O queue") };
        let space = self.spaces.get(request.space);
        let block_bytes = space.geometry.block_bytes;
        count_io(queue.ctrl.queue_counters(queue.qid), command, block_bytes);
        count_io(space.namespace.counters(self.reactor), command, block_bytes);
        let mut cqe = Cqe::new(cid, Status::SUCCESS);
        cqe.sqhd = U16::new(qpair.retire(None));
        let cqe_may_be_implied = data.is_some() && !qpair.flow_control;
        self.transport
            .respond(req, Response { lent: data.is_some(), data, cqe, cqe_may_be_implied });
    }
}
