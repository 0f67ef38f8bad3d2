//! How queue pairs and their commands come to an early end: Abort, Disconnect, a lost connection,
//! the end of a controller. Nothing in the stack is cancelled; what has not started there ends.
//!
//! An Abort (Base Specification, "Abort command") is answered when the command it aborts has ended,
//! or at once when that cannot be stopped any more.

use super::Target;
use crate::export::controller::{AbortAsked, Controller};
use crate::machine::answer::Answer;
use crate::machine::io::fused::leader;
use crate::machine::qpair::Role;
use crate::machine::request::{Aborter, Doom, Stage};
use crate::machine::transport::Transport;
use bdev::{EdgeCx, Tag};
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
    /// Ends every command of a queue pair that is not in the stack.
    pub(super) fn doom_all(&mut self, key: u32, status: Status, cx: &mut EdgeCx<'_>) {
        for at in self.qpairs.requests(key) {
            self.doom(at, status, cx);
        }
        self.recall_all(key, cx);
    }

    /// Asks the stack for every command of a queue pair, as [`Target::recall`].
    pub(super) fn recall_all(&mut self, key: u32, cx: &mut EdgeCx<'_>) {
        for at in self.qpairs.requests(key) {
            self.recall(at, cx);
        }
    }

    /// Asks the stack to end a step of a command that it holds back and has not begun. (A write of
    /// a host that is gone would otherwise take effect long after, and over what the host has
    /// written by another path.)
    fn recall(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &self.requests[at];
        if matches!(request.stage(), Some(Stage::Executing { .. }))
            && let Some(space) = request.job().space()
            && let Some(to) = self.spaces.get(space).namespace.open_channel(self.reactor)
        {
            cx.stack.recall(to, cx.me, Tag(u64::from(at)), cx.now_ns);
        }
    }

    /// Asks the same for every command on a namespace that was removed.
    pub(super) fn recall_removed(&mut self, cx: &mut EdgeCx<'_>) {
        let is_removed = |space: u32| self.spaces.get(space).namespace.is_removed();
        let on_removed = self.requests.on_namespaces().filter(|(_, space)| is_removed(*space));
        let requests: Vec<u32> = on_removed.map(|(at, _)| at).collect();
        for at in requests {
            self.recall(at, cx);
        }
    }

    /// Ends a command with `status` as soon as it can be: at once where it only waits, after the
    /// pull or the step it is in otherwise. False when the whole of it is in the stack.
    pub(super) fn doom(&mut self, at: u32, status: Status, cx: &mut EdgeCx<'_>) -> bool {
        match self.requests[at].doom(status) {
            Doom::Futile => return false,
            Doom::Ends => {}
            Doom::Waits => self.doom_waiting(at, cx),
            Doom::EventHeld => self.drop_held_event(at, status, cx),
            Doom::FirstOfPair => {
                let key = self.requests[at].qpair();
                self.qpairs.io(key).take_first();
                self.finish(at, Answer::status(status), cx);
            }
        }
        true
    }

    /// Ends a command that waits for buffers, with its other half.
    fn doom_waiting(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let leader = leader(&self.requests, at);
        let key = self.requests[at].qpair();
        if self.waiting.remove(key, leader) {
            self.shares.served(key);
            self.run(leader, cx, |execution| execution.end_doomed(leader));
        }
    }

    /// Aborts command `cid` of queue `sqid` for the Abort at `at`.
    pub(super) fn abort(
        &mut self,
        at: u32,
        ctrl: &Arc<Controller>,
        sqid: u16,
        cid: u16,
        cx: &mut EdgeCx<'_>,
    ) {
        let key = self.requests[at].qpair();
        if !self.qpairs.admin(key).is_some_and(|queue| queue.abort_begins()) {
            return self.finish(at, Answer::status(Status::ABORT_LIMIT), cx);
        }
        self.requests[at].hold_as_abort();
        let attempt = match self.qpairs.queue_of(ctrl, sqid) {
            Some(qpair) => match qpair.find(cid).filter(|victim| *victim != at) {
                Some(victim) => self.try_abort(victim, Aborter::Here(at), cx),
                None => Attempt::Futile,
            },
            None if ctrl.ask_abort(AbortAsked { qid: sqid, cid, token: at }) => Attempt::Ends,
            None => Attempt::Futile,
        };
        match attempt {
            Attempt::Ended => self.aborted(at, cx),
            Attempt::Futile => self.finish(at, Answer::result(NOT_ABORTED), cx),
            Attempt::Ends => {}
        }
    }

    /// The Abort at `at` has ended the command that it was for.
    pub(super) fn aborted(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        self.finish(at, Answer::result(ABORTED), cx);
    }

    fn try_abort(&mut self, victim: u32, aborter: Aborter, cx: &mut EdgeCx<'_>) -> Attempt {
        let request = &self.requests[victim];
        if request.has_aborter() {
            return Attempt::Futile;
        }
        if request.is_event_held()
            && let Some(ctrl) = self.qpairs.get(request.qpair()).and_then(|qpair| qpair.ctrl())
        {
            ctrl.event_request_dropped();
        }
        if !self.doom(victim, Status::ABORT_REQUESTED, cx) {
            return Attempt::Futile;
        }
        let request = &mut self.requests[victim];
        if request.is_answered() {
            return Attempt::Ended;
        }
        request.set_aborter(aborter);
        Attempt::Ends
    }

    /// Does for an I/O queue what Aborts on other reactors ask for. True if there was any.
    pub(super) fn abort_for_others(&mut self, key: u32, cx: &mut EdgeCx<'_>) -> bool {
        let mut any = false;
        while let Some(qpair) = self.qpairs.get(key)
            && let Role::Io(queue) = qpair.role()
            && queue.ctrl().has_aborts()
            && let Some(asked) = queue.ctrl().take_abort_asked(queue.qid())
        {
            any = true;
            let ctrl = queue.ctrl().clone();
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
    pub(super) fn collect_abort_answers(&mut self, key: u32, cx: &mut EdgeCx<'_>) -> bool {
        let mut any = false;
        while let Some(queue) = self.qpairs.admin(key)
            && queue.ctrl().has_aborts()
            && let Some((at, aborted)) = queue.ctrl().take_abort_answer()
        {
            any = true;
            let result = if aborted { ABORTED } else { NOT_ABORTED };
            self.finish(at, Answer::result(result), cx);
        }
        any
    }
}
