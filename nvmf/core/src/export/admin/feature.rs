//! Set Features and Get Features.

use super::identify::find;
use super::reply::{Refusal, Reply};
use crate::export::controller::{Controller, Features, Location, Notice, supported_events};
use crate::export::subsystem::SubsystemKind;
use crate::limits;
use nvme_spec::copy::format;
use nvme_spec::feature::{
    GetFeatures, HOST_ID_EXTENDED, HostBehavior, Queues, Select, SetFeatures,
    WRITE_ATOMICITY_DISABLED, WRITE_CACHE_ENABLED, capability, fid,
};
use nvme_spec::{Sqe, Status};
use zerocopy::{FromBytes, IntoBytes};

/// What is known of a feature without looking at its value.
struct Kind {
    fid: u8,
    namespace: bool,
    changeable: bool,
}

const fn kind(fid: u8) -> Kind {
    Kind { fid, namespace: false, changeable: true }
}

const NVM_FEATURES: [Kind; 11] = [
    kind(fid::ARBITRATION),
    kind(fid::POWER),
    kind(fid::TEMPERATURE),
    Kind { namespace: true, ..kind(fid::ERROR_RECOVERY) },
    kind(fid::VOLATILE_WRITE_CACHE),
    kind(fid::QUEUES),
    kind(fid::WRITE_ATOMICITY),
    kind(fid::ASYNC_EVENTS),
    kind(fid::KEEP_ALIVE),
    kind(fid::HOST_BEHAVIOR),
    Kind { changeable: false, ..kind(fid::HOST_ID) },
];

const DISCOVERY_FEATURES: [Kind; 2] = [kind(fid::ASYNC_EVENTS), kind(fid::KEEP_ALIVE)];

const FID: Location = Location::dword_bit(10, 0);
const SEL: Location = Location::dword_bit(10, 8);
const SAVE: Location = Location::dword_bit(10, 31);
const VALUE: Location = Location::dword_bit(11, 0);

/// The features of a controller: identifier, and whether they are kept per namespace.
pub(super) fn supported(ctrl: &Controller) -> impl Iterator<Item = (u8, bool)> {
    kinds(ctrl).map(|kind| (kind.fid, kind.namespace))
}

fn kinds(ctrl: &Controller) -> impl Iterator<Item = &'static Kind> {
    let all: &[Kind] = match ctrl.subsystem().kind() {
        SubsystemKind::Nvm => &NVM_FEATURES,
        SubsystemKind::Discovery(_) => &DISCOVERY_FEATURES,
    };
    let cache = ctrl.has_write_cache();
    all.iter().filter(move |kind| cache || kind.fid != fid::VOLATILE_WRITE_CACHE)
}

/// Bytes that Set Features takes from the host.
pub(super) fn set_bytes(command: &SetFeatures) -> u32 {
    if command.fid == fid::HOST_BEHAVIOR { size_of::<HostBehavior>() as u32 } else { 0 }
}

/// Bytes that Get Features sends to the host.
pub(super) fn get_bytes(command: &GetFeatures) -> u32 {
    match (command.fid, command.select) {
        (_, Select::Capabilities | Select::Reserved) => 0,
        (fid::HOST_BEHAVIOR, _) => size_of::<HostBehavior>() as u32,
        (fid::HOST_ID, _) => 16,
        _ => 0,
    }
}

/// Get Features.
pub(super) fn get_features(ctrl: &Controller, sqe: &Sqe, out: &mut [u8]) -> Result<Reply, Refusal> {
    let command = GetFeatures::of(sqe);
    let kind = kinds(ctrl).find(|k| k.fid == command.fid).ok_or(Refusal::field(FID))?;
    let default = match command.select {
        Select::Reserved => return Err(Refusal::field(SEL)),
        Select::Capabilities => return Ok(Reply::value(capabilities(kind))),
        Select::Current => false,
        // Nothing can be saved, and then the saved value is the default.
        Select::Default | Select::Saved => true,
    };
    if kind.namespace {
        find(ctrl, sqe.nsid())?.ok_or(Refusal::field(Location::NSID))?;
    }
    match command.fid {
        fid::HOST_BEHAVIOR => {
            let current = ctrl.features().behavior;
            let value = if default { HostBehavior::default() } else { current };
            Ok(Reply::data(out, value.as_bytes(), 0))
        }
        fid::HOST_ID if command.value & HOST_ID_EXTENDED == 0 => Err(Refusal::field(VALUE)),
        fid::HOST_ID => Ok(Reply::data(out, &ctrl.association().host_id, 0)),
        _ if default => default_value(ctrl, &command).map(Reply::value),
        _ => current_value(ctrl, sqe.nsid(), &command).map(Reply::value),
    }
}

