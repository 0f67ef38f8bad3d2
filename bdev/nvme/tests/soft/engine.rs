//! Registers, queues and faults.

use super::Config;
use super::bus::Bus;
use nvme_spec::property::{ACQ, AQA, ASQ, CAP, CC, CSTS, Cap, Cc, Csts, VS, css, version};
use nvme_spec::{Cqe, Sqe, Status};
use std::collections::{BTreeMap, VecDeque};
use zerocopy::{FromBytes, IntoBytes};

/// What becomes of a command, as the test decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is done and completed at once.
    Now,
    /// It is done and completed when the test says so.
    Later,
    /// It fails.
    Fail(Status),
    /// Nothing more is heard of it.
    Never,
    /// Its completion comes twice.
    Twice,
    /// A completion with another identifier comes before.
    StrayBefore(u16),
    /// A completion that says it failed names another submission queue; then its own comes.
    WrongQueue,
}

/// What is wrong with the controller.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// CSTS.CFS is set.
    pub fatal: bool,
    /// It is gone: every read is all ones.
    pub gone: bool,
    /// CSTS.RDY is never set.
    pub never_ready: bool,
    /// CSTS.RDY is never cleared.
    pub never_stops: bool,
    /// It writes completions with the wrong phase tag.
    pub wrong_phase: bool,
    /// It loses writes to submission doorbells.
    pub deaf: bool,
    /// It takes each list of PRPs one entry late.
    pub list_off_by_one: bool,
    /// It sees each command of an I/O queue with the identifier of the first.
    pub same_cid: bool,
    /// It goes on with commands after CC.EN was cleared, until CSTS.RDY is.
    pub busy_to_the_end: bool,
    /// It refuses to make I/O submission queues.
    pub no_queues: bool,
    /// It looks at doorbells in memory only when it is rung. (No fault, but not what the others do.)
    pub dozes: bool,
    /// The machine asks for it back, once.
    pub wanted_back: bool,
    /// Its isolation takes this many calls to become certain.
    pub isolations: u32,
}

/// A namespace.
#[derive(Clone, Debug)]
pub struct Space {
    pub nsid: u32,
    pub block_bytes: u32,
    pub metadata_bytes: u16,
    pub data: Vec<u8>,
}

impl Space {
    /// `blocks` blocks that were never written.
    pub fn new(nsid: u32, block_bytes: u32, blocks: u64) -> Space {
        let data = vec![0; blocks as usize * block_bytes as usize];
        Space { nsid, block_bytes, metadata_bytes: 0, data }
    }

    pub fn blocks(&self) -> u64 {
        (self.data.len() / self.block_bytes as usize) as u64
    }
}

pub struct Cq {
    pub base: u64,
    pub entries: u32,
    pub tail: u32,
    pub head: u32,
    pub phase: bool,
    pub vector: Option<u16>,
}

pub struct Sq {
    pub base: u64,
    pub entries: u32,
    pub head: u32,
    pub tail: u32,
    pub cqid: u16,
    /// Identifiers of commands not completed.
    pub open: Vec<u16>,
}

/// A command taken in and not completed.
pub struct Held {
    pub qid: u16,
    pub sqe: Sqe,
    pub fate: Fate,
}

type Decide = Box<dyn FnMut(u16, &Sqe) -> Fate + Send>;

/// The controller.
pub struct Engine {
    pub config: Config,
    pub bus: Bus,
    pub faults: Faults,
    pub violations: Vec<String>,
    pub spaces: Vec<Space>,
    pub cc: Cc,
    ready: bool,
    shutdown: bool,
    lag: u32,
    aqa: u32,
    asq: u64,
    acq: u64,
    pub sqs: BTreeMap<u16, Sq>,
    pub cqs: BTreeMap<u16, Cq>,
    pub held: VecDeque<Held>,
    /// Asynchronous event requests that wait.
    pub event_requests: Vec<u16>,
    pub decide: Decide,
    /// Doorbell pages in memory: shadows, event indices.
    pub shadows: Option<(u64, u64)>,
    /// Memory that operations under way may use: (start, bytes) in the process.
    pub lent: Vec<(usize, usize)>,
    pub isolated: bool,
    /// How often the driver gave it up.
    pub let_go: u32,
    pub armed: bool,
    pub pending_interrupt: bool,
    pub raised: bool,
    /// Doorbells written, by kind: submission, completion.
    pub doorbells: [u64; 2],
    /// An I/O submission doorbell was written since it last worked.
    rung: bool,
    pub aborts: Vec<(u16, u16)>,
    pub resets: u32,
    pub events_wanted: u32,
}

