//! Controller properties: what Property Get and Property Set read and write.

use super::queue::Queues;
use super::{Controller, Life};
use crate::export::subsystem::SubsystemKind;
use crate::limits;
use nvme_spec::Status;
use nvme_spec::property::{self, Cap, Cc, Csts, Shutdown, css};
use std::sync::atomic::Ordering;

/// The version reported in VS and in Identify Controller.
pub const VERSION: u32 = property::version(2, 0, 0);

/// Worst time to become ready in units of 500 ms: a write of CC.EN is ready as soon as the queues
/// before a reset are gone, and a host that waits longer than this has lost us.
const READY_UNITS: u8 = 10;

/// What a Property Set asks of the queue pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyEffect {
    /// Nothing.
    None,
    /// CC.EN went to one: commands may come.
    Enabled,
    /// CC.EN went to zero: held event requests are dropped without an answer, I/O queue pairs see
    /// another epoch and close.
    Reset,
    /// CC.SHN asked for a shutdown: I/O queue pairs see another epoch and close, and when they are
    /// gone it is complete.
    ShutDown,
}

/// What a controller of this target can do (CAP).
pub fn capabilities(kind: &SubsystemKind) -> Cap {
    let css = match kind {
        SubsystemKind::Nvm => css::NVM | css::IO_COMMAND_SETS,
        SubsystemKind::Discovery(_) => css::NVM,
    };
    Cap {
        mqes: limits::QUEUE_ENTRIES - 1,
        cqr: true,
        to: READY_UNITS,
        css,
        crms: 1,
        ..Cap::default()
    }
}

impl Controller {
    /// Controller Configuration.
    pub fn cc(&self) -> Cc {
        Cc(self.cc.load(Ordering::Acquire))
    }

    /// Controller Status.
    pub fn csts(&self) -> Csts {
        Csts(self.csts.load(Ordering::Acquire))
    }

    /// Whether commands other than fabrics commands are taken: enabled, CSTS.RDY, no shutdown.
    pub fn is_ready(&self) -> bool {
        self.cc().enabled() && self.csts().0 & (Csts::RDY | Csts::CFS | 3 << 2) == Csts::RDY
    }

    /// Property Get: the value at `offset`, 8 bytes wide or 4.
    ///
    /// # Errors
    /// Invalid Field where there is no such property of this width.
    pub fn property_get(&self, offset: u32, wide: bool) -> Result<u64, Status> {
        let narrow = |value: u32| Ok(u64::from(value));
        match (offset, wide) {
            (property::CAP, true) => Ok(capabilities(self.subsystem.kind()).bits()),
            (property::VS, false) => narrow(VERSION),
            (property::CC, false) => narrow(self.cc().0),
            (property::CSTS, false) => narrow(self.csts().0),
            (property::CRTO, false) => narrow(u32::from(READY_UNITS)),
            _ => Err(Status::INVALID_FIELD.dnr()),
        }
    }

    /// Property Set.
    ///
    /// # Errors
    /// Invalid Field where there is no such property of this width, or it is read only.
    pub fn property_set(
        &self,
        offset: u32,
        wide: bool,
        value: u64,
        now_ns: u64,
    ) -> Result<PropertyEffect, Status> {
        self.seen(now_ns);
        match (offset, wide) {
            (property::CC, false) => Ok(self.configure(Cc(value as u32))),
            _ => Err(Status::INVALID_FIELD.dnr()),
        }
    }

    /// A write of CC.
    fn configure(&self, cc: Cc) -> PropertyEffect {
        let mut queues = self.queues();
        let before = Cc(self.cc.swap(cc.0, Ordering::AcqRel));
        if before.enabled() && !cc.enabled() {
            self.next_epoch(&mut queues);
            self.settle(&mut queues, self.csts().0 & Csts::RDY, 0);
            drop(queues);
            self.restore_defaults();
            return PropertyEffect::Reset;
        }
        let shutdown = matches!(cc.shutdown(), Shutdown::Normal | Shutdown::Abrupt);
        if shutdown && cc.shutdown() != before.shutdown() {
            let running = self.csts().0 & !(3 << 2);
            self.next_epoch(&mut queues);
            let (occurring, complete) = (Csts::SHST_OCCURRING, Csts::SHST_COMPLETE);
            self.settle(&mut queues, running | occurring, running | complete);
            return PropertyEffect::ShutDown;
        }
        if !before.enabled() && cc.enabled() {
            if !self.can_run(cc) {
                self.settle(&mut queues, Csts::CFS, Csts::CFS);
                return PropertyEffect::None;
            }
            self.settle(&mut queues, 0, Csts::RDY);
            return PropertyEffect::Enabled;
        }
        PropertyEffect::None
    }

    /// CSTS is `finally` once the I/O queues of the epochs before are gone, and `meanwhile` until
    /// then. A host that waits for CSTS, as the specification has it ("Controller Status"), finds
    /// no queue of its past in use, and no command of its past has an effect afterwards.
    fn settle(&self, queues: &mut Queues, meanwhile: u32, finally: u32) {
        let gone = queues.io_queues() == 0;
        queues.csts_when_gone = (!gone).then_some(finally);
        self.csts.store(if gone { finally } else { meanwhile }, Ordering::Release);
    }

    /// An I/O queue is gone.
    pub(super) fn queue_gone(&self, queues: &mut Queues) {
        if queues.io_queues() == 0
            && let Some(csts) = queues.csts_when_gone.take()
        {
            self.csts.store(csts, Ordering::Release);
        }
    }

    /// Whether the controller can be enabled as `cc` says.
    fn can_run(&self, cc: Cc) -> bool {
        let sets = match self.subsystem.kind() {
            SubsystemKind::Nvm => matches!(cc.css(), 0 | 6),
            SubsystemKind::Discovery(_) => cc.css() == 0,
        };
        // A discovery controller has no I/O queues, and not every host sets their entry sizes.
        let entries = matches!(self.subsystem.kind(), SubsystemKind::Discovery(_))
            || (cc.iosqes() == 6 && cc.iocqes() == 4);
        sets && entries && cc.mps() == 0 && cc.ams() == 0
    }

    /// Makes every I/O queue pair close; the end of the controller stays the end.
    fn next_epoch(&self, queues: &mut Queues) {
        queues.granted = limits::IO_QUEUES;
        let _ = self.life.fetch_update(Ordering::AcqRel, Ordering::Acquire, |life| {
            let Life::Epoch(epoch) = Life::from_bits(life) else { return None };
            Some(Life::Epoch(epoch.wrapping_add(1) & Life::EPOCHS).bits())
        });
    }
}
