//! What Identify says, in plain terms.

use nvme_spec::Shown;
use nvme_spec::identify::{
    IdentifyController, IdentifyNamespace, NsDescriptor, NvmController, ascii, bits, dlfeat, nsfeat,
};
use nvme_spec::property::Cap;

/// A controller and its subsystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerInfo {
    /// Controller identifier.
    pub cntlid: u16,
    /// NQN of the subsystem.
    pub subsystem: String,
    /// Model number.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// Firmware revision.
    pub firmware: String,
    /// Version of the specification, as in VS.
    pub version: u32,
    /// Controller type; see [`bits::cntrltype`].
    pub kind: u8,
    /// The most bytes of one transfer, if there is a limit.
    pub max_transfer_bytes: Option<u64>,
    /// The most bytes of one Write Zeroes, if there is a limit.
    pub max_zeroes_bytes: Option<u64>,
    /// The most blocks of one range of Dataset Management; 0 is no limit.
    pub max_deallocate_blocks: u32,
    /// The most bytes of data in a capsule of an I/O queue.
    pub in_capsule_bytes: u32,
    /// Commands outstanding in one I/O queue; 0 is unknown.
    pub max_commands: u16,
    /// The largest namespace identifier.
    pub namespaces: u32,
    /// Optional NVM commands; see [`bits::oncs`].
    pub oncs: u16,
    /// Fused operations; see [`bits::fuses`].
    pub fuses: u16,
    /// A volatile write cache is there.
    pub volatile_cache: bool,
    /// Blocks written atomically on power fail, at least 1.
    pub atomic_blocks: u32,
    /// Asynchronous event request limit, zero-based.
    pub aerl: u8,
    /// Asynchronous events that it can send; see [`nvme_spec::aen::config`].
    pub oaes: u32,
    /// Keep alive granularity in units of 100 ms; 0 is no keep alive.
    pub kas: u16,
}

/// A limit given as a power of two of the minimum page size; 0 is none.
fn limit_bytes(power: u8, cap: Cap) -> Option<u64> {
    let page = 4096u64 << cap.mpsmin;
    (power > 0).then(|| page.checked_shl(u32::from(power)).unwrap_or(u64::MAX).max(page))
}

impl ControllerInfo {
    pub(super) fn of(
        id: &IdentifyController,
        nvm: Option<&NvmController>,
        cap: Cap,
    ) -> ControllerInfo {
        let max_transfer_bytes = limit_bytes(id.mdts, cap);
        let zeroes = nvm.and_then(|nvm| limit_bytes(nvm.wzsl, cap));
        let nqn = id.subnqn.split(|byte| *byte == 0).next().unwrap_or_default();
        ControllerInfo {
            cntlid: id.cntlid.get(),
            subsystem: Shown(&String::from_utf8_lossy(nqn)).to_string(),
            model: Shown(ascii(&id.mn)).to_string(),
            serial: Shown(ascii(&id.sn)).to_string(),
            firmware: Shown(ascii(&id.fr)).to_string(),
            version: id.ver.get(),
            kind: id.cntrltype,
            max_transfer_bytes,
            // Without a limit of its own, that of transfers is kept to, though no data moves:
            // controllers are seen that want it.
            max_zeroes_bytes: zeroes.or(max_transfer_bytes),
            max_deallocate_blocks: nvm.map_or(0, |nvm| nvm.dmrsl.get()),
            // IOCCSZ counts the command's 64 bytes, too.
            in_capsule_bytes: id.ioccsz.get().saturating_mul(16).saturating_sub(64),
            max_commands: id.maxcmd.get(),
            namespaces: id.nn.get(),
            oncs: id.oncs.get(),
            fuses: id.fuses.get(),
            volatile_cache: id.vwc & bits::vwc::PRESENT != 0,
            atomic_blocks: u32::from(id.awupf.get()) + 1,
            aerl: id.aerl,
            oaes: id.oaes.get(),
            kas: id.kas.get(),
        }
    }

    /// Whether an optional command of [`bits::oncs`] is there.
    pub fn has(&self, command: u16) -> bool {
        self.oncs & command == command
    }
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceInfo {
    /// Identifier within the controller.
    pub nsid: u32,
    /// Size in blocks; 0 when there is no such namespace.
    pub blocks: u64,
    /// Blocks that may be allocated.
    pub capacity_blocks: u64,
    /// Blocks that are allocated.
    pub used_blocks: u64,
    /// Bytes in a block; 0 when the format is not known.
    pub block_bytes: u32,
    /// Bytes of metadata with each block.
    pub metadata_bytes: u16,
    /// NGUID, if there is one.
    pub nguid: Option<[u8; 16]>,
    /// EUI-64, if there is one.
    pub eui64: Option<[u8; 8]>,
    /// UUID, if there is one.
    pub uuid: Option<[u8; 16]>,
    /// Blocks written atomically on power fail, if the namespace says so.
    pub atomic_blocks: Option<u32>,
    /// Preferred granularity of writes in blocks, if the namespace says so.
    pub optimal_blocks: Option<u32>,
    /// Deallocated blocks read as zeros.
    pub deallocated_reads_zeroes: bool,
    /// Write Zeroes may deallocate.
    pub zeroes_may_deallocate: bool,
    /// Write protected.
    pub read_only: bool,
}

impl NamespaceInfo {
    pub(super) fn of(nsid: u32, id: &IdentifyNamespace) -> NamespaceInfo {
        let format = id.format();
        let atomic = id.nsfeat & nsfeat::ATOMICITY != 0;
        let optimal = id.nsfeat & nsfeat::OPTIMAL_IO != 0;
        NamespaceInfo {
            nsid,
            blocks: id.nsze.get(),
            capacity_blocks: id.ncap.get(),
            used_blocks: id.nuse.get(),
            block_bytes: format.map_or(0, |format| 1 << format.lbads),
            metadata_bytes: format.map_or(0, |format| format.ms.get()),
            nguid: (id.nguid != [0; 16]).then_some(id.nguid),
            eui64: (id.eui64 != [0; 8]).then_some(id.eui64),
            uuid: None,
            atomic_blocks: atomic.then(|| u32::from(id.nawupf.get()) + 1),
            optimal_blocks: optimal.then(|| u32::from(id.npwg.get()) + 1),
            deallocated_reads_zeroes: id.dlfeat & 7 == dlfeat::READ_ZEROES,
            zeroes_may_deallocate: id.dlfeat & dlfeat::WRITE_ZEROES_DEALLOCATES != 0,
            read_only: id.nsattr & 1 != 0,
        }
    }

    pub(super) fn describe(&mut self, descriptor: NsDescriptor) {
        match descriptor {
            NsDescriptor::Eui64(id) => self.eui64 = Some(id),
            NsDescriptor::Nguid(id) => self.nguid = Some(id),
            NsDescriptor::Uuid(id) => self.uuid = Some(id),
            NsDescriptor::Csi(_) => {}
        }
    }

    /// Whether `other` is the same namespace, as far as identifiers tell.
    pub fn is_same(&self, other: &NamespaceInfo) -> bool {
        self.nguid == other.nguid && self.eui64 == other.eui64 && self.uuid == other.uuid
    }
}
