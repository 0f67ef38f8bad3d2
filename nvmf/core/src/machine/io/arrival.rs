//! Writes on a device that is memory whose data the host is asked for: it goes straight to the
//! blocks, and when all of it is there the write is done.
//!
//! Such a write takes effect block by block, within those polls of the transport that may land
//! data. Around each of them its namespace's gate is passed, so that no fused pair is in the
//! middle of the same blocks, and given back, so that no pair waits for a host that is slow.

use super::command::{Command, Verb};
use crate::export::gate::Pass;
use crate::machine::job::{HostData, Job};
use crate::machine::request::{Request, Requests};
use crate::machine::space::Spaces;
use bdev::EdgeCx;

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

    /// Has the data of the command at `at` go straight to its blocks, if it is a Write that can.
    pub(crate) fn plan(
        &mut self,
        at: u32,
        request: &mut Request,
        spaces: &Spaces,
        cx: &mut EdgeCx<'_>,
    ) {
        let Job::Io(io) = request.job() else { return };
        let (place, Command { verb: Verb::Write, lba, blocks, .. }) = (io.space, io.command) else {
            return;
        };
        let space = spaces.get(place);
        let (true, Ok(to)) = (space.direct, space.channel) else { return };
        if !matches!(request.needs().host_data, HostData::Pulled) {
            return;
        }
        if let Some(memory) = cx.stack.direct_access(to, lba, blocks) {
            request.land_at(memory);
            self.requests.push(at);
            self.qpairs.add(request.qpair());
            self.spaces.add(place);
        }
    }

    /// Whether no data is on its way to a device.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Queue pair number `number` of those that have such data on its way.
    pub(crate) fn qpair(&self, number: usize) -> Option<u32> {
        self.qpairs.0.get(number).map(|(key, _)| *key)
    }

    /// Before the transport is polled: passes the gates of the namespaces. False if a fused pair
    /// holds blocks of such a write: no data may land then.
    pub(crate) fn pass_gates(
        &mut self,
        requests: &Requests,
        spaces: &Spaces,
        reactor: usize,
    ) -> bool {
        for (place, _) in &self.spaces.0 {
            let writes = || {
                let here = self.requests.iter().map(|at| requests[*at].io_ref());
                here.filter(|io| io.space == *place)
                    .map(|io| (io.command.lba, u64::from(io.command.blocks)))
            };
            match spaces.get(*place).namespace.gate().enter_all(reactor, writes) {
                Some(pass) => self.passes.push((*place, pass)),
                None => return false,
            }
        }
        true
    }

    /// After the transport was polled: what has landed has landed.
    #[inline]
    pub(crate) fn dismiss(&mut self, spaces: &Spaces, reactor: usize) {
        for (place, pass) in self.passes.drain(..) {
            spaces.get(place).namespace.gate().leave(reactor, pass);
        }
    }

    /// All data of the write at `at` is in its blocks, or no more comes.
    pub(crate) fn arrived(&mut self, at: u32, request: &Request) {
        let place = self.requests.iter().position(|other| *other == at).expect("was on its way");
        self.requests.swap_remove(place);
        self.qpairs.remove(request.qpair());
        self.spaces.remove(request.io_ref().space);
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