impl Engine {
    pub fn new(config: Config) -> Engine {
        Engine {
            spaces: config.spaces.clone(),
            config,
            bus: Bus::default(),
            faults: Faults::default(),
            violations: Vec::new(),
            cc: Cc(0),
            ready: false,
            shutdown: false,
            lag: 0,
            aqa: 0,
            asq: 0,
            acq: 0,
            sqs: BTreeMap::new(),
            cqs: BTreeMap::new(),
            held: VecDeque::new(),
            event_requests: Vec::new(),
            decide: Box::new(|_, _| Fate::Now),
            shadows: None,
            lent: Vec::new(),
            isolated: false,
            let_go: 0,
            armed: false,
            pending_interrupt: false,
            raised: false,
            doorbells: [0; 2],
            rung: false,
            aborts: Vec::new(),
            resets: 0,
            events_wanted: 0,
        }
    }

    pub fn blame(&mut self, what: impl Into<String>) {
        self.violations.push(what.into());
    }

    fn stride(&self) -> usize {
        4 << self.config.dstrd
    }

    // --- Registers.

    pub fn read32(&mut self, offset: usize) -> u32 {
        if self.faults.gone {
            return u32::MAX;
        }
        let cap = Cap {
            mqes: self.config.mqes,
            cqr: true,
            to: 4,
            dstrd: self.config.dstrd,
            css: css::NVM,
            mpsmax: 4,
            ..Cap::default()
        };
        match offset as u32 {
            CAP => cap.bits() as u32,
            0x04 => (cap.bits() >> 32) as u32,
            VS => version(1, 4, 0),
            CC => self.cc.0,
            CSTS => self.status(),
            _ => 0,
        }
    }

    fn status(&mut self) -> u32 {
        if self.lag > 0 {
            self.lag -= 1;
        }
        if self.lag == 0 && self.ready != self.cc.enabled() {
            let stays = if self.ready { self.faults.never_stops } else { self.faults.never_ready };
            if !stays {
                self.turn();
            }
        }
        let ready = if self.ready { Csts::RDY } else { 0 };
        let fatal = if self.faults.fatal { Csts::CFS } else { 0 };
        let shutdown = if self.shutdown { Csts::SHST_COMPLETE } else { 0 };
        ready | fatal | shutdown
    }

    /// CSTS.RDY follows CC.EN.
    fn turn(&mut self) {
        self.ready = self.cc.enabled();
        if !self.ready {
            self.forget();
            return;
        }
        let entries = |field: u32| (field & 0xfff) + 1;
        let sq = entries(self.aqa);
        let cq = entries(self.aqa >> 16);
        self.add_cq(
            0,
            Cq { base: self.acq, entries: cq, tail: 0, head: 0, phase: true, vector: None },
        );
        self.add_sq(0, Sq { base: self.asq, entries: sq, head: 0, tail: 0, cqid: 0, open: vec![] });
    }

    /// A controller reset: queues and commands are gone.
    fn forget(&mut self) {
        self.sqs.clear();
        self.cqs.clear();
        self.held.clear();
        self.event_requests.clear();
        self.shadows = None;
    }

    pub fn add_sq(&mut self, qid: u16, sq: Sq) {
        self.sqs.insert(qid, sq);
    }

    pub fn add_cq(&mut self, qid: u16, cq: Cq) {
        self.cqs.insert(qid, cq);
    }

    pub fn write32(&mut self, offset: usize, value: u32) {
        if self.faults.gone {
            return;
        }
        if offset >= 0x1000 {
            return self.doorbell(offset - 0x1000, value);
        }
        let offset = offset as u32;
        if matches!(offset, AQA | ASQ | ACQ) && (self.cc.enabled() || self.ready) {
            self.blame("admin queue registers written while enabled");
        }
        match offset {
            CC => self.configure(Cc(value)),
            AQA => self.aqa = value,
            ASQ => self.asq = self.asq & !0xffff_ffff | u64::from(value),
            0x2c => self.asq = self.asq & 0xffff_ffff | u64::from(value) << 32,
            ACQ => self.acq = self.acq & !0xffff_ffff | u64::from(value),
            0x34 => self.acq = self.acq & 0xffff_ffff | u64::from(value) << 32,
            _ => self.blame(format!("write to register {offset:#x}")),
        }
    }

    fn configure(&mut self, cc: Cc) {
        if cc.enabled() != self.cc.enabled() {
            let settled =
                self.ready == self.cc.enabled() || self.faults.fatal || self.faults.never_ready;
            if !settled {
                self.blame("CC.EN changed before CSTS.RDY followed the last change");
            }
            if cc.enabled() && (cc.iosqes(), cc.iocqes(), cc.mps()) != (6, 4, 0) {
                self.blame("enabled with wrong entry or page sizes");
            }
            self.lag = self.config.lag;
            self.resets += u32::from(!cc.enabled());
            if !cc.enabled() && !self.faults.busy_to_the_end && !self.faults.never_stops {
                self.forget();
            }
        }
        if self.cc.shutdown() != cc.shutdown() {
            self.shutdown = cc.shutdown() != nvme_spec::property::Shutdown::None;
        }
        self.cc = cc;
    }

