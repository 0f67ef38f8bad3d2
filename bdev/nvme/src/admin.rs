//! The admin queue: its commands, their ends, their time-outs.

use crate::command::words;
use crate::hardware::Hardware;
use crate::identity::Identity;
use crate::lifecycle::State;
use crate::limits::{
    ABORTS, ADMIN_BYTES, ADMIN_COMMANDS, ADMIN_ENTRIES, EVENT_REQUESTS, EVENTS, PAGE_BYTES,
};
use crate::memory::{Block, Mapping, Piece};
use crate::namespace::Namespace;
use crate::options::Options;
use crate::places::Places;
use crate::queues::Queue;
use crate::request::{Answer, Request, RequestError, Ticket, log_sqe};
use crate::ring::Ring;
use crate::shared::{Counters, Failure, Shared};
use crate::survey::{Step, Survey};
use nvme_spec::aen::{self, Event};
use nvme_spec::log::{SmartLog, lid};
use nvme_spec::opcode::admin;
use nvme_spec::property::Cap;
use nvme_spec::{Cqe, Sqe, Status, queue};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Weak};
use zerocopy::FromBytes;

/// A page of data from the controller.
pub(crate) type Page = [u8; PAGE_BYTES];

/// What an admin command is for.
pub(crate) enum Purpose {
    /// A step of learning what the controller is.
    Survey(Step),
    /// The next step in making or deleting I/O queue `qid`.
    Queue(u16),
    /// An operator's.
    Request(Ticket, Request),
    /// Ends an I/O command that takes too long.
    Abort,
    /// Waits for an event.
    Event,
    /// Reads a log that an event told of.
    Log(u8),
}

pub(crate) struct Command {
    purpose: Purpose,
    /// When it has taken too long.
    due_ns: u64,
}

/// A controller, apart from its I/O queues' daily work. Behind one lock; never waits.
pub(crate) struct Admin {
    pub(crate) hw: Arc<dyn Hardware>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) options: Options,
    pub(crate) cap: Cap,
    pub(crate) state: State,
    /// Resets since an I/O queue last came up.
    pub(crate) attempts: u32,
    /// When its status is looked at next, while all is well.
    pub(crate) watch_at_ns: u64,
    pub(crate) block: Arc<Block>,
    pub(crate) ring: Ring,
    commands: Places<Command>,
    pages: Vec<Piece>,
    /// Learning under way.
    pub(crate) survey: Option<Survey>,
    pub(crate) identity: Option<Identity>,
    pub(crate) namespaces: Vec<Arc<Namespace>>,
    pub(crate) queues: Vec<Queue>,
    /// Memory of channels that the function can reach.
    pub(crate) mappings: Vec<Weak<Mapping>>,
    requests: VecDeque<(Ticket, Request)>,
    answers: Vec<(Ticket, Answer)>,
    tickets: u64,
    events: VecDeque<Event>,
    /// Logs to be read, each once.
    logs: Vec<u8>,
    smart: Option<SmartLog>,
}

impl Admin {
    pub(crate) fn new(
        hw: Arc<dyn Hardware>,
        shared: Arc<Shared>,
        options: Options,
    ) -> io::Result<Admin> {
        let block = Block::new(hw.clone(), ADMIN_BYTES)?;
        let page = |number: usize| block.piece(number * PAGE_BYTES, PAGE_BYTES);
        let ring = Ring::new(page(0), page(1), 0, ADMIN_ENTRIES, 0, None);
        Ok(Admin {
            cap: Cap::default(),
            state: State::Start,
            attempts: 0,
            watch_at_ns: 0,
            ring,
            commands: Places::new(ADMIN_COMMANDS),
            pages: (0..ADMIN_COMMANDS as usize).map(|number| page(4 + number)).collect(),
            survey: None,
            identity: None,
            namespaces: Vec::new(),
            queues: Vec::new(),
            mappings: Vec::new(),
            requests: VecDeque::new(),
            answers: Vec::new(),
            tickets: 0,
            events: VecDeque::with_capacity(EVENTS),
            logs: Vec::new(),
            smart: None,
            block,
            hw,
            shared,
            options,
        })
    }

    /// The pages of doorbells in memory: shadows, event indices.
    pub(crate) fn shadow_pages(&self) -> (Piece, Piece) {
        let page = |number: usize| self.block.piece(number * PAGE_BYTES, PAGE_BYTES);
        (page(2), page(3))
    }

    /// Does what is due. Returns how much was done.
    pub(crate) fn poll(&mut self, now_ns: u64) -> u32 {
        let mut work = 0;
        if self.state.has_queue() {
            work += self.harvest(now_ns);
            self.look_for_late_commands(now_ns);
        }
        work += self.step(now_ns);
        if matches!(self.state, State::Ready) {
            self.start_requests(now_ns);
            self.read_logs(now_ns);
            self.tend_queues(now_ns);
        }
        if self.state.has_queue() {
            self.ring.ring(&*self.hw);
        }
        work
    }

