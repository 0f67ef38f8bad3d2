//! Identify Controller.

use crate::layout;
use zerocopy::little_endian::{U16, U32, U128};

layout! {
    /// Identify Controller data structure (Base Specification, "Identify Controller Data
    /// Structure, I/O Command Set Independent"; CNS 01h).
    pub struct IdentifyController[4096] {
        /// PCI vendor identifier.
        0 => vid: U16,
        /// PCI subsystem vendor identifier.
        2 => ssvid: U16,
        /// Serial number, ASCII padded with spaces.
        4 => sn: [u8; 20],
        /// Model number, ASCII padded with spaces.
        24 => mn: [u8; 40],
        /// Firmware revision, ASCII padded with spaces.
        64 => fr: [u8; 8],
        /// Recommended arbitration burst, as a power of two.
        72 => rab: u8,
        /// IEEE OUI of the vendor, little endian.
        73 => ieee: [u8; 3],
        /// Multi-path I/O and namespace sharing; see [`bits::cmic`].
        76 => cmic: u8,
        /// Maximum data transfer size as a power of two of the minimum page size; 0 is no limit.
        77 => mdts: u8,
        /// Controller identifier.
        78 => cntlid: U16,
        /// Version, as in the VS property.
        80 => ver: U32,
        /// RTD3 resume latency in microseconds.
        84 => rtd3r: U32,
        /// RTD3 entry latency in microseconds.
        88 => rtd3e: U32,
        /// Optional asynchronous events supported; see [`crate::aen::config`].
        92 => oaes: U32,
        /// Controller attributes; see [`bits::ctratt`].
        96 => ctratt: U32,
        /// Read recovery levels supported.
        100 => rrls: U16,
        /// Reserved.
        102 => rsvd102: [u8; 9],
        /// Controller type; see [`bits::cntrltype`].
        111 => cntrltype: u8,
        /// FRU globally unique identifier.
        112 => fguid: [u8; 16],
        /// Command retry delay time 1 in units of 100 ms.
        128 => crdt1: U16,
        /// Command retry delay time 2 in units of 100 ms.
        130 => crdt2: U16,
        /// Command retry delay time 3 in units of 100 ms.
        132 => crdt3: U16,
        /// Reserved.
        134 => rsvd134: [u8; 119],
        /// NVM subsystem report (management interface).
        253 => nvmsr: u8,
        /// VPD write cycle information.
        254 => vwci: u8,
        /// Management endpoint capabilities.
        255 => mec: u8,
        /// Optional admin command support.
        256 => oacs: U16,
        /// Abort command limit, zero-based.
        258 => acl: u8,
        /// Asynchronous event request limit, zero-based.
        259 => aerl: u8,
        /// Firmware updates: slot count in bits 3:1, slot 1 read only in bit 0.
        260 => frmw: u8,
        /// Log page attributes; see [`bits::lpa`].
        261 => lpa: u8,
        /// Error log page entries, zero-based.
        262 => elpe: u8,
        /// Number of power states, zero-based.
        263 => npss: u8,
        /// Admin vendor specific command configuration.
        264 => avscc: u8,
        /// Autonomous power state transition attributes.
        265 => apsta: u8,
        /// Warning composite temperature threshold in kelvin.
        266 => wctemp: U16,
        /// Critical composite temperature threshold in kelvin.
        268 => cctemp: U16,
        /// Maximum time for firmware activation in units of 100 ms.
        270 => mtfa: U16,
        /// Host memory buffer preferred size in units of 4 KiB.
        272 => hmpre: U32,
        /// Host memory buffer minimum size in units of 4 KiB.
        276 => hmmin: U32,
        /// Total NVM capacity in bytes.
        280 => tnvmcap: U128,
        /// Unallocated NVM capacity in bytes.
        296 => unvmcap: U128,
        /// Replay protected memory block support.
        312 => rpmbs: U32,
        /// Extended device self-test time in minutes.
        316 => edstt: U16,
        /// Device self-test options.
        318 => dsto: u8,
        /// Firmware update granularity in units of 4 KiB.
        319 => fwug: u8,
        /// Keep alive support: granularity of the timer in units of 100 ms.
        320 => kas: U16,
        /// Host controlled thermal management attributes.
        322 => hctma: U16,
        /// Minimum thermal management temperature in kelvin.
        324 => mntmt: U16,
        /// Maximum thermal management temperature in kelvin.
        326 => mxtmt: U16,
        /// Sanitize capabilities.
        328 => sanicap: U32,
        /// Host memory buffer minimum descriptor entry size.
        332 => hmminds: U32,
        /// Host memory maximum descriptor entries.
        336 => hmmaxd: U16,
        /// NVM set identifier maximum.
        338 => nsetidmax: U16,
        /// Endurance group identifier maximum.
        340 => endgidmax: U16,
        /// ANA transition time in seconds.
        342 => anatt: u8,
        /// ANA capabilities; see [`bits::anacap`].
        343 => anacap: u8,
        /// ANA group identifier maximum.
        344 => anagrpmax: U32,
        /// Number of ANA group identifiers.
        348 => nanagrpid: U32,
        /// Persistent event log size in units of 64 KiB.
        352 => pels: U32,
        /// Domain identifier.
        356 => domainid: U16,
        /// Reserved.
        358 => rsvd358: [u8; 10],
        /// Maximum endurance group capacity in bytes.
        368 => megcap: U128,
        /// Reserved.
        384 => rsvd384: [u8; 128],
        /// Submission queue entry size, powers of two: maximum in bits 7:4, required in 3:0.
        512 => sqes: u8,
        /// Completion queue entry size, powers of two: maximum in bits 7:4, required in 3:0.
        513 => cqes: u8,
        /// Maximum outstanding commands per queue.
        514 => maxcmd: U16,
        /// Number of namespaces: the largest valid namespace identifier.
        516 => nn: U32,
        /// Optional NVM command support; see [`bits::oncs`].
        520 => oncs: U16,
        /// Fused operation support; bit 0 is Compare and Write.
        522 => fuses: U16,
        /// Format NVM attributes.
        524 => fna: u8,
        /// Volatile write cache; see [`bits::vwc`].
        525 => vwc: u8,
        /// Atomic write unit normal in blocks, zero-based.
        526 => awun: U16,
        /// Atomic write unit power fail in blocks, zero-based.
        528 => awupf: U16,
        /// I/O command set vendor specific command configuration.
        530 => icsvscc: u8,
        /// Namespace write protection capabilities.
        531 => nwpc: u8,
        /// Atomic compare and write unit in blocks, zero-based.
        532 => acwu: U16,
        /// Copy descriptor formats supported.
        534 => cdfs: U16,
        /// SGL support; see [`bits::sgls`].
        536 => sgls: U32,
        /// Maximum number of allowed namespaces; 0 means NN.
        540 => mnan: U32,
        /// Maximum domain namespace attachments.
        544 => maxdna: U128,
        /// Maximum I/O controller namespace attachments.
        560 => maxcna: U32,
        /// Reserved.
        564 => rsvd564: [u8; 204],
        /// NQN of the subsystem, UTF-8 ended by NUL.
        768 => subnqn: [u8; 256],
        /// Reserved.
        1024 => rsvd1024: [u8; 768],
        /// Fabrics: I/O queue command capsule supported size in units of 16 bytes.
        1792 => ioccsz: U32,
        /// Fabrics: I/O queue response capsule supported size in units of 16 bytes.
        1796 => iorcsz: U32,
        /// Fabrics: in-capsule data offset in units of 16 bytes.
        1800 => icdoff: U16,
        /// Fabrics controller attributes; bit 0 set means the static controller model.
        1802 => fcatt: u8,
        /// Fabrics: maximum SGL data block descriptors of a command; 0 is no limit.
        1803 => msdbd: u8,
        /// Fabrics: optional fabrics commands support; bit 0 is Disconnect.
        1804 => ofcs: U16,
        /// Fabrics: discovery controller type; see [`bits::dctype`].
        1806 => dctype: u8,
        /// Reserved.
        1807 => rsvd1807: [u8; 241],
        /// Power state descriptors.
        2048 => psd: [PowerState; 32],
        /// Vendor specific.
        3072 => vendor: [u8; 1024],
    }

    /// Power State Descriptor (Base Specification, "Power State Descriptor Data Structure").
    pub struct PowerState[32] {
        /// Maximum power; in units of 0.01 W unless `flags` bit 0 says 0.0001 W.
        0 => mp: U16,
        /// Reserved.
        2 => rsvd2: u8,
        /// Bit 0: scale of `mp`. Bit 1: non-operational state.
        3 => flags: u8,
        /// Entry latency in microseconds.
        4 => enlat: U32,
        /// Exit latency in microseconds.
        8 => exlat: U32,
        /// Relative read throughput.
        12 => rrt: u8,
        /// Relative read latency.
        13 => rrl: u8,
        /// Relative write throughput.
        14 => rwt: u8,
        /// Relative write latency.
        15 => rwl: u8,
        /// Idle power.
        16 => idlp: U16,
        /// Scale of idle power in bits 7:6.
        18 => ips: u8,
        /// Reserved.
        19 => rsvd19: u8,
        /// Active power.
        20 => actp: U16,
        /// Workload in bits 2:0, scale of active power in bits 7:6.
        22 => apw: u8,
        /// Reserved.
        23 => rsvd23: [u8; 9],
    }
}

