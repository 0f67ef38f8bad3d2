//! Reads and writes on a device that is memory: executed where the command is taken in, without a
//! buffer and without a way through the stack.

use super::account::count_io;
use super::command::{Command, Verb, parse};
use crate::export::gate::Pass;
use crate::machine::admission::{Way, admit, way};
use crate::machine::qpairs::Qpairs;
use crate::machine::request::Requests;
use crate::machine::space::Spaces;
use crate::machine::transport::{InCapsule, ReqId, Response};
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
    place: u32,
    cid: u16,
    command: Command,
    from: DmaSlice,
    to: DmaSlice,
    pass: Pass,
}

/// What became of a command that came.
pub(crate) enum Taken {
    /// Nothing: it has to take the way of all others.
    No,
    /// It is a write, let through, and executed with the others of its batch.
    Lands,
    /// It is a read: answered with the blocks themselves, which are held until that is sent.
    Answered(Response),
}

/// What direct commands have to do with.
pub(crate) struct Direct<'a> {
    pub(crate) requests: &'a mut Requests,
    pub(crate) qpairs: &'a mut Qpairs,
    pub(crate) spaces: &'a mut Spaces,
    /// Writes of this batch of events.
    pub(crate) landings: &'a mut Vec<Landing>,
    pub(crate) reactor: usize,
    pub(crate) now_ns: u64,
}

impl Direct<'_> {
    /// Takes on a Read or a Write for which everything is there: the blocks in memory, the data in
    /// the capsule, nothing in the way.
    #[inline]
    pub(crate) fn take(
        &mut self,
        key: u32,
        req: ReqId,
        sqe: &Sqe,
        in_capsule: InCapsule,
        cx: &mut EdgeCx<'_>,
    ) -> Taken {
        let Some(qpair) = self.qpairs.get_mut(key) else { return Taken::No };
        let fits = match sqe.opcode {
            nvm::READ => qpair.is_direct(),
            nvm::WRITE => matches!(in_capsule, InCapsule::Data(_)),
            _ => false,
        };
        if !fits
            || sqe.fuse() != Fuse::None
            || way(qpair) != Way::Io
            || qpair.find(sqe.cid()).is_some()
        {
            return Taken::No;
        }
        let Some(queue) = qpair.io().filter(|queue| !queue.awaits_second()) else {
            return Taken::No;
        };
        let Ok(place) = admit(queue, sqe.nsid(), self.spaces) else { return Taken::No };
        let space = self.spaces.get_mut(place);
        let (Ok(to), true) = (space.channel, space.direct) else { return Taken::No };
        let Ok(command) = parse(sqe, &space.geometry) else { return Taken::No };
        let Some(memory) = cx.stack.direct_access(to, command.lba, command.blocks) else {
            return Taken::No;
        };
        if let InCapsule::Data(data) = in_capsule
            && command.verb == Verb::Write
        {
            if data.len() < memory.len() {
                return Taken::No;
            }
            let (lba, blocks) = (command.lba, u64::from(command.blocks));
            let Some(pass) = space.namespace.gate().enter(self.reactor, lba, blocks) else {
                return Taken::No;
            };
            let (cid, from) = (sqe.cid(), data.sub(0, memory.len()));
            self.landings.push(Landing { req, place, cid, command, from, to: memory, pass });
        }
        queue.note_command();
        space.commands += 1;
        qpair.command_came();
        self.requests[req.0].begin_direct(key, place);
        match command.verb {
            Verb::Read => {
                Taken::Answered(self.answer(req, place, sqe.cid(), command, Some(memory)))
            }
            _ => Taken::Lands,
        }
    }

    /// Executes the writes that were taken on: the copies first, one after the other, while what the
    /// answers need is not in the way in the cache. Then hands over their answers.
    pub(crate) fn land(&mut self, mut respond: impl FnMut(ReqId, Response)) {
        let mut landings = std::mem::take(self.landings);
        for (at, landing) in landings.iter().enumerate() {
            if let Some(next) = landings.get(at + 1) {
                next.to.prefetch(AHEAD_BYTES);
            }
            landing.to.copy_from(landing.from);
        }
        for Landing { req, place, cid, command, pass, .. } in landings.drain(..) {
            self.spaces.get(place).namespace.gate().leave(self.reactor, pass);
            respond(req, self.answer(req, place, cid, command, None));
        }
        *self.landings = landings;
    }

    /// Counts and answers a command that was taken on.
    #[inline(always)]
    fn answer(
        &mut self,
        req: ReqId,
        place: u32,
        cid: u16,
        command: Command,
        data: Option<DmaSlice>,
    ) -> Response {
        let qpair = self.qpairs.of(self.requests[req.0].qpair());
        let space = self.spaces.get(place);
        let block_bytes = space.geometry.block_bytes;
        if let Some(meter) = qpair.meter() {
            count_io(&meter.counters, command, block_bytes);
        }
        count_io(space.namespace.counters(self.reactor), command, block_bytes);
        let mut cqe = Cqe::new(cid, Status::SUCCESS);
        cqe.sqhd = U16::new(qpair.retire(None));
        qpair.host_owes(self.now_ns);
        let cqe_may_be_implied = data.is_some() && !qpair.flow_control();
        Response { lent: data.is_some(), data, cqe, cqe_may_be_implied }
    }
}
