//! A host: connects as a stock host does, issues random commands, and comes back after every
//! accident.

pub mod command;
pub mod link;

use crate::history::{History, WriteEnd};
use crate::ledger::Ledger;
use crate::network::{ConnId, SharedNet, locked};
use crate::node::{NSID, SPARE_NSID, pool_plan};
use crate::plan::{Plan, Planted};
use crate::rng::Rng;
use crate::{Failure, Kind};
use bdev::{DmaPool, Memory};
use command::{Command, Workload};
use link::{Link, connect_command};
use nvme_spec::log::lid;
use nvme_spec::opcode::admin;
use nvme_spec::property::{CC, CSTS, Cc, Csts};
use nvme_spec::{Sqe, Status};
use nvmf_host::qpair::{Broken, Ended, Payload};
use nvmf_wire::connect::{CNTLID_DYNAMIC, Connected};
use nvmf_wire::property::{PropertyGet, PropertySet, Width, value};
use std::collections::BTreeMap;
use std::sync::Arc;
use zerocopy::IntoBytes;

/// Commands outstanding on the admin queue.
const ADMIN_DEPTH: u16 = 8;

/// After its connections are gone, how long a host waits before it counts on it that nothing of
/// what it had sent happens any more, in ns: longer than the slowest operation of the drive.
const QUIET_NS: u64 = 1_500_000_000;

/// How long a host waits before it tries to connect again, in ns.
const RETRY_NS: u64 = 50_000_000;

/// The SMART log, in bytes.
const LOG_BYTES: usize = 512;

/// What a SMART log has in the field of power cycles, which is never 0 in ours.
fn smart_of(buf: &bdev::DmaBuf) -> u8 {
    let mut byte = [0];
    buf.slice().copy_out(112, &mut byte);
    byte[0]
}

/// How a log may end: it is aborted, its controller is reset, or its namespace is gone.
fn is_log_end(status: Status) -> bool {
    matches!(
        status.code(),
        Status::SUCCESS
            | Status::ABORT_REQUESTED
            | Status::ABORTED_SQ_DELETION
            | Status::INVALID_NAMESPACE
            | Status::TRANSIENT_TRANSPORT
    )
}

/// Blocks of one read of the last look.
const LOOK_BLOCKS: u64 = 128;

/// What all hosts share.
pub struct Checks {
    /// What each block may hold.
    pub history: History,
    /// What has to end.
    pub ledger: Ledger,
    /// I/O commands that were issued.
    pub issued: u64,
    next_command: u64,
}

impl Checks {
    /// For a drive of `blocks` blocks.
    pub fn new(blocks: u64) -> Checks {
        let (history, ledger) = (History::new(blocks), Ledger::default());
        Checks { history, ledger, issued: 0, next_command: 1 }
    }
}

/// Where a host is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Without connections: waits for the old ones to be gone, then until this time.
    Down { until_ns: Option<u64> },
    /// The admin queue: connection and Connect.
    Admin,
    /// Controller Enable was set; waits for Ready.
    Enabling,
    /// The I/O queues: connections and Connects.
    Queues,
    /// Issues commands.
    Working,
    /// All commands have ended: reads everything, from this block on.
    Looking { lba: u64 },
    /// It has left.
    Done,
}

/// A command under way.
enum Task {
    Connect {
        queue: usize,
        buf: bdev::DmaBuf,
    },
    Enable,
    Ready,
    KeepAlive,
    /// The SMART log, which is asked elsewhere.
    Log(bdev::DmaBuf),
    Abort,
    /// The end of the controller by its host.
    Disable,
    Io(Command),
}

/// A host.
pub struct Host {
    number: usize,
    plan: Plan,
    net: SharedNet,
    pool: DmaPool,
    rng: Rng,
    workload: Workload,
    phase: Phase,
    /// The admin queue, then the I/O queues.
    links: Vec<Link>,
    /// Connects that were sent, and those that succeeded, by queue.
    connecting: Vec<bool>,
    connected: Vec<bool>,
    cntlid: u16,
    tasks: BTreeMap<u64, Task>,
    /// Connections that were given up.
    lost: Vec<ConnId>,
    /// Writes whose end is not known.
    unknown: Vec<u64>,
    left: u32,
    /// It has asked for the end of its controller.
    disabling: bool,
    keep_alive_ns: u64,
    double: bool,
    ended: Vec<(u64, Ended)>,
}

