//! What a controller and its namespaces say of themselves.

use crate::limits::PAGE_BYTES;
use bdev::limits::MAX_TRANSFER_BYTES;
use bdev::{Discards, Geometry};
use nvme_spec::Shown;
use nvme_spec::identify::{
    IdentifyController, IdentifyNamespace, LbaFormat, NsDescriptor, NsDescriptors, NvmController,
    ascii, bits, dlfeat, nsfeat,
};

/// What a controller says of itself (Base Specification, "Identify Controller Data Structure").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Model number.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// Firmware revision.
    pub firmware: String,
    /// PCI vendor identifier.
    pub vendor: u16,
    /// Version of the specification, as in the VS property.
    pub version: u32,
    /// Largest transfer of one command that the driver uses, in bytes.
    pub transfer_bytes: u32,
    /// Largest Write Zeroes of one command in bytes; `None` where there is no such command.
    pub zeroes_bytes: Option<u64>,
    /// Most blocks of a range of Dataset Management; `None` where there is no such command.
    pub discard_blocks: Option<u32>,
    /// Completed writes may be lost with power until a Flush.
    pub volatile_cache: bool,
    /// Blocks written atomically even when power fails, for namespaces that say nothing else.
    pub atomic_blocks: u32,
    /// Optional admin commands; see [`bits::oacs`].
    pub admin_commands: u16,
    /// What Format NVM does to other namespaces, and how it can erase; see [`bits::fna`].
    pub format_attributes: u8,
    /// Sanitize operations; see [`nvme_spec::maintenance::Sanitize::capability`].
    pub sanitize: u32,
    /// Optional asynchronous events; see [`nvme_spec::aen::config`].
    pub events: u32,
    /// Asynchronous event requests that it keeps, from 1.
    pub event_requests: u16,
    /// Abort commands at once, from 1.
    pub aborts: u16,
    /// Entries of the error log, from 1.
    pub error_entries: u16,
    /// I/O queue pairs that it granted.
    pub io_queues: u16,
    /// Doorbells are in memory.
    pub shadow_doorbells: bool,
}

impl Identity {
    /// From the data of Identify Controller.
    pub(crate) fn parse(data: &IdentifyController) -> Identity {
        let text = |field: &[u8]| Shown(ascii(field).trim()).to_string();
        let oncs = data.oncs.get();
        let mdts = limit(data.mdts).unwrap_or(u64::MAX);
        Identity {
            model: text(&data.mn),
            serial: text(&data.sn),
            firmware: text(&data.fr),
            vendor: data.vid.get(),
            version: data.ver.get(),
            transfer_bytes: mdts.min(u64::from(MAX_TRANSFER_BYTES)) as u32,
            zeroes_bytes: (oncs & bits::oncs::WRITE_ZEROES != 0).then_some(mdts),
            discard_blocks: (oncs & bits::oncs::DATASET_MANAGEMENT != 0).then_some(u32::MAX),
            volatile_cache: data.vwc & bits::vwc::PRESENT != 0,
            atomic_blocks: u32::from(data.awupf.get()) + 1,
            admin_commands: data.oacs.get(),
            format_attributes: data.fna,
            sanitize: data.sanicap.get(),
            events: data.oaes.get(),
            event_requests: u16::from(data.aerl) + 1,
            aborts: u16::from(data.acl) + 1,
            error_entries: u16::from(data.elpe) + 1,
            io_queues: 0,
            shadow_doorbells: false,
        }
    }

    /// Whether `other` is the same drive.
    pub(crate) fn is_same_drive(&self, other: &Identity) -> bool {
        (&self.model, &self.serial) == (&other.model, &other.serial)
    }

    /// Takes the limits from Identify CNS 06h. Where that names none for Write Zeroes, what holds for
    /// transfers is kept: controllers of before that field expect it.
    pub(crate) fn set_limits(&mut self, data: &NvmController) {
        if let (Some(bytes), Some(limit)) = (&mut self.zeroes_bytes, limit(data.wzsl)) {
            *bytes = limit;
        }
        // Of a command with one range both hold. 0 is no limit.
        for limit in [u64::from(data.dmrsl.get()), data.dmsl.get()] {
            if let (Some(blocks), 1..) = (&mut self.discard_blocks, limit) {
                *blocks = u64::from(*blocks).min(limit) as u32;
            }
        }
    }

    /// What giving blocks of a namespace back does to the drive.
    pub(crate) fn discards(&self, geometry: &Geometry) -> Discards {
        if geometry.read_only {
            Discards::Never("it is write protected".to_owned())
        } else if self.discard_blocks.is_some() {
            Discards::Well("the drive has Dataset Management".to_owned())
        } else if geometry.deallocates {
            Discards::Well("the drive deallocates what is zeroed".to_owned())
        } else {
            Discards::Never("the drive has no command for it".to_owned())
        }
    }

    /// The version as text.
    pub fn version_text(&self) -> String {
        format!("{}.{}.{}", self.version >> 16, self.version >> 8 & 0xff, self.version & 0xff)
    }
}

/// A limit that is a power of two of pages; `None` when there is none.
fn limit(exponent: u8) -> Option<u64> {
    if exponent == 0 {
        return None;
    }
    Some(
        (PAGE_BYTES as u64).checked_shl(u32::from(exponent)).filter(|n| *n > 0).unwrap_or(u64::MAX),
    )
}

