//! Asynchronous events (Base Specification, "Asynchronous Event Request command").

/// Event types.
pub mod kind {
    /// Error status.
    pub const ERROR: u8 = 0;
    /// SMART / health status.
    pub const SMART: u8 = 1;
    /// Notice.
    pub const NOTICE: u8 = 2;
    /// Immediate.
    pub const IMMEDIATE: u8 = 3;
    /// I/O command specific status.
    pub const IO_SPECIFIC: u8 = 6;
    /// Vendor specific.
    pub const VENDOR: u8 = 7;
}

/// Event information of [`kind::NOTICE`].
pub mod notice {
    /// Namespace attributes or inventory changed: read log 04h.
    pub const NAMESPACE_CHANGED: u8 = 0x00;
    /// Firmware activation starting.
    pub const FIRMWARE_ACTIVATION: u8 = 0x01;
    /// Telemetry log changed.
    pub const TELEMETRY: u8 = 0x02;
    /// Asymmetric namespace access changed: read log 0Ch.
    pub const ANA_CHANGED: u8 = 0x03;
    /// Normal NVM subsystem shutdown.
    pub const NORMAL_SHUTDOWN: u8 = 0x08;
    /// Discovery log changed: read log 70h.
    pub const DISCOVERY_CHANGED: u8 = 0xf0;
    /// Host discovery log changed.
    pub const HOST_DISCOVERY_CHANGED: u8 = 0xf1;
}

/// Event information of [`kind::IO_SPECIFIC`].
pub mod io_specific {
    /// Reservation log page available: read log 80h.
    pub const RESERVATION_LOG: u8 = 0x00;
    /// Sanitize operation completed.
    pub const SANITIZE_COMPLETED: u8 = 0x01;
}

/// Bits of OAES (Identify Controller) and of the Asynchronous Event Configuration feature; bits
/// 7:0 of the feature are the critical warnings of the SMART log.
pub mod config {
    /// Namespace attribute notices.
    pub const NAMESPACE: u32 = 1 << 8;
    /// Firmware activation notices.
    pub const FIRMWARE: u32 = 1 << 9;
    /// Telemetry log notices.
    pub const TELEMETRY: u32 = 1 << 10;
    /// Asymmetric namespace access notices.
    pub const ANA: u32 = 1 << 11;
    /// Normal subsystem shutdown notices.
    pub const NORMAL_SHUTDOWN: u32 = 1 << 15;
    /// Zone descriptor notices.
    pub const ZONE: u32 = 1 << 27;
    /// Discovery log notices.
    pub const DISCOVERY: u32 = 1 << 31;
}

/// Dword 0 of the completion of an Asynchronous Event Request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// Event type; see [`kind`]. Three bits.
    pub kind: u8,
    /// Event information.
    pub info: u8,
    /// Log page that tells more and, when read without RAE, clears the event.
    pub log: u8,
}

impl Event {
    /// Namespace attribute changed.
    pub const NAMESPACE_CHANGED: Event = Event {
        kind: kind::NOTICE,
        info: notice::NAMESPACE_CHANGED,
        log: crate::log::lid::CHANGED_NAMESPACES,
    };
    /// Asymmetric namespace access changed.
    pub const ANA_CHANGED: Event =
        Event { kind: kind::NOTICE, info: notice::ANA_CHANGED, log: crate::log::lid::ANA };
    /// Discovery log changed.
    pub const DISCOVERY_CHANGED: Event = Event {
        kind: kind::NOTICE,
        info: notice::DISCOVERY_CHANGED,
        log: crate::log::lid::DISCOVERY,
    };
    /// A reservation notification is in the log.
    pub const RESERVATION: Event = Event {
        kind: kind::IO_SPECIFIC,
        info: io_specific::RESERVATION_LOG,
        log: crate::log::lid::RESERVATION,
    };

    /// The dword.
    pub const fn dword(self) -> u32 {
        (self.log as u32) << 16 | (self.info as u32) << 8 | self.kind as u32 & 7
    }

    /// From the dword.
    pub const fn from_dword(dword: u32) -> Event {
        Event { kind: dword as u8 & 7, info: (dword >> 8) as u8, log: (dword >> 16) as u8 }
    }
}
