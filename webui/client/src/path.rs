//! Paths of the API.

use std::fmt::{Display, Write};
use webui_model::{SnapshotRef, VolumeRef};

/// Parts of a path.
pub type Parts<'a> = Vec<&'a dyn Display>;

/// What every path starts with.
const ROOT: &str = "/api/v1";

/// The path of these parts, each encoded so that nothing in it is taken for a part of its own (URI
/// Generic Syntax, RFC 3986, Path).
pub fn path(parts: &[&dyn Display]) -> String {
    let mut path = ROOT.to_owned();
    for part in parts {
        path.push('/');
        encode(&part.to_string(), &mut path);
    }
    path
}

/// The parts of a volume, or of what is below it.
pub fn volume<'a>(at: &'a VolumeRef, below: &[&'a dyn Display]) -> Parts<'a> {
    let mut parts: Parts = vec![&"pools", &at.pool, &"volumes", &at.volume];
    parts.extend(below);
    parts
}

/// The parts of a snapshot, or of what is below it.
pub fn snapshot<'a>(at: &'a SnapshotRef, below: &[&'a dyn Display]) -> Parts<'a> {
    let SnapshotRef { pool, volume, snapshot } = at;
    let mut parts: Parts = vec![&"pools", pool, &"volumes", volume, &"snapshots", snapshot];
    parts.extend(below);
    parts
}

/// A query of these names and values; the values are encoded.
pub fn query(pairs: &[(&str, &dyn Display)]) -> String {
    let mut query = String::new();
    for (name, value) in pairs {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(name);
        query.push('=');
        encode(&value.to_string(), &mut query);
    }
    query
}

fn encode(part: &str, path: &mut String) {
    for byte in part.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:@".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_parts() {
        assert_eq!(path(&[&"pools", &"tank"]), "/api/v1/pools/tank");
        assert_eq!(path(&[&"a/b?c#d%"]), "/api/v1/a%2Fb%3Fc%23d%25");
        assert_eq!(path(&[&"listeners", &"[::1]:4420"]), "/api/v1/listeners/%5B::1%5D:4420");
        assert_eq!(path(&[&"nqn.2026-01.io.forebay:a:b"]), "/api/v1/nqn.2026-01.io.forebay:a:b");
        assert_eq!(path(&[&"ü"]), "/api/v1/%C3%BC");
    }
}
