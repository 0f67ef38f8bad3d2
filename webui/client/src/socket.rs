//! HTTP over the socket of a data directory.

use rustix::net::sockopt::{Timeout, set_socket_timeout, socket_peercred};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};
use webui_model::data_dir::SocketPath;

/// How long an appliance that is busy may let somebody wait at its socket.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Connects to the socket of a data directory, whatever the address.
#[derive(Debug)]
pub(crate) struct SocketConnector {
    /// The data directory.
    pub(crate) folder: PathBuf,
}

impl Connector for SocketConnector {
    type Out = SocketTransport;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _chained: Option<()>,
    ) -> Result<Option<SocketTransport>, Error> {
        let config = &details.config;
        let stream = connect(&self.folder)?;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(SocketTransport { stream, buffers }))
    }
}

/// Connects to the appliance whose data directory is `folder`.
fn connect(folder: &Path) -> io::Result<UnixStream> {
    let short = SocketPath::of(folder)?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // It is also how long `connect` waits when too many others do (unix(7)).
    set_socket_timeout(&socket, Timeout::Send, Some(CONNECT_TIME))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(short.path())?)?;
    // Who owns the folder could put anything there; somebody else who listens is a stranger.
    let (owner, peer) = (short.owner()?, socket_peercred(&socket)?.uid.as_raw());
    match peer == owner || peer == 0 {
        true => Ok(socket.into()),
        false => Err(io::Error::new(
            ErrorKind::PermissionDenied,
            format!("user {peer} answers there, and the folder is that of user {owner}"),
        )),
    }
}

/// Names nothing: whoever comes by the socket has no address.
#[derive(Debug)]
pub(crate) struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(
        &self,
        _uri: &Uri,
        _config: &Config,
        _timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        // It wants one at least; nobody looks at it.
        let mut addresses = self.empty();
        addresses.push(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        Ok(addresses)
    }
}

/// A connection over the socket.
#[derive(Debug)]
pub(crate) struct SocketTransport {
    stream: UnixStream,
    buffers: LazyBuffers,
}

/// An error of the kernel as ureq has it: what was not there in time is one of time.
fn in_time<T>(result: io::Result<T>, timeout: NextTimeout) -> Result<T, Error> {
    result.map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => error.into(),
    })
}

impl Transport for SocketTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let timeout = timeout.for_write();
        self.stream.set_write_timeout(timeout.not_zero().map(|time| *time))?;
        in_time(self.stream.write_all(&self.buffers.output()[..amount]), timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let timeout = timeout.for_read();
        self.stream.set_read_timeout(timeout.not_zero().map(|time| *time))?;
        let room = self.buffers.input_append_buf();
        let read = loop {
            match self.stream.read(room) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break in_time(read, timeout)?,
            }
        };
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    fn is_open(&mut self) -> bool {
        // Each request has a connection of its own: to connect costs nothing here.
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use webui_model::data_dir::SOCKET_FILE;

    #[test]
    fn a_long_folder_has_a_socket_too() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(200)).join("y".repeat(200));
        std::fs::create_dir_all(&long).unwrap();
        assert_eq!(connect(&long).unwrap_err().kind(), ErrorKind::NotFound);
        let short = SocketPath::of(&long).unwrap();
        let listener = UnixListener::bind(short.path()).unwrap();
        assert!(long.join(SOCKET_FILE).exists());
        connect(&long).unwrap();
        drop(listener);
        assert_eq!(connect(&long).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
