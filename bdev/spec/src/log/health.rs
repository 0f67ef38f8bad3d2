//! Error, SMART, firmware slot and reservation notification logs.

use crate::{Status, layout};
use zerocopy::little_endian::{U16, U32, U64, U128};

layout! {
    /// SMART / Health Information log (Base Specification, "SMART / Health Information (Log Page
    /// Identifier 02h)").
    pub struct SmartLog[512] {
        /// See [`critical_warning`].
        0 => critical_warning: u8,
        /// Composite temperature in kelvin.
        1 => temperature: U16,
        /// Available spare, percent.
        3 => available_spare: u8,
        /// Available spare threshold, percent.
        4 => spare_threshold: u8,
        /// Life used, percent; may pass 100.
        5 => percentage_used: u8,
        /// Endurance group critical warning summary.
        6 => endurance_warning: u8,
        /// Reserved.
        7 => rsvd7: [u8; 25],
        /// Data read, in units of 512,000 bytes, rounded up.
        32 => data_units_read: U128,
        /// Data written, in units of 512,000 bytes, rounded up.
        48 => data_units_written: U128,
        /// Read commands completed (Compare and Verify included).
        64 => host_reads: U128,
        /// Write commands completed.
        80 => host_writes: U128,
        /// Minutes the controller was busy.
        96 => busy_minutes: U128,
        /// Power cycles.
        112 => power_cycles: U128,
        /// Power-on hours.
        128 => power_on_hours: U128,
        /// Unsafe shutdowns.
        144 => unsafe_shutdowns: U128,
        /// Media and data integrity errors.
        160 => media_errors: U128,
        /// Error log entries over the life of the controller.
        176 => error_entries: U128,
        /// Minutes above the warning temperature.
        192 => warning_temp_minutes: U32,
        /// Minutes above the critical temperature.
        196 => critical_temp_minutes: U32,
        /// Temperature sensors in kelvin; 0 is not there.
        200 => sensors: [U16; 8],
        /// Thermal management transitions, levels 1 and 2.
        216 => thermal_transitions: [U32; 2],
        /// Thermal management seconds, levels 1 and 2.
        224 => thermal_seconds: [U32; 2],
        /// Reserved.
        232 => rsvd232: [u8; 280],
    }

    /// An entry of the Error Information log (Base Specification, "Error Information (Log Page
    /// Identifier 01h)"); newest first.
    pub struct ErrorEntry[64] {
        /// Number of the error, counted over the life of the controller; 0 is an unused entry.
        0 => error_count: U64,
        /// Submission queue of the command; FFFFh for none in particular.
        8 => sqid: U16,
        /// Command identifier; FFFFh for none in particular.
        10 => cid: U16,
        /// Status in bits 15:1, phase tag in bit 0.
        12 => status: U16,
        /// Byte (bits 7:0) and bit (10:8) of the parameter in error; FFFFh for none.
        14 => parameter_location: U16,
        /// First LBA in error.
        16 => lba: U64,
        /// Namespace.
        24 => nsid: U32,
        /// Log page with vendor specific information; 0 for none.
        28 => vendor_log: u8,
        /// Transport type, as in the discovery log.
        29 => trtype: u8,
        /// Reserved.
        30 => rsvd30: [u8; 2],
        /// Command specific information.
        32 => command_specific: U64,
        /// Transport type specific information.
        40 => transport_specific: U16,
        /// Reserved.
        42 => rsvd42: [u8; 22],
    }

    /// Firmware Slot Information log (Base Specification, "Firmware Slot Information (Log Page
    /// Identifier 03h)").
    pub struct FirmwareSlots[512] {
        /// Active slot in bits 2:0, slot of the next reset in bits 6:4.
        0 => afi: u8,
        /// Reserved.
        1 => rsvd1: [u8; 7],
        /// Revision in each slot, ASCII padded with spaces; zeroes for an empty slot.
        8 => revisions: [[u8; 8]; 7],
        /// Reserved.
        64 => rsvd64: [u8; 448],
    }

    /// Reservation Notification log (Base Specification, "Reservation Notification (Log Page
    /// Identifier 80h)").
    pub struct ReservationNotification[64] {
        /// Number of the notification; wraps to 1; 0 is an empty log.
        0 => count: U64,
        /// 1 registration preempted, 2 reservation released, 3 reservation preempted.
        8 => kind: u8,
        /// Further pages waiting.
        9 => available: u8,
        /// Reserved.
        10 => rsvd10: [u8; 2],
        /// Namespace.
        12 => nsid: U32,
        /// Reserved.
        16 => rsvd16: [u8; 48],
    }
}

/// Bits of the critical warning byte of [`SmartLog`].
pub mod critical_warning {
    /// Spare below the threshold.
    pub const SPARE: u8 = 1 << 0;
    /// Temperature beyond a threshold.
    pub const TEMPERATURE: u8 = 1 << 1;
    /// Reliability degraded.
    pub const DEGRADED: u8 = 1 << 2;
    /// Media is read only.
    pub const READ_ONLY: u8 = 1 << 3;
    /// Volatile memory backup failed.
    pub const BACKUP_FAILED: u8 = 1 << 4;
}

impl SmartLog {
    /// `bytes` in the log's unit of 1000 times 512 bytes, rounded up.
    pub const fn data_units(bytes: u64) -> u128 {
        (bytes as u128).div_ceil(512_000)
    }
}

impl ErrorEntry {
    /// The status of the command in error.
    pub fn status(&self) -> Status {
        Status::from_bits(self.status.get() >> 1)
    }

    /// Sets the status of the command in error.
    pub fn set_status(&mut self, status: Status) {
        self.status = U16::new(status.bits() << 1);
    }
}
