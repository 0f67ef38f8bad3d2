//! Writes on a device that is memory whose data the host is asked for: it goes straight to the
//! blocks, and when all of it is there the write is done.
//!
//! Such a write takes effect block by block, within those polls of the transport that may land
//! data. Around each of them its namespace's gate is passed, so that no fused pair is in the
//! middle of the same blocks, and given back, so that no pair waits for a host that is slow.

use super::command::{Command, Verb};
use crate::export::gate::Pass;
use crate::machine::qpair::Role;
use crate::machine::request::{Answer, Job};
use crate::machine::target::Target;
use crate::machine::transport::Transport;
use bdev::EdgeCx;
use nvme_spec::Status;

/// The writes of one reactor whose data arrives in memory.
pub(crate) struct Arrivals {
    requests: Vec<u32>,
    /// Their queue pairs and their namespaces, each with the number of its writes.
    qpairs: Tally,
    spaces: Tally,
    /// Passes of this poll, with the namespace.
    passes: Vec<(u32, Pass)>,
}

impl Arrivals {
    /// None of at most `limit`.
    pub(crate) fn new(limit: u32) -> Arrivals {
        Arrivals {
            requests: Vec::with_capacity(limit as usize),
            qpairs: Tally::default(),
            spaces: Tally::default(),
            passes: Vec::new(),
        }
    }
}

/// Numbers, and how often each is there.
#[derive(Default)]
struct Tally(Vec<(u32, u32)>);

impl Tally {
    fn add(&mut self, number: u32) {
        match self.0.iter_mut().find(|(other, _)| *other == number) {
            Some((_, count)) => *count += 1,
            None => self.0.push((number, 1)),
        }
    }

    fn remove(&mut self, number: u32) {
        let at = self.0.iter().position(|(other, _)| *other == number).expect("was added");
        self.0[at].1 -= 1;
        if self.0[at].1 == 0 {
            self.0.swap_remove(at);
        }
    }
}

impl<T: Transport> Target<T> {
    /// Has the data of the command at `at` go straight to its blocks, if it is a Write that can.
    pub(super) fn plan_arrival(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &mut self.requests[at as usize];
        let Job::Io(Command { verb: Verb::Write, lba, blocks, .. }) = request.job else { return };
        let space = self.spaces.get(request.space);
        let takes = self.qpairs.get(request.qpair).is_some_and(|qpair| qpair.direct);
        let (true, true, Ok(to)) = (takes, space.direct, space.channel) else { return };
        if request.pull_bytes == 0 {
            return;
        }
        request.arrives = cx.stack.direct_access(to, lba, blocks);
        if request.arrives.is_some() {
            request.data_bytes = 0;
            self.arrivals.requests.push(at);
            self.arrivals.qpairs.add(request.qpair);
            self.arrivals.spaces.add(request.space);
        }
    }

    /// Before the transport is polled: whether data may land. Queue pairs whose controller is
    /// gone are closed first.
    #[inline]
    pub(crate) fn admit_arrivals(&mut self) -> bool {
        self.arrivals.requests.is_empty() || self.pass_gates()
    }

    fn pass_gates(&mut self) -> bool {
        for at in 0..self.arrivals.qpairs.0.len() {
            let (key, _) = self.arrivals.qpairs.0[at];
            if let Some(qpair) = self.qpairs.get(key)
                && let Role::Io(queue) = &qpair.role
                && queue.ctrl.epoch() != queue.epoch
            {
                self.close_orphan(key);
            }
        }
        let Arrivals { requests, spaces, passes, .. } = &mut self.arrivals;
        for (place, _) in &spaces.0 {
            let writes = || {
                let here = requests.iter().map(|at| &self.requests[*at as usize]);
                here.filter(|request| request.space == *place).map(|request| {
                    let Command { lba, blocks, .. } = request.command();
                    (lba, u64::from(blocks))
                })
            };
            let gate = self.spaces.get(*place).namespace.gate();
            match gate.enter_all(self.reactor, writes) {
                Some(pass) => passes.push((*place, pass)),
                None => return false,
            }
        }
        true
    }

    /// After the transport was polled: what has landed has landed.
    #[inline]
    pub(crate) fn dismiss_arrivals(&mut self) {
        for (place, pass) in self.arrivals.passes.drain(..) {
            self.spaces.get(place).namespace.gate().leave(self.reactor, pass);
        }
    }

    /// All data of a write is in its blocks, or no more comes.
    pub(crate) fn arrived(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &mut self.requests[at as usize];
        request.arrives = None;
        let Arrivals { requests, qpairs, spaces, .. } = &mut self.arrivals;
        let place = requests.iter().position(|other| *other == at).expect("was on its way");
        requests.swap_remove(place);
        qpairs.remove(request.qpair);
        spaces.remove(request.space);
        let status = request.doomed.unwrap_or(Status::SUCCESS);
        self.finish(at, Answer::status(status), cx);
    }
}
