//! The socket of the data directory: the API without a token, for root and for the user that the
//! appliance runs as.

use crate::peer::Peer;
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;
use webui_model::data_dir::{SOCKET_FILE, SocketPath};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// A socket that is listened on; its file goes away with it.
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Left behind it does no harm: nobody answers, and the next one replaces it.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Listens in `folder`, which is this process's alone: what a process that was killed has left there
/// is replaced.
///
/// # Errors
/// What the file system says.
pub(super) fn listen(folder: &Path) -> io::Result<(std::os::unix::net::UnixListener, SocketFile)> {
    let short = SocketPath::of(folder)?;
    match std::fs::remove_file(short.path()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    // Before it has a name, so that it never has one with another mode.
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(short.path())?)?;
    let file = SocketFile(folder.join(SOCKET_FILE));
    rustix::net::listen(&socket, BACKLOG)?;
    Ok((socket.into(), file))
}

/// Who is at the other end, by what the kernel says (SO_PEERCRED): the folder and the mode of the
/// socket keep others out, and so does this.
///
/// # Errors
/// A sentence: somebody else.
pub(super) fn peer(stream: &UnixStream) -> Result<Peer, String> {
    let peer = stream.peer_cred().map_err(|error| format!("nobody knows who it is: {error}"))?;
    let (user, process) = (peer.uid(), peer.pid());
    let own = rustix::process::geteuid().as_raw();
    match user == 0 || user == own {
        true => Ok(Peer::Socket { user, process }),
        false => Err(format!("user {user} is neither root nor {own}")),
    }
}
