//! Hardware made of memory: hosts' keys, send queues, a shared receive queue, and what it does
//! wrong when told to.

use bdev::DmaSlice;
use nvmf::transport::Origin;
use nvmf_wire::rdma::Reject;
use std::collections::{BTreeMap, VecDeque};
use std::os::fd::RawFd;
use verbs::{
    Accepted, Ask, Completion, ConnectionEvent, Nic, NicError, Outcome, PortId, Receive, Sizes,
    What, Work,
};

/// What arrived at a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub place: u16,
    pub cqe: [u8; 16],
    pub invalidated: Option<u32>,
}

/// The send queue of one queue pair.
#[derive(Default)]
struct Queue {
    work: VecDeque<Work>,
    /// Entries that are not known to be free again.
    used: u32,
    /// Entries of work that has ended since the last completion that said so.
    silent: u32,
}

/// RDMA hardware.
#[derive(Default)]
pub struct FakeNic {
    pub events: VecDeque<ConnectionEvent<u32, Origin>>,
    queues: BTreeMap<u16, Queue>,
    receives: VecDeque<Receive>,
    pub port_open: bool,
    completions: VecDeque<Completion>,
    /// Memory of hosts, by key.
    pub memory: BTreeMap<u32, Vec<u8>>,
    pub answers: Vec<Answer>,
    pub rejected: Vec<Reject>,
    /// Work requests that fit in a send queue.
    pub room: u32,
    pub posts: u32,
    pub refuse_accept: bool,
    pub refuse_post: bool,
}

impl FakeNic {
    /// Hands a capsule to the queue pair at `place`. False if no receive is there (RNR).
    pub fn capsule(&mut self, place: u16, sqe: &[u8], data: &[u8], bytes: u32) -> bool {
        let Some(receive) = self.receives.pop_front() else { return false };
        receive.sqe.copy_in(0, sqe);
        receive.data.copy_in(0, data);
        let what = What::Received(receive.slot, bytes);
        let place = self.queues.contains_key(&place).then_some(place);
        self.completions.push_back(Completion { port: 0, place, outcome: Outcome::Done, what });
        true
    }

    /// Does the next work request of a queue pair, or breaks it there.
    pub fn work(&mut self, place: u16, fail: bool) -> bool {
        let Some(queue) = self.queues.get_mut(&place) else { return false };
        let Some(work) = queue.work.pop_front() else { return false };
        queue.silent += 1;
        let what = match work {
            Work::Read { tag, .. } => What::Read(tag),
            Work::Write { tag, .. } => What::Write(tag),
            Work::Send { tag, .. } => What::Sent(tag),
        };
        if fail {
            self.complete(place, Outcome::Failed(10), what);
            let rest: Vec<Work> =
                self.queues.get_mut(&place).expect("there").work.drain(..).collect();
            for work in rest {
                let (Work::Read { tag, .. } | Work::Write { tag, .. } | Work::Send { tag, .. }) =
                    work;
                self.complete(place, Outcome::Flushed, What::Sent(tag));
            }
            return true;
        }
        match work {
            Work::Read { into, from, .. } => {
                let bytes = &self.memory[&from.rkey];
                let at = from.addr as usize;
                into.copy_in(0, &bytes[at..at + into.len()]);
            }
            Work::Write { from, into, .. } => {
                let bytes = self.memory.get_mut(&into.rkey).expect("a key of a host");
                let at = into.addr as usize;
                from.copy_out(0, &mut bytes[at..at + from.len()]);
                return true;
            }
            Work::Send { cqe, invalidate, .. } => {
                let mut bytes = [0; 16];
                cqe.copy_out(0, &mut bytes);
                self.answers.push(Answer { place, cqe: bytes, invalidated: invalidate });
            }
        }
        let queue = self.queues.get_mut(&place).expect("there");
        queue.used -= std::mem::take(&mut queue.silent);
        self.complete(place, Outcome::Done, what);
        true
    }

    fn complete(&mut self, place: u16, outcome: Outcome, what: What) {
        self.completions.push_back(Completion { port: 0, place: Some(place), outcome, what });
    }

    /// Every piece of memory that work under way names.
    pub fn touched(&self) -> Vec<DmaSlice> {
        let all = self.queues.values().flat_map(|queue| &queue.work);
        all.map(|work| match *work {
            Work::Read { into, .. } => into,
            Work::Write { from, .. } => from,
            Work::Send { cqe, .. } => cqe,
        })
        .collect()
    }

    /// Queue pairs that exist.
    pub fn queue_pairs(&self) -> usize {
        self.queues.len()
    }

    /// Receives that are with the hardware.
    pub fn receives(&self) -> usize {
        self.receives.len()
    }
}

impl Nic for FakeNic {
    type Request = u32;
    type Admission = Origin;

    fn connection_event(&mut self) -> Option<ConnectionEvent<u32, Origin>> {
        self.events.pop_front()
    }

    fn open_port(&mut self, _port: PortId, _receives: u16) -> Result<(), NicError> {
        assert!(!self.port_open, "opened twice");
        self.port_open = true;
        Ok(())
    }

    fn close_port(&mut self, _port: PortId) {
        assert!(self.queues.is_empty(), "closed under its queue pairs");
        self.port_open = false;
        self.receives.clear();
        self.completions.clear();
    }

    fn accept(
        &mut self,
        place: u16,
        _port: PortId,
        _request: u32,
        _ask: &Ask,
        sizes: Sizes,
    ) -> Result<Accepted, NicError> {
        if self.refuse_accept {
            return Err(NicError("no queue pair".into()));
        }
        assert!(self.queues.insert(place, Queue::default()).is_none(), "the place is taken");
        Ok(Accepted { work: sizes.work.min(self.room) })
    }

    fn reject(&mut self, _request: u32, why: Reject) {
        self.rejected.push(why);
    }

    fn release(&mut self, place: u16) {
        self.queues.remove(&place).expect("released once");
        // What has not been seen yet of a queue pair that is gone names none.
        for completion in self.completions.iter_mut().filter(|c| c.place == Some(place)) {
            completion.place = None;
        }
    }

    fn post(&mut self, place: u16, work: &[Work]) -> Result<(), NicError> {
        if self.refuse_post {
            return Err(NicError("out of memory".into()));
        }
        self.posts += 1;
        let room = self.room;
        let queue = self.queues.get_mut(&place).expect("posted to a queue pair that is there");
        queue.work.extend(work);
        queue.used += work.len() as u32;
        assert!(queue.used <= room, "{} work requests in a queue of {room}", queue.used);
        Ok(())
    }

    fn receive(&mut self, _port: PortId, receives: &[Receive]) {
        assert!(self.port_open);
        for receive in receives {
            let twice = self.receives.iter().any(|other| other.slot == receive.slot);
            assert!(!twice, "receive {} posted twice", receive.slot);
            self.receives.push_back(*receive);
        }
    }

    fn poll(&mut self, out: &mut Vec<Completion>) {
        out.extend(self.completions.drain(..));
    }

    fn may_sleep(&self) -> bool {
        true
    }

    fn wake_fd(&self) -> Option<RawFd> {
        None
    }
}
