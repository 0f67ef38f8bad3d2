//! One queue pair as the target sees it.

use crate::export::controller::{Controller, QueueMeter};
use crate::export::subsystem::Subsystem;
use crate::limits;
use crate::machine::cid::{CidError, CidTable};
use crate::machine::place::NONE;
use crate::machine::space::Spaces;
use crate::machine::transport::{Origin, Owed, QpairId};
use nvme_spec::aen::Event;
use std::sync::Arc;

/// Whether the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It stands, and has to bring a Connect before `by_ns`.
    AwaitingConnect {
        /// In ns of the reactor's clock.
        by_ns: u64,
    },
    /// Connected to a controller.
    Open,
    /// A Disconnect came: it closes when its commands have been answered.
    Leaving,
    /// The transport was told to close it.
    Closing,
    /// The transport has closed it; commands are still under way.
    Closed,
}

/// What the queue pair is to its controller.
pub(crate) enum Role {
    /// Nothing yet.
    Unconnected,
    /// The admin queue.
    Admin(AdminQueue),
    /// An I/O queue.
    Io(IoQueue),
}

impl Role {
    /// The controller, once connected.
    #[inline]
    pub(crate) fn ctrl(&self) -> Option<&Arc<Controller>> {
        match self {
            Role::Unconnected => None,
            Role::Admin(queue) => Some(&queue.ctrl),
            Role::Io(queue) => Some(&queue.ctrl),
        }
    }
}

/// An admin queue.
pub(crate) struct AdminQueue {
    ctrl: Arc<Controller>,
    /// Asynchronous Event Requests held, oldest first.
    events: Vec<u32>,
    /// Aborts that wait for the end of what they abort.
    aborting: u8,
}

impl AdminQueue {
    pub(crate) fn new(ctrl: Arc<Controller>) -> AdminQueue {
        let events = Vec::with_capacity(usize::from(limits::ASYNC_EVENTS));
        AdminQueue { ctrl, events, aborting: 0 }
    }

    /// Its controller.
    pub(crate) fn ctrl(&self) -> &Arc<Controller> {
        &self.ctrl
    }

    /// Holds the Asynchronous Event Request at `at` until there is an event.
    pub(crate) fn hold_event(&mut self, at: u32) {
        self.events.push(at);
    }

    /// The oldest event request held and an event for it, if there are both.
    pub(crate) fn take_event(&mut self) -> Option<(u32, Event)> {
        if self.events.is_empty() || !self.ctrl.has_event() {
            return None;
        }
        let event = self.ctrl.take_event()?;
        Some((self.events.remove(0), event))
    }

    /// Holds the event request at `at` no more.
    pub(crate) fn drop_event(&mut self, at: u32) {
        self.events.retain(|held| *held != at);
    }

    /// Some event request that is held, no more.
    pub(crate) fn pop_event(&mut self) -> Option<u32> {
        self.events.pop()
    }

    /// One more Abort is under way; false if that is one too many.
    pub(crate) fn abort_begins(&mut self) -> bool {
        let begins = self.aborting < limits::ABORTS;
        self.aborting += u8::from(begins);
        begins
    }

    /// An Abort is answered.
    pub(crate) fn abort_ends(&mut self) {
        self.aborting -= 1;
    }
}

/// Namespaces an I/O queue remembers.
const VIEWS: usize = 8;

/// An I/O queue.
pub(crate) struct IoQueue {
    ctrl: Arc<Controller>,
    subsystem: Arc<Subsystem>,
    qid: u16,
    /// Of the controller when the queue was connected: when it differs, the queue closes.
    epoch: u32,
    /// The first half of a fused pair, until the next command comes.
    first_of_pair: Option<u32>,
    /// Commands came since the last timer pass.
    seen: bool,
    views: [View; VIEWS],
}

/// Where a namespace is in the reactor's table.
#[derive(Clone, Copy)]
struct View {
    nsid: u32,
    space: u32,
    generation: u64,
    /// Whoever keeps account of writers has noted the host.
    noted: bool,
}

const NO_VIEW: View = View { nsid: 0, space: NONE, generation: 0, noted: false };

impl IoQueue {
    pub(crate) fn new(ctrl: Arc<Controller>, qid: u16, epoch: u32) -> IoQueue {
        IoQueue {
            subsystem: ctrl.subsystem().clone(),
            ctrl,
            qid,
            epoch,
            first_of_pair: None,
            seen: false,
            views: [NO_VIEW; VIEWS],
        }
    }

