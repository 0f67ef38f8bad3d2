//! Values as people read them.

use serde::Serialize;
use std::time::{Duration, UNIX_EPOCH};
use webui_model::{HostNqn, Size, Status};

/// A number of bytes with a unit of 1024.
pub fn bytes(bytes: u64) -> String {
    Size(bytes).rounded().to_string()
}

/// A moment in UTC.
pub fn moment(at_ms: u64) -> String {
    // The year 9999 is the last that RFC 3339 knows.
    let at_ms = at_ms.min(253_402_300_799_000);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(at_ms)).to_string()
}

/// A span of time, in its two largest units.
pub fn span(seconds: u64) -> String {
    let (d, h, m, s) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (d, h, m) {
        (0, 0, 0) => format!("{s} s"),
        (0, 0, _) => format!("{m} min {s} s"),
        (0, _, _) => format!("{h} h {m} min"),
        _ => format!("{d} d {h} h"),
    }
}

/// How an object is; why, unless it is as it should be.
pub fn status(status: Status, reason: &str) -> String {
    match status {
        Status::Ok => word(&status),
        _ => format!("{}: {reason}", word(&status)),
    }
}

/// A value of an enumeration, as the API writes it, with spaces.
pub fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text.replace('_', " "),
        _ => "unknown".into(),
    }
}

/// A value, or a sign that there is none.
pub fn or_none(value: &Option<impl ToString>) -> String {
    value.as_ref().map_or("-".into(), ToString::to_string)
}

/// Yes or no.
pub fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.into()
}

/// Who may connect, in short.
pub fn access(hosts: &[HostNqn], any: bool) -> String {
    match hosts {
        _ if any => "any host".into(),
        [] => "nobody".into(),
        [_] => "1 host".into(),
        many => format!("{} hosts", many.len()),
    }
}

/// A host in short: what most NQNs of hosts have in common is left out.
pub fn host(nqn: &HostNqn) -> &str {
    nqn.as_str().strip_prefix("nqn.2014-08.org.nvmexpress:uuid:").unwrap_or(nqn.as_str())
}

/// A part of a whole in percent.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".into();
    }
    format!("{:.0}%", part as f64 * 100.0 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_fit_to_read() {
        assert_eq!(bytes(1 << 40), "1.00 TiB");
        assert_eq!(bytes(512), "512 B");
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment(u64::MAX), "9999-12-31T23:59:59Z");
        assert_eq!(span(59), "59 s");
        assert_eq!(span(3601), "1 h 0 min");
        assert_eq!(span(90_000), "1 d 1 h");
        assert_eq!(status(Status::Ok, "fine"), "ok");
        assert_eq!(status(Status::Degraded, "a device is gone"), "degraded: a device is gone");
        assert_eq!(percent(1, 0), "-");
        assert_eq!(percent(1, 4), "25%");
    }
}
