//! Identify.

use super::reply::{Refusal, Reply};
use crate::export::controller::{Controller, Location, VERSION, supported_events};
use crate::export::namespace::Namespace;
use crate::export::subsystem::SubsystemKind;
use crate::limits;
use nvme_spec::Fabric;
use nvme_spec::Sqe;
use nvme_spec::copy::format;
use nvme_spec::identify::bits::{
    anacap, cmic, cntrltype, ctratt, dctype, fuses, lpa, ofcs, oncs, sgls, vwc,
};
use nvme_spec::identify::{
    CommandSets, IDENTIFY_BYTES, Identify, IdentifyController, IdentifyNamespace,
    IdentifyNamespaceIndependent, LbaFormat, NamespaceList, NsDescriptor, NsDescriptorsMut,
    NvmController, NvmNamespace, cns, csi, dlfeat, nsfeat, nstat, put_ascii,
};
use nvmf_wire::Nqn;
use std::sync::Arc;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64, U128};

/// The ANA group that every namespace is in.
pub(super) const ANA_GROUP: u32 = 1;

/// Seconds that a host waits for an ANA transition to end (ANATT).
const ANA_TRANSITION_SECONDS: u8 = 10;

/// CNTID that means the controller that is asked.
const THIS_CONTROLLER: u16 = 0xffff;

/// Identify.
pub(super) fn identify(ctrl: &Controller, sqe: &Sqe, out: &mut [u8]) -> Result<Reply, Refusal> {
    let command = Identify::of(sqe);
    match ctrl.subsystem().kind() {
        SubsystemKind::Nvm => nvm_identify(ctrl, sqe.nsid(), &command, out),
        SubsystemKind::Discovery(_) => match command.cns {
            cns::CONTROLLER => Ok(Reply::data(out, discovery_controller(ctrl).as_bytes(), 0)),
            _ => Err(Refusal::field(CNS)),
        },
    }
}

const CNS: Location = Location::dword_bit(10, 0);
const CNTID: Location = Location::dword_bit(10, 16);
const CSI: Location = Location::dword_bit(11, 24);

fn nvm_identify(
    ctrl: &Controller,
    nsid: u32,
    command: &Identify,
    out: &mut [u8],
) -> Result<Reply, Refusal> {
    match command.cns {
        cns::NAMESPACE => {
            let namespace = find(ctrl, nsid)?;
            let data = namespace.map_or_else(Default::default, |ns| nvm_namespace(&ns));
            Ok(Reply::data(out, data.as_bytes(), 0))
        }
        cns::CONTROLLER => Ok(Reply::data(out, io_controller(ctrl).as_bytes(), 0)),
        cns::ACTIVE_NAMESPACES => active_namespaces(ctrl, nsid, out),
        cns::NAMESPACE_DESCRIPTORS => descriptors(ctrl, nsid, out),
        cns::CSI_NAMESPACE => {
            nvm_command_set(command)?;
            // No protection information and no extended formats: every field is zero.
            find(ctrl, nsid)?;
            Ok(Reply::data(out, NvmNamespace::default().as_bytes(), 0))
        }
        cns::CSI_CONTROLLER => {
            nvm_command_set(command)?;
            Ok(Reply::data(out, nvm_controller().as_bytes(), 0))
        }
        cns::CSI_ACTIVE_NAMESPACES => {
            nvm_command_set(command)?;
            active_namespaces(ctrl, nsid, out)
        }
        cns::INDEPENDENT_NAMESPACE => {
            let namespace = find(ctrl, nsid)?;
            let data = namespace.map_or_else(Default::default, |ns| independent_namespace(&ns));
            Ok(Reply::data(out, data.as_bytes(), 0))
        }
        cns::COMMAND_SETS => command_sets(ctrl, command, out),
        _ => Err(Refusal::field(CNS)),
    }
}

/// The limits of commands of the NVM command set beyond those of their fields (NVM Command Set
/// Specification, "Identify Controller data structure for the NVM Command Set").
fn nvm_controller() -> NvmController {
    NvmController {
        dmrl: limits::DATASET_RANGES,
        dmrsl: U32::new(limits::DATASET_RANGE_BLOCKS),
        dmsl: U64::new(limits::DATASET_BLOCKS),
        ..Default::default()
    }
}

fn nvm_command_set(command: &Identify) -> Result<(), Refusal> {
    if command.csi == csi::NVM { Ok(()) } else { Err(Refusal::field(CSI)) }
}

