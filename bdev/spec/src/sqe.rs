//! Submission queue entries (Base Specification, "Submission Queue Entry").

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// A 64-byte submission queue entry.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Sqe {
    /// Opcode.
    pub opcode: u8,
    /// FUSE in bits 1:0, PSDT in bits 7:6.
    pub flags: u8,
    /// Command identifier.
    pub cid: U16,
    /// Namespace identifier. In a fabrics command byte 4 is FCTYPE.
    pub nsid: U32,
    /// Command dword 2.
    pub cdw2: U32,
    /// Command dword 3.
    pub cdw3: U32,
    /// Metadata pointer.
    pub mptr: U64,
    /// Data pointer; on fabrics always an SGL descriptor.
    pub dptr: Sgl,
    /// Command dword 10.
    pub cdw10: U32,
    /// Command dword 11.
    pub cdw11: U32,
    /// Command dword 12.
    pub cdw12: U32,
    /// Command dword 13.
    pub cdw13: U32,
    /// Command dword 14.
    pub cdw14: U32,
    /// Command dword 15.
    pub cdw15: U32,
}

const _: () = assert!(size_of::<Sqe>() == 64);
const _: () = assert!(core::mem::offset_of!(Sqe, dptr) == 24);
const _: () = assert!(core::mem::offset_of!(Sqe, cdw10) == 40);

/// Fused operation (Base Specification, "Command Dword 0", FUSE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fuse {
    /// A command on its own.
    None,
    /// First command of a fused pair.
    First,
    /// Second command of a fused pair.
    Second,
    /// The reserved value.
    Reserved,
}

/// Where a command's data is (Base Specification, "Command Dword 0", PSDT).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Psdt {
    /// Physical region pages: never on fabrics.
    Prp,
    /// SGL, metadata in one contiguous buffer: the only value for fabrics.
    Sgl,
    /// SGL, metadata by an SGL.
    SglMetadataSgl,
    /// The reserved value.
    Reserved,
}

impl Sqe {
    /// Value of `flags` for a command on its own with an SGL: what every fabrics command has.
    pub const FLAGS_SGL: u8 = 0x40;
    /// The namespace identifier that means all namespaces.
    pub const NSID_ALL: u32 = 0xffff_ffff;
    /// FUSE value in `flags` of the first command of a fused pair.
    pub const FUSE_FIRST: u8 = 1;
    /// FUSE value in `flags` of the second command of a fused pair.
    pub const FUSE_SECOND: u8 = 2;

    /// A command with `opcode` on `nsid`, everything else zero.
    pub fn new(opcode: u8, cid: u16, nsid: u32) -> Sqe {
        Sqe { opcode, cid: U16::new(cid), nsid: U32::new(nsid), ..Sqe::default() }
    }

    /// Command identifier.
    pub fn cid(&self) -> u16 {
        self.cid.get()
    }

    /// Namespace identifier.
    pub fn nsid(&self) -> u32 {
        self.nsid.get()
    }

    /// Fabrics command type (byte 4); meaningful where the opcode is the fabrics one.
    pub fn fctype(&self) -> u8 {
        self.nsid.get() as u8
    }

    /// The data pointer as two PRP entries (memory-based transports).
    pub fn prps(&self) -> (u64, u64) {
        let [a, b, c] = self.dptr.rsvd;
        let high = u32::from_le_bytes([a, b, c, self.dptr.kind]);
        (self.dptr.addr.get(), u64::from(high) << 32 | u64::from(self.dptr.len.get()))
    }

    /// Sets the data pointer to two PRP entries; `flags` of 0 says that it is PRPs.
    pub fn set_prps(&mut self, prp1: u64, prp2: u64) {
        let [a, b, c, kind] = ((prp2 >> 32) as u32).to_le_bytes();
        let (addr, len) = (U64::new(prp1), U32::new(prp2 as u32));
        self.dptr = Sgl { addr, len, rsvd: [a, b, c], kind };
    }

