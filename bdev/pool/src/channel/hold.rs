//! Mail from the keeper: writes are held, the map changes between them, and whoever waits for what
//! is under way is told of its end.

use super::{Running, VolumeChannel};
use crate::state::{FreeLater, Mail, Scope, Traffic};
use bdev::{Cx, Op};
use nvme_spec::Status;
use std::sync::Arc;
use std::sync::mpsc::Sender;

/// Writes that wait until they are released.
pub(super) struct Hold {
    scope: Scope,
    /// Who is told when those before have ended.
    reply: Sender<()>,
}

impl Hold {
    pub(super) fn answer(self) {
        // Whoever asked may be gone.
        let _ = self.reply.send(());
    }
}

/// Something that waits for operations that were under way when it came.
pub(super) struct Barrier {
    /// Operations from this one on came later.
    before: u64,
    left: u32,
    then: Then,
}

enum Then {
    /// Writes in this scope: the keeper is told.
    Held(Scope, Sender<()>),
    /// Anything: slots are free.
    Free { _slots: Arc<FreeLater> },
}

impl Then {
    fn concerns(&self, running: &Running) -> bool {
        match self {
            Then::Held(Scope::Volume, _) => running.is_write(),
            Then::Held(Scope::Extent(extent), _) => {
                running.parts().any(|part| part.extent == *extent)
            }
            Then::Free { .. } => true,
        }
    }

    fn now(self) {
        if let Then::Held(_, reply) = self {
            // Whoever asked may be gone.
            let _ = reply.send(());
        }
    }
}

impl VolumeChannel {
    pub(super) fn read_mail(&mut self, cx: &mut Cx<'_>) -> u32 {
        let mails = self.view.mail();
        let work = mails.len() as u32;
        for mail in mails {
            match mail {
                Mail::Hold(scope, reply) => {
                    self.holds.push(Hold { scope, reply: reply.clone() });
                    self.wait_for_running(Then::Held(scope, reply));
                }
                Mail::Release => {
                    self.holds.clear();
                    self.retry_waiting(cx);
                }
                Mail::Run(task) => {
                    task(self.state());
                    self.look_at_limits(cx);
                }
                Mail::Granted(slots) => self.granted(slots, cx),
                Mail::Committed(ok) => self.committed(ok, cx),
                Mail::Fence(later) => self.fence(later),
            }
        }
        work
    }

    fn granted(&mut self, slots: Vec<crate::entry::Slot>, cx: &mut Cx<'_>) {
        let none = slots.is_empty();
        self.state().granted(slots);
        if !none {
            return self.retry_waiting(cx);
        }
        // Each is tried once more, and ends where it still needs a slot; the first one asks again,
        // and those behind it wait for that answer.
        let waiting = std::mem::take(&mut self.waiting);
        for io in waiting {
            let (at, bytes) = self.span(&io);
            match io.op != Op::Read && self.needs_slot(at, bytes) {
                true => {
                    Traffic::add(&self.view.traffic.found_full, 1);
                    self.state().found_full();
                    self.refuse(io, Status::CAPACITY_EXCEEDED, cx);
                }
                false => self.waiting.push_back(io),
            }
        }
        self.sweep_found_full();
        self.retry_waiting(cx);
    }

    fn look_at_limits(&mut self, cx: &mut Cx<'_>) {
        let state = self.state();
        if std::mem::take(&mut state.limits_changed) {
            let limits = state.limits;
            self.pace.set(limits);
            self.go_on_paced(cx);
        }
    }

    /// Whether writes to `extent` wait.
    pub(super) fn is_held(&self, extent: u64) -> bool {
        self.holds.iter().any(|hold| match hold.scope {
            Scope::Volume => true,
            Scope::Extent(held) => held == extent,
        })
    }

    pub(super) fn fence(&mut self, later: Arc<FreeLater>) {
        self.wait_for_running(Then::Free { _slots: later });
    }

    fn wait_for_running(&mut self, then: Then) {
        let left = self.running.iter().filter(|(_, running)| then.concerns(running)).count() as u32;
        match left {
            0 => then.now(),
            left => self.barriers.push(Barrier { before: self.serial + 1, left, then }),
        }
    }

    /// An operation has ended.
    pub(super) fn pass_barriers(&mut self, running: &Running) {
        let mut at = 0;
        while let Some(barrier) = self.barriers.get_mut(at) {
            if running.serial < barrier.before && barrier.then.concerns(running) {
                barrier.left -= 1;
                if barrier.left == 0 {
                    self.barriers.remove(at).then.now();
                    continue;
                }
            }
            at += 1;
        }
    }
}