/// The active namespace `nsid`; `None` when the identifier is valid and not in use.
pub(super) fn find(ctrl: &Controller, nsid: u32) -> Result<Option<Arc<Namespace>>, Refusal> {
    if nsid == 0 || nsid > limits::NAMESPACES {
        return Err(Refusal::namespace());
    }
    Ok(ctrl.subsystem().namespace(nsid).filter(|ns| ns.is_active()))
}

fn active_namespaces(ctrl: &Controller, after: u32, out: &mut [u8]) -> Result<Reply, Refusal> {
    if after >= 0xffff_fffe {
        return Err(Refusal::namespace());
    }
    let active = ctrl.subsystem().active_namespaces();
    let list = NamespaceList::above(after, active.iter().map(|ns| ns.nsid()));
    Ok(Reply::data(out, list.as_bytes(), 0))
}

fn descriptors(ctrl: &Controller, nsid: u32, out: &mut [u8]) -> Result<Reply, Refusal> {
    let namespace = find(ctrl, nsid)?.ok_or(Refusal::field(Location::NSID))?;
    let ids = namespace.ids();
    let mut list = [0; IDENTIFY_BYTES];
    let mut descriptors = NsDescriptorsMut::new(&mut list);
    if let Some(eui64) = ids.eui64 {
        descriptors.push(NsDescriptor::Eui64(eui64));
    }
    descriptors.push(NsDescriptor::Nguid(ids.nguid));
    descriptors.push(NsDescriptor::Uuid(ids.uuid));
    descriptors.push(NsDescriptor::Csi(csi::NVM));
    Ok(Reply::data(out, &list, 0))
}

fn command_sets(ctrl: &Controller, command: &Identify, out: &mut [u8]) -> Result<Reply, Refusal> {
    let known = command.cntid == THIS_CONTROLLER
        || command.cntid == ctrl.cntlid()
        || ctrl.subsystem().controller(command.cntid).is_some();
    if !known {
        return Err(Refusal::field(CNTID));
    }
    let mut sets = CommandSets::default();
    sets.vectors[0] = U64::new(1 << csi::NVM);
    Ok(Reply::data(out, sets.as_bytes(), 0))
}

/// What I/O and discovery controllers say alike.
fn any_controller(ctrl: &Controller) -> IdentifyController {
    let subsystem = ctrl.subsystem();
    let config = subsystem.config();
    let name = Nqn::lenient(subsystem.nqn()).expect("the registry takes valid names only");
    let mut data = IdentifyController {
        mdts: limits::MDTS,
        cntlid: U16::new(ctrl.cntlid()),
        ver: U32::new(VERSION),
        oaes: U32::new(supported_events(subsystem.kind())),
        aerl: limits::ASYNC_EVENTS - 1,
        kas: U16::new(limits::KEEP_ALIVE_UNITS),
        maxcmd: U16::new(limits::QUEUE_ENTRIES),
        sgls: U32::new(sgl_support(ctrl.association().fabric)),
        subnqn: name.to_field(),
        ..Default::default()
    };
    put_ascii(&mut data.sn, &config.serial);
    put_ascii(&mut data.mn, &config.model);
    put_ascii(&mut data.fr, &config.firmware);
    data
}

fn sgl_support(fabric: Fabric) -> u32 {
    let data_blocks = match fabric {
        Fabric::Tcp => sgls::TRANSPORT,
        Fabric::Rdma => sgls::KEYED,
    };
    sgls::SUPPORTED | sgls::OFFSET | data_blocks
}

fn discovery_controller(ctrl: &Controller) -> IdentifyController {
    IdentifyController {
        ctratt: U32::new(ctratt::HOST_ID_128 | ctratt::TBKAS),
        cntrltype: cntrltype::DISCOVERY,
        dctype: dctype::DIRECT,
        lpa: lpa::EXTENDED | lpa::SUPPORTED_PAGES,
        ..any_controller(ctrl)
    }
}