    /// Its controller.
    #[inline]
    pub(crate) fn ctrl(&self) -> &Arc<Controller> {
        &self.ctrl
    }

    /// The subsystem of its controller.
    #[inline]
    pub(crate) fn subsystem(&self) -> &Arc<Subsystem> {
        &self.subsystem
    }

    /// Its identifier.
    #[inline]
    pub(crate) fn qid(&self) -> u16 {
        self.qid
    }

    /// Whether its controller is the one that it was connected to, and has not been reset since.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        self.ctrl.epoch() == self.epoch
    }

    /// A command has come.
    #[inline]
    pub(crate) fn note_command(&mut self) {
        self.seen = true;
    }

    /// Whether commands came since this was last asked.
    pub(crate) fn take_seen(&mut self) -> bool {
        std::mem::take(&mut self.seen)
    }

    /// Whether the first half of a fused pair waits for the second.
    #[inline]
    pub(crate) fn awaits_second(&self) -> bool {
        self.first_of_pair.is_some()
    }

    /// The first half of a fused pair came.
    pub(crate) fn hold_first(&mut self, at: u32) {
        self.first_of_pair = Some(at);
    }

    /// The first half of a fused pair, which waits no more.
    #[inline]
    pub(crate) fn take_first(&mut self) -> Option<u32> {
        self.first_of_pair.take()
    }

    /// The place of namespace `nsid`, if there is one.
    #[inline]
    pub(crate) fn space(&mut self, nsid: u32, spaces: &mut Spaces) -> Option<u32> {
        let view = &self.views[nsid as usize % VIEWS];
        if view.nsid == nsid && view.space != NONE && view.generation == self.subsystem.generation()
        {
            return Some(view.space);
        }
        self.look_up(nsid, spaces)
    }

    #[cold]
    fn look_up(&mut self, nsid: u32, spaces: &mut Spaces) -> Option<u32> {
        let view = &mut self.views[nsid as usize % VIEWS];
        if view.space != NONE {
            spaces.forget(view.space);
            *view = NO_VIEW;
        }
        // First, so that a change meanwhile is found the next time.
        let generation = self.subsystem.generation();
        let namespace = self.subsystem.namespace(nsid)?;
        let space = spaces.remember(&self.subsystem, &namespace);
        *view = View { nsid, space, generation, noted: false };
        Some(space)
    }

    /// Whether the host is noted as one that writes to namespace `nsid`, as far as the queue remembers.
    #[inline]
    pub(crate) fn is_noted(&self, nsid: u32) -> bool {
        let view = &self.views[nsid as usize % VIEWS];
        view.nsid == nsid && view.noted
    }

    /// The host is noted, as long as the namespace in place `space` is namespace `nsid`.
    pub(crate) fn set_noted(&mut self, nsid: u32, space: u32) {
        let view = &mut self.views[nsid as usize % VIEWS];
        view.noted |= view.nsid == nsid && view.space == space;
    }

    /// Forgets every namespace.
    pub(crate) fn forget_views(&mut self, spaces: &mut Spaces) {
        for view in &mut self.views {
            if view.space != NONE {
                spaces.forget(view.space);
                *view = NO_VIEW;
            }
        }
    }
}

/// A queue pair.
pub(crate) struct Qpair {
    id: QpairId,
    origin: Origin,
    phase: Phase,
    role: Role,
    /// What it counts, once connected.
    meter: Option<Arc<QueueMeter>>,
    /// Its transport takes data that is lent, and data for devices.
    direct: bool,
    /// The host watches SQHD.
    flow_control: bool,
    /// Places of the transport that its commands use, until `Sent`.
    slots: u32,
    cids: CidTable,
    /// Entries of the submission queue.
    entries: u16,
    sqhd: u16,
    /// Data that the host has to send, and answers that it has to take.
    owed: Owed,
}

impl Qpair {
    /// A connection that has to bring a Connect before `by_ns`.
    pub(crate) fn new(id: QpairId, origin: Origin, direct: bool, by_ns: u64) -> Qpair {
        Qpair {
            id,
            origin,
            phase: Phase::AwaitingConnect { by_ns },
            role: Role::Unconnected,
            meter: None,
            direct,
            flow_control: true,
            slots: 0,
            cids: CidTable::new(1),
            entries: 2,
            sqhd: 0,
            owed: Owed::default(),
        }
    }

    /// Its name in the transport.
    pub(crate) fn id(&self) -> QpairId {
        self.id
    }

