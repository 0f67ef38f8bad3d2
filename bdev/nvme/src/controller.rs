//! A controller as the rest of the program sees it.

use crate::admin::Admin;
use crate::device::NvmeBdev;
use crate::hardware::Hardware;
use crate::identity::{Identity, NamespaceIdentity};
use crate::lifecycle::State;
use crate::options::Options;
use crate::request::{Answer, Request, Ticket};
use crate::shared::{Counts, Failure, Shared};
use bdev::OpenError;
use nvme_spec::aen::Event;
use nvme_spec::log::SmartLog;
use std::sync::{Arc, Mutex, MutexGuard};

/// Where a controller is in its life, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It is being brought up, for the first time or after a reset. Operations wait.
    Starting,
    /// It works.
    Ready,
    /// It is being shut down, or cut off from memory.
    Stopping,
    /// It will do nothing any more. Operations end with an error.
    Dead(Failure),
}

/// One controller, shared by its namespaces' channels and by whoever looks after it.
///
/// Nothing here waits. [`Controller::poll`] does what is due: channels call it while they are
/// polled, and somebody else has to while there is none.
#[derive(Clone)]
pub struct Controller {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) hw: Arc<dyn Hardware>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) options: Options,
    admin: Mutex<Admin>,
}

impl Inner {
    pub(crate) fn admin(&self) -> MutexGuard<'_, Admin> {
        self.admin.lock().expect("the driver does not panic with it locked")
    }

    /// The admin queue, unless another reactor has it.
    pub(crate) fn try_admin(&self) -> Option<MutexGuard<'_, Admin>> {
        self.admin.try_lock().ok()
    }
}

impl Controller {
    /// A controller that nothing was done with yet: [`Controller::poll`] brings it up.
    ///
    /// # Errors
    /// No memory, or none that the function can reach.
    pub fn new(hw: Arc<dyn Hardware>, options: Options) -> Result<Controller, OpenError> {
        let shared = Arc::new(Shared::new());
        let admin = Admin::new(hw.clone(), shared.clone(), options)
            .map_err(|error| OpenError(format!("the drive cannot reach memory: {error}")))?;
        let admin = Mutex::new(admin);
        Ok(Controller { inner: Arc::new(Inner { hw, shared, options, admin }) })
    }

    /// Does what is due now. Returns how much was done.
    pub fn poll(&self, now_ns: u64) -> u32 {
        self.inner.admin().poll(now_ns)
    }

    /// Where it is in its life.
    pub fn health(&self) -> Health {
        match &self.inner.admin().state {
            State::Ready => Health::Ready,
            State::ShuttingDown { .. } | State::Isolating { .. } => Health::Stopping,
            State::Dead { why } => Health::Dead(why.clone()),
            _ => Health::Starting,
        }
    }

    /// What it says of itself, once it was ready.
    pub fn identity(&self) -> Option<Identity> {
        self.inner.admin().identity.clone()
    }

    /// Its namespaces, usable or not, once it was ready.
    pub fn namespaces(&self) -> Vec<NamespaceIdentity> {
        self.inner.admin().namespaces.iter().map(|ns| ns.identity()).collect()
    }

    /// The block device of namespace `nsid`.
    ///
    /// # Errors
    /// A sentence: there is none, or its format cannot be used.
    pub fn bdev(&self, nsid: u32) -> Result<NvmeBdev, OpenError> {
        let admin = self.inner.admin();
        let found = admin.namespaces.iter().find(|ns| ns.nsid() == nsid).cloned();
        let Some(namespace) = found else {
            return Err(OpenError(format!("drive {} has no namespace {nsid}", admin.name())));
        };
        let identity = admin.identity.clone().expect("identified before its namespaces");
        drop(admin);
        match namespace.identity().refusal() {
            Some(why) => Err(OpenError(why)),
            None => Ok(NvmeBdev::new(self.inner.clone(), namespace, &identity)),
        }
    }

    /// Asks for an admin command.
    pub fn ask(&self, request: Request) -> Ticket {
        self.inner.admin().ask(request)
    }

    /// The answer to a request, once, when it is there.
    pub fn answer(&self, ticket: Ticket) -> Option<Answer> {
        self.inner.admin().answer(ticket)
    }

    /// The asynchronous events since the last call, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.inner.admin().take_events()
    }

    /// The SMART log that was read when the controller last told of its health by itself.
    pub fn warned_of(&self) -> Option<SmartLog> {
        self.inner.admin().smart()
    }

    /// Events since it was opened.
    pub fn counts(&self) -> Counts {
        self.inner.shared.counters.read()
    }

    /// Resets it, or brings one that was given up back.
    pub fn reset(&self, now_ns: u64) {
        self.inner.admin().revive(now_ns);
    }

    /// Shuts it down in the orderly way; it is over when it is [`Health::Dead`]. Operations under
    /// way end with an error.
    pub fn shut_down(&self, now_ns: u64) {
        self.inner.admin().shut_down(now_ns);
    }
}