impl Host {
    /// Host `number`, whose memory is the region after those of the reactors and of the hosts
    /// before it.
    pub fn new(
        number: usize,
        plan: &Plan,
        memory: &Arc<Memory>,
        net: &SharedNet,
        mut rng: Rng,
    ) -> Host {
        let region = (plan.reactors + number) as u16;
        Host {
            number,
            net: net.clone(),
            pool: DmaPool::new(memory.clone(), region, &pool_plan()),
            workload: Workload::new(plan, rng.part("workload")),
            rng,
            phase: Phase::Down { until_ns: Some(0) },
            links: Vec::new(),
            connecting: Vec::new(),
            connected: Vec::new(),
            cntlid: CNTLID_DYNAMIC,
            tasks: BTreeMap::new(),
            lost: Vec::new(),
            unknown: Vec::new(),
            left: plan.commands,
            disabling: false,
            keep_alive_ns: 0,
            double: plan.planted == Some(Planted::DoubleAnswer),
            ended: Vec::new(),
            plan: plan.clone(),
        }
    }

    /// Whether it has issued everything, looked at everything, and left.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Takes nothing from its I/O queues until then.
    pub fn deafen(&mut self, until_ns: u64) {
        let mut net = locked(&self.net);
        self.links.iter().skip(1).for_each(|link| net.deafen(link.id(), until_ns));
    }

    /// Where it is, for a person.
    pub fn describe(&self) -> String {
        let tasks = self.tasks.len();
        format!("host {} is {:?} with {tasks} commands under way", self.number, self.phase)
    }

    /// Moves on. Returns whether anything was done.
    ///
    /// # Errors
    /// What a checker found.
    pub fn step(&mut self, now_ns: u64, checks: &mut Checks) -> Result<bool, Failure> {
        if let Phase::Down { until_ns } = self.phase {
            return Ok(self.come_back(until_ns, now_ns, checks));
        }
        let mut ended = std::mem::take(&mut self.ended);
        let mut worked = false;
        let mut broken = None;
        for link in &mut self.links {
            match link.poll(now_ns, &mut ended) {
                Ok(work) => worked |= work,
                // It waits on for what it does not take.
                Err(Broken::Timeout) if locked(&self.net).is_deaf(link.id()) => {}
                Err(why) => broken = Some(why),
            }
        }
        for (command, how) in ended.drain(..) {
            worked = true;
            self.end(command, &how, now_ns, checks)?;
        }
        self.ended = ended;
        if let Some(why) = broken {
            self.explain(&why)?;
            self.lose(checks)?;
            return Ok(true);
        }
        Ok(self.go_on(now_ns, checks) || worked)
    }

    /// Only what an accident explains may break a connection.
    fn explain(&self, why: &Broken) -> Result<(), Failure> {
        let what = format!("host {}: {why}", self.number);
        match why {
            Broken::Ended | Broken::Network(_) => Ok(()),
            // With digests a changed byte breaks the connection; that is what they are for.
            Broken::Wire(_) | Broken::Terminated { .. }
                if self.plan.planted == Some(Planted::FlippedBit) && self.plan.header_digest =>
            {
                Ok(())
            }
            Broken::Timeout if self.links.iter().any(|l| locked(&self.net).was_deaf(l.id())) => {
                Ok(())
            }
            Broken::Timeout => Err(Failure::new(Kind::Unanswered, what)),
            Broken::Wire(_) | Broken::Protocol(_) | Broken::Terminated { .. } | Broken::Rdma(_) => {
                Err(Failure::new(Kind::Protocol, what))
            }
        }
    }

