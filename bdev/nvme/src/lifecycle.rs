//! Bring-up, reset, shutdown and the end of a controller (Base Specification, "Memory-based
//! Controller Initialization" and "Controller Level Reset").
//!
//! The order that keeps memory safe: an epoch begins (channels stop), the controller is disabled
//! and seen not ready (or isolated, or gone), only then memory counts as safe (channels end their
//! commands), and only then it is enabled again.

use crate::admin::Admin;
use crate::limits::ADMIN_ENTRIES;
use crate::shared::{Counters, Failure};
use nvme_spec::property::{ACQ, AQA, ASQ, CAP, CC, CRTO, CSTS, Cap, Cc, Csts, ShutdownStatus, css};
use nvme_spec::queue::doorbell;

/// What a read of any register returns when nobody answers.
const ALL_ONES: u32 = u32::MAX;

/// A unit of the controller's time-outs, in ns.
const TIMEOUT_UNIT_NS: u64 = 500_000_000;

/// What a normal shutdown gets, in ns.
const SHUTDOWN_NS: u64 = 30_000_000_000;

/// Where a controller is in its life.
#[derive(Debug)]
pub(crate) enum State {
    /// Nothing was done yet.
    Start,
    /// Somebody enabled it and it is not ready: CC.EN may only be cleared when it is, or has had
    /// its time.
    Settling { until_ns: u64 },
    /// CC.EN is cleared, CSTS.RDY is not yet.
    Disabling { until_ns: u64, then: After },
    /// CC.EN is set, CSTS.RDY is not yet.
    Enabling { until_ns: u64 },
    /// It is ready, and asked what it is.
    Surveying,
    /// It works.
    Ready,
    /// CC.SHN is set, CSTS.SHST does not say complete yet.
    ShuttingDown { until_ns: u64 },
    /// It is to be kept from memory by other means than its own.
    Isolating { why: Failure },
    /// It cannot reach memory and will not be used.
    Dead { why: Failure },
}

/// What follows a disabled controller.
#[derive(Clone, Debug)]
pub(crate) enum After {
    Enable,
    Stop(Failure),
}

impl State {
    /// Whether the admin queue may be used.
    pub(crate) fn has_queue(&self) -> bool {
        matches!(self, State::Surveying | State::Ready)
    }

    /// Whether the controller certainly cannot reach memory.
    pub(crate) fn is_off(&self) -> bool {
        matches!(self, State::Start | State::Dead { .. })
    }
}

impl Admin {
    /// Goes on with its life, as far as it can now.
    pub(crate) fn step(&mut self, now_ns: u64) -> u32 {
        match &self.state {
            State::Start => self.begin(now_ns),
            State::Dead { .. } => {
                // It waits for nothing here, so it is there for whoever wants it.
                if self.hw.is_wanted_back() {
                    self.hw.let_go();
                }
                return 0;
            }
            State::Isolating { .. } => self.isolate(),
            State::Ready if now_ns < self.watch_at_ns => return 0,
            _ => {
                let csts = self.hw.read32(CSTS as usize);
                self.watch_at_ns = now_ns.saturating_add(self.options.watch_ns);
                if self.hw.is_wanted_back() {
                    self.die(Failure::Removed);
                } else if csts == ALL_ONES {
                    self.die(Failure::Gone);
                } else {
                    self.step_with(Csts(csts), now_ns);
                }
            }
        }
        1
    }

    fn step_with(&mut self, csts: Csts, now_ns: u64) {
        match &self.state {
            State::Settling { until_ns } => {
                let is_over = csts.ready() || csts.fatal() || now_ns >= *until_ns;
                if is_over {
                    self.disable(After::Enable, now_ns);
                }
            }
            State::Disabling { until_ns, then } => {
                if !csts.ready() {
                    let then = then.clone();
                    self.disabled(then, now_ns);
                } else if now_ns >= *until_ns {
                    self.die(Failure::Hung("it does not stop"));
                }
            }
            State::Enabling { .. } | State::Surveying | State::Ready if csts.fatal() => {
                self.reset(Failure::Fatal, now_ns);
            }
            State::Enabling { until_ns } => {
                if csts.ready() {
                    self.state = State::Surveying;
                    self.survey_all(now_ns);
                } else if now_ns >= *until_ns {
                    self.reset(Failure::Hung("it does not become ready"), now_ns);
                }
            }
            State::ShuttingDown { until_ns } => {
                let is_over = csts.shutdown() == ShutdownStatus::Complete;
                if is_over || csts.fatal() || now_ns >= *until_ns {
                    self.disable(After::Stop(Failure::Asked), now_ns);
                }
            }
            _ => {}
        }
    }

    /// The first step: looks at what is there.
    fn begin(&mut self, now_ns: u64) {
        if let Err(error) = self.hw.admit() {
            return self.die(Failure::Unusable(format!("it cannot be a bus master: {error}")));
        }
        let bits = self.hw.read64(CAP as usize);
        if bits == u64::MAX {
            return self.die(Failure::Gone);
        }
        self.cap = Cap::from_bits(bits);
        if let Some(why) = self.unfit() {
            return self.die(Failure::Unusable(why));
        }
        self.ring.set_stride(self.cap.dstrd);
        let cc = Cc(self.hw.read32(CC as usize));
        let csts = Csts(self.hw.read32(CSTS as usize));
        if cc.enabled() && !csts.ready() && !csts.fatal() {
            self.state = State::Settling { until_ns: now_ns.saturating_add(self.patience_ns()) };
        } else {
            self.disable(After::Enable, now_ns);
        }
    }

