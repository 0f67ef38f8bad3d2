//! What has to be looked at now and then: keep alive, events raised on other reactors, queue pairs
//! whose controller has ended there.

use crate::export::controller::EndReason;
use crate::export::refused::RefusalReason;
use crate::limits;
use crate::machine::qpair::{Phase, Role};
use crate::machine::target::Target;
use crate::machine::transport::{CloseReason, Transport};
use bdev::EdgeCx;

impl<T: Transport> Target<T> {
    /// One pass over the queue pairs. Returns how many of them something happened to.
    pub(crate) fn tick(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        self.next_tick_ns = cx.now_ns + limits::TICK_NS;
        let forget = self.spaces.any_removed();
        if forget {
            self.recall_removed(cx);
        }
        let (mut number, mut work) = (0, 0);
        while let Some(key) = self.keys.get(number).copied() {
            work += u32::from(self.look_after(key, forget, cx));
            number += 1;
        }
        for space in self.spaces.busy() {
            space.subsystem.note_busy(cx.now_ns);
        }
        work
    }

    fn look_after(&mut self, key: u32, forget: bool, cx: &mut EdgeCx<'_>) -> bool {
        let mut told = false;
        let Some(qpair) = self.qpairs.get_mut(key) else { return false };
        match (&qpair.phase, &mut qpair.role) {
            (Phase::AwaitingConnect { by_ns }, _) if cx.now_ns >= *by_ns => {
                let why = CloseReason::Protocol("no Connect came in time".into());
                self.note_given_up(key, RefusalReason::NoConnect, None);
                self.close_qpair(key, why);
                return true;
            }
            (Phase::AwaitingConnect { .. }, _) if qpair.origin.place.is_unwanted() => {
                let why = CloseReason::Protocol("no Connect came, and its place was needed".into());
                self.note_given_up(key, RefusalReason::NoConnect, None);
                self.close_qpair(key, why);
                return true;
            }
            (_, Role::Admin(queue)) => {
                if queue.ctrl.is_live() && queue.ctrl.keep_alive_expired(cx.now_ns) {
                    self.counters.keep_alive_expiries.add(1);
                    queue.ctrl.end(EndReason::KeepAliveExpired);
                    self.note_given_up(key, RefusalReason::KeepAlive, None);
                }
                told = self.deliver_events(key, cx) | self.collect_abort_answers(key, cx);
            }
            (_, Role::Io(queue)) => {
                if std::mem::take(&mut queue.seen) {
                    queue.ctrl.seen(cx.now_ns);
                }
                if forget {
                    queue.forget_views(&mut self.spaces);
                }
                told = self.abort_for_others(key, cx);
            }
            _ => {}
        }
        if self.qpairs.get(key).is_some_and(|qpair| qpair.phase == Phase::Closed) {
            // What was on its way to where it is held back was not found there the first time.
            self.recall_all(key, cx);
        }
        self.close_orphan(key) || told
    }
}
