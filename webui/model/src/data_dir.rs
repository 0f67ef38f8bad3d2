//! The data directory of an appliance: where it is, and what is in it for those who reach its API
//! from the same machine. It is for one user ([`claim`]).

mod private;

pub use private::{claim, is_own, write_private};

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use std::io;
use std::path::{Path, PathBuf};

/// The Unix socket that the API answers on, to root and to the appliance's own user.
pub const SOCKET_FILE: &str = "api.sock";

/// File with the address of the API that is served.
pub const ADDRESS_FILE: &str = "api.url";
/// File with the secret of the token made at the first start, until another administrator has one.
pub const TOKEN_FILE: &str = "admin.token";
/// File with the certificate that the API shows, if it made its own.
pub const CERTIFICATE_FILE: &str = "api.crt";

/// File with the log of changes.
pub const AUDIT_LOG_FILE: &str = "audit.log";
/// File with the log of who was let in and who was refused.
pub const ACCESS_LOG_FILE: &str = "access.log";
/// The folder of how everything performed.
pub const HISTORY_FOLDER: &str = "history";

/// Where it is unless told: the system's place for root, the user's for others.
pub fn default() -> PathBuf {
    let root = rustix::process::geteuid().is_root();
    match std::env::var_os("HOME") {
        Some(home) if !root => Path::new(&home).join(".local/share/forebay"),
        _ => PathBuf::from("/var/lib/forebay"),
    }
}

/// The socket of a data directory by a path that is short enough: that of a Unix socket has at most
/// 107 bytes (unix(7), `sun_path`), that of a data directory may have more.
pub struct SocketPath {
    path: PathBuf,
    folder: OwnedFd,
}

impl SocketPath {
    /// Holds the data directory `folder` open.
    ///
    /// # Errors
    /// What the kernel says: it is not there, or not ours to enter.
    pub fn of(folder: &Path) -> io::Result<SocketPath> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, flags, Mode::empty())?;
        let path = format!("/proc/self/fd/{}/{SOCKET_FILE}", folder.as_raw_fd());
        Ok(SocketPath { path: path.into(), folder })
    }

    /// The number of the user whose folder it is.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn owner(&self) -> io::Result<u32> {
        Ok(rustix::fs::fstat(&self.folder)?.st_uid)
    }

    /// The path, for as long as this is there.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
