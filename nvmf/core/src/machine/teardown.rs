//! How queue pairs and their commands come to an early end: Abort, Disconnect, a lost connection,
//! the end of a controller. Nothing in the stack is cancelled; what has not started there ends.

use crate::export::controller::EndReason;
use crate::machine::place::NONE;
use crate::machine::qpair::{Phase, Role};
use crate::machine::request::{Answer, State, Step};
use crate::machine::target::Target;
use crate::machine::transport::{CloseReason, Transport};
use bdev::{EdgeCx, Tag};
use nvme_spec::Status;

impl<T: Transport> Target<T> {
    /// The connection of a queue pair is gone: its controller hears of it.
    pub(crate) fn detach(&mut self, key: u32) {
        if let Some(qpair) = self.qpairs.get(key)
            && let Role::Admin(queue) = &qpair.role
        {
            queue.ctrl.end(EndReason::AdminQueueClosed);
        }
    }

    /// Ends every command of a queue pair that is not in the stack.
    pub(crate) fn doom_all(&mut self, key: u32, status: Status, cx: &mut EdgeCx<'_>) {
        let Some(qpair) = self.qpairs.get(key) else { return };
        for at in qpair.requests() {
            self.doom(at, status, cx);
        }
        self.recall_all(key, cx);
    }

    /// Asks the stack for every command of a queue pair, as [`Target::recall`].
    pub(crate) fn recall_all(&mut self, key: u32, cx: &mut EdgeCx<'_>) {
        let Some(qpair) = self.qpairs.get(key) else { return };
        for at in qpair.requests() {
            self.recall(at, cx);
        }
    }

    /// Asks the stack to end a step of a command that it holds back and has not begun. (A write of
    /// a host that is gone would otherwise take effect long after, and over what the host has
    /// written by another path.)
    fn recall(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &self.requests[at as usize];
        if matches!(request.state, State::Executing(_))
            && request.space != NONE
            && let Some(to) = self.spaces.get(request.space).namespace.open_channel(self.reactor)
        {
            cx.stack.recall(to, cx.me, Tag(u64::from(at)), cx.now_ns);
        }
    }

    /// Asks the same for every command on a namespace that was removed.
    pub(crate) fn recall_removed(&mut self, cx: &mut EdgeCx<'_>) {
        for at in 0..self.requests.len() as u32 {
            let space = self.requests[at as usize].space;
            if space != NONE && self.spaces.get(space).namespace.is_removed() {
                self.recall(at, cx);
            }
        }
    }

    /// Ends a command with `status` as soon as it can be: at once where it only waits, after the
    /// pull or the step it is in otherwise. False when the whole of it is in the stack.
    pub(crate) fn doom(&mut self, at: u32, status: Status, cx: &mut EdgeCx<'_>) -> bool {
        let request = &mut self.requests[at as usize];
        match request.state {
            State::Free | State::Responding | State::Aborting => return false,
            State::Executing(Step::Whole | Step::CompareRead | Step::PairWrite) => return false,
            _ => request.doomed = request.doomed.or(Some(status)),
        }
        match request.state {
            State::NeedBuffer => self.doom_waiting(at, cx),
            State::EventHeld => self.drop_held_event(at, status, cx),
            State::FirstOfPair => {
                if let Some(qpair) = self.qpairs.get_mut(request.qpair)
                    && let Role::Io(queue) = &mut qpair.role
                {
                    queue.first_of_pair = None;
                }
                self.finish(at, Answer::status(status), cx);
            }
            // The end of the pull or of the step, the other half, or the next look at the gate
            // ends it.
            _ => {}
        }
        true
    }

    /// Ends a command that waits for buffers, with its other half.
    fn doom_waiting(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let leader = self.leader(at);
        if self.waiting.remove(leader) {
            self.end_doomed(leader, cx);
        }
    }

    /// Closes a queue pair whose controller has ended, or has been reset under it. True if it did.
    pub(crate) fn close_orphan(&mut self, key: u32) -> bool {
        let Some(qpair) = self.qpairs.get(key) else { return false };
        if matches!(qpair.phase, Phase::Closing | Phase::Closed) {
            return false;
        }
        let why = match &qpair.role {
            Role::Unconnected => None,
            Role::Admin(queue) => queue.ctrl.ended().map(EndReason::text),
            Role::Io(queue) if queue.ctrl.epoch() == queue.epoch => None,
            Role::Io(queue) => {
                Some(queue.ctrl.ended().map_or("the controller was reset", EndReason::text))
            }
        };
        let Some(why) = why else { return false };
        self.close_qpair(key, CloseReason::Controller(why));
        true
    }
}