    /// Sends a command. Each purpose has its share of the places, so there is always one.
    pub(crate) fn send(
        &mut self,
        purpose: Purpose,
        due_ns: u64,
        build: impl FnOnce(u16, u64) -> Sqe,
    ) {
        let cid = self.commands.insert(Command { purpose, due_ns });
        let page = &self.pages[Places::<Command>::number(cid)];
        self.ring.push(words(build(cid, page.bus())));
    }

    /// When a command that is sent now has taken too long.
    pub(crate) fn due(&self, now_ns: u64) -> u64 {
        now_ns.saturating_add(self.options.admin_timeout_ns)
    }

    fn harvest(&mut self, now_ns: u64) -> u32 {
        let mut taken = 0;
        while taken < ADMIN_ENTRIES && self.state.has_queue() {
            let Some(cqe) = self.ring.next() else { break };
            taken += 1;
            let cid = cqe.cid.get();
            let Some(command) = self.commands.remove(cid) else {
                Counters::add(&self.shared.counters.spurious);
                continue;
            };
            let mut page = [0; PAGE_BYTES];
            self.pages[Places::<Command>::number(cid)].copy_out(&mut page);
            self.finished(command.purpose, &cqe, &page, now_ns);
        }
        if taken > 0 && self.state.has_queue() {
            self.ring.release(&*self.hw);
        }
        taken
    }

    fn finished(&mut self, purpose: Purpose, cqe: &Cqe, page: &Page, now_ns: u64) {
        match purpose {
            Purpose::Survey(step) => self.surveyed(step, cqe, page, now_ns),
            Purpose::Queue(qid) => self.queue_stepped(qid, cqe.status(), now_ns),
            Purpose::Request(ticket, request) => self.answered(ticket, &request, cqe, page, now_ns),
            Purpose::Abort => {}
            Purpose::Event => self.happened(cqe, now_ns),
            Purpose::Log(lid) => self.log_read(lid, cqe.status(), page, now_ns),
        }
    }

    fn look_for_late_commands(&mut self, now_ns: u64) {
        let late = self.commands.iter_mut().any(|(_, command)| command.due_ns <= now_ns);
        if late {
            self.reset(Failure::Hung("an admin command does not complete"), now_ns);
        }
    }

    /// Forgets every command: the controller was reset. Operators hear of theirs.
    pub(crate) fn forget_commands(&mut self, why: &Failure) {
        for command in self.commands.drain() {
            if let Purpose::Request(ticket, _) = command.purpose {
                let why = format!("the controller was reset meanwhile: {why}");
                self.answers.push((ticket, Err(RequestError::NotDone(why))));
            }
        }
        self.survey = None;
        self.logs.clear();
    }

    /// Says of every request not sent that it will not be.
    pub(crate) fn refuse_requests(&mut self, why: &Failure) {
        for (ticket, _) in self.requests.drain(..) {
            let why = format!("the controller does nothing any more: {why}");
            self.answers.push((ticket, Err(RequestError::NotDone(why))));
        }
    }

    fn count(&mut self, of: impl Fn(&Purpose) -> bool) -> usize {
        self.commands.iter_mut().filter(|(_, command)| of(&command.purpose)).count()
    }

    /// Whether answers are waited for that come soon.
    pub(crate) fn is_busy(&mut self) -> bool {
        let work = self.count(|purpose| !matches!(purpose, Purpose::Event));
        work > 0 || !self.requests.is_empty() || !self.logs.is_empty()
    }

    // --- Operators' commands.