fn capabilities(kind: &Kind) -> u32 {
    let namespace = if kind.namespace { capability::NAMESPACE } else { 0 };
    let changeable = if kind.changeable { capability::CHANGEABLE } else { 0 };
    namespace | changeable
}

fn default_value(ctrl: &Controller, command: &GetFeatures) -> Result<u32, Refusal> {
    Ok(match command.fid {
        fid::TEMPERATURE => threshold(&Features::default(), command.value)?,
        fid::VOLATILE_WRITE_CACHE => WRITE_CACHE_ENABLED,
        fid::QUEUES => granted(limits::IO_QUEUES),
        fid::ASYNC_EVENTS => supported_events(ctrl.subsystem().kind()),
        fid::KEEP_ALIVE => ctrl.default_kato_ms(),
        _ => 0,
    })
}

fn current_value(ctrl: &Controller, nsid: u32, command: &GetFeatures) -> Result<u32, Refusal> {
    let features = ctrl.features();
    Ok(match command.fid {
        fid::ARBITRATION => features.arbitration,
        fid::POWER => features.power,
        fid::TEMPERATURE => threshold(&features, command.value)?,
        fid::ERROR_RECOVERY => features.recovery.get(&nsid).copied().map_or(0, u32::from),
        fid::VOLATILE_WRITE_CACHE if ctrl.write_cache_enabled() => WRITE_CACHE_ENABLED,
        fid::VOLATILE_WRITE_CACHE => 0,
        fid::QUEUES => granted(ctrl.queues().granted),
        fid::WRITE_ATOMICITY => features.write_atomicity,
        fid::ASYNC_EVENTS => ctrl.with_events(|events| events.enabled()),
        fid::KEEP_ALIVE => ctrl.kato_ms(),
        other => unreachable!("feature {other:02x}h has no value in a dword"),
    })
}

fn granted(queues: u16) -> u32 {
    let queues = u32::from(queues);
    Queues { submission: queues, completion: queues }.dword()
}

/// Which temperature threshold dword 11 of the Temperature Threshold feature names.
enum Threshold {
    Over,
    Under,
}

/// The threshold of the composite temperature that `value` names: there are no other sensors.
fn threshold_of(value: u32, setting: bool) -> Result<Threshold, Refusal> {
    const ALL_SENSORS: u32 = 0xf;
    match value >> 16 & 0xf {
        0 => {}
        ALL_SENSORS if setting => {}
        _ => return Err(Refusal::field(Location::dword_bit(11, 16))),
    }
    match value >> 20 & 3 {
        0 => Ok(Threshold::Over),
        1 => Ok(Threshold::Under),
        _ => Err(Refusal::field(Location::dword_bit(11, 20))),
    }
}

fn threshold(features: &Features, value: u32) -> Result<u32, Refusal> {
    Ok(match threshold_of(value, false)? {
        Threshold::Over => u32::from(features.over_kelvin),
        Threshold::Under => u32::from(features.under_kelvin),
    })
}

/// Set Features.
pub(super) fn set_features(ctrl: &Controller, sqe: &Sqe, data_in: &[u8]) -> Result<Reply, Refusal> {
    let command = SetFeatures::of(sqe);
    let kind = kinds(ctrl).find(|k| k.fid == command.fid).ok_or(Refusal::field(FID))?;
    if command.save {
        return Err(Refusal::new(Status::FEATURE_NOT_SAVEABLE, SAVE));
    }
    check_namespace(ctrl, kind, sqe.nsid())?;
    if command.fid == fid::HOST_ID {
        // Connect has said it, once and for all.
        return Err(Refusal::new(Status::SEQUENCE_ERROR, FID));
    }
    match command.fid {
        fid::QUEUES => set_queues(ctrl, command.value),
        fid::ASYNC_EVENTS => set_events(ctrl, command.value),
        fid::KEEP_ALIVE => set_keep_alive(ctrl, command.value),
        fid::HOST_BEHAVIOR => set_behavior(ctrl, data_in),
        fid::TEMPERATURE => set_temperature(ctrl, command.value),
        fid::ERROR_RECOVERY => set_recovery(ctrl, sqe.nsid(), command.value),
        fid::VOLATILE_WRITE_CACHE => {
            only(command.value, WRITE_CACHE_ENABLED)?;
            ctrl.set_write_cache(command.value & WRITE_CACHE_ENABLED != 0);
            Ok(Reply::NONE)
        }
        fid::WRITE_ATOMICITY => {
            only(command.value, WRITE_ATOMICITY_DISABLED)?;
            ctrl.features().write_atomicity = command.value;
            Ok(Reply::NONE)
        }
        fid::POWER => {
            // One power state; the workload hint in bits 7:5 is kept.
            only(command.value, 0b1110_0000)?;
            ctrl.features().power = command.value;
            Ok(Reply::NONE)
        }
        fid::ARBITRATION => {
            ctrl.features().arbitration = command.value;
            Ok(Reply::NONE)
        }
        other => unreachable!("feature {other:02x}h is on the list of supported features"),
    }
}