/// An LBA format of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Bytes in a block; 0 for a format that cannot be used.
    pub block_bytes: u32,
    /// Bytes of metadata with each block.
    pub metadata_bytes: u16,
    /// Relative performance, 0 best to 3.
    pub rank: u8,
}

impl Format {
    fn of(format: &LbaFormat) -> Format {
        let known = (9..=31).contains(&format.lbads);
        Format {
            block_bytes: if known { 1 << format.lbads } else { 0 },
            metadata_bytes: format.ms.get(),
            rank: format.rp & 3,
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.metadata_bytes {
            0 => write!(f, "{} B", self.block_bytes),
            metadata => write!(f, "{} + {metadata} B", self.block_bytes),
        }
    }
}

/// What a namespace says of itself (NVM Command Set Specification, "Identify Namespace Data
/// Structure").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceIdentity {
    /// Namespace identifier.
    pub nsid: u32,
    /// Size in blocks.
    pub blocks: u64,
    /// The format in use; `None` when the namespace names none that exists.
    pub format: Option<Format>,
    /// Every format that Format NVM may choose, by index.
    pub formats: Vec<Format>,
    /// NGUID, if there is one.
    pub nguid: Option<[u8; 16]>,
    /// EUI-64, if there is one.
    pub eui64: Option<[u8; 8]>,
    /// UUID, if there is one.
    pub uuid: Option<[u8; 16]>,
    /// Writes are refused.
    pub write_protected: bool,
    /// Blocks written atomically even when power fails, if the namespace has a word in it.
    pub atomic_blocks: Option<u32>,
    /// Preferred granularity of writes in blocks, if it has one.
    pub optimal_blocks: Option<u32>,
    /// Write Zeroes gives the space back when asked to.
    pub zeroes_deallocate: bool,
}

impl NamespaceIdentity {
    /// From the data of Identify Namespace; `None` for a namespace that is not active.
    pub(crate) fn parse(nsid: u32, data: &IdentifyNamespace) -> Option<NamespaceIdentity> {
        let blocks = data.nsze.get();
        if blocks == 0 {
            return None;
        }
        let features = data.nsfeat;
        let count = usize::from(data.nlbaf).min(63) + 1;
        let own = features & nsfeat::ATOMICITY != 0;
        let optimal = features & nsfeat::OPTIMAL_IO != 0;
        let nonzero = |id: [u8; 16]| (id != [0; 16]).then_some(id);
        Some(NamespaceIdentity {
            nsid,
            blocks,
            format: data.format().map(|f| Format::of(&f)),
            formats: data.lbaf.iter().take(count).map(Format::of).collect(),
            nguid: nonzero(data.nguid),
            eui64: (data.eui64 != [0; 8]).then_some(data.eui64),
            uuid: None,
            write_protected: data.nsattr & 1 != 0,
            atomic_blocks: own.then(|| u32::from(data.nawupf.get()) + 1),
            optimal_blocks: optimal.then(|| u32::from(data.npwg.get()) + 1),
            zeroes_deallocate: data.dlfeat & dlfeat::WRITE_ZEROES_DEALLOCATES != 0,
        })
    }

    /// Takes the identifiers of an Identification Descriptor list.
    pub(crate) fn add_descriptors(&mut self, bytes: &[u8]) {
        for descriptor in NsDescriptors::new(bytes) {
            match descriptor {
                NsDescriptor::Uuid(id) => self.uuid = Some(id),
                NsDescriptor::Nguid(id) => self.nguid = Some(id),
                NsDescriptor::Eui64(id) => self.eui64 = Some(id),
                NsDescriptor::Csi(_) => {}
            }
        }
    }

    /// Why no I/O is possible with its format, as a sentence, if it is so.
    pub fn refusal(&self) -> Option<String> {
        let nsid = self.nsid;
        let Some(format) = self.format else {
            return Some(format!("namespace {nsid} names an LBA format that it does not have"));
        };
        let choose = "format it to 512 or 4096 bytes without metadata first";
        if format.metadata_bytes > 0 {
            let bytes = format.metadata_bytes;
            return Some(format!(
                "namespace {nsid} has {bytes} bytes of metadata with each block, which Forebay does \
                 not use: {choose}"
            ));
        }
        if ![512, 4096].contains(&format.block_bytes) {
            let bytes = format.block_bytes;
            return Some(format!("namespace {nsid} has blocks of {bytes} bytes: {choose}"));
        }
        None
    }

    /// What the block layer hears of it.
    pub(crate) fn geometry(&self, controller: &Identity) -> Geometry {
        let block_bytes = self.format.map_or(512, |format| format.block_bytes);
        Geometry {
            align_bytes: 4,
            optimal_blocks: self.optimal_blocks.unwrap_or((4096 / block_bytes).max(1)),
            atomic_blocks: self.atomic_blocks.unwrap_or(controller.atomic_blocks),
            volatile_cache: controller.volatile_cache,
            deallocates: self.zeroes_deallocate && controller.zeroes_bytes.is_some(),
            read_only: self.write_protected,
            ..Geometry::plain(block_bytes, self.blocks)
        }
    }

    /// Whether `other` is the same namespace with blocks that mean the same.
    pub(crate) fn is_same(&self, other: &NamespaceIdentity) -> bool {
        let ids = |of: &NamespaceIdentity| (of.nsid, of.format, of.nguid, of.eui64, of.uuid);
        ids(self) == ids(other)
    }
}
