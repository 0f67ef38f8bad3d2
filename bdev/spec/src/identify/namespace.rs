//! Identify Namespace and its command set specific and independent parts.

use crate::layout;
use zerocopy::little_endian::{U16, U32, U64, U128};

layout! {
    /// Identify Namespace data structure (NVM Command Set Specification, "Identify Namespace
    /// Data Structure"; CNS 00h).
    pub struct IdentifyNamespace[4096] {
        /// Namespace size in blocks.
        0 => nsze: U64,
        /// Namespace capacity in blocks.
        8 => ncap: U64,
        /// Namespace utilization in blocks.
        16 => nuse: U64,
        /// Features; see [`nsfeat`].
        24 => nsfeat: u8,
        /// Number of LBA formats, zero-based.
        25 => nlbaf: u8,
        /// Formatted LBA size: index of the format in bits 3:0 and 6:5.
        26 => flbas: u8,
        /// Metadata capabilities.
        27 => mc: u8,
        /// End-to-end data protection capabilities.
        28 => dpc: u8,
        /// End-to-end data protection type settings.
        29 => dps: u8,
        /// Multi-path and sharing; bit 0: may be attached to several controllers.
        30 => nmic: u8,
        /// Reservation capabilities.
        31 => rescap: u8,
        /// Format progress indicator.
        32 => fpi: u8,
        /// Deallocate features; see [`dlfeat`].
        33 => dlfeat: u8,
        /// Atomic write unit normal in blocks, zero-based.
        34 => nawun: U16,
        /// Atomic write unit power fail in blocks, zero-based.
        36 => nawupf: U16,
        /// Atomic compare and write unit in blocks, zero-based.
        38 => nacwu: U16,
        /// Atomic boundary size normal in blocks, zero-based.
        40 => nabsn: U16,
        /// Atomic boundary offset in blocks.
        42 => nabo: U16,
        /// Atomic boundary size power fail in blocks, zero-based.
        44 => nabspf: U16,
        /// Optimal I/O boundary in blocks.
        46 => noiob: U16,
        /// NVM capacity in bytes.
        48 => nvmcap: U128,
        /// Preferred write granularity in blocks, zero-based.
        64 => npwg: U16,
        /// Preferred write alignment in blocks, zero-based.
        66 => npwa: U16,
        /// Preferred deallocate granularity in blocks, zero-based.
        68 => npdg: U16,
        /// Preferred deallocate alignment in blocks, zero-based.
        70 => npda: U16,
        /// Optimal write size in blocks, zero-based.
        72 => nows: U16,
        /// Copy: maximum single source range length in blocks.
        74 => mssrl: U16,
        /// Copy: maximum copy length in blocks.
        76 => mcl: U32,
        /// Copy: maximum source range count, zero-based.
        80 => msrc: u8,
        /// Reserved.
        81 => rsvd81: [u8; 11],
        /// ANA group identifier.
        92 => anagrpid: U32,
        /// Reserved.
        96 => rsvd96: [u8; 3],
        /// Attributes; bit 0: write protected.
        99 => nsattr: u8,
        /// NVM set identifier.
        100 => nvmsetid: U16,
        /// Endurance group identifier.
        102 => endgid: U16,
        /// Namespace globally unique identifier, big endian.
        104 => nguid: [u8; 16],
        /// IEEE extended unique identifier, big endian.
        120 => eui64: [u8; 8],
        /// LBA formats.
        128 => lbaf: [LbaFormat; 64],
        /// Vendor specific.
        384 => vendor: [u8; 3712],
    }

    /// LBA Format data structure (NVM Command Set Specification, "LBA Format Data Structure").
    pub struct LbaFormat[4] {
        /// Metadata bytes per block.
        0 => ms: U16,
        /// Block size in bytes as a power of two.
        2 => lbads: u8,
        /// Relative performance in bits 1:0, 0 best.
        3 => rp: u8,
    }

    /// I/O Command Set specific Identify Namespace for the NVM command set (NVM Command Set
    /// Specification, "I/O Command Set Specific Identify Namespace Data Structure"; CNS 05h,
    /// CSI 00h).
    pub struct NvmNamespace[4096] {
        /// Logical block storage tag mask.
        0 => lbstm: U64,
        /// Protection information capabilities.
        8 => pic: u8,
        /// Reserved.
        9 => rsvd9: [u8; 3],
        /// Extended LBA formats.
        12 => elbaf: [U32; 64],
        /// Reserved.
        268 => rsvd268: [u8; 3828],
    }

    /// I/O Command Set specific Identify Controller for the NVM command set (NVM Command Set
    /// Specification, "I/O Command Set Specific Identify Controller Data Structure"; CNS 06h,
    /// CSI 00h). Limits are powers of two in units of the minimum page size; 0 is no limit.
    pub struct NvmController[4096] {
        /// Verify size limit.
        0 => vsl: u8,
        /// Write Zeroes size limit.
        1 => wzsl: u8,
        /// Write Uncorrectable size limit.
        2 => wusl: u8,
        /// Dataset Management: maximum number of ranges.
        3 => dmrl: u8,
        /// Dataset Management: maximum blocks of one range.
        4 => dmrsl: U32,
        /// Dataset Management: maximum blocks of a command.
        8 => dmsl: U64,
        /// Reserved.
        16 => rsvd16: [u8; 4080],
    }

    /// I/O Command Set independent Identify Namespace (Base Specification, "I/O Command Set
    /// Independent Identify Namespace Data Structure"; CNS 08h).
    pub struct IdentifyNamespaceIndependent[4096] {
        /// Features.
        0 => nsfeat: u8,
        /// Multi-path and sharing; bit 0: may be attached to several controllers.
        1 => nmic: u8,
        /// Reservation capabilities.
        2 => rescap: u8,
        /// Format progress indicator.
        3 => fpi: u8,
        /// ANA group identifier.
        4 => anagrpid: U32,
        /// Attributes; bit 0: write protected.
        8 => nsattr: u8,
        /// Reserved.
        9 => rsvd9: u8,
        /// NVM set identifier.
        10 => nvmsetid: U16,
        /// Endurance group identifier.
        12 => endgid: U16,
        /// Status; see [`nstat`].
        14 => nstat: u8,
        /// Reserved.
        15 => rsvd15: [u8; 4081],
    }
}