/// Bits of the fields of [`IdentifyController`].
pub mod bits {
    /// Multi-path I/O and namespace sharing capabilities.
    pub mod cmic {
        /// The subsystem may have more than one port.
        pub const MULTI_PORT: u8 = 1 << 0;
        /// The subsystem may have more than one controller.
        pub const MULTI_CONTROLLER: u8 = 1 << 1;
        /// The controller belongs to an SR-IOV virtual function.
        pub const SR_IOV: u8 = 1 << 2;
        /// Asymmetric namespace access is reported.
        pub const ANA: u8 = 1 << 3;
    }

    /// Controller attributes.
    pub mod ctratt {
        /// 128-bit host identifiers.
        pub const HOST_ID_128: u32 = 1 << 0;
        /// Traffic based keep alive.
        pub const TBKAS: u32 = 1 << 6;
        /// Namespace granularity.
        pub const NAMESPACE_GRANULARITY: u32 = 1 << 7;
        /// UUID list.
        pub const UUID_LIST: u32 = 1 << 9;
        /// Extended LBA formats.
        pub const ELBAS: u32 = 1 << 15;
    }

    /// Controller type.
    pub mod cntrltype {
        /// I/O controller.
        pub const IO: u8 = 1;
        /// Discovery controller.
        pub const DISCOVERY: u8 = 2;
        /// Administrative controller.
        pub const ADMIN: u8 = 3;
    }

