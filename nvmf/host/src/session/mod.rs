//! An admin queue with its controller enabled: identify, logs, features, properties.

mod admin;
mod info;

pub use info::{ControllerInfo, NamespaceInfo};

use crate::qpair::Payload;
use crate::queue::{Data, Queue, QueueKind, Token};
use crate::{Error, Options};
use nvme_spec::aen::Event;
use nvme_spec::opcode::admin as opcode;
use nvme_spec::property::{self, Cap, Cc, Csts, ShutdownStatus, css};
use nvme_spec::{Sqe, Status};
use nvmf_wire::connect::CNTLID_DYNAMIC;
use nvmf_wire::pdu::ADMIN_CAPSULE_DATA;
use nvmf_wire::property::{PropertyGet, PropertySet, Width, value};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// Commands outstanding in the admin queue, the least that every controller takes.
const ADMIN_DEPTH: u16 = 31;

/// Asynchronous Event Requests kept with the controller.
const EVENT_REQUESTS: usize = 4;

/// How often a controller's status is looked at while it becomes ready or shuts down.
const STATUS_INTERVAL: Duration = Duration::from_millis(10);

/// A controller that is connected and enabled.
pub struct Session {
    queue: Queue,
    options: Options,
    cntlid: u16,
    cap: Cap,
    version: u32,
    event_requests: Vec<Token>,
}

impl Session {
    /// Connects the admin queue and enables the controller.
    ///
    /// # Errors
    /// Why not.
    pub fn connect(options: &Options) -> Result<Session, Error> {
        let mut session = Session::connect_only(options)?;
        session.enable()?;
        Ok(session)
    }

    /// Connects the admin queue, and leaves the controller as it is.
    ///
    /// # Errors
    /// Why not.
    pub fn connect_only(options: &Options) -> Result<Session, Error> {
        let kind = QueueKind {
            qid: 0,
            cntlid: CNTLID_DYNAMIC,
            depth: ADMIN_DEPTH,
            in_capsule_bytes: ADMIN_CAPSULE_DATA,
        };
        let (queue, connected) = Queue::connect(options, kind)?;
        if connected.authenticate || connected.secure_channel {
            return Err(Error::Refused {
                address: options.address,
                subsystem: options.subsystem.as_str().into(),
                host: options.host.nqn.as_str().into(),
                status: Status::AUTHENTICATION_REQUIRED,
                dword: 0,
            });
        }
        let mut session = Session {
            queue,
            options: options.clone(),
            cntlid: connected.cntlid,
            cap: Cap::default(),
            version: 0,
            event_requests: Vec::new(),
        };
        session.cap = Cap::from_bits(session.property(property::CAP, Width::Eight)?);
        session.version = session.property(property::VS, Width::Four)? as u32;
        Ok(session)
    }

    /// Sets CC.EN and waits until the controller is ready.
    ///
    /// # Errors
    /// It does not become ready within the time that it told (CAP.TO), or fails.
    pub fn enable(&mut self) -> Result<(), Error> {
        let css = match self.cap.css {
            sets if sets & css::NVM != 0 => 0,
            sets if sets & css::IO_COMMAND_SETS != 0 => 6,
            sets if sets & css::NONE != 0 => 7,
            _ => 0,
        };
        self.set_property(property::CC, Width::Four, u64::from(Cc::ENABLE.0 | css << 4))?;
        let limit = Duration::from_millis(500) * u32::from(self.cap.to.max(1));
        self.await_status(limit, "become ready", |status| status.ready())
    }

    /// Reads CSTS until `is_there`, for `limit` at most.
    fn await_status(
        &mut self,
        limit: Duration,
        what: &str,
        is_there: impl Fn(Csts) -> bool,
    ) -> Result<(), Error> {
        let start = Instant::now();
        loop {
            let status = Csts(self.property(property::CSTS, Width::Four)? as u32);
            if is_there(status) {
                return Ok(());
            }
            let fatal = status.fatal();
            if fatal || start.elapsed() >= limit {
                let why = if fatal { "failed while it should" } else { "did not" };
                let what = format!("{why} {what} within {limit:?}");
                return Err(Error::Unsuitable { address: self.options.address, what });
            }
            std::thread::sleep(STATUS_INTERVAL);
        }
    }

