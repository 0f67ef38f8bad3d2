//! Features and the views of Set Features and Get Features.

use crate::{Sqe, layout};
use zerocopy::little_endian::{U16, U32};

/// Feature identifiers (Base Specification, "Feature Identifiers").
pub mod fid {
    /// Arbitration.
    pub const ARBITRATION: u8 = 0x01;
    /// Power Management.
    pub const POWER: u8 = 0x02;
    /// LBA Range Type.
    pub const LBA_RANGE: u8 = 0x03;
    /// Temperature Threshold.
    pub const TEMPERATURE: u8 = 0x04;
    /// Error Recovery.
    pub const ERROR_RECOVERY: u8 = 0x05;
    /// Volatile Write Cache.
    pub const VOLATILE_WRITE_CACHE: u8 = 0x06;
    /// Number of Queues.
    pub const QUEUES: u8 = 0x07;
    /// Interrupt Coalescing (memory-based transports).
    pub const INTERRUPT_COALESCING: u8 = 0x08;
    /// Interrupt Vector Configuration (memory-based transports).
    pub const INTERRUPT_VECTOR: u8 = 0x09;
    /// Write Atomicity Normal.
    pub const WRITE_ATOMICITY: u8 = 0x0a;
    /// Asynchronous Event Configuration.
    pub const ASYNC_EVENTS: u8 = 0x0b;
    /// Keep Alive Timer.
    pub const KEEP_ALIVE: u8 = 0x0f;
    /// Timestamp.
    pub const TIMESTAMP: u8 = 0x0e;
    /// Host Controlled Thermal Management.
    pub const THERMAL: u8 = 0x10;
    /// Host Behavior Support.
    pub const HOST_BEHAVIOR: u8 = 0x16;
    /// I/O Command Set Profile.
    pub const COMMAND_SET_PROFILE: u8 = 0x19;
    /// Software Progress Marker.
    pub const PROGRESS_MARKER: u8 = 0x80;
    /// Host Identifier.
    pub const HOST_ID: u8 = 0x81;
    /// Reservation Notification Mask.
    pub const RESERVATION_MASK: u8 = 0x82;
    /// Reservation Persistence.
    pub const RESERVATION_PERSISTENCE: u8 = 0x83;
    /// Namespace Write Protection Configuration.
    pub const WRITE_PROTECT: u8 = 0x84;
}

/// Which value Get Features returns (SEL).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Select {
    /// The current value.
    Current,
    /// The default value.
    Default,
    /// The saved value.
    Saved,
    /// What may be done with the feature; see [`capability`].
    Capabilities,
    /// A reserved value.
    Reserved,
}

/// Bits of dword 0 of Get Features with [`Select::Capabilities`].
pub mod capability {
    /// The value can be saved.
    pub const SAVEABLE: u32 = 1 << 0;
    /// The feature is per namespace.
    pub const NAMESPACE: u32 = 1 << 1;
    /// The value can be changed.
    pub const CHANGEABLE: u32 = 1 << 2;
}

/// The Get Features command (Base Specification, "Get Features command").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GetFeatures {
    /// Feature identifier; see [`fid`].
    pub fid: u8,
    /// Which value.
    pub select: Select,
    /// Feature specific (dword 11).
    pub value: u32,
}

impl GetFeatures {
    /// The fields of a Get Features command.
    pub fn of(sqe: &Sqe) -> GetFeatures {
        let d10 = sqe.cdw10.get();
        let select = match d10 >> 8 & 7 {
            0 => Select::Current,
            1 => Select::Default,
            2 => Select::Saved,
            3 => Select::Capabilities,
            _ => Select::Reserved,
        };
        GetFeatures { fid: d10 as u8, select, value: sqe.cdw11.get() }
    }
}

/// The Set Features command (Base Specification, "Set Features command").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SetFeatures {
    /// Feature identifier; see [`fid`].
    pub fid: u8,
    /// Save the value over power cycles.
    pub save: bool,
    /// The value (dword 11).
    pub value: u32,
}

impl SetFeatures {
    /// The fields of a Set Features command.
    pub fn of(sqe: &Sqe) -> SetFeatures {
        let d10 = sqe.cdw10.get();
        SetFeatures { fid: d10 as u8, save: d10 >> 31 != 0, value: sqe.cdw11.get() }
    }

    /// Writes the fields into a command.
    pub fn put(&self, sqe: &mut Sqe) {
        sqe.cdw10 = U32::new(u32::from(self.save) << 31 | u32::from(self.fid));
        sqe.cdw11 = U32::new(self.value);
    }
}

/// Number of Queues feature: I/O queues asked for or granted (Base Specification, "Number of
/// Queues (Feature Identifier 07h)").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// Submission queues, 1 to 65,536.
    pub submission: u32,
    /// Completion queues, 1 to 65,536.
    pub completion: u32,
}

impl Queues {
    /// From the dword of the command or the completion; both halves are zero-based.
    pub const fn from_dword(dword: u32) -> Queues {
        Queues { submission: (dword & 0xffff) + 1, completion: (dword >> 16) + 1 }
    }

    /// The dword; zero queues cannot be said and become one.
    pub const fn dword(self) -> u32 {
        let sq = self.submission.saturating_sub(1);
        let cq = self.completion.saturating_sub(1);
        let sq = if sq > 0xffff { 0xffff } else { sq };
        let cq = if cq > 0xffff { 0xffff } else { cq };
        cq << 16 | sq
    }
}

/// Bit of the Volatile Write Cache feature: the cache is enabled.
pub const WRITE_CACHE_ENABLED: u32 = 1 << 0;

/// Bit of the Write Atomicity Normal feature: AWUN and NAWUN need not be honoured.
pub const WRITE_ATOMICITY_DISABLED: u32 = 1 << 0;

/// Bit of the Host Identifier feature: the identifier has 128 bits (always on fabrics).
pub const HOST_ID_EXTENDED: u32 = 1 << 0;

layout! {
    /// Data of the Host Behavior Support feature (Base Specification, "Host Behavior Support
    /// (Feature Identifier 16h)").
    pub struct HostBehavior[512] {
        /// 1: the host honours the command retry delay.
        0 => acre: u8,
        /// 1: extended telemetry data area 4.
        1 => etdas: u8,
        /// 1: the host understands more than 16 LBA formats.
        2 => lbafee: u8,
        /// Reserved.
        3 => rsvd3: u8,
        /// Copy Descriptor Formats Enable: bit n is format n; 2h to 4h can be enabled.
        4 => cdfe: U16,
        /// Reserved.
        6 => rsvd6: [u8; 506],
    }
}