/// NSFEAT bits of [`IdentifyNamespace`].
pub mod nsfeat {
    /// Thin provisioned: NUSE and NCAP tell.
    pub const THIN: u8 = 1 << 0;
    /// The namespace's own atomicity fields apply.
    pub const ATOMICITY: u8 = 1 << 1;
    /// Reading deallocated blocks may be made an error.
    pub const DEALLOCATED_ERROR: u8 = 1 << 2;
    /// Identifiers are never reused.
    pub const UID_REUSE: u8 = 1 << 3;
    /// NPWG, NPWA, NPDG, NPDA and NOWS are valid.
    pub const OPTIMAL_IO: u8 = 1 << 4;
}

/// DLFEAT values of [`IdentifyNamespace`].
pub mod dlfeat {
    /// Deallocated blocks read as zeroes.
    pub const READ_ZEROES: u8 = 1;
    /// Deallocated blocks read as FFh.
    pub const READ_ONES: u8 = 2;
    /// Write Zeroes with Deallocate set deallocates.
    pub const WRITE_ZEROES_DEALLOCATES: u8 = 1 << 3;
}

/// NSTAT bits of [`IdentifyNamespaceIndependent`].
pub mod nstat {
    /// The namespace is ready.
    pub const READY: u8 = 1 << 0;
}

impl IdentifyNamespace {
    /// The LBA format in use, if FLBAS names one that exists and whose block size is between
    /// 512 bytes and 2 GiB.
    pub fn format(&self) -> Option<LbaFormat> {
        let mut index = usize::from(self.flbas & 0xf);
        if self.nlbaf > 15 {
            index |= usize::from(self.flbas >> 5 & 3) << 4;
        }
        if index > usize::from(self.nlbaf) {
            return None;
        }
        self.lbaf.get(index).copied().filter(|f| (9..=31).contains(&f.lbads))
    }
}
