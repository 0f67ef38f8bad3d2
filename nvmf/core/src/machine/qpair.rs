//! One queue pair as the target sees it.

use crate::export::controller::Controller;
use crate::export::subsystem::Subsystem;
use crate::machine::cid::{CidError, CidTable};
use crate::machine::place::NONE;
use crate::machine::space::Spaces;
use crate::machine::transport::{Origin, QpairId};
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

/// An admin queue.
pub(crate) struct AdminQueue {
    pub(crate) ctrl: Arc<Controller>,
    /// Asynchronous Event Requests held, oldest first.
    pub(crate) events: Vec<u32>,
    /// Aborts that wait for the end of what they abort.
    pub(crate) aborting: u8,
}

/// Namespaces an I/O queue remembers.
const VIEWS: usize = 8;

/// An I/O queue.
pub(crate) struct IoQueue {
    pub(crate) ctrl: Arc<Controller>,
    pub(crate) subsystem: Arc<Subsystem>,
    pub(crate) qid: u16,
    /// Of the controller when the queue was connected: when it differs, the queue closes.
    pub(crate) epoch: u32,
    /// The first half of a fused pair, until the next command comes.
    pub(crate) first_of_pair: Option<u32>,
    /// Commands came since the last timer pass.
    pub(crate) seen: bool,
    views: [View; VIEWS],
}

/// Where a namespace is in the reactor's table.
#[derive(Clone, Copy)]
struct View {
    nsid: u32,
    space: u32,
    generation: u64,
}

const NO_VIEW: View = View { nsid: 0, space: NONE, generation: 0 };

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
        *view = View { nsid, space, generation };
        Some(space)
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
    pub(crate) id: QpairId,
    pub(crate) origin: Origin,
    pub(crate) phase: Phase,
    pub(crate) role: Role,
    /// Its transport takes data that is lent, and data for devices.
    pub(crate) direct: bool,
    /// The host watches SQHD.
    pub(crate) flow_control: bool,
    /// Places of the transport that its commands use, until `Sent`.
    pub(crate) slots: u32,
    pub(crate) cids: CidTable,
    /// Entries of the submission queue.
    entries: u16,
    sqhd: u16,
}

impl Qpair {
    /// A connection that has to bring a Connect before `by_ns`.
    pub(crate) fn new(id: QpairId, origin: Origin, direct: bool, by_ns: u64) -> Qpair {
        Qpair {
            id,
            origin,
            phase: Phase::AwaitingConnect { by_ns },
            role: Role::Unconnected,
            direct,
            flow_control: true,
            slots: 0,
            cids: CidTable::new(1),
            entries: 2,
            sqhd: 0,
        }
    }

    /// Connect has told the size of the queue. Called while Connect, command `cid` of request
    /// `req`, is the only one under way.
    pub(crate) fn set_size(&mut self, entries: u16, flow_control: bool, cid: u16, req: u32) {
        self.entries = entries;
        self.flow_control = flow_control;
        self.cids = CidTable::new(usize::from(entries));
        self.cids.insert(cid, req).expect("a new table has room");
    }

    /// One more place of the transport is used, or one less; whoever reads the queue's depth sees it.
    #[inline]
    pub(crate) fn set_slots(&mut self, slots: u32) {
        self.slots = slots;
        if let Some(ctrl) = self.ctrl() {
            ctrl.set_depth(self.qid(), slots);
        }
    }

    /// Places of the transport that its commands use, until `Sent`.
    #[inline]
    pub(crate) fn slots(&self) -> u32 {
        self.slots
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
    pub(crate) fn ctrl(&self) -> Option<&Arc<Controller>> {
        match &self.role {
            Role::Unconnected => None,
            Role::Admin(queue) => Some(&queue.ctrl),
            Role::Io(queue) => Some(&queue.ctrl),
        }
    }

    /// Queue identifier; 0 before Connect, too.
    pub(crate) fn qid(&self) -> u16 {
        match &self.role {
            Role::Io(queue) => queue.qid,
            _ => 0,
        }
    }
}