    /// Fused operation.
    pub fn fuse(&self) -> Fuse {
        match self.flags & 3 {
            0 => Fuse::None,
            1 => Fuse::First,
            2 => Fuse::Second,
            _ => Fuse::Reserved,
        }
    }

    /// PRP or SGL.
    pub fn psdt(&self) -> Psdt {
        match self.flags >> 6 {
            0 => Psdt::Prp,
            1 => Psdt::Sgl,
            2 => Psdt::SglMetadataSgl,
            _ => Psdt::Reserved,
        }
    }

    /// Starting LBA (dwords 10 and 11).
    pub fn slba(&self) -> u64 {
        u64::from(self.cdw11.get()) << 32 | u64::from(self.cdw10.get())
    }

    /// Sets the starting LBA.
    pub fn set_slba(&mut self, lba: u64) {
        self.cdw10 = U32::new(lba as u32);
        self.cdw11 = U32::new((lba >> 32) as u32);
    }

    /// Number of logical blocks, 1 to 65,536 (the field is zero-based).
    pub fn blocks(&self) -> u32 {
        (self.cdw12.get() & 0xffff) + 1
    }

    /// Sets the number of logical blocks, 1 to 65,536.
    pub fn set_blocks(&mut self, blocks: u32) {
        assert!((1..=0x1_0000).contains(&blocks), "{blocks} blocks do not fit NLB");
        self.cdw12 = U32::new(self.cdw12.get() & !0xffff | (blocks - 1));
    }

    /// Force Unit Access (Read, Write, Compare, Write Zeroes, Verify; bit 30 of dword 12).
    pub fn fua(&self) -> bool {
        self.cdw12.get() & 1 << 30 != 0
    }

    /// Sets Force Unit Access.
    pub fn set_fua(&mut self) {
        self.cdw12 = U32::new(self.cdw12.get() | 1 << 30);
    }

    /// Limited Retry (bit 31 of dword 12).
    pub fn limited_retry(&self) -> bool {
        self.cdw12.get() & 1 << 31 != 0
    }

    /// Protection Information field PRINFO (bits 29:26 of dword 12).
    pub fn prinfo(&self) -> u8 {
        (self.cdw12.get() >> 26) as u8 & 0xf
    }

    /// Write Zeroes: Deallocate (bit 25 of dword 12).
    pub fn deac(&self) -> bool {
        self.cdw12.get() & 1 << 25 != 0
    }

    /// Sets Deallocate on Write Zeroes.
    pub fn set_deac(&mut self) {
        self.cdw12 = U32::new(self.cdw12.get() | 1 << 25);
    }

    /// Storage Tag Check (bit 24 of dword 12).
    pub fn stc(&self) -> bool {
        self.cdw12.get() & 1 << 24 != 0
    }

    /// Directive type (Write; bits 23:20 of dword 12).
    pub fn directive_type(&self) -> u8 {
        (self.cdw12.get() >> 20) as u8 & 0xf
    }

    /// Abort: identifier of the queue of the command to abort (bits 15:0 of dword 10).
    pub fn abort_sqid(&self) -> u16 {
        self.cdw10.get() as u16
    }

    /// Abort: identifier of the command to abort (bits 31:16 of dword 10).
    pub fn abort_cid(&self) -> u16 {
        (self.cdw10.get() >> 16) as u16
    }
}

/// A 16-byte SGL descriptor. Keyed descriptors pack a 24-bit length and a 32-bit key into
/// bytes 8..15 (Base Specification, "Scatter Gather List").
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
    Unaligned,
)]
#[repr(C)]
pub struct Sgl {
    /// Address or offset.
    pub addr: U64,
    /// Length in bytes (unkeyed descriptors).
    pub len: U32,
    /// Reserved, or the rest of the key.
    pub rsvd: [u8; 3],
    /// Type in bits 7:4, sub type in bits 3:0.
    pub kind: u8,
}

