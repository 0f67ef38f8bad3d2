//! The Abort command (Base Specification, "Abort command"): answered when the command it aborts
//! has ended, or at once when that cannot be stopped any more.

use crate::export::controller::{AbortAsked, Controller};
use crate::limits;
use crate::machine::qpair::Role;
use crate::machine::request::{Aborter, Answer, State};
use crate::machine::target::Target;
use crate::machine::transport::Transport;
use bdev::EdgeCx;
use nvme_spec::Status;
use std::sync::Arc;

/// Result of an Abort, in dword 0: aborted.
const ABORTED: u32 = 0;
/// Result of an Abort, in dword 0: not aborted.
const NOT_ABORTED: u32 = 1;

/// What came of an attempt to abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// The command has ended.
    Ended,
    /// It ends soon, and whoever aborts it is told then.
    Ends,
    /// It cannot be stopped.
    Futile,
}

impl<T: Transport> Target<T> {
    /// Aborts command `cid` of queue `sqid` for the Abort at `at`.
    pub(crate) fn abort(
        &mut self,
        at: u32,
        ctrl: &Arc<Controller>,
        sqid: u16,
        cid: u16,
        cx: &mut EdgeCx<'_>,
    ) {
        if !self.abort_begins(at) {
            return self.finish(at, Answer::status(Status::ABORT_LIMIT), cx);
        }
        let of_ctrl = |c: &Arc<Controller>| Arc::ptr_eq(c, ctrl);
        let queue = self
            .qpairs
            .iter()
            .find(|(_, qpair)| qpair.qid() == sqid && qpair.ctrl().is_some_and(of_ctrl));
        let attempt = match queue {
            Some((_, qpair)) => match qpair.find(cid).filter(|victim| *victim != at) {
                Some(victim) => self.try_abort(victim, Aborter::Here(at), cx),
                None => Attempt::Futile,
            },
            None if ctrl.ask_abort(AbortAsked { qid: sqid, cid, token: at }) => Attempt::Ends,
            None => Attempt::Futile,
        };
        match attempt {
            Attempt::Ended => self.finish(at, Answer::result(ABORTED), cx),
            Attempt::Futile => self.finish(at, Answer::result(NOT_ABORTED), cx),
            Attempt::Ends => {}
        }
    }

    /// One more Abort of an admin queue is under way; false if that is one too many.
    fn abort_begins(&mut self, at: u32) -> bool {
        let request = &mut self.requests[at as usize];
        let Some(qpair) = self.qpairs.get_mut(request.qpair) else { unreachable!("kept") };
        let Role::Admin(queue) = &mut qpair.role else { unreachable!("an admin queue") };
        if queue.aborting == limits::ABORTS {
            return false;
        }
        queue.aborting += 1;
        request.state = State::Aborting;
        true
    }

    /// An Abort is answered.
    #[cold]
    pub(crate) fn abort_ends(&mut self, at: u32) {
        if let Some(qpair) = self.qpairs.get_mut(self.requests[at as usize].qpair)
            && let Role::Admin(queue) = &mut qpair.role
        {
            queue.aborting -= 1;
        }
    }

    fn try_abort(&mut self, victim: u32, aborter: Aborter, cx: &mut EdgeCx<'_>) -> Attempt {
        let request = &self.requests[victim as usize];
        if request.aborter.is_some() {
            return Attempt::Futile;
        }
        if request.state == State::EventHeld
            && let Some(ctrl) = self.qpairs.get(request.qpair).and_then(|qpair| qpair.ctrl())
        {
            ctrl.event_request_dropped();
        }
        if !self.doom(victim, Status::ABORT_REQUESTED, cx) {
            return Attempt::Futile;
        }
        let request = &mut self.requests[victim as usize];
        if request.state == State::Responding {
            return Attempt::Ended;
        }
        request.aborter = Some(aborter);
        Attempt::Ends
    }

    /// A command that was to be aborted has ended.
    #[cold]
    pub(crate) fn tell_aborter(&mut self, victim: u32, aborter: Aborter, cx: &mut EdgeCx<'_>) {
        match aborter {
            Aborter::Here(at) => self.finish(at, Answer::result(ABORTED), cx),
            Aborter::Elsewhere(token) => {
                let key = self.requests[victim as usize].qpair;
                if let Some(ctrl) = self.qpairs.get(key).and_then(|qpair| qpair.ctrl()) {
                    ctrl.answer_abort(token, true);
                }
            }
        }
    }

    /// Does for an I/O queue what Aborts on other reactors ask for. True if there was any.
    pub(crate) fn abort_for_others(&mut self, key: u32, cx: &mut EdgeCx<'_>) -> bool {
        let mut any = false;
        while let Some(qpair) = self.qpairs.get(key)
            && let Role::Io(queue) = &qpair.role
            && queue.ctrl.has_aborts()
            && let Some(asked) = queue.ctrl.take_abort_asked(queue.qid)
        {
            any = true;
            let ctrl = queue.ctrl.clone();
            let attempt = match qpair.find(asked.cid) {
                Some(victim) => self.try_abort(victim, Aborter::Elsewhere(asked.token), cx),
                None => Attempt::Futile,
            };
            match attempt {
                Attempt::Ended => ctrl.answer_abort(asked.token, true),
                Attempt::Futile => ctrl.answer_abort(asked.token, false),
                Attempt::Ends => {}
            }
        }
        any
    }

    /// Answers the Aborts of an admin queue that other reactors have dealt with. True if there
    /// was any.
    pub(crate) fn collect_abort_answers(&mut self, key: u32, cx: &mut EdgeCx<'_>) -> bool {
        let mut any = false;
        while let Some(qpair) = self.qpairs.get(key)
            && let Role::Admin(queue) = &qpair.role
            && queue.ctrl.has_aborts()
            && let Some((at, aborted)) = queue.ctrl.take_abort_answer()
        {
            any = true;
            let result = if aborted { ABORTED } else { NOT_ABORTED };
            self.finish(at, Answer::result(result), cx);
        }
        any
    }
}
