//! The data directory of an appliance: where it is, and the files in it that say how its API is
//! reached from the same machine.

use std::path::{Path, PathBuf};

/// File with the address of the API that is served.
pub const ADDRESS_FILE: &str = "api.url";
/// File with the secret of the token made at the first start. Only the appliance's own user reads it.
pub const TOKEN_FILE: &str = "admin.token";
/// File with the certificate that the API shows, if it made its own.
pub const CERTIFICATE_FILE: &str = "api.crt";

/// Where it is unless told: the system's place for root, the user's for others.
pub fn default() -> PathBuf {
    let root = rustix::process::geteuid().is_root();
    match std::env::var_os("HOME") {
        Some(home) if !root => Path::new(&home).join(".local/share/forebay"),
        _ => PathBuf::from("/var/lib/forebay"),
    }
}