    /// Asks the controller to shut down, waits until it has, for `limit` at most, and closes the
    /// connection. Commands in its queues have ended by then.
    ///
    /// # Errors
    /// It did not; the connection is closed all the same.
    pub fn shut_down(mut self, limit: Duration) -> Result<(), Error> {
        self.queue.set_timeout(limit);
        let cc = self.property(property::CC, Width::Four)? as u32;
        let cc = Cc(cc).with_normal_shutdown();
        self.set_property(property::CC, Width::Four, u64::from(cc.0))?;
        self.await_status(limit, "shut down", |s| s.shutdown() == ShutdownStatus::Complete)
    }

    /// Reads a property.
    ///
    /// # Errors
    /// The command's, or the connection's.
    pub fn property(&mut self, offset: u32, width: Width) -> Result<u64, Error> {
        let what = format!("Property Get of {offset:#x}");
        let cqe = self.queue.succeed(&what, PropertyGet { width, offset }.sqe(0), Data::None)?;
        Ok(value(&cqe))
    }

    /// Writes a property.
    ///
    /// # Errors
    /// The command's, or the connection's.
    pub fn set_property(&mut self, offset: u32, width: Width, value: u64) -> Result<(), Error> {
        let what = format!("Property Set of {offset:#x}");
        let sqe = PropertySet { width, offset, value }.sqe(0);
        self.queue.succeed(&what, sqe, Data::None).map(drop)
    }

    /// Connects I/O queue `qid` of this controller, for `depth` commands at once or as many as
    /// the controller allows.
    ///
    /// # Errors
    /// Why not.
    pub fn io_queue(
        &mut self,
        qid: u16,
        depth: u16,
        controller: &ControllerInfo,
    ) -> Result<Queue, Error> {
        let mut depth = depth.min(self.cap.mqes).clamp(1, u16::MAX - 1);
        if controller.max_commands > 0 {
            depth = depth.min(controller.max_commands);
        }
        let in_capsule_bytes = controller.in_capsule_bytes;
        let kind = QueueKind { qid, cntlid: self.cntlid, depth, in_capsule_bytes };
        Ok(Queue::connect(&self.options, kind)?.0)
    }

    /// Keeps requests for asynchronous events with the controller, as many as it takes.
    pub fn request_events(&mut self, controller: &ControllerInfo) {
        let wanted = EVENT_REQUESTS.min(usize::from(controller.aerl) + 1);
        while self.event_requests.len() < wanted {
            let sqe = Sqe::new(opcode::ASYNC_EVENT, 0, 0);
            self.event_requests.push(self.queue.post(sqe, Payload::None));
        }
    }

    /// The events that have come, without waiting for more. Requests that were used up are not
    /// made again before [`Session::request_events`].
    ///
    /// # Errors
    /// The connection is lost, or the controller refuses a request.
    pub fn events(&mut self) -> Result<Vec<Event>, Error> {
        while self.queue.service("a wait for events")? > 0 || !self.queue.may_sleep() {}
        let mut events = Vec::new();
        let mut at = 0;
        while let Some(&token) = self.event_requests.get(at) {
            let Some(ended) = self.queue.take(token) else {
                at += 1;
                continue;
            };
            self.event_requests.swap_remove(at);
            let status = ended.cqe.status();
            if !status.is_success() {
                let what = "Asynchronous Event Request".into();
                return Err(Error::Command { what, status });
            }
            events.push(Event::from_dword(ended.cqe.dw0.get()));
        }
        Ok(events)
    }

    /// The admin queue itself, for commands of any kind.
    pub fn queue(&mut self) -> &mut Queue {
        &mut self.queue
    }

    /// Where the target listens.
    pub fn address(&self) -> SocketAddr {
        self.options.address
    }

    /// The controller's identifier, from Connect.
    pub fn cntlid(&self) -> u16 {
        self.cntlid
    }

    /// The controller's capabilities.
    pub fn cap(&self) -> Cap {
        self.cap
    }

    /// The version of the specification that the controller follows (VS).
    pub fn version(&self) -> u32 {
        self.version
    }

    /// A descriptor that becomes readable when there is something for [`Session::events`].
    pub fn fd(&self) -> RawFd {
        self.queue.fd()
    }
}