    /// Gives up every connection, and the commands on them.
    fn lose(&mut self, checks: &mut Checks) -> Result<(), Failure> {
        let mut given_up = Vec::new();
        for mut link in std::mem::take(&mut self.links) {
            self.lost.push(link.id());
            link.give_up(|command| given_up.push(command));
        }
        for command in given_up {
            checks.ledger.end(command)?;
            match self.tasks.remove(&command) {
                Some(Task::Io(io)) => {
                    self.unknown.extend(io.write());
                    self.give(io);
                }
                Some(Task::Connect { buf, .. } | Task::Log(buf)) => self.pool.give(buf),
                Some(
                    Task::Enable | Task::Ready | Task::KeepAlive | Task::Abort | Task::Disable,
                )
                | None => {}
            }
        }
        self.phase = Phase::Down { until_ns: None };
        Ok(())
    }

    fn give(&mut self, io: Command) {
        if let Some(buf) = io.into_buf() {
            self.pool.give(buf);
        }
    }

    /// Waits until nothing of the old connections happens any more, then connects.
    fn come_back(&mut self, until_ns: Option<u64>, now_ns: u64, checks: &mut Checks) -> bool {
        let Some(until_ns) = until_ns else {
            let net = locked(&self.net);
            if self.lost.iter().all(|id| net.is_gone(*id)) {
                self.phase = Phase::Down { until_ns: Some(now_ns + QUIET_NS) };
            }
            return false;
        };
        if now_ns < until_ns {
            return false;
        }
        self.lost.clear();
        for write in self.unknown.drain(..) {
            checks.history.end_write(write, WriteEnd::Unknown);
        }
        self.cntlid = CNTLID_DYNAMIC;
        self.disabling = false;
        self.connecting = vec![false; usize::from(self.plan.queues) + 1];
        self.connected = self.connecting.clone();
        match Link::open(&self.net, &self.plan, ADMIN_DEPTH) {
            Some(link) => {
                self.links = vec![link];
                self.phase = Phase::Admin;
            }
            None => self.phase = Phase::Down { until_ns: Some(now_ns + RETRY_NS) },
        }
        true
    }

    /// Does what the phase asks for.
    fn go_on(&mut self, now_ns: u64, checks: &mut Checks) -> bool {
        let greeted = self.connect_queues(now_ns, checks);
        let worked = match self.phase.clone() {
            Phase::Admin if self.connected[0] => {
                let cc = PropertySet { width: Width::Four, offset: CC, value: Cc::ENABLE.0.into() };
                self.submit(0, cc.sqe(0), Payload::None, Task::Enable, now_ns, checks);
                self.phase = Phase::Enabling;
                true
            }
            Phase::Queues if self.connected.iter().all(|connected| *connected) => {
                self.keep_alive_ns = now_ns;
                self.phase = Phase::Working;
                true
            }
            Phase::Working => self.work(now_ns, checks),
            Phase::Looking { lba } => self.look(lba, now_ns, checks),
            _ => false,
        };
        self.keep_alive(now_ns, checks) || self.administer(now_ns, checks) || worked || greeted
    }

    /// Now and then asks for a log, aborts some admin command, or resets its controller, with
    /// whatever is under way.
    fn administer(&mut self, now_ns: u64, checks: &mut Checks) -> bool {
        let ready = self.phase == Phase::Working && !self.disabling;
        if !ready || self.links[0].room() < 3 || !self.rng.one_in(60) {
            return false;
        }
        match self.rng.below(40) {
            0 if !self.plan.resets => return false,
            0 => {
                let cc = PropertySet { width: Width::Four, offset: CC, value: 0 };
                self.submit(0, cc.sqe(0), Payload::None, Task::Disable, now_ns, checks);
                self.disabling = true;
            }
            1..14 => {
                let mut sqe = Sqe::new(admin::ABORT, 0, 0);
                let cid = self.rng.below(u64::from(ADMIN_DEPTH)) as u32;
                sqe.cdw10 = (cid << 16).into();
                self.submit(0, sqe, Payload::None, Task::Abort, now_ns, checks);
            }
            _ => {
                let Some(buf) = self.pool.take(LOG_BYTES) else { return false };
                let nsid = [Sqe::NSID_ALL, NSID, SPARE_NSID][self.rng.below(3) as usize];
                let mut sqe = Sqe::new(admin::GET_LOG_PAGE, 0, nsid);
                sqe.cdw10 = ((LOG_BYTES as u32 / 4 - 1) << 16 | u32::from(lid::SMART)).into();
                let room = buf.slice().sub(0, LOG_BYTES);
                room.zero();
                self.submit(0, sqe, Payload::ToHost(room), Task::Log(buf), now_ns, checks);
            }
        }
        true
    }