    /// Discovery controller type.
    pub mod dctype {
        /// Not reported.
        pub const NOT_REPORTED: u8 = 0;
        /// Direct discovery controller.
        pub const DIRECT: u8 = 1;
        /// Central discovery controller.
        pub const CENTRAL: u8 = 2;
    }

    /// Optional admin command support.
    pub mod oacs {
        /// Security Send and Receive.
        pub const SECURITY: u16 = 1 << 0;
        /// Format NVM.
        pub const FORMAT: u16 = 1 << 1;
        /// Firmware Commit and Download.
        pub const FIRMWARE: u16 = 1 << 2;
        /// Namespace Management and Attachment.
        pub const NAMESPACE_MANAGEMENT: u16 = 1 << 3;
        /// Doorbell Buffer Config.
        pub const DOORBELL_BUFFER: u16 = 1 << 8;
    }

    /// Format NVM attributes.
    pub mod fna {
        /// Format NVM changes the format of all namespaces.
        pub const FORMATS_ALL: u8 = 1 << 0;
        /// A secure erase erases all namespaces.
        pub const ERASES_ALL: u8 = 1 << 1;
        /// Cryptographic erase is there.
        pub const CRYPTO_ERASE: u8 = 1 << 2;
    }

    /// Log page attributes.
    pub mod lpa {
        /// SMART per namespace.
        pub const SMART_NAMESPACE: u8 = 1 << 0;
        /// Commands Supported and Effects.
        pub const COMMAND_EFFECTS: u8 = 1 << 1;
        /// Extended data: 32-bit NUMD and an offset.
        pub const EXTENDED: u8 = 1 << 2;
        /// Telemetry.
        pub const TELEMETRY: u8 = 1 << 3;
        /// Persistent event log.
        pub const PERSISTENT_EVENTS: u8 = 1 << 4;
        /// Supported Log Pages, Feature Identifiers Supported and Effects, and their kin.
        pub const SUPPORTED_PAGES: u8 = 1 << 5;
    }