    fn doorbell(&mut self, offset: usize, value: u32) {
        let stride = self.stride();
        let (index, is_exact) = (offset / stride, offset.is_multiple_of(stride));
        let (qid, is_cq) = ((index / 2) as u16, index % 2 == 1);
        if !is_exact {
            return self.blame("doorbell at no doorbell's place");
        }
        self.doorbells[usize::from(is_cq)] += 1;
        self.rung |= !is_cq && qid > 0;
        if is_cq {
            self.move_head(qid, value);
        } else if !self.faults.deaf {
            self.move_tail(qid, value);
        }
    }

    fn move_tail(&mut self, qid: u16, value: u32) {
        let Some(sq) = self.sqs.get_mut(&qid) else { return };
        if value >= sq.entries {
            return self.blame(format!("tail {value} of queue {qid} is outside of it"));
        }
        // From the old tail to the new one without passing the head.
        let entries = sq.entries;
        let pending = (sq.tail + entries - sq.head) % entries;
        let added = (value + entries - sq.tail) % entries;
        sq.tail = value;
        if pending + added >= entries {
            self.blame(format!("queue {qid} overrun"));
        }
    }

    fn move_head(&mut self, qid: u16, value: u32) {
        let Some(cq) = self.cqs.get_mut(&qid) else { return };
        let waiting = (cq.tail + cq.entries - cq.head) % cq.entries;
        let freed = (value + cq.entries - cq.head) % cq.entries;
        if value >= cq.entries || freed > waiting {
            return self.blame(format!("head {value} of queue {qid} passes what was completed"));
        }
        cq.head = value;
    }

    // --- Work.

    /// Takes commands in and completes what is due.
    pub fn work(&mut self) {
        let may_run = self.ready
            && (self.cc.enabled() || self.faults.busy_to_the_end || self.faults.never_stops);
        if !may_run || self.faults.gone || self.faults.fatal {
            return;
        }
        let is_awake = std::mem::take(&mut self.rung) || !self.faults.dozes;
        loop {
            if is_awake {
                self.look_at_shadows();
            }
            let Some((&qid, _)) = self.sqs.iter().find(|(_, sq)| sq.head != sq.tail) else { break };
            self.fetch(qid);
        }
        self.complete_where(|held| !matches!(held.fate, Fate::Later | Fate::Never));
    }

    /// Takes tails and heads from memory, and leaves word of what was seen.
    fn look_at_shadows(&mut self) {
        let Some((shadows, events)) = self.shadows else { return };
        let qids: Vec<u16> = self.sqs.keys().copied().filter(|qid| *qid > 0).collect();
        for qid in qids {
            for is_cq in [false, true] {
                let at = ((2 * usize::from(qid) + usize::from(is_cq)) * self.stride()) as u64;
                let mut bytes = [0; 4];
                assert!(self.bus.read(shadows + at, &mut bytes), "shadows are on the bus");
                let value = u32::from_le_bytes(bytes);
                if is_cq {
                    self.move_head(qid, value)
                } else {
                    self.move_tail(qid, value)
                }
                assert!(self.bus.write(events + at, &value.to_le_bytes()), "events are on the bus");
            }
        }
    }

    fn fetch(&mut self, qid: u16) {
        let sq = self.sqs.get_mut(&qid).expect("just found");
        let address = sq.base + u64::from(sq.head) * 64;
        sq.head = (sq.head + 1) % sq.entries;
        let mut bytes = [0; 64];
        if !self.dma_read(address, &mut bytes) {
            return self.blame(format!("entry of queue {qid} is not on the bus"));
        }
        let mut sqe = Sqe::read_from_bytes(&bytes).expect("64 bytes");
        let sq = self.sqs.get_mut(&qid).expect("just found");
        if self.faults.same_cid && qid > 0 {
            sqe.cid = sq.open.first().copied().unwrap_or(sqe.cid()).into();
        }
        if sq.open.contains(&sqe.cid()) {
            return self.blame(format!("identifier {:#x} of queue {qid} is in use", sqe.cid()));
        }
        sq.open.push(sqe.cid());
        if sqe.flags != 0 {
            self.blame(format!("flags {:#x}: neither fused nor SGL was meant", sqe.flags));
        }
        let fate = (self.decide)(qid, &sqe);
        self.held.push_back(Held { qid, sqe, fate });
    }