const _: () = assert!(size_of::<Sgl>() == 16);

/// What an SGL descriptor describes, as far as fabrics use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SglKind {
    /// Data Block, address: memory of the host (PCIe).
    DataBlock,
    /// Data Block, offset: in-capsule data.
    InCapsule,
    /// Bit Bucket: discard the data.
    BitBucket,
    /// Segment, address or offset: more descriptors follow.
    Segment,
    /// Last Segment, address or offset.
    LastSegment,
    /// Keyed Data Block, address; `invalidate` asks to invalidate the key when done (RDMA).
    Keyed {
        /// The sub type 0Fh.
        invalidate: bool,
    },
    /// Transport SGL Data Block, transport: the transport moves the data (TCP).
    Transport,
    /// Any other combination of type and sub type.
    Unknown,
}

impl Sgl {
    /// SGL Data Block, address sub type.
    pub const DATA_BLOCK: u8 = 0x00;
    /// SGL Data Block with an offset sub type: in-capsule data.
    pub const IN_CAPSULE: u8 = 0x01;
    /// Keyed SGL Data Block, address sub type.
    pub const KEYED: u8 = 0x40;
    /// Keyed SGL Data Block that also asks to invalidate the remote key.
    pub const KEYED_INVALIDATE: u8 = 0x4f;
    /// Transport SGL Data Block: the transport moves the data.
    pub const TRANSPORT: u8 = 0x5a;

    /// In-capsule data: `len` bytes at `offset` of the capsule's data.
    pub fn in_capsule(offset: u64, len: u32) -> Sgl {
        Sgl { addr: U64::new(offset), len: U32::new(len), kind: Self::IN_CAPSULE, ..Sgl::default() }
    }

    /// `len` bytes moved by the transport.
    pub fn transport(len: u32) -> Sgl {
        Sgl { len: U32::new(len), kind: Self::TRANSPORT, ..Sgl::default() }
    }

    /// `len` bytes (below 16 MiB) of remote memory at `addr` under `key`.
    pub fn keyed(addr: u64, len: u32, key: u32, invalidate: bool) -> Sgl {
        assert!(len < 1 << 24, "a keyed descriptor holds 24 bits of length, not {len}");
        let kind = if invalidate { Self::KEYED_INVALIDATE } else { Self::KEYED };
        Sgl {
            addr: U64::new(addr),
            len: U32::new(len | key << 24),
            rsvd: [(key >> 8) as u8, (key >> 16) as u8, (key >> 24) as u8],
            kind,
        }
    }

    /// What the descriptor describes.
    pub fn kind(&self) -> SglKind {
        match self.kind {
            Self::DATA_BLOCK => SglKind::DataBlock,
            Self::IN_CAPSULE => SglKind::InCapsule,
            0x10 | 0x11 => SglKind::BitBucket,
            0x20 | 0x21 => SglKind::Segment,
            0x30 | 0x31 => SglKind::LastSegment,
            Self::KEYED => SglKind::Keyed { invalidate: false },
            Self::KEYED_INVALIDATE => SglKind::Keyed { invalidate: true },
            Self::TRANSPORT => SglKind::Transport,
            _ => SglKind::Unknown,
        }
    }

    /// Address, or offset into the capsule's data.
    pub fn addr(&self) -> u64 {
        self.addr.get()
    }

    /// Length in bytes of an unkeyed descriptor.
    pub fn len(&self) -> u32 {
        self.len.get()
    }

    /// Whether an unkeyed descriptor describes no byte.
    pub fn is_empty(&self) -> bool {
        self.len.get() == 0
    }

    /// Length in bytes of a keyed descriptor.
    pub fn keyed_len(&self) -> u32 {
        self.len.get() & 0xff_ffff
    }

    /// Remote key of a keyed descriptor.
    pub fn key(&self) -> u32 {
        let [a, b, c] = self.rsvd;
        u32::from_le_bytes([(self.len.get() >> 24) as u8, a, b, c])
    }
}
