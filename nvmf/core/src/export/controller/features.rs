//! The features that a host sets on its controller (Base Specification, "Set Features command").

use nvme_spec::feature::HostBehavior;
use std::collections::BTreeMap;

/// The values that a host has set on its controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Features {
    pub(crate) arbitration: u32,
    pub(crate) power: u32,
    pub(crate) over_kelvin: u16,
    pub(crate) under_kelvin: u16,
    /// Time limited error recovery by namespace, in units of 100 ms; 0 where none was set.
    pub(crate) recovery: BTreeMap<u32, u16>,
    pub(crate) write_atomicity: u32,
    pub(crate) behavior: HostBehavior,
}

impl Default for Features {
    fn default() -> Features {
        Features {
            arbitration: 0,
            power: 0,
            over_kelvin: u16::MAX,
            under_kelvin: 0,
            recovery: BTreeMap::new(),
            write_atomicity: 0,
            behavior: HostBehavior::default(),
        }
    }
}

impl Features {
    /// Whether a temperature is beyond a threshold that the host has set; 0 is not measured.
    pub(super) fn warn_at(&self, kelvin: u16) -> bool {
        kelvin != 0 && (kelvin >= self.over_kelvin || kelvin <= self.under_kelvin)
    }
}
