//! RDMA made of memory: initiators and the target's transport on one wire, which does what queue
//! pairs do, in an order of the test's choice, and breaks when told to.

mod host;
mod target;

pub use host::SoftDialer;
pub use target::SoftNic;

use bdev::{DmaSlice, Memory};
use nvmf::transport::Origin;
use nvmf_wire::rdma::Reject;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use verbs::initiator::{Ending, Landing, Send};
use verbs::{Completion, ConnectionEvent, Outcome, Receive, What, Work};

/// What goes wrong, and in which order things happen.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Turns: how much is done at once, in which order, and what is told late. Over and over.
    pub choices: Vec<u8>,
    /// After so many steps of work, once.
    pub fault: Option<(u32, Fault)>,
    /// Every request for a connection is turned away.
    pub reject: Option<Reject>,
    /// Nobody answers requests for connections.
    pub deaf: bool,
}

/// What goes wrong with a queue pair that does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The network is gone: what is sent is not acknowledged.
    Unacknowledged,
    /// The host has no receive for an answer.
    NoReceive,
    /// The target's connection manager ends it.
    Disconnected,
    /// An answer is too short to be one.
    ShortAnswer,
    /// An answer invalidates a key without being asked.
    Invalidates,
    /// An answer comes twice.
    Twice,
    /// Data lands one byte beside its place.
    Misplaced,
}

/// One connection, with both its ends.
struct Conn {
    /// The target's end, once it has accepted.
    place: Option<u16>,
    rejected: Option<Reject>,
    /// The host's end is there.
    host: bool,
    /// A failure has broken it: what is posted is flushed.
    broken: bool,
    disconnected: bool,
    own: Arc<Memory>,
    lent: Arc<Memory>,
    landings: VecDeque<Landing>,
    sends: VecDeque<Send>,
    /// SENDs that have arrived, whose end the host has not been told.
    arrived: VecDeque<Send>,
    /// How often in a row it was not told.
    late: u32,
    endings: VecDeque<Ending>,
    work: VecDeque<Work>,
    /// Entries of the target's send queue that are in use, and of those the ones that have ended
    /// without a word.
    used: u32,
    silent: u32,
}

/// Both sides' hardware.
#[derive(Default)]
struct State {
    plan: Plan,
    turn: usize,
    steps: u32,
    asks: VecDeque<ConnectionEvent<u32, Origin>>,
    conns: BTreeMap<u32, Conn>,
    next: u32,
    receives: VecDeque<Receive>,
    completions: VecDeque<Completion>,
}

/// The wire.
#[derive(Clone, Default)]
pub struct Wire(Arc<Mutex<State>>);

impl Wire {
    /// A wire on which all goes as `plan` says.
    pub fn new(plan: Plan) -> Wire {
        let wire = Wire::default();
        wire.state().plan = plan;
        wire
    }

    /// Goes on as `plan` says.
    pub fn replan(&self, plan: Plan) {
        let mut state = self.state();
        (state.plan, state.steps) = (plan, 0);
    }

    /// How things go now.
    pub fn plan(&self) -> Plan {
        self.state().plan.clone()
    }

    /// Ends every connection there is, as a network does that is gone.
    pub fn cut(&self) {
        let mut state = self.state();
        let all: Vec<u32> = state.conns.keys().copied().collect();
        for conn in all {
            state.fail(conn, 12);
        }
    }

    /// Connections of which either end is there.
    pub fn connections(&self) -> usize {
        self.state().conns.len()
    }

