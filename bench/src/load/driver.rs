//! What keeps a depth of I/Os in flight on every lane.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use bdev::{DmaSlice, Geometry, Memory, Op as BlockOp};
use reactor::Handle;
use reactor::client::{Driver, Ended, Operation, Submitter};

use crate::ceiling::{fill, holds};
use crate::random::Random;
use crate::sample::{Meter, Op, Sample, Span, Workload};

/// What to do, and for how long.
pub struct Plan {
    /// What is asked of the target.
    pub workload: Workload,
    /// How long the sample is.
    pub span: Span,
    /// Verify all data.
    pub check: bool,
    /// Congestion control, for the report.
    pub congestion: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing was submitted yet.
    Starting,
    /// One read a connection: channels open before their connections are up, and the time that
    /// takes is not part of the sample.
    Greeting,
    /// Every place is written with its pattern, once.
    Filling,
    /// Random places, timed.
    Loading,
    /// What is in flight ends.
    Draining,
    /// Every place is read and compared, once.
    Verifying,
    /// The report was sent.
    Over,
}

struct Slot {
    lane: usize,
    data: DmaSlice,
    place: u64,
    issued_ns: u64,
}

/// The load generator.
pub struct Load {
    plan: Plan,
    /// Of each connection's channel.
    lanes: Vec<Geometry>,
    slots: Vec<Slot>,
    randoms: Vec<Random>,
    phase: Phase,
    meter: Meter,
    /// Places of `payload` bytes in the namespace.
    places: u64,
    /// The next place of a phase that goes through all of them.
    next_place: u64,
    /// Which places hold their pattern; kept with `check` only.
    written: Vec<bool>,
    scratch: Vec<u8>,
    /// What went wrong first; reported once nothing is in flight.
    failure: Option<String>,
    handle: Handle,
    report: Sender<Result<Sample, String>>,
}

impl Load {
    /// Slots in region 1 of `memory`; `report` gets the sample, after which `handle` is stopped.
    ///
    /// # Errors
    /// A namespace too small for one I/O.
    pub fn new(
        plan: Plan,
        lanes: Vec<Geometry>,
        memory: &Arc<Memory>,
        handle: Handle,
        report: Sender<Result<Sample, String>>,
    ) -> Result<Self, String> {
        let Workload { payload, depth, .. } = plan.workload;
        let places = lanes.iter().map(|l| l.bytes() / payload as u64).min().unwrap_or(0);
        if places == 0 {
            return Err("the namespace is smaller than one I/O".into());
        }
        let stride = payload.next_multiple_of(4096);
        let slot = |index: usize| Slot {
            lane: index / depth,
            data: memory.slice(1, index * stride, payload),
            place: 0,
            issued_ns: 0,
        };
        Ok(Self {
            slots: (0..depth * lanes.len()).map(slot).collect(),
            randoms: (1..=lanes.len() as u64).map(Random::new).collect(),
            phase: Phase::Starting,
            meter: Meter::start(&plan.span, 0),
            places,
            next_place: 0,
            written: vec![false; if plan.check { places as usize } else { 0 }],
            scratch: vec![0; payload],
            failure: None,
            lanes,
            plan,
            handle,
            report,
        })
    }

    fn begin(&mut self, phase: Phase, io: &mut Submitter<'_, '_>) {
        self.phase = phase;
        self.next_place = 0;
        if phase == Phase::Loading {
            self.meter = Meter::start(&self.plan.span, io.now_ns());
        }
        // The first slots of the lanes, or all of them.
        let step = if phase == Phase::Greeting { self.plan.workload.depth } else { 1 };
        for index in (0..self.slots.len()).step_by(step) {
            self.issue(index, io);
        }
    }

