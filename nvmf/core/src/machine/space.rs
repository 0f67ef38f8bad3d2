//! The namespaces that one reactor works with, as it found them last.

use crate::export::namespace::Namespace;
use crate::export::subsystem::Subsystem;
use bdev::{Addr, Geometry};
use nvme_spec::Status;
use nvme_spec::log::AnaState;
use std::sync::Arc;

/// A namespace on this reactor: what the data path needs of it, in plain fields.
pub(crate) struct Space {
    pub(crate) subsystem: Arc<Subsystem>,
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) geometry: Geometry,
    /// The channel, or the status of commands while there is none.
    pub(crate) channel: Result<Addr, Status>,
    /// Reads and writes may go to the memory that the blocks are in: that changes nothing for what
    /// a volatile cache promises, since there is none.
    pub(crate) direct: bool,
    /// Generation of the subsystem when this was looked up.
    pub(crate) generation: u64,
    /// Commands under way.
    pub(crate) commands: u32,
    /// Queue pairs that remember it.
    pub(crate) remembered: u32,
}

/// The namespaces of one reactor. A place stays the same while a command or a queue pair uses it.
pub(crate) struct Spaces {
    places: Vec<Option<Space>>,
    reactor: usize,
}

impl Spaces {
    pub(crate) fn new(reactor: usize) -> Spaces {
        Spaces { places: Vec::new(), reactor }
    }

    /// The namespace in place `at`.
    ///
    /// # Panics
    /// If there is none: whoever holds a number keeps the place.
    #[inline(always)]
    pub(crate) fn get(&self, at: u32) -> &Space {
        self.places[at as usize].as_ref().expect("a place in use holds a namespace")
    }

    /// As [`Spaces::get`], to change.
    #[inline(always)]
    pub(crate) fn get_mut(&mut self, at: u32) -> &mut Space {
        self.places[at as usize].as_mut().expect("a place in use holds a namespace")
    }

    /// Looks `namespace` up anew; one more queue pair remembers it.
    pub(crate) fn remember(
        &mut self,
        subsystem: &Arc<Subsystem>,
        namespace: &Arc<Namespace>,
    ) -> u32 {
        let same = |place: &Option<Space>| {
            place.as_ref().is_some_and(|space| Arc::ptr_eq(&space.namespace, namespace))
        };
        let at = match self.places.iter().position(same) {
            Some(at) => at,
            None => self.place(subsystem, namespace),
        };
        self.refresh(at as u32);
        self.get_mut(at as u32).remembered += 1;
        at as u32
    }

    fn place(&mut self, subsystem: &Arc<Subsystem>, namespace: &Arc<Namespace>) -> usize {
        namespace.hold(self.reactor, true);
        let space = Space {
            subsystem: subsystem.clone(),
            namespace: namespace.clone(),
            geometry: namespace.geometry(),
            channel: Err(Status::NAMESPACE_NOT_READY),
            direct: false,
            generation: 0,
            commands: 0,
            remembered: 0,
        };
        match self.places.iter().position(Option::is_none) {
            Some(at) => {
                self.places[at] = Some(space);
                at
            }
            None => {
                self.places.push(Some(space));
                self.places.len() - 1
            }
        }
    }

    /// Takes over what has changed since the place was looked up last.
    pub(crate) fn refresh(&mut self, at: u32) {
        let reactor = self.reactor;
        let space = self.get_mut(at);
        let subsystem = &space.subsystem;
        // First, so that a change meanwhile is found the next time.
        space.generation = subsystem.generation();
        space.geometry = space.namespace.geometry();
        // Nor for an account of who writes.
        space.direct = space.geometry.direct_access
            && !space.geometry.volatile_cache
            && space.namespace.witness().is_none();
        space.channel = if space.namespace.is_removed() {
            Err(Status::INVALID_NAMESPACE.dnr())
        } else {
            access(subsystem.ana().state)
                .and_then(|()| space.namespace.channel(reactor).ok_or(Status::NAMESPACE_NOT_READY))
        };
    }

    /// A queue pair forgets the namespace.
    pub(crate) fn forget(&mut self, at: u32) {
        self.get_mut(at).remembered -= 1;
        self.sweep(at);
    }

    /// A command on the namespace has ended.
    pub(crate) fn leave(&mut self, at: u32) {
        let space = self.get_mut(at);
        space.commands -= 1;
        if space.commands | space.remembered == 0 {
            self.sweep(at);
        }
    }

    fn sweep(&mut self, at: u32) {
        let space = self.get(at);
        if space.commands | space.remembered == 0 {
            space.namespace.hold(self.reactor, false);
            self.places[at as usize] = None;
        }
    }

    /// Whether some place holds a namespace that was removed.
    pub(crate) fn any_removed(&self) -> bool {
        self.places.iter().flatten().any(|space| space.namespace.is_removed())
    }

    /// Whether commands are under way.
    pub(crate) fn busy(&self) -> impl Iterator<Item = &Space> {
        self.places.iter().flatten().filter(|space| space.commands > 0)
    }
}

/// Whether I/O may go on in an asymmetric access state.
fn access(state: AnaState) -> Result<(), Status> {
    match state {
        AnaState::Optimized | AnaState::NonOptimized => Ok(()),
        AnaState::Inaccessible => Err(Status::ANA_INACCESSIBLE),
        AnaState::PersistentLoss => Err(Status::ANA_PERSISTENT_LOSS),
        AnaState::Change => Err(Status::ANA_TRANSITION),
    }
}