    /// ANA capabilities.
    pub mod anacap {
        /// Reports the optimized state.
        pub const OPTIMIZED: u8 = 1 << 0;
        /// Reports the non-optimized state.
        pub const NON_OPTIMIZED: u8 = 1 << 1;
        /// Reports the inaccessible state.
        pub const INACCESSIBLE: u8 = 1 << 2;
        /// Reports the persistent loss state.
        pub const PERSISTENT_LOSS: u8 = 1 << 3;
        /// Reports the change state.
        pub const CHANGE: u8 = 1 << 4;
        /// A namespace's group never changes while it is attached to a controller.
        pub const STATIC_GROUP: u8 = 1 << 6;
        /// ANAGRPID of Identify Namespace may be nonzero.
        pub const GROUP_ID: u8 = 1 << 7;
    }

    /// Optional NVM command support.
    pub mod oncs {
        /// Compare.
        pub const COMPARE: u16 = 1 << 0;
        /// Write Uncorrectable.
        pub const WRITE_UNCORRECTABLE: u16 = 1 << 1;
        /// Dataset Management.
        pub const DATASET_MANAGEMENT: u16 = 1 << 2;
        /// Write Zeroes.
        pub const WRITE_ZEROES: u16 = 1 << 3;
        /// Save and select fields of Set and Get Features.
        pub const SAVE_SELECT: u16 = 1 << 4;
        /// Reservations.
        pub const RESERVATIONS: u16 = 1 << 5;
        /// Timestamp.
        pub const TIMESTAMP: u16 = 1 << 6;
        /// Verify.
        pub const VERIFY: u16 = 1 << 7;
        /// Copy.
        pub const COPY: u16 = 1 << 8;
        /// What a Copy writes is atomic as of a single Write.
        pub const COPY_SINGLE_ATOMICITY: u16 = 1 << 9;
    }

    /// Fused operation support.
    pub mod fuses {
        /// Compare and Write.
        pub const COMPARE_AND_WRITE: u16 = 1 << 0;
    }

    /// Volatile write cache.
    pub mod vwc {
        /// A volatile write cache is present.
        pub const PRESENT: u8 = 1 << 0;
        /// Flush with namespace FFFFFFFFh is not supported.
        pub const FLUSH_ALL_NO: u8 = 2 << 1;
        /// Flush with namespace FFFFFFFFh flushes every namespace.
        pub const FLUSH_ALL_YES: u8 = 3 << 1;
    }

    /// SGL support.
    pub mod sgls {
        /// SGLs are supported, without alignment.
        pub const SUPPORTED: u32 = 1 << 0;
        /// SGLs are supported, dword aligned.
        pub const SUPPORTED_DWORD: u32 = 2;
        /// Keyed SGL data blocks.
        pub const KEYED: u32 = 1 << 2;
        /// Bit buckets.
        pub const BIT_BUCKET: u32 = 1 << 16;
        /// The address of a data block may be an offset: in-capsule data.
        pub const OFFSET: u32 = 1 << 20;
        /// Transport SGL data blocks.
        pub const TRANSPORT: u32 = 1 << 21;
    }

    /// Optional fabrics commands support.
    pub mod ofcs {
        /// Disconnect.
        pub const DISCONNECT: u16 = 1 << 0;
    }
}
