//! Hosts that were refused or given up, for people.

use super::{ControlPlane, now_ms};
use nvmf::refused::{RefusalReason, RefusedHost};
use reactor::thread;
use webui_model::{EventKind, HostRefusal, Object, ObjectKind, Severity};

/// Of one host, address and reason there is one event in so long, with a count.
const EVERY_NS: u64 = 60_000_000_000;

/// A refusal as the API shows it.
pub(super) fn shown(refused: RefusedHost) -> HostRefusal {
    let ago_ms = thread::clock_ns().saturating_sub(refused.last_ns) / 1_000_000;
    HostRefusal {
        at_ms: now_ms().saturating_sub(ago_ms),
        address: refused.address.to_canonical().to_string(),
        reason: reason(&refused),
        subsystem: refused.subsystem,
        count: refused.count,
    }
}

/// Why, as the end of a sentence that begins with the host.
fn reason(refused: &RefusedHost) -> String {
    let mut text = refused.reason.text().to_owned();
    if let Some(detail) = &refused.detail {
        text.push_str(&format!(" ({detail})"));
    }
    text
}

/// What happened, for an event.
fn message(refused: &RefusedHost) -> String {
    let address = refused.address.to_canonical();
    let mut text = match &refused.host {
        Some(host) => format!("{host} at {address} {}", reason(refused)),
        None => format!("A host at {address} {}", reason(refused)),
    };
    if let Some(subsystem) = &refused.subsystem {
        text.push_str(&format!("; the subsystem is {subsystem}"));
    }
    if refused.count > 1 {
        text.push_str(&format!("; {} times since it was said last", refused.count));
    }
    if refused.reason == RefusalReason::NotListed {
        text.push_str("; `forebay host add` lets it in");
    }
    text.push('.');
    text
}

/// Tells of those that were refused since the last look.
pub(super) fn look(plane: &ControlPlane) {
    for refused in plane.node.registry.refused().news(thread::clock_ns(), EVERY_NS) {
        let name = refused.host.clone().unwrap_or_else(|| refused.address.to_string());
        let message = message(&refused);
        tracing::warn!(host = name, "{message}");
        let object = Object::new(ObjectKind::Host, name);
        plane.publish(EventKind::Refused, Severity::Warning, object, message);
    }
}