    /// Why the driver cannot use a controller with these capabilities, if it is so.
    fn unfit(&self) -> Option<String> {
        let cap = &self.cap;
        if cap.css & (css::NVM | css::IO_COMMAND_SETS) == 0 {
            return Some("it has no NVM command set".to_owned());
        }
        if cap.mpsmin > 0 {
            return Some("it does not support memory pages of 4 KiB".to_owned());
        }
        if cap.mqes == 0 {
            return Some("it says that queues have one entry, which makes none".to_owned());
        }
        let last = doorbell(1, true, cap.dstrd);
        if last + 4 > self.hw.register_bytes() {
            return Some("its registers are too short for the doorbells of a queue".to_owned());
        }
        None
    }

    /// How long the controller may take to become ready or not ready, in ns.
    fn patience_ns(&self) -> u64 {
        let mut units = u64::from(self.cap.to);
        if self.cap.crms != 0 {
            // Ready with media (CRWMT), in the low half.
            units = units.max(u64::from(self.hw.read32(CRTO as usize) & 0xffff));
        }
        units.max(1) * TIMEOUT_UNIT_NS
    }

    /// Clears CC.EN.
    fn disable(&mut self, then: After, now_ns: u64) {
        let cc = self.hw.read32(CC as usize);
        if cc == ALL_ONES {
            return self.die(Failure::Gone);
        }
        if Cc(cc).enabled() {
            self.hw.write32(CC as usize, cc & !1);
        }
        let until_ns = now_ns.saturating_add(self.patience_ns());
        self.state = State::Disabling { until_ns, then };
    }

    /// The controller is disabled: it has forgotten its queues.
    fn disabled(&mut self, then: After, now_ns: u64) {
        self.shared.set_safe();
        self.forget_queues();
        match then {
            After::Enable => self.enable(now_ns),
            After::Stop(why) => self.state = State::Isolating { why },
        }
    }

    fn enable(&mut self, now_ns: u64) {
        let (shadows, events) = self.shadow_pages();
        shadows.zero();
        events.zero();
        self.ring.restart();
        let (asq, acq) = self.ring.bases();
        let last = ADMIN_ENTRIES - 1;
        self.hw.write32(AQA as usize, last << 16 | last);
        self.hw.write64(ASQ as usize, asq);
        self.hw.write64(ACQ as usize, acq);
        let sets = if self.cap.css & css::NVM != 0 { 0 } else { 6 << 4 };
        self.hw.write32(CC as usize, Cc::ENABLE.0 | sets);
        self.state = State::Enabling { until_ns: now_ns.saturating_add(self.patience_ns()) };
    }

    /// All that is to be known is known.
    pub(crate) fn surveyed_all(&mut self, now_ns: u64) {
        if matches!(self.state, State::Surveying) {
            self.state = State::Ready;
            self.watch_at_ns = now_ns.saturating_add(self.options.watch_ns);
            self.wait_for_events();
        }
    }

    /// Starts over, or gives up when that did not help often enough.
    pub(crate) fn reset(&mut self, why: Failure, now_ns: u64) {
        if !self.state.has_queue() && !matches!(self.state, State::Enabling { .. }) {
            return; // under way, or over
        }
        Counters::add(&self.shared.counters.resets);
        tracing::error!(drive = self.name(), %why, "the controller is reset");
        if self.attempts >= self.options.attempts {
            return self.die(why);
        }
        self.attempts += 1;
        self.shared.advance();
        self.forget_commands(&why);
        self.disable(After::Enable, now_ns);
    }

    /// The end: nothing is asked of the controller any more.
    pub(crate) fn die(&mut self, why: Failure) {
        if matches!(self.state, State::Dead { .. } | State::Isolating { .. }) {
            return;
        }
        tracing::error!(drive = self.name(), %why, "the controller is given up");
        self.shared.advance();
        self.forget_commands(&why);
        self.state = State::Isolating { why };
        self.isolate();
    }

    /// Keeps the controller from memory; asked again until it is certain.
    fn isolate(&mut self) {
        if !self.hw.isolate() {
            return;
        }
        let State::Isolating { why } = std::mem::replace(&mut self.state, State::Start) else {
            unreachable!("isolated from this state only");
        };
        self.refuse_requests(&why);
        if matches!(why, Failure::Gone | Failure::Removed) {
            self.shared.add_loss();
            self.hw.let_go();
        }
        self.state = State::Dead { why };
        self.shared.set_dead(true);
        self.shared.set_safe();
        self.forget_queues();
    }

    /// A normal shutdown, so that the drive need not recover when it is next used. Channels end
    /// what is under way with an error: whoever wants none closes them first.
    pub(crate) fn shut_down(&mut self, now_ns: u64) {
        if !self.state.has_queue() {
            return;
        }
        self.shared.advance();
        self.forget_commands(&Failure::Asked);
        let cc = Cc(self.hw.read32(CC as usize));
        self.hw.write32(CC as usize, cc.with_normal_shutdown().0);
        self.state = State::ShuttingDown { until_ns: now_ns.saturating_add(SHUTDOWN_NS) };
    }

    /// Brings a controller that was given up back, or resets one that works.
    pub(crate) fn revive(&mut self, now_ns: u64) {
        self.attempts = 0;
        match &self.state {
            State::Dead { .. } => {
                self.shared.set_dead(false);
                self.state = State::Start;
                self.begin(now_ns);
            }
            _ => self.reset(Failure::Asked, now_ns),
        }
    }
}