    /// Completes the commands that `due` says, in the order they came in.
    pub fn complete_where(&mut self, due: impl Fn(&Held) -> bool) {
        let mut at = 0;
        while at < self.held.len() {
            if due(&self.held[at]) && self.has_room(self.held[at].qid) {
                self.complete_at(at);
            } else {
                at += 1;
            }
        }
    }

    /// Completes command number `at` of those held.
    pub fn complete_at(&mut self, at: usize) {
        let Some(Held { qid, sqe, fate }) = self.held.remove(at) else { return };
        let cid = sqe.cid();
        let outcome = match fate {
            Fate::Fail(status) => Some((status, 0)),
            _ if qid == 0 => self.admin(&sqe),
            _ => Some((self.nvm(&sqe), 0)),
        };
        let Some((status, dw0)) = outcome else { return };
        match fate {
            Fate::StrayBefore(stray) => self.post(qid, qid, stray, Status::SUCCESS, 0),
            Fate::WrongQueue => self.post(qid, qid + 7, cid, Status::INTERNAL_ERROR, 0),
            _ => {}
        }
        self.post(qid, qid, cid, status, dw0);
        if fate == Fate::Twice {
            self.post(qid, qid, cid, status, dw0);
        }
        if let Some(sq) = self.sqs.get_mut(&qid) {
            sq.open.retain(|open| *open != cid);
        }
    }

    /// Whether the completion queue of `qid` takes two more entries.
    pub fn has_room(&self, qid: u16) -> bool {
        let Some(cq) = self.sqs.get(&qid).and_then(|sq| self.cqs.get(&sq.cqid)) else {
            return true;
        };
        (cq.tail + cq.entries - cq.head) % cq.entries + 2 < cq.entries
    }

    /// Writes a completion.
    pub fn post(&mut self, qid: u16, sqid: u16, cid: u16, status: Status, dw0: u32) {
        let Some(sq) = self.sqs.get(&qid) else { return };
        let (sqhd, cqid) = (sq.head as u16, sq.cqid);
        let wrong = self.faults.wrong_phase;
        let Some(cq) = self.cqs.get_mut(&cqid) else { return };
        let mut cqe = Cqe::new(cid, status);
        cqe.dw0 = dw0.into();
        cqe.sqhd = sqhd.into();
        cqe.sqid = sqid.into();
        cqe.status = (cqe.status.get() | u16::from(cq.phase != wrong)).into();
        let address = cq.base + u64::from(cq.tail) * 16;
        cq.tail += 1;
        if cq.tail == cq.entries {
            (cq.tail, cq.phase) = (0, !cq.phase);
        }
        let interrupts = cq.vector.is_some();
        if !self.dma_write(address, cqe.as_bytes()) && !self.isolated {
            self.blame("completion queue is not on the bus");
        }
        if interrupts {
            self.raised |= self.armed;
            self.pending_interrupt |= !self.armed;
        }
    }

    // --- Memory.

    pub fn dma_read(&self, address: u64, into: &mut [u8]) -> bool {
        !self.isolated && self.bus.read(address, into)
    }

    pub fn dma_write(&self, address: u64, from: &[u8]) -> bool {
        !self.isolated && self.bus.write(address, from)
    }

    /// Whether the operation whose data is at `address` still owns it.
    pub fn is_lent(&self, address: u64, bytes: usize) -> bool {
        let Some(at) = self.bus.find(address, bytes) else { return false };
        self.lent.iter().any(|(start, len)| *start <= at && at + bytes <= start + len)
    }

    pub fn isolate(&mut self) -> bool {
        if self.faults.isolations > 0 {
            self.faults.isolations -= 1;
            return false;
        }
        self.isolated = true;
        true
    }

    pub fn unmap(&mut self, pages: &[u64], _bytes: usize) {
        let runs = (self.ready || self.cc.enabled()) && !self.isolated && !self.faults.gone;
        let on = |base: u64| pages.iter().any(|p| (*p..p + (2 << 20)).contains(&base));
        let used =
            self.sqs.values().any(|sq| on(sq.base)) || self.cqs.values().any(|cq| on(cq.base));
        if runs && used {
            self.blame("rings taken off the bus while the controller has them");
        }
        self.bus.unmap(pages);
    }

    /// An asynchronous event, if the driver waits for one.
    pub fn raise_event(&mut self, dword: u32) -> bool {
        let Some(cid) = self.event_requests.pop() else { return false };
        self.post(0, 0, cid, Status::SUCCESS, dword);
        if let Some(sq) = self.sqs.get_mut(&0) {
            sq.open.retain(|open| *open != cid);
        }
        true
    }
}
