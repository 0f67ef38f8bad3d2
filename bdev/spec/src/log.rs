//! Log pages and the Get Log Page command's view.

mod ana;
mod effects;
mod health;

pub use ana::{AnaGroup, AnaGroups, AnaHeader, AnaState};
pub use effects::{
    CommandEffects, FeatureEffects, SupportedLogPages, command_effect, feature_effect, log_support,
};
pub use health::{ErrorEntry, FirmwareSlots, ReservationNotification, SmartLog, critical_warning};

use crate::Sqe;
use zerocopy::little_endian::U32;

/// Log page identifiers (Base Specification, "Get Log Page command").
pub mod lid {
    /// Supported Log Pages.
    pub const SUPPORTED_LOG_PAGES: u8 = 0x00;
    /// Error Information.
    pub const ERROR: u8 = 0x01;
    /// SMART / Health Information.
    pub const SMART: u8 = 0x02;
    /// Firmware Slot Information.
    pub const FIRMWARE_SLOT: u8 = 0x03;
    /// Changed Namespace List.
    pub const CHANGED_NAMESPACES: u8 = 0x04;
    /// Commands Supported and Effects.
    pub const COMMAND_EFFECTS: u8 = 0x05;
    /// Device Self-test.
    pub const DEVICE_SELF_TEST: u8 = 0x06;
    /// Telemetry Host-Initiated.
    pub const TELEMETRY_HOST: u8 = 0x07;
    /// Telemetry Controller-Initiated.
    pub const TELEMETRY_CONTROLLER: u8 = 0x08;
    /// Endurance Group Information.
    pub const ENDURANCE_GROUP: u8 = 0x09;
    /// Asymmetric Namespace Access.
    pub const ANA: u8 = 0x0c;
    /// Persistent Event Log.
    pub const PERSISTENT_EVENTS: u8 = 0x0d;
    /// Feature Identifiers Supported and Effects.
    pub const FEATURE_EFFECTS: u8 = 0x12;
    /// NVMe-MI Commands Supported and Effects.
    pub const MI_EFFECTS: u8 = 0x13;
    /// Discovery.
    pub const DISCOVERY: u8 = 0x70;
    /// Reservation Notification.
    pub const RESERVATION: u8 = 0x80;
    /// Sanitize Status.
    pub const SANITIZE: u8 = 0x81;
}

/// The Get Log Page command (Base Specification, "Get Log Page command").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct GetLogPage {
    /// Log page identifier; see [`lid`].
    pub lid: u8,
    /// Log specific field, 7 bits.
    pub lsp: u8,
    /// Retain Asynchronous Event.
    pub rae: bool,
    /// Number of dwords to return, zero-based.
    pub numd: u32,
    /// Log specific identifier.
    pub lsi: u16,
    /// Log page offset in bytes, or an index when `index_offset`.
    pub lpo: u64,
    /// The offset is an index of an entry.
    pub index_offset: bool,
    /// Command set identifier.
    pub csi: u8,
    /// Index into the UUID list.
    pub uuid_index: u8,
}

impl GetLogPage {
    /// The fields of a Get Log Page command.
    pub fn of(sqe: &Sqe) -> GetLogPage {
        let (d10, d11, d14) = (sqe.cdw10.get(), sqe.cdw11.get(), sqe.cdw14.get());
        GetLogPage {
            lid: d10 as u8,
            lsp: (d10 >> 8) as u8 & 0x7f,
            rae: d10 & 1 << 15 != 0,
            numd: d11 << 16 | d10 >> 16,
            lsi: (d11 >> 16) as u16,
            lpo: u64::from(sqe.cdw13.get()) << 32 | u64::from(sqe.cdw12.get()),
            index_offset: d14 & 1 << 23 != 0,
            csi: (d14 >> 24) as u8,
            uuid_index: d14 as u8 & 0x7f,
        }
    }

    /// Writes the fields into a command.
    pub fn put(&self, sqe: &mut Sqe) {
        let rae = u32::from(self.rae) << 15;
        sqe.cdw10 =
            U32::new(self.numd << 16 | rae | u32::from(self.lsp & 0x7f) << 8 | u32::from(self.lid));
        sqe.cdw11 = U32::new(u32::from(self.lsi) << 16 | self.numd >> 16);
        sqe.cdw12 = U32::new(self.lpo as u32);
        sqe.cdw13 = U32::new((self.lpo >> 32) as u32);
        sqe.cdw14 = U32::new(
            u32::from(self.csi) << 24
                | u32::from(self.index_offset) << 23
                | u32::from(self.uuid_index & 0x7f),
        );
    }

    /// Bytes asked for: up to 16 GiB, whatever the log's own size.
    pub fn bytes(&self) -> u64 {
        (u64::from(self.numd) + 1) * 4
    }
}
