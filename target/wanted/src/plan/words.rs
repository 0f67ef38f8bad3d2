//! Values in words.

use crate::item::Subsystem;
use crate::source::Source;
use crate::tables::Wanted;
use webui_model::{Limits, Size};

/// Who may connect.
pub(super) fn access(subsystem: &Subsystem) -> String {
    match (subsystem.allow_any_host, subsystem.hosts.len()) {
        (true, _) => "any host".to_owned(),
        (false, 0) => "no host".to_owned(),
        _ => subsystem.hosts.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    }
}

/// How something is exported.
pub(super) fn export(wanted: &Wanted, source: &Source) -> String {
    let Some(shown) = wanted.namespace_of(source) else { return "not exported".to_owned() };
    match wanted.subsystem(&shown.subsystem).filter(|subsystem| subsystem.own) {
        Some(own) => format!("exported to {}", access(own)),
        None => format!("exported in {}", shown.subsystem),
    }
}

/// The most that a volume does.
pub(super) fn limits(limits: Limits) -> String {
    let mut parts = Vec::new();
    parts.extend(limits.iops.map(|iops| format!("{iops} commands a second")));
    let bytes = limits.bytes_per_second.map(|bytes| format!("{} a second", Size(bytes)));
    parts.extend(bytes);
    if parts.is_empty() {
        return "none".to_owned();
    }
    if limits.burst_seconds > 0 {
        parts.push(format!("bursts of {} s", limits.burst_seconds));
    }
    parts.join(", ")
}