    fn issue(&mut self, index: usize, io: &mut Submitter<'_, '_>) {
        let slot = &mut self.slots[index];
        let op = match (self.phase, self.plan.workload.op) {
            (Phase::Filling, _) => BlockOp::Write,
            (Phase::Greeting | Phase::Verifying, _) => BlockOp::Read,
            (Phase::Loading, Op::Read) => BlockOp::Read,
            (Phase::Loading, Op::Write) => BlockOp::Write,
            (Phase::Starting | Phase::Draining | Phase::Over, _) => return,
        };
        slot.place = if self.phase == Phase::Loading {
            self.randoms[slot.lane].below(self.places)
        } else if self.phase == Phase::Greeting {
            0
        } else if self.next_place < self.places {
            self.next_place += 1;
            self.next_place - 1
        } else {
            return;
        };
        if self.plan.check && op == BlockOp::Write {
            let payload = self.plan.workload.payload;
            fill(&mut self.scratch, slot.place as usize * payload);
            slot.data.copy_in(0, &self.scratch);
            self.written[slot.place as usize] = true;
        }
        let block_bytes = self.lanes[slot.lane].block_bytes as usize;
        let blocks = (self.plan.workload.payload / block_bytes) as u32;
        slot.issued_ns = io.now_ns();
        let operation = Operation::new(op, slot.place * u64::from(blocks), blocks, slot.data);
        io.submit(slot.lane, operation, None, index as u64);
    }

    /// Whether the data just read into a slot are those of its place.
    fn is_right(&mut self, index: usize) -> bool {
        let slot = &self.slots[index];
        slot.data.copy_out(0, &mut self.scratch);
        if self.written[slot.place as usize] {
            holds(&self.scratch, slot.place as usize * self.scratch.len())
        } else {
            self.scratch.iter().all(|&byte| byte == 0)
        }
    }

    /// Nothing is in flight: what comes next.
    fn advance(&mut self, io: &mut Submitter<'_, '_>) {
        match (self.phase, self.plan.workload.op) {
            (Phase::Starting, _) => self.begin(Phase::Greeting, io),
            (Phase::Greeting, Op::Read) if self.plan.check => self.begin(Phase::Filling, io),
            (Phase::Greeting | Phase::Filling, _) => self.begin(Phase::Loading, io),
            (Phase::Draining, Op::Write) if self.plan.check && self.failure.is_none() => {
                self.begin(Phase::Verifying, io);
            }
            (Phase::Draining | Phase::Verifying, _) => self.finish(),
            (Phase::Loading | Phase::Over, _) => {}
        }
    }

    fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
        self.phase = Phase::Draining;
    }

    fn finish(&mut self) {
        self.phase = Phase::Over;
        let Workload { payload, .. } = self.plan.workload;
        let sample = self.meter.finish(payload, self.plan.congestion.clone());
        // The receiver is the thread that runs this reactor, and outlives it.
        let _ = self.report.send(self.failure.take().map_or(Ok(sample), Err));
        self.handle.stop();
    }
}

impl Driver for Load {
    fn poll(&mut self, io: &mut Submitter<'_, '_>) -> u32 {
        if self.phase == Phase::Starting {
            self.advance(io);
            return 1;
        }
        if self.phase == Phase::Loading {
            self.meter.tick(io.now_ns());
            if self.meter.is_over() {
                self.phase = Phase::Draining;
            }
        }
        0
    }

    fn ended(&mut self, ended: Ended, io: &mut Submitter<'_, '_>) {
        let index = ended.tag as usize;
        let slot = &self.slots[index];
        let place = slot.place;
        if self.phase == Phase::Loading {
            self.meter.record(io.now_ns() - slot.issued_ns);
        }
        let reads = match self.phase {
            Phase::Loading | Phase::Draining => self.plan.workload.op == Op::Read,
            Phase::Verifying => true,
            Phase::Starting | Phase::Greeting | Phase::Filling | Phase::Over => false,
        };
        if !ended.status.is_success() {
            self.fail(format!("an I/O at place {place} ended with {:?}", ended.status));
        } else if self.plan.check && reads && !self.is_right(index) {
            self.fail(format!("wrong data at place {place}"));
        }
        if self.phase != Phase::Greeting {
            self.issue(index, io);
        }
        if io.under_way() == 0 {
            self.advance(io);
        }
    }
}
