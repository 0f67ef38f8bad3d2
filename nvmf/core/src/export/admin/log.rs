//! Get Log Page.

use super::commands::commands;
use super::feature;
use super::identify::{ANA_GROUP, find};
use super::reply::{Refusal, Reply};
use crate::export::controller::{Controller, Location};
use crate::export::counters::IoCounts;
use crate::export::discovery;
use crate::export::subsystem::SubsystemKind;
use crate::limits;
use nvme_spec::Sqe;
use nvme_spec::identify::{NamespaceList, csi, put_ascii};
use nvme_spec::log::{
    AnaGroup, AnaHeader, CommandEffects, ErrorEntry, FeatureEffects, FirmwareSlots, GetLogPage,
    SmartLog, SupportedLogPages, command_effect, feature_effect, lid, log_support,
};
use nvme_spec::opcode::{fabrics, nvm};
use nvme_spec::{Status, log::critical_warning};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64, U128};

/// The log pages of an I/O controller.
const NVM_PAGES: [u8; 8] = [
    lid::SUPPORTED_LOG_PAGES,
    lid::ERROR,
    lid::SMART,
    lid::FIRMWARE_SLOT,
    lid::CHANGED_NAMESPACES,
    lid::COMMAND_EFFECTS,
    lid::ANA,
    lid::FEATURE_EFFECTS,
];

/// The log pages of a discovery controller.
const DISCOVERY_PAGES: [u8; 2] = [lid::SUPPORTED_LOG_PAGES, lid::DISCOVERY];

const LID: Location = Location::dword_bit(10, 0);
const LPO: Location = Location::dword_bit(12, 0);
const INDEX_OFFSET: Location = Location::dword_bit(14, 23);
const CSI: Location = Location::dword_bit(14, 24);

/// The log pages of a kind of controller.
fn pages(kind: &SubsystemKind) -> &'static [u8] {
    match kind {
        SubsystemKind::Nvm => &NVM_PAGES,
        SubsystemKind::Discovery(_) => &DISCOVERY_PAGES,
    }
}

/// Get Log Page.
pub(super) fn get_log_page(
    ctrl: &Controller,
    sqe: &Sqe,
    out: &mut [u8],
    now_ns: u64,
) -> Result<Reply, Refusal> {
    let command = GetLogPage::of(sqe);
    if !pages(ctrl.subsystem().kind()).contains(&command.lid) {
        return Err(Refusal::new(Status::INVALID_LOG_PAGE, LID));
    }
    check_scope(ctrl, sqe.nsid(), &command)?;
    if command.index_offset {
        return Err(Refusal::field(INDEX_OFFSET));
    }
    if !command.lpo.is_multiple_of(4) {
        return Err(Refusal::field(LPO));
    }
    if command.lid == lid::COMMAND_EFFECTS && command.csi != csi::NVM {
        return Err(Refusal::field(CSI));
    }
    if command.lpo > longest(&command) {
        return Err(Refusal::field(LPO));
    }
    if !command.rae {
        // Before the page is made: what happens from here on is a new event.
        ctrl.with_events(|events| events.clear(command.lid));
    }
    Ok(page(ctrl, sqe.nsid(), &command, out, now_ns))
}

/// Whether the namespace identifier fits the page: only SMART is kept per namespace.
fn check_scope(ctrl: &Controller, nsid: u32, command: &GetLogPage) -> Result<(), Refusal> {
    if matches!(nsid, 0 | Sqe::NSID_ALL) {
        return Ok(());
    }
    if command.lid != lid::SMART {
        return Err(Refusal::field(Location::NSID));
    }
    match find(ctrl, nsid)? {
        Some(_) => Ok(()),
        None => Err(Refusal::namespace()),
    }
}

/// The largest offset that a page can be read from. The discovery log may have become shorter
/// since the host saw its header, which the host finds out by the generation counter: beyond its
/// end are zeroes. Hosts (nvme-cli) read the ANA log in pieces, as long as it can be with the number
/// of groups and namespaces that Identify tells: beyond the groups of this moment are zeroes, too.
fn longest(command: &GetLogPage) -> u64 {
    let bytes = match command.lid {
        lid::SUPPORTED_LOG_PAGES => size_of::<SupportedLogPages>(),
        lid::ERROR => limits::ERROR_ENTRIES * size_of::<ErrorEntry>(),
        lid::SMART => size_of::<SmartLog>(),
        lid::FIRMWARE_SLOT => size_of::<FirmwareSlots>(),
        lid::CHANGED_NAMESPACES => size_of::<NamespaceList>(),
        lid::COMMAND_EFFECTS => size_of::<CommandEffects>(),
        lid::FEATURE_EFFECTS => size_of::<FeatureEffects>(),
        lid::ANA => {
            size_of::<AnaHeader>() + size_of::<AnaGroup>() + 4 * limits::NAMESPACES as usize
        }
        _ => return u64::MAX,
    };
    bytes as u64
}