    /// Sends Connect on every connection that has been initialised.
    fn connect_queues(&mut self, now_ns: u64, checks: &mut Checks) -> bool {
        let mut worked = false;
        for queue in 0..self.links.len() {
            if self.connecting[queue] || !self.links[queue].is_open() {
                continue;
            }
            let depth = if queue == 0 { ADMIN_DEPTH } else { self.plan.depth };
            let (qid, plan) = (queue as u16, &self.plan);
            let (sqe, data) = connect_command(plan, self.number, qid, self.cntlid, depth);
            let Some(buf) = self.pool.take(size_of_val(&data)) else { continue };
            let memory = buf.slice().sub(0, size_of_val(&data));
            memory.copy_in(0, data.as_bytes());
            self.connecting[queue] = true;
            let task = Task::Connect { queue, buf };
            self.submit(queue, sqe, Payload::ToController(memory), task, now_ns, checks);
            worked = true;
        }
        worked
    }

    fn submit(
        &mut self,
        queue: usize,
        sqe: Sqe,
        payload: Payload,
        task: Task,
        now_ns: u64,
        checks: &mut Checks,
    ) {
        let command = checks.next_command;
        checks.next_command += 1;
        let what = match &task {
            Task::Io(io) => format!("host {}: {:?}", self.number, io.about),
            _ => format!("host {}: opcode {:#x}", self.number, sqe.opcode),
        };
        checks.ledger.issue(command, what);
        self.tasks.insert(command, task);
        self.links[queue].submit(command, sqe, payload, now_ns);
    }

    /// Issues commands where there is room.
    fn work(&mut self, now_ns: u64, checks: &mut Checks) -> bool {
        if self.left == 0 {
            let io = |task: &Task| matches!(task, Task::Io(_));
            if !self.tasks.values().any(io) {
                self.phase = Phase::Looking { lba: 0 };
                return true;
            }
            return false;
        }
        let queue = self.rng.within(1, u64::from(self.plan.queues)) as usize;
        let room = self.links[queue].room();
        if room == 0 || self.rng.one_in(4) {
            return false;
        }
        let drafts = self.workload.draw(room, &mut self.pool, &mut checks.history);
        let worked = !drafts.is_empty();
        for draft in drafts {
            checks.issued += 1;
            self.left = self.left.saturating_sub(1);
            let task = Task::Io(draft.command);
            self.submit(queue, draft.sqe, draft.payload, task, now_ns, checks);
        }
        worked
    }

    /// Reads everything, a piece at a time, and leaves.
    fn look(&mut self, lba: u64, now_ns: u64, checks: &mut Checks) -> bool {
        if self.tasks.values().any(|task| matches!(task, Task::Io(_))) {
            return false;
        }
        if lba >= self.plan.blocks {
            if self.tasks.is_empty() {
                self.links.clear();
                self.phase = Phase::Done;
            }
            return true;
        }
        let blocks = LOOK_BLOCKS.min(self.plan.blocks - lba) as u32;
        if let Some(draft) = command::read(lba, blocks, &mut self.pool, &mut checks.history) {
            self.phase = Phase::Looking { lba: lba + u64::from(blocks) };
            let task = Task::Io(draft.command);
            self.submit(1, draft.sqe, draft.payload, task, now_ns, checks);
        }
        true
    }

    /// A Keep Alive, at a third of the timeout.
    fn keep_alive(&mut self, now_ns: u64, checks: &mut Checks) -> bool {
        let interval_ns = u64::from(self.plan.kato_ms) * 1_000_000 / 3;
        let working = matches!(self.phase, Phase::Working)
            || matches!(self.phase, Phase::Looking { lba } if lba < self.plan.blocks);
        if !working
            || self.disabling
            || now_ns < self.keep_alive_ns + interval_ns
            || self.links[0].room() == 0
        {
            return false;
        }
        self.keep_alive_ns = now_ns;
        let sqe = Sqe::new(admin::KEEP_ALIVE, 0, 0);
        self.submit(0, sqe, Payload::None, Task::KeepAlive, now_ns, checks);
        true
    }

