//! Asynchronous events of one controller: what waits, what was told, what the host reads next.

use crate::export::subsystem::SubsystemKind;
use crate::limits;
use nvme_spec::aen::{self, Event, config};
use nvme_spec::log::lid;
use std::collections::BTreeSet;

/// The events this target raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Notice {
    /// A namespace came, went or changed: log 04h.
    Namespaces,
    /// The asymmetric access state changed: log 0Ch.
    Ana,
    /// The discovery log changed: log 70h.
    Discovery,
    /// A critical warning came up: log 02h.
    Health,
}

/// Every event, in the order they are told.
const NOTICES: [Notice; 4] = [Notice::Health, Notice::Ana, Notice::Namespaces, Notice::Discovery];
const _: () = assert!(NOTICES.len() == limits::ASYNC_EVENTS as usize);

impl Notice {
    const fn bit(self) -> u8 {
        1 << self as u8
    }

    /// What the completion of the request says.
    pub const fn event(self) -> Event {
        match self {
            Notice::Namespaces => Event::NAMESPACE_CHANGED,
            Notice::Ana => Event::ANA_CHANGED,
            Notice::Discovery => Event::DISCOVERY_CHANGED,
            Notice::Health => Event { kind: aen::kind::SMART, info: 0x01, log: lid::SMART },
        }
    }

    /// The bits of the Asynchronous Event Configuration that let it through.
    const fn enabled_by(self) -> u32 {
        match self {
            Notice::Namespaces => config::NAMESPACE,
            Notice::Ana => config::ANA,
            Notice::Discovery => config::DISCOVERY,
            Notice::Health => 1 << 1,
        }
    }
}

/// The optional events that a kind of controller can tell (OAES).
pub fn supported_events(kind: &SubsystemKind) -> u32 {
    match kind {
        SubsystemKind::Nvm => config::NAMESPACE | config::ANA,
        SubsystemKind::Discovery(_) => config::DISCOVERY,
    }
}

/// Namespaces that changed since the host last read the list.
#[derive(Debug, Default)]
pub(crate) enum ChangedNamespaces {
    /// None.
    #[default]
    None,
    /// These, at most as many as the log holds.
    These(BTreeSet<u32>),
    /// More than the log holds.
    TooMany,
}

impl ChangedNamespaces {
    /// Entries of the log.
    pub(crate) const ENTRIES: usize = 1024;

    fn add(&mut self, nsid: u32) {
        match self {
            ChangedNamespaces::None => *self = ChangedNamespaces::These(BTreeSet::from([nsid])),
            ChangedNamespaces::These(nsids) => {
                nsids.insert(nsid);
                if nsids.len() > ChangedNamespaces::ENTRIES {
                    *self = ChangedNamespaces::TooMany;
                }
            }
            ChangedNamespaces::TooMany => {}
        }
    }

    /// The entries of the log in their order.
    pub(crate) fn entries(&self) -> Vec<u32> {
        match self {
            ChangedNamespaces::None => Vec::new(),
            ChangedNamespaces::These(nsids) => nsids.iter().copied().collect(),
            ChangedNamespaces::TooMany => vec![u32::MAX],
        }
    }
}

/// The events of one controller.
///
/// An event is *pending* until a held request carries it to the host; from then on it is *masked*:
/// it is not told again until the host has read its log page without retaining it (Base
/// Specification, "Asynchronous Event Request command").
#[derive(Debug)]
pub(crate) struct Events {
    enabled: u32,
    pending: u8,
    masked: u8,
    held: u8,
    changed: ChangedNamespaces,
}

impl Events {
    pub(crate) fn new(enabled: u32) -> Events {
        Events { enabled, pending: 0, masked: 0, held: 0, changed: ChangedNamespaces::None }
    }

    /// The Asynchronous Event Configuration.
    pub(crate) fn enabled(&self) -> u32 {
        self.enabled
    }

    /// Sets the Asynchronous Event Configuration; what waits and is no longer wanted is dropped.
    pub(crate) fn enable(&mut self, enabled: u32) {
        self.enabled = enabled;
        for notice in NOTICES {
            if enabled & notice.enabled_by() == 0 {
                self.pending &= !notice.bit();
            }
        }
    }

    /// Something happened.
    pub(crate) fn raise(&mut self, notice: Notice) {
        if self.enabled & notice.enabled_by() != 0 && self.masked & notice.bit() == 0 {
            self.pending |= notice.bit();
        }
    }

    /// A namespace came, went or changed.
    pub(crate) fn namespace_changed(&mut self, nsid: u32) {
        self.changed.add(nsid);
        self.raise(Notice::Namespaces);
    }

    /// Keeps one more request; false when that would be too many.
    pub(crate) fn hold(&mut self) -> bool {
        let room = self.held < limits::ASYNC_EVENTS;
        self.held += u8::from(room);
        room
    }

    /// A held request has ended without an event.
    pub(crate) fn unhold(&mut self) {
        self.held = self.held.checked_sub(1).expect("only held requests are dropped");
    }

    /// Whether an event waits and a request is there to carry it.
    pub(crate) fn ready(&self) -> bool {
        self.held > 0 && self.pending != 0
    }

    /// The next event, at the cost of one held request.
    pub(crate) fn take(&mut self) -> Option<Event> {
        if self.held == 0 {
            return None;
        }
        let notice = NOTICES.into_iter().find(|notice| self.pending & notice.bit() != 0)?;
        self.pending &= !notice.bit();
        self.masked |= notice.bit();
        self.held -= 1;
        Some(notice.event())
    }

    /// The host reads a log page without retaining its event: the event is cleared, and may be
    /// raised again.
    pub(crate) fn clear(&mut self, log: u8) {
        for notice in NOTICES {
            if notice.event().log == log {
                self.pending &= !notice.bit();
                self.masked &= !notice.bit();
            }
        }
    }

    /// The Changed Namespace List; emptied unless the event is retained.
    pub(crate) fn changed_namespaces(&mut self, retain: bool) -> Vec<u32> {
        let entries = self.changed.entries();
        if !retain {
            self.changed = ChangedNamespaces::None;
        }
        entries
    }

    /// A reset of the controller: everything as at the start, with nothing held.
    pub(crate) fn reset(&mut self, enabled: u32) {
        *self = Events::new(enabled);
    }
}