fn io_controller(ctrl: &Controller) -> IdentifyController {
    let capsule_bytes = size_of::<Sqe>() as u32 + ctrl.association().in_capsule_bytes;
    IdentifyController {
        cmic: cmic::MULTI_PORT | cmic::MULTI_CONTROLLER | cmic::ANA,
        ctratt: U32::new(ctratt::HOST_ID_128 | ctratt::TBKAS),
        cntrltype: cntrltype::IO,
        acl: limits::ABORTS - 1,
        // One firmware slot, read only.
        frmw: 1 << 1 | 1,
        lpa: lpa::SMART_NAMESPACE | lpa::COMMAND_EFFECTS | lpa::EXTENDED | lpa::SUPPORTED_PAGES,
        elpe: (limits::ERROR_ENTRIES - 1) as u8,
        anatt: ANA_TRANSITION_SECONDS,
        anacap: anacap::OPTIMIZED
            | anacap::NON_OPTIMIZED
            | anacap::INACCESSIBLE
            | anacap::PERSISTENT_LOSS
            | anacap::CHANGE
            | anacap::GROUP_ID,
        anagrpmax: U32::new(ANA_GROUP),
        nanagrpid: U32::new(ANA_GROUP),
        sqes: 0x66,
        cqes: 0x44,
        nn: U32::new(limits::NAMESPACES),
        mnan: U32::new(limits::NAMESPACES),
        oncs: U16::new(
            oncs::COMPARE
                | oncs::DATASET_MANAGEMENT
                | oncs::WRITE_ZEROES
                | oncs::SAVE_SELECT
                | oncs::VERIFY
                | oncs::COPY
                | oncs::COPY_SINGLE_ATOMICITY,
        ),
        cdfs: U16::new(format::ONE_NAMESPACE | format::NAMESPACES),
        fuses: U16::new(fuses::COMPARE_AND_WRITE),
        acwu: U16::new((limits::COMPARE_AND_WRITE_BYTES / 4096 - 1) as u16),
        vwc: vwc::FLUSH_ALL_YES | if ctrl.has_write_cache() { vwc::PRESENT } else { 0 },
        ioccsz: U32::new(capsule_bytes / 16),
        iorcsz: U32::new(1),
        icdoff: U16::new(0),
        msdbd: 1,
        ofcs: U16::new(ofcs::DISCONNECT),
        ..any_controller(ctrl)
    }
}

/// A count of blocks as the zero-based 16-bit field of Identify, cut to what it can say.
fn zero_based(blocks: u32) -> U16 {
    U16::new(u16::try_from(blocks.saturating_sub(1)).unwrap_or(u16::MAX))
}

fn nvm_namespace(namespace: &Namespace) -> IdentifyNamespace {
    let geometry = namespace.geometry();
    let ids = namespace.ids();
    let atomic = if geometry.atomic_blocks > 1 { nsfeat::ATOMICITY } else { 0 };
    let deallocates = if geometry.deallocates { dlfeat::WRITE_ZEROES_DEALLOCATES } else { 0 };
    let optimal = zero_based(geometry.optimal_blocks);
    let mut data = IdentifyNamespace {
        nsze: U64::new(geometry.blocks),
        ncap: U64::new(geometry.blocks),
        nuse: U64::new(geometry.blocks),
        nsfeat: atomic | nsfeat::OPTIMAL_IO,
        nmic: 1,
        dlfeat: dlfeat::READ_ZEROES | deallocates,
        nawun: zero_based(geometry.atomic_blocks),
        nawupf: zero_based(geometry.atomic_blocks),
        nacwu: zero_based(limits::COMPARE_AND_WRITE_BYTES / geometry.block_bytes),
        nvmcap: U128::new(u128::from(geometry.blocks) * u128::from(geometry.block_bytes)),
        npwg: optimal,
        npwa: optimal,
        npdg: optimal,
        npda: optimal,
        nows: optimal,
        mssrl: U16::new(limits::copy_range_blocks(geometry.block_bytes)),
        mcl: U32::new(limits::COPY_BYTES / geometry.block_bytes),
        msrc: (limits::COPY_RANGES - 1) as u8,
        anagrpid: U32::new(ANA_GROUP),
        nsattr: u8::from(geometry.read_only),
        nguid: ids.nguid,
        eui64: ids.eui64.unwrap_or_default(),
        ..Default::default()
    };
    // Block sizes are powers of two: the registry takes no others.
    data.lbaf[0] = LbaFormat { lbads: geometry.block_bytes.ilog2() as u8, ..Default::default() };
    data
}

fn independent_namespace(namespace: &Namespace) -> IdentifyNamespaceIndependent {
    IdentifyNamespaceIndependent {
        nmic: 1,
        anagrpid: U32::new(ANA_GROUP),
        nsattr: u8::from(namespace.geometry().read_only),
        nstat: nstat::READY,
        ..Default::default()
    }
}
