//! Controller properties (Base Specification, "Controller Properties").

/// Controller Capabilities, 8 bytes, read only.
pub const CAP: u32 = 0x00;
/// Version, 4 bytes, read only.
pub const VS: u32 = 0x08;
/// Interrupt Mask Set, 4 bytes; not on fabrics.
pub const INTMS: u32 = 0x0c;
/// Interrupt Mask Clear, 4 bytes; not on fabrics.
pub const INTMC: u32 = 0x10;
/// Controller Configuration, 4 bytes.
pub const CC: u32 = 0x14;
/// Controller Status, 4 bytes, read only.
pub const CSTS: u32 = 0x1c;
/// NVM Subsystem Reset, 4 bytes.
pub const NSSR: u32 = 0x20;
/// Admin Queue Attributes, 4 bytes; not on fabrics.
pub const AQA: u32 = 0x24;
/// Admin Submission Queue base, 8 bytes; not on fabrics.
pub const ASQ: u32 = 0x28;
/// Admin Completion Queue base, 8 bytes; not on fabrics.
pub const ACQ: u32 = 0x30;
/// Controller Ready Timeouts, 4 bytes, read only.
pub const CRTO: u32 = 0x68;

/// Value written to NSSR to reset the subsystem: "NVMe".
pub const NSSR_RESET: u32 = 0x4e56_4d65;

/// A version: VS, and VER of Identify Controller.
pub const fn version(major: u16, minor: u8, tertiary: u8) -> u32 {
    (major as u32) << 16 | (minor as u32) << 8 | tertiary as u32
}

/// Controller Capabilities (Base Specification, "Controller Capabilities").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cap {
    /// Maximum queue entries supported, zero-based (MQES).
    pub mqes: u16,
    /// Queues must be physically contiguous (CQR); 1 on fabrics.
    pub cqr: bool,
    /// Worst time to become ready, in units of 500 ms (TO).
    pub to: u8,
    /// Doorbell stride as a power of two of 4 bytes (DSTRD).
    pub dstrd: u8,
    /// NVM subsystem reset supported (NSSRS).
    pub nssrs: bool,
    /// Command sets supported (CSS); see [`css`].
    pub css: u8,
    /// Minimum memory page size as a power of two of 4 KiB (MPSMIN).
    pub mpsmin: u8,
    /// Maximum memory page size as a power of two of 4 KiB (MPSMAX).
    pub mpsmax: u8,
    /// Ready modes supported (CRMS): bit 0 with media, bit 1 independent of media.
    pub crms: u8,
}

/// Bits of CSS in [`Cap`].
pub mod css {
    /// The NVM command set.
    pub const NVM: u8 = 1 << 0;
    /// One or more I/O command sets, told by Identify CNS 1Ch.
    pub const IO_COMMAND_SETS: u8 = 1 << 6;
    /// No I/O command set: administrative controllers.
    pub const NONE: u8 = 1 << 7;
}

impl Cap {
    /// The property's value.
    pub const fn bits(self) -> u64 {
        self.mqes as u64
            | (self.cqr as u64) << 16
            | (self.to as u64) << 24
            | (self.dstrd as u64 & 0xf) << 32
            | (self.nssrs as u64) << 36
            | (self.css as u64) << 37
            | (self.mpsmin as u64 & 0xf) << 48
            | (self.mpsmax as u64 & 0xf) << 52
            | (self.crms as u64 & 3) << 59
    }

    /// From the property's value.
    pub const fn from_bits(bits: u64) -> Cap {
        Cap {
            mqes: bits as u16,
            cqr: bits >> 16 & 1 != 0,
            to: (bits >> 24) as u8,
            dstrd: (bits >> 32) as u8 & 0xf,
            nssrs: bits >> 36 & 1 != 0,
            css: (bits >> 37) as u8,
            mpsmin: (bits >> 48) as u8 & 0xf,
            mpsmax: (bits >> 52) as u8 & 0xf,
            crms: (bits >> 59) as u8 & 3,
        }
    }
}

/// Shutdown notification (CC.SHN).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// None asked for.
    None,
    /// Normal.
    Normal,
    /// Abrupt.
    Abrupt,
    /// The reserved value.
    Reserved,
}

/// Controller Configuration (Base Specification, "Controller Configuration").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Cc(pub u32);

impl Cc {
    /// What a host writes to enable a fabrics controller: EN, 64-byte submission and 16-byte
    /// completion entries, 4 KiB pages, the NVM command set.
    pub const ENABLE: Cc = Cc(4 << 20 | 6 << 16 | 1);

    /// Enabled.
    pub const fn enabled(self) -> bool {
        self.0 & 1 != 0
    }

    /// Command set selected: 0 NVM, 6 all I/O command sets, 7 admin only.
    pub const fn css(self) -> u8 {
        (self.0 >> 4) as u8 & 7
    }

    /// Memory page size as a power of two of 4 KiB.
    pub const fn mps(self) -> u8 {
        (self.0 >> 7) as u8 & 0xf
    }

    /// Arbitration mechanism; 0 is round robin.
    pub const fn ams(self) -> u8 {
        (self.0 >> 11) as u8 & 7
    }

    /// Shutdown notification.
    pub const fn shutdown(self) -> Shutdown {
        match self.0 >> 14 & 3 {
            0 => Shutdown::None,
            1 => Shutdown::Normal,
            2 => Shutdown::Abrupt,
            _ => Shutdown::Reserved,
        }
    }

    /// The same with a normal shutdown asked for.
    pub const fn with_normal_shutdown(self) -> Cc {
        Cc(self.0 & !(3 << 14) | 1 << 14)
    }

    /// I/O submission queue entry size as a power of two.
    pub const fn iosqes(self) -> u8 {
        (self.0 >> 16) as u8 & 0xf
    }

    /// I/O completion queue entry size as a power of two.
    pub const fn iocqes(self) -> u8 {
        (self.0 >> 20) as u8 & 0xf
    }
}

/// Shutdown status (CSTS.SHST).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownStatus {
    /// Normal operation.
    Normal,
    /// Shutdown goes on.
    Occurring,
    /// Shutdown is complete.
    Complete,
    /// The reserved value.
    Reserved,
}

/// Controller Status (Base Specification, "Controller Status").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Csts(pub u32);

impl Csts {
    /// Ready.
    pub const RDY: u32 = 1 << 0;
    /// Controller fatal status.
    pub const CFS: u32 = 1 << 1;
    /// Shutdown occurring.
    pub const SHST_OCCURRING: u32 = 1 << 2;
    /// Shutdown complete.
    pub const SHST_COMPLETE: u32 = 2 << 2;
    /// NVM subsystem reset occurred.
    pub const NSSRO: u32 = 1 << 4;
    /// Processing paused.
    pub const PP: u32 = 1 << 5;

    /// Whether the controller is ready.
    pub const fn ready(self) -> bool {
        self.0 & Self::RDY != 0
    }

    /// Whether the controller has failed for good.
    pub const fn fatal(self) -> bool {
        self.0 & Self::CFS != 0
    }

    /// Shutdown status.
    pub const fn shutdown(self) -> ShutdownStatus {
        match self.0 >> 2 & 3 {
            0 => ShutdownStatus::Normal,
            1 => ShutdownStatus::Occurring,
            2 => ShutdownStatus::Complete,
            _ => ShutdownStatus::Reserved,
        }
    }
}