    /// Where it comes from.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether it stands.
    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// It has gone on. Returns where it was.
    pub(crate) fn set_phase(&mut self, phase: Phase) -> Phase {
        std::mem::replace(&mut self.phase, phase)
    }

    /// What it is to its controller.
    #[inline]
    pub(crate) fn role(&self) -> &Role {
        &self.role
    }

    /// The admin queue that it is, if it is one.
    pub(crate) fn admin(&mut self) -> Option<&mut AdminQueue> {
        match &mut self.role {
            Role::Admin(queue) => Some(queue),
            _ => None,
        }
    }

    /// The I/O queue that it is, if it is one.
    #[inline]
    pub(crate) fn io(&mut self) -> Option<&mut IoQueue> {
        match &mut self.role {
            Role::Io(queue) => Some(queue),
            _ => None,
        }
    }

    /// What it counts, once connected.
    #[inline]
    pub(crate) fn meter(&self) -> Option<&QueueMeter> {
        self.meter.as_deref()
    }

    /// Whether its transport takes data that is lent, and data for devices.
    #[inline]
    pub(crate) fn is_direct(&self) -> bool {
        self.direct
    }

    /// Whether the host watches SQHD.
    #[inline]
    pub(crate) fn flow_control(&self) -> bool {
        self.flow_control
    }

    /// Connect has succeeded. Called while it, command `cid` of request `req`, is the only one
    /// under way.
    pub(crate) fn connected(
        &mut self,
        role: Role,
        entries: u16,
        flow_control: bool,
        (cid, req): (u16, u32),
    ) {
        self.role = role;
        self.meter = self.ctrl().map(|ctrl| ctrl.queue_meter(self.qid()));
        self.phase = Phase::Open;
        self.origin.place.heard();
        self.entries = entries;
        self.flow_control = flow_control;
        self.cids = CidTable::new(usize::from(entries));
        self.cids.insert(cid, req).expect("a new table has room");
    }

    /// One more place of the transport is used; whoever reads the queue's depth sees it.
    #[inline]
    pub(crate) fn command_came(&mut self) {
        self.set_slots(self.slots + 1);
    }

    /// A place of the transport is free again.
    #[inline]
    pub(crate) fn command_left(&mut self) {
        self.set_slots(self.slots - 1);
    }

    #[inline]
    fn set_slots(&mut self, slots: u32) {
        self.slots = slots;
        if let Some(meter) = &self.meter {
            meter.under_way.set(u64::from(slots));
        }
    }

    /// Places of the transport that its commands use, until `Sent`.
    #[inline]
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// From here on it is on the host that a command goes on: it has to send data, or to take an
    /// answer.
    #[inline]
    pub(crate) fn host_owes(&mut self, now_ns: u64) {
        self.owed.add(now_ns);
    }

    /// The host has done it.
    #[inline]
    pub(crate) fn host_did(&mut self, now_ns: u64) {
        self.owed.done(now_ns);
    }

    /// Whether the host owes something and has done nothing for longer than `limit_ns`.
    pub(crate) fn is_stuck(&self, now_ns: u64, limit_ns: u64) -> bool {
        self.owed.is_stuck(now_ns, limit_ns)
    }

    /// Enters a command that came.
    pub(crate) fn enter(&mut self, cid: u16, req: u32) -> Result<(), CidError> {
        self.cids.insert(cid, req)
    }

    /// A command is answered: the submission queue's head has moved past it. Returns SQHD.
    #[inline]
    pub(crate) fn retire(&mut self, entered: Option<u16>) -> u16 {
        if let Some(cid) = entered {
            self.cids.remove(cid);
        }
        if !self.flow_control {
            return 0xffff;
        }
        self.sqhd += 1;
        if self.sqhd >= self.entries {
            self.sqhd = 0;
        }
        self.sqhd
    }

    /// The request of command `cid`, while it is under way.
    pub(crate) fn find(&self, cid: u16) -> Option<u32> {
        self.cids.get(cid)
    }

    /// The requests under way.
    pub(crate) fn requests(&self) -> Vec<u32> {
        self.cids.requests().collect()
    }

    /// The controller, once connected.
    #[inline]
    pub(crate) fn ctrl(&self) -> Option<&Arc<Controller>> {
        self.role.ctrl()
    }

    /// Queue identifier; 0 before Connect, too.
    pub(crate) fn qid(&self) -> u16 {
        match &self.role {
            Role::Io(queue) => queue.qid,
            _ => 0,
        }
    }
}
