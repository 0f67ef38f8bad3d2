//! Controller properties: what Property Get and Property Set read and write.

use super::{Controller, Life};
use crate::export::subsystem::SubsystemKind;
use crate::limits;
use nvme_spec::Status;
use nvme_spec::property::{self, Cap, Cc, Csts, Shutdown, css};
use std::sync::atomic::Ordering;

/// The version reported in VS and in Identify Controller.
pub const VERSION: u32 = property::version(2, 0, 0);

/// Worst time to become ready in units of 500 ms: a write of CC.EN is ready at once, and a host
/// that waits longer than this has lost us.
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
    /// CC.SHN asked for a shutdown, which is complete: I/O queue pairs see another epoch and
    /// close.
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

    /// Whether commands other than fabrics commands are taken (CSTS.RDY, and no shutdown).
    pub fn is_ready(&self) -> bool {
        self.csts().0 & (Csts::RDY | Csts::CFS | 3 << 2) == Csts::RDY
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
        let before = Cc(self.cc.swap(cc.0, Ordering::AcqRel));
        if before.enabled() && !cc.enabled() {
            self.reset();
            return PropertyEffect::Reset;
        }
        let shutdown = matches!(cc.shutdown(), Shutdown::Normal | Shutdown::Abrupt);
        if shutdown && cc.shutdown() != before.shutdown() {
            self.csts.fetch_or(Csts::SHST_COMPLETE, Ordering::AcqRel);
            self.next_epoch();
            return PropertyEffect::ShutDown;
        }
        if !before.enabled() && cc.enabled() {
            if !self.can_run(cc) {
                self.csts.store(Csts::CFS, Ordering::Release);
                return PropertyEffect::None;
            }
            self.csts.store(Csts::RDY, Ordering::Release);
            return PropertyEffect::Enabled;
        }
        PropertyEffect::None
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

    /// Controller Level Reset: features and events as at the start, I/O queues gone.
    fn reset(&self) {
        self.csts.store(0, Ordering::Release);
        self.restore_defaults();
        self.next_epoch();
    }

    /// Makes every I/O queue pair close; the end of the controller stays the end.
    fn next_epoch(&self) {
        let mut queues = self.queues();
        queues.granted = limits::IO_QUEUES;
        let _ = self.life.fetch_update(Ordering::AcqRel, Ordering::Acquire, |life| {
            let Life::Epoch(epoch) = Life::from_bits(life) else { return None };
            Some(Life::Epoch(epoch.wrapping_add(1) & Life::EPOCHS).bits())
        });
    }
}