    /// A command was answered.
    fn end(
        &mut self,
        command: u64,
        how: &Ended,
        now_ns: u64,
        checks: &mut Checks,
    ) -> Result<(), Failure> {
        checks.ledger.end(command)?;
        if self.double && matches!(self.tasks.get(&command), Some(Task::Io(_))) {
            checks.ledger.end(command)?;
        }
        let status = how.status();
        let what = match self.tasks.remove(&command).expect("issued by this host") {
            Task::Io(io) => {
                let result = io.answered(how, &mut checks.history);
                self.give(io);
                return result;
            }
            Task::Connect { queue, buf } => {
                self.pool.give(buf);
                if status.is_success() {
                    self.connected[queue] = true;
                    if queue == 0 {
                        self.cntlid = Connected::from_dword(how.cqe.dw0.get()).cntlid;
                    }
                    return Ok(());
                }
                "Connect"
            }
            Task::Enable if status.is_success() => {
                self.ask_ready(now_ns, checks);
                return Ok(());
            }
            Task::Ready if status.is_success() => {
                self.ready(Csts(value(&how.cqe) as u32), now_ns, checks);
                return Ok(());
            }
            Task::KeepAlive | Task::Abort if status.is_success() => return Ok(()),
            Task::Abort if status.code() == Status::ABORT_LIMIT => return Ok(()),
            Task::Disable if status.is_success() => return self.lose(checks),
            Task::Log(buf) => {
                let power_cycles = smart_of(&buf);
                self.pool.give(buf);
                if is_log_end(status) && (power_cycles == 1 || !status.is_success()) {
                    return Ok(());
                }
                "Get Log Page"
            }
            Task::Enable | Task::Ready => "Property",
            Task::KeepAlive => "Keep Alive",
            Task::Abort => "Abort",
            Task::Disable => "the end of the controller",
        };
        self.refused(what, status)
    }

    /// An admin command failed: right only if the controller has ended meanwhile.
    fn refused(&self, what: &str, status: Status) -> Result<(), Failure> {
        if matches!(
            status.code(),
            Status::ABORTED_SQ_DELETION
                | Status::CONNECT_INVALID_PARAMETERS
                | Status::TRANSIENT_TRANSPORT
        ) {
            return Ok(());
        }
        Err(Failure::new(Kind::Protocol, format!("host {}: {what}: {status:?}", self.number)))
    }

    fn ask_ready(&mut self, now_ns: u64, checks: &mut Checks) {
        let get = PropertyGet { width: Width::Four, offset: CSTS };
        self.submit(0, get.sqe(0), Payload::None, Task::Ready, now_ns, checks);
    }

    /// The controller's status came: asks again, or opens the I/O queues.
    fn ready(&mut self, status: Csts, now_ns: u64, checks: &mut Checks) {
        if !status.ready() {
            return self.ask_ready(now_ns, checks);
        }
        self.phase = Phase::Queues;
        for _ in 0..self.plan.queues {
            match Link::open(&self.net, &self.plan, self.plan.depth) {
                Some(link) => self.links.push(link),
                // The node is gone; the admin queue will hear of it.
                None => return,
            }
        }
    }

    /// When to look again even if nothing arrives.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        let links = self.links.iter().filter_map(|link| link.next_deadline_ns()).min();
        let own = match self.phase {
            Phase::Down { until_ns } => until_ns,
            Phase::Working | Phase::Looking { .. } => {
                Some(self.keep_alive_ns + u64::from(self.plan.kato_ms) * 1_000_000 / 3)
            }
            _ => None,
        };
        links.into_iter().chain(own).min()
    }

    /// At the end of a run: its buffers are back.
    ///
    /// # Errors
    /// They are not.
    pub fn close(&self) -> Result<(), Failure> {
        match self.pool.taken() {
            [0, 0, 0, 0] => Ok(()),
            taken => {
                let what = format!("host {} has buffers on loan: {taken:?}", self.number);
                Err(Failure::new(Kind::Leak, what))
            }
        }
    }
}