/// Whether the namespace identifier fits the feature.
fn check_namespace(ctrl: &Controller, kind: &Kind, nsid: u32) -> Result<(), Refusal> {
    match (kind.namespace, nsid) {
        (_, Sqe::NSID_ALL) | (false, 0) => Ok(()),
        (true, nsid) => {
            find(ctrl, nsid)?.ok_or(Refusal::field(Location::NSID))?;
            Ok(())
        }
        (false, nsid) => {
            find(ctrl, nsid)?;
            Err(Refusal::new(Status::FEATURE_NOT_NAMESPACE, Location::NSID))
        }
    }
}

/// Refuses a value with bits outside `allowed`, and points at the lowest of them.
fn only(value: u32, allowed: u32) -> Result<(), Refusal> {
    match value & !allowed {
        0 => Ok(()),
        wrong => Err(Refusal::field(Location::dword_bit(11, wrong.trailing_zeros() as u8))),
    }
}

fn set_queues(ctrl: &Controller, value: u32) -> Result<Reply, Refusal> {
    const TOO_MANY: u32 = 0xffff;
    if value & 0xffff == TOO_MANY {
        return Err(Refusal::field(VALUE));
    }
    if value >> 16 == TOO_MANY {
        return Err(Refusal::field(Location::dword_bit(11, 16)));
    }
    let mut queues = ctrl.queues();
    if queues.io_queues() > 0 {
        return Err(Refusal::new(Status::SEQUENCE_ERROR, FID));
    }
    // A fabrics queue is a submission queue with its completion queue.
    let wanted = Queues::from_dword(value);
    let pairs = wanted.submission.min(wanted.completion).min(u32::from(limits::IO_QUEUES));
    queues.granted = pairs as u16;
    Ok(Reply::value(granted(queues.granted)))
}

fn set_events(ctrl: &Controller, value: u32) -> Result<Reply, Refusal> {
    // Every critical warning may be asked for.
    only(value, supported_events(ctrl.subsystem().kind()) | 0xff)?;
    ctrl.with_events(|events| events.enable(value));
    Ok(Reply::NONE)
}

fn set_keep_alive(ctrl: &Controller, value: u32) -> Result<Reply, Refusal> {
    let units = u32::from(limits::KEEP_ALIVE_UNITS) * 100;
    let rounded = value.checked_next_multiple_of(units).unwrap_or(u32::MAX / units * units);
    ctrl.set_kato_ms(rounded);
    Ok(Reply::NONE)
}

fn set_behavior(ctrl: &Controller, data_in: &[u8]) -> Result<Reply, Refusal> {
    let bad_data = Refusal::field(Location::DPTR);
    let (behavior, _) = HostBehavior::read_from_prefix(data_in).map_err(|_| bad_data)?;
    if behavior.acre > 1 || behavior.etdas > 1 || behavior.lbafee > 1 {
        return Err(bad_data);
    }
    // A format can be enabled if it is supported, and needs to be.
    if behavior.cdfe.get() & !format::NAMESPACES != 0 {
        return Err(bad_data);
    }
    // Only what is defined is kept.
    let HostBehavior { acre, etdas, lbafee, cdfe, .. } = behavior;
    ctrl.features().behavior = HostBehavior { acre, etdas, lbafee, cdfe, ..Default::default() };
    Ok(Reply::NONE)
}

fn set_temperature(ctrl: &Controller, value: u32) -> Result<Reply, Refusal> {
    match threshold_of(value, true)? {
        Threshold::Over => ctrl.features().over_kelvin = value as u16,
        Threshold::Under => ctrl.features().under_kelvin = value as u16,
    }
    if ctrl.temperature_warns() {
        ctrl.raise(Notice::Health);
    }
    Ok(Reply::NONE)
}

fn set_recovery(ctrl: &Controller, nsid: u32, value: u32) -> Result<Reply, Refusal> {
    // Reads of deallocated blocks always succeed: DULBE cannot be set.
    only(value, 0xffff)?;
    let nsids: Vec<u32> = match nsid {
        Sqe::NSID_ALL => ctrl.subsystem().active_namespaces().iter().map(|n| n.nsid()).collect(),
        one => vec![one],
    };
    let mut features = ctrl.features();
    for nsid in nsids {
        features.recovery.insert(nsid, value as u16);
    }
    Ok(Reply::NONE)
}