    /// The memory that hosts' hardware or the target may still use through a connection.
    pub fn touched(&self) -> Vec<DmaSlice> {
        let state = self.state();
        let mut all = Vec::new();
        for conn in state.conns.values().filter(|conn| conn.host) {
            let sends = conn.sends.iter().chain(&conn.arrived);
            all.extend(sends.filter_map(|send| send.data));
            for work in &conn.work {
                if let Work::Read { from: remote, .. } | Work::Write { into: remote, .. } = work {
                    all.extend(conn.named(remote.rkey, remote.addr, remote.bytes as usize));
                }
            }
        }
        all
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

/// The key of a region: of the link's own memory, or of what is lent.
fn key_of(conn: u32, lent: bool, region: u16) -> u32 {
    conn << 9 | u32::from(lent) << 8 | u32::from(region)
}

impl Conn {
    /// The memory that a key and an address name.
    fn named(&self, key: u32, addr: u64, bytes: usize) -> Option<DmaSlice> {
        let memory = if key >> 8 & 1 == 1 { &self.lent } else { &self.own };
        let region = (key & 0xff) as u16;
        let base = memory.regions().get(usize::from(region))?.as_ptr() as u64;
        let length = memory.regions()[usize::from(region)].len();
        let offset = usize::try_from(addr.checked_sub(base)?).ok()?;
        let inside = offset.checked_add(bytes)? <= length;
        inside.then(|| memory.slice(region, offset, bytes))
    }
}

fn copy(from: DmaSlice, to: DmaSlice) {
    let mut bytes = vec![0; from.len().min(to.len())];
    from.copy_out(0, &mut bytes);
    to.copy_in(0, &bytes);
}

impl State {
    fn choice(&mut self) -> u8 {
        self.turn += 1;
        let choices = &self.plan.choices;
        if choices.is_empty() { 0xf0 } else { choices[self.turn % choices.len()] }
    }

    /// Does some of what is posted.
    fn progress(&mut self) {
        let choice = self.choice();
        let conns: Vec<u32> = self.conns.keys().copied().collect();
        for _ in 0..choice >> 4 {
            for &conn in &conns {
                let host_first = self.choice() & 1 == 0;
                if host_first {
                    self.send(conn)
                } else {
                    self.work(conn)
                }
                if host_first {
                    self.work(conn)
                } else {
                    self.send(conn)
                }
                self.tell(conn);
            }
        }
    }

    /// Whether the fault is due.
    fn faulty(&mut self, faults: &[Fault]) -> Option<Fault> {
        let (at, fault) = self.plan.fault.filter(|(_, fault)| faults.contains(fault))?;
        (self.steps >= at).then(|| {
            self.plan.fault = None;
            fault
        })
    }

    /// Carries one command from host to target.
    fn send(&mut self, number: u32) {
        let Some(conn) = self.conns.get_mut(&number) else { return };
        let (Some(place), true, false) = (conn.place, conn.host, conn.broken) else { return };
        if conn.sends.is_empty() || self.receives.is_empty() {
            return;
        }
        self.steps += 1;
        match self.faulty(&[Fault::Unacknowledged, Fault::Disconnected]) {
            Some(Fault::Disconnected) => return self.disconnect(number),
            Some(_) => return self.fail(number, 12),
            None => {}
        }
        let receive = self.receives.pop_front().expect("just looked");
        let conn = self.conns.get_mut(&number).expect("just looked");
        let send = conn.sends.pop_front().expect("just looked");
        copy(send.capsule.sub(0, 64), receive.sqe);
        let inline = send.capsule.sub(64, send.capsule.len() - 64);
        if !inline.is_empty() {
            copy(inline, receive.data);
        }
        if let Some(data) = send.data {
            copy(data, receive.data);
        }
        let bytes = send.capsule.len() + send.data.map_or(0, DmaSlice::len);
        conn.arrived.push_back(send);
        let what = What::Received(receive.slot, bytes as u32);
        let (place, outcome) = (Some(place), Outcome::Done);
        self.completions.push_back(Completion { port: 0, place, outcome, what });
    }

    /// Tells a host that its SENDs have arrived, sooner or later.
    fn tell(&mut self, number: u32) {
        let late = self.choice() & 3 == 3;
        let Some(conn) = self.conns.get_mut(&number).filter(|conn| conn.host) else { return };
        // Late, but not for ever.
        conn.late = if late && conn.late < 3 { conn.late + 1 } else { 0 };
        if conn.late > 0 {
            return;
        }
        let sent = conn.arrived.drain(..);
        conn.endings.extend(sent.map(|s| Ending::Sent { slot: s.slot, outcome: Outcome::Done }));
    }

    /// Does one work request of the target's.
    fn work(&mut self, number: u32) {
        let Some(conn) = self.conns.get_mut(&number) else { return };
        let (Some(place), false) = (conn.place, conn.broken) else { return };
        let Some(work) = conn.work.front().copied() else { return };
        if !conn.host {
            return self.fail(number, 12);
        }
        self.steps += 1;
        match work {
            Work::Read { tag, into, from } => match conn.named(from.rkey, from.addr, into.len()) {
                Some(memory) => copy(memory, into),
                None => return self.refuse(number, What::Read(tag)),
            },
            Work::Write { tag, from, into } => {
                let slip = u64::from(self.faulty(&[Fault::Misplaced]).is_some());
                let conn = self.conns.get_mut(&number).expect("just looked");
                match conn.named(into.rkey, into.addr + slip, from.len()) {
                    Some(memory) => copy(from, memory),
                    None => return self.refuse(number, What::Write(tag)),
                }
            }
            Work::Send { tag, cqe, invalidate } => {
                if !self.answer(number, cqe, invalidate) {
                    let what = What::Sent(tag);
                    let (place, outcome) = (Some(place), Outcome::Failed(13));
                    self.completions.push_back(Completion { port: 0, place, outcome, what });
                    return self.fail(number, 13);
                }
            }
        }
        let conn = self.conns.get_mut(&number).expect("just looked");
        conn.work.pop_front();
        conn.silent += 1;
        let what = match work {
            Work::Read { tag, .. } => What::Read(tag),
            Work::Send { tag, .. } => What::Sent(tag),
            Work::Write { .. } => return,
        };
        conn.used -= std::mem::take(&mut conn.silent);
        let (place, outcome) = (Some(place), Outcome::Done);
        self.completions.push_back(Completion { port: 0, place, outcome, what });
    }

    /// Carries an answer to the host. False if it has no receive.
    fn answer(&mut self, number: u32, cqe: DmaSlice, invalidate: Option<u32>) -> bool {
        let all = [Fault::NoReceive, Fault::ShortAnswer, Fault::Invalidates, Fault::Twice];
        let fault = self.faulty(&all);
        let conn = self.conns.get_mut(&number).expect("the caller looked");
        let times = if fault == Some(Fault::Twice) { 2 } else { 1 };
        for _ in 0..times {
            let landing = conn.landings.pop_front().filter(|_| fault != Some(Fault::NoReceive));
            let Some(landing) = landing else { return false };
            copy(cqe, landing.cqe);
            let bytes = if fault == Some(Fault::ShortAnswer) { 15 } else { 16 };
            let invalidated = invalidate.or((fault == Some(Fault::Invalidates)).then_some(7));
            let (slot, outcome) = (landing.slot, Outcome::Done);
            conn.endings.push_back(Ending::Received { slot, outcome, bytes, invalidated });
        }
        true
    }

    /// The target named memory that is not the host's to give.
    fn refuse(&mut self, number: u32, what: What) {
        let place = self.conns[&number].place;
        let outcome = Outcome::Failed(10);
        self.completions.push_back(Completion { port: 0, place, outcome, what });
        self.fail(number, 10);
    }

    /// Breaks a connection: what is posted fails or is flushed.
    fn fail(&mut self, number: u32, code: u32) {
        let Some(conn) = self.conns.get_mut(&number) else { return };
        conn.broken = true;
        let mut outcome = Outcome::Failed(code);
        for send in conn.arrived.drain(..).chain(conn.sends.drain(..)) {
            conn.endings.push_back(Ending::Sent { slot: send.slot, outcome });
            outcome = Outcome::Flushed;
        }
        for landing in conn.landings.drain(..) {
            let (slot, outcome) = (landing.slot, Outcome::Flushed);
            let ending = Ending::Received { slot, outcome, bytes: 0, invalidated: None };
            conn.endings.push_back(ending);
        }
        let place = conn.place;
        let mut outcome = Outcome::Failed(code);
        for work in conn.work.drain(..) {
            let what = match work {
                Work::Read { tag, .. } => What::Read(tag),
                Work::Write { tag, .. } => What::Write(tag),
                Work::Send { tag, .. } => What::Sent(tag),
            };
            self.completions.push_back(Completion { port: 0, place, outcome, what });
            outcome = Outcome::Flushed;
        }
    }

    /// The connection managers tell both ends that it is over.
    fn disconnect(&mut self, number: u32) {
        let Some(conn) = self.conns.get_mut(&number) else { return };
        conn.disconnected = true;
        if let Some(place) = conn.place {
            let why = verbs::Gone::Disconnected;
            self.asks.push_back(ConnectionEvent::Gone { place, why });
        }
    }

    /// Forgets a connection of which no end is left.
    fn forget(&mut self, number: u32) {
        let gone = |conn: &Conn| !conn.host && conn.place.is_none();
        if self.conns.get(&number).is_some_and(gone) {
            self.conns.remove(&number);
        }
    }
}