fn page(ctrl: &Controller, nsid: u32, command: &GetLogPage, out: &mut [u8], now_ns: u64) -> Reply {
    let at = command.lpo;
    match command.lid {
        lid::SUPPORTED_LOG_PAGES => Reply::data(out, supported_pages(ctrl).as_bytes(), at),
        lid::ERROR => Reply::data(out, &errors(ctrl), at),
        lid::SMART => Reply::data(out, smart(ctrl, nsid, now_ns).as_bytes(), at),
        lid::FIRMWARE_SLOT => Reply::data(out, firmware(ctrl).as_bytes(), at),
        lid::CHANGED_NAMESPACES => {
            let changed = ctrl.with_events(|events| events.changed_namespaces(command.rae));
            Reply::data(out, NamespaceList::above(0, changed).as_bytes(), at)
        }
        lid::COMMAND_EFFECTS => Reply::data(out, command_effects(ctrl).as_bytes(), at),
        lid::FEATURE_EFFECTS => Reply::data(out, feature_effects(ctrl).as_bytes(), at),
        lid::ANA => Reply::data(out, &ana(ctrl, command), at),
        lid::DISCOVERY => {
            discovery::read_log(ctrl, at, out);
            Reply::Done { dw0: 0, data_bytes: out.len() as u32 }
        }
        other => unreachable!("page {other:02x}h is on the list of supported pages"),
    }
}

fn supported_pages(ctrl: &Controller) -> SupportedLogPages {
    let mut log = SupportedLogPages::default();
    for lid in pages(ctrl.subsystem().kind()) {
        log.pages[usize::from(*lid)] = U32::new(log_support::SUPPORTED);
    }
    log
}

fn errors(ctrl: &Controller) -> Vec<u8> {
    ctrl.error_log().entries().flat_map(|entry| entry.as_bytes()).copied().collect()
}

fn firmware(ctrl: &Controller) -> FirmwareSlots {
    let mut log = FirmwareSlots { afi: 1, ..Default::default() };
    put_ascii(&mut log.revisions[0], &ctrl.subsystem().config().firmware);
    log
}

/// The SMART log of one namespace, or of the subsystem. Its life is the run of the process.
fn smart(ctrl: &Controller, nsid: u32, now_ns: u64) -> SmartLog {
    const MINUTE_NS: u64 = 60_000_000_000;
    let subsystem = ctrl.subsystem();
    let counts = match nsid {
        0 | Sqe::NSID_ALL => subsystem.counts(),
        one => subsystem.namespace(one).map_or_else(IoCounts::default, |ns| ns.total()),
    };
    let warned = ctrl.temperature_warns();
    let big = |n: u64| U128::new(u128::from(n));
    SmartLog {
        critical_warning: if warned { critical_warning::TEMPERATURE } else { 0 },
        temperature: U16::new(subsystem.temperature_kelvin()),
        available_spare: 100,
        data_units_read: U128::new(SmartLog::data_units(counts.read_bytes)),
        data_units_written: U128::new(SmartLog::data_units(counts.write_bytes)),
        host_reads: big(counts.reads + counts.compares + counts.verifies),
        host_writes: big(counts.writes),
        busy_minutes: big(subsystem.busy_ns() / MINUTE_NS),
        power_cycles: big(1),
        power_on_hours: big(now_ns.saturating_sub(subsystem.started_ns()) / (60 * MINUTE_NS)),
        media_errors: big(counts.media_errors),
        error_entries: big(ctrl.error_count()),
        ..Default::default()
    }
}

fn command_effects(ctrl: &Controller) -> CommandEffects {
    let mut log = CommandEffects::default();
    for opcode in commands(ctrl.subsystem().kind()).iter().chain([&fabrics::FABRICS]) {
        log.admin[usize::from(*opcode)] = U32::new(command_effect::SUPPORTED);
    }
    for opcode in [nvm::FLUSH, nvm::READ, nvm::COMPARE, nvm::VERIFY] {
        log.io[usize::from(opcode)] = U32::new(command_effect::SUPPORTED);
    }
    for opcode in [nvm::WRITE, nvm::WRITE_ZEROES, nvm::DATASET_MANAGEMENT, nvm::COPY] {
        log.io[usize::from(opcode)] = U32::new(command_effect::SUPPORTED | command_effect::CONTENT);
    }
    log
}

fn feature_effects(ctrl: &Controller) -> FeatureEffects {
    let mut log = FeatureEffects::default();
    for (fid, namespace) in feature::supported(ctrl) {
        let scope = if namespace {
            feature_effect::SCOPE_NAMESPACE
        } else {
            feature_effect::SCOPE_CONTROLLER
        };
        log.features[usize::from(fid)] = U32::new(feature_effect::SUPPORTED | scope);
    }
    log
}

/// The ANA log: one group with every namespace, or without them where the host asks for groups
/// only.
fn ana(ctrl: &Controller, command: &GetLogPage) -> Vec<u8> {
    let group = ctrl.subsystem().ana();
    let nsids: Vec<U32> = if command.lsp & AnaHeader::LSP_GROUPS_ONLY != 0 {
        Vec::new()
    } else {
        ctrl.subsystem().active_namespaces().iter().map(|ns| U32::new(ns.nsid())).collect()
    };
    let header = AnaHeader {
        change_count: U64::new(group.change_count),
        groups: U16::new(1),
        ..Default::default()
    };
    let descriptor = AnaGroup {
        group: U32::new(ANA_GROUP),
        nsid_count: U32::new(nsids.len() as u32),
        change_count: U64::new(group.change_count),
        state: group.state as u8,
        ..Default::default()
    };
    [header.as_bytes(), descriptor.as_bytes(), nsids.as_bytes()].concat()
}