    /// Takes a request in.
    pub(crate) fn ask(&mut self, request: Request) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let refusal = match &self.state {
            State::Dead { why } => Some(format!("the controller does nothing any more: {why}")),
            _ if request.destroys() && !self.queues.is_empty() => {
                Some("the drive is in use: close everything on it first".to_owned())
            }
            _ => request.fault().map(str::to_owned),
        };
        match refusal {
            Some(why) => self.answers.push((ticket, Err(RequestError::NotDone(why)))),
            None => self.requests.push_back((ticket, request)),
        }
        ticket
    }

    /// The answer to a request, once.
    pub(crate) fn answer(&mut self, ticket: Ticket) -> Option<Answer> {
        let at = self.answers.iter().position(|(of, _)| *of == ticket)?;
        Some(self.answers.swap_remove(at).1)
    }

    fn start_requests(&mut self, now_ns: u64) {
        let limit = usize::from(crate::limits::REQUESTS);
        while self.count(|p| matches!(p, Purpose::Request(..))) < limit
            && let Some((ticket, request)) = self.requests.pop_front()
        {
            let timeout = match &request {
                Request::Format(_) => self.options.format_timeout_ns,
                _ => self.options.admin_timeout_ns,
            };
            let due_ns = now_ns.saturating_add(timeout);
            let build = request.clone();
            self.send(Purpose::Request(ticket, request), due_ns, |cid, page| build.sqe(cid, page));
        }
    }

    fn answered(&mut self, ticket: Ticket, request: &Request, cqe: &Cqe, page: &Page, now_ns: u64) {
        let status = cqe.status();
        let answer = if status.is_success() {
            Ok(page[..request.bytes()].to_vec())
        } else {
            Err(RequestError::Refused(status))
        };
        self.answers.push((ticket, answer));
        if request.destroys() && status.is_success() {
            self.look_at_namespaces(now_ns);
        }
    }

    // --- Aborts.

    /// Asks the controller to end command `cid` of queue `qid`, if it takes another Abort now.
    pub(crate) fn abort(&mut self, qid: u16, cid: u16, now_ns: u64) {
        let limit = self.identity.as_ref().map_or(0, |identity| identity.aborts);
        let limit = usize::from(limit.min(u16::from(ABORTS)));
        if !matches!(self.state, State::Ready)
            || self.count(|p| matches!(p, Purpose::Abort)) >= limit
        {
            return;
        }
        Counters::add(&self.shared.counters.aborts);
        let due_ns = self.due(now_ns);
        self.send(Purpose::Abort, due_ns, |own, _| queue::abort(own, qid, cid));
        self.ring.ring(&*self.hw);
    }

    // --- Events.

    /// Asks for events, as many at once as the controller takes.
    pub(crate) fn wait_for_events(&mut self) {
        let limit = self.identity.as_ref().map_or(1, |identity| identity.event_requests);
        for _ in 0..limit.min(u16::from(EVENT_REQUESTS)) {
            self.wait_for_event();
        }
    }

    fn wait_for_event(&mut self) {
        self.send(Purpose::Event, u64::MAX, |cid, _| Sqe::new(admin::ASYNC_EVENT, cid, 0));
    }

    fn happened(&mut self, cqe: &Cqe, _now_ns: u64) {
        if !cqe.status().is_success() {
            tracing::debug!(status = %cqe.status(), "no more asynchronous events");
            return;
        }
        let event = Event::from_dword(cqe.dw0.get());
        tracing::warn!(?event, drive = self.name(), "asynchronous event");
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
        let is_known = matches!(event.log, lid::ERROR | lid::SMART | lid::CHANGED_NAMESPACES);
        if is_known && event.kind != aen::kind::IMMEDIATE && !self.logs.contains(&event.log) {
            self.logs.push(event.log);
        }
        self.wait_for_event();
    }

    /// Reads the logs that events told of, one after the other.
    fn read_logs(&mut self, now_ns: u64) {
        if self.count(|p| matches!(p, Purpose::Log(_))) > 0 {
            return;
        }
        if let Some(log) = self.logs.pop() {
            let bytes = match log {
                lid::SMART => size_of::<SmartLog>(),
                lid::ERROR => 64,
                _ => PAGE_BYTES,
            } as u32;
            let due_ns = self.due(now_ns);
            self.send(Purpose::Log(log), due_ns, |cid, page| {
                log_sqe(cid, page, log, Sqe::NSID_ALL, 0, bytes)
            });
        }
    }

    fn log_read(&mut self, log: u8, status: Status, page: &Page, now_ns: u64) {
        match log {
            lid::SMART if status.is_success() => {
                self.smart = SmartLog::read_from_prefix(page).ok().map(|(smart, _)| smart);
            }
            // The list may be incomplete or unreadable: all are looked at.
            lid::CHANGED_NAMESPACES => self.look_at_namespaces(now_ns),
            _ => {}
        }
    }

    /// The events since the last call.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        self.events.drain(..).collect()
    }

    /// The SMART log that the last health event brought.
    pub(crate) fn smart(&self) -> Option<SmartLog> {
        self.smart
    }

    /// What it is called in the log.
    pub(crate) fn name(&self) -> &str {
        self.identity.as_ref().map_or("unidentified", |identity| &identity.serial)
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        if self.state.is_off() {
            return;
        }
        self.hw.write32(nvme_spec::property::CC as usize, 0);
        if !self.hw.isolate() {
            // Memory that the controller may still write to is never used for anything else.
            tracing::error!(
                drive = self.name(),
                "the controller cannot be stopped; memory is lost"
            );
            std::mem::forget(self.block.clone());
            self.queues.drain(..).for_each(std::mem::forget);
        }
    }
}
